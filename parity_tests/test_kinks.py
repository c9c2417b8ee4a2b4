"""Where a function has a kink, a tie or a jump, or a computation overflows: right pairs are right whatever the luck."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from parity import Pair
from parity.cases.case import parse
from parity.cases.drawing import draw
from parity.engine import run_case
from parity.judge.budget import FACTOR, measure
from parity.judge.lanes import LANES
from parity.judge.noise import Noisy, Turns, deciding
from parity.judge.noise_torch import TorchNoise
from parity.judge.witness import Differentiator
from parity.spec.catalogue import Catalogue

from . import kinky

X = {"x": "N D"}


def findings(pair, count=3, lanes=("cpu-float64", "cpu-float32", "cpu-bfloat16", "cpu-float16"), seed=0):
    found = []
    for name in lanes:
        lane = LANES[name]
        for index in range(count):
            (outcome,) = run_case(draw(pair, seed, index, lane.admits), [lane])
            found += outcome.findings
    return found


@pytest.mark.parametrize("pair", kinky.PAIRS, ids=lambda pair: pair.name)
def test_right_pairs_are_right(pair):
    lanes = ["cpu-float64", "cpu-float32", "cpu-bfloat16"] + ["cpu-float16"] * (pair.name not in kinky.NARROW)
    found = findings(pair, 2, lanes)
    assert not found, "\n".join(map(str, found))


def derivative(function, **point):
    point = {name: np.asarray(a, np.float64) for name, a in point.items()}
    outputs = function(point)
    witness = Differentiator(lambda at: tuple(np.asarray(y) for y in function(at)), point,
                             [np.ones(np.shape(y)) for y in outputs])
    return witness.at_kinks().elementwise()


@pytest.mark.parametrize("distance", 2.0 ** -np.arange(2, 40, 2.5))
def test_a_derivative_beside_a_kink_is_as_good_as_it_says(distance):
    def huber(at):
        a = np.abs(at["x"])
        return (np.where(a < 1, at["x"] * at["x"] / 2, a - 0.5),)

    x = np.array([1 - distance, 1 + distance, -1 + distance / 3])
    found = derivative(huber, x=x)
    assert (np.abs(found.values["x"] - np.clip(x, -1, 1)) <= 20 * found.errors["x"] + 1e-18).all()
    assert (found.errors["x"] < 1e-3 * min(1, 100 * distance) + 1e-8).all()


def test_at_a_kink_any_slope_between_both_sides_is_a_derivative():
    found = derivative(lambda at: (np.maximum(at["x"], 0), np.abs(at["x"])), x=[-1.0, 0.0, 0.0, 2.0])
    assert found.gaps["x"].round(6).tolist() == [0, 3, 3, 0]
    assert found.values["x"].round(6).tolist() == [-1, 0.5, 0.5, 2]


def test_kinks_that_cancel_are_kinks():
    found = derivative(lambda at: (np.maximum(at["x"], 0) - np.maximum(-at["x"], 0) + 0 * np.abs(at["x"]),),
                       x=[0.0, 1.0])
    assert found.values["x"].round(6).tolist() == [1, 1] and found.gaps["x"].round(6).tolist() == [2, 0]


def test_a_kink_that_nothing_passes_through_is_none():
    found = derivative(lambda at: (np.maximum(np.maximum(at["x"], 0), 0) + np.abs(at["x"]),), x=[-1.0, 2.0])
    assert found.gaps["x"].tolist() == [0, 0]


def test_equals_in_sorted_order_are_not_judged():
    found = derivative(lambda at: (np.sort(np.abs(at["x"]))[1],), x=[2.0, 2.0, 2.0])
    assert np.isinf(found.gaps["x"]).all()


def test_a_complex_step_is_confirmed_where_the_curve_is_steep():
    """RMSNorm of a row of zeros: its slope lives over lengths of sqrt(eps) alone."""
    x = np.zeros((2, 4))
    x[1] = 100
    found = derivative(lambda at: (at["x"] / np.sqrt((at["x"] ** 2).mean(-1, keepdims=True) + 1e-6),), x=x)
    assert found.method == "complex step"
    assert np.allclose(found.values["x"][0], 1e3)


@pytest.mark.parametrize("lost", [lambda x: x.real + 0 * x, lambda x: np.abs(x) * np.sign(x.real) + 0 * x,
                                  lambda x: x.real ** 2 + 1e-9 * x])
def test_a_complex_step_that_is_silently_lost_is_refused(lost):
    rng = np.random.default_rng(0)
    found = derivative(lambda at: (lost(at["x"]) * (1 + 0 * at["x"]),), x=rng.standard_normal(5))
    assert found.method.startswith("central differences")


def test_an_overflowing_reference_is_the_only_one_accused():
    pair = Pair("over", lambda x: torch.exp(8 * x) / torch.exp(8 * x).sum(-1, keepdim=True),
                lambda x: torch.softmax(8 * x, -1), X, scales=(1.0,), patterns=())
    found = findings(pair, 20, ["cpu-float16"])
    assert found and {f.check for f in found} == {"stable"}


class NotANumber(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return dy * float("nan")


def test_a_gradient_of_nans_is_a_finding_though_nobody_knows_its_budget():
    pair = Pair("nan", lambda x: 2 * x, NotANumber.apply, X, ranges={"N": (3,)})
    found = findings(pair, 2)
    assert len(found) == 8 and {(f.check, f.quantity, f.share) for f in found} == {("port", "grad.x", np.inf)}
    right = replace(pair, name="right", port=Doubled.apply)
    case = draw(right, 0, 0)
    (outcome,) = run_case(case, [LANES["cpu-float32"]])
    assert not outcome.findings and "not made of torch's own operations" in outcome.untested["grad.x"]


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return torch.from_numpy(2 * dy.numpy()) if dy.dtype != torch.bfloat16 else 2 * dy


# --- decisions that noise might turn ---------------------------------------------------------------

BESIDE = [1e-9, 1.0, -1e-9, -3.0]


@pytest.mark.parametrize("function, expected", [
    (lambda x: x > 0, [[1, 1, 1, 0], [0, 1, 0, 0]]),
    (lambda x: np.less_equal(x, 0), [[0, 0, 0, 1], [1, 0, 1, 1]]),
    (lambda x: np.maximum(x, 0) / x, [[1, 1, 1, 0], [0, 1, 0, 0]]),
    (lambda x: np.abs(x) / x, [[1, 1, 1, -1], [-1, 1, -1, -1]]),
    (np.sign, [[1, 1, 1, -1], [-1, 1, -1, -1]]),
    (np.floor, [[0, 1, 0, -3], [-1, 1, -1, -3]]),
    (lambda x: np.clip(x, 0, 9) / x, [[1, 1, 1, 0], [0, 1, 0, 0]]),
    (lambda x: np.argmax(np.stack((x, 0 * x)), 0), [[1, 0, 0, 1], [0, 0, 1, 1]]),
])
def test_decisions_that_noise_might_turn_are_turned_both_ways(function, expected):
    turns, x = Turns(), np.array(BESIDE)
    for shift in (1e-9, -1e-9, 1e-10):  # what noise does to it
        with deciding(turns), np.errstate(all="ignore"):
            function((x + shift * (np.abs(x) < 1)).view(Noisy))
    assert turns.doubtful(FACTOR)
    for sign, values in zip((1, -1), expected, strict=True):
        with deciding(turns, sign), np.errstate(all="ignore"):
            found = np.asarray(function(x.view(Noisy)))
        assert np.allclose(found, values, atol=1e-6)


@pytest.mark.parametrize("function", [
    lambda x: torch.relu(x).sum(), lambda x: (x * (x > 0)).sum(), lambda x: x.clamp(min=0).sum(),
    lambda x: F.leaky_relu(x, 0.1).sum(), lambda x: F.hardtanh(x, 0, 9).sum(), lambda x: x.abs().sum(),
    lambda x: torch.stack((x, 0 * x)).max(0).values.sum(), lambda x: torch.where(x.sign() > 0, x, 0 * x).sum(),
])
def test_decisions_of_torch_are_turned_both_ways(function):
    turns, x = Turns(), torch.tensor(BESIDE, dtype=torch.float64)

    def gradient(shift, sign=0):
        turns.start(sign)
        at = (x + shift * (x.abs() < 1)).requires_grad_()
        with TorchNoise(None, turns):
            y = function(at)
            y.backward()
        return at.grad

    for shift in (1e-9, -1e-9, 1e-10):
        plain = gradient(shift)
    assert turns.doubtful(FACTOR)
    up, down = gradient(1e-10, 1), gradient(1e-10, -1)
    for place in (0, 2):
        assert up[place] != down[place]
    assert torch.equal(up[[1, 3]], plain[[1, 3]]) and torch.equal(down[[1, 3]], plain[[1, 3]])


def test_what_noise_might_turn_is_allowed_for_whatever_its_copies_did():
    """A ReLU beside its kink: bfloat16 of another order of summation decides the other way."""
    pair = Pair("beside", lambda x, W: (np.maximum(x @ W, 0), (x, W, x @ W > 0)), lambda x, W: F.relu(x @ W),
                {"x": "N D", "W": "D H"}, backward=lambda dy, c: ((dy * c[2]) @ c[1].T, c[0].T @ (dy * c[2])),
                ranges={"N": (4,), "D": (8,), "H": (16,)}, scales=(1.0,), patterns=())
    lane, turned, alone = LANES["cpu-bfloat16"], 0, 0
    for index in range(24):
        case = draw(pair, 0, index, lambda case: case.pattern == "normal")
        yardstick = measure(case, lane)
        y = case.data(lane.narrow).inputs["x"].astype(np.float64) @ case.data(lane.narrow).inputs["W"]
        near = np.abs(y) < 2.0**-5
        flipped = yardstick.data.cotangents["y"] * near
        wrong = yardstick.oracle["grad.x"] - (flipped * (2 * (y > 0) - 1)) @ yardstick.data.inputs["W"].T
        turned += near.sum()
        alone += (np.abs(wrong - yardstick.oracle["grad.x"]) > yardstick.budget["grad.x"]).sum()
    assert turned > 3 and not alone


def test_an_integer_output_that_noise_might_turn_is_not_held_against_anybody():
    pair = Pair("choice", lambda x, W: (x @ W).argmax(-1), lambda x, W: (x @ W).argmax(-1),
                {"x": "N D", "W": "D H"}, ranges={"N": (64,), "D": (8,), "H": (16,)}, scales=(1.0,), patterns=())
    lane = LANES["cpu-bfloat16"]
    yardstick = measure(draw(pair, 0, 0, lambda case: case.pattern == "normal"), lane)
    assert 0 < yardstick.unsure["y"].mean() < 0.5
    found = findings(pair, 8, ["cpu-bfloat16"])
    assert not found
    wrong = replace(pair, name="wrong", port=lambda x, W: (x @ W).argmin(-1))
    assert findings(wrong, 2, ["cpu-bfloat16"])


def test_the_issues_own_cases():
    for pair, case_id in ((kinky.huber, "p2:huber:N=5,D=5:wide:0.1:F::1371143147"),
                          (kinky.rms, "p2:rms:N=3,T=5,D=4:sparse:100:reversed::2421112441")):
        (outcome,) = run_case(parse(case_id, Catalogue.of([pair])), [LANES["cpu-float64"]])
        assert not outcome.findings and outcome.shares["grad.x"] is not None
