"""The largest share of the budget by the length of a sum, and at sizes in real use."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from ..cases.case import LAYOUTS, Case, choices, permitted
from ..catalogue import CATALOGUE, GROWING, REAL
from ..engine import Outcome, Progress, check
from ..errors import UsageError
from ..judge.lanes import LANES, select
from ..judge.report import Report

LENGTHS = tuple(4**k for k in range(1, 8))
CASES = 8  # a row and lane
OTHER = 3  # size of the axes that do not grow
PATTERNS = ("normal", "uniform")
Row = tuple[str, int | None]


def growth(layer: str = "*", lane: str = "cpu-*", *, cases: int = CASES, seed: int = 0, jobs: int = 1,
           progress: Progress | None = None) -> tuple[Report, dict[Row, dict[str, float | None]]]:
    """Holds twins against each other at growing lengths.

    Args:
        layer, lane: globs over those that are asked about, and over the lanes.
        cases: number of cases of each layer, size and lane.
        seed: from which all values follow.
        jobs, progress: of ``parity.check``.

    Returns:
        The ``Report``, and by row (``Affine N`` and a length, or a layer and its sizes) and lane the largest share,
        None where there was no case.

    Raises:
        UsageError: nothing is asked about such layers, no such lane can run here, or a number out of range.
    """
    rows: dict[Row, tuple[str, dict[str, Any]]] = {}
    for name, letter in GROWING:
        others = dict.fromkeys(CATALOGUE[name].letters, OTHER)
        rows |= {(f"{name} {letter}", length): (name, others | {letter: length}) for length in LENGTHS}
    for name, sizes in REAL:
        rows[f"{name} {' '.join(f'{k}={v}' for k, v in sizes.items())}", None] = name, sizes
    rows = {row: about for row, about in rows.items() if fnmatchcase(about[0], layer)}
    lanes = [entry.name for entry in select(LANES, lane) if not entry.untested()]
    if not rows or not lanes:
        raise UsageError(f"nothing to measure: {layer!r} matches none of "
                         f"{', '.join(dict.fromkeys(name for name, _ in (*GROWING, *REAL)))}, or no lane can run here")
    row_of = {case.id: row for row, (name, sizes) in rows.items() for case in _cases(name, sizes, seed, cases)}
    worst: dict[Row, dict[str, float | None]] = {row: dict.fromkeys(lanes) for row in rows}

    def seen(outcome: Outcome) -> None:
        of = worst[row_of[outcome.case_id]]
        largest = max([share for share in outcome.shares.values() if share is not None], default=np.inf)
        of[outcome.lane] = max(of[outcome.lane] or 0.0, largest)

    report = check(lane=lane, only=[(case_id, lane) for case_id in row_of for lane in lanes], jobs=jobs,
                   progress=progress, seen=seen)
    return report, worst


def _cases(layer: str, sizes: dict[str, Any], seed: int, number: int) -> Iterator[Case]:
    """So many cases of a layer at these sizes, ordinary in everything else."""
    spec = CATALOGUE[layer]
    for index in range(number):
        pattern = PATTERNS[index % len(PATTERNS)]
        options: dict[str, Any] = {}
        for name in choices(spec):
            options[name] = permitted(spec, name, sizes, pattern, options)[0]
        yield Case(spec, sizes, pattern, 1.0, next(iter(LAYOUTS)), options, seed + index)
