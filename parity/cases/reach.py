"""How far the cases of a run looked, a layer at a time, and what they left out of what is declared."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from .case import admitted, choices, derived
from .dealing import LAID, cards, oddities, told_by_half, usual_patterns, usual_scales
from .drawing import CASES, ROUND, SHORT, THRESHOLDS, crossings, past, plainest, real

BETWEEN = "a number between"  # of a range, beside its values and edges
FACTS = ("pattern", "scale", "layout", "dtype", "step", "mode")  # each a set of those that were tried, in the plural


@dataclass
class Reach:
    """What the cases of one layer were, or what those of a whole run are declared to be.

    Attributes:
        spec: the layer.
        cases: how many ran, a case in two lanes counted twice.
        sizes: by axis, those that were tried; of ``...``, those of its axes.
        use: cases that had the sizes of real use on every axis.
        calls: steps of the longest program on one object.
        patterns, scales, layouts, dtypes: those that were tried.
        steps, modes: of programs, those that were played.
        options: by name, the values that were tried; of a range, those that are named, its edges and ``BETWEEN``.
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
    steps: set[str] = field(default_factory=set)
    modes: set[str] = field(default_factory=set)
    options: dict[str, set[Any]] = field(default_factory=lambda: defaultdict(set))

    def add(self, case: Any, lane: Any) -> None:
        """Takes in a case that ran in a lane."""
        from ..promises.histories import called, plays

        self.cases += 1
        for letter in self.spec.letters:
            self.sizes[letter] |= _each(case.sizes[letter])
        self.use += real(self.spec).items() <= case.sizes.items()
        steps, _ = plays(case, lane)
        self.calls = max(self.calls, len(steps))
        self.steps |= {step.name for step in steps}
        self.modes |= called(self.spec, steps)
        self.patterns.add(case.pattern)
        self.scales.add(case.scale)
        self.layouts.add(case.layout)
        self.dtypes.add(lane.torch_dtype)
        for name, value in case.options.items():
            self.options[name].add(_shown(choices(self.spec)[name], value))

    @property
    def missed(self) -> list[str]:
        """What a whole run declares, and no case had."""
        wanted = declared(self.spec)
        found = [f"{letter} {size}" for letter, sizes in wanted.sizes.items()
                 for size in sorted(sizes - self.sizes[letter])]
        found += ["the sizes of real use"] * (not self.use)
        for fact in FACTS:
            left = getattr(wanted, f"{fact}s") - getattr(self, f"{fact}s")
            found += [f"the {fact} {value:g}" if fact == "scale" else f"the {fact} {value}" for value in sorted(left)]
        found += [f"{name} {value}" for name, values in wanted.options.items()
                  for value in sorted(values - self.options[name], key=str)]
        return found + [f"{wanted.calls} calls on one object"] * (self.calls < wanted.calls)

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
            **{f"{fact}s": sorted(getattr(self, f"{fact}s")) for fact in FACTS},
            "options": {name: sorted(values, key=_order) for name, values in self.options.items()},
            "missed": self.missed,
        }

    def cells(self) -> tuple[str, ...]:
        """The cells of a table: layer, axes, values, histories, layouts, dtypes, options."""
        axes = [f"{letter} {max(sizes, default=0):,} ({len(self.crossed(letter))} crossed)"
                for letter, sizes in self.sizes.items()]
        options = [f"{name} {', '.join(map(str, sorted(values, key=_order)))}" for name, values in self.options.items()]
        values = f"{', '.join(sorted(self.patterns))}; {' to '.join(f'{s:g}' for s in _ends(self.scales))}"
        played = f"{self.calls} calls: {len(self.steps)} kinds of step, {len(self.modes)} modes" if self.calls else ""
        return (self.spec.name, ", ".join(axes), values, played, ", ".join(sorted(self.layouts)),
                ", ".join(sorted(self.dtypes)), "; ".join(options))

    def row(self) -> tuple[str, ...]:
        """The same, and what was missed."""
        left = self.missed
        return *self.cells(), ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")


CELLS = "layer", f"largest size, and how many of {THRESHOLDS[0]} to 2^16 crossed", "patterns, and scales", \
    "longest history", "layouts", "dtypes", "options"
COLUMNS = *CELLS, "not reached"


def declared(spec: Any) -> Reach:
    """What a whole run of a layer has tried, as its entry says: what it walks through and is dealt, and no more.

    Of options that come beside others alone (a state that is given, a cut) right runs miss one in far fewer than a
    million.
    """
    from ..judge.lanes import LANES
    from ..promises.histories import CALLS, known_steps, longest
    from ..sides import untested
    from ..sides.objects import modes

    hands, odd = 2, ROUND.count("degenerate") / len(ROUND)  # dtypes that share decks
    dealt, walked = round(hands * CASES * (1 - odd)), round(hands * CASES * odd)
    known = oddities(spec)
    odds = known[:walked] + [one for one in known[walked:][-walked:] if told_by_half(one)]
    found = Reach(spec, use=1, scales=set(usual_scales(spec)), patterns=set(usual_patterns(spec)), layouts=set(LAID),
                  dtypes={lane.torch_dtype for lane in LANES.values() if not untested(spec, lane)})
    for sizes in (*crossings(spec), *(one.get("sizes", {}) for one in odds)):
        for letter, size in sizes.items():
            found.sizes[letter] |= _each(size)
    for one in odds:
        found.patterns |= {one["pattern"]} if "pattern" in one else set()
        found.scales |= {one["scale"]} if "scale" in one else set()
        found.layouts |= {one["layout"]} if "layout" in one else set()
    plain = plainest(spec, {})
    for name, values in choices(spec).items():
        shown = {0, BETWEEN} if not values else {BETWEEN if card is None else card for card in cards(values)}
        if len(shown) <= dealt:
            asked = {value: plain.options | {name: value} for value in shown}
            found.options[name] = {value for value, options in asked.items() if value == BETWEEN or
                                   admitted(spec, derived(spec, plain.sizes, options), options)}
    found.calls = longest(plainest(spec, {}, max(SHORT)))
    if found.calls >= CALLS + len(known_steps(spec)):
        found.steps, found.modes = set(known_steps(spec)), set(modes(spec))
    return found


def _each(size: Any) -> set[int]:
    return {*size} if isinstance(size, tuple) else {size}


def _shown(values: Any, value: Any) -> Any:
    """The value of an option, or where it lies: a cut, or a number of a range, may be anywhere."""
    known = (0,) if not values else cards(values)
    return value if value in known else BETWEEN


def _order(value: Any) -> tuple[Any, ...]:
    """Numbers by their size, then the rest."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return not number, value if number else str(value)


def _ends(values: set[Any]) -> list[Any]:
    return sorted({min(values), max(values)}) if values else []
