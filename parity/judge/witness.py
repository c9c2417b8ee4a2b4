"""The numerical derivative of any function of arrays: a witness that asks no one's backward.

Where the code is analytic and keeps complex numbers, the complex step gives derivatives to the last
digit; elsewhere central differences, extrapolated after Ridders, in the widest dtype that the code
keeps. Arrays of many entries are differentiated along random directions instead of entry by entry.

Source: Squire and Trapp 1998 (complex step); Ridders 1982 (extrapolation).
"""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..spec.results import Arrays
from .noise import Noisy, Turns, deciding, noise, recording

Function = Callable[[Arrays], tuple[Any, ...]]
LIMIT = 2000  # entries up to which every one is differentiated by itself
DIRECTIONS = 16  # random directions for an array of more entries: never one vector alone
WIDE = 1 << 17  # entries in all past which longdouble, which has no fast products, is left out
STACKED = 256  # perturbed copies of the batch in one call, where samples are independent
# of its estimated errors, a numerical derivative may be off: an estimate, the least of a tableau, may be small by luck,
# so none counts for less than the median of its array; then 43,200 entries of four functions were off by at most 21
DOUBT = 32
NEARER = 2.0**-10  # of the ordinary steps, where a kink is suspected
IMAGINARY = 1e-30  # complex step: so small that its square vanishes beside any real part
SHORTER = tuple(2.0**-k for k in (0, 4, 8, 12, 16, 20))  # of the ordinary steps, tried in turn until they converge
ROUGH = 1e-2  # of its size, the most that central differences which confirm a complex step may be off
CONVERGED = 64  # roundoffs of the outputs over the step, within which a tableau has converged
SAME = 0.01  # of a gap: what two steps may differ in it at one kink
KINKED = 1024  # of these, above which slopes to both sides tell a kink from rounding
LEVELS = 5  # central differences at steps h, h/2, ... of one Ridders tableau
FIRST_STEP = {"float32": 2.0**-3, "float64": 2.0**-5, "longdouble": 2.0**-6}
AGREE = (2e-3, 1e-6)  # relative, of complex step and central differences along one direction: in float32, wider
COMPLEX_WARNING = getattr(np, "exceptions", np).ComplexWarning


@dataclass
class Derivative:
    """Derivatives of ``sum(cotangent * output)``.

    Attributes:
        method: ``complex step``, or ``central differences in`` a dtype.
        why: why not by complex step; empty where it was.
        values: by name, entry by entry, for the arrays that are small enough.
        errors: estimated error of each value.
        directions: by name, ``(vectors (k, *shape), values (k,), errors (k,))`` for the others.
        gaps: by name, of each value or along each direction, by how much the slopes to both sides differ: at a kink
            any value between them is a derivative.
        stacked: whether perturbations were stacked along the batch axis.
    """

    method: str
    why: str = ""
    values: Arrays = field(default_factory=dict)
    errors: Arrays = field(default_factory=dict)
    directions: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
    gaps: Arrays = field(default_factory=dict)
    stacked: bool = False


class Differentiator:
    """Differentiates one function at one point; finds out once which method its code admits.

    Args:
        function: of a dict from name to array, to a tuple of arrays; called with other dtypes than the
            point's own, and, for stacked perturbations, with longer first axes.
        point: dict from name to array, float64 or not floating at all.
        cotangents: one for each output, float64.
        seed: of the random directions.
        batched: names of the arrays that share a leading batch axis with every output; () for none.
        roundoff: unit roundoff of the function's own arithmetic, where that is coarser than its dtype's.
    """

    def __init__(self, function: Function, point: Arrays, cotangents: tuple[Any, ...], seed: int = 0,
                 batched: Iterable[str] = (), roundoff: float = 0.0) -> None:
        self.function, self.point, self.cotangents = function, point, cotangents
        self.rng = np.random.default_rng([seed, 3])
        self.array: type[NDArray[Any]] = np.ndarray
        self.shrink, self.roundoff = 1.0, roundoff
        self.outputs: dict[np.dtype[Any] | None, tuple[Any, ...]] = {}
        self.turns: Turns | Literal[False] | None = False  # see ``at_kinks``
        self.sign = 0
        self.names = [name for name, a in point.items() if a.dtype.kind == "f"]
        self.dtype: np.dtype[Any] = np.dtype(np.complex128)
        self.why = ""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", COMPLEX_WARNING)
                self._try_complex()
        except Exception as error:  # whatever somebody's code does with complex numbers
            self.why = self.why or f"{type(error).__name__}: {error}".splitlines()[0]
            self.dtype = self._widest()
        self.batched = tuple(batched) if batched and self._independent(batched) else ()

    @property
    def method(self) -> str:
        name = "longdouble" if self.dtype == np.longdouble and np.longdouble != np.float64 else self.dtype.name
        return "complex step" if self.dtype.kind == "c" else f"central differences in {name}"

    def at_kinks(self) -> Self:
        """From now on the gaps count what decides between equals anywhere in the function; the same object."""
        self.turns = None
        return self

    @cached_property
    def _real(self) -> np.dtype[Any]:
        """The dtype of differences."""
        return self.dtype if self.dtype.kind == "f" else self._widest()

    def elementwise(self, names: Iterable[str] | None = None, limit: int = LIMIT) -> Derivative:
        """The derivative by every entry of the named arrays, or along directions where they are many."""
        found = Derivative(self.method, self.why, stacked=bool(self.batched))
        for name in self.names if names is None else names:
            if self.point[name].size > limit:
                vectors, values, errors, found.gaps[name] = self._along(name, DIRECTIONS)
                found.directions[name] = vectors, values, errors
            else:
                found.values[name], found.errors[name], found.gaps[name] = self._entries(name)
        return found

    def along(self, name: str, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Derivatives along random directions of signs: vectors, values, errors."""
        return self._along(name, count)[:3]

    def _along(self, name: str, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        shape = self.point[name].shape
        vectors = self.rng.choice((-1.0, 1.0), (count, *shape)) * self.rng.uniform(0.5, 1.5, (count, *shape))
        values, errors, gaps = np.array([self._direction({name: v}) for v in vectors]).reshape(count, 3).T
        return vectors, values, _unlucky(errors), gaps

    def direction(self, vectors: Arrays) -> tuple[float, float]:
        """The derivative along one direction in several arrays at once, and its estimated error."""
        return self._direction(vectors)[:2]

    def _direction(self, vectors: Arrays) -> tuple[float, float, float]:
        if self.dtype.kind == "c":
            moved = {n: self.point[n] + 1j * IMAGINARY * v for n, v in vectors.items()}
            terms = self._terms(self._outputs(self._cast(np.complex128) | moved))
            rounding = np.finfo(np.float64).eps / 2 * np.sqrt(sum((t.imag**2).sum() for t in terms))
            value, error, gap = (float(x / IMAGINARY) for x in (sum(t.sum() for t in terms).imag, rounding, 0.0))
        else:
            value, error, gap = self._ridders(vectors, self.dtype)
        for turned, doubt in list(self._at_ties(vectors)):
            away = abs(turned - value)
            gap = max(gap, 2 * away) if away > DOUBT * (error + doubt) else gap
        return value, error, np.inf if self.turns and self.turns.sorted_equals else gap

    def _at_ties(self, vectors: Arrays) -> Iterator[tuple[float, float]]:
        """Derivative and error with all decisions between equals made one way, and the other; none without ties.

        Where two kinks meet, as in ``relu(x) - relu(-x)``, the slopes to both sides do not tell that there are any.
        """
        if self.turns is None:
            self.turns = self._recorded()
        if not self.turns:
            return
        plain, self.array = self.array, Noisy
        try:
            for self.sign in (1, -1):
                yield self._ridders(vectors, self._real)[:2]
        finally:
            self.sign, self.array = 0, plain

    def _recorded(self) -> Turns | Literal[False]:
        """The decisions at the point; False where none of them is between equals."""
        turns = Turns()
        try:
            with deciding(turns), np.errstate(all="ignore"):
                self.function({n: a.view(Noisy) if a.dtype.kind == "f" else a
                               for n, a in self._cast(self._real).items()})
        except Exception:  # code that refuses the array type
            return False
        return turns if turns.tied() else False

    def rounding(self, vectors: Arrays) -> float:
        """How far the rounding of the function's own arithmetic may take its derivative along a direction: a budget.

        Args:
            vectors: the direction, by array; of signs alone for what any entry of the arrays may be off.
        """
        from .budget import COPIES, FACTOR

        roundoff, away = max(np.finfo(self.dtype).eps / 2, self.roundoff), []
        value, _ = self.direction(vectors)
        sums = 0.0
        if self.dtype.kind != "c":  # what the sum of the outputs alone rounds, over the shortest step
            base = self._cast(self.dtype if self.dtype != np.float32 else np.float64)
            size = sum(np.abs(c * o).sum() for c, o in zip(self.cotangents, self.function(base), strict=True))
            sums = float(roundoff * size / (self._step(vectors) / 2 ** (LEVELS - 1)))
        plain, self.array = self.array, Noisy
        try:
            with recording() as ties:
                self.direction(vectors)
            for number in range(COPIES):
                with noise(roundoff, f"derivative {number}", ties=ties):
                    away.append(abs(self.direction(vectors)[0] - value))
        except Exception:  # code that refuses the array type
            away = []
        finally:
            self.array = plain
        return FACTOR * (max((a for a in away if np.isfinite(a)), default=0.0) + sums)

    def nearer(self, name: str, index: tuple[int, ...], before: float) -> tuple[float, float] | None:
        """The derivative by one entry from steps so short that a kink nearby is not within them.

        Args:
            before: what longer steps gave.

        Returns:
            Value and how far it may be off; None where short steps say what the longer ones did.
        """
        unit = np.zeros(self.point[name].shape)
        unit[index] = 1
        self.shrink = NEARER
        try:
            value, error = self.direction({name: unit})
            if self.dtype.kind == "c" or abs(value - before) <= AGREE[0] * abs(before):
                return None
            return value, DOUBT * error + self.rounding({name: unit})
        finally:
            self.shrink = 1.0

    def kinked(self, name: str, index: tuple[int, ...]) -> bool:
        """Whether the function has a kink, a tie or a jump at this entry: one-sided slopes that disagree."""
        dtype = self._widest()
        base = self._cast(dtype)
        gaps = []
        with np.errstate(all="ignore"):
            here = self._loss(base)
            for step in self._scale({name: np.ones(1)}) * np.array((2.0**-10, 2.0**-14)):
                slopes = []
                for sign in (1, -1):
                    moved = base[name].copy()
                    moved[index] += sign * step
                    slopes.append(sign * (self._loss(base | {name: moved}) - here) / step)
                gaps.append(abs(float(slopes[0] - slopes[1])))
        noise = 256 * np.finfo(dtype).eps * (abs(float(here)) + 1) * 2**14 / self._scale({name: np.ones(1)})
        return gaps[1] > 0.5 * gaps[0] and gaps[1] > noise

    def _step(self, vectors: Arrays, dtype: Any = None) -> float:
        """The longest step of central differences along a direction."""
        dtype = dtype or self.dtype
        name = "longdouble" if dtype not in ("float32", "float64") else dtype.name
        return self.shrink * self._scale(vectors) * FIRST_STEP[name]

    def _scale(self, vectors: Arrays) -> float:
        """How far a step along a direction may go: as far as the arrays that it moves are large."""
        sizes = [np.sqrt(np.mean(self.point[n] ** 2)) / np.abs(v).max(initial=1e-300)
                 for n, v in vectors.items() if v.size]
        return float(min((s for s in sizes if s > 0), default=1.0))

    def _try_complex(self) -> None:
        point = self._cast(np.complex128)
        outputs = self.function(point)
        if not any(np.iscomplexobj(o) for o in outputs):
            self.why = "the outputs are not complex where the inputs are"
            raise TypeError(self.why)
        vectors = {n: self.rng.uniform(-1, 1, self.point[n].shape) for n in self.names}
        value, _ = self.direction(vectors)
        widest = self._widest()
        rough, error, _ = self._ridders(vectors, widest)
        size = sum(float(np.sum(np.abs(c * o))) for c, o in zip(self.cotangents, outputs, strict=True)) + 1
        # differences too rough to tell the value from nothing confirm none: a lost imaginary part gives just that
        doubt = min(10 * error, ROUGH * abs(rough))
        if not abs(value - rough) <= doubt + AGREE[widest.itemsize > 4] * (abs(rough) + 1e-2 * size):
            self.why = f"along a random direction it gives {value:.6g}, central differences {rough:.6g}"
            raise ArithmeticError(self.why)

    def _widest(self) -> np.dtype[Any]:
        """The widest real dtype in which every output comes back when everything is given in it."""
        large = sum(self.point[n].size for n in self.names) > WIDE
        for dtype in (np.longdouble, np.float64)[large:]:
            try:
                with np.errstate(all="ignore"):
                    kept = {o.dtype for o in self.function(self._cast(dtype)) if o.dtype.kind == "f"}
            except Exception:
                continue
            if all(np.finfo(k).nmant >= np.finfo(dtype).nmant for k in kept):
                return np.dtype(dtype)
        return np.dtype(np.float32)

    def _cast(self, dtype: Any) -> Arrays:
        return {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in self.point.items()}

    def _outputs(self, arrays: Arrays) -> tuple[Any, ...]:
        arrays = {n: a.view(self.array) if a.dtype.kind in "fc" else a for n, a in arrays.items()}
        with deciding(self.turns, self.sign) if self.turns and self.sign else contextlib.nullcontext():
            return self.function(arrays)

    def _loss(self, arrays: Arrays) -> Any:
        return self._weighed(self._outputs(arrays))

    def _weighed(self, outputs: Iterable[Any]) -> Any:
        return sum(terms.sum() for terms in self._terms(outputs))

    def _terms(self, outputs: Iterable[Any]) -> list[Any]:
        return [c * o for c, o in zip(self.cotangents, outputs, strict=True)]

    def _ridders(self, vectors: Arrays, dtype: Any) -> tuple[float, float, float]:
        """Derivative, estimated error and gap of the slopes to both sides, by the first steps that converge."""
        # where the code keeps only float32, give it float64: the inputs need not be rounded as well
        base = self._cast(np.float64 if dtype == np.float32 else dtype)
        longest = self._step(vectors, dtype)
        best: tuple[float, float, float] = (0.0, np.inf, 0.0)
        kinked: tuple[float, float, float] | None = None
        with np.errstate(all="ignore"):
            for shorter in SHORTER:
                found, rounding = self._tableau(vectors, base, longest * shorter, shorter < 1)
                if found[1] <= CONVERGED * rounding:
                    if not found[2] or (kinked and abs(kinked[2] - found[2]) <= SAME * found[2]):
                        return kinked if kinked and found[2] else found
                    kinked = found  # or steps that fit evenly spaced jumps: shorter ones tell
                best = min(best, found, key=lambda one: one[1])
        return kinked or best

    def _here(self, base: Arrays) -> tuple[Any, ...]:
        """The outputs at the point."""
        dtype: np.dtype[Any] | None = next((a.dtype for a in base.values() if a.dtype.kind == "f"), None)
        if dtype not in self.outputs:
            self.outputs[dtype] = self.function(base)
        return self.outputs[dtype]

    def _tableau(self, vectors: Arrays, base: Arrays, h: float,
                 shorter: bool) -> tuple[tuple[float, float, float], float]:
        """Ridders' extrapolation from steps ``h, h/2, ...``: best value, error, gap; and what the last one rounds."""
        here, gaps = self._here(base), []
        tableau: list[list[Any]] = []
        best, error = 0.0, np.inf
        unit = max(np.finfo(self._real).eps / 2, self.roundoff)
        for level in range(LEVELS):
            step = h / 2**level
            up, down = (self._outputs(base | {n: base[n] + s * step * v for n, v in vectors.items()}) for s in (1, -1))
            # output by output: the sum of many that do not move would round
            row = [self._weighed((u - d for u, d in zip(up, down, strict=True))) / (2 * step)]
            bent = self._weighed(u - m + (d - m) for u, m, d in zip(up, here, down, strict=True))
            gaps.append(abs(float(bent)) / step)
            rounding = unit * float(sum((np.abs(c * u) * (u != d)).sum() for c, u, d in
                                        zip(self.cotangents, up, down, strict=True))) / step
            for j in range(1, level + 1):
                row.append((4**j * row[j - 1] - tableau[-1][j - 1]) / (4**j - 1))
                doubt = max(abs(row[j] - row[j - 1]), abs(row[j] - tableau[-1][j - 1]), rounding / 4)
                if doubt < error:
                    best, error = row[j], doubt
            tableau.append(row)
        if error > CONVERGED * rounding:  # two entries may be near one another by luck, beside a kink say
            error = max(abs(entry - best) for row in tableau[-2:] for entry in row[1:])
        elif shorter:
            error = max(error, 4 * rounding)
        kinked = gaps[-1] > gaps[0] / 4 and gaps[-1] > KINKED * rounding  # of a smooth function it is a sixteenth
        return (float(best), float(error), gaps[-1] if kinked else 0.0), rounding

    def _entries(self, name: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        a = self.point[name]
        values, errors, gaps = np.zeros(a.shape), np.zeros(a.shape), np.zeros(a.shape)
        if self.turns is None:
            self.turns = self._recorded()
        if self.dtype.kind == "c" and name in self.batched:
            return self._stacked(name).reshape(a.shape), errors, gaps
        base = self._cast(self.dtype if self.dtype.kind == "c" else np.float64)
        for index in np.ndindex(a.shape):
            if self.dtype.kind == "c" and self.turns is False:
                before, base[name][index] = base[name][index], base[name][index] + 1j * IMAGINARY
                values[index] = self._loss(base).imag / IMAGINARY
                base[name][index] = before
            else:
                unit = np.zeros(a.shape)
                unit[index] = 1
                values[index], errors[index], gaps[index] = self._direction({name: unit})
        return values, _unlucky(errors), gaps

    def _stacked(self, name: str) -> NDArray[Any]:
        """Complex steps of many entries in one call, one copy of the batch an entry."""
        size, found = self.point[name].size, []
        for start in range(0, size, STACKED):
            entries = np.arange(start, min(start + STACKED, size))
            arrays = {n: np.concatenate([a] * len(entries)) if n in self.batched else a
                      for n, a in self._cast(np.complex128).items()}
            arrays[name] = np.ascontiguousarray(arrays[name])
            arrays[name].reshape(len(entries), -1)[np.arange(len(entries)), entries] += 1j * IMAGINARY
            total = 0
            for c, o in zip(self.cotangents, self.function(arrays), strict=True):
                total = total + (c * o.reshape(len(entries), *c.shape)).reshape(len(entries), -1).sum(axis=1)
            found.append(total.imag / IMAGINARY)
        return np.concatenate(found) if found else np.zeros(0)

    def _independent(self, batched: Iterable[str]) -> bool:
        """Whether samples do not see each other: two batches at once give what each gives alone."""
        try:
            here = self._cast(np.complex128) if self.dtype.kind == "c" else self.point
            other = {n: a[::-1] * 0.5 if a.dtype.kind in "fc" else a[::-1] for n, a in here.items() if n in batched}
            both = here | {n: np.concatenate((here[n], other[n])) for n in batched}
            apart = zip(self.function(both), self.function(here), self.function(here | other), strict=True)
            return all(o.shape[0] == 2 * a.shape[0] and np.allclose(o, np.concatenate((a, b)), 1e-12, 1e-13)
                       for o, a, b in apart)
        except Exception:  # a layer that fixes its batch size is simply not stacked
            return False


def _unlucky(errors: NDArray[Any]) -> NDArray[Any]:
    """Estimated errors, none less than their median."""
    return np.maximum(errors, np.median(errors)) if errors.size else errors
