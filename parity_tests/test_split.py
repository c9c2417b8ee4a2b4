"""Products in longdouble by exact products in float64, held against sums of fractions."""

from fractions import Fraction

import numpy as np
import pytest

from parity.catalogue import CATALOGUE
from parity.judge import budget, split
from parity.judge.lanes import LANES
from parity.judge.noise import Noisy, multiplying
from parity.promises.common import standard

WIDE = np.finfo(np.longdouble)
pytestmark = pytest.mark.skipif(WIDE.nmant <= np.finfo(np.float64).nmant,
                                reason="longdouble is no wider than float64 on this platform")
UNIT = Fraction(float(WIDE.eps)) / 2
LANE = LANES["cpu-float64"]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Small products are split too."""
    monkeypatch.setattr(split, "SMALL", 0)
    monkeypatch.setattr(split, "PAYS", 0)


def normal(rng, shape):
    return rng.standard_normal(shape).astype(np.longdouble) / 3  # of more digits than float64 has


def positive(rng, shape):
    return np.exp(normal(rng, shape))


def spread(decades):
    def values(rng, shape):
        return normal(rng, shape) * np.longdouble(10) ** rng.uniform(-decades, 0, shape).astype(np.longdouble)

    return values


def sparse(rng, shape):
    return normal(rng, shape) * (rng.random(shape) < 0.2)


def exact(x):
    """The numbers of an array, of any type, as fractions."""
    high = x.astype(np.float64)
    return np.vectorize(lambda h, low: Fraction(float(h)) + Fraction(float(low)), otypes=[object])(high, x - high)


def off(found, a, b):
    """The largest error of a product, in units of u |a| |b|."""
    right, size = exact(a) @ exact(b), abs(exact(a)) @ abs(exact(b))
    assert found.dtype == np.longdouble and found.shape == right.shape
    assert not found[size == 0].any()
    shares = [abs(e) / s for e, s in zip((exact(found) - right).flat, size.flat, strict=True) if s]
    return float(max(shares, default=0) / UNIT)


def matmul(a, b):
    return split.product(np.matmul, (a, b), ((-1,), (-2,)), a.shape[-1])


def float64_only(function):
    """The function, which refuses to compute in longdouble except along axes of one entry."""
    def called(*operands):
        assert operands[0].dtype == np.float64 or operands[0].shape[-1] == 1, "it is left to longdouble"
        return function(*operands)

    return called


@pytest.mark.parametrize("values", [normal, positive, sparse, spread(3), spread(12)],
                         ids=["normal", "positive", "sparse", "3 decades", "12 decades"])
@pytest.mark.parametrize("terms", [1, 2, 17, 256, 2048])
def test_products_have_the_digits_of_longdouble(terms, values):
    rng = np.random.default_rng(terms)
    a, b = values(rng, (3, terms)), values(rng, (terms, 2))
    a[0], b[:, 0] = a[0] / 1000, b[:, 0] * 1000  # rows and columns have sizes of their own
    found = split.product(float64_only(np.matmul), (a, b), ((-1,), (-2,)), terms)
    assert off(found, a, b) <= max(1.0, off(a @ b, a, b))


def test_the_error_is_relative_to_every_single_result():
    """Rows that meet nothing of their own size."""
    rng = np.random.default_rng(0)
    a, b = normal(rng, (4, 64)), normal(rng, (64, 4))
    a[:, :32], b[:32] = a[:, :32] * 1e12, b[:32] * 1e-14
    a[0, :32] = 0
    b[32:, 1] = 0
    assert off(matmul(a, b), a, b) <= 2


@pytest.mark.parametrize("tiny", [1e-60, 1e-300, 1e-308], ids=str)
def test_what_needs_too_many_slices_is_left_to_longdouble(tiny):
    rng = np.random.default_rng(0)
    a, b = normal(rng, (3, 64)), normal(rng, (64, 3))
    a[0, 1:] *= np.longdouble(tiny) ** 2
    b[0, 0] = 0  # what row 0 has of size 1 meets nothing there
    assert np.array_equal(matmul(a, b), a @ b)


@pytest.mark.parametrize("size", ["1e4900", "1e-4900"])
def test_sizes_out_of_range_are_left_to_longdouble(size):
    rng = np.random.default_rng(0)
    a, b = (normal(rng, (8, 8)) * np.longdouble(size) for _ in range(2))
    with np.errstate(all="ignore"):
        assert np.array_equal(matmul(a, b), a @ b, equal_nan=True)
        assert off(matmul(a, b / np.longdouble(size)) / np.longdouble(size), a / np.longdouble(size),
                   b / np.longdouble(size)) <= 4  # and no others


def test_what_is_not_finite_comes_out_as_it_would():
    rng = np.random.default_rng(0)
    a, b = 1e6 * normal(rng, (6, 40)), normal(rng, (40, 5))
    a[1, 3], a[2, 4], a[4, 0], b[7, 2], b[4, 1] = np.inf, np.nan, -np.inf, -np.inf, 0
    a[5, 7], a[3] = 0, 0
    with np.errstate(all="ignore"):
        found, expected = split.product(float64_only(np.matmul), (a, b), ((-1,), (-2,)), 40), a @ b
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite], equal_nan=True) and np.isfinite(found[finite]).all()
    assert np.abs(found[finite] - expected[finite]).max() < 1e-11


def test_only_two_operands_of_the_wide_type_are_split():
    rng = np.random.default_rng(0)
    a, b = normal(rng, (5, 6)), normal(rng, (6, 5))
    kept = a.astype(np.float64)
    for operands in ((kept, kept.T), (a + 1j, b), (kept, b), (a[:0], b), (a[:, :0], b[:0])):
        assert np.array_equal(matmul(*operands), np.matmul(*operands)), [x.dtype for x in operands]
    rows = rng.integers(0, 2, (5, 6))
    for mask in (rows, rows.astype(bool)):
        assert off(split.product(float64_only(np.matmul), (mask, b), ((-1,), (-2,)), 6), mask.astype(float), b) <= 2


@pytest.mark.parametrize("call", [
    lambda a, b: a @ b.swapaxes(-1, -2), lambda a, b: a.dot(b[0].T), lambda a, b: np.dot(a[0], b.swapaxes(-1, -2)),
    lambda a, b: np.inner(a, b), lambda a, b: np.vdot(a, b), lambda a, b: np.vecdot(a, b),
    lambda a, b: np.matvec(a, b[:, 0]), lambda a, b: np.vecmat(a[:, 0], b.swapaxes(-1, -2)),
    lambda a, b: np.tensordot(a, b, ((0, 2), (0, 2))), lambda a, b: np.einsum("nik,njk->nij", a, b),
    lambda a, b: np.einsum("nik,njk->ji", a, b), lambda a, b: np.einsum("n...k,njk", a, b),
    lambda a, b: np.einsum("nii,njk->k", a[:, :, :3], b), lambda a, b: np.einsum("nik->i", a),
    lambda a, b: np.einsum("nik,njk,n->ij", a, b, a[:, 0, 0]), lambda a, b: np.linalg.multi_dot([a[0], b[0].T, a[1]]),
    lambda a, b: np.matmul(a, b[0].T, out=np.zeros_like(a, shape=(2, 3, 3))),
], ids=["matmul", "dot", "dot of 3 axes", "inner", "vdot", "vecdot", "matvec", "vecmat", "tensordot", "einsum",
        "einsum of two sums", "einsum with ellipsis", "einsum of a diagonal", "einsum of one", "einsum of three",
        "multi_dot", "out"])
def test_every_way_to_write_a_contraction_is_split(call, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (normal(rng, (2, 3, 50)) for _ in range(2))
    asked = []

    def counted(function, operands, summed, terms):
        found = split.product(function, operands, summed, terms)
        asked.append(operands)
        return found

    with multiplying(counted):
        found = call(a.view(Noisy), b.view(Noisy))
    expected = call(a, b)
    assert asked and isinstance(found, Noisy) and found.dtype == np.longdouble
    assert np.shape(found) == np.shape(expected)
    assert np.abs(found - expected).max() <= 64 * float(UNIT) * max(1, np.abs(expected).max())


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=list(CATALOGUE))
def test_an_oracle_is_the_same_with_split_products(spec, monkeypatch):
    case = standard(spec)
    data = case.data(LANE.narrow).frozen()
    expected = budget.exact(case, data, LANE)
    monkeypatch.setattr(budget, "pays", lambda *_: True)
    found = budget.exact(case, data, LANE)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert type(value) is np.ndarray and value.dtype == expected[name].dtype
        if value.dtype.kind == "f":
            assert np.abs(value - expected[name]).max() <= 2**12 * float(UNIT) * np.abs(expected[name]).max(), name
        else:
            assert np.array_equal(value, expected[name])


def test_oracles_of_real_size_have_fast_products_and_small_ones_their_own(monkeypatch):
    monkeypatch.undo()
    asked = []
    monkeypatch.setattr(budget, "product", lambda *a: asked.append(a) or split.product(*a))
    for sizes, large in (({"N": 2, "D": 3, "H": 4}, False), ({"N": 40, "D": 64, "H": 64}, True)):
        case = standard(CATALOGUE["Affine"])
        case = type(case)(case.spec, sizes, "normal", 1.0, "C", case.options, 0)
        asked.clear()
        budget.exact(case, case.data(LANE.narrow), LANE)
        assert bool(asked) == large
    assert not split.pays(np.dtype(np.float64), 1 << 30)  # what float64 has is its own
