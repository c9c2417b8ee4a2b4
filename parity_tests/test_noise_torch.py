"""Operation noise in torch: its size, what it leaves exact, and the judgement that is built on it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import parity.trust.functions as functions
from parity.cases.drawing import draw
from parity.engine import run_case
from parity.judge.lanes import LANES
from parity.judge.noise_torch import TorchNoise, Widened, unit_roundoff
from parity.spec.pair import Pair
from parity.spec.spec import Spec

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
X = torch.linspace(0.5, 2, 4000, dtype=torch.float64)
PAIRS = [value for value in vars(functions).values() if isinstance(value, Spec)]


def errors(function, dtype, *arrays):
    """Relative errors of a function under noise, in units of u."""
    given = [a.to(dtype) for a in arrays]
    with TorchNoise("test"):
        found = function(*given).double()
    exact = function(*(a.double() for a in given))
    return ((found - exact) / exact.abs()).numpy() / unit_roundoff(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [torch.exp, torch.tanh, lambda x: x * x, lambda x: x + x, torch.sqrt,
                                      lambda x: 1 / x, lambda x: x.pow(2)])
def test_every_operation_errs_by_up_to_two_roundoffs_and_its_own(function, dtype):
    found = errors(function, dtype, X)
    assert 1 < np.abs(found).max() <= 2 + 1 + 1 + 4
    assert abs(found.mean()) < 6 * found.std() / math.sqrt(len(X)) + 0.25


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [
    lambda x: x.neg(), torch.abs, torch.relu, lambda x: x.max(), lambda x: x.amin(), lambda x: x.clamp(0.7, 1.5),
    lambda x: x.sort().values, lambda x: torch.where(x > 1, x, -x), lambda x: x[::3], lambda x: x.reshape(2, -1).T,
    lambda x: torch.cat((x, x)), lambda x: x.clone(), lambda x: torch.maximum(x, x.flip(0)), torch.sign, torch.floor,
    lambda x: x.reshape(2, -1).tril(), lambda x: x.gather(0, torch.arange(9)), lambda x: x.double(),
    lambda x: F.pad(x, (1, 1)), lambda x: x.detach(),
    lambda x: F.embedding(torch.tensor([1, 1]), x[:4].reshape(2, 2)), lambda x: x.expand(2, -1),
])
def test_movement_selection_and_comparison_are_exact(function, dtype):
    x = X.to(dtype)
    with TorchNoise("test") as mode:
        found = function(x)
    assert torch.equal(found, function(x)) and not mode.unknown


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [lambda x: x.floor() + 1, lambda x: 1 - x.ceil(), lambda x: x.round() * 3,
                                      lambda x: x.floor().add_(1), lambda x: x.trunc() + x.floor()])
def test_sums_and_products_of_whole_numbers_are_exact(function, dtype):
    x = 8 * X.to(dtype)
    with TorchNoise("test"):
        found = function(x)
    assert torch.equal(found, function(x)) and not torch.equal(found, function(x + 1))


def test_whole_numbers_too_large_for_the_dtype_err():
    x = torch.arange(200, 300, dtype=torch.bfloat16)
    with TorchNoise("test"):
        assert not torch.equal(x + x, 2 * x)


@pytest.mark.parametrize("function", [
    lambda x, y: x @ y, lambda x, y: x.sum(), lambda x, y: x.mean(0),
    lambda x, y: x.reshape(40, -1).sum(1, keepdim=True),
    lambda x, y: torch.mm(x[None], y[:, None]), lambda x, y: torch.einsum("i,i", x, y), lambda x, y: x.cumsum(0),
    lambda x, y: torch.addmm(x[:1, None], x[None], y[:, None]), lambda x, y: x.reshape(2, -1).softmax(-1),
    lambda x, y: F.layer_norm(x, x.shape).norm(), lambda x, y: torch.logsumexp(x, 0), lambda x, y: torch.var(x),
    lambda x, y: torch.bmm(x.reshape(2, 1, -1), y.reshape(2, -1, 1)), lambda x, y: x.clone().add_(y).mul_(2),
    lambda x, y: torch.baddbmm(x[:2].reshape(2, 1, 1), x.reshape(2, 1, -1), y.reshape(2, -1, 1), beta=2, alpha=3),
])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_contractions_and_composites_err_and_stay_near(function, dtype):
    found = errors(function, dtype, X[:2000], X[:2000].flip(0))
    assert 0 < np.abs(found[np.isfinite(found)]).max() < 8 * math.sqrt(2000)


def test_the_same_seed_gives_the_same_errors_and_another_others():
    def run(seed):
        with TorchNoise(seed):
            return torch.exp(X)

    assert torch.equal(run("a"), run("a")) and not torch.equal(run("a"), run("b"))


def test_the_backward_errs_too():
    def gradient(mode):
        x = X.clone().requires_grad_()
        y = torch.exp(x)
        with mode:
            y.backward(torch.ones_like(y))
        return x.grad

    assert not torch.equal(gradient(TorchNoise("test")), gradient(TorchNoise("other")))


def test_a_cast_to_a_narrower_type_rounds_and_errs():
    with TorchNoise("test"):
        narrow = X.to(torch.bfloat16)
        wide = narrow.float()
    assert torch.equal(wide, narrow.float())
    assert not torch.equal(narrow, X.to(torch.bfloat16))


def test_an_operation_that_no_table_knows_is_named():
    with TorchNoise("test") as mode:
        torch.special.bessel_j0(X)  # elementwise: composite, and known as such by its tag
        torch.fft.fft(X)
    assert mode.unknown == {"_fft_r2c"}


def test_the_oracle_does_not_cut_to_a_narrower_type():
    with Widened():
        y = (X.float() * torch.ones(1, dtype=torch.float32)).to(torch.float16)
    assert y.dtype == torch.float64 and torch.equal(y, X)


@pytest.mark.parametrize("length", [17, 300, 5000])
@pytest.mark.parametrize("lane", ["cpu-float64", "cpu-float32", "cpu-bfloat16"])
def test_the_share_of_right_results_does_not_grow_with_the_length_of_a_sum(lane, length):
    pair = Pair("product", lambda x, w: (x.unsqueeze(1) * w).sum(-1), F.linear, {"x": "N D", "w": "H D"},
                reference_kind="torch", ranges={"D": (length,), "N": (2,), "H": (3,)}, scales=(1.0,), patterns=())
    for index in range(4):
        (outcome,) = run_case(draw(pair, 0, index, LANES[lane].admits), [LANES[lane]])
        assert not outcome.findings and max(outcome.shares.values()) < 0.6


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_public_functions_are_right(pair):
    """A share of what ``parity flake parity/trust/functions.py`` runs."""
    for names in (("cpu-float64", "cpu-float32"), ("cpu-bfloat16", "cpu-float16")):
        lanes = [LANES[name] for name in names]
        for outcome in run_case(draw(pair, 7, 0, lanes[0].admits), lanes):
            assert not outcome.findings, "\n".join(map(str, outcome.findings))
            assert not outcome.untested


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_what_is_wrong_in_public_functions_would_be_seen(pair):
    case = draw(pair, 7, 0, lambda case: case.pattern == "normal" and not case.degenerate)
    for outcome in run_case(case, [LANES["cpu-float64"], LANES["cpu-float32"]]):
        assert outcome.blind == ()


def _replaced(pair, port):
    fields = {name: getattr(pair, name) for name in ("reference", "inputs", "ranges", "scales", "patterns")}
    return Pair("wrong", port=port, **fields)


WRONG = {
    "an input scaled": (functions.silu, lambda x: F.silu(x * 1.002)),
    "another eps": (functions.layer_norm, lambda x, g, b: F.layer_norm(x, x.shape[-1:], g, b, 0.051)),
    "tanh for erf": (functions.gelu, functions.gelu_tanh.port),
    "label smoothing": (functions.cross_entropy, lambda x, t: F.cross_entropy(x, t, label_smoothing=1e-3)),
    "a scale": (functions.sdpa, lambda q, k, v: F.scaled_dot_product_attention(q * 1.002, k, v)),
    "a mean of one less": (functions.mse, lambda x, y: F.mse_loss(x, y) * x.numel() / (x.numel() - 0.01)),
    "rounded weights": (functions.linear, lambda x, W, b: F.linear(x, W.to(torch.bfloat16).to(W.dtype), b)),
}


@pytest.mark.parametrize("pair, port", WRONG.values(), ids=WRONG)
def test_wrong_kernels_are_found(pair, port):
    wrong, lane = _replaced(pair, port), LANES["cpu-float32"]
    drawn = [case for case in (draw(wrong, 0, index) for index in range(60))
             if case.pattern in ("normal", "uniform") and case.scale > 0.1]
    found = [bool(run_case(case, [lane])[0].findings) for case in drawn]
    assert len(found) >= 10 and np.mean(found) > 0.9
