"""One step of the derivative done wrongly, found by trying all of them (``trace``)."""

import contextlib
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scene import TOGETHER, Scene, Told
from .sizes import POWERS, power, size_of, symbols
from .subject import Subject
from .trace import LOCAL, LOOPED, SAMPLES, SOFTMAX, Refused, Seen, Site, Surgery, Tracer, candidates, describe

RAYS = 5  # directions along which a gradient is explained
PAIRS = 2000  # of paths that are tried together
MOST, NOTHING = 1e-3, 1e-3  # shares of a difference: what an explanation may leave of it, what is no change
SEARCH = TOGETHER // 3  # traced operations for one explanation: three arrays may be wrong for different causes


class Spent(Exception):
    """A search has run all that it may."""


class Search:
    """The derivative of one gradient's array along a few directions, in one subject, with any change in force.

    Args:
        scene, name: of what is to be explained.
        subject: the layer, or its canonical twin, whose forward is traced.
        wanted, plain: along ``vectors``, the derivative that was got, and the right one.

    Raises:
        Refused: the code does not survive the tracing.
    """

    def __init__(self, scene: Scene, name: str, subject: Subject, vectors: NDArray[Any], wanted: list[float],
                 plain: list[float]) -> None:
        self.scene, self.name, self.subject, self.vectors = scene, name, subject, vectors
        self.wanted, self.plain, self.left = wanted, plain, SEARCH
        self.canonical, self.exact = subject is scene.canonical, scene.exact
        self.tracer = Tracer(subject, scene.base.sample, scene.base.cotangents)
        self.tracer.hold(scene.base.right)
        self.seen: Seen = self.tracer.sites()

    def along(self, k: int, site: Site, kind: str) -> float:
        """The derivative along direction ``k`` with a change in force.

        Raises:
            Refused: the code does not survive the change.
        """
        return self.tracer.run(Surgery(site, kind, self.seen), {self.name: self.vectors[k]})

    def spend(self, runs: int = 1) -> None:
        """Takes the cost of runs.

        Raises:
            Spent: there was not enough.
        """
        cost = runs * sum(self.seen.values())
        self.left -= cost
        self.scene.searched.left -= cost
        if min(self.left, self.scene.searched.left) < 0:
            raise Spent

    @property
    def changes(self) -> list[tuple[Site, str]]:
        """All changes worth trying, those that explained another gradient first."""
        known = [(site, kind) for site, kind in self.scene.searched.changes.get(id(self.subject), [])
                 if site in self.seen]
        return [*known, *candidates(self.seen)]

    def explain(self) -> Told:
        """What explains the gradient, if a change does.

        Raises:
            Spent: not all of them could be tried.
        """
        found, paths = self._one_change()
        if found is None and self.scene.base.right[self.name].size > 1:
            with contextlib.suppress(Spent):  # the twin may still tell
                found = self._weighted(paths) or self._changed_and_scaled()
        return found

    def _one_change(self) -> tuple[Told, dict[Site, float]]:
        """The change that explains it; and what each path through the forward contributes along the first direction."""
        dead: set[Site] = set()
        paths: dict[Site, float] = {}
        wanted, plain = self.wanted, self.plain
        for site, kind in self.changes:
            if site in dead:
                continue
            self.spend()
            try:
                value = self.along(0, site, kind)
            except Refused:
                continue
            if abs(value - plain[0]) <= NOTHING * abs(wanted[0] - plain[0]):
                if kind in ("dropped", "1"):
                    dead.add(site)
                continue
            if kind == "dropped":
                paths[site] = plain[0] - value
            if self._explains(value, 0) and all(self._explains(self.along(k, site, kind), k) for k in range(1, RAYS)):
                self.scene.searched.changes.setdefault(id(self.subject), []).append((site, kind))
                return self._words(site, kind), paths
        return None, paths

    def _explains(self, value: float, k: int) -> bool:
        """Whether a change gives what was got: as closely as an explanation asks, and most of the difference."""
        wanted, plain = self.wanted[k], self.plain[k]
        return _near(value, wanted, self.exact) and abs(value - wanted) <= MOST * abs(plain - wanted)

    def _weighted(self, paths: dict[Site, float]) -> Told:
        """One path of the derivative, or two, counted another number of times than once, whatever that number is."""
        known: dict[Site, list[float]] = {}
        alone: dict[Site, float] = {}
        rest = np.subtract(self.wanted, self.plain)
        for site, first in paths.items():
            known[site] = [first]
            for k in range(1, RAYS):
                self.spend()
                try:
                    known[site].append(self.plain[k] - self.along(k, site, "dropped"))
                except Refused:
                    break
            if len(known[site]) < RAYS:
                del known[site]
            elif (c := _times(np.array([known[site]]), rest, self.exact)) is not None and abs(c[0]) > MOST:
                alone[site] = 1 + c[0]
        if alone:  # of several on one way, the one whose number is a size
            site = next((s for s, c in alone.items() if size_of(self.scene, c)), next(iter(alone)))
            return "weight", self._counted(site, alone[site])
        together = itertools.combinations([site for site in known if not site[1].endswith(".forward")], 2)
        for a, b in itertools.islice(together, PAIRS):
            c = _times(np.array([known[a], known[b]]), rest, self.exact)
            if c is not None and all(abs(x) > MOST for x in c):
                return "weight", "; and ".join(self._counted(s, 1 + x) for s, x in zip((a, b), c, strict=True))
        return None

    def _counted(self, site: Site, c: float) -> str:
        size = size_of(self.scene, c)
        known = f"{c:.6g} times" + f" ({size})" * bool(size)
        words = "is left out" if abs(c) < MOST else f"is counted {known}"
        return describe(site, "doubled", self.canonical).replace("is counted twice", words)

    def _changed_and_scaled(self) -> Told:
        """Two faults at once: one step done wrongly, and a factor that is a size."""
        for site, kind in self.changes:
            self.spend(2)
            try:
                values = [self.along(k, site, kind) for k in range(2)]
            except Refused:
                continue
            if not all(values) or _near(values[0], self.plain[0], self.exact):
                continue
            c = self.wanted[0] / values[0]
            if _near(c * values[1], self.wanted[1], self.exact) and _near(
                    c * self.along(2, site, kind), self.wanted[2], self.exact):
                sizes = symbols(self.scene.base.sample).items()
                told = next((power(x, p) for x, s in sizes for p in POWERS if _near(c, s**p, 1e-6)), f"{c:.6g}")
                first, words = self._words(site, kind)
                return first, f"{words}; and a factor of {told}"
        return None

    def _words(self, site: Site, kind: str) -> tuple[str, str]:
        words = describe(site, kind, self.canonical)
        if site[2] == "guard":
            return ("clamped-log", f"a clamped logarithm: {words}") if site in self.tracer.logged else (
                "epsilon", f"eps is forgotten: {words}")
        if site[1] in SOFTMAX and kind in ("y(1-y)", "1", "y"):
            return "jacobian", {"1": "a gradient already fused through softmax is passed on",
                                "y": "one path is dropped, a missing Jacobian term, that through its sum",
                                "y(1-y)": "the diagonal alone of softmax's Jacobian"}[kind] + f": {words}"
        if kind == "loser":
            return "branch", f"the wrong argument of a maximum gets the gradient: {words}"
        if kind == "axis":
            return "axis", f"summed over the wrong axis: {words}"
        if kind in SAMPLES:
            return "axis", f"summed over another axis: {words}"
        if kind in ("transposed", "turned"):
            return "transposed", f"transposed: {words}"
        if site[2] == "local" or kind in LOCAL or kind == "bare":
            return "jacobian", f"a missing Jacobian term: {words}"
        head = {"dropped": "one path is dropped, a missing Jacobian term", "doubled": "one path is doubled",
                "sign": "the sign of one path is wrong"}.get(kind, "only some time steps count")
        return (kind.replace("without-", "") + "-step" * kind.startswith("without") if kind in LOOPED else kind
                ), f"{head}: {words}"


def traced(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """One step of the derivative done wrongly, in the layer itself or, where that computes the same, in its twin."""
    rng = np.random.default_rng(5)
    vectors = rng.uniform(0.5, 1.5, (RAYS, *right.shape)) * rng.choice((-1, 1), (RAYS, *right.shape))
    wanted, plain = ([float(np.sum(a * v)) for v in vectors] for a in (got, right))
    subjects = [scene.subject, *([scene.canonical] if scene.canonical is not None and scene.agrees else [])]
    for subject in subjects:
        try:
            search = Search(scene, name, subject, vectors, wanted, plain)
        except Refused:  # code that does not survive the tracing is not asked this way
            continue
        try:
            found = search.explain()
        except Spent:
            return None
        if found is not None:
            return found
    return None


def _near(a: float, b: float, exact: float) -> bool:
    return abs(a - b) <= 10 * exact * (abs(b) + 1e-9)


def _times(paths: NDArray[Any], rest: NDArray[Any], exact: float) -> NDArray[Any] | None:
    """The factors with which a few paths make up a difference; None where they do not."""
    with np.errstate(all="ignore"):
        c, _, rank, _ = np.linalg.lstsq(paths.T, rest, rcond=1e-9)
    size = np.sqrt(np.mean(np.square(rest)))
    return c if rank == len(paths) and np.all(np.abs(c @ paths - rest) <= 10 * exact * size) else None
