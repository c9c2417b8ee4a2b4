"""How often the budget is wrong about right results, and how often it finds a planted error.

Beside it, on the same cases, fixed tolerances in common use. A planted error is a relative one of
1e-3 in a single non-zero element of a single gradient of the port.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from ..cases.case import draw
from ..catalogue import CATALOGUE
from ..judge.budget import measure
from ..judge.compare import compare, worst
from ..judge.lanes import LANES
from ..sides import run_port

PLANTED = 1e-3
PLANTED_LANE, PLANTED_SCALE = "cpu-float32", 10  # where errors are planted: this lane, scales up to this
ORDINARY = "normal"  # the pattern of values reported apart

# rule: (rtol, atol) by dtype; |actual - expected| <= atol + rtol |expected|. The defaults of
# torch.testing.assert_close and numpy.allclose, and what is usual for gradients.
RULES = {
    "assert_close": {"float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)},
    "allclose": dict.fromkeys(("float32", "float64"), (1e-5, 1e-8)),
    "1e-4 / 1e-3": dict.fromkeys(("float32", "float64"), (1e-3, 1e-4)),
}
BUDGET = "parity"


@dataclass
class Trial:
    """What one case in one lane gave.

    Attributes:
        layer, lane, pattern, case_id: which.
        share: the largest share of the budget that right results used.
        alarms: rules that called them wrong.
        planted: whether there was a gradient to plant an error in.
        found: rules that called the planted error wrong.
    """

    layer: str
    lane: str
    pattern: str
    case_id: str
    share: float
    alarms: set = field(default_factory=set)
    planted: bool = False
    found: set = field(default_factory=set)


def trial(case, lane):
    """Runs one case in one lane; see ``Trial``."""
    yardstick = measure(case, lane)
    right = yardstick.reference
    port = run_port(case, yardstick.data, lane, yardstick.forced)
    sides = [compare(yardstick, quantities) for quantities in (right, port)]
    share = max(worst(s)[0] for shares in sides for s in shares.values())
    result = Trial(case.spec.name, lane.name, case.pattern, case.id, share)
    if share > 1:
        result.alarms.add(BUDGET)
    for rule in RULES:
        if not all(_close(port[name], right[name], rule, lane) for name in port if port[name].dtype.kind == "f"):
            result.alarms.add(rule)
    wrong = _plant(case, port) if lane.name == PLANTED_LANE and case.scale <= PLANTED_SCALE else None
    if wrong:
        name, value = wrong
        result.planted = True
        if worst(compare(yardstick, port | {name: value})[name])[0] > 1:
            result.found.add(BUDGET)
        result.found |= {rule for rule in RULES if not _close(value, right[name], rule, lane)}
    return result


def _plant(case, quantities):
    """A gradient with an error planted in one element, and its name; None where all are zero."""
    digest = hashlib.blake2s(f"{case.id} planted".encode(), digest_size=8).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    gradients = {name: q for name, q in quantities.items() if name.startswith("grad.")}
    places = [(name, where) for name, q in gradients.items() if len(where := np.argwhere(np.isfinite(q) & (q != 0)))]
    if not places:
        return None
    name, where = places[rng.integers(len(places))]
    index = tuple(where[rng.integers(len(where))])
    value = quantities[name].copy()
    value[index] *= 1 + PLANTED
    return name, value


def _close(actual, expected, rule, lane):
    rtol, atol = RULES[rule][lane.dtype]
    return np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def trials(name, seed, index, lane_names):
    """The trials of a case of a layer; what a worker does."""
    for lane in lane_names:
        yield _tried(draw(CATALOGUE[name], seed, index), LANES[lane])


def lost(reason, done, name, seed, index, lane_names):
    """The trial of the lane in which a worker died, an alarm of every rule, and what is left of the case."""
    if len(done) == len(lane_names):  # it died of what came after
        return None, None
    lane, *left = lane_names[len(done):]
    case = draw(CATALOGUE[name], seed, index)
    return _alarm(case, lane), (name, seed, index, left) if left else None


def _tried(case, lane):
    """A trial; where a side raises, an alarm."""
    try:
        return trial(case, lane)
    except Exception:  # ``parity replay`` shows it
        return _alarm(case, lane.name)


def _alarm(case, lane):
    """The trial of what gave no result: every rule calls it wrong."""
    return Trial(case.spec.name, lane, case.pattern, case.id, float("inf"), {BUDGET, *RULES})


def rate(results, what, rule, among=lambda trial: True):
    """Share of the results among which a rule raised an alarm (``alarms``) or found the error (``found``)."""
    counted = [rule in getattr(t, what) for t in results if among(t)]
    return sum(counted) / len(counted) if counted else float("nan")
