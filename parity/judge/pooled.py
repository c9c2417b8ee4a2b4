"""What single elements forgive: the errors of a whole tensor at once, and over the cases of a run.

A budget gives every element some sixteen roundoffs. A constant factor, an ``eps`` too many or an approximation that
is a little off moves all elements alike, and shows in sums long before it shows in any one of them: in the root mean
square of a tensor's errors beside that of its noisy copies, and in the slope and mean of the errors over all cases.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..engine import Outcome

WHOLE = 4  # times the largest of the copies' root mean squares; right results stay below 1.4 of it
BIAS = 1 / 4  # of u: what honest rounding leans to one side
CLIP = 4.0  # of a case's own spread, the most that it counts
LEAST = 12  # cases from which a sum is judged
RATE = 1e-3  # of runs of right code may raise an alarm, over all that they pool together
KINDS = ("slope", "mean")
Key = tuple[str, str, str, str, str]  # layer, lane, quantity, side, kind


@dataclass(frozen=True)
class Gauge:
    """How the errors of one quantity in one case are pooled.

    Attributes:
        weights: by element, flat: the inverse square of what noise does to it; 0 where nothing is known.
        size: root mean square of the quantity.
        largest: over the copies, of the weighted root mean square of their errors.
        spreads: root mean square over the copies of each of ``KINDS``.
        copies: how many there were.
    """

    weights: NDArray[np.float64]
    size: float
    largest: float
    spreads: tuple[float, ...]
    copies: int


def gauge(oracle: NDArray[Any], copies: list[NDArray[Any]], roundoff: float, underflow: float) -> Gauge | None:
    """The ``Gauge`` of a quantity; None where it has no size or no copy tells.

    Args:
        oracle: what is right.
        copies: list of what honest computations give.
        roundoff, underflow: of the lane.
    """
    right = np.ravel(oracle)
    with np.errstate(all="ignore"):
        errors = np.array([np.ravel(np.asarray(copy, oracle.dtype) - oracle) for copy in copies], np.float64)
    known = np.isfinite(right) & np.isfinite(errors).all(axis=0)
    right = np.where(known, right, 0).astype(np.float64)
    errors = np.where(known, errors, 0)
    size = float(np.sqrt(np.mean(right * right))) if right.size else 0.0
    if not np.isfinite(size) or size <= underflow or not (right * right / size).any():
        return None
    right, errors = right / size, errors / size
    spread = np.mean(errors * errors, axis=0)
    variance = np.maximum(spread, np.mean(spread) / 16) + (roundoff * right) ** 2 + (underflow / size) ** 2
    weights = known / variance
    largest = np.sqrt(np.max(np.mean(weights * errors * errors, axis=1)))
    away = np.array([_coefficients(error, right, weights) for error in errors])
    return Gauge(weights, size, float(largest), tuple(np.sqrt(np.mean(away * away, axis=0))),
                 len(copies))


def _coefficients(error: NDArray[Any], right: NDArray[Any], weights: NDArray[Any]) -> tuple[float, float]:
    """The slope of an error, over what is right, and its mean, in sizes of the quantity."""
    return (np.dot(weights * right, error) / np.dot(weights * right, right),
            np.dot(weights, error) / np.sum(weights))


def _errors(gauge: Gauge, value: NDArray[Any], oracle: NDArray[Any]) -> NDArray[Any]:
    error = np.ravel(np.asarray(value, oracle.dtype) - oracle).astype(np.float64) / gauge.size
    return np.where((gauge.weights > 0) & np.isfinite(error), error, 0)


def whole(gauge: Gauge, value: NDArray[Any], oracle: NDArray[Any]) -> float:
    """The root mean square of a tensor's errors, as a share of what is allowed."""
    with np.errstate(all="ignore"):
        error = _errors(gauge, value, oracle)
        floor = (1 + error.size**-0.5) / 4  # all copies of a few entries may by luck lie next to what is right
        return float(np.sqrt(np.mean(gauge.weights * error * error)) / (WHOLE * max(gauge.largest, floor)))


def leaning(gauge: Gauge, value: NDArray[Any], oracle: NDArray[Any],
            roundoff: float) -> tuple[tuple[float, float, float], ...]:
    """By each of ``KINDS``: how far the errors of a case lean to one side, in standard deviations, and by how much."""
    with np.errstate(all="ignore"):
        error = _errors(gauge, value, oracle)
        right = np.where(gauge.weights > 0, np.ravel(oracle), 0).astype(np.float64) / gauge.size
        found = []
        for away, spread in zip(_coefficients(error, right, gauge.weights), gauge.spreads, strict=True):
            least = max(spread, BIAS * roundoff)
            beyond = np.sign(away) * max(abs(away) - BIAS * roundoff, 0.0) / least
            found.append((float(np.clip(beyond, -CLIP, CLIP)) / _heavy(gauge.copies), float(away), float(least)))
    return tuple(found)


@lru_cache
def _heavy(copies: int) -> float:
    """Standard deviation of what is taken in spreads that so many copies tell: Student's t, no further than CLIP."""
    t = np.linspace(0, CLIP, 1001)
    scale = math.gamma((copies + 1) / 2) / math.gamma(copies / 2) / math.sqrt(copies * math.pi)
    density = scale * (1 + t * t / copies) ** (-(copies + 1) / 2)
    return math.sqrt(CLIP**2 + 2 * np.trapezoid((t * t - CLIP**2) * density, t))


@dataclass
class Sum:
    """What the cases of one layer, lane, quantity, side and kind came to.

    Attributes:
        cases: number of cases.
        beyond: sum of how far each leans.
        slope, weight: sums from which the mean slope follows.
    """

    cases: int = 0
    beyond: float = 0.0
    slope: float = 0.0
    weight: float = 0.0

    def add(self, beyond: float, away: float, spread: float) -> None:
        self.cases += 1
        self.beyond += beyond
        self.slope += away / spread**2
        self.weight += 1 / spread**2

    @property
    def score(self) -> float:
        """Standard deviations from leaning nowhere."""
        return float(abs(self.beyond) / self.cases**0.5) if self.cases >= LEAST else 0.0

    @property
    def mean(self) -> float:
        """The mean of slopes, weighted by how well each is known."""
        return self.slope / self.weight if self.weight else 0.0


@dataclass
class Pool:
    """The sums of a run.

    Attributes:
        sums: by (layer, lane, quantity, side, kind), a ``Sum``.
        paths: by layer, where it is described.
        cases: by (layer, lane), the number of cases.
    """

    sums: dict[Key, Sum] = field(default_factory=dict)
    paths: dict[str, str | None] = field(default_factory=dict)
    cases: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, outcome: "Outcome") -> None:
        """Takes in an ``Outcome``."""
        self.cases[outcome.layer, outcome.lane] += 1
        self.paths[outcome.layer] = outcome.pairs
        for (quantity, side), kinds in outcome.leaning.items():
            for kind, found in zip(KINDS, kinds, strict=True):
                key = outcome.layer, outcome.lane, quantity, side, kind
                self.sums.setdefault(key, Sum()).add(*found)

    @property
    def limit(self) -> float:
        """The score that right code exceeds anywhere in a run at most at ``RATE``, for as many sums as there are."""
        return NormalDist().inv_cdf(1 - RATE / 2 / max(len(self.sums), 1))

    def leaning(self) -> dict[Key, Sum]:
        """The keys that lean, each with its ``Sum``; of the kinds of one quantity and side, the one that leans most."""
        limit = self.limit
        found: dict[tuple[str, str, str, str], Key] = {}
        for key, one in self.sums.items():
            layer, lane, quantity, side, _ = key
            before = found.get((layer, lane, quantity, side))
            if one.score > max(limit, self.sums[before].score if before else 0.0):
                found[layer, lane, quantity, side] = key
        return {key: self.sums[key] for key in found.values()}
