"""The audit of other people's gradients: verdicts, files, notebooks, and code that misbehaves."""

import errno
import itertools
import json
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import reference
from parity import cli
from parity.auditing import Report, assert_gradients, audit, audit_file, diagnose, notebooks, search
from parity.auditing.answers import BACKWARD, FORWARD, RIGHT, STUB
from parity.catalogue import CATALOGUE
from parity.cli import main
from parity.errors import UsageError
from parity_tests.audit_faults import textbook
from parity_tests.audit_faults.__main__ import explained, judge, said_rightly
from parity_tests.audit_faults.faults import FAULTS
from parity_tests.audit_faults.right import RIGHTS

LAYERS = [name for name, spec in CATALOGUE.items() if spec.side == "textbook"]
SMALL = [name for name, spec in CATALOGUE.items() if spec.side == "textbook" and not spec.size_arguments]
FAST = {"autograd": False}


class Scale:
    """y = 2 x, no twin in the catalogue."""

    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class WrongScale(Scale):
    def backward(self, dy):
        return 2 * dy / len(dy)


@pytest.mark.parametrize("name", LAYERS)
def test_reference_is_right(name):
    report = audit(getattr(reference, name), like=name, **FAST)
    assert report.audited and not report.findings, report


@pytest.mark.parametrize("name", [name for name in LAYERS if hasattr(textbook, name)])
def test_textbook_is_right(name):
    report = audit(getattr(textbook, name), seed=3, **FAST)
    assert report.audited and not report.findings, report


@pytest.mark.parametrize("name", sorted(RIGHTS)[::3])
def test_written_otherwise_is_right(name):
    like, kind = RIGHTS[name]
    report = audit(kind, like=like, seed=5, **FAST)
    assert report.audited and not report.findings, report


QUICK = {*SMALL} - {"TimeLSTM", "TimeGRU", "TimeBiLSTM"}  # the command audits them all


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.layer in QUICK and f.kinds][::5], ids=lambda f: f.id)
def test_fault_is_found_and_explained(fault):
    verdict, _, text, _ = judge(fault)
    assert said_rightly(fault, verdict), text
    assert "could not be tried" not in text


WEAK = ("Softmax: self.out = softmax(x) if x.ndim == 2 else x", "TimeLSTM: dtype='f'",
        "SoftmaxWithLoss: -np.sum(np.log(self.y[rows, t] + 1e-7)) / len(t)",
        "SoftmaxWithLoss: -np.sum(np.log(self.y[rows, t])) / len(t)",
        "TimeSoftmaxWithLoss: ls = np.log(np.exp(log_y)[np.arange(N * T), ts] + 1e-7)",
        "TimeSoftmaxWithLoss: count = mask.sum()", "LSTM: np.exp(x) / (1 + np.exp(x))")


@pytest.mark.parametrize("name", WEAK)
def test_weak_spots_of_the_textbook_are_found_and_explained(name):
    (fault,) = [f for f in FAULTS if f.id == name]
    verdict, kinds, text, _ = judge(fault)
    assert said_rightly(fault, verdict) and explained(fault, kinds), text


def test_faults_are_many_and_cover_every_layer():
    assert len(FAULTS) >= 120
    assert {f.layer for f in FAULTS} == {name for name in LAYERS if hasattr(textbook, name)}
    assert len(RIGHTS) >= 40


def test_autograd_is_the_third_witness():
    report = audit(textbook.WeightSum, like="WeightSum")
    assert report.ok
    assert any("autograd of the twin agrees" in text for r in report.results for text in r.remarks)


# --- no twin --------------------------------------------------------------------------------------


def test_object_without_twin():
    assert audit(Scale(), inputs=(np.ones((3, 2)),)).verdict == RIGHT


def test_wrong_object_without_twin_is_explained():
    report = audit(WrongScale(), inputs=(np.ones((3, 2)),))
    (finding,) = [f for f in report.findings if f.check == "gradient"]
    assert finding.verdict == BACKWARD
    assert "1/N" in finding.diagnosis


def test_nothing_to_go_by_is_skipped_with_what_to_pass():
    report = audit(Scale())
    assert report.exit_code == 2
    assert "inputs=" in str(report)


def affine_forward(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy, dy.sum(axis=0)


def wrong_affine_backward(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy, dy.mean(axis=0)


def test_plain_functions():
    rng = np.random.default_rng(0)
    x, W, b = rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), rng.standard_normal(2)
    assert audit(forward=affine_forward, backward=affine_backward, inputs=(x, W, b)).ok
    assert audit(forward=affine_forward, backward=affine_backward, inputs=(x,), params={"W": W, "b": b}).ok
    report = audit(forward=affine_forward, backward=wrong_affine_backward, inputs=(x,), params={"W": W, "b": b})
    assert [f.quantity for f in report.findings if f.check == "gradient"] == ["grad.b"]


@pytest.mark.parametrize("shape", ["rows", "scalar", "one row"])
def test_a_gradient_of_another_shape_is_reported_and_not_broadcast(shape):
    def backward(dy, cache):
        dx, dW, db = affine_backward(dy, cache)
        return {"rows": (dx, dW[:1], db), "scalar": (dx, dW, db.sum()), "one row": (dx, dW, db[None])}[shape]

    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}
    report = audit(forward=affine_forward, backward=backward, inputs=(rng.standard_normal((4, 3)),), params=params)
    assert [(f.check, f.quantity) for f in report.findings] == [("shape", "grad.W" if shape == "rows" else "grad.b")]
    assert "expected (3, 2)" in str(report) if shape == "rows" else "expected (2,)" in str(report)


class Linear:
    """Keeps its gradients in a dictionary."""

    def __init__(self, W):
        self.W, self.gradients = W, {}

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.gradients["W"] = self.x.T @ dy
        return dy @ self.W.T


def test_dictionary_of_gradients_by_an_adapter():
    def forward(x, W):
        layer = Linear(W)
        return layer.forward(x), layer

    def backward(dy, layer):
        return layer.backward(dy), layer.gradients["W"]

    rng = np.random.default_rng(0)
    assert audit(forward=forward, backward=backward, inputs=(rng.standard_normal((4, 3)),),
                 params={"W": rng.standard_normal((3, 2))}).ok


class Relu:
    def forward(self, x):
        self.on = x > 0
        return np.where(self.on, x, 0)

    def backward(self, dy):
        return dy * self.on


def test_kinks_are_left_out_and_told():
    x = np.array([[0.0, 1.0, -2.0], [3.0, 0.0, 1.0]])
    report = audit(Relu(), inputs=(x,))
    assert report.ok, report


class OtherRelu(Relu):
    def forward(self, x):
        self.on = x >= 0
        return np.maximum(x, 0)


def test_either_slope_at_a_kink_is_right():
    report = audit(OtherRelu(), inputs=(np.array([[0.0, 1.0, -2.0], [3.0, 0.0, 1.0]]),))
    assert report.ok, report


def test_another_function_is_a_note_by_name_and_an_error_by_like():
    class AttentionWeight(textbook.AttentionWeight):
        def forward(self, hs, h):
            return super().forward(hs, h / np.sqrt(h.shape[1]))

        def backward(self, da):
            dhs, dh = super().backward(da)
            return dhs, dh / np.sqrt(dh.shape[1])

    by_name = audit(AttentionWeight, **FAST)
    assert by_name.ok and [f.severity for f in by_name.findings] == ["note"], by_name
    by_like = audit(AttentionWeight, like="AttentionWeight", **FAST)
    assert not by_like.ok
    (finding,) = by_like.findings
    assert finding.verdict == FORWARD and "1/sqrt(H)" in finding.diagnosis


def test_large_arrays_are_differentiated_along_directions():
    rng = np.random.default_rng(0)
    report = audit(Scale(), inputs=(rng.standard_normal((40, 80)),))
    assert report.ok
    assert "16 random directions" in str(report)
    assert not audit(WrongScale(), inputs=(rng.standard_normal((40, 80)),)).ok


def test_assert_gradients_fails_with_the_report():
    assert_gradients(Scale(), inputs=(np.ones((3, 2)),))
    with pytest.raises(AssertionError, match="a factor of 1/N"):
        assert_gradients(WrongScale(), inputs=(np.ones((3, 2)),))


def test_state_of_the_caller_is_untouched():
    np.random.seed(1)
    before, path = np.random.get_state()[1].copy(), list(sys.path)
    audit(textbook.TimeDropout, **FAST)
    assert np.array_equal(before, np.random.get_state()[1])
    assert path == sys.path


def test_without_twin_torch_stays_out():
    program = ("import sys, numpy as np, parity.auditing as a\n"
               "class S:\n def forward(self, x): return 2 * x\n def backward(self, d): return 2 * d\n"
               "assert a.audit(S(), inputs=(np.ones((2, 2)),)).ok\n"
               "assert 'torch' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=os.getcwd(),
                   env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


# --- scripts and reports --------------------------------------------------------------------------


@pytest.fixture
def wrong_file(tmp_path):
    file = tmp_path / "my_layers.py"
    file.write_text(FAULTS[[f.id for f in FAULTS].index("WeightSum: da = np.mean(dar, axis=2)")].source())
    return file


def test_script_shows_the_finding_and_is_small(wrong_file, tmp_path):
    report = audit_file(wrong_file, ["WeightSum"], **FAST)
    script = tmp_path / "finding.py"
    script.write_text(report.script())
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "AssertionError" in run.stderr, run.stderr
    assert len(report.script().splitlines()) < 50


def test_json_and_html(wrong_file):
    pytest.importorskip("jinja2")
    report = audit_file(wrong_file, ["WeightSum"], **FAST)
    told = json.loads(json.dumps(report.to_json()))
    assert not told["ok"] and told["results"][0]["findings"][0]["quantity"] == "grad.a"
    assert report.to_html().count("<figure>") >= 3


# --- names that collide ---------------------------------------------------------------------------

OWN_REFERENCE = """
import numpy as np

SCALE = 3

class Softmax:
    def forward(self, x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y = e / e.sum(axis=-1, keepdims=True)
        return self.y

    def backward(self, dy):
        return self.y * (dy - (self.y * dy).sum(axis=-1, keepdims=True))
"""


@pytest.fixture
def crowded(tmp_path):
    """A folder whose files have the names of our packages, and of some that we use."""
    write(tmp_path, OWN_REFERENCE, "reference.py")
    write(tmp_path, "class Nothing: pass\n", "torch_port.py")
    write(tmp_path, "from reference import SCALE, Softmax as Base\nfrom torch_port import Nothing\n\n"
                    "class Softmax(Base):\n    scale = SCALE\n", "mine.py")
    for name in ("wire", "case", "checks"):
        write(tmp_path, "raise RuntimeError('not this one')\n", f"{name}.py")
    return tmp_path


def python(folder, *arguments):
    """Runs Python in a folder, which then stands first on its path."""
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


@pytest.mark.parametrize("name", ["reference.py", "mine.py"])
def test_a_file_of_our_packages_name_is_audited(crowded, name):
    run = python(crowded, "-m", "parity", "audit", name)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Softmax (twin: Softmax): right" in run.stdout and "autograd of the twin agrees" in run.stdout


def test_what_does_not_use_our_layers_does_not_import_them(crowded):
    program = ("import reference, numpy as np, parity\n"
               "assert parity.audit(reference.Softmax(), inputs=(np.eye(3),)).ok\n"
               "assert reference.SCALE == 3\n")
    run = python(crowded, "-c", program)
    assert run.returncode == 0, run.stderr


def test_a_module_that_hides_ours_is_named(crowded):
    program = ("import reference, parity\n"
               "try:\n    parity.audit(reference.Softmax)\n"
               "except parity.errors.UsageError as error:\n    print(error)\n")
    run = python(crowded, "-c", program)
    assert f"{crowded / 'reference.py'} hides our package reference" in run.stdout, run.stdout + run.stderr


# --- files and notebooks --------------------------------------------------------------------------

RIGHT_CLASS = '''
class Scale:
    def forward(self, x, a=None):
        self.kept = x
        return 2 * x
    def backward(self, dy):
        return 2 * dy
'''


def write(folder, text, name="mine.py"):
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


MISBEHAVING = {
    "endless": ("while True: pass", "endless loop"),
    "swallowing": ("while True:\n            try:\n                while True: pass\n            except: pass",
                   "endless"),
    "exit": ("exit()", "exit"),
    "hard exit": ("import os; os._exit(0)", "exit code 0"),
    "crash": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "memory": ("self.x = [bytearray(1 << 26) for _ in range(1 << 20)]", "memory"),
    "exception": ("raise KeyError('no')", "KeyError"),
    "input": ("input()", "EOF"),
}


@pytest.mark.parametrize("name", MISBEHAVING)
def test_misbehaving_code_does_not_take_the_audit_down(tmp_path, name):
    body, words = MISBEHAVING[name]
    text = f"""\
class Affine:
    def __init__(self, W, b):
        self.params, self.grads = [W, b], [W * 0, b * 0]
    def forward(self, x):
        {body}
        return x
    def backward(self, dy):
        return dy

class Softmax:
    def forward(self, x):
        return x
    def backward(self, dy):
        return dy
"""
    (tmp_path / "mine.py").write_text(text)
    report = audit_file(tmp_path / "mine.py", seconds=3 if "endless" in words else 30, memory=512, **FAST)
    assert [r.name for r in report.results] == ["Affine", "Softmax"]
    assert not report.results[0].ok
    assert words in str(report), report


def test_file_that_never_loads(tmp_path):
    report = audit_file(write(tmp_path, "import os\nos._exit(3)\n"), seconds=5, **FAST)
    assert report.exit_code == 2 and "exit code 3" in str(report)
    report = audit_file(write(tmp_path, "x = [bytearray(1 << 26) for _ in range(1 << 20)]\n"), memory=256, **FAST)
    assert report.exit_code == 2 and "MemoryError" in str(report)
    report = audit_file(write(tmp_path, "while True: pass\n"), seconds=1, **FAST)
    assert report.exit_code == 2 and "endless" in str(report)


def test_only_own_classes_of_a_file_in_a_package(tmp_path):
    package = tmp_path / "course"
    package.mkdir()
    write(package, "", "__init__.py")
    write(package, "def twice(x):\n    return 2 * x\nclass Softmax:\n    def forward(self, x): return x\n"
                   "    def backward(self, d): return d\n", "common.py")
    file = write(package, "from .common import Softmax, twice\nassert __name__ != '__main__'\n" + RIGHT_CLASS)
    report = audit_file(file, **FAST)
    assert [r.name for r in report.results] == ["Scale"]
    assert report.ok and report.results[0].judged


def notebook(folder, *cells):
    book = {"nbformat": 4, "metadata": {}, "nbformat_minor": 5,
            "cells": [{"cell_type": "code", "source": c.splitlines(keepends=True), "outputs": []} for c in cells]}
    file = folder / "chapter8.ipynb"
    file.write_text(json.dumps(book))
    return file


def test_notebook(tmp_path):
    fault = FAULTS[[f.id for f in FAULTS].index("WeightSum: da = np.mean(dar, axis=2)")]
    file = notebook(tmp_path, "%matplotlib inline\n!pip list\nimport numpy as np", "1 / 0", "%%time\nx = 1",
                    fault.source())
    report = audit_file(file, ["WeightSum"], **FAST)
    text = str(report)
    assert not report.ok and "a factor of 1/H" in text
    assert "cell 2 of chapter8.ipynb failed: ZeroDivisionError" in text
    assert "cell 1, line skipped: %matplotlib inline" in text and "cell 1, line skipped: !pip list" in text
    assert "cell 3, line skipped: %%time" in text
    assert report.script()


MAGICS = {
    "x = 7 % 4\ny = 9 \\\n  % 5": "x = 7 % 4\ny = 9 \\\n  % 5",
    "x = (7\n% 4)": "x = (7\n% 4)",
    "s = \"\"\"\n%cd here\n!ls\nwhat?\n\"\"\"": "s = \"\"\"\n%cd here\n!ls\nwhat?\n\"\"\"",
    "%matplotlib inline\nx = 1": "pass\nx = 1",
    "if True:\n    %cd it's\n    !echo (\nx = 1": "if True:\n    pass\n    pass\nx = 1",
    "files = !ls\nhere = %pwd\nx = 1": "pass\npass\nx = 1",
    "len?\n?len\nlen??\nx = 1": "pass\npass\npass\nx = 1",
    "%time x = 1": "x = 1",
    "!pip install \\\n  numpy\nx = 1": "pass\npass\nx = 1",
    "%%capture out\nx = 1": "\nx = 1",
    "%%time\nx = 1\n%cd x": "\nx = 1\npass",
    "\n%%bash\nrm -rf nothing": "",
    "x = = 1": "x = = 1",
    "# 50 % off!\nx = 1 # what?": "# 50 % off!\nx = 1 # what?",
}


@pytest.mark.parametrize("source", MAGICS)
def test_what_is_not_python_in_a_cell_is_left_out(source):
    assert notebooks.plain(source)[0] == MAGICS[source]


@pytest.mark.parametrize("form", ["one string", "lines", "worksheets"])
def test_a_cell_is_a_string_or_its_lines(tmp_path, form):
    wrong = RIGHT_CLASS.replace("Scale", "Softmax").replace("2 * dy", "(7 % 4) * dy")
    source = "%matplotlib inline\nassert 7 % 4 == 3\n" + wrong
    cell = {"cell_type": "code", "source": source if form == "one string" else source.splitlines(keepends=True)}
    book = {"cells": [cell]}
    if form == "worksheets":
        book = {"worksheets": [{"cells": [{"cell_type": "code", "input": cell["source"]}]}]}
    (tmp_path / "book.ipynb").write_text(json.dumps(book))
    report = audit_file(tmp_path / "book.ipynb", **FAST)
    assert "failed" not in str(report) and not report.ok
    script = tmp_path / "finding.py"
    script.write_text(report.script())
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.stderr.rstrip().splitlines()[-1].startswith("AssertionError"), run.stderr
    assert "a cell failed" not in run.stdout


def test_a_name_that_is_not_there_is_told(tmp_path):
    report = audit_file(write(tmp_path, RIGHT_CLASS), ["Nothing"], **FAST)
    assert report.exit_code == 2 and "no class Nothing" in str(report)


def test_explained_asks_for_a_known_kind():
    assert explained(FAULTS[0], ["dropped"]) and not explained(FAULTS[0], ["gates"])


class Norm:
    def forward(self, x):
        self.x, self.n = x, np.sqrt((x * x).sum(axis=1, keepdims=True))
        return x / self.n

    def backward(self, dy):
        y = self.x / self.n
        return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / self.n


class Clip:
    def forward(self, x):
        self.x = x
        return np.clip(x, -1, 1)

    def backward(self, dy):
        return dy * (np.abs(self.x) <= 1)


class Square:
    def forward(self, x):
        self.x = x
        return (x**2).mean()

    def backward(self):
        return 2 * self.x / self.x.size


ROUGH = np.random.default_rng(0).standard_normal((5, 6))


@pytest.mark.parametrize(("layer", "x"), [
    (Norm(), 1e-4 * ROUGH), (Norm(), 1e6 * ROUGH), (Clip(), np.round(ROUGH)), (Relu(), ROUGH.astype(np.float32)),
    (Square(), ROUGH), (Scale(), ROUGH[0]), (Scale(), np.float64(2)),
], ids=["tiny", "huge", "ties", "float32", "no cotangent", "one axis", "no axis"])
def test_unusual_but_right(layer, x):
    report = audit(layer, inputs=(x,))
    assert report.audited and not report.findings, report


class InsideFloat32:
    def forward(self, x):
        self.y = np.tanh(x).astype(np.float32).astype(np.float64)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


def test_float32_inside_is_found():
    report = audit(InsideFloat32(), inputs=(ROUGH,))
    assert [f.kind for f in report.findings] == ["float32"], report


class NoGradient:
    """Integers alone go in: there is nothing to differentiate."""

    def forward(self, ids):
        return np.eye(4)[ids]

    def backward(self, dy):
        return None


class Double:
    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class NeedsAFile(Double):
    def __init__(self, path):
        with open(path) as file:
            self.text = file.read()


@pytest.mark.parametrize("report", [
    lambda: Report(),
    lambda: audit(NeedsAFile),
    lambda: audit(NoGradient(), inputs=(np.array([0, 1, 3]),)),
    lambda: audit(Double(), inputs=(np.zeros((0, 3)),)),
], ids=["empty", "no twin", "no gradient", "no entry"])
def test_nothing_judged_is_no_pass(report):
    report = report()
    assert not report.ok and report.exit_code == 2 and report.verdict == "not audited" and not report.to_json()["ok"]
    assert str(report).splitlines()[-1].startswith("nothing ")


def test_a_gradient_left_out_is_an_error():
    class Forgets(Double):
        def backward(self, dy):
            return (None,)

    report = audit(Forgets(), inputs=(np.ones(3),))
    assert report.verdict == STUB and report.exit_code == 1


def test_a_class_that_is_missing_beside_a_right_one_is_no_pass(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(SOFTMAX)
    assert audit_file(file, ["Softmax"]).ok
    report = audit_file(file, ["Softmax", "Affine"])
    assert report.verdict == "not audited" and not report.ok and report.exit_code == 1


SOFTMAX = """
import numpy as np

class Softmax:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x):
        e = np.exp(x - x.max(-1, keepdims=True))
        self.y = e / e.sum(-1, keepdims=True)
        return self.y

    def backward(self, dy):
        return self.y * (dy - (self.y * dy).sum(-1, keepdims=True))
"""


@pytest.mark.parametrize("options", [{"seconds": np.nan}, {"seconds": 0}, {"seconds": np.inf}, {"memory": 1.5},
                                     {"memory": 0}, {"seed": -1}, {"seed": True}], ids=str)
def test_limits_that_mean_nothing_are_refused(options):
    with pytest.raises(UsageError):
        audit(Double(), inputs=(np.ones(3),), **options)


def test_the_command_writes_after_it_has_printed(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text(SOFTMAX)
    (tmp_path / "link").symlink_to("report.json")
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "mine.py", "--no-autograd", "--json", "link"]) == 0
    assert (tmp_path / "link").is_symlink() and json.loads((tmp_path / "report.json").read_text())["ok"]
    capsys.readouterr()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    for option in ("--json", "--html"):
        with pytest.raises(SystemExit) as end:
            main(["audit", "mine.py", "--no-autograd", option, "out"])
        shown = capsys.readouterr()
        assert end.value.code == 2 and "Softmax" in shown.out and "right" in shown.out and "'out'" in shown.err
    with pytest.raises(SystemExit):
        main(["audit", "mine.py", "--json", "nowhere/out"])
    assert "there is no folder" in capsys.readouterr().err


# --- exit codes -----------------------------------------------------------------------------------

STRANGER = RIGHT_CLASS.replace("Scale", "Stranger").replace(
    "def forward", "def __init__(self, path):\n        open(path)\n\n    def forward")
SOFTMAX = OWN_REFERENCE.replace("SCALE", "scale")
WRONG_SOFTMAX = SOFTMAX.replace("return self.y * (dy -", "return 2 * self.y * (dy -")
OTHER_FORWARD = SOFTMAX.replace("e = np.exp(x -", "x = x / 2; e = np.exp(x -").replace(
    "return self.y * (dy -", "return self.y / 2 * (dy -")
EXITS = {
    "right": ([SOFTMAX], [], 0),
    "right beside one that cannot be audited": ([SOFTMAX + STRANGER], [], 0),
    "another forward, found by name": ([OTHER_FORWARD], [], 0),
    "another forward, asked for": ([OTHER_FORWARD], ["--like", "Softmax"], 1),
    "wrong": ([WRONG_SOFTMAX], [], 1),
    "right and wrong": ([SOFTMAX, WRONG_SOFTMAX], [], 1),
    "a cell that fails beside a right class": ([SOFTMAX + "raise KeyError(3)\n"], [], 0),
    "ends the process": ([SOFTMAX.replace("self.y =", "import os; os._exit(0); self.y =")], [], 1),
    "no class": (["x = 1\n"], [], 2),
    "a class that is not there": ([SOFTMAX], [":Missing"], 2),
    "a class without a twin": ([STRANGER], [], 2),
    "syntax": (["def ("], [], 2),
    "never loads": (["import os; os._exit(0)"], [], 2),
    "no UTF-8": ([b"x = '\xff'"], [], 2),
    "an unknown twin": ([SOFTMAX], ["--like", "Nothing"], 2),
    "no time": ([SOFTMAX], ["--seconds", "0"], 2),
    "endless time": ([SOFTMAX], ["--seconds", "nan"], 2),
    "no memory": ([SOFTMAX], ["--memory", "-1"], 2),
    "a file that is not there, beside a wrong one": ([WRONG_SOFTMAX], ["missing.py"], 2),
    "a folder without files": ([], ["."], 2),
    "a notebook that is none": ([], ["book.ipynb"], 2),
}


@pytest.mark.parametrize("name", EXITS)
def test_exit_code(tmp_path, monkeypatch, capsys, name):
    texts, arguments, code = EXITS[name]
    monkeypatch.chdir(tmp_path)
    files = [f"file{i}.py" for i in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    if "book.ipynb" in arguments:
        (tmp_path / "book.ipynb").write_text("no JSON")
    if arguments and arguments[0].startswith(":"):
        files, arguments = [files[0] + arguments[0]], []
    command = ["audit", *files, *arguments, "--no-autograd"]
    try:
        found = cli.main(command)
    except SystemExit as error:
        found = error.code
    said = "".join(capsys.readouterr())
    assert found == code, said
    assert said.strip() and "Traceback" not in said


# --- diagnoses ------------------------------------------------------------------------------------

JACOBIAN = FAULTS[[f.id for f in FAULTS].index("Softmax: pass")]


def test_a_diagnosis_does_not_depend_on_how_fast_the_machine_is(monkeypatch):
    expected = judge(JACOBIAN)[1:3]
    assert set(JACOBIAN.kinds) & set(expected[0])
    ticks = itertools.count(0, 100.0)
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    assert judge(JACOBIAN)[1:3] == expected


def test_a_search_runs_so_many_operations_and_no_more(monkeypatch):
    monkeypatch.setattr(search, "SEARCH", 3)
    assert not set(JACOBIAN.kinds) & set(judge(JACOBIAN)[1])


def test_a_mistake_of_ours_in_an_explanation_is_told(monkeypatch):
    def mistaken(scene, name, got, right):
        return scene.misspelt

    monkeypatch.setattr(diagnose, "GRADIENT", (mistaken, *diagnose.GRADIENT))
    _, kinds, text, _ = judge(JACOBIAN)
    assert set(JACOBIAN.kinds) & set(kinds)
    assert "the explanation mistaken could not be tried: AttributeError" in text
