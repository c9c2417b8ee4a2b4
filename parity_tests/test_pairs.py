"""Any two things that should compute the same: pairs, in memory and in files."""

import json
import math
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from textwrap import dedent

import numpy as np
import pytest
import torch

import parity
from parity import Pair, assert_parity, built, check, floats, ids, mask, replay
from parity.cli import main
from parity.errors import UsageError
from parity.judge.budget import Yardstick
from parity.spec.catalogue import Catalogue

QUICK = {"lane": "cpu-float32", "cases": 8}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rms_norm(x, g):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g


def torch_rms_norm(x, g):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], g, 1e-6)


RMS = Pair("rms_norm", reference=rms_norm, port=torch_rms_norm, inputs={"x": "N T D", "g": "D"})


def linear(x, W, b):
    return x @ W + b, (x, W)


def linear_backward(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy, dy.sum(0)


AFFINE = {"x": "N D", "W": "D H", "b": "H"}
LINEAR = Pair("linear", reference=linear, backward=linear_backward, port=lambda x, W, b: x @ W + b, inputs=AFFINE)
WRONG = replace(LINEAR, name="wrong", port=lambda x, W, b: 1.01 * (x @ W) + b)


# --- the library -----------------------------------------------------------------------------------------------


def test_one_pair_or_several_are_checked():
    report = check(RMS, lane="cpu-float*", cases=4, seed=0)
    assert report.ok, report
    assert {row["quantity"] for row in report.rows} == {"y", "grad.x", "grad.g"}
    report = check([RMS, LINEAR], **QUICK)
    assert report.ok and report.layers == ["rms_norm", "linear"]
    assert check("lin*", catalogue=Catalogue([RMS, LINEAR]), **QUICK).layers == ["linear"]


def test_assert_parity_says_what_is_wrong():
    assert_parity(LINEAR, cases=4, lane="cpu-float32")
    with pytest.raises(AssertionError, match=r"wrong\.y.* in cpu-float32") as error:
        assert_parity(WRONG, cases=4, lane="cpu-float32")
    assert "print(pair.run('p2:wrong:" in str(error.value)


@pytest.mark.parametrize("case", LINEAR.cases(6, seed=0), ids=str)
def test_a_case_a_test(case):
    report = LINEAR.run(case, lane="cpu-float32")
    assert report.ok and report.cases == 1, report


def test_cases_have_something_to_judge_and_are_admitted_by_the_lanes_asked_for():
    cases = RMS.cases(40, seed=1)
    assert len(cases) == 40 and all(case.sizes["N"] for case in cases)
    assert str(cases[0]) == cases[0].id and cases[0].id.startswith("p2:rms_norm:")
    assert any(case.scale > 1 for case in cases)
    assert all(case.scale <= 1 for case in RMS.cases(40, seed=1, lane="cpu-bfloat16"))
    assert [str(case) for case in RMS.cases(3)] == [str(case) for case in RMS.cases(5)[:3]]


def test_a_replayed_finding_is_found_again():
    finding = check(WRONG, **QUICK).findings[0]
    for report in (WRONG.run(finding.case_id, finding.lane), replay(finding.case_id, finding.lane, pairs=[RMS, WRONG])):
        assert [f.share for f in report.findings if f.quantity == finding.quantity] == [finding.share]
    with pytest.raises(UsageError, match="unknown layer 'wrong', known are rms_norm"):
        replay(finding.case_id, pairs=RMS)


@pytest.mark.parametrize("arguments", [
    {"layer": 3}, {"layer": [3]}, {"layer": []}, {"layer": {"x": RMS}}, {"layer": RMS, "catalogue": "x.py"},
    {"layer": "lin*", "catalogue": RMS}, {"catalogue": "missing.py"}, {"catalogue": 3}, {"layer": [RMS, replace(RMS)]},
])
def test_what_is_no_pair_is_refused(arguments):
    with pytest.raises(UsageError):
        check(**arguments, **QUICK)


@pytest.mark.parametrize("call", [
    lambda: RMS.cases(0), lambda: RMS.cases(3, seed=-1), lambda: RMS.cases(3, lane="gpu"), lambda: RMS.run("x"),
    lambda: replace(RMS, ranges={"N": (0,)}).cases(1), lambda: assert_parity(RMS, cases=0),
    lambda: replay("p2:x", pairs=3),
])
def test_arguments_that_mean_nothing_are_refused(call):
    with pytest.raises(UsageError):
        call()


def test_pairs_in_memory_are_refused_before_workers_start(monkeypatch):
    monkeypatch.setattr(parity.engine, "parallel", None)
    with pytest.raises(UsageError, match="rms_norm, linear live in this process alone: use jobs=1, or define them"):
        check([RMS, LINEAR], **QUICK, jobs=2)


def test_nothing_of_ours_is_loaded_for_somebodys_pairs(tmp_path):
    """Their own modules may be called ``reference`` and ``torch_port``."""
    (tmp_path / "reference.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "mine.py").write_text(dedent("""
        import sys
        from parity import Pair, check
        from reference import double
        report = check(Pair("double", reference=double, port=lambda x: x + x, inputs={"x": "N D"}), "cpu-float32",
                       cases=4)
        assert report.ok, report
        assert "torch_port" not in sys.modules and "parity.catalogue" not in sys.modules
    """))
    subprocess.run([sys.executable, "mine.py"], check=True, timeout=120)


# --- what could not be judged ----------------------------------------------------------------------------------


def test_gradients_without_a_yardstick_read_untested_and_are_no_pass():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.from_numpy(2 * x.detach().numpy())

        @staticmethod
        def backward(ctx, dy):
            return torch.from_numpy(2 * dy.numpy())

    report = check(Pair("double", reference=lambda x: 2 * x, port=Double.apply, inputs={"x": "N D"}), **QUICK)
    assert not report.findings and not report.ok
    (row,) = [row for row in report.rows if row["status"] == "untested"]
    assert (row["quantity"], row["cases"], row["worst"]) == ("grad.x", 0, None)
    assert "not made of torch's own operations: give backward=" in row["reason"]
    assert report.reasons == [f"nothing was judged of double in cpu-float32: {row['reason']}"]
    assert f"double in cpu-float32: grad.x UNTESTED, {row['reason']}" in str(report)
    json.dumps(report.to_json())


# --- files and the command line --------------------------------------------------------------------------------

FILE = """
import numpy as np
from parity import Pair

def scaled(x, g):
    return x * g

right = Pair("right", reference=scaled, port=lambda x, g: x * g, inputs={"x": "N D", "g": "D"})
wrong = Pair("wrong", reference=scaled, port=lambda x, g: 1.01 * x * g, inputs={"x": "N D", "g": "D"})
"""


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "my pairs.py").write_text(FILE)
    return str(folder / "my pairs.py")


def test_a_file_of_pairs_on_the_command_line(file, capsys):
    quick = ["--lane", "cpu-float32", "--cases", "3", "--jobs", "1"]
    assert main(["check", file, "--layer", "right", *quick]) == 0
    assert main(["list", file]) == 0
    assert "x (N D), g (D)" in capsys.readouterr().out
    assert main(["check", file, *quick, "--json", "out.json"]) == 1
    out = capsys.readouterr().out
    with open("out.json") as report:
        findings = json.load(report)["findings"]
    assert {finding["layer"] for finding in findings} == {"wrong"}
    command = f"parity replay --pairs '{file}' '{findings[0]['case_id']}' --lane cpu-float32"
    assert findings[0]["replay"] == command and command in out
    assert main(["replay", "--pairs", file, findings[0]["case_id"], "--lane", "cpu-float32"]) == 1
    assert "FAILED: 1 cases" in capsys.readouterr().out


def test_failures_are_remembered_by_file(file, tmp_path, capsys):
    quick = ["--lane", "cpu-float32", "--cases", "3", "--jobs", "1"]
    other = tmp_path / "other.py"
    other.write_text(FILE)
    assert main(["check", file, *quick]) == 1
    assert f"parity check '{file}' --last-failed runs them" in capsys.readouterr().out
    for argv in (["check", str(other), "--last-failed"], ["check", "--last-failed"]):
        with pytest.raises(SystemExit):
            main(argv)
        assert "nothing failed last time here" in capsys.readouterr().err
    assert main(["check", file, "--last-failed", "--jobs", "1"]) == 1
    (tmp_path / "a folder" / "my pairs.py").write_text(FILE.replace("1.01", "1.00"))
    assert main(["check", file, "--last-failed", "--jobs", "1"]) == 0
    assert os.listdir(".parity_cache") == []


def test_workers_load_the_file(file):
    report = check([Catalogue.load(file)["right"]], "cpu-float32", cases=4, jobs=2)
    assert report.ok and report.cases == 4, report


def test_a_pair_changed_since_its_file_was_loaded_is_not_handed_on(file):
    changed = replace(Catalogue.load(file)["right"], scales=(1.0,))
    with pytest.raises(UsageError, match="live in this process alone"):
        check(changed, "cpu-float32", cases=2, jobs=2)


@pytest.mark.parametrize("text, words", {
    "nothing": ("x = 1", "no Pair at module level"),
    "syntax": ("def (", "cannot be run: SyntaxError"),
    "raises": ("import os\n1 / 0", "line 2: cannot be run: ZeroDivisionError"),
    "exits": ("import sys\nsys.exit(3)", "line 2: cannot be run: SystemExit: 3"),
    "imports": ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "wrong pair": ("from parity import Pair\nPair('x', reference=1, port=2, inputs={})",
                   "line 2: Pair x: reference is 1, expected a function"),
    "twice": (FILE + "again = Pair('right', reference=scaled, port=scaled, inputs={'x': 'N', 'g': 'N'})",
              "two entries are called 'right'"),
    "null": ("\0", "cannot be run: "),
    "bytes": (b"\xff\xfe", "cannot be run: "),
}.values(), ids=lambda value: None)
def test_a_file_that_holds_no_pairs_ends_with_2_and_one_line(tmp_path, capsys, text, words):
    path = tmp_path / "mine.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as end:
        main(["check", str(path)])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1 and f"{path}" in err and words in err
    assert sorted(os.listdir(tmp_path)) == ["mine.py"]


# --- what can be a pair ----------------------------------------------------------------------------------------


class Affine:
    """A textbook layer."""

    def __init__(self, W, b):
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dy):
        self.grads[0][...] = self.x.T @ dy
        self.grads[1][...] = dy.sum(0)
        return dy @ self.params[0].T


class LeakyRelu:
    """One without parameters."""

    def __init__(self, slope=0.0):
        self.slope = slope

    def forward(self, x):
        self.factor = np.where(x > 0, 1, self.slope).astype(x.dtype)
        return x * self.factor

    def backward(self, dy):
        return dy * self.factor


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, g):
        ctx.save_for_backward(x, g)
        return x * g

    @staticmethod
    def backward(ctx, dy):
        x, g = ctx.saved_tensors
        return dy * g, (dy * x).sum(0)


class Plain(torch.nn.Module):
    """A linear layer and a tanh, with names of its own."""

    def __init__(self):
        super().__init__()
        self.w, self.c = torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(4))

    def forward(self, x):
        return torch.tanh(x @ self.w.t() + self.c)


def scale(x, g):
    return x * g


def scale_backward(dy, x, g):
    return dy * g, (dy * x).sum(0)


def attention(x, Wq, Wk, Wv, Wo, heads):
    n, t, d = x.shape

    def split(a):
        return a.reshape(n, t, heads, d // heads).transpose(0, 2, 1, 3)

    q, k, v = split(x @ Wq), split(x @ Wk), split(x @ Wv)
    s = q @ k.transpose(0, 1, 3, 2) / np.sqrt(x.dtype.type(d // heads))
    e = np.exp(s - s.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(n, t, d) @ Wo


def torch_attention(x, Wq, Wk, Wv, Wo, heads):
    n, t, d = x.shape
    q, k, v = ((x @ W).view(n, t, heads, d // heads).transpose(1, 2) for W in (Wq, Wk, Wv))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d) @ Wo


def embedding(i, W, s):
    return (W[i] if s is None else W[i] * s[:, None]), i + 1, W[i] > 0


def embedding_backward(dy, i, W, s):
    dW = np.zeros_like(W)
    np.add.at(dW, i, dy if s is None else dy * s[:, None])
    return None, dW, None if s is None else (dy * W[i]).sum(-1)


def normalized(x, g, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * g


def normalized_backward(dy, x, g, mean, var):
    s = 1 / np.sqrt(var + 1e-5)
    return dy * g * s, (dy * (x - mean) * s).sum(0)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script itself

    @torch.jit.script
    def scripted(x, g):
        return x * g


X, XG, WB = {"x": "N D"}, {"x": "N D", "g": "D"}, {"W": "D H", "b": "H"}
PLACES = {"W": ("D H", "weight", np.transpose, np.transpose), "b": ("H", "bias")}
SQUARES = dict.fromkeys(("Wq", "Wk", "Wv", "Wo"), "D D")
LINEAR_LAYER = torch.nn.Linear(3, 4)

RIGHT = [
    Pair("class", reference=Affine, port=lambda x, W, b: x @ W + b, inputs=X, params=WB),
    Pair("class-module", reference=Affine, port=built(lambda n: torch.nn.Linear(n["D"], n["H"])), inputs=X,
         params=PLACES),
    Pair("class-instance", reference=Affine, port=LINEAR_LAYER, inputs=X, params=PLACES),
    Pair("object", reference=Affine(np.zeros((3, 2)), np.zeros(2)), port=lambda x, W, b: x @ W + b, inputs=X,
         params=WB),
    Pair("object-without-params", reference=LeakyRelu(), port=torch.relu, inputs={"x": "... D"}),
    Pair("class-with-options", reference=LeakyRelu, port=lambda x, slope: torch.nn.functional.leaky_relu(x, slope),
         inputs=X, options={"slope": (0.0, 0.01, 0.2)}),
    Pair("attention", reference=attention, port=torch_attention, inputs={"x": "N T D"} | SQUARES,
         options={"heads": (1, 2, 3)}, ranges={"K": (1, 2), "T": (1, 3)}, sizes={"D": lambda n: n["heads"] * n["K"]}),
    Pair("autograd-function", reference=scale, backward=scale_backward, port=Scale.apply, inputs=XG),
    Pair("autograd-function-class", reference=scale, backward=scale_backward, port=Scale, inputs=XG),
    Pair("scripted", reference=scale, port=scripted, inputs=XG),
    Pair("numpy-port", reference=scale, backward=scale_backward, port=lambda x, g: np.multiply(g, x),
         port_backward=scale_backward, inputs=XG),
    Pair("numpy-port-transposed", reference=scale, backward=scale_backward, port=lambda x, g: (g[:, None] * x).T,
         port_backward=lambda dy, x, g: ((dy * g).T, (dy.T * x).sum(1)), inputs=XG,
         params={"x": ("x", np.transpose, np.transpose)}),
    Pair("several-outputs", reference=embedding, backward=embedding_backward, port=lambda i, W, s: (
        W[i] if s is None else W[i] * s[:, None], i + 1, W[i] > 0), outputs=("y", "next", "positive"),
         inputs={"i": ids("N", below="V"), "W": "V D", "s": floats("N", optional=True)}),
    Pair("masked", reference=lambda x, m: x if m is None else np.where(m, x, 0),
         port=lambda x, m: x if m is None else torch.where(m, x, 0),
         inputs={"x": "N T", "m": mask("N T", optional=True)}),
    Pair("constants", reference=normalized, backward=normalized_backward,
         port=lambda x, g, m, v: torch.nn.functional.batch_norm(x, m, v, g),
         inputs=XG | {"m": floats("D", constant=True),
                      "v": floats("D", constant=True, draw=lambda rng, shape, n: rng.uniform(0.5, 2, shape))}),
    Pair("without-gradients", reference=lambda i: i * 2, port=lambda i: i * 2, inputs={"i": ids("N T", below=9)}),
    Pair("module-and-module", reference=torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()), port=Plain(),
         inputs=X, params={"0.weight": ("H D", "w"), "0.bias": ("H", "c")}),
    Pair("compiled", reference=lambda x, g: x * torch.sigmoid(x) * g, reference_kind="torch", inputs=XG,
         port=torch.compile(lambda x, g: torch.nn.functional.silu(x) * g, backend="eager")),
]


@pytest.mark.parametrize("pair", RIGHT, ids=lambda pair: pair.name)
def test_a_right_pair_passes(pair):
    report = check(pair, "cpu-float32", cases=6)
    assert report.ok, report
    if pair.name != "without-gradients":
        gradients = {row["quantity"] for row in report.rows if row["status"] == "ok"}
        arrays = {*pair.differentiable(), *pair.parameter_shapes(pair.cases(1)[0].sizes)}
        assert gradients >= {f"grad.{name}" for name in arrays}


def test_parameters_of_a_module_fix_the_sizes():
    pair = next(pair for pair in RIGHT if pair.name == "class-instance")
    assert {(case.sizes["D"], case.sizes["H"]) for case in pair.cases(20)} == {(3, 4)}


def test_a_compiled_function_is_compiled_for_every_case():
    """Past some number of sizes torch would run it uncompiled without a word."""
    seen = []

    def backend(graph, _):
        return lambda *args: seen.append(graph) or graph(*args)

    pair = replace(RIGHT[-1], port=torch.compile(lambda x, g: torch.nn.functional.silu(x) * g, backend=backend,
                                                 dynamic=False))
    assert check(pair, "cpu-float32", cases=12).ok
    assert len(seen) >= 12 and len(set(map(id, seen))) > torch._dynamo.config.recompile_limit


def test_an_integer_output_must_be_the_same():
    pair = next(pair for pair in RIGHT if pair.name == "several-outputs")
    wrong = replace(pair, port=lambda i, W, s: (W[i] if s is None else W[i] * s[:, None], i + 2, W[i] > 0))
    assert {finding.quantity for finding in check(wrong, **QUICK).findings} == {"next"}


# --- what cannot -----------------------------------------------------------------------------------------------


class NoGradient(Scale):
    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[1], None


class OneGradient(Scale):
    @staticmethod
    def backward(ctx, dy):
        return dy


class NoGrads(Affine):
    def backward(self, dy):
        self.grads = []
        return dy @ self.params[0].T


def in_place(x, g):
    x *= g
    return x


def torch_in_place(x, g):
    with torch.no_grad():
        x.mul_(2)
    return x * g


def ids_in_place(i, W):
    y = W[i.clone()]
    i.zero_()
    return y


def drifting(calls=[]):  # noqa: B006
    calls.append(1)
    return 1 + 0.01 * len(calls)


def norm(n):
    return torch.nn.LayerNorm(n["D"])


GIVEN = {"reference": scale, "backward": scale_backward, "port": lambda x, g: x * g, "inputs": XG}
ALONE = GIVEN | {"backward": None}

WRONG_PAIRS = {
    "noise dropped by asarray": ({"reference": lambda x, g: np.asarray(x) * np.asarray(g)}, "reference drops the nois"),
    "noise dropped by array": ({"reference": lambda x, g: np.array(x) * np.array(g)}, "the reference drops the noise"),
    "two outputs for one": ({"port": lambda x, g: (x * g, x)}, "port: it gives 2 outputs, expected 1: y"),
    "no output": ({"port": lambda x, g: ()}, "port: it gives 0 outputs, expected 1: y"),
    "too many names": ({"outputs": ("a", "b")}, "reference: it gives 1 outputs, expected 2: a, b"),
    "shape": ({"port": lambda x, g: (x * g).sum(-1)}, "port: output y has shape"),
    "axes of an output": ({"outputs": {"y": "D N"}}, "reference: output y has shape"),
    "dtype": ({"port": lambda x, g: (x * g).double()}, "port: an output has dtype torch.float64, expected torch.float"),
    "integer for float": ({"port": lambda x, g: (x * g).long()}, "port: output y has dtype torch.int64, expected a fl"),
    "float for integer": ({"reference": lambda x: (x * 1, x.argmax(-1)), "backward": None, "inputs": X,
                           "port": lambda x: (x * 1, x.argmax(-1) * 1.0), "ranges": {"N": (1, 2)}},
                          "port: y1: dtype float32, expected int64"),
    "None": ({"port": lambda x, g: None}, "port: an output is a NoneType, expected a tensor"),
    "a dict": ({"port": lambda x, g: {"y": x * g}}, "port: an output is a dict, expected a tensor"),
    "an array": ({"port": lambda x, g: (x * g).detach().numpy()}, "port: an output is a ndarray, expected a tensor"),
    "the port raises": ({"port": lambda x, g: 1 / 0}, "port: ZeroDivisionError: division by zero (*test_pairs.py, lin"),
    "the reference raises": ({"reference": lambda x, g: 1 / 0}, "reference: ZeroDivisionError: division by zero (*"),
    "neither kind": (ALONE | {"reference": lambda x, g: 1 / 0}, "runs neither on NumPy arrays nor on tensors; as nump"),
    "too few arguments": ({"port": lambda x: x}, "port: TypeError: * takes 1 positional argument but 2 were given"),
    "needs what it is not given": ({"port": lambda x, g, eps: x * g}, "port: TypeError: * missing 1 required position"),
    "an option that it does not know": ({"options": {"eps": (1e-5,)}}, "TypeError: * got an unexpected keyword argume"),
    "in place": ({"reference": in_place}, "reference: it changes an input in place"),
    "port in place": ({"port": torch_in_place}, "port: it changed its input x in place"),
    "NumPy port in place": ({"port": in_place, "port_backward": scale_backward}, "port: it changes an input in place"),
    "leaf in place": ({"port": lambda x, g: x.mul_(g)}, "port: RuntimeError: a leaf Variable that requires grad"),
    "ids in place": ({"reference": lambda i, W: W[i], "backward": None, "port": ids_in_place, "inputs": {
        "i": ids("N", below="V"), "W": "V D"}, "ranges": {"V": (3,)}}, "port: it changed its input i in place"),
    "not deterministic": ({"port": lambda x, g: x * g * drifting()}, "port: not deterministic: run again on the same"),
    "random": ({"port": lambda x, g: x * g + torch.rand_like(x)}, "port: not deterministic: run again on the same inp"),
    "random reference": ({"reference": lambda x, g: x * g + np.random.rand(*x.shape)}, "reference is not deterministi"),
    "gradient of None": ({"port": NoGradient.apply}, "port: it gives no gradient (None) where there is one"),
    "input detached": ({"port": lambda x, g: x * g.detach()}, "port: it gives no gradient (None) where there is one"),
    "output detached": ({"port": lambda x, g: (x * g).detach()}, "port: no gradient flows through the output y"),
    "one gradient for two": ({"port": OneGradient.apply}, "returned an incorrect number of gradients"),
    "backward of one": ({"backward": lambda dy, x, g: dy * g}, "reference: backward gives 1 gradients, expected 2: of"),
    "backward of None": ({"backward": lambda dy, x, g: (dy * g, None)}, "reference: backward gives None for the gradi"),
    "backward of another shape": ({"backward": lambda dy, x, g: (dy * g, dy * x)}, "reference: backward gives a gradi"),
    "backward's arguments": ({"backward": lambda dy: dy}, "backward takes 1 arguments, expected 1 (cotangents and the"),
    "backward raises": ({"backward": lambda dy, x, g: 1 / 0}, "reference: ZeroDivisionError: division by zero (*test_"),
    "no such parameter": ({"port": built(norm), "params": {"g": "gamma"}}, "port: the module has no parameter 'gamma'"),
    "another parameter": ({"port": built(norm), "params": {"g": "weight"}}, "port: the module's parameter 'bias' is n"),
    "grads are missing": ({"reference": NoGrads, "backward": None, "inputs": X, "params": WB,
                           "port": lambda x, W, b: x @ W + b}, "reference: grads has the shapes none, expected those"),
    "params are missing": ({"reference": Affine(np.zeros((2, 2)), np.zeros(2)), "backward": None, "inputs": X},
                           "the reference has 2 params, expected params= with axis strings of as many, not 0"),
    "float32 inside": ({"reference": lambda x, g: (x * g).astype(np.float32)}, "reference: it gives float32 for y whe"),
    "complex": (ALONE | {"reference": lambda x, g: x * g * 1j}, "reference: it gives complex128 for y, expected a rea"),
    "text": (ALONE | {"reference": lambda x, g: "y"}, "as numpy: it gave str; as torch: it gave str"),
    "NumPy port's dtype": ({"port": lambda x, g: (x * g).astype(np.float64), "port_backward": scale_backward},
                           "port: y has dtype float64, expected float32, that of the inputs"),
    "draw's shape": ({"inputs": XG | {"g": floats("D", draw=lambda rng, shape, n: 1.0)}}, "draw of the input g gives"),
    "draw raises": ({"inputs": XG | {"g": floats("D", draw=lambda rng: 1)}}, "draw of the input g raises TypeError: *"),
    "built raises": ({"port": built(lambda n: n["Q"])}, "port: KeyError: 'Q' (*test_pairs.py"),
    "built of nothing": ({"port": built(lambda n: None)}, "port: built(...) gives None, expected a module"),
}


@pytest.mark.parametrize("changes, words", WRONG_PAIRS.values(), ids=WRONG_PAIRS)
def test_a_bad_pair_gets_a_line(changes, words):
    report = check(Pair("p", **GIVEN | changes), "cpu-float32", cases=5)
    said = [finding for finding in report.findings if finding.check == "raised" or finding.diagnosis]
    assert not report.ok and said and "Traceback" not in str(report)
    pattern = ".*".join(map(re.escape, words.split("*")))
    lines = [line for line in str(report).splitlines() if re.search(pattern, line)]
    assert lines, report
    if said[0].check == "raised" and "leaf" not in words:
        assert len(lines) == 1  # whatever the number of cases


REFUSED = {
    "name": ({"name": "a b"}, "name is 'a b', expected letters, digits"),
    "no name": ({"name": 3}, "name is 3"),
    "reference": ({"reference": 3}, "reference is 3, expected a function"),
    "port": ({"port": None}, "port is None, expected a function"),
    "a class": ({"port": torch.nn.ReLU}, r"port is the class ReLU, expected a module, or built\("),
    "inputs": ({"inputs": ["x"]}, r"inputs is \['x'\], expected a dict"),
    "no inputs": ({"inputs": {}}, "inputs is empty"),
    "axes": ({"inputs": {"x": "N DD"}}, "axis string 'N DD': expected"),
    "no axes": ({"inputs": {"x": 3}}, "an array is described by 3"),
    "integers": ({"inputs": {"x": "int N"}}, r"expected ids\(..., below=...\)"),
    "an unbound axis": ({"outputs": {"y": "N Q"}}, "output 'y' has the axis 'Q', which no input has"),
    "outputs": ({"outputs": 3}, "outputs is 3, expected"),
    "ranges of nothing": ({"ranges": {"Q": (1,)}}, r"ranges\['Q'\]: nothing has that axis"),
    "ranges": ({"ranges": {"N": 3}}, r"ranges\['N'\] is 3, expected a tuple"),
    "negative": ({"ranges": {"N": (-1,)}}, r"ranges\['N'\] is \(-1,\), expected"),
    "sizes": ({"sizes": {"D": 3}}, r"sizes\['D'\] is 3, expected a function"),
    "where": ({"where": 3}, "where is 3, expected a function"),
    "scales": ({"scales": (0,)}, r"scales is \(0,\), expected"),
    "an option like an axis": ({"options": {"D": (1,)}}, r"options\['D'\]: an axis letter has that name"),
    "an option like an input": ({"options": {"x": (1,)}}, "an option is called 'x', expected another"),
    "an option of ours": ({"options": {"masked": (1,)}}, "an option is called 'masked', expected another"),
    "options that read the same": ({"options": {"a": (1, True)}}, "of which two read the same"),
    "options of objects": ({"options": {"a": (print,)}}, "holds <built-in function print>, expected text"),
    "options of text": ({"options": {"a": "abc"}}, "is 'abc', expected a tuple"),
    "params": ({"params": {"g": 3}}, r"params\['g'\] is 3, expected the name"),
    "params of half a layout": ({"params": {"g": ("g", np.transpose)}}, r"params\['g'\] is .*expected the name"),
    "params of nothing": ({"params": {"gamma": "weight"}}, r"params\['gamma'\]: the reference has no such input"),
    "sizes that are fixed": ({"port": torch.nn.LayerNorm(3), "params": {"g": "weight"}, "ranges": {"D": (4,)}},
                             r"the parameter weight has shape \(3,\), and D is \(4,\)"),
    "port_kind": ({"port_kind": "tf"}, "port_kind is 'tf', expected numpy, torch, jax"),
    "a NumPy port alone": ({"port_kind": "numpy"}, "needs port_backward="),
    "backward": ({"backward": "x"}, "backward is 'x', expected a function"),
    "patterns": ({"patterns": ("none",)}, "patterns has 'none', known are normal"),
    "states": ({"states": {"h": "N D"}}, "states is .*a state is an input, and an output"),
}


@pytest.mark.parametrize("changes, words", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_pair_is_refused_in_a_line(changes, words):
    with pytest.raises(UsageError, match=words) as error:
        Pair(**{"name": "p"} | GIVEN | changes)
    assert "\n" not in str(error.value) and str(error.value).startswith("Pair")


@pytest.mark.parametrize("changes, words", {
    "sizes that cannot be": ({"where": lambda n: n["D"] > 100}, "of 1000 draws of sizes and options none is one that"),
    "where raises": ({"where": lambda n: n["Q"]}, "where raises KeyError: 'Q'"),
    "sizes raises": ({"sizes": {"D": lambda n: n["Q"]}}, r"sizes\['D'\] raises KeyError: 'Q'"),
    "sizes of no size": ({"sizes": {"D": lambda n: n["N"] / 2}}, r"sizes\['D'\] gives .* expected a size"),
    "too large": ({"ranges": {"N": (65536,), "D": (65536,)}}, "too large: its memory is about"),
}.values())
def test_sizes_that_cannot_be_met_are_wrong_usage(changes, words):
    with pytest.raises(UsageError, match=words):
        check(Pair("p", **GIVEN | changes), **QUICK)


@pytest.mark.parametrize("call", [
    lambda: ids("N", below="VV"), lambda: ids("N", below=0), lambda: ids("N", below=True), lambda: floats("N", draw=3),
    lambda: mask("NN"), lambda: built(3),
])
def test_arrays_that_mean_nothing_are_refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.skipif(np.finfo(np.longdouble).eps == np.finfo(np.float64).eps, reason="longdouble is float64 here")
def test_a_gradient_is_summed_along_a_direction_without_rounding_of_its_own():
    rng = np.random.default_rng(0)
    gradient, vectors = rng.standard_normal((64, 17, 4)), rng.choice((-1.0, 1.0), (16, 64, 17, 4))
    yardstick = Yardstick(None, {}, {}, {}, directions={"grad.x": vectors})
    found = yardstick.projected({"grad.x": gradient})["grad.x"]
    assert found.tolist() == [math.fsum((v * gradient).ravel()) for v in vectors]
