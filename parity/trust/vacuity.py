"""Whether a case could tell a wrong gradient from the right one: a check that passes vacuously is none."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..cases.case import Case
from ..judge.budget import COPIES, FACTOR, Yardstick
from ..judge.compare import compare, worst
from ..judge.lanes import Lane
from .bounds import lower

SCALED = 0.01  # relative error that a case has to notice, unless the lane's roundoff asks for more
WIDEST = 32  # times what noise does to a quantity, the most that its budget may be: the factor of 8, and more
MOST = 0.05  # share of ordinary cases that may be blind
DTYPES = ("float32", "float64")  # of the lanes that are held to it

# wrong versions of a gradient, each with what a backward that gives it has done
WRONG = {
    "zero": lambda gradient, roundoff: np.zeros_like(gradient),
    "scaled": lambda gradient, roundoff: gradient * (1 + max(SCALED, 64 * 8 * roundoff)),
    "permuted": lambda gradient, roundoff: np.roll(gradient.ravel(), 1).reshape(gradient.shape),
}


def blind(case: Case, lane: Lane, yardstick: Yardstick) -> tuple[tuple[str, str], ...] | None:
    """What a case would not notice in a lane, held to the yardstick as any side is.

    Returns:
        None where nothing is asked: of a degenerate case, one without gradients, one in a lane of
        less precision; else a tuple of ``(wrong version, gradient)``, empty where all would be noticed. ``wide`` is
        no wrong version, but a budget far wider than what noise does.
    """
    right = {name: value for name, value in yardstick.oracle.items() if name.startswith("grad.") and value.size}
    data = yardstick.data
    nothing_valid = any(a.dtype == bool and not a.any() for a in data.inputs.values())
    nothing_left = case.pattern == "sparse" and not all(  # of a small array
        a.any() for group in (data.inputs, data.params) for a in group.values() if a.dtype.kind == "f")
    if case.degenerate or nothing_valid or nothing_left or not right or lane.torch_dtype not in DTYPES:
        return None
    noticed = 1 if yardstick.copies >= COPIES else FACTOR  # by few copies only what is far beyond doubt
    yardstick = replace(yardstick, gauges={})  # element by element: what sums tell is beside the point
    found = []
    for kind, spoil in WRONG.items():
        wrong = {name: spoil(value, lane.unit_roundoff) for name, value in right.items()}
        shares = compare(yardstick, yardstick.oracle | wrong)
        # a permutation that leaves equal numbers as they are is no mistake
        found += [(kind, name) for name in right
                  if worst(shares[name])[0] <= noticed and (kind != "permuted" or (wrong[name] != right[name]).any())]
    return tuple(found + [("wide", name) for name, used in yardstick.used.items() if used < 1 / WIDEST])


@dataclass
class Vision:
    """What the cases of one layer in one lane could see.

    Attributes:
        ordinary: number of cases of which something is asked.
        blind: number of those that would not notice some wrong gradient.
        apart: number of the others: degenerate ones, and those without gradients.
        reasons: number of blind cases by the wrong version that they would not notice.
        case_id: of a blind case.
    """

    ordinary: int = 0
    blind: int = 0
    apart: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    case_id: str | None = None

    def add(self, case_id: str, found: tuple[tuple[str, str], ...] | None) -> None:
        """Takes in what ``blind`` gave for a case."""
        self.apart += found is None
        self.ordinary += found is not None
        if found:
            self.blind += 1
            self.reasons.update({kind for kind, _ in found})
            self.case_id = case_id

    @property
    def ok(self) -> bool:
        """Whether so many blind cases are in keeping with a share of at most ``MOST``, at 95 % confidence."""
        return lower(self.blind, self.ordinary) <= MOST

    def to_json(self) -> dict[str, Any]:
        return {"ordinary": self.ordinary, "blind": self.blind, "apart": self.apart, "reasons": dict(self.reasons),
                "case_id": self.case_id}
