"""What mutants have to meet: the cases of the matrix, lane by lane, and the protocol checks of every layer."""

import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from ... import promises as protocol
from ...cases.case import Case, Data, admitted, derived
from ...cases.drawing import draw
from ...catalogue import CATALOGUE
from ...engine import run_case
from ...judge.budget import Yardstick, measure
from ...judge.compare import compare, worst
from ...judge.lanes import LANES, Lane
from ...processes import Died
from ...sides import run_port, run_reference
from ...spec.results import Arrays
from ...spec.spec import Spec
from .beside import idle, known
from .judges import SECONDS as TESTED
from .judges import apart, judges
from .mutants import PORT, REFERENCE, SIDES, sources
from .workers import forked, limit

LONG = 67  # past where the faults of a size begin
DRAWN = 240  # cases per layer, those of four runs of ``parity check``, of which ``cases`` chooses
MATRIX = ("cpu-float32", "cpu-float64")  # lanes
PROTOCOL = {side: {name: check for sides in protocol.CHECKS.values() for name, check in sides[side].items()}
            for side in SIDES}
IDLE = "no value that the fault could change"
TESTS = "tests"  # the check of what no layer runs
CHECKS = {side: (*MATRIX, *PROTOCOL[side], TESTS) for side in SIDES}
SECONDS = 10  # that one trial may take; the slowest takes about a twentieth


@dataclass
class Trial:
    """One check on one layer, and for the matrix on one case.

    Attributes:
        side: whose mutants meet it.
        check: a lane of the matrix, the name of a protocol check, or ``TESTS``.
        layer: name of the catalogue entry; of tests, of the module that they judge.
        case: the case, for the matrix.
        file: of the tests, see ``judges``.
        lines: by module, the lines that it runs.
        seconds: CPU time that it takes.
    """

    side: str
    check: str
    layer: str
    case: Case | None = None
    file: str = ""
    lines: dict[str, set[int]] = field(default_factory=dict, repr=False)
    seconds: float = 0.0

    def __call__(self, operator: str = "") -> str:
        """Runs it on the code as it is imported now; gives what it finds, empty where all is well.

        Of tests, ``IDLE`` where a fault of that operator never had anything to change.
        """
        if self.file:
            limit(2 * TESTED)
            return apart(partial(self._tests, operator))
        limit(SECONDS)
        spec = CATALOGUE[self.layer]
        spec = replace(spec, reference=getattr(sys.modules[spec.reference.__module__], self.layer))
        try:
            with warnings.catch_warnings(), np.errstate(**np.geterr()):
                warnings.simplefilter("error")
                if self.case is None:
                    PROTOCOL[self.side][self.check](spec)
                    return ""
                return self._matrix(self.case, spec, LANES[self.check])
        except (Exception, MemoryError) as error:
            return f"{type(error).__name__}: {error}"

    def _tests(self, operator: str) -> str:
        found = judges(self.file)
        failed = found.failed(found.tests[self.layer])
        return failed or IDLE * idle(sys.modules[self.layer], operator)

    def _matrix(self, case: Case, spec: Spec, lane: Lane) -> str:
        """What the matrix finds; the yardstick comes from the right code, once for all mutants."""
        yardstick, case = _yardstick(case, lane), replace(case, spec=spec)
        if self.side == PORT:
            return _beyond(yardstick, run_port(case, yardstick.data, lane, yardstick.forced))
        try:
            with np.errstate(all="ignore"):
                found = _beyond(yardstick, run_reference(case, yardstick.data, yardstick.forced))
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        # the matrix takes its oracle and its budget from the same wrong code: it has to find it all the same
        return found and "; ".join(f"{f.check} {f.quantity}" for f in run_case(case, [lane])[0].findings)


def _beyond(yardstick: Yardstick, quantities: Arrays) -> str:
    return ", ".join(name for name, share in compare(yardstick, quantities).items() if worst(share)[0] > 1)


_measured: dict[tuple[str, str], Yardstick] = {}  # by case and lane, the yardstick of the right code, without its data
_whole: dict[tuple[str, str], Yardstick] = {}  # the same with its data


def _yardstick(case: Case, lane: Lane) -> Yardstick:
    key = case.id, lane.name
    if key not in _measured:
        _measured[key] = replace(measure(case, lane), data=Data({}, {}, {}, {}))
    if key not in _whole:
        _whole[key] = replace(_measured[key], data=case.data(lane.narrow).frozen())
    return _whole[key]


def cases(spec: Spec) -> list[Case]:
    """Few of a layer's drawn cases, cheap ones first, that show all that is in many: every pair of choices."""
    drawn = [draw(spec, 0, index) for index in range(DRAWN)]
    seen: set[frozenset[tuple[str, object]]] = set()
    chosen = []
    for case in sorted(drawn, key=lambda case: (case.degenerate, sum(np.prod(s) for s in case.sizes.values()))):
        batch = min(case.sizes.get("N", 2), 2)  # none, one, several
        facts = {("pattern", case.pattern), ("layout", case.layout), ("degenerate", case.degenerate), ("batch", batch),
                 *((name, bool(value) if name == "cut" else value) for name, value in case.options.items())}
        pairs = {frozenset(pair) for pair in itertools.combinations(facts, 2)}
        if len(pairs - seen) > 2 - (not case.degenerate):
            seen |= pairs
            chosen.append(case)
    return [*chosen, *_long(spec)]


def _long(spec: Spec) -> Iterator[Case]:
    """An ordinary case with each axis beyond 64 in turn."""
    if spec.side != "textbook":
        return
    usual = protocol.standard(spec)
    for letter in spec.letters:
        size: Any = (LONG,) if letter == "..." else LONG
        sizes = derived(spec, usual.sizes | {letter: size}, usual.options)
        if sizes[letter] == size and admitted(spec, sizes, usual.options):
            yield replace(usual, sizes=sizes, scale=0.1)


def trials(layers: Iterable[str]) -> Iterator[Trial]:
    """All trials of some layers of the catalogue, with what they run and what they cost still unknown."""
    for name in layers:
        spec = CATALOGUE[name]
        for side in SIDES:
            for check in MATRIX:
                for case in cases(spec):
                    yield Trial(side, check, name, case)
            for check in protocol.CHECKS[spec.side][side]:
                yield Trial(side, check, name)


def survey(layer: str, file: str = "") -> tuple[list[Trial], dict[tuple[str, str], Yardstick], list[str]]:
    """Runs all trials of a layer, or the tests in a file of a module's, on the right code.

    Returns:
        The trials with their lines and seconds, the yardsticks, and what trials that should pass found.
    """
    done, wrong = [], []
    files = {source.path: name for side in SIDES for name, source in sources(side).items()}
    judged = [Trial(side, TESTS, layer, file=file, lines={layer: set()}) for side in SIDES if known([layer], side)]
    for trial in judged if file else trials([layer]):
        if not file:
            trial.lines = _traced(trial, files)
        start = time.process_time()
        found = trial()
        trial.seconds = time.process_time() - start
        done.append(trial)
        if found:
            wrong.append(f"{trial.layer}, {trial.check}: {found}")
    return done, _measured, wrong


def _traced(trial: Trial, files: dict[str, str]) -> dict[str, set[int]]:
    """The lines of some files that a trial runs, by module; none of those that only its class comes from."""
    spec = CATALOGUE[trial.layer]
    classes = getattr(spec.reference if trial.side == REFERENCE else spec.port_class, "__mro__", ())
    lines: dict[str, set[int]] = {cls.__module__: set() for cls in classes}

    def enter(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        module = files.get(frame.f_code.co_filename)
        if module is None:
            return None
        seen = lines.setdefault(module, set())

        def step(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            seen.add(frame.f_lineno)
            return step

        seen.add(frame.f_lineno)
        return step

    sys.settrace(enter)
    try:
        trial()
    finally:
        sys.settrace(None)
    return lines


def surveyed(layers: Iterable[str], jobs: int, file: str = "") -> list[Trial]:
    """All trials of some layers, or of modules that tests in a file judge, surveyed in forked workers.

    Raises:
        RuntimeError: a trial finds something in the right code, on which no mutant could be judged.
    """
    found = {}
    for layer, result in forked(partial(survey, file=file), list(layers), jobs):
        if isinstance(result, Died):
            raise RuntimeError(f"{layer}, before any mutant: {result.reason}")
        found[layer], measured, wrong = result
        if wrong:
            raise RuntimeError(f"found before any mutant: {'; '.join(wrong[:5])}")
        _measured.update(measured)
    return [trial for layer in layers for trial in found[layer]]
