"""How far from the oracle an honest computation may be, element by element.

The reference's own code runs in a wider dtype (the oracle), and a few times in the lane's own with
random errors of the size of its roundoff in every operation. The budget is ``FACTOR`` times the
largest distance that such a copy kept from the oracle.
"""

from dataclasses import dataclass

import numpy as np

from ..sides.programs import run_reference
from .noise import Noisy, noise, recording

FACTOR = 8  # one for all layers, dtypes and devices; right results stay below 3.4 without it
COPIES = 6
FLOOR = 1 / 4  # of the root mean square of the spread: no element is luckier than its tensor


@dataclass(frozen=True)
class Yardstick:
    """What a case should give in a lane, and how closely.

    Attributes:
        data: the arrays of the case, in the lane's dtype.
        oracle: quantities, in the oracle's dtype.
        reference: quantities as the reference computes them in the lane.
        budget: greatest allowed distance from the oracle, element by element, by quantity.
    """

    data: object
    oracle: dict
    reference: dict
    budget: dict

    @property
    def forced(self):
        """The oracle's generated ids, for models that generate; else None."""
        return self.oracle.get("ids")


def measure(case, lane):
    """The yardstick of a case in a lane: the same for every lane of its dtype and roundoff."""
    data = case.data(lane.narrow).frozen()
    with np.errstate(all="ignore"):
        oracle = exact(case, data, lane)
    forced = oracle.get("ids")
    noisy = data.map(lambda a: a.view(Noisy))
    with recording() as ties:
        reference = run_reference(case, noisy, forced)
    copies = []
    for number in range(COPIES):
        # one copy also flushes subnormals to zero: vector kernels may, and later factors make it visible
        underflow = 0 if number else lane.underflow
        with noise(lane.unit_roundoff, f"{case.id} {number}", underflow=underflow, ties=ties):
            copies.append(run_reference(case, noisy, forced))
    budget = {name: allowance(value, [np.asarray(copy[name]) for copy in copies], lane)
              for name, value in oracle.items() if value.dtype.kind == "f"}
    return Yardstick(data, oracle, {name: np.asarray(value) for name, value in reference.items()}, budget)


def exact(case, data, lane):
    """The quantities of a case by the reference in the oracle's dtype.

    Where a stateful sequence is cut, the outputs are those of the whole sequence; the gradients are
    those of the parts, which do not reach across the cut.
    """
    wide = data.map(lambda a: a.astype(lane.oracle))
    oracle = {name: np.asarray(value) for name, value in run_reference(case, wide).items()}
    if case.options.get("cut") and case.spec.states:
        whole = run_reference(case.uncut(), wide)
        oracle |= {name: whole[name] for name in (*case.spec.outputs, *case.spec.states)}
    return oracle


def allowance(oracle, copies, lane):
    """The budget of one quantity: of the finite part of it, by what the copies have finite there."""
    finite = np.isfinite(oracle)
    spread = np.zeros(oracle.shape, oracle.dtype)
    with np.errstate(all="ignore"):
        for copy in copies:
            distance = np.abs(copy.astype(oracle.dtype) - oracle)
            np.fmax(spread, distance, out=spread, where=finite & np.isfinite(distance))
        usable = spread[finite]
        floor = FLOOR * np.sqrt(np.mean(usable * usable)) if usable.size else 0
        size = np.where(finite, np.abs(oracle), 0)
    return FACTOR * (np.fmax(spread, floor) + lane.unit_roundoff * size + lane.underflow)
