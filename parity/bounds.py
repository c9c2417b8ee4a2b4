"""How far a measured rate may be from the true one (Clopper and Pearson 1934)."""

import math


def upper(hits, trials, confidence=0.95):
    """One-sided upper bound of a rate; for no hits, about 3 / trials."""
    return 1.0 if hits >= trials else _solve(lambda p: _at_most(hits, trials, p) - (1 - confidence))


def lower(hits, trials, confidence=0.95):
    """One-sided lower bound of a rate."""
    return 0.0 if not hits else _solve(lambda p: _at_most(hits - 1, trials, p) - confidence)


def _at_most(hits, trials, p):
    """Probability of at most so many hits."""
    def term(k):
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return math.exp(ways + k * math.log(p) + (trials - k) * math.log1p(-p))

    return math.fsum(term(k) for k in range(hits + 1))


def _solve(falling):
    """The zero in (0, 1) of a falling function."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return high
