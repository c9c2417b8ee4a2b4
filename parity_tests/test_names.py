"""Who names what, and who imports whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import parity
import reference
import torch_port
from parity.catalogue import CATALOGUE

PACKAGES = {package.__name__: Path(package.__file__).parent for package in (parity, reference, torch_port)}
# may take the date data set and the weights' file formats from the reference, so that there is one of each
BORDER = {"train", "predict", "exported", "weights"}


def imported(path):
    """Top-level names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def test_the_same_names_on_both_sides_and_in_the_catalogue():
    assert reference.__all__ == torch_port.__all__ == list(CATALOGUE)


def test_every_name_is_there():
    for spec in CATALOGUE.values():
        assert spec.reference is getattr(reference, spec.name)
        assert spec.port_class is getattr(torch_port, spec.name)


@pytest.mark.parametrize("path", sorted(PACKAGES["reference"].rglob("*.py")), ids=lambda p: p.name)
def test_the_reference_imports_neither_torch_nor_the_others(path):
    assert not {"torch", "torch_port", "parity"} & set(imported(path))


@pytest.mark.parametrize("path", sorted(PACKAGES["torch_port"].rglob("*.py")), ids=lambda p: p.name)
def test_the_layers_of_the_port_do_not_import_the_reference(path):
    border = path.stem in BORDER or path.parent.name == "training"
    assert not ({"parity"} if border else {"reference", "parity"}) & set(imported(path))


@pytest.mark.parametrize("path", sorted(PACKAGES["parity"].rglob("*.py")), ids=lambda p: p.name)
def test_only_tests_import_pytest_and_hypothesis(path):
    assert not {"pytest", "hypothesis", "parity_tests"} & set(imported(path))


def test_the_machinery_names_no_layer():
    # variants belong to the catalogue's entries; a training run is of models
    named = {PACKAGES["parity"] / name for name in ("catalogue.py", "variants.py", "training/lockstep.py")}
    for path in set(PACKAGES["parity"].rglob("*.py")) - named:
        tree = ast.parse(path.read_text())
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                  and ast.unparse(node.value) != "torch.nn"}  # torch's own
        assert not words & set(CATALOGUE), path


@pytest.mark.parametrize("statement", ["import parity, reference", "import parity.cli; parity.cli.main(['list'])",
                                       "from parity.cli import main; main(['check', '--help'])",
                                       "import torch_port", "from torch_port.train import main; main(['--help'])",
                                       "from torch_port.predict import main; main(['--help'])"])
def test_torch_is_not_loaded_before_it_is_used(statement):
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    if "list" in statement:
        code = code.replace("assert 'torch' not in sys.modules", "")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["Report", "Finding", "Lane", "Case"])
def test_there_is_one(name):
    files = [path for package in PACKAGES.values() for path in package.rglob("*.py")]
    assert [n.name for path in files for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.ClassDef) and n.name == name] == [name]


def test_the_machinery_names_no_option_no_labels_and_nothing_kept():
    """What a layer needs beyond the ordinary its entry says; whether a state is kept is a word of the protocol."""
    names = {name for spec in CATALOGUE.values()
             for name in (*spec.options, *spec.attributes, *spec.labels, *spec.kept)}
    named = {PACKAGES["parity"] / name for name in ("catalogue.py", "variants.py", "training/lockstep.py")}
    found = []
    for path in set(PACKAGES["parity"].rglob("*.py")) - named:
        if path.stem in ("optimizers", "long_runs"):
            continue  # torch's optimizers have a key "lr"
        words = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        found += [f"{path.name}: {word}" for word in words & (names - {"stateful"})]
    assert not found
