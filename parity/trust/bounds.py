"""How far a measured rate may be from the true one (Clopper and Pearson 1934)."""

import math
from collections.abc import Callable, Iterable

NOTHING = 1e-20  # of the largest term: what follows is far below its last digit


def upper(hits: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided upper bound of a rate; for no hits, about 3 / trials."""
    return 1.0 if hits >= trials else _solve(lambda p: _at_most(hits, trials, p) - (1 - confidence))


def lower(hits: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided lower bound of a rate."""
    return 0.0 if not hits else _solve(lambda p: _at_most(hits - 1, trials, p) - confidence)


def _at_most(hits: int, trials: int, p: float) -> float:
    """Probability of at most so many hits: the sum of the tail away from the mean, whose terms fall."""
    odds = p / (1 - p)
    if hits <= trials * p:
        return _falling(_term(hits, trials, p), (k / (trials - k + 1) / odds for k in range(hits, 0, -1)))
    hits += 1
    return 1 - _falling(_term(hits, trials, p), ((trials - k) / (k + 1) * odds for k in range(hits, trials)))


def _term(k: int, trials: int, p: float) -> float:
    """Probability of exactly ``k`` hits."""
    ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
    return math.exp(ways + k * math.log(p) + (trials - k) * math.log1p(-p))


def _falling(term: float, ratios: Iterable[float]) -> float:
    """The sum of terms, each the last one times a ratio below 1, as long as they count."""
    terms = [term]
    for ratio in ratios:
        term *= ratio
        if term <= NOTHING * terms[0]:
            break
        terms.append(term)
    return math.fsum(terms)


def _solve(falling: Callable[[float], float]) -> float:
    """The zero in (0, 1) of a falling function."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return high
