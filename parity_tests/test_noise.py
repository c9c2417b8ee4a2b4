"""Monte Carlo arithmetic: the noise has the size it says, and no intermediate escapes it."""

import sys

import numpy as np
import pytest

from parity.cases.case import Case
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.judge.budget import measure
from parity.judge.compare import compare, worst
from parity.judge.lanes import LANES
from parity.judge.noise import Noisy, noise, recording
from parity.promises import standard
from parity.sides import run_port, run_reference, textbook
from parity.sides.textbook import build

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


@pytest.mark.parametrize("function", [
    lambda x: np.maximum(x, 1), lambda x: np.minimum(x, 1), lambda x: -x, np.abs, np.fabs, np.sign, np.floor, np.ceil,
    np.rint, np.trunc, lambda x: np.clip(x, 0.7, 1), lambda x: x.clip(0.7, 1),
    lambda x: x.max(),
    lambda x: x.min(axis=0), lambda x: np.maximum.accumulate(x), lambda x: np.copysign(x, -1),
    lambda x: np.fmod(x, 1), np.sort, lambda x: np.ldexp(x, 3), lambda x: np.where(x > 1, x, -x), np.positive,
    lambda x: np.heaviside(x, 0),
])
def test_exact_operations_are_exact(function):
    x = (X[:-1] - 1).astype(np.float32)
    with noise(U, "test"):
        found = function(x.view(Noisy))
    assert isinstance(found, Noisy)
    assert np.array_equal(np.asarray(found), function(x))


@pytest.mark.parametrize("function", [lambda x: np.floor(x) + 1, lambda x: 1 - np.ceil(x), lambda x: 3 * np.rint(x),
                                      lambda x: np.trunc(x) + np.floor(x)])
def test_sums_and_products_of_whole_numbers_are_exact(function):
    x = (8 * X).astype(np.float32)
    with noise(U, "test"):
        found = function(x.view(Noisy))
    assert np.array_equal(np.asarray(found), function(x))


@pytest.mark.parametrize("function", [
    lambda x, y: (x + y).sum(), lambda x, y: np.mean(x + y), lambda x, y: x @ y, lambda x, y: np.einsum("i,i->", x, y),
    lambda x, y: np.tensordot(x, y, 1), lambda x, y: np.dot(x, y), lambda x, y: np.inner(x, y),
    lambda x, y: np.vdot(x, y),
    lambda x, y: x.cumsum(), lambda x, y: np.linalg.norm(x), lambda x, y: np.outer(x, y), lambda x, y: np.vecdot(x, y),
    lambda x, y: np.matmul(x, y[:, None]), lambda x, y: np.add.reduce(x[:, None], axis=(0, 1)),
    lambda x, y: np.add.reduceat(x, [0, 100]), lambda x, y: np.convolve(x, y[:9]),
    lambda x, y: np.logaddexp.reduce(x),
    lambda x, y: np.einsum("...i,i", x, y), lambda x, y: np.trace(x[:2500].reshape(50, 50)),
    lambda x, y: np.prod(x[:60]),
    lambda x, y: x.reshape(50, 100).sum(axis=(0, 1), keepdims=True), lambda x, y: np.sum(x, where=x > 1, initial=1.0),
    lambda x, y: np.linalg.multi_dot([x.reshape(50, 100), y.reshape(100, 50), x[:50]]), lambda x, y: np.std(x),
    lambda x, y: np.einsum("ij,kj->ik", x.reshape(2, -1), y.reshape(2, -1)),
    lambda x, y: np.add.reduce(x, out=np.empty((), np.float32)), lambda x, y: np.matmul(x, y, out=np.empty((), "f4")),
])
def test_every_form_of_a_sum_errs_and_stays_near(function):
    x = X * np.where(np.arange(len(X)) % 3, np.float32(1), np.float32(1.5))
    found = errors(function, x, x[::-1].copy())
    assert np.abs(found).max() > 0
    assert np.abs(found).max() < 8 * np.sqrt(len(x))


@pytest.mark.parametrize("lane", ["cpu-float32", "cpu-float64"])
@pytest.mark.parametrize("name, sizes", [
    ("Affine", {"N": 2048, "D": 5, "H": 4}), ("Affine", {"N": 3, "D": 4097, "H": 2}),
    ("TimeAffine", {"N": 64, "T": 29, "D": 3, "H": 3}), ("Embedding", {"N": 3000, "V": 2, "D": 3}),
    ("WeightSum", {"N": 2, "T": 2000, "H": 3}), ("Softmax", {"...": (2,), "V": 5000}),
])
def test_the_share_of_right_results_does_not_grow_with_the_length_of_a_sum(name, sizes, lane):
    """With noise on operands and result alone, 117 % at N 2,048 and 380 % at 16,384: false alarms."""
    for seed in range(3):
        case, lane_ = Case(CATALOGUE[name], sizes, "normal", 1.0, "C", {}, seed), LANES[lane]
        yardstick = measure(case, lane_)
        for side in (yardstick.reference, run_port(case, yardstick.data, lane_)):
            for quantity, share in compare(yardstick, side).items():
                assert worst(share)[0] < 0.6, quantity


@pytest.mark.parametrize("compared", [np.equal, np.greater_equal, np.less, np.not_equal, np.argmax, np.argmin,
                                      np.argsort])
def test_a_tie_without_noise_is_a_tie_with_it(compared):
    """A mask by equality, ``(x * w == (x * w).max())``, is what every max pooling's backward is made of."""
    x = np.repeat(X[:50], 4).reshape(50, 4)[:, ::-1].view(Noisy)

    def chosen():
        both = [x * np.float32(1.1), x * np.float32(1.1)]
        return compared(*both) if compared.nin == 2 else compared(both[0]) if compared is np.argsort else \
            compared(both[0], axis=1)

    compared = compared if isinstance(compared, np.ufunc) else _named(compared)
    with recording() as ties:
        expected = np.asarray(chosen())
    with noise(U, "test"):
        assert not np.array_equal(chosen(), expected)
    for number in range(3):
        with noise(U, f"test {number}", ties=ties):
            assert np.array_equal(chosen(), expected)


def _named(function):
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    call.nin = 1
    return call


def test_what_is_no_tie_is_compared_as_it_is():
    x = X.view(Noisy)
    with recording() as ties:
        assert not (x * x > x * x * np.float32(1 + 2**-22)).any()
    with noise(2.0**-10, "test", ties=ties):
        assert (x * x > x * x * np.float32(1 + 2**-22)).any()


def test_the_run_without_noise_has_the_bits_of_plain_arrays():
    for spec in CATALOGUE.values():
        case = standard(spec)
        yardstick = measure(case, LANES["cpu-float32"])
        plain = run_reference(case, yardstick.data, yardstick.forced)
        assert all(np.array_equal(plain[name], value, equal_nan=True) for name, value in yardstick.reference.items())


def test_a_right_multi_head_attention_has_finite_budgets():
    """Its explicit softmax was called "not finite" by the hundred while ``maximum`` erred."""
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e2, 1e4):
        q, k, v = (scale * rng.standard_normal((2, 3, 6, 4)).astype(np.float32) for _ in range(3))

        def attention(q, k, v):
            s = q @ np.swapaxes(k, -1, -2)
            e = np.exp(s - np.maximum.reduce(s, axis=-1, keepdims=True))
            return (e / e.sum(axis=-1, keepdims=True)) @ v

        for seed in range(20):
            with noise(U, str(seed)):
                assert np.isfinite(attention(*(a.view(Noisy) for a in (q, k, v)))).all()
                e = np.exp(q.view(Noisy) - q.view(Noisy).max(axis=-1, keepdims=True))
                assert (np.asarray(e) <= 1 + 8 * U).all()


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

    monkeypatch.setattr(textbook, "build", build_then_watch)
    case = standard(spec, stateful=True, given=True, masked=True, cut=1)
    data = case.data(lambda a: a.astype(np.float32)).map(lambda a: a.view(Noisy))
    with noise(U, "test"):
        sys.setprofile(None if spec.side == "textbook" else watch)
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


@pytest.mark.parametrize("actual", [True, False])
def test_not_finite_is_said_of_the_actual_run_only(monkeypatch, actual):
    from parity.engine import run_case
    from parity.judge import budget
    from parity.judge.noise import Noise

    real = budget.run_reference

    def unstable(case, data, forced=None):
        found = real(case, data, forced)
        if Noise.current and (Noise.current.unit_roundoff == 0) is actual:
            found["y"][0] = np.inf
        return found

    monkeypatch.setattr(budget, "run_reference", unstable)
    (outcome,) = run_case(standard(CATALOGUE["Affine"]), [LANES["cpu-float32"]])
    expected = [("stable", "y", "reference")] if actual else []
    assert [(f.check, f.quantity, f.verdict) for f in outcome.findings] == expected


def test_the_oracle_is_wider_than_the_lane():
    case = draw(CATALOGUE["TimeLSTM"], 0, 0)
    for lane in (LANES["cpu-float32"], LANES["cpu-float64"]):
        yardstick = measure(case, lane)
        assert all(value.dtype == lane.oracle for value in yardstick.oracle.values())
        assert np.finfo(lane.oracle).nmant > np.finfo(lane.dtype).nmant
