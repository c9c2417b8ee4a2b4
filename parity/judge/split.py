"""Products in the type of an oracle by products in float64, which have a BLAS and here round nothing.

Each operand is cut into slices of so few digits that a product of two slices is exact in float64, however it is
added up; the products of slices are added in the wide type.

Source: Ozaki, Ogita, Oishi and Rump, Error-free transformations of matrix multiplication by using fast routines of
matrix multiplication and its applications, Numerical Algorithms 59, 2012.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DIGITS = 53  # of float64
SMALL = 1 << 17  # multiplications of a product that is left to the wide type
PAYS = 20  # multiplications an entry, of operands and result, from which cutting it into slices costs less than they do
MOST = 8  # slices of an operand


def pays(dtype: Any, entries: int) -> bool:
    """Whether computations in a type that start from so many entries may have products for ``product``.

    Of one of m n k multiplications, the operands and the result, of m k, k n and m n entries, have (m n k)^2 in their
    product, so one of them has at least (m n k)^(2/3).
    """
    return np.finfo(dtype).nmant >= DIGITS and entries >= SMALL ** (2 / 3)


def product(function: Callable[..., Any], operands: Sequence[Array], summed: Sequence[tuple[int, ...]],
            terms: int) -> Any:
    """A sum of products of two operands, such as ``matmul``, with the digits of their type, wider than float64.

    With k terms a sum, slices have b = floor((53 - ceil(log2 k)) / 2) digits: the q-th of an operand whose largest
    entry along the summed axes is below 1 is a multiple of 2^(-qb), and at most 1 (q = 1) or 2^(-(q-1)b) / 2. A sum
    of k products of slices i and j is then a multiple of 2^(-(i+j)b), at most 2^53 times that: exact in float64, in
    any order. With s slices the products of i + j <= s + 1 are taken, s (s + 1) / 2 of them; those left out come to at
    most k (s + 3) / 4 2^(-sb). s is the least for which that is at most u |a| |b| for every entry of the result,
    |a| |b| being the same sum of absolute values and u the unit roundoff of the type. With what adding up rounds, from
    the smallest to the largest, the error is at most (1 + 9 s (s + 1) / 2) u |a| |b|, whatever k is (slices, rounded
    to nearest, have together up to three times the size of their entry); k terms that are added up one by one in the
    wide type may err by k u |a| |b|, and do by about as much as this, where their signs are random.

    What needs more than ``MOST`` slices, because entries of very different sizes meet, is left to the type itself; so
    are sums of few terms, operands of other types, and sizes out of its range. Entries that are not finite come out
    as in float64.

    Args:
        function: of the two operands; linear in each.
        operands: two arrays.
        summed: of each operand, the axes that are summed over.
        terms: number of terms of a sum.
    """
    wide = np.result_type(*operands)
    if len(operands) != 2 or wide.kind != "f" or np.finfo(wide).nmant < DIGITS or not all(
            x.size and (x.dtype.kind in "iub" or x.dtype == wide) for x in operands) or (
            math.prod(x.size for x in operands) <= SMALL * terms):
        return function(*operands)
    sides, sizes = zip(*(_scaled(np.asarray(x, wide), axes) for x, axes in zip(operands, summed, strict=True)),
                       strict=True)
    back = np.asarray(function(*sizes))
    if back.size * terms <= max(SMALL, PAYS * (back.size + sum(x.size for x in operands))):
        return function(*operands)
    finite = [np.where(np.isfinite(x), x, 0) if not np.isfinite(x).all() else x for x in sides]
    digits = (DIGITS - math.ceil(math.log2(terms))) // 2
    count = _count(function, finite, digits, float(np.finfo(wide).eps) / 2 / terms)
    if count is None or not (np.isfinite(back) & (back > 0)).all():
        return function(*operands)
    first, second = ([*_slices(x, digits, count)] for x in finite)
    pairs = [(i, j) for i in range(len(first)) for j in range(len(second)) if i + j < count]
    total = np.zeros(back.shape, wide)
    for i, j in sorted(pairs, key=sum, reverse=True):
        total += function(first[i], second[j])
    total *= back
    if any(one is not other for one, other in zip(finite, sides, strict=True)):
        rough = function(*(x.astype(np.float64) for x in sides))
        total = np.where(np.isfinite(rough), total, rough)
    return total


def _scaled(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """The array below 1 along some axes, and the powers of 2 that were taken out, with those axes of size 1."""
    sizes = np.abs(x)
    most = np.max(sizes, axis=axes, keepdims=True, where=np.isfinite(sizes), initial=0)
    exponents = np.frexp(most)[1]
    return x * np.ldexp(np.ones_like(most), -exponents), np.ldexp(np.ones_like(most), exponents)


def _count(function: Callable[..., Any], operands: Sequence[Array], digits: int, unit: float) -> int | None:
    """Into how many slices the operands, below 1, are cut; None where ``MOST`` leave out more than ``unit`` a term."""
    sizes = [np.abs(x).astype(np.float64) for x in operands]
    near = np.asarray(function(*sizes))
    if not near.all() and np.any(function(*((x != 0).astype(np.float64) for x in operands))[near == 0]):
        return None  # entries so small that float64 has them not
    least = near.min(where=near > 0, initial=np.inf)
    return next((s for s in range(2, MOST + 1) if (s + 3) / 4 * 2.0 ** (-s * digits) <= unit * least), None)


def _slices(x: Array, digits: int, count: int) -> Iterator[Array]:
    """The slices of an array below 1, in float64; fewer where nothing is left."""
    rest, part = x.copy(order="K"), np.empty_like(x)
    for q in range(1, count + 1):
        # added to it, an entry is rounded to a multiple of 2^(-q digits)
        shift = np.ldexp(x.dtype.type(1.5), np.finfo(x.dtype).nmant - q * digits)
        np.add(rest, shift, out=part)
        np.subtract(part, shift, out=part)
        yield part.astype(np.float64)
        np.subtract(rest, part, out=rest)
        if not rest.any():
            return
