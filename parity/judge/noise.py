"""Monte Carlo arithmetic: NumPy code run with every operation a little wrong.

An array of type ``Noisy`` multiplies the result of every inexact operation, and each operand of a
matrix product or sum, by ``1 + 2u d`` with ``d`` uniform in [-1, 1] and ``u`` the unit roundoff of
the arithmetic that is imitated. A product or sum over more than ``BLOCK`` entries is taken in blocks,
and each partial sum errs by ``sqrt(length of a block)`` times as much: what the roundings of its
additions come to. How far such copies of a computation stray from the exact one is how far an honest
computation in that arithmetic may stray.

Exact operations (``max``, ``abs``, selections, comparisons) stay exact. A tie of the run without
noise stays a tie: ``x == x.max()`` finds what it would find without noise.

Source: Parker, Monte Carlo Arithmetic, 1997; Denis, de Oliveira Castro and Petit, Verificarlo, 2016.
"""

import contextlib
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Axes = tuple[int, ...]

BLOCK = 16  # entries whose additions round less than their products do
BLOCKS = 16  # at most so many partial sums: enough for a running sum to be seen growing
EXACT = {"maximum", "minimum", "fmax", "fmin", "negative", "positive", "absolute", "fabs", "sign", "copysign", "clip",
         "conjugate", "floor", "ceil", "rint", "trunc", "fmod", "modf", "frexp", "ldexp", "nextafter", "heaviside"}
WHOLE = {"add", "subtract", "multiply"}  # exact on whole numbers, such as indices, which may be truncated afterwards
TIED = {"equal": True, "less_equal": True, "greater_equal": True, "not_equal": False, "less": False, "greater": False}
CHOICES = {np.argmax, np.argmin, np.argsort}
SORTING = {np.sort, np.argsort, np.partition, np.argpartition, np.median, np.quantile, np.percentile}
PRODUCTS = {"matmul": -2, "vecdot": -1, "matvec": -1, "vecmat": -2}  # the second operand's axis that is summed over
INEXACT_MODULES = ("numpy.linalg", "numpy.fft")
INEXACT = {np.outer, np.convolve, np.correlate, np.interp, np.trace, np.kron}
_ERRORS = np.random.Generator(np.random.PCG64(20261120)).uniform(-2, 2, 1 << 16)
_SINGLE = _ERRORS.astype(np.float32)
MIX: dict[int, Any] = {4: np.uint32(2 * 1327217885), 8: np.uint64(2 * 5700357409661599241)}  # even: they drop the sign
HALF = math.sqrt(1 / 2)
LEAST = 64  # entries of an array from which it matters that what is alike errs alike


@lru_cache(maxsize=64)
def factors(size: float, dtype: Any) -> Array:
    """The pool of factors 1 + size d, d uniform in [-2, 2], in a dtype."""
    return (1 + size * _ERRORS).astype(dtype)


class Ties:
    """What was equal in the run without noise, in the order of the calls.

    The operands of each comparison; and of the terms of each long sum, how often two of them were alike, closer than
    the spacing of numbers of the sum's size. Rounding is a function: what is alike errs alike, and does not even out.

    Attributes:
        together: whether so many terms of some sum were alike that it errs by twice what it would if none were.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any] | None] = []
        self.next: int | None = None
        self.sums: list[Any] = []
        self.sum, self.together = 0, False

    def start(self) -> None:
        """The next run goes by what was recorded."""
        self.next = self.sum = 0

    def alike(self, length: int, measure: Callable[[], Any]) -> Any:
        """How often two terms of the next sum, of so many, are alike: by entry of the result, or one number for all."""
        if self.next is None:
            found = measure()
            most = np.max(found, initial=0) * length
            self.sums.append(found if most > 1 else 0)
            self.together |= bool(most > 4)
            return 0
        self.sum += 1
        return self.sums[self.sum - 1] if self.sum <= len(self.sums) else 0

    def __call__(self, found: Any, tied: Any, outcome: Any) -> Any:
        """What a comparison gives: while recording, what it found; later, the recorded outcome where it was tied."""
        if self.next is None:
            self.calls.append((tied, outcome) if np.any(tied) else None)
            return found
        recorded = self.calls[self.next] if self.next < len(self.calls) else None
        self.next += 1
        if recorded is None or np.shape(recorded[0]) != np.shape(found):
            return found
        return np.where(recorded[0], recorded[1], found)[()]


class Turns:
    """What decisions (a comparison, the larger of two, where a number is rounded to) were made on, in order of calls.

    An honest computation may decide otherwise where noise moves the two that are compared past one another. Whether
    one of a few noisy copies does so is luck; so in copies of their own every such decision is turned, one way and
    the other.

    Attributes:
        sorted_equals: whether equals were sorted.
    """

    def __init__(self) -> None:
        self.seen: list[list[Array]] = []
        self.amounts: list[Array | None] = []
        self.next, self.sign, self.sorted_equals = 0, 0, False

    def sorting(self, x: Array, axis: int | None = -1) -> None:
        """Notes whether what is sorted holds equals: which of them comes first no difference tells."""
        ordered = np.sort(x, axis)
        self.sorted_equals |= bool((np.diff(ordered, axis=0 if axis is None else axis) == 0).any())

    def start(self, sign: int = 0) -> None:
        """The next run: one that is recorded, or one that is turned, upwards (1) or downwards (-1)."""
        self.next, self.sign = 0, sign

    def __call__(self, difference: Any) -> Array | None:
        """How far this difference is shifted in this run; None for not at all."""
        place, self.next = self.next, self.next + 1
        if not self.sign:
            self.seen += [[] for _ in range(place + 1 - len(self.seen))]
            self.seen[place].append(np.array(difference))
            return None
        amount = self.amounts[place] if place < len(self.amounts) else None
        return None if amount is None or amount.shape != np.shape(difference) else self.sign * amount

    def doubtful(self, factor: float) -> bool:
        """Whether noise that is larger by a factor might turn some decision of the runs that were recorded."""
        self.amounts = []
        for runs in self.seen:
            low, high = (reduce(f, runs) if len({r.shape for r in runs}) == 1 else np.zeros(0)
                         for f in (np.minimum, np.maximum))
            with np.errstate(all="ignore"):
                reach = (high - low) / 2
                near = (reach > 0) & (np.abs(low + high) <= 2 * factor * reach) & np.isfinite(reach)
            self.amounts.append(np.where(near, 2 * factor * reach, 0) if near.any() else None)
        return any(amount is not None for amount in self.amounts)

    def tied(self) -> bool:
        """Whether some decision of the run that was recorded was between equals."""
        if self.sorted_equals:
            return True
        self.amounts = [np.where(runs[0] == 0, np.inf, 0) if (runs[0] == 0).any() else None for runs in self.seen]
        return any(amount is not None for amount in self.amounts)


def _larger(function: Any, a: Any, b: Any) -> Any:
    """``maximum`` and ``minimum``."""
    sign = 1 if function in (np.maximum, np.fmax) else -1
    return _turned(function, (a, b), sign * np.subtract(a, b), lambda d: np.where(d > 0, a, b))


def _nearest(function: Any, x: Any) -> Any:
    """``floor`` and its kin, which jump at whole numbers or, ``rint``, between them."""
    jump = np.floor(x) + 0.5 if function is np.rint else np.rint(x)
    return _turned(function, (x,), x - jump, lambda d: function(jump + np.clip(d, -0.5, 0.5)))


def _clipped(function: Any, x: Any, low: Any, high: Any) -> Any:
    return _larger(np.minimum, _larger(np.maximum, x, low), high)


def _size(function: Any, x: Any) -> Any:
    return _turned(function, (x,), x, lambda d: np.where(d > 0, x, -x))


def _sign(function: Any, x: Any) -> Any:
    return _turned(function, (x,), x, np.sign)


def _comparison(function: Any, a: Any, b: Any) -> Any:
    return _turned(function, (a, b), np.subtract(a, b), lambda d: function(d, 0))


# decisions by ufunc: function of it and plain operands
DECISIONS: dict[str, Callable[..., Any]] = {name: function for names, function in (
    ("maximum minimum fmax fmin", _larger), ("absolute fabs", _size), ("sign", _sign), ("clip", _clipped),
    ("floor ceil trunc rint", _nearest), ("less less_equal greater greater_equal", _comparison),
) for name in names.split()}
# whether the results of what works entry by entry, and decides nothing, err
ELEMENTWISE: dict[Any, bool] = {
    ufunc: ufunc.__name__ not in EXACT for ufunc in vars(np).values() if isinstance(ufunc, np.ufunc)
    and ufunc.signature is None and ufunc.nout == 1 and ufunc.__name__ not in {*TIED, *DECISIONS}}


def _turned(function: Any, operands: tuple[Any, ...], difference: Any, chosen: Callable[[Any], Any]) -> Any:
    """``function(*operands)``, and where the difference is shifted what is chosen by the shifted one."""
    found = function(*operands)
    assert Noise.current is not None and Noise.current.turns is not None  # as ``_deciding`` says
    shift = Noise.current.turns(difference)
    return found if shift is None else np.where(shift != 0, chosen(difference + shift), found)[()]


def _deciding(ufunc: Any, raw: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a call of a ufunc is a decision that is recorded or turned."""
    return (Noise.current is not None and Noise.current.turns is not None and ufunc.__name__ in DECISIONS
            and not kwargs and len(raw) == ufunc.nin and any(map(_floating, raw))
            and not any(np.iscomplexobj(x) for x in raw))


class Noise:
    """A stream of relative errors, and the rounding of a format foreign to NumPy.

    Args:
        unit_roundoff: u of the arithmetic imitated; operations err by at most 2u. 0 for none.
        seed: text from which the stream follows.
        underflow: results come nearer to zero by twice this, and no further: what is lost where there are no
            subnormals, or by a kernel's exponential that scales by a power of two on its way.
        round: function of an array that rounds it to the format; None where the dtype itself does.
        ties: ``Ties`` to record into or to go by; None for comparisons that see the noise.
        accumulator: u in which products and sums add up, where that is finer than the format; 0 for the same.
        turns: ``Turns`` to record into, or whose decisions to turn; None for neither.
        product: how a contraction is computed, as ``split.product`` says; None for as it is called.
        subnormal: spacing of the format's smallest numbers, where results often are as small; else 0.
        lean: whether all results near those are rounded away from zero (1), towards it (-1), or either way (0): what
            vanishes or not may decide over all that follows, and few copies by chance agree about it.
    """

    current: ClassVar["Noise | None"] = None

    def __init__(self, unit_roundoff: float, seed: str, underflow: float = 0.0,
                 round: Callable[[Array], Array] | None = None, ties: Ties | None = None, accumulator: float = 0.0,
                 subnormal: float = 0.0, turns: Turns | None = None, product: Callable[..., Any] | None = None,
                 lean: int = 0) -> None:
        self.unit_roundoff = unit_roundoff
        self.position = int.from_bytes(hashlib.blake2s(seed.encode(), digest_size=4).digest(), "little")
        self.underflow = underflow
        self.round = round
        self.ties = ties
        self.accumulator = accumulator
        self.turns = turns
        self.product = product
        self.subnormal = subnormal
        self.lean = lean

    def __call__(self, x: Array, length: Any = 1) -> Array:
        """The array, each entry off by its own relative error, as ``length`` roundings add up to; in its own dtype."""
        if self.unit_roundoff:
            size = self.unit_roundoff * (1 if isinstance(length, int) and length == 1 else np.sqrt(length))
            if self.round is not None and x.dtype == np.float32:
                errors = _SINGLE[self.places(x)]
                exact, x = x, np.asarray(x * (1 + np.float32(size) * errors))
                if self.subnormal:
                    errors = self.lean * np.sign(exact) if self.lean else errors
                    x = np.where(exact == 0, exact, x + np.float32(self.subnormal / 2) * errors)
            else:
                x = self.off(x, size)
        if self.underflow:
            x = self.sunk(x)
        return x if self.round is None else self.round(x)

    def sunk(self, x: Array) -> Array:
        """The array, each entry nearer to zero by twice the underflow; those too large to lose anything as they are."""
        size = np.abs(x)
        small = size < 2 * self.underflow / np.finfo(x.dtype).eps
        if small.any():
            x = np.array(x)
            x[small] *= np.maximum(1 - 2 * self.underflow / size[small], 0)
        return x

    def partial(self, x: Array, length: Any) -> Array:
        """A partial sum, after so many more entries; not yet rounded to the format where it adds up in a finer one."""
        return self.off(x, self.accumulator * np.sqrt(length)) if self.accumulator else self(x, length)

    def places(self, x: Array) -> Array:
        """Of each entry a place in the pool of errors, the same for entries of one size: rounding is a function."""
        bits = 8 * x.itemsize
        places: Array = x.view(f"u{x.itemsize}") * MIX[x.itemsize]
        places += places.dtype.type(self.position * int(MIX[x.itemsize]) % (1 << bits))
        self.position += x.size + 1
        places >>= places.dtype.type(bits - 16)
        return places

    def off(self, x: Array, size: Any) -> Array:
        """The array, each entry off by its own relative error of at most twice this size, one number or its own."""
        if np.ndim(size):
            return np.asarray(x * (1 + size * np.resize(self.next(_ERRORS, x.size), x.shape)).astype(x.dtype))
        together = self.ties is not None and self.ties.together
        if size and together and x.size >= LEAST and x.dtype.kind == "f" and x.itemsize in MIX:
            pool = factors(size * HALF, x.dtype)  # half of it is a function of the entry
            return self.times(x, pool) * pool[self.places(x)]
        return self.times(x, factors(size, x.dtype if x.dtype.kind == "f" else x.real.dtype)) if size else x

    def times(self, x: Array, pool: Array) -> Array:
        """The array, each entry times a factor of the pool."""
        factor = self.next(pool, x.size)
        if len(factor) < x.size:
            return _times(x, factor, pool)
        return np.asarray(x * (factor if x.ndim == 1 else factor.reshape(x.shape)))

    def next(self, pool: Array, size: int) -> Array:
        """The next so many entries of a pool, or as many as there are up to its end."""
        start = self.position % len(pool)
        self.position += size + 1  # the odd one keeps repeated shapes out of step with the pool
        return pool[start : start + size]


def _times(x: Array, *factors: Array) -> Array:
    """The array, its entries in C order times some factors again and again: for one too large to have as many."""
    found = np.empty(x.shape, x.dtype)
    flat, out, at = np.ascontiguousarray(x).reshape(-1), found.reshape(-1), 0
    turns = itertools.cycle(factors)
    while at < x.size:
        some = next(turns)
        span = slice(at, at + len(some))
        np.multiply(flat[span], some[: x.size - at], out=out[span])
        at += len(some)
    return found


@contextlib.contextmanager
def noise(unit_roundoff: float, seed: str, **options: Any) -> Iterator[None]:
    """Within it, ``Noisy`` arrays err as ``Noise`` of the same arguments says."""
    if options.get("ties") is not None:
        options["ties"].start()
    before, Noise.current = Noise.current, Noise(unit_roundoff, seed, **options)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        Noise.current = before


@contextlib.contextmanager
def recording(round: Callable[[Array], Array] | None = None) -> Iterator[Ties]:
    """Within it, ``Noisy`` arrays compute without noise, and the ``Ties`` that it gives are recorded."""
    ties = Ties()
    before, Noise.current = Noise.current, Noise(0.0, "", round=round, ties=ties)
    try:
        with np.errstate(all="ignore"):
            yield ties
    finally:
        Noise.current = before


@contextlib.contextmanager
def deciding(turns: Turns, sign: int = 0) -> Iterator[None]:
    """Within it, ``Noisy`` arrays compute without noise, and decisions are recorded in ``turns``, or turned."""
    turns.start(sign)
    before, Noise.current = Noise.current, Noise(0.0, "", turns=turns)
    try:
        yield
    finally:
        Noise.current = before


@contextlib.contextmanager
def multiplying(product: Callable[..., Any]) -> Iterator[None]:
    """Within it, ``Noisy`` arrays compute without noise, and contractions by ``product``, see ``split.product``."""
    before, Noise.current = Noise.current, Noise(0.0, "", product=product)
    try:
        yield
    finally:
        Noise.current = before


class Noisy(np.ndarray[Any, np.dtype[Any]]):
    """An ndarray whose operations err by the current ``noise``, and not at all outside one."""

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        raw = [x.view(np.ndarray) if isinstance(x, Noisy) else x for x in inputs]
        if method == "__call__" and out is None and not kwargs and ufunc in ELEMENTWISE:  # nearly all calls
            result = ufunc(*raw)
            if result.dtype.kind not in "fc":
                return result
            result = np.asarray(result)
            if ELEMENTWISE[ufunc] and Noise.current and not (
                    ufunc.__name__ in WHOLE and all(map(_integral, (*raw, result)))):
                result = Noise.current(result)
            return result.view(Noisy)
        kwargs = _map(_plain, kwargs)
        if method == "at":
            return _add_at(*raw) if ufunc is np.add else ufunc.at(*raw[:-1], _perturbed(raw[-1]))
        if ufunc.__name__ in TIED and method == "__call__" and out is None:
            return _compared(ufunc, raw, kwargs)
        if method == "__call__" and _deciding(ufunc, raw, kwargs):
            result = DECISIONS[ufunc.__name__](ufunc, *raw)
        else:
            result = _operation(ufunc, method)(*raw, **kwargs)
        if out is None:
            return _map(_noisy, result)
        for target, value in zip(out, result if isinstance(result, tuple) else (result,), strict=True):
            if target is not None:
                np.copyto(_plain(target), value, casting=kwargs.get("casting", "same_kind"),
                          where=kwargs.get("where", True))
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in SORTING and Noise.current is not None and Noise.current.turns is not None:
            Noise.current.turns.sorting(_plain(args[0]), None if func in (np.median, np.quantile) else -1)
        if func in CHOICES:
            if func is np.argsort and len(args) == 1:
                kwargs.setdefault("axis", -1)
            return _chosen(func, *_map(_plain, args), **_map(_plain, kwargs))
        if func in CONTRACTIONS:
            out = kwargs.pop("out", None)
            if func is np.dot and len(args) == 3:
                *args, out = args
            result = _map(_noisy, CONTRACTIONS[func](*_map(_plain, tuple(args)), **_map(_plain, kwargs)))
            if out is None:
                return result
            _plain(out)[...] = result
            return out
        if func in INEXACT or getattr(func, "__module__", "").startswith(INEXACT_MODULES):
            args, kwargs = _map(lambda x: _perturbed(_plain(x)), (args, kwargs))
            return _map(lambda r: _noisy(_perturbed(r)), func(*args, **kwargs))
        return _map(_noisy, super().__array_function__(func, types, args, kwargs))

    # methods in C that ask no override
    def dot(self, other: Any, out: Any = None) -> Any:
        return np.dot(self, other, out)

    def argmax(self, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        return np.argmax(self, axis, out, keepdims=keepdims)

    def argmin(self, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        return np.argmin(self, axis, out, keepdims=keepdims)

    def argsort(self, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
        return np.argsort(self, axis, kind, order, stable=stable)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        return np.trace(self, *args, **kwargs)


def _operation(ufunc: Any, method: str) -> Callable[..., Any]:
    """A ufunc's method as a function of plain arrays, with its noise."""
    function: Callable[..., Any] = getattr(ufunc, method)
    if ufunc.__name__ in EXACT:
        return function
    if ufunc.__name__ in PRODUCTS:
        return partial(_product, ufunc)
    if ufunc is np.add and method != "__call__":
        return {"reduce": _sum, "accumulate": _cumsum}.get(method) or partial(_whole, function)
    if method in ("reduce", "accumulate"):
        return partial(_whole, function)
    return partial(_counted if ufunc.__name__ in WHOLE else _inexact, function)


def _inexact(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return _map(_perturbed, function(*args, **kwargs))


def _counted(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """One of ``WHOLE``."""
    result = function(*args, **kwargs)
    return result if all(map(_integral, (*args, result))) else _perturbed(result)


def _integral(x: Any) -> bool:
    """Whether all entries are whole numbers that the arithmetic holds with their neighbours."""
    if not Noise.current or not Noise.current.unit_roundoff or not _floating(x):
        return isinstance(x, (int, float)) and x == x // 1
    x = np.asarray(x)
    return (x.dtype.kind == "f" and x.size > 0 and x.flat[0] == x.flat[0] // 1 and bool(
        (np.trunc(x) == x).all() and (np.abs(x) <= 1 / Noise.current.unit_roundoff).all()))


def _whole(function: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """A chain of operations over an array, which errs as all of them together."""
    return _perturbed(function(_perturbed(x), *args, **kwargs), max(np.size(x), 1))


def blocks(length: int) -> list[slice]:
    """The slices in which so many entries are added up."""
    step = max(BLOCK, -(-length // BLOCKS))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _running(noise: Noise, parts: Iterable[tuple[Any, int]], alike: Any = 0) -> Any:
    """The sum of ``(partial result, entries added up in it)``, which errs after each; so often two of them are alike.

    Roundings that differ add up to the root of their number, those of terms that are alike to their number.
    """
    total: Any = None
    for part, length in parts:
        total = np.asarray(part if total is None else total + part)
        total = noise.partial(total, length + alike * length**2)
    return _perturbed(total) if noise.accumulator else total


@lru_cache(maxsize=64)
def shuffled(length: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64(length)).permutation(length)


def _close(x: Array, other: Array, length: int) -> Any:
    """Where two terms of a sum of so many are closer than the spacing of numbers of its size; zeros make no error."""
    return (x != 0) & (np.abs(x - other) <= length * np.finfo(x.dtype).eps / 2 * np.abs(x))


def _alike(measure: Callable[[], Any], length: int) -> Any:
    """How often two of so many terms are alike, which ``measure`` tells of those of the run without noise."""
    ties = Noise.current.ties if Noise.current else None
    return ties.alike(length, measure) if ties is not None and length > BLOCK else 0


def _contract(function: Callable[..., Any], given: Iterable[Any], along: Sequence[Axes], length: int,
              summed: Sequence[Axes] | None = None, terms: int | None = None) -> Any:
    """A function that contracts axes ``along[i]`` of operand i, all of one length, in blocks.

    It may contract others too: ``summed[i]`` are all of operand i, and ``terms`` is the number of terms of a sum.
    """
    def pairs() -> Any:
        close = [_close(x, reduce(lambda y, axis: np.take(y, shuffled(length), axis), axes, x), length)
                 for x, axes in zip(operands, along, strict=True)]
        known = all(x.dtype.kind == "f" and c.any() for x, c in zip(operands, close, strict=True))
        return function(*(c.astype(x.dtype) for x, c in zip(operands, close, strict=True))) / length if known else 0

    operands = [np.asarray(x) for x in given]
    alike = _alike(pairs, length) if all(map(_floating, operands)) else 0
    operands = [_perturbed(x) for x in operands]
    if Noise.current and Noise.current.product:
        return Noise.current.product(function, operands, summed or along, terms or length)
    if not (Noise.current and Noise.current.unit_roundoff) or length <= BLOCK:
        return _perturbed(function(*operands))

    def cut(x: Array, axes: Axes, span: slice) -> Array:
        index = [slice(None)] * x.ndim
        for axis in axes:
            index[axis] = span
        return x[tuple(index)]

    return _running(Noise.current, ((function(*(cut(x, axes, span) for x, axes in zip(operands, along, strict=True))),
                      span.stop - span.start) for span in blocks(length)), alike)


def _product(ufunc: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    """``matmul`` and its kin."""
    a, b = np.asarray(a), np.asarray(b)
    if kwargs.keys() - {"dtype", "casting", "where"} or not a.ndim or not b.ndim:  # axes=...: rare, in one block
        return _perturbed(ufunc(_perturbed(a), _perturbed(b), **kwargs))
    kwargs.pop("where", None)
    second = max(PRODUCTS[ufunc.__name__], -b.ndim)
    return _contract(lambda a, b: ufunc(a, b, **kwargs), (a, b), ((-1,), (second,)), a.shape[-1])


def _dot(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    if not a.ndim or not b.ndim:
        return _perturbed(np.dot(a, b))
    return _contract(np.dot, (a, b), ((-1,), (-min(b.ndim, 2),)), a.shape[-1])


def _inner(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    if not a.ndim or not b.ndim:
        return _perturbed(np.inner(a, b))
    return _contract(np.inner, (a, b), ((-1,), (-1,)), a.shape[-1])


def _vdot(a: Any, b: Any) -> Any:
    return _dot(np.conjugate(np.ravel(a)), np.ravel(b))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    if np.ndim(axes) == 0:
        axes = range(a.ndim - axes, a.ndim), range(axes)
    first, second = (list(np.atleast_1d(x)) for x in axes)
    if not first:
        return _perturbed(np.tensordot(a, b, (first, second)))
    longest = max(range(len(first)), key=lambda i: a.shape[first[i]])
    return _contract(lambda a, b: np.tensordot(a, b, (first, second)), (a, b),
                     ((first[longest],), (second[longest],)), a.shape[first[longest]],
                     (tuple(first), tuple(second)), math.prod(a.shape[i] for i in first))


def _einsum(subscripts: Any, *given: Any, optimize: Any = False, **kwargs: Any) -> Any:
    if not isinstance(subscripts, str):  # the form of lists of axes: rare, unblocked
        result = np.einsum(subscripts, *(_perturbed(x) for x in given), optimize=optimize, **kwargs)
        return _perturbed(result)
    operands = [np.asarray(x) for x in given]
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    letters = [c for c in inputs if c.isalpha()]
    summed = [c for c in dict.fromkeys(letters) if (c not in output if "->" in subscripts else letters.count(c) > 1)]

    def places(term: str, x: Array, letter: str) -> Axes:
        """Axes of the letter in an operand; those behind an ellipsis are counted from the end."""
        before, _, after = term.partition("...")
        found = [i for i, c in enumerate(before) if c == letter]
        return tuple(found + [i - len(after) for i, c in enumerate(after) if c == letter])

    def length(letter: str) -> int:
        return next(int(x.shape[axes[0]]) for term, x in zip(terms, operands, strict=True)
                    if (axes := places(term, x, letter)))

    def function(*xs: Array) -> Any:
        # of products in float64, by BLAS
        fast = bool(Noise.current and Noise.current.product) and xs[0].dtype == np.float64
        return np.einsum(subscripts, *xs, optimize=optimize or fast, **kwargs)

    if not summed:
        return _perturbed(function(*(_perturbed(x) for x in operands)))
    longest = max(summed, key=length)
    axes = [{letter: places(t, x, letter) for letter in summed} for t, x in zip(terms, operands, strict=True)]
    sizes = [max(x.shape[a] for x, of in zip(operands, axes, strict=True) for a in of[letter]) for letter in summed]
    return _contract(function, operands, [of[longest] for of in axes], length(longest),
                     [sum(of.values(), ()) for of in axes], math.prod(sizes))


CONTRACTIONS: dict[Any, Callable[..., Any]] = {
    np.dot: _dot, np.inner: _inner, np.vdot: _vdot, np.tensordot: _tensordot, np.einsum: _einsum,
    np.linalg.multi_dot: lambda arrays: reduce(_dot, arrays)}


def _sum(x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None,
         where: Any = True) -> Any:
    """``np.add.reduce``, over one axis or several."""
    x = np.asarray(x)
    given = {} if initial is None else {"initial": initial}
    axes = tuple(range(x.ndim)) if axis is None or not x.ndim else tuple(np.atleast_1d(axis) % x.ndim)
    length = math.prod(x.shape[a] for a in axes)

    def plain(x: Array, axis: Any) -> Any:
        return np.add.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims, where=where, **given)

    # the axes that are summed, as one behind the others
    rest = tuple(a for a in range(x.ndim) if a not in axes)

    def rows(x: Array) -> Array:
        return x.transpose(rest + axes).reshape(*(x.shape[a] for a in rest), length)

    def pairs() -> Any:
        terms = rows(x if where is True else np.where(where, x, 0))
        return _close(terms, np.take(terms, shuffled(length), -1), length).mean(axis=-1)

    alike = _alike(pairs, length) if x.dtype.kind == "f" else 0
    x = _perturbed(x)
    if not (Noise.current and Noise.current.unit_roundoff) or length <= BLOCK or x.dtype.kind not in "fc":
        return _perturbed(plain(x, axis))
    terms = rows(x if where is True else np.where(where, x, 0))
    total = _running(Noise.current, ((np.add.reduce(terms[..., span], axis=-1, dtype=dtype), span.stop - span.start)
                                     for span in blocks(length)), alike)
    total = total if initial is None else total + initial
    return np.expand_dims(total, axes) if keepdims else total


def _cumsum(x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    x = np.moveaxis(_perturbed(np.asarray(x)), axis, 0)
    found: list[Any] = []
    carry: Any = None
    for span in blocks(len(x)) if Noise.current and Noise.current.unit_roundoff else [slice(None)]:
        part = np.add.accumulate(x[span], axis=0, dtype=dtype)
        part = part if carry is None else part + carry
        found.append(_perturbed(part, max(len(part), 1)))
        carry = found[-1][-1:]
    return np.moveaxis(np.concatenate(found) if found else np.add.accumulate(x, axis=0, dtype=dtype), 0, axis)


def _add_at(target: Array, indices: Any, values: Any) -> None:
    """``np.add.at``; where many land on one entry, its running sum errs."""
    values = np.asarray(values)
    if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu" or not indices.ndim:
        values = _perturbed(values)
        np.add.at(target, indices, values)
        target[indices] = _perturbed(target[indices])
        return
    values = np.broadcast_to(values, indices.shape + target.shape[1:])

    def pairs() -> Any:
        order = np.lexsort((shuffled(indices.size), indices.ravel()))
        together = np.diff(indices.ravel()[order]) == 0
        terms = values.reshape(-1, *target.shape[1:])[order]
        close = _close(terms[1:], terms[:-1], _most(indices))[together]
        return close.mean(axis=0) if len(close) else 0

    alike = _alike(pairs, indices.size) if values.dtype.kind == "f" else 0
    values = _perturbed(values)
    for span in blocks(len(indices)):
        length = _most(indices[span])
        np.add.at(target, indices[span], values[span])
        target[indices[span]] = _perturbed(target[indices[span]], length + alike * length**2)


def _most(indices: Array) -> int:
    """How often the most frequent entry occurs: the additions that one running sum takes."""
    return int(np.unique(indices, return_counts=True)[1].max(initial=1))


def _compared(ufunc: Any, raw: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if _deciding(ufunc, raw, kwargs):
        found = DECISIONS[ufunc.__name__](ufunc, *raw)
        if Noise.current is not None and Noise.current.turns is not None and Noise.current.turns.sign:
            return found
    else:
        found = ufunc(*raw, **kwargs)
    if Noise.current is None or Noise.current.ties is None:
        return found
    tied = np.equal(*raw) if Noise.current.ties.next is None else None
    return Noise.current.ties(found, tied, TIED[ufunc.__name__])


def _chosen(func: Any, x: Array, axis: Any = None, *args: Any, **kwargs: Any) -> Any:
    """``argmax``, ``argmin`` or ``argsort``."""
    found = func(x, axis, *args, **kwargs)
    turns = Noise.current.turns if Noise.current else None
    if turns is not None and func is not np.argsort and np.size(x) and x.dtype.kind == "f":
        shift = turns(x - (np.max if func is np.argmax else np.min)(x, axis, keepdims=True))
        if turns.sign:
            return found if shift is None else func(x + shift, axis, *args, **kwargs)
    if Noise.current is None or Noise.current.ties is None:
        return found
    tied: Any = False
    if Noise.current.ties.next is None:
        ordered = np.sort(x, axis)
        along = 0 if axis is None else axis
        equal = np.diff(ordered, axis=along) == 0
        if func is not np.argsort:  # only the first two, or the last two, contend
            equal = np.take(equal, [-1 if func is np.argmax else 0] if equal.shape[along] else [], along)
        tied = np.broadcast_to(equal.any(axis=along, keepdims=np.ndim(found) == x.ndim), np.shape(found))
    return Noise.current.ties(found, tied, found)


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Noisy) else x


def _floating(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.inexact)) and x.dtype.kind in "fc"


def _perturbed(x: Any, length: Any = 1) -> Any:
    return Noise.current(np.asarray(x), length) if Noise.current and _floating(x) else x


def _noisy(x: Any) -> Any:
    return np.asarray(x).view(Noisy) if _floating(x) and not isinstance(x, Noisy) else x


def _map(function: Callable[[Any], Any], x: Any) -> Any:
    """The function over an array or over nested tuples, lists and dicts of them."""
    if isinstance(x, (tuple, list)) and not hasattr(x, "_fields"):
        return type(x)(_map(function, y) for y in x)
    if isinstance(x, dict):
        return {key: _map(function, y) for key, y in x.items()}
    return function(x)
