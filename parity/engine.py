"""Drawing cases, running both sides in every lane, and gathering what came out."""

import contextlib
import itertools
import json
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .budget import measure
from .case import draw, parse
from .catalogue import CATALOGUE
from .compare import Finding, compare, worst
from .errors import UsageError
from .lanes import LANES, select
from .processes import one_thread, parallel
from .programs import run_port
from .report import Report, Untested
from .settings import own_settings, settled
from .vacuity import blind
from .verdict import verdict

CASES = 60  # per layer and lane by default
TURN = 10  # cases of a layer before the next layer's
EXPLAINED = 5  # cases with findings whose witnesses are heard
LAST_FAILED = Path(".parity_cache") / "last-failed.json"


@dataclass
class Outcome:
    """What came out of one case in one lane.

    Attributes:
        case_id, layer, lane: which.
        shares: the largest share of the budget by quantity, over both sides.
        findings: list of ``Finding``.
        blind: wrong gradients that would not be noticed, see ``vacuity.blind``.
    """

    case_id: str
    layer: str
    lane: str
    shares: dict = field(default_factory=dict)
    findings: list = field(default_factory=list)
    blind: tuple | None = None


def run_case(case, lanes):
    """One case in every lane, both sides held against the oracle.

    Args:
        case: a ``Case``.
        lanes: list of ``Lane`` that can run here.

    Returns:
        list of ``Outcome``, one a lane.
    """
    return list(outcomes(case, lanes))


def outcomes(case, lanes):
    """The outcomes of ``run_case``, each as it is known."""
    yardsticks = {}
    for lane in lanes:
        outcome = Outcome(case.id, case.spec.name, lane.name)
        try:
            key = lane.dtype, lane.unit_roundoff
            if key not in yardsticks:
                yardsticks[key] = measure(case, lane)
            _hold(outcome, case, lane, yardsticks[key])
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            outcome.findings.append(_finding(
                outcome, "raised", "*",
                diagnosis=f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"))
        yield outcome


def _hold(outcome, case, lane, yardstick):
    sides = {"reference": yardstick.reference, "port": run_port(case, yardstick.data, lane, yardstick.forced)}
    for side, quantities in sides.items():
        for name, share in compare(yardstick, quantities).items():
            largest, index = worst(share)
            outcome.shares[name] = max(largest, outcome.shares.get(name, 0.0))
            if largest <= 1:
                continue
            values = {who: float(found[name][index]) for who, found in sides.items()}
            right = float(yardstick.oracle[name][index])
            words = {}
            if side == "reference" and np.isfinite(right) and not np.isfinite(values[side]):
                words = {"verdict": "reference",
                         "diagnosis": "not finite in this precision where the exact value is finite"}
            outcome.findings.append(_finding(outcome, "stable" if words else side, name, index=index, share=largest,
                                             oracle=right, **values, **words))
    outcome.blind = blind(case, lane, yardstick)


def _finding(outcome, check, quantity, verdict="", diagnosis="", index=None, port=None, reference=None, oracle=None,
             share=float("inf")):
    return Finding(check, outcome.layer, outcome.lane, quantity, verdict, diagnosis, index, port, reference, oracle,
                   share, outcome.case_id)


def check(layer="*", lane="*", *, cases=None, minutes=None, seed=0, jobs=1, require=(), last_failed=False,
          progress=None):
    """Holds the twins against each other on drawn cases.

    Args:
        layer: glob over the names of the catalogue.
        lane: glob over the names of the lanes.
        cases: number of cases per layer and lane; by default 60.
        minutes: draw cases for so long instead.
        seed: from which all cases follow.
        jobs: number of processes.
        require: device types, such as ``cuda``, whose lanes must run: where they cannot, that is a failure.
        last_failed: run the cases that failed last time, instead of drawing.
        progress: function of (cases done, cases in all or None, current layer), called as it goes.

    Returns:
        A ``Report``: ``.ok``, ``.rows``, ``.findings``.

    Raises:
        UsageError: a glob that matches nothing, or a number out of range.
    """
    specs, lanes = select(CATALOGUE, layer), select(LANES, lane)
    for name, value, least in (("cases", cases, 1), ("jobs", jobs, 1), ("minutes", minutes, 0), ("seed", seed, 0)):
        if value is not None and value < least:
            raise UsageError(f"{name} is {value}, expected >= {least}")
    reasons = {entry: entry.untested() for entry in lanes}
    running = [entry for entry, reason in reasons.items() if not reason]
    report = Report(
        seed=seed,
        layers=[spec.name for spec in specs],
        lanes=[entry.name for entry in lanes],
        devices={entry.name: entry.device_name() for entry in running},
        untested=[Untested(entry.name, reason, entry.device in require) for entry, reason in reasons.items() if reason],
    )
    if last_failed:
        tasks = list(_failed(specs, running))
        total = len(tasks)
    else:
        tasks = _drawn(specs, running, seed, cases, minutes)
        total = None if minutes is not None else len(specs) * len(running) * (CASES if cases is None else cases)
    start = time.monotonic()
    if progress:
        progress(0, total, "starting")
    try:
        for some in parallel(_outcomes_of, tasks if running else [], jobs, _lost):
            for outcome in some:
                report.add(outcome)
            if progress:
                progress(report.cases, total, some[-1].layer)
    except KeyboardInterrupt:
        report.interrupted = True
    _explain(report)
    report.seconds = time.monotonic() - start
    if running and not last_failed:
        _remember(report)
    return report


@own_settings()
def replay(case_id, lane="*"):
    """Runs one case again.

    Args:
        case_id: text of the case.
        lane: glob over the names of the lanes.

    Returns:
        A ``Report`` of that case.

    Raises:
        UsageError: not a case id, or a glob that matches nothing.
    """
    case, lanes = parse(case_id), select(LANES, lane)
    reasons = {entry: entry.untested() for entry in lanes}
    running = [entry for entry, reason in reasons.items() if not reason]
    report = Report(seed=None, layers=[case.spec.name], lanes=[entry.name for entry in lanes],
                    devices={entry.name: entry.device_name() for entry in running},
                    untested=[Untested(entry.name, reason, False) for entry, reason in reasons.items() if reason])
    with one_thread():  # as in the run
        for outcome in outcomes(case, running):
            report.add(outcome)
        _explain(report)
    return report


@own_settings()
def _explain(report):
    """Says of the first findings who is wrong; three witnesses take too long to hear for all of them."""
    heard = {}
    for number, finding in enumerate(report.findings):
        if finding.check not in ("port", "reference") or finding.verdict:
            continue
        key = finding.case_id, finding.lane
        if key not in heard and len(heard) < EXPLAINED:
            heard[key] = verdict(parse(finding.case_id), LANES[finding.lane])
        who, why = heard.get(key, {}).get(finding.quantity, ("", ""))
        report.findings[number] = replace(finding, verdict=who, diagnosis=why)


def _drawn(specs, lanes, seed, cases, minutes):
    """Ids of cases, each with the names of the lanes to run it in; the layers take turns."""
    names = [entry.name for entry in lanes]
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    count = (CASES if cases is None else cases) if minutes is None else None
    first = 0
    while first < count if count is not None else time.monotonic() < deadline:
        upto = first + TURN if count is None else min(first + TURN, count)
        for spec, index in itertools.product(specs, range(first, upto)):
            if deadline is not None and time.monotonic() >= deadline:
                return
            yield draw(spec, seed, index).id, names
        first = upto


def _failed(specs, lanes):
    if not LAST_FAILED.exists():
        return
    layers, names = {spec.name for spec in specs}, {entry.name for entry in lanes}
    for case_id, lane in json.loads(LAST_FAILED.read_text()):
        if case_id.split(":")[1] in layers and lane in names:
            yield case_id, [lane]


def _remember(report):
    """Keeps the failing cases for ``last_failed``, or forgets them where all is well."""
    failed = sorted({(finding.case_id, finding.lane) for finding in report.findings})
    with contextlib.suppress(OSError):  # a folder that cannot be written to is no reason to fail
        if failed:
            LAST_FAILED.parent.mkdir(exist_ok=True)
            temporary = LAST_FAILED.with_suffix(".tmp")
            temporary.write_text(json.dumps(failed))
            temporary.replace(LAST_FAILED)
        else:
            LAST_FAILED.unlink(missing_ok=True)


def _outcomes_of(case_id, lane_names):
    """What a worker does."""
    return settled(outcomes(parse(case_id), [LANES[name] for name in lane_names]))


def _lost(reason, done, case_id, lane_names):
    """The outcome of a case in the lane in which its worker died, and what is left of the case."""
    if len(done) == len(lane_names):  # it died of what came after
        return None, None
    lane, *left = lane_names[len(done):]
    outcome = Outcome(case_id, parse(case_id).spec.name, lane)
    outcome.findings.append(_finding(outcome, "raised", "*", diagnosis=f"the worker process died: {reason}"))
    return outcome, (case_id, left) if left else None
