"""Pairs whose sides differ in kind: JAX functions, references without a backward, outputs without a gradient."""

import importlib.util

import numpy as np
import pytest
import torch

from parity import check
from parity.cases.drawing import draw
from parity.engine import run_case
from parity.judge.lanes import LANES
from parity.spec.arrays import ids, mask
from parity.spec.pair import Pair, style

LANE_NAMES = ("cpu-float64", "cpu-float32", "cpu-bfloat16", "cpu-float16")
HAS_JAX = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")


def outcomes_of(pair, lane, count=6):
    cases = [case for case in (draw(pair, 0, i, LANES[lane].admits) for i in range(60)) if not case.degenerate]
    return [outcome for case in cases[:count] for outcome in run_case(case, [LANES[lane]])]


def findings_of(pair, lane, count=6):
    found = outcomes_of(pair, lane, count)
    assert found
    return [finding for outcome in found for finding in outcome.findings]


# --- JAX -------------------------------------------------------------------------------------------


def cross_entropy(x, W, t, keep, smoothing):
    z = x @ W
    z = z - z.max(-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    target = (1 - smoothing) * np.eye(W.shape[1])[t] + smoothing / W.shape[1]
    return -(target * log_p).sum(-1) * keep, z.argmax(-1), (x, W, keep, np.exp(log_p) - target)


def cross_entropy_backward(dy, cache):
    x, W, keep, dz = cache
    dz = dz * (dy * keep)[:, None]
    return dz @ W.T, x.T @ dz


def jax_cross_entropy(x, W, t, keep, *, smoothing, factor=1.0):
    import jax
    import jax.numpy as jnp

    z = x @ W
    target = (1 - smoothing) * jax.nn.one_hot(t, W.shape[1], dtype=x.dtype) + smoothing / W.shape[1]
    loss = -(target * jax.nn.log_softmax(z)).sum(-1)
    through = loss - (1 - factor) * (loss - jax.lax.stop_gradient(loss))  # the value, and factor times its gradient
    return jnp.where(keep, through, 0), z.argmax(-1)


def jax_pair(port=jax_cross_entropy, **more):
    return Pair("cross_entropy", reference=cross_entropy, backward=cross_entropy_backward, port=port, port_kind="jax",
                inputs={"x": "N D", "W": "D V", "t": ids("N", below="V"), "keep": mask("N")},
                outputs={"loss": "N", "best": "int N"}, options={"smoothing": (0.0, 0.1)}, scales=(0.1, 1),
                ranges={"N": (4,), "D": (5,), "V": (3,)}, **more)


@HAS_JAX
@pytest.mark.parametrize("lane", LANE_NAMES)
def test_a_jax_function_is_a_port(lane):
    found = outcomes_of(jax_pair(), lane)
    assert not [finding for outcome in found for finding in outcome.findings]
    assert all(set(outcome.shares) == {"loss", "best", "grad.x", "grad.W"} for outcome in found)


@HAS_JAX
@pytest.mark.parametrize(("lane", "factor"), [("cpu-float64", 1 - 1e-9), ("cpu-float32", 0.999), ("cpu-float16", 0.8),
                                              ("cpu-bfloat16", 0.5)])
def test_a_wrong_gradient_of_a_jax_function_is_found(lane, factor):
    def wrong(*args, **options):
        return jax_cross_entropy(*args, **options, factor=factor)

    assert {finding.quantity for finding in findings_of(jax_pair(wrong), lane)} & {"grad.x", "grad.W"}


def test_without_jax_its_ports_are_untested_and_say_why(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "jax" else find(name, *a))
    report = check(jax_pair(), lane="cpu-float32", cases=2)
    assert not report.ok
    assert "nothing was judged: JAX is not installed" in report.summary()
    assert "UNTESTED" in str(report.table().columns[1]._cells)


def test_functions_that_run_on_the_cpu_alone_are_untested_elsewhere():
    for pair in (jax_pair(), Pair("twice", reference=lambda x: 2 * x, backward=lambda dy, x: 2 * dy,
                                  port=lambda x: x + x, port_backward=lambda dy, x: dy + dy, inputs={"x": "N D"})):
        outcome, = run_case(draw(pair, 0, 0), [LANES["cuda-float32"]])
        assert outcome.untested == {"*": f"a port of {pair.port_kind} functions runs on the CPU only"}
        assert not outcome.findings and not outcome.shares


@HAS_JAX
def test_float64_is_enabled_for_the_run_alone():
    import jax.numpy as jnp

    assert not findings_of(jax_pair(), "cpu-float64", 1)
    assert jnp.asarray(np.ones(2)).dtype == jnp.float32


class Dense:
    """A textbook layer, of which a JAX function is the port."""

    def __init__(self, W, b):
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.params[0] + self.params[1])

    def backward(self, dy):
        dz = dy * (1 - self.forward(self.x) ** 2)
        self.grads[0][...] = self.x.T @ dz
        self.grads[1][...] = dz.sum(0)
        return dz @ self.params[0].T


@HAS_JAX
def test_parameters_of_a_layer_go_to_a_jax_function_by_name():
    def dense(x, *, W, b):
        import jax.numpy as jnp

        return jnp.tanh(x @ W + b)

    pair = Pair("dense", reference=Dense, port=dense, port_kind="jax", inputs={"x": "N D"},
                params={"W": "D H", "b": "H"}, ranges={"N": (3,), "D": (2,), "H": (4,)})
    found = outcomes_of(pair, "cpu-float32", 2)
    assert not [finding for outcome in found for finding in outcome.findings]
    assert all({"grad.W", "grad.b"} < set(outcome.shares) for outcome in found)


def linear(x, W):
    return x @ W, (x, W)


def linear_backward(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy


@pytest.mark.parametrize("kind", ["torch", pytest.param("jax", marks=HAS_JAX)])
def test_an_input_goes_to_a_function_in_the_layout_that_it_keeps(kind):
    pair = Pair("linear", reference=linear, backward=linear_backward, port=lambda x, W: x @ W.T, port_kind=kind,
                inputs={"x": "N D", "W": "D H"}, params={"W": ("W", np.transpose, np.transpose)},
                ranges={"N": (3,), "D": (2,), "H": (4,)})
    assert not findings_of(pair, "cpu-float32", 2)


def test_a_place_that_a_module_has_not_is_said():
    pair = Pair("linear", reference=linear, backward=linear_backward, port=torch.nn.Linear(2, 4, bias=False),
                inputs={"x": "N D", "W": "D H"}, params={"W": ("wieght", np.transpose, np.transpose)},
                ranges={"N": (3,), "D": (2,), "H": (4,)})
    assert "no parameter 'wieght' for W, it has weight" in findings_of(pair, "cpu-float32", 1)[0].diagnosis


@HAS_JAX
@pytest.mark.parametrize(("port", "words"), [
    (lambda x: x.sum().astype("float16"), "output y has dtype float16, expected float32"),
    (lambda x: 1.0, "output y is a float, expected an array"),
    (lambda x: x[:, 0], "output y has shape"),
    (lambda x: (x, x), "2 outputs, expected 1"),
    (lambda x: x if x[0, 0] > 0 else -x, "TracerBoolConversionError"),
])
def test_what_no_jax_port_gives_is_said(port, words):
    pair = Pair("twice", reference=lambda x: 2 * x, backward=lambda dy, x: 2 * dy, port=port, port_kind="jax",
                inputs={"x": "N D"}, outputs={"y": "N D"}, ranges={"N": (2,), "D": (3,)})
    assert words in findings_of(pair, "cpu-float32", 1)[0].diagnosis


# --- a reference without a backward -----------------------------------------------------------------


def rms_norm(x, g):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g


class RMSNorm(torch.autograd.Function):
    share = 1.0  # of the mean's gradient that backward remembers

    @staticmethod
    def forward(ctx, x, g):
        r = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)
        ctx.save_for_backward(x, g, r)
        return x * r * g

    @staticmethod
    def backward(ctx, dy):
        x, g, r = ctx.saved_tensors
        n, dn = x * r, dy * g
        dx = r * (dn - RMSNorm.share * n * (dn * n).mean(-1, keepdim=True))
        return dx, (dy * n).reshape(-1, x.shape[-1]).sum(0)


@pytest.mark.parametrize(("lane", "share"), [("cpu-float64", 1 - 1e-9), ("cpu-float32", 0.999), ("cpu-bfloat16", 0.0),
                                             ("cpu-float16", 0.8)])
def test_a_port_is_not_measured_by_its_own_mistake(monkeypatch, lane, share):
    """The copies of a port with a wrong gradient are as wrong as it is: only how far they move may count."""
    pair = Pair("rms_norm", reference=rms_norm, port=RMSNorm.apply, inputs={"x": "N T D", "g": "D"}, scales=(0.1, 1))
    assert not findings_of(pair, lane)
    monkeypatch.setattr(RMSNorm, "share", share)
    found = findings_of(pair, lane)
    assert {finding.quantity for finding in found} == {"grad.x"}
    assert "numerical derivative" in str(found[0])


# --- which way a backward is called -------------------------------------------------------------------


@pytest.mark.parametrize(("backward", "results", "inputs", "expected"), [
    (lambda dy, cache: 0, (np.ones(2), ()), 3, "cache"),
    (lambda dy, cache: 0, (np.ones(2), np.ones(2)), 3, "cache"),
    (lambda dy, cache: 0, (np.ones(2), np.arange(2), ()), 3, "cache"),  # an integer output has no cotangent
    (lambda dy, x, t: 0, (np.ones(2),), 2, "inputs"),
    (lambda dy, x, t: 0, (np.ones(2), np.arange(2)), 2, "inputs"),
    (lambda dy, dz, x: 0, (np.ones(2), np.ones(2)), 1, "inputs"),
])
def test_a_backward_is_called_as_it_takes_its_arguments(backward, results, inputs, expected):
    assert style(backward, results, inputs) == expected


def test_a_layer_of_which_a_dtype_tells_nothing_reads_untested_there():
    report = check("Adam", "cpu-*float16", cases=2)
    status = {row["lane"]: row["status"] for row in report.rows}
    assert report.ok and status == {"cpu-bfloat16": "ok", "cpu-float16": "untested"}, report
    assert "vanish" in str(report) and not check("Adam", "cpu-float16", cases=2).ok
