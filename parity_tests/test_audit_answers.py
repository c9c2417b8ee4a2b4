"""The audit's five answers, what fails by default, under --strict and with --allow, and the causes that it names."""

from dataclasses import replace

import numpy as np
import pytest

import reference
from parity import cli
from parity.auditing import assert_gradients, audit
from parity.auditing.answers import BACKWARD, BOTH, FORWARD, STUB, WARNINGS
from parity.catalogue import CATALOGUE
from parity.errors import UsageError
from parity.judge.finding import Finding, valued
from parity.promises import REFERENCE
from parity_tests.audit_faults import textbook

X = np.random.default_rng(0).standard_normal((4, 6))
YES = {"forward right": "yes", "gradient right": "yes", "protocol kept": "yes", "implemented": "yes",
       "could be run": "yes"}


def audited(layer, *inputs, **options):
    if not inputs and "like" not in options:
        inputs = (X,)
    (result,) = audit(layer, autograd=False, **({"inputs": inputs} if inputs else {}), **options).results
    return result


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


def test_a_right_layer_gets_five_times_yes():
    assert audited(textbook.WeightSum, like="WeightSum").answers == YES
    assert audited(Tanh()).answers == YES | {"forward right": "no twin"}


# --- protocol: warnings, errors, notes ------------------------------------------------------------


class Once(Tanh):
    """Its second backward differs."""

    def backward(self, dy):
        self.y = self.y * 0.5
        return dy * (1 - 4 * self.y**2)


class Narrow(Tanh):
    def backward(self, dy):
        return super().backward(dy).astype(np.float32)


class InPlace(Tanh):
    def backward(self, dy):
        dy *= 1 - self.y**2
        return dy


BROKEN = {"second-backward": Once, "float32": Narrow, "mutated-cotangent": InPlace}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_the_protocol_is_a_warning_an_error_or_a_note(kind):
    result, strict, allowed = (audited(BROKEN[kind](), **options) for options in (
        {}, {"strict": True}, {"strict": True, "allow": kind}))
    assert {f.severity for f in result.findings if f.kind == kind} == {"warning"} and result.ok, result.findings
    assert result.verdict == "right" and result.answers["protocol kept"] == "no"
    assert result.answers["gradient right"] == "yes"
    assert not strict.ok and {f.severity for f in strict.findings if f.kind == kind} == {"error"}
    assert {f.severity for f in allowed.findings if f.kind == kind} == {"note"} and allowed.ok


def test_strict_and_allow_reach_every_entry(tmp_path):
    assert_gradients(Once(), inputs=(X,))
    with pytest.raises(AssertionError, match="second backward differs"):
        assert_gradients(Once(), inputs=(X,), strict=True)
    assert_gradients(Once(), inputs=(X,), strict=True, allow=["second-backward"])
    with pytest.raises(UsageError, match="no such kind, known are accumulated, approximate, clamped-log"):
        audit(Once(), inputs=(X,), allow="second_backward")


def test_a_wrong_value_is_no_warning_whatever_it_claims():
    result = audited(type("Wrong", (Tanh,), {"backward": lambda self, dy: 2 * dy})(), allow=tuple(WARNINGS))
    assert not result.ok and result.answers["gradient right"] == "no"


CLAMPED = """
import numpy as np

class SoftmaxWithLoss:
    def __init__(self):
        self.params, self.grads, self.y, self.t = [], [], None, None

    def forward(self, x, t):
        if t.ndim == x.ndim:
            t = t.argmax(axis=1)
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.t, self.y = t, e / e.sum(axis=1, keepdims=True)
        return -np.sum(np.log(self.y[np.arange(len(t)), t] + 1e-7)) / len(t)

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx * dout / len(self.t)
"""


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--strict"], 1), (["--strict", "--allow", "clamped-log"], 0),
                                             (["--allow", "nothing"], 2), (["--like", "SoftmaxWithLoss"], 0)])
def test_the_books_loss_is_a_warning_unless_asked(tmp_path, monkeypatch, capsys, flags, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CLAMPED)
    try:
        found = cli.main(["audit", "mine.py", "--no-autograd", *flags])
    except SystemExit as end:
        found = end.code
    said = "".join(capsys.readouterr())
    assert found == code, said
    assert "known are accumulated" in said if code == 2 else "clamped logarithm" in said


# --- implemented at all, and run ------------------------------------------------------------------


def no_backward(does):
    return type("Stub", (Tanh,), {"backward": does})


def missing(self, *arrays):
    raise NotImplementedError


STUBS = {
    "forward None": type("Stub", (Tanh,), {"forward": lambda self, x: None}),
    "forward raises": type("Stub", (Tanh,), {"forward": missing}),
    "backward None": no_backward(lambda self, dy: None),
    "backward zeros": no_backward(lambda self, dy: np.zeros_like(dy)),
    "backward raises": no_backward(missing),
    "both zeros": type("Stub", (Tanh,), {"forward": lambda self, x: 0 * x, "backward": lambda self, dy: 0 * dy}),
}


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_says_so_and_nothing_else(name):
    result = audited(STUBS[name]())
    (finding,) = result.findings
    assert finding.verdict == result.verdict == STUB and not result.ok
    assert finding.quantity == ("forward" if "both" in name else name.split()[0])
    assert result.answers["implemented"] == "no" and result.answers["gradient right"] == "not judged"


def test_zeros_where_zero_is_right_are_no_stub():
    class Sign(Tanh):
        def forward(self, x):
            return np.sign(x) + 1.5

        def backward(self, dy):
            return np.zeros_like(dy)

    assert audited(Sign()).verdict == "right"


class Scaled:
    """Softmax of half its input."""

    def forward(self, x):
        e = np.exp(x / 2 - x.max(axis=-1, keepdims=True) / 2)
        self.y = e / e.sum(axis=-1, keepdims=True)
        return self.y

    def backward(self, dy):
        raise IndexError("no such thing")


def test_a_backward_that_raises_hides_no_fault_of_the_forward():
    result = audited(Scaled, like="Softmax")
    assert {f.check for f in result.findings} == {"raised", "forward"} and result.verdict == BOTH
    assert "scaled by 0.5" in next(f.diagnosis for f in result.findings if f.verdict == FORWARD)
    assert result.answers == YES | {"forward right": "no", "gradient right": "no", "could be run": "no",
                                    "protocol kept": "unknown"}
    zeros = type("Zeros", (Scaled,), {"backward": lambda self, dy: 0 * dy})
    result = audited(zeros, like="Softmax")
    assert {f.verdict for f in result.findings} == {FORWARD, STUB} and result.answers["implemented"] == "no"


class NoConstructor(Tanh):
    def __init__(self):
        raise KeyError("config")


@pytest.mark.parametrize(("layer", "code"), [
    (Once(), 0), (STUBS["backward None"](), 1), (NoConstructor, 1),
    (type("Raises", (Tanh,), {"backward": lambda self, dy: dy[0, 99]})(), 1),
    (type("Wrong", (Tanh,), {"backward": lambda self, dy: 2 * dy})(), 1)],
    ids=["warning", "stub", "no constructor", "raises", "wrong"])
def test_exit_code_of_every_answer(layer, code):
    report = audit(layer, autograd=False, inputs=(X,))
    assert report.exit_code == code and report.ok == (code == 0), str(report)


def test_no_cause_is_placed_in_our_own_files():
    def forward(x, W):
        return np.tanh(x @ W), (x, W)

    def backward(dy, cache):
        x, W = cache
        return dy @ W.T, x.T @ dy

    rng = np.random.default_rng(0)
    report = audit(forward=forward, backward=backward, inputs=(X,), params={"W": rng.standard_normal((6, 3))})
    assert not report.ok and {f.verdict for f in report.findings} == {BACKWARD}
    assert "np.tanh(x @ W)" in str(report) and "auditing" not in str(report) and "self.functions" not in str(report)


def test_values_that_differ_look_different():
    assert valued({"port": 1.0, "reference": 2.0}) == "port 1, reference 2"
    assert valued({"port": 1.0, "reference": 1 + 2**-40}) == "port 1, reference 1.000000000001"
    assert "1.0000000000000002" in str(Finding("port", values={"port": 1.0, "reference": 1 + 2**-52}))
    assert valued({"port": np.nan, "reference": np.nan}) == "port nan, reference nan"


# --- promises about calls: the same for our layers and for strangers' -----------------------------


class Affine(reference.Affine):
    """Breaks what its subclasses say."""


def spoilt(**methods):
    return type("Affine", (Affine,), methods)


def adds(self, dout):
    before = [g.copy() for g in self.grads]
    dx = reference.Affine.backward(self, dout)
    for g, b in zip(self.grads, before, strict=True):
        g += b
    return dx


def replaces(self, dout):
    dx = reference.Affine.backward(self, dout)
    self.grads = [g.copy() for g in self.grads]
    return dx


def changes(self, dout):
    dx = reference.Affine.backward(self, dout)
    dout *= 2
    return dx


def remembers(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return reference.Affine.forward(self, x) * self.calls


PROMISES = {"accumulated": ("repeats", {"backward": adds}), "replaced": ("same arrays", {"backward": replaces}),
            "mutated-cotangent": ("nothing changed", {"backward": changes}),
            "state-kept": ("repeats", {"forward": remembers})}


@pytest.mark.parametrize("kind", PROMISES)
def test_a_promise_about_calls_is_one_for_our_layers_and_for_strangers(kind):
    promise, methods = PROMISES[kind]
    REFERENCE[promise](CATALOGUE["Affine"])
    with pytest.raises(AssertionError):
        REFERENCE[promise](replace(CATALOGUE["Affine"], reference=spoilt(**methods)))
    assert kind in {f.kind for f in audited(spoilt(**methods), like="Affine").findings}
