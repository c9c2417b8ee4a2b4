"""Monte Carlo arithmetic: the noise has the size it says, and no intermediate escapes it."""

import sys

import numpy as np
import pytest

from parity import programs
from parity.budget import measure
from parity.case import draw
from parity.catalogue import CATALOGUE
from parity.lanes import LANES
from parity.noise import Noisy, noise
from parity.programs import build, run_reference
from parity.protocol import standard

U = 2.0**-24


def noisy(*values, dtype="float32"):
    return np.array(values, dtype).view(Noisy)


def errors(function, *arrays):
    """Relative errors of a function of noisy arrays, in units of u."""
    with noise(U, "test"):
        result = np.asarray(function(*(a.view(Noisy) for a in arrays)), np.float64)
    exact = np.asarray(function(*(a.astype(np.float64) for a in arrays)))
    return (result - exact) / np.abs(exact) / U


X = np.linspace(0.5, 2, 5000, dtype=np.float32)


@pytest.mark.parametrize("function", [np.exp, np.tanh, lambda x: x * x, lambda x: x + x, np.sqrt, lambda x: 1 / x])
def test_every_operation_errs_by_up_to_two_roundoffs_and_its_own(function):
    found = errors(function, X)
    # the noise, the roundings of its factor and of the product, two units in the last place of the function
    assert 1.5 < np.abs(found).max() <= 2 + 1 + 1 + 4
    assert abs(found.mean()) < 6 * found.std() / np.sqrt(len(X)) + 0.25  # ties of x (1 - u) go to even


@pytest.mark.parametrize("function", [
    lambda x: x.sum(), lambda x: np.add.reduce(x), lambda x: x @ x, lambda x: x.dot(x),
    lambda x: np.einsum("i,i", x, x), lambda x: np.matmul(x[None], x),
])
def test_operands_of_sums_and_products_err_too(function):
    # of 5000 operands the errors add up like a random walk, beyond the noise of one result
    found = [errors(function, np.roll(X * (1 + k), k)).item() for k in range(20)]
    assert np.std(found) > 0


def test_scattered_additions_err_and_still_add():
    with noise(U, "test"):
        total = np.zeros(50, np.float32).view(Noisy)
        np.add.at(total, np.arange(98) % 49, np.ones(98, np.float32).view(Noisy))
    assert np.allclose(total[:49], 2, rtol=4 * U, atol=0) and total[49] == 0
    assert (np.asarray(total)[:49] != 2).any()


def test_in_place_operations_err():
    x = X.copy().view(Noisy)
    with noise(U, "test"):
        x *= np.float32(3)
        x[1:] += 1
    assert isinstance(x, Noisy)
    assert (np.asarray(x)[1:] != X[1:] * 3 + 1).mean() > 0.3


def test_movement_of_data_is_exact():
    x = noisy(1.0, 2.0, 3.0)
    with noise(U, "test"):
        for moved in (np.where(x > 1, x, 0), np.concatenate((x, x)), np.stack([x]), np.zeros_like(x, shape=2), x[::-1],
                      x.reshape(3, 1), np.repeat(x, 2), x.copy()):
            assert isinstance(moved, Noisy)
            assert set(np.asarray(moved).ravel().tolist()) <= {0, 1, 2, 3}


def test_subnormals_flush_where_asked():
    tiny = np.array([1e-39, 1.0], np.float32).view(Noisy)
    with noise(U, "test", underflow=float(np.finfo(np.float32).smallest_normal)):
        assert np.asarray(tiny * 1)[0] == 0
    with noise(U, "test"):
        assert np.asarray(tiny * 1)[0] > 0


def test_the_same_seed_gives_the_same_errors():
    def run(seed):
        with noise(U, seed):
            return np.asarray(np.exp(X.view(Noisy)))

    assert np.array_equal(run("a"), run("a"))
    assert not np.array_equal(run("a"), run("b"))


def float_arrays(value):
    """All floating arrays within a value of nested containers and layers."""
    if isinstance(value, (np.ndarray, np.inexact)):
        if value.dtype.kind in "fc":
            yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from float_arrays(item)
    elif isinstance(value, dict):
        yield from float_arrays(list(value.values()))
    elif type(value).__module__.startswith("reference"):
        yield from float_arrays(vars(value))


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda spec: spec.name)
def test_every_intermediate_carries_the_noise(spec, monkeypatch):
    """np.asarray, np.where, np.array and plain buffers would drop it silently."""
    plain, seen = [], set()

    def watch(frame, event, _):
        if event == "return" and "/reference/" in frame.f_code.co_filename:
            for local, value in frame.f_locals.items():
                for array in float_arrays(value):
                    seen.add(frame.f_code.co_name)
                    if not isinstance(array, Noisy):
                        plain.append((frame.f_code.co_name, local))

    def build_then_watch(*args):
        layer = build(*args)  # a model draws parameters of its own before it is given the case's
        sys.setprofile(watch)
        return layer

    monkeypatch.setattr(programs, "build", build_then_watch)
    case = standard(spec, stateful=True, given=True, masked=True, cut=1)
    data = case.data(lambda a: a.astype(np.float32)).map(lambda a: a.view(Noisy))
    with noise(U, "test"):
        sys.setprofile(None if spec.program == "layer" else watch)
        try:
            run_reference(case, data, np.zeros((2, 4), int))
        finally:
            sys.setprofile(None)
    assert seen & {"forward", "update", "clip_grads"}
    assert not plain


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda spec: spec.name)
def test_budgets_are_small_beside_the_values(spec):
    """A budget as large as what it judges would pass anything: of float32 it must be a tiny part."""
    lane = LANES["cpu-float32"]
    yardstick = measure(standard(spec), lane)
    for name, budget in yardstick.budget.items():
        size = np.sqrt(np.mean(np.square(yardstick.oracle[name])))
        assert np.sqrt(np.mean(np.square(budget))) < 1000 * U * size, name
    assert not yardstick.unstable


def test_a_copy_that_is_not_finite_is_a_finding_about_the_reference(monkeypatch):
    from parity import budget
    from parity.engine import run_case

    real = budget.run_reference

    def unstable(case, data, forced=None):
        found = real(case, data, forced)
        if isinstance(next(iter(data.inputs.values())), Noisy):
            found["y"][0] = np.inf
        return found

    monkeypatch.setattr(budget, "run_reference", unstable)
    (outcome,) = run_case(standard(CATALOGUE["Affine"]), [LANES["cpu-float32"]])
    assert [(f.check, f.quantity, f.verdict) for f in outcome.findings] == [("stable", "y", "reference")]


def test_the_oracle_is_wider_than_the_lane():
    case = draw(CATALOGUE["TimeLSTM"], 0, 0)
    for lane in (LANES["cpu-float32"], LANES["cpu-float64"]):
        yardstick = measure(case, lane)
        assert all(value.dtype == lane.oracle for value in yardstick.oracle.values())
        assert np.finfo(lane.oracle).nmant > np.finfo(lane.dtype).nmant
