"""How often the budget is wrong about right results, and how often it finds a planted error.

Beside it, on the same cases, fixed tolerances in common use. Errors are planted in a gradient of the port:
relative ones of several sizes, in a single non-zero element or in all.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.case import Case, generator
from ..cases.drawing import draw
from ..judge.budget import measure
from ..judge.compare import compare, shares, worst
from ..judge.lanes import LANES, Lane
from ..sides import run_port
from ..spec.results import Arrays
from ..spec.spec import Spec

# error planted: its relative size, and whether in all elements instead of one
ERRORS = {"0.1 %": (1e-3, False), "1 %": (1e-2, False), "10 %": (0.1, False), "50 %": (0.5, False),
          "10 % in all": (0.1, True)}
PLANTED, PLANTED_LANE = "0.1 %", "cpu-float32"  # by which the rules are compared
PLANTED_SCALE = 10  # errors are planted at scales up to this
ORDINARY = "normal"  # the pattern of values reported apart

# rule: (rtol, atol) by dtype; |actual - expected| <= atol + rtol |expected|. The defaults of
# torch.testing.assert_close and numpy.allclose, and what is usual for gradients.
DTYPES = ("float64", "float32", "bfloat16", "float16")
RULES = {
    "assert_close": {"float64": (1e-7, 1e-7), "float32": (1.3e-6, 1e-5), "bfloat16": (1.6e-2, 1e-5),
                     "float16": (1e-3, 1e-5)},
    "allclose": dict.fromkeys(DTYPES, (1e-5, 1e-8)),
    "1e-4 / 1e-3": dict.fromkeys(DTYPES, (1e-3, 1e-4)),
}
BUDGET = "parity"


@dataclass
class Trial:
    """What one case in one lane gave.

    Attributes:
        layer, lane, pattern, case_id: which.
        share: the largest share of the budget that right results used.
        alarms: rules that called them wrong.
        planted: whether there was a gradient to plant errors in.
        found: by planted error, the rules that called it wrong.
    """

    layer: str
    lane: str
    pattern: str
    case_id: str
    share: float
    alarms: set[str] = field(default_factory=set)
    planted: bool = False
    found: dict[str, set[str]] = field(default_factory=dict)


def trial(case: Case, lane: Lane) -> Trial:
    """Runs one case in one lane; see ``Trial``."""
    yardstick = measure(case, lane)
    # of a reference without a backward the gradients are the oracle's alone
    right = yardstick.projected({n: q.astype(lane.dtype) for n, q in yardstick.oracle.items() if n.startswith("grad.")}
                                | yardstick.reference)
    port = yardstick.projected(run_port(case, yardstick.data, lane, yardstick.forced))
    port = {name: value for name, value in port.items() if name not in yardstick.untested}
    sides = [compare(yardstick, quantities) for quantities in (right, port)]
    share = max(worst(s)[0] for side in sides for s in side.values())
    result = Trial(case.spec.name, lane.name, case.pattern, case.id, share)
    if share > 1:
        result.alarms.add(BUDGET)
    for rule in RULES:
        if not all(_close(port[name], right[name], rule, lane) for name in port if port[name].dtype.kind == "f"):
            result.alarms.add(rule)
    place = _place(case, port) if case.scale <= PLANTED_SCALE else None
    if place:
        result.planted = True
        name, index = place
        for error, (size, everywhere) in ERRORS.items():
            wrong = port[name].copy()
            wrong[... if everywhere else index] *= 1 + size
            result.found[error] = {rule for rule in RULES if not _close(wrong, right[name], rule, lane)}
            if worst(shares(wrong, yardstick.oracle[name], yardstick.budget[name]))[0] > 1:
                result.found[error].add(BUDGET)
    return result


def _place(case: Case, quantities: Arrays) -> tuple[str, tuple[int, ...]] | None:
    """The name of a gradient and the index of an element that is not zero; None where all are."""
    rng = generator(f"{case.id} planted", 8)
    gradients = {name: q for name, q in quantities.items() if name.startswith("grad.")}
    places = [(name, where) for name, q in gradients.items() if len(where := np.argwhere(np.isfinite(q) & (q != 0)))]
    if not places:
        return None
    name, where = places[rng.integers(len(places))]
    return name, tuple(int(i) for i in where[rng.integers(len(where))])


def _close(actual: NDArray[Any], expected: NDArray[Any], rule: str, lane: Lane) -> bool:
    rtol, atol = RULES[rule][lane.torch_dtype]
    return np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def trials(catalogue: Mapping[str, Spec], name: str, seed: int, index: int, lane_names: list[str]) -> Iterator[Trial]:
    """The trials of a case of a layer; what a worker does."""
    for lane in lane_names:
        yield _tried(_drawn(catalogue, name, seed, index, lane), LANES[lane])


def lost(catalogue: Mapping[str, Spec], reason: str, done: list[Any], name: str, seed: int, index: int,
         lane_names: list[str]) -> tuple[Trial | None, tuple[str, int, int, list[str]] | None]:
    """The trial of the lane in which a worker died, an alarm of every rule, and what is left of the case."""
    if len(done) == len(lane_names):  # it died of what came after
        return None, None
    lane, *left = lane_names[len(done):]
    return _alarm(_drawn(catalogue, name, seed, index, lane), lane), (name, seed, index, left) if left else None


def _drawn(catalogue: Mapping[str, Spec], name: str, seed: int, index: int, lane: str) -> Case:
    return draw(catalogue[name], seed, index, LANES[lane].admits, LANES[lane].deal)


def _tried(case: Case, lane: Lane) -> Trial:
    """A trial; where a side raises, an alarm."""
    try:
        return trial(case, lane)
    except Exception:  # ``parity replay`` shows it
        return _alarm(case, lane.name)


def _alarm(case: Case, lane: str) -> Trial:
    """The trial of what gave no result: every rule calls it wrong."""
    return Trial(case.spec.name, lane, case.pattern, case.id, float("inf"), {BUDGET, *RULES})


def half(lane: str) -> bool:
    """Whether a lane, by name, computes in half precision."""
    return LANES[lane].round is not None


def alarmed(results: Iterable[Trial], rule: str) -> float:
    """Share of the results that a rule called wrong."""
    return _share(rule in t.alarms for t in results)


def found(results: Iterable[Trial], error: str, rule: str = BUDGET) -> float:
    """Share of the results with planted errors in which a rule found that one."""
    return _share(rule in t.found[error] for t in results if t.planted)


def _share(answers: Iterable[bool]) -> float:
    known = list(answers)
    return sum(known) / len(known) if known else float("nan")
