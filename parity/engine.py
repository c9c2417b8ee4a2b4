"""Drawing cases, running both sides in every lane, and gathering what came out."""

import itertools
import shlex
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .cases.case import Case, parse
from .cases.drawing import CASES, DEALS, draw
from .errors import UsageError, amount, whole
from .judge.budget import Yardstick, measure, yardsticks
from .judge.compare import compare, shares, worst
from .judge.finding import Finding
from .judge.lanes import LANES, Entry, Lane, select
from .judge.pooled import RATE, Pool, leaning
from .judge.report import Report, Untested
from .judge.verdict import Shares, verdict
from .processes import one_thread, parallel
from .settings import own_settings, settled
from .sides import NoGradient, blamed, run_port, untested
from .spec.catalogue import Catalogue
from .spec.results import Arrays
from .spec.spec import Spec
from .trust.vacuity import blind

TURN = 10  # cases of a layer before the next layer's
BEYOND = "the case lies beyond what half precision can tell"
WORDS = 400  # characters of an error's message that are shown
HERE = str(Path(__file__).parent)
CLEAR = 3 / 4  # share of a budget up to which few noisy copies are enough
EXPLAINED = 5  # cases with findings of which the witnesses say something

Layers = str | Spec | Iterable[Spec]  # a glob over names, a Pair, or several
Progress = Callable[[int, int | None, str], object]  # of cases done, cases in all, the current layer


@dataclass
class Outcome:
    """What came out of one case in one lane.

    Attributes:
        case_id, layer, lane: which.
        shares: the largest share of the budget by quantity, over both sides; None where there was no
            element to judge.
        findings: list of ``Finding``.
        leaning: by quantity and side, how far its errors lean to one side, see ``pooled.leaning``.
        blind: wrong gradients that would not be noticed, see ``vacuity.blind``.
        untested: quantities that could not be judged, with the reason.
        pairs: where the layer is described, see ``Spec.path``.
    """

    case_id: str
    layer: str
    lane: str
    shares: dict[str, float | None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    leaning: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = field(default_factory=dict)
    blind: tuple[tuple[str, str], ...] | None = None
    untested: dict[str, str] = field(default_factory=dict)
    pairs: str | None = None


def run_case(case: Case, lanes: list[Lane]) -> list[Outcome]:
    """One case in every lane, both sides held against the oracle.

    Args:
        case: a ``Case``.
        lanes: list of ``Lane`` that can run here.

    Returns:
        list of ``Outcome``, one a lane.
    """
    return list(outcomes(case, lanes))


def outcomes(case: Case, lanes: Iterable[Lane]) -> Iterator[Outcome]:
    """The outcomes of ``run_case``, each as it is known."""
    known: dict[Any, Iterator[Yardstick]] = {}
    for lane in lanes:
        outcome = Outcome(case.id, case.spec.name, lane.name, pairs=case.spec.path)
        if reason := untested(case.spec, lane):
            outcome.untested = {"*": reason}
            yield outcome
            continue
        key = lane.dtype, lane.unit_roundoff
        try:
            known[key], mine = itertools.tee(known.get(key) or yardsticks(case, lane))
            _hold(outcome, case, lane, mine)
        except Exception as error:
            known.pop(key, None)
            # what a Pair says wrongly is neither side's
            who = "" if isinstance(error, UsageError) else getattr(error, "side", "")
            outcome.findings.append(_finding(outcome, "raised", verdict=who, diagnosis=_words(error)))
        yield outcome


def _hold(outcome: Outcome, case: Case, lane: Lane, yardsticks: Iterator[Yardstick]) -> None:
    """Holds both sides against the first yardstick by which all is clear, or against the last."""
    port: Arrays | None = None
    for yardstick in yardsticks:
        port = run_port(case, yardstick.data, lane, yardstick.forced) if port is None else port
        sides = {"reference": yardstick.reference, "port": port}
        found = {}
        for side, quantities in sides.items():
            with blamed(side):
                found[side] = compare(yardstick, quantities, partial=side == "reference")
        outcome.blind = blind(case, lane, yardstick)
        apart = _related(outcome, case, lane, yardstick)
        largest = max((worst(share)[0] for of in found.values() for share in of.values()), default=0.0)
        if largest <= CLEAR and not outcome.blind and not apart:
            break
    _judge(outcome, case, lane, yardstick, sides, found)
    _play(outcome, case, lane)
    outcome.findings += apart


def _judge(outcome: Outcome, case: Case, lane: Lane, yardstick: Yardstick, sides: dict[str, Arrays],
           found: dict[str, Arrays]) -> None:
    """Notes the shares that both sides use of their budgets, what lies beyond, and how their errors lean."""
    again: dict[str, str] = {}
    projected = {side: yardstick.projected(quantities) for side, quantities in sides.items()}
    outcome.untested = yardstick.untested
    for side, quantities in sides.items():
        outcome.leaning |= {(name, side): leaning(gauge, projected[side][name], yardstick.oracle[name],
                                                  lane.unit_roundoff)
                            for name, gauge in yardstick.gauges.items() if name in quantities}
        for name, share in found[side].items():
            largest, index = worst(share)
            outcome.shares[name] = max(largest, outcome.shares.get(name) or 0.0) if share.size else None
            if largest <= 1:
                continue
            values = {who: float(projected[who][name][index]) for who in ("port", "reference")
                      if name in projected[who]}
            values["oracle"] = float(yardstick.oracle[name][index])
            words = {}
            if side == "reference" and np.isfinite(values["oracle"]) and not np.isfinite(values[side]):
                words = {"verdict": "reference",
                         "diagnosis": "not finite in this precision where the exact value is finite"}
            elif side not in again:
                again[side] = _unsteady(case, lane, yardstick, side, sides[side])
            if again.get(side):
                words = {"verdict": side, "diagnosis": again[side]}
            elif isinstance(quantities[name], NoGradient):
                words = {"verdict": side, "diagnosis": "it gives no gradient (None) where there is one"}
            stable = bool(words) and side == "reference" and not again.get(side)
            outcome.findings.append(_finding(outcome, "stable" if stable else side, name, index=index, share=largest,
                                             values=values, **words))


def _related(outcome: Outcome, case: Case, lane: Lane, yardstick: Yardstick) -> list[Finding]:
    """What both sides say of the relation that the case has to others, where it has one."""
    if not case.spec.relations:
        return []
    from .promises.relations import relate

    return [_finding(outcome, "relation", found.quantity, verdict=found.side, diagnosis=found.words,
                     index=found.index, share=found.share) for found in relate(case, lane, yardstick)]


def _play(outcome: Outcome, case: Case, lane: Lane) -> None:
    """The case's program of calls on one object, where it has one, in one of the lanes of its kind."""
    from .promises.histories import broken, plays

    steps, sides = plays(case, lane)
    for side in sides:
        with np.errstate(all="ignore"):  # of cases that are not finite
            broke = broken(case, lane, side, steps)
        if broke:
            outcome.findings.append(_finding(outcome, "history", broke.quantity, verdict=side, diagnosis=str(broke)))


def _unsteady(case: Case, lane: Lane, yardstick: Yardstick, side: str, first: Arrays) -> str:
    """In words, that a side gives something else when it is run again on the same input; empty where it does not."""
    second = run_port(case, yardstick.data, lane, yardstick.forced) if side == "port" else measure(case, lane).reference
    largest = max((worst(share) for share in _moved(yardstick, first, second).values()), default=(0.0, None))[0]
    return f"not deterministic: run again on the same input, it moves by {largest:.3g} budgets" if largest > 1 else ""


def _moved(yardstick: Yardstick, first: Arrays, second: Arrays) -> Arrays:
    """How far the second run lies from the first, in budgets, of the quantities that have one."""
    first, second = yardstick.projected(first), yardstick.projected(second)
    return {name: shares(second[name], np.asarray(first[name], yardstick.oracle[name].dtype), budget)
            for name, budget in yardstick.budget.items() if name in first and name in second}


def _finding(outcome: Outcome, check: str, quantity: str = "*", **rest: Any) -> Finding:
    return Finding(check, quantity, layer=outcome.layer, lane=outcome.lane, case_id=outcome.case_id,
                   pairs=outcome.pairs, **rest)


def check(layer: Layers = "*", lane: str = "*", *, catalogue: Catalogue | str | None = None, cases: int | None = None,
          minutes: float | None = None, only: Iterable[tuple[str, str]] | None = None, seed: int = 0, jobs: int = 1,
          require: str | Iterable[str] = (), progress: Progress | None = None,
          seen: Callable[[Outcome], object] | None = None) -> Report:
    """Holds the two sides of layers against each other on drawn cases.

    Args:
        layer: a ``Pair``, several, or a glob over the names of the catalogue.
        catalogue: a ``Catalogue``, or the path of a Python file with pairs; by default this project's own layers.
        lane: glob over the names of the lanes.
        cases: number of cases per layer and lane; by default 24.
        minutes: draw cases for so long instead.
        only: pairs (case id, name of a lane) to run instead of drawing; of those, what the globs select.
        seed: from which all cases follow.
        jobs: number of processes.
        require: device types, such as ``cuda``, whose lanes must run: where they cannot, that is a failure.
        progress: function of (cases done, cases in all or None, current layer), called as it goes.
        seen: function of every ``Outcome``, called as it comes in.

    Returns:
        A ``Report``: ``.ok``, ``.reasons``, ``.rows``, ``.findings``.

    Raises:
        UsageError: a glob that matches nothing, a number out of range, arguments that contradict each other, or
            pairs that other processes cannot load.
    """
    table, pattern = _asked(layer, catalogue)
    if sum(given is not None for given in (cases, minutes, only)) > 1:
        raise UsageError("expected one of cases, minutes and only")
    cases = CASES if cases is None else whole("cases", cases, 1)
    minutes = None if minutes is None else amount("minutes", minutes)
    seed, jobs = whole("seed", seed, 0), whole("jobs", jobs, 1)
    specs, lanes = _select(table, "layer", pattern), _select(LANES, "lane", lane)
    report, running = _report(seed, specs, lanes, _required(require, lanes, lane))
    if jobs > 1:
        table.__reduce__()  # before the work: whether other processes can load it
    tasks: Iterator[tuple[str, list[str]]]
    total: int | None
    if only is not None:
        chosen = _chosen(only, specs, running, table)
        report.asked = list(dict.fromkeys((case.spec.name, name) for case, name in chosen))
        tasks, total = iter([(case.id, [name]) for case, name in chosen]), len(chosen)
    else:
        tasks = _drawn(specs, running, seed, cases, minutes)
        report.whole = not minutes and cases >= CASES and {entry.deal for entry in running} == {*range(DEALS)}
        total = None if minutes else cases * len(specs) * len(running)
    tasks = tasks if running else iter(())
    pool, start = Pool(), time.monotonic()
    if progress:
        progress(0, total, "starting")
    try:
        for some in parallel(partial(_outcomes_of, table), tasks, jobs, partial(_lost, table)):
            for outcome in some:
                report.add(outcome)
                if only is None and "*" not in outcome.untested:
                    report.reached(parse(outcome.case_id, table), LANES[outcome.lane])
                pool.add(outcome)
                if seen:
                    seen(outcome)
            if progress:
                progress(report.cases, total, some[-1].layer)
        _judge_pool(report, pool, seed)
        with one_thread():  # as in the run
            _explain(report, table)
    except KeyboardInterrupt:
        report.interrupted = True
    report.seconds = time.monotonic() - start
    return report


def _judge_pool(report: Report, pool: Pool, seed: int) -> None:
    """Adds the findings of what leans over all cases, where no single case told of it."""
    results = {(result.name, result.lane): result for result in report.results}
    for (layer, lane, quantity, side, kind), total in pool.leaning().items():
        result, pairs = results[layer, lane], pool.paths[layer]
        if any(finding.quantity == quantity and finding.check == side for finding in result.findings):
            continue
        file = f"{shlex.quote(pairs)} " if pairs else ""
        cases = pool.cases[layer, lane]
        again = (f"print(check(pair, lane={lane!r}, cases={cases}, seed={seed}))  # pair: {layer}" if pairs == "" else
                 f"parity check {file}--layer {layer} --lane {lane} --cases {cases} --seed {seed}")
        words = {"slope": "of its size", "mean": "of its root mean square, whatever the sign"}[kind]
        result.findings.append(Finding(
            "leaning", quantity, verdict=side, layer=layer, lane=lane, pairs=pairs, again=again, share=None,
            diagnosis=f"over {total.cases:,} cases its errors lean to one side, by {total.mean:.3g} {words} "
                      f"({total.mean / LANES[lane].unit_roundoff:.3g} u), {total.score:.3g} standard deviations; right "
                      f"code passes {pool.limit:.3g} in one run of {1 / RATE:,.0f}"))


@own_settings()
def replay(case_id: str, lane: str = "*", pairs: Any = None) -> Report:
    """Runs one case again.

    Args:
        case_id: text of the case.
        lane: glob over the names of the lanes.
        pairs: that it may name: a ``Pair``, several, a ``Catalogue``, or the path of a Python file with pairs; by
            default this project's own layers.

    Returns:
        A ``Report`` of that case.

    Raises:
        UsageError: not a case id, or a glob that matches nothing.
    """
    catalogue = Catalogue.of(pairs)
    case, lanes = parse(case_id, catalogue), _select(LANES, "lane", lane)
    report, running = _report(None, [case.spec], lanes, (), case)
    with one_thread():  # as in the run
        for outcome in outcomes(case, running):
            report.add(outcome)
        _explain(report, catalogue)
    return report


def assert_parity(pair: Layers, cases: int = 20, lane: str = "cpu-*", seed: int = 0, **options: Any) -> None:
    """Holds a ``Pair``, or several, to ``check``.

    Args:
        pair, cases, lane, seed, options: as for ``check``.

    Raises:
        AssertionError: it is no pass; the message is the report.
        UsageError: as ``check``.
    """
    __tracebackhide__ = True
    report = check(pair, lane, cases=cases, seed=seed, **options)
    if not report.ok:
        raise AssertionError(f"\n{report}")


def _asked(layer: Layers, catalogue: Catalogue | str | None) -> tuple[Catalogue, str]:
    """The catalogue, and the glob over its names, that were asked for."""
    if isinstance(layer, str):
        return Catalogue.of(catalogue), layer
    if catalogue is not None:
        raise UsageError(f"catalogue is given, and layer is {layer!r}, expected a glob such as '*'")
    if not isinstance(layer, Spec) and not isinstance(layer, Iterable):
        raise UsageError(f"layer is {layer!r}, expected a glob such as '*', a Pair or several")
    return Catalogue.of(layer), "*"


def _report(seed: int | None, specs: list[Spec], lanes: list[Lane], required: Iterable[str],
            case: Case | None = None) -> tuple[Report, list[Lane]]:
    """An empty report, and the lanes that can run, and that one case can run in."""
    reasons = {entry: entry.untested() or ("" if case is None or entry.admits(case) else BEYOND) for entry in lanes}
    running = [entry for entry, reason in reasons.items() if not reason]
    return Report(
        seed=seed,
        layers=[spec.name for spec in specs],
        lanes=[entry.name for entry in lanes],
        devices={entry.name: entry.device_name() for entry in running},
        untested=[Untested(entry.name, reason, entry.device in required)
                  for entry, reason in reasons.items() if reason],
        asked=[(spec.name, entry.name) for spec in specs for entry in running if not untested(spec, entry)],
    ), running


def _select(table: Mapping[str, Entry], name: str, pattern: str) -> list[Entry]:
    if not isinstance(pattern, str):
        raise UsageError(f"{name} is {pattern!r}, expected a glob such as '*'")
    if not table:
        raise UsageError(f"{name} is {pattern!r}, and there is none to choose from")
    return select(table, pattern)


def _required(require: str | Iterable[str], lanes: list[Lane], pattern: str) -> tuple[str, ...]:
    """The device types that are required; each must be that of a selected lane."""
    devices = (require,) if isinstance(require, str) else tuple(require)
    known = dict.fromkeys(entry.device for entry in LANES.values())
    for device in devices:
        if device not in known:
            raise UsageError(f"require is {device!r}, expected one of {', '.join(known)}")
        if not any(entry.device == device for entry in lanes):
            raise UsageError(f"require is {device!r}, but none of the lanes {pattern!r} is on it")
    return devices


@own_settings()
def _explain(report: Report, catalogue: Catalogue) -> None:
    """Says of some findings who is wrong, of each layer and quantity before the same again: hearing all takes long."""
    left: dict[tuple[str, str], dict[str, Shares]] = {}
    kinds: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for finding in report.findings:
        if finding.check in ("port", "reference") and not finding.verdict:
            key = finding.case_id, finding.lane
            left.setdefault(key, {}).setdefault(finding.quantity, {})[finding.check] = finding.share or 0.0
            kinds.setdefault(key, set()).add((finding.layer, finding.quantity))
    heard: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    seen: set[tuple[str, str]] = set()
    count = 0
    while len(heard) < min(len(left), 4 * EXPLAINED) and count < EXPLAINED:
        key = max((key for key in left if key not in heard), key=lambda key: bool(kinds[key] - seen))
        heard[key] = _heard(*key, left[key], catalogue)
        seen |= kinds[key]
        count += any(who for who, _ in heard[key].values())
    for finding in report.findings:
        if finding.check in ("port", "reference") and not finding.verdict:
            said = heard.get((finding.case_id, finding.lane), {})
            finding.verdict, finding.diagnosis = said.get(finding.quantity, ("", ""))


def _heard(case_id: str, lane: str, left: dict[str, Shares], catalogue: Catalogue) -> dict[str, tuple[str, str]]:
    """The verdict on what left its budget in a case; where the witnesses cannot speak, why."""
    try:
        return verdict(parse(case_id, catalogue), LANES[lane], left)
    except Exception as error:  # somebody's code: that it fails here too belongs to what is found
        return dict.fromkeys(left, ("", f"the witnesses could not be heard: {_words(error)}"))


def _words(error: Exception) -> str:
    """An error in a line: what it says, shortened, and the last place in code that is nobody's library."""
    said = " ".join(str(error).split())
    said = f"{said[:WORDS]} ..." if len(said) > WORDS else said
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, UsageError) or (type(error) is ValueError and frames[-1].filename.startswith(HERE)):
        return said  # our own words
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith((HERE, "<"))]
    place = (own or frames)[-1]
    return f"{type(error).__name__}: {said} ({place.filename}, line {place.lineno})"


def _drawn(specs: list[Spec], lanes: list[Lane], seed: int, cases: int,
           minutes: float | None) -> Iterator[tuple[str, list[str]]]:
    """Ids of cases, each with the names of the lanes to run it in; the layers take turns."""
    kinds = [[entry for entry in lanes if entry.deal == deal] for deal in range(DEALS)]
    deadline = minutes and time.monotonic() + 60 * minutes
    for first in itertools.count(0, TURN) if minutes else range(0, cases, TURN):
        upto = first + TURN if minutes else min(first + TURN, cases)
        for spec, index in itertools.product(specs, range(first, upto)):
            if deadline and time.monotonic() >= deadline:
                return
            for some in filter(None, kinds):  # each dtype has cases of its own, half precisions narrower ones
                case = draw(spec, seed, index, some[0].admits, some[0].deal)
                yield case.id, [entry.name for entry in some]


def _chosen(only: Iterable[tuple[str, str]], specs: list[Spec], lanes: list[Lane],
            catalogue: Catalogue) -> list[tuple[Case, str]]:
    """The pairs of ``only`` whose layer and lane are among these, parsed; refuses what is no such pair."""
    layers, names = {spec.name for spec in specs}, {entry.name for entry in lanes}
    found = []
    for pair in only:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise UsageError(f"only holds {pair!r}, expected pairs of a case id and the name of a lane")
        case_id, name = pair
        if name not in LANES:
            raise UsageError(f"only holds the lane {name!r}, known are {', '.join(LANES)}")
        case = parse(case_id, catalogue)
        if case.spec.name in layers and name in names:
            found.append((case, name))
    return found


def _outcomes_of(catalogue: Catalogue, case_id: str, lane_names: list[str]) -> Iterator[Outcome]:
    """What a worker does."""
    return settled(outcomes(parse(case_id, catalogue), [LANES[name] for name in lane_names]))


def _lost(catalogue: Catalogue, reason: str, done: list[Outcome], case_id: str,
          lane_names: list[str]) -> tuple[Outcome | None, tuple[str, list[str]] | None]:
    """The outcome of a case in the lane in which its worker died, and what is left of the case."""
    if len(done) == len(lane_names):  # it died of what came after
        return None, None
    lane, *left = lane_names[len(done):]
    spec = parse(case_id, catalogue).spec
    outcome = Outcome(case_id, spec.name, lane, pairs=spec.path)
    outcome.findings.append(_finding(outcome, "raised", verdict="undecided",
                                     diagnosis=f"the worker process died: {reason}"))
    return outcome, (case_id, left) if left else None
