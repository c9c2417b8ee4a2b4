"""What is audited without a twin and without inputs that somebody passed: recognised by trial, or told why not."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from . import fit
from .adapted import Adapted
from .settle import variants
from .trial import GRADIENTS, Fit


class NotTried(Exception):
    """Somebody's code could not be run as it stands.

    Attributes:
        skipped: why nothing of it was judged, and the one line that would make it possible; empty where it ran far
            enough that silence would be taken for praise.
        unjudged: by name, why it was not judged.
        stub: what its backward does instead, which nobody has written; empty where somebody has.
    """

    def __init__(self, skipped: str, unjudged: dict[str, str], stub: str = ""):
        super().__init__(skipped)
        self.skipped, self.unjudged, self.stub = skipped, unjudged, stub


class Functions:
    """A pair of functions as they stand in a file; the second None where the first gives its gradient itself."""

    def __init__(self, title: str, forward: Any, backward: Any, derivative: bool):
        self.title, self.pair = title, (forward, backward, derivative)

    def forward(self) -> None:
        """As any layer has one; what is run is a recipe."""

    backward = forward


class Planned:
    """A task of an assignment: what is called, and with what; no trial."""

    def __init__(self, task: dict[str, Any], things: tuple[Any, ...]):
        self.title, self.task, self.things = task["name"], task, things

    def forward(self) -> None:
        """As any layer has one; what is run is a recipe."""

    backward = forward

    def fits(self) -> Iterator[tuple[str, Fit]]:
        """A fit a configuration, and in words what is special about it."""
        first = self.task["configurations"][0]
        for plan in self.task["configurations"]:
            different = {n: v for key in ("inputs", "arguments", "make") for n, v in plan[key].items()
                         if first[key].get(n) != v}
            yield ", ".join(f"{n}={v}" for n, v in different.items()), fit.planned(self.things, plan)


def recognised(target: Any) -> tuple[Adapted, dict[str, Any]]:
    """The object that the audit runs, and its inputs.

    Args:
        target: a class, or ``Functions``.

    Raises:
        NotTried: no recipe was found.
    """
    others: list[tuple[str, Fit]] | None = None
    if isinstance(target, Planned):
        (_, found), *others = target.fits()
        line = "see its text"
    elif isinstance(target, Functions):
        found, name = fit.fit_functions(*target.pair), target.pair[0].__name__
        line = f"audit(forward={name}, backward=…, inputs=(…,))"
    elif inspect.isclass(target):
        found, name = fit.fit_class(target), target.__name__
        line = f"audit({name}(…), inputs=(…,))"
    else:
        raise NotTried("pass inputs=, a tuple of arrays for forward, or like=, the name of its twin", {})
    if found.score < 2:
        raise NotTried(f"could not be tried: {found.why}; from Python: {line}", {})
    if found.score < GRADIENTS and found.stub:
        raise NotTried("", {}, found.stub)
    if found.score < GRADIENTS:
        raise NotTried("", {"backward": f"{found.why}; from Python: {line}"})
    adapted = found.adapted()
    adapted.variants = list(variants(found)) if others is None else others
    adapted.leftover = dict.fromkeys(found.leftover, "it looks like a parameter, and no gradient of it was found")
    return adapted, dict(found.inputs)
