"""Setting the trials on the mutants: which are killed, and by what."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator

from ...catalogue import CATALOGUE
from ...errors import UsageError, amount, whole
from ...judge.lanes import select
from ...processes import Died
from .equivalents import load
from .judges import judges
from .mutants import SIDES, Key, Mutant, StillbornError, mutants, planted, sources
from .operators import OPERATORS
from .summary import KILLED, STILLBORN, TIMEOUT, Summary, Verdict
from .trials import CHECKS, IDLE, Trial, surveyed
from .workers import forked

DEGENERATE = 10  # a degenerate case is tried as late as one that takes so many times as long
BELIEVED = 30  # trials that a mutant with an explanation meets, where the first kill is enough


def _rank(trial: Trial) -> float:
    return trial.seconds * (DEGENERATE if trial.case is not None and trial.case.degenerate else 1)


class Arena:
    """Mutants and the trials that each has to meet.

    Args:
        mutants: list of ``Mutant``.
        trials: list of surveyed ``Trial``.
        fast: whether the first kill is enough; else every check is asked.
        explained: keys of mutants that are said to be the same function.
    """

    def __init__(self, mutants: list[Mutant], trials: list[Trial], fast: bool, explained: Container[Key] = ()) -> None:
        self.mutants = mutants
        self.fast = fast
        self.explained = explained
        self.trials = sorted(trials, key=_rank)
        self.lately: dict[tuple[str, str], Trial] = {}  # by function, the trial that killed there last
        self.by_line: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        self.by_module: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, trial in enumerate(self.trials):
            for module, lines in trial.lines.items():
                self.by_module[trial.side, module].append(number)
                for line in lines:
                    self.by_line[trial.side, module, line].append(number)

    def candidates(self, mutant: Mutant) -> list[Trial]:
        """The trials that run through a mutant, the most promising first."""
        side, module = mutant.side, mutant.source.name
        first, last = mutant.lines or (0, -1)
        own_lines = {n for line in range(first, last + 1) for n in self.by_line.get((side, module, line), ())}
        numbers = own_lines or self.by_module[side, module]  # what importing runs concerns all that use the module
        own = mutant.function.split(".")[0]
        lately = self.lately.get((module, mutant.function))

        def order(trial: Trial) -> tuple[bool, bool, float]:
            return trial is not lately, trial.layer != own and mutant.lines is None, _rank(trial)

        return sorted((self.trials[n] for n in numbers), key=order)

    def meet(self, index: int) -> Verdict:
        """The verdict on one mutant; what a worker does."""
        mutant, verdict = self.mutants[index], Verdict()
        candidates = self.candidates(mutant)
        verdict.met = tuple(dict.fromkeys(trial.layer for trial in candidates))
        if self.fast and mutant.key in self.explained:
            candidates = candidates[:BELIEVED]
        try:
            with planted(mutant):
                for trial in candidates:
                    if trial.check in verdict.kills:
                        continue
                    start = time.process_time()
                    found = trial(mutant.operator)
                    verdict.seconds[trial.check] += time.process_time() - start
                    if found == IDLE:
                        raise StillbornError(IDLE)
                    if found:
                        verdict.kind = KILLED
                        verdict.kills[trial.check] = found
                        verdict.layer = verdict.layer or trial.layer
                        self.lately[mutant.source.name, mutant.function] = trial
                        if self.fast or len(verdict.kills) == len(CHECKS[mutant.side]):
                            break
        except StillbornError as error:
            verdict.kind, verdict.kills = STILLBORN, {STILLBORN: str(error)}
        return verdict

    def run(self, jobs: int) -> Iterator[tuple[Mutant, Verdict]]:
        """Sets the trials on all mutants; yields each with its verdict as it is known."""
        for index, verdict in forked(self.meet, list(range(len(self.mutants))), jobs):
            if isinstance(verdict, Died):
                verdict = Verdict(TIMEOUT if verdict.reason == TIMEOUT else KILLED, {verdict.reason: verdict.reason})
            yield self.mutants[index], verdict


def _drawn(mutants: list[Mutant], share: float, seed: int) -> list[Mutant]:
    """A share of the mutants, by what they are and a seed: the same ones, whatever else there is."""
    def place(mutant: Mutant) -> float:
        digest = hashlib.blake2s("\n".join((str(seed), *mutant.key)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2**64

    return [mutant for mutant in mutants if place(mutant) < share]


def mutate(layer: str = "*", *, fast: bool = False, hidden: bool = False, share: float = 1.0, seed: int = 0,
           jobs: int = 1, tests: str = "", progress: Callable[[int, int], object] | None = None) -> Summary:
    """Breaks the layers and sets the checks on them.

    Args:
        layer: glob over the layers of the catalogue, whose own code is broken, and over the modules
            that they share, such as ``_recurrent``.
        fast: whether the first check that notices is enough; else every check is asked.
        hidden: whether faults that begin somewhere are planted too, see ``operators.HIDDEN``.
        share: of the mutants that are tried, above 0, at most 1.
        seed: by which a share is drawn.
        jobs: number of processes.
        tests: Python file that says which tests judge modules that no layer is made of, see ``judges``; mutants of
            these are made too. Empty for none.
        progress: function of (mutants done, mutants in all), called as it goes.

    Returns:
        A ``Summary``.

    Raises:
        RuntimeError: a check finds something in the right code.
        UsageError: a glob that matches nothing, a share or a seed out of range, a file that is none.
    """
    if not 0 < amount("share", share) <= 1:
        raise UsageError(f"share is {share!r}, expected a number above 0, at most 1")
    seed = whole("seed", seed, 0)
    explained = {key: entry.reason for entry in load() for key in entry.mutants()}
    others = judges(tests).tests if tests else {}
    made = [mutant for side in SIDES for mutant in mutants(side, hidden, tuple(others))]
    places = [*CATALOGUE, *sorted({mutant.layer for mutant in made} - set(CATALOGUE))]
    wanted = select(dict(zip(places, places, strict=True)), layer)
    chosen = _drawn([mutant for mutant in made if mutant.layer in wanted], share, seed)
    layered, judged = ([m for m in chosen if (m.source.name in others) == other] for other in (False, True))
    # what tests judge comes first and in processes of its own: they fork, and torch bears none once it has computed
    modules = list(dict.fromkeys(mutant.source.name for mutant in judged))
    arenas = [Arena(judged, surveyed(modules, jobs, tests), fast, explained)] if judged else []
    if layered or not judged:
        layers = _concerned([place for place in wanted if any(m.layer == place for m in layered)])
        arenas.append(Arena(layered, surveyed(layers, jobs), fast, explained))
    asked = {key for key in explained if (tests or not _beside(key)) and (hidden or key[1] in OPERATORS)}
    unmade = asked - {mutant.key for mutant in made}
    summary = Summary(fast, explained, unmade=sorted(unmade))
    try:
        for arena in arenas:
            for mutant, verdict in arena.run(jobs):
                summary.add(mutant, verdict)
                if progress:
                    progress(len(summary.results) + summary.stillborn, len(chosen))
    except KeyboardInterrupt:
        summary.interrupted = True
    return summary


def _beside(key: Key) -> bool:
    """Whether an explanation is of a mutant of a module that no layer is made of."""
    module = key[0].partition(":")[0]
    return not any(module in sources(side) for side in SIDES)


def _concerned(places: list[str]) -> list[str]:
    """The layers that run code of some layers: they and what is derived from them; all, for shared code."""
    if not CATALOGUE.keys() >= set(places):
        return list(CATALOGUE)
    own = [cls for name in places for cls in (CATALOGUE[name].reference, CATALOGUE[name].port_class)]
    return [name for name, spec in CATALOGUE.items()
            if any(cls in getattr(one, "__mro__", (one,)) for one in (spec.reference, spec.port_class) for cls in own)]
