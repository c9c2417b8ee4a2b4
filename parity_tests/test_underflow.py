"""What underflows on the way, and is made large again: a right port may lose it, and no other may lose more."""

import numpy as np
import pytest
import torch

from parity import Pair, floats
from parity.cases.case import Case, parse
from parity.engine import run_case
from parity.judge.lanes import LANES
from parity.judge.noise import Noisy, noise

FULL = ["cpu-float64", "cpu-float32", "cpu-bfloat16"]
LARGE = {lane: 2.0 ** (500 if lane == "cpu-float64" else 60) for lane in FULL}


def tails(lane, library, size, kept=lambda y: y):
    """Numbers of about so many of the smallest normal one, times a large one; and the derivative."""
    least = float(np.finfo(LANES[lane].dtype).smallest_normal)

    def function(x):
        return kept((size + 0.5 * library.sin(x)) * least) * LARGE[lane]

    def backward(dy, x):
        return dy * LARGE[lane] * least * 0.5 * np.cos(x)

    return function, backward


def pair(lane, library, size, change):
    """What ``tails`` gives, and a port that changes its value on the way, not its derivative."""
    function, backward = tails(lane, library, size)
    port, _ = tails(lane, torch, size, lambda y: y + (change(y) - y).detach())
    return Pair("tails", function, port, {"x": "N D"}, backward=backward if library is np else None)


def findings(pair, lane):
    found = []
    for seed in range(4):
        (outcome,) = run_case(Case(pair, {"N": 5, "D": 7}, "normal", 1.0, "C", {}, seed), [LANES[lane]])
        found += outcome.findings
    return found


@pytest.mark.parametrize("lane", FULL)
@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
def test_a_port_may_lose_what_underflows_before_a_large_factor(lane, library):
    """An exponential that scales by a power of two on its way loses what is below 1.4 of the smallest normal number."""
    least = float(np.finfo(LANES[lane].dtype).smallest_normal)
    assert not findings(pair(lane, library, 1.2, lambda y: torch.where(y < 1.4 * least, 0, y)), lane)


@pytest.mark.parametrize("lane", FULL)
@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
def test_and_no_port_may_lose_more(lane, library):
    assert findings(pair(lane, library, 200, lambda y: 0.75 * y), lane)


def test_a_port_may_round_to_other_subnormals_of_float16():
    """1 is made 16 of them, exactly; no copy errs there unless the noise is there before the rounding."""
    pair = Pair("subnormals", lambda x: torch.mul(x, 2.0**-20) * 2.0**10, lambda x: x * 2.0**-20 / 3 * 3 * 2.0**10,
                {"x": floats("N D", draw=lambda rng, shape, sizes: np.ones(shape))})
    assert not findings(pair, "cpu-float16")


def test_results_come_nearer_to_zero_by_twice_what_underflows():
    least = np.finfo(np.float32).smallest_normal
    x = np.array([0, 1e-39, -1.9, 3, -8, 1e30], np.float32) * np.array([1, 1, *[least] * 3, 1], np.float32)
    with noise(2.0**-24, "test", underflow=float(least)):
        found = np.asarray(x.view(Noisy) * 1)
    assert np.allclose(found, [0, 0, 0, least, -6 * least, 1e30], rtol=1e-5, atol=0)
    with noise(2.0**-24, "test"):
        assert np.allclose(x.view(Noisy) * 1, x, rtol=1e-5, atol=1e-44)


def test_a_copy_loses_all_that_is_subnormal_in_float16_and_another_keeps_it():
    """Adam divides by the root of squares that vanish or not, as the last rounding has it."""
    outcomes = [run_case(parse(f"p2:Adam:{case}"), [LANES["cpu-float16"]])[0] for case in (
        "D=511,H=15,T=3:normal:0.1:C:lr=1.88,beta1=0.132,beta2=0.9:3023812537",
        "D=31,H=256,T=3:normal:0.1:F:lr=0.1,beta1=0.0,beta2=0.999:3149272840",
        "D=255,H=31,T=2:sparse:0.1:sliced:lr=4.0,beta1=0.0,beta2=0.9999:3813474611")]
    assert not [finding for outcome in outcomes for finding in outcome.findings]
