"""What float32 may err by, measured in float64: code that is wrong in float32 alone is no part of its own measure."""

from dataclasses import replace

import numpy as np

from ..judge.budget import measure
from ..judge.compare import compare, worst
from ..judge.lanes import LANES
from ..spec.spec import Spec
from .common import Side, standard

SEEDS = 3
ENTRIES = 16  # of which a systematic error is told from rounding


def check_width(side: Side, spec: Spec) -> None:
    """In float32 a side errs as float64 does under noise of float32's size, and by nothing systematic.

    Raises:
        AssertionError: an entry is outside that budget, or a quantity is too large or too small as a whole, by its
            slope on the exact one: by more than 8 roundoffs, where honest errors of many entries cancel.
    """
    lane = LANES["cpu-float32"]
    for seed in range(SEEDS):
        case = standard(spec, seed)
        yardstick = measure(case, replace(lane, dtype="float64"))
        found = side.run(case, case.data(lane.narrow), lane)
        for name, share in compare(yardstick, found, partial=side.name == "reference").items():
            if not share.size:
                continue
            assert worst(share)[0] <= 1, f"{name} in float32 is {worst(share)[0]:.3g} budgets from the exact one"
            exact, got = np.asarray(yardstick.oracle[name], float).ravel(), found.get(name)
            if got is None or exact.size < ENTRIES or exact.size != np.size(got) or not exact.any():
                continue
            off = (np.asarray(got, float).ravel() - exact) @ exact / (exact @ exact)
            assert abs(off) <= 8 * lane.unit_roundoff, f"{name} in float32 is {1 + off:.9f} times the exact one"
