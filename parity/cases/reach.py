"""How far the cases of a run looked, a layer at a time, and what they left out of what is declared."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from .drawing import THRESHOLDS, crossings, past, real


@dataclass
class Reach:
    """What the cases of one layer were.

    Attributes:
        spec: the layer.
        cases: how many ran, a case in two lanes counted twice.
        sizes: by axis, those that were tried; of ``...``, those of its axes.
        use: cases that had the sizes of real use on every axis.
        calls: steps of the longest program on one object.
        patterns, scales, layouts, dtypes: those that were tried.
        options: by name, the values that were tried.
    """

    spec: Any
    cases: int = 0
    sizes: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    use: int = 0
    calls: int = 0
    patterns: set[str] = field(default_factory=set)
    scales: set[float] = field(default_factory=set)
    layouts: set[str] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    options: dict[str, set[Any]] = field(default_factory=lambda: defaultdict(set))

    def add(self, case: Any, lane: Any) -> None:
        """Takes in a case that ran in a lane."""
        from ..promises.histories import plays

        self.cases += 1
        for letter in self.spec.letters:
            size = case.sizes[letter]
            self.sizes[letter].update(size if isinstance(size, tuple) else (size,))
        self.use += real(self.spec).items() <= case.sizes.items()
        self.calls = max(self.calls, len(plays(case, lane)[0]))
        self.patterns.add(case.pattern)
        self.scales.add(case.scale)
        self.layouts.add(case.layout)
        self.dtypes.add(lane.torch_dtype)
        for name, value in case.options.items():
            self.options[name].add(value)

    @property
    def missed(self) -> list[str]:
        """The sizes that a whole run declares, and that no case had."""
        wanted = [(letter, size) for sizes in crossings(self.spec) for letter, size in sizes.items()]
        found = [f"{letter} {size}" for letter, size in wanted
                 if not {*(size if isinstance(size, tuple) else (size,))} <= self.sizes[letter]]
        return found + ["the sizes of real use"] * (not self.use)

    def crossed(self, letter: str) -> list[int]:
        """The thresholds that an axis crossed: it was one below, at it and one above, where it may be."""
        threes = [{max(s) if isinstance(s, tuple) else s for s in three} for three in past(self.spec, letter)]
        return [sorted(three)[1] for three in threes if len(three) == len((-1, 0, 1)) and three <= self.sizes[letter]]

    def to_json(self) -> dict[str, Any]:
        """The reach as plain values."""
        return {
            "layer": self.spec.name, "cases": self.cases, "calls": self.calls, "real_use": self.use,
            "largest": {letter: max(sizes, default=0) for letter, sizes in self.sizes.items()},
            "crossed": {letter: self.crossed(letter) for letter in self.sizes},
            "patterns": sorted(self.patterns), "scales": sorted(self.scales), "layouts": sorted(self.layouts),
            "dtypes": sorted(self.dtypes), "options": {name: _range(values) for name, values in self.options.items()},
            "missed": self.missed,
        }

    def row(self) -> tuple[str, ...]:
        """The cells of a table: layer, axes, calls, layouts, dtypes, options, and what was missed."""
        axes = [f"{letter} {max(sizes, default=0):,} ({len(self.crossed(letter))} crossed)"
                for letter, sizes in self.sizes.items()]
        options = [f"{name} {' to '.join(map(str, _range(values)))}" for name, values in self.options.items()]
        left = self.missed
        return (self.spec.name, ", ".join(axes), str(self.calls), ", ".join(sorted(self.layouts)),
                ", ".join(sorted(self.dtypes)), ", ".join(options),
                ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else ""))


COLUMNS = "layer", f"largest size, and how many of {THRESHOLDS[0]} to 2^16 crossed", "calls", "layouts", "dtypes", \
    "options", "not reached"


def _range(values: set[Any]) -> list[Any]:
    """The smallest and the largest of numbers, all of anything else."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return sorted({min(values), max(values)})
    return sorted(map(str, values))
