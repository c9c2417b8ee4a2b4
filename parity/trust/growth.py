"""The largest share of the budget by the length of a sum, and at sizes in real use."""

import numpy as np

from ..cases.case import LAYOUTS, Case, choices, permitted
from ..catalogue import CATALOGUE, GROWING, REAL
from ..engine import check
from ..judge.lanes import LANES, select

LENGTHS = tuple(4**k for k in range(1, 8))
CASES = 8  # a row and lane
OTHER = 3  # size of the axes that do not grow
PATTERNS = ("normal", "uniform")
LANE_GLOB = "cpu-*"


def growth(*, cases=CASES, seed=0, jobs=1, progress=None):
    """Holds twins against each other at growing lengths.

    Args:
        cases: number of cases of each layer, size and lane.
        seed: from which all values follow.
        jobs, progress: of ``parity.check``.

    Returns:
        The ``Report``, and by row (``Affine N`` and a length, or a layer and its sizes) and lane the largest share,
        None where there was no case.
    """
    rows = {}
    for layer, letter in GROWING:
        others = dict.fromkeys(CATALOGUE[layer].letters, OTHER)
        rows |= {(f"{layer} {letter}", length): (layer, others | {letter: length}) for length in LENGTHS}
    for layer, sizes in REAL:
        rows[f"{layer} {' '.join(f'{k}={v}' for k, v in sizes.items())}", None] = layer, sizes
    row_of = {case.id: row for row, (layer, sizes) in rows.items() for case in _cases(layer, sizes, seed, cases)}
    lanes = [lane.name for lane in select(LANES, LANE_GLOB) if not lane.untested()]
    worst = {row: dict.fromkeys(lanes) for row in rows}

    def seen(outcome):
        of = worst[row_of[outcome.case_id]]
        largest = max([share for share in outcome.shares.values() if share is not None], default=np.inf)
        of[outcome.lane] = max(of[outcome.lane] or 0.0, largest)

    report = check(lane=LANE_GLOB, only=[(case_id, lane) for case_id in row_of for lane in lanes], jobs=jobs,
                   progress=progress, seen=seen)
    return report, worst


def _cases(layer, sizes, seed, number):
    """So many cases of a layer at these sizes, ordinary in everything else."""
    spec = CATALOGUE[layer]
    for index in range(number):
        pattern = PATTERNS[index % len(PATTERNS)]
        options = {}
        for name in choices(spec):
            options[name] = permitted(spec, name, sizes, pattern, options)[0]
        yield Case(spec, sizes, pattern, 1.0, next(iter(LAYOUTS)), options, seed + index)
