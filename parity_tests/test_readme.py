"""The README is true: every code block runs as printed, or is accounted for here by its command line.

The word behind a fence says what its block is:

``python``  a program of its own. A first line ``# FILE`` names its file: one of the project is quoted (an
            empty line stands for any), any other is the reader's, and stands in the folder of every other block.
``text``    what the Python block before it prints.
``console`` commands behind ``$``, and what each prints; a line ``...`` stands for any lines.
``sh``      commands alone.
``usage``   all options of a command.

A program or command that takes long is in a table below, with what is run instead. To mend a failure after a
change of some output, paste what the command prints now.
"""

import argparse
import difflib
import importlib
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import parity
import reference
import torch_port
from parity import cli
from torch_port import predict, train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

TRAINING = {"parity-train": train, "parity-predict": predict}
KINDS = {"python", "text", "console", "sh", "usage"}

# too long for a test, seconds at least on a fast machine: what is run instead, whose lines must have the same form
LONG = {
    "parity check": "parity check --layer [SA][do]* --cases 30 --jobs 1",
    "parity calibrate --growth --jobs 1": "parity calibrate --growth --cases 1 --jobs 1",
    "parity lockstep": "parity lockstep --steps 4 --hidden-size 8 --batch-size 8",
    "parity lockstep --dtype float32 --plot lockstep.png":
        "parity lockstep --steps 4 --hidden-size 8 --batch-size 8 --dtype float32",
    "parity-train": "parity-train --data dates.txt --epochs 1 --hidden-size 8 --no-plots --out new",
}

# the same for Python: the sizes that make a block long
SMALLER = {
    'write_dates("dates.txt")': 'write_dates("dates.txt", 1000)',
    "16, 256, rng=": "4, 8, rng=",
    "max_epoch=4": "max_epoch=1",
    'check("Time*", lane="cpu-*", cases=100': 'check("Time*", lane="cpu-*", cases=4',
}

# not ours to run: they install, or run what this test is part of
FOREIGN = {"python -m pip install", "tox", "torchrun", "export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu",
           "parity audit numpy_ml_0_1_2"}

# what differs from machine to machine: how far beyond rounding something is, or how near
VARIES = [
    (r"[\d.]+e\+\d+ budgets", "# budgets"),
    (r"share of the budget used: .*", lambda found: re.sub(r"\d+%", "#%", found[0])),
]

# what differs between a long run and a short one
FORM = [
    (r"UNTESTED(, .*)?", "#"),
    (r"^ \w+ +│", "# │"),
    (r"^Q .*", "Q #"),
    (r" \(zero .*?\)| \(scaled .*?\)", ""),
    (r"[a-z]+\.[a-z]+\.(Wx|Wh|W|b)\b", "#"),
    (r"\b\d[\d,]*(\.\d+)?(e[-+]\d+)?", "#"),
    (r"━+", "━"),
]


@dataclass
class Block:
    """A fenced block: its kind, its line in the README, its text, and what the ``text`` block behind it shows."""

    kind: str
    line: int
    text: str
    output: str | None = None

    @property
    def file(self):
        """The name on the first line of a Python block."""
        named = re.fullmatch(r"# ([\w/]+\.py)", self.text.split("\n", 1)[0])
        return named and named[1]


def blocks():
    found, fence = [], None
    for number, line in enumerate(README.split("\n"), 1):
        if fence is None and line.startswith("```"):
            fence, kind, lines = number, line[3:].strip(), []
        elif fence is not None and line == "```":
            found.append(Block(kind, fence, "".join(f"{line}\n" for line in lines)))
            fence = None
        elif fence is not None:
            lines.append(line)
    assert fence is None, f"README.md:{fence}: a block without an end"
    return found


def commands(block):
    """The commands of a block, each with the lines that it prints, or None where it shows none."""
    found = []
    for line in block.text.splitlines():
        if block.kind == "console" and line.startswith("$ "):
            found.append((line[2:], []))
        elif block.kind == "console":
            assert found, f"README.md:{block.line}: {line!r} comes before any command"
            found[-1][1].append(line)
        else:
            found += [(command, None) for command in line.split(" && ")]
    return found


BLOCKS = blocks()
RUN = []
for _block in BLOCKS:
    if _block.kind == "text" and RUN and RUN[-1].kind == "python":
        RUN[-1].output = _block.text
    else:
        RUN.append(_block)
COMMANDS = [command for block in BLOCKS if block.kind in ("console", "sh") for command, _ in commands(block)]


def notebook():
    source = next(block.text for block in BLOCKS if block.file == "my_layers.py")
    cells = ["%matplotlib inline\nimport numpy as np", "import missing_module", source]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": text.splitlines(True)}
        for text in cells]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a short ``parity-train`` leaves, with a small file of dates beside it."""
    folder = tmp_path_factory.mktemp("readme")
    reference.write_dates(folder / "dates.txt", 1000)
    assert train.main(["--data", str(folder / "dates.txt"), "--out", str(folder / "trained"), "--epochs", "1",
                       "--hidden-size", "8", "--wordvec-size", "4", "--no-plots"]) == 0
    (folder / "questions.txt").write_text("8/24/95\n", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch, trained):
    """The reader's folder: the files that the README shows, and those that it takes for granted."""
    for block in BLOCKS:
        if block.kind == "python" and block.file and not (ROOT / block.file).exists():
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
            monkeypatch.delitem(sys.modules, Path(block.file).stem, raising=False)
    (tmp_path / "chapter8.ipynb").write_text(json.dumps(notebook()), encoding="utf-8")
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def divided(monkeypatch):
    """The fault that the README's failure was made by."""
    right = reference.AttentionWeight.backward

    def wrong(self, da):
        dhs, dh = right(self, da)
        return dhs, dh / dhs.shape[1]

    monkeypatch.setattr(reference.AttentionWeight, "backward", wrong)


PLANTED = {"parity replay": "divided"}


def masked(lines, masks):
    for pattern, mark in masks:
        lines = [re.sub(pattern, mark, line) for line in lines]
    return [" ".join(line.split()) if masks is FORM else line.rstrip() for line in lines]


def assert_same(shown, printed, where):
    """The lines shown are those printed, where ``...`` stands for any."""
    shown, printed = masked(shown, VARIES), masked(printed, VARIES)
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else re.escape(line) + r"\n" for line in shown)
    if not re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)):
        pytest.fail(f"{where}\n" + "\n".join(difflib.unified_diff(shown, printed, "README.md", "printed", lineterm="")))


def assert_same_form(shown, printed, where):
    """Every line shown is printed too, numbers apart, and the other way round unless some are left out."""
    shown, printed = masked(shown, FORM), masked(printed, FORM)
    stale = [line for line in shown if line not in printed and line != "..."]
    lacking = [] if "..." in shown else [line for line in printed if line not in shown]
    assert not stale and not lacking, (
        f"{where}\n" + "\n".join([f"shown, not printed: {line}" for line in stale] +
                                 [f"printed, not shown: {line}" for line in lacking]))


def parser_of(words):
    """The parser of one of our commands, and the words that are left for it."""
    if words[0] in TRAINING:
        return TRAINING[words[0]].parser(), words[1:]
    parser = argparse.ArgumentParser(f"parity {words[1]}")
    importlib.import_module(cli.COMMANDS[words[1]][0]).arguments(parser)
    return parser, words[2:]


def ours(command):
    return command.split()[0] in ("parity", *TRAINING)


def run(command):
    """Runs one of our commands here; its exit code."""
    words = shlex.split(command)
    try:
        return TRAINING.get(words[0], cli).main(words[1:])
    except SystemExit as end:
        return end.code


def test_every_block_says_what_it_is():
    for block in RUN:
        assert block.kind in KINDS and block.kind != "text", (
            f"README.md:{block.line}: {block.kind!r}, expected one of {sorted(KINDS)}, and text behind python")
    assert sum(line.lstrip(" >").startswith(("```", "~~~")) for line in README.split("\n")) == 2 * len(BLOCKS)


def test_no_table_holds_what_is_no_longer_there():
    programs = "".join(block.text for block in BLOCKS if block.kind == "python")
    assert set(LONG) <= set(COMMANDS)
    assert [text for text in SMALLER if programs.count(text) != 1] == []
    for known in [*FOREIGN, *PLANTED]:
        assert any(command.startswith(known) for command in COMMANDS), known


def flush(text):
    """The lines of a text without their indentation."""
    return "".join(f"{line.strip()}\n" for line in text.strip().splitlines())


@pytest.mark.parametrize("block", [b for b in RUN if b.kind == "python"], ids=lambda b: f"README-{b.line}")
def test_python(block, folder, capsys):
    if block.file and (ROOT / block.file).exists():
        file = flush((ROOT / block.file).read_text(encoding="utf-8"))
        for quoted in block.text.split("\n", 1)[1].split("\n\n"):
            assert flush(quoted) in file, f"{block.file} does not hold\n{quoted}"
        return
    text = block.text
    for long, short in SMALLER.items():
        text = text.replace(long, short)
    path = folder / (block.file or "block.py")
    path.write_text(text, encoding="utf-8")
    runpy.run_path(str(path), run_name="__main__")
    if block.output is not None:
        assert_same(block.output.splitlines(), capsys.readouterr().out.splitlines(), f"README.md:{block.line}")


@pytest.mark.parametrize("block", [b for b in RUN if b.kind in ("console", "sh")], ids=lambda b: f"README-{b.line}")
def test_commands(block, folder, capsys, request):
    for name in {PLANTED[known] for known in PLANTED if f"$ {known} " in block.text}:
        request.getfixturevalue(name)
    code = None
    for command, shown in commands(block):
        where = f"README.md:{block.line}: {command}"
        if command == "echo $?":
            assert shown == [str(code)], where
            continue
        if not ours(command):
            assert any(command.startswith(known) for known in FOREIGN) and not shown, f"{where}: not accounted for"
            continue
        parser, words = parser_of(shlex.split(command))
        parser.parse_args(words)
        if shown is None and command in LONG:
            continue
        capsys.readouterr()
        code = run(LONG.get(command, command))
        printed = capsys.readouterr().out.splitlines()
        if shown is not None:
            (assert_same_form if command in LONG else assert_same)(shown, printed, where)


@pytest.mark.parametrize("block", [b for b in RUN if b.kind == "usage"], ids=lambda b: f"README-{b.line}")
def test_usage(block):
    for line in re.sub(r"\n +", " ", block.text).splitlines():
        parser, _ = parser_of(line.split())
        actions = [action for action in parser._actions if action.dest != "help"]
        known = {option for action in actions for option in action.option_strings if option.startswith("--")}
        assert set(re.findall(r"--[a-z-]+", line)) == known, line
        assert all((action.metavar or action.dest) in line for action in actions if not action.option_strings), line


def test_every_option_and_every_command_that_is_mentioned_exists():
    parsers = [parser_of(["parity", name])[0] for name in cli.COMMANDS]
    parsers += [module.parser() for module in TRAINING.values()]
    options = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"(?m)^```.*?^```", "", README, flags=re.DOTALL))
    mentioned = {option for code in inline if not code.startswith("python -m") for option in
                 re.findall(r"(?<![\w-])--[a-z-]+", code)}
    assert mentioned - options - {"--version"} == set()
    named = {code.split()[1] for code in inline if re.match(r"parity [a-z]", code)}
    assert named <= set(cli.COMMANDS)
    assert [name for name in cli.COMMANDS if not re.search(rf"parity {name}\b|`{name}`", README)] == []


def test_every_test_that_is_named_exists():
    files = set(re.findall(r"`(?:parity_tests/)?(test_\w+\.py)`", README))
    modules = set(re.findall(r"python -m (parity_tests\.\w+)", README))
    assert files and modules
    assert [name for name in sorted(files) if not (Path(__file__).parent / name).is_file()] == []
    assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []


def test_what_is_installed_exists():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, shipped = settings["project"], settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert project["scripts"].keys() == {"parity", *TRAINING}
    for extras in re.findall(r"(?:\.|numpy-torch-parity)\[([a-z,]+)\]", README):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
    for file in re.findall(r"-c (\S+)", " ".join(COMMANDS)):
        assert (ROOT / file).is_file()
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or ((ROOT / target).is_file() and target.split("/")[0] in shipped), target


def test_the_installed_packages_hold_every_file():
    """Nothing to see in a clone, where they are the same folders; ``tox`` runs this against the wheel."""
    for package in (parity, reference, torch_port):
        there, here = ROOT / package.__name__, Path(package.__file__).parent
        files = {path.relative_to(there) for path in there.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert Path("py.typed") in files
        assert [path for path in sorted(files) if not (here / path).is_file()] == []
