"""Ranges of the numbers that an option may be."""

from typing import Any

import numpy as np

DIGITS = 3  # significant, of a number drawn between the edges: an id stays short


class Span(tuple[Any, ...]):
    """Values of an option that are worth naming, its edges first of all, and every number between two bounds.

    Where values are listed it is the tuple of those; a case draws one of them, or a number between the bounds.

    Attributes:
        low, high: the bounds, which belong to it.
        log: whether numbers are drawn by their logarithm.
        whole: whether all are whole numbers.
    """

    low: float
    high: float
    log: bool
    whole: bool

    @property
    def cards(self) -> tuple[Any, ...]:
        """The values, the bounds, and as often None, which stands for a number between, where there is another."""
        named = tuple(dict.fromkeys((*self, self.low, self.high)))
        left = self.high > self.low and not (self.whole and {*range(int(self.low), int(self.high) + 1)} <= {*named})
        return named + (None,) * len(named) * left

    def draw(self, rng: np.random.Generator) -> Any:
        """One of the values or bounds as often as a number between."""
        card = self.cards[int(rng.integers(len(self.cards)))]
        return self.between(rng) if card is None else card

    def between(self, rng: np.random.Generator) -> Any:
        """A number between the bounds."""
        if self.whole:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        if self.log:
            value = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        else:
            # as often close to an edge, by its logarithm, as anywhere
            share, close = float(rng.random()), float(10 ** rng.uniform(-4, 0))
            share = (share, close, 1 - close)[int(rng.integers(3))]
            value = self.low + share * (self.high - self.low)
        return float(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def read(self, text: str) -> Any:
        """The value that a text spells.

        Raises:
            ValueError: none, or one beyond the bounds; says what was expected.
        """
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = None
        if value in self:
            return value
        if value is None or not self.low <= value <= self.high:
            kind = "a whole number" if self.whole else "a number"
            raise ValueError(f"is {text!r}, expected {kind} from {self.low:g} to {self.high:g}")
        return value


def span(*values: Any, low: float | None = None, high: float | None = None, log: bool = False) -> Span:
    """A ``Span``, of whole numbers where all the values are.

    Args:
        values: worth naming, the usual one first.
        low, high: the bounds; by default the smallest and the largest of the values.
        log: whether numbers between are drawn by their logarithm.
    """
    found = Span(values)
    found.low = min(values) if low is None else low
    found.high = max(values) if high is None else high
    found.log, found.whole = log, all(isinstance(value, int) for value in values)
    return found
