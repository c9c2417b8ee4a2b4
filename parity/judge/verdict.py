"""Who is wrong: a side that contradicts itself; of two that do not and differ, nobody can tell from here.

The reference's backward is held against the numerical derivative of the reference's own forward, autograd of the
port against that of the port's, a sequence in parts against the whole, a memory layout against another, and a lane
against float64. The two forwards are one witness each, never two: a backward that follows a wrong forward agrees
with it, and says nothing against the other side.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.case import Case, Data
from ..sides import port_forward, reference_forward, run_port, run_reference
from ..sides.textbook import parts
from ..spec.results import Arrays
from .budget import FACTOR
from .compare import CHOSEN
from .lanes import FAR, LANES, Lane
from .witness import DIRECTIONS, DOUBT, LEVELS, LIMIT, Differentiator

AGREE = 1e-6  # of a quantity's size: far above what float64 loses in an ordinary case, far below a mistake
WIDE = "cpu-float64"
WORK = 1 << 33  # multiplications, about, that the numerical derivatives of one case may take: some ten seconds
PROBES = 32  # forwards that finding out how to differentiate takes, about
STEP = 2.0**-20  # relative step along which a computation in float64 is smooth, and one in float32 is not
ROUGH = 2.0**-30  # second difference along it, of a quantity's size: float32 leaves 2^-24, a smooth function 2^-40

FARTHEST = 10  # scale past which, as in patterns far out, a numerical derivative is believed by itself of nobody

Shares = dict[str, float]  # by side, the largest share of a budget
Said = tuple[str, str]  # a verdict, and the reason in words
NOBODY, UNDECIDED = "nobody", "undecided"
UNSURE = "the numerical derivative is too uncertain here to tell them apart"
DIFFERENT = ("the two forwards are different functions; which is right cannot be told from here: "
             "a closed form, a third implementation or the source would tell")


def verdict(case: Case, lane: Lane, left: dict[str, Shares]) -> dict[str, Said]:
    """Names the culprit in a case.

    Args:
        case: a ``Case`` in which something was found.
        lane: the ``Lane`` that it was found in, whose numbers both sides see.
        left: dict from each quantity that left its budget to a dict from side to its largest share.

    Returns:
        dict from each of these quantities to (verdict, reason in words); the verdict is ``reference forward``,
        ``reference backward``, ``reference``, ``port``, ``nobody`` or ``undecided``, and empty where no witness
        was asked.
    """
    return _Hearing(case, lane).verdicts(left)


class _Hearing:
    """What the witnesses say about one case."""

    def __init__(self, case: Case, lane: Lane) -> None:
        self.case, self.lane = case, lane
        laid = case.data(lane.narrow).map(_widened)
        self.data = laid.map(lambda a: np.array(a, order="C"))
        self.raised: dict[str, str] = {}
        self.contradictions: dict[str, str] = {}
        self.forced: NDArray[Any] | None = None
        self.exact = False
        self.oracle = self._side("reference", self.data)
        self.forced = self.oracle.get(CHOSEN)
        self.port = self._side("port", self.data)
        for side, plain in (("reference", self.oracle), ("port", self.port)):
            self._contradicts(side, plain, self._side(side, laid),
                              f"in the memory layout {case.layout} it gives another result than in C order")
            if case.options.get("cut") and case.spec.states:
                whole = self._side(side, self.data, case.uncut())
                kept = {n: whole[n] for n in (*case.spec.outputs, *case.spec.states) if n in whole}
                self._contradicts(side, plain, kept, "in two parts a sequence gives another result than whole")
            if case.spec.greedy and plain:
                self._contradicts(side, plain, {CHOSEN: _chosen(plain, self.forced)},
                                  "it generates other ids than its own scores choose")
        outputs = case.spec.outputs or [n for n in self.oracle if not n.startswith("grad.")]
        self.agrees = all(_agree(self.oracle[n], self.port[n]) for n in outputs if n in self.oracle and n in self.port)

    @cached_property
    def ordinary(self) -> "_Hearing":
        """The same case with ordinary values: where all is zero or saturated, or at a tie, little can be told."""
        scales = self.case.spec.scales
        scale = min(self.case.scale, 1.0) if scales is None or 1.0 in scales else self.case.scale
        usual = replace(self.case, pattern="normal", scale=scale)
        return self if usual == self.case else _Hearing(usual, self.lane)

    def _side(self, side: str, data: Data, case: Case | None = None) -> Arrays:
        """The quantities of a side in float64; none where it raises, which is kept."""
        try:
            return self._run(side, data, case or self.case)
        except Exception as error:
            self.raised[side] = f"raises {type(error).__name__} in float64: {error}".splitlines()[0]
            return {}

    def _run(self, side: str, data: Data, case: Case) -> Arrays:
        with np.errstate(all="ignore"):
            found = (run_reference(case, data, self.forced) if side == "reference" else
                     run_port(case, data, LANES[WIDE], self.forced))
        return {name: np.asarray(value) for name, value in found.items()}

    def _contradicts(self, side: str, one: Arrays, other: Arrays, words: str) -> None:
        if one and any(not _agree(one[name], value) for name, value in other.items() if name in one):
            self.contradictions.setdefault(side, words)

    def verdicts(self, left: dict[str, Shares]) -> dict[str, Said]:
        """Verdict and reason of each quantity in ``left``, a dict from it to the largest share of each side."""
        if len(self.raised) == 1:
            ((side, words),) = self.raised.items()
            return dict.fromkeys(left, (side, words))
        if self.raised:
            return dict.fromkeys(left, ("", "; ".join(f"the {s} {words}" for s, words in self.raised.items())))
        usual = self.ordinary
        for hearing in dict.fromkeys((usual, self)):
            if len(hearing.contradictions) == 1:
                ((side, words),) = hearing.contradictions.items()
                return dict.fromkeys(left, (side, f"it contradicts itself: {words}"))
        if self.agrees and usual.agrees:
            return self._of_one_function(left)
        if usual.agrees:
            return dict.fromkeys(left, (UNDECIDED, f"with ordinary values both agree; with these, {DIFFERENT}"))
        return usual._of_two_functions(left)

    def _of_one_function(self, left: dict[str, Shares]) -> dict[str, Said]:
        said = self._surely([name for name in left if name.startswith("grad.")])
        found = {}
        for name, shares in left.items():
            who, why = said.get(name) or self._same(name)
            found[name] = self._in_lane(name, shares) if who == NOBODY else (who, why)
        return found

    def _surely(self, gradients: list[str]) -> dict[str, Said]:
        """What is said of the gradients; far out, where a numerical derivative may err, ordinary values must say it."""
        said = self._gradients(gradients, True)
        if self.ordinary is self or not _accused(said):
            return said
        usual = self.ordinary._gradients(gradients, True)
        if not _accused(usual) and not self.exact and (self.case.scale > FARTHEST or self.case.pattern in FAR):
            return {name: (UNDECIDED, UNSURE) if who in _accused(said) else (who, why)
                    for name, (who, why) in said.items()}
        return usual if _accused(usual) and _accused(usual).keys() != _accused(said).keys() else said

    def _same(self, name: str) -> Said:
        """Of a quantity that is no gradient."""
        return (NOBODY, "") if _agree(self.oracle[name], self.port[name]) else (UNDECIDED, DIFFERENT)

    def _of_two_functions(self, left: dict[str, Shares]) -> dict[str, Said]:
        # every gradient is asked: one may tell what the others cannot
        said = self._gradients([name for name in self.port if name.startswith("grad.")], False)
        accused = _accused(said)
        if len(accused) == 1:
            return dict.fromkeys(left, *accused.items())
        if not said:
            why = ("the two programs differ, and have no gradients to ask; a third implementation or the source would "
                   "tell which is right")
        elif all(who == NOBODY for who, _ in said.values()):
            why = f"by an amount that has no gradient, such as a constant, {DIFFERENT}"
        else:
            why = DIFFERENT
        return {name: said[name] if said.get(name, (NOBODY,))[0] != NOBODY else (UNDECIDED, why) for name in left}

    def _gradients(self, quantities: list[str], same: bool) -> dict[str, Said]:
        """Verdict and reason of each gradient, of one function or of two."""
        if not quantities:
            return {}
        if self.case.pattern == "nonfinite":
            return dict.fromkeys(quantities, ("", "not asked: where numbers are not finite there is no derivative"))
        ours = _Derivatives(self, lambda moved: reference_forward(self.case, self.data, moved))
        theirs = None if same else _Derivatives(
            self, lambda moved: port_forward(self.case, self.data, moved, LANES[WIDE]), DIRECTIONS)
        lost = {} if ours.why else self._lost(quantities)
        self.exact = not ours.why and ours.witness.dtype.kind == "c"
        found = {}
        for number, name in enumerate(quantities):
            remaining = len(quantities) - number
            right = ours.ask(name, remaining)
            if isinstance(right, str):
                found[name] = "", f"not asked: {right}"
                continue
            autograd = ours.like(name, self.port[name])
            # a reference without a backward has no gradient but this one
            backward = ours.like(name, self.oracle[name]) if name in self.oracle else right
            doubt = ours.doubt(name) + lost.get(name, 0.0)  # cancellation in float64 contradicts nobody
            follows, agree = _agree(backward, right, doubt), _agree(backward, autograd, 0.0 if backward is not right
                                                                    else doubt)
            if theirs is None:
                found[name] = _shared(follows, _agree(autograd, right, doubt), agree)
                if found[name][0] not in (NOBODY, UNDECIDED) and ours.kinked(name, np.abs(backward - autograd)):
                    found[name] = UNDECIDED, "here the function has a kink or a tie: each may be its derivative"
                continue
            other = theirs.ask(name, remaining)
            known = not isinstance(other, str)
            obeys = not isinstance(other, str) and _agree(theirs.like(name, self.port[name]), other,
                                     theirs.doubt(name) + lost.get(name, 0.0))
            found[name] = _apart(follows, obeys, known, agree)
        return found

    def _lost(self, quantities: list[str]) -> dict[str, float]:
        """What float64 loses of each gradient, summed: along a direction the errors of all entries add up."""
        try:
            wide = self._run("reference", self.data.map(lambda a: a.astype(np.longdouble)), self.case)
        except Exception:  # torch, say, has nothing wider
            return {}
        return {n: DOUBT * float(np.nan_to_num(np.abs(wide[n] - self.oracle[n]), nan=np.inf).sum())
                for n in quantities if n in wide}

    def _in_lane(self, name: str, shares: Shares) -> Said:
        """Of a quantity on which all agree in float64: whether one side alone loses it in the lane."""
        words = "all witnesses agree in float64: precision is lost in this lane, or its budget is too small"
        if len(shares) != 1:
            return NOBODY, words
        ((side, share),) = shares.items()
        if self.lane.dtype != "float64":
            return (UNDECIDED, words) if share <= FACTOR else (
                side, f"right in float64, but {share:.3g} budgets away in this lane, in which the other side stays "
                      "within: it computes with less precision than the lane has")
        rough = [s for s in ("reference", "port") if self._rough(s, name)]
        if len(rough) == 1:
            return rough[0], "it is not smooth where float64 is: something in it computes with less precision"
        return UNDECIDED, words if share <= FACTOR else f"by less than {AGREE:g} of its size, {DIFFERENT}"

    def _rough(self, side: str, name: str) -> bool:
        """Whether a quantity moves in jumps along a step that float64 resolves."""
        rng = np.random.default_rng([self.case.seed, 5])

        def moved(count: int) -> Data:
            return _moved(self.data, {n: a if a.dtype.kind != "f" else a * (1 + count * STEP * waves[n])
                                      for n, a in point.items()})

        point = _point(self.data)
        waves = {n: rng.uniform(-1, 1, a.shape) for n, a in point.items()}
        values = [self._side(side, moved(count)) for count in (0, 1, 2)]
        if any(name not in found or found[name].dtype.kind != "f" for found in values):
            return False
        first, second, third = (v[name].astype(np.float64) for v in values)
        size = np.sqrt(np.mean(first * first)) if first.size else 0
        return bool(np.abs(third - 2 * second + first).max(initial=0) > ROUGH * size)


def _accused(said: dict[str, Said]) -> dict[str, str]:
    """Who is accused in verdicts by quantity, with a reason."""
    return {who: why for who, why in said.values() if who not in (NOBODY, UNDECIDED, "")}


def _shared(follows: bool, obeys: bool, agree: bool) -> Said:
    """The verdict on a gradient of one function that both sides compute."""
    if follows and obeys:
        return (NOBODY, "") if agree else (UNDECIDED, UNSURE)
    if follows:
        return "port", "the forwards agree, backward and numerical derivative too; autograd of the port differs"
    if obeys:
        return "reference backward", "numerical derivative and autograd of the port agree, the backward differs"
    return UNDECIDED, ("backward and autograd agree, the numerical derivative does not: a kink or a jump?" if agree else
                       "backward, numerical derivative and autograd of the port are three different things")


def _apart(follows: bool, obeys: bool, known: bool, agree: bool) -> Said:
    """The verdict on a gradient where the two sides compute different functions."""
    if follows and (obeys or not known):
        return (NOBODY, "") if agree else (UNDECIDED, DIFFERENT)
    if follows:
        return "port", "the forwards differ, and autograd of the port is not the derivative of its own"
    if obeys or not known:
        return "reference forward", "the forwards differ, and the backward is not the derivative of its own"
    return UNDECIDED, "the forwards differ, and on neither side is the gradient that of its own"


class _Derivatives:
    """The numerical derivatives of one side's forward, asked for one at a time, within a limit of work.

    Args:
        outputs: function of the moved data that gives the outputs of the forward.
        limit: entries up to which an array is differentiated entry by entry.
    """

    def __init__(self, hearing: _Hearing, outputs: Callable[[Data], tuple[Any, ...]], limit: int = LIMIT) -> None:
        case, data = hearing.case, hearing.data
        self.data, self.left = data, WORK - PROBES * case.work
        self.vectors: Arrays = {}
        self.errors: Arrays = {}
        self.work, self.limit, self.why = max(case.work, 1), limit, ""
        self.made: Differentiator | None = None
        if self.left < 0:
            self.why = f"too large: one forward takes about {case.work:,} multiplications"
            return
        cotangents = tuple(c for _, given in parts(case.spec, case.options, data) for c in given.values())
        try:
            self.made = Differentiator(lambda here: outputs(_moved(data, here)), _point(data), cotangents, case.seed)
        except Exception as error:
            self.why = f"the numerical derivative raises {type(error).__name__}: {error}".splitlines()[0]

    @property
    def witness(self) -> Differentiator:
        assert self.made is not None, self.why
        return self.made

    def ask(self, quantity: str, remaining: int) -> NDArray[Any] | str:
        """The derivative by one array of so many, whole or along random directions; why not, as text."""
        if self.why:
            return self.why
        name = self._array(quantity)
        each = self.work * (1 if self.witness.dtype.kind == "c" else 2 * LEVELS)
        size = self.witness.point[name].size
        most = self.left // remaining // each
        count = size if size <= min(self.limit, most) else min(DIRECTIONS, most)
        if count < min(size, 2):
            return f"too large: less than two forwards of {self.work:,} multiplications are left for it"
        self.left -= count * each
        try:
            if count == size:
                found = self.witness.elementwise([name])
                self.errors[name] = found.errors[name]
                return found.values[name]
            self.vectors[name], values, self.errors[name] = self.witness.along(name, int(count))
        except Exception as error:
            return f"the numerical derivative raises {type(error).__name__}: {error}".splitlines()[0]
        return values

    def like(self, quantity: str, gradient: NDArray[Any]) -> NDArray[Any]:
        """A gradient as the derivative was asked for: whole, or along the same directions."""
        vectors = self.vectors.get(self._array(quantity))
        return gradient if vectors is None else np.array([np.sum(v * gradient) for v in vectors], np.float64)

    def doubt(self, quantity: str) -> NDArray[Any] | float:
        """How far a derivative that was asked for may be from the true one, beside ``AGREE``."""
        errors = self.errors[self._array(quantity)]
        if self.witness.dtype.kind == "c" or not errors.size:
            return 0.0
        return np.asarray(DOUBT * errors)

    def kinked(self, quantity: str, gap: NDArray[Any]) -> bool:
        """Whether the forward has a kink, a tie or a jump at the largest entry of ``gap``."""
        name = self._array(quantity)
        if name in self.vectors or not gap.size:
            return False
        place = np.unravel_index(int(np.nan_to_num(gap).argmax()), gap.shape)
        return self.witness.kinked(name, tuple(map(int, place)))

    def _array(self, quantity: str) -> str:
        name = quantity.removeprefix("grad.")
        return name[:-1] if name.endswith("0") and name[:-1] in self.data.states else name


def _agree(a: Any, b: Any, doubt: NDArray[Any] | float = 0.0) -> bool:
    """Whether two arrays are the same but for the rounding of float64 and a doubt, integers to the last."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.array_equal(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    size = np.sqrt(np.mean(b[finite] ** 2)) if finite.any() else 0
    with np.errstate(all="ignore"):
        return bool(np.all(equal | (finite & (np.abs(a - b) <= AGREE * (np.abs(b) + size) + doubt))))


def _widened(a: Any) -> NDArray[Any]:
    """The array in float64, its memory laid out as it was."""
    wide = np.empty_like(a, np.float64)
    if min(a.strides, default=0) < 0:
        wide = wide[(slice(None, None, -1),) * a.ndim]
    wide[...] = a
    return wide


def _point(data: Data) -> Arrays:
    """All arrays that a forward is a function of, by name."""
    return {name: a for group in (data.params, data.inputs, data.states) for name, a in group.items()}


def _moved(data: Data, point: Arrays) -> Data:
    """The data with other arrays in it."""
    params, inputs, states = ({name: point[name] for name in group} for group in
                              (data.params, data.inputs, data.states))
    return Data(params, inputs, states, data.cotangents, data.sizes)


def _chosen(found: Arrays, forced: NDArray[Any] | None) -> NDArray[Any]:
    """The generated ids, where they are not what the side's own scores choose beyond doubt, those that are."""
    ids, score = found[CHOSEN], found["score"]
    if not score.size or score.shape[-1] < 2:
        return ids
    along = np.logical_and.accumulate(ids == forced, axis=1)
    along = np.concatenate((np.ones_like(along[:, :1]), along[:, :-1]), axis=1)  # scored on the ids that it chose
    runner, best = np.moveaxis(np.partition(score, -2, axis=-1)[..., -2:], -1, 0)
    clear = best - runner > AGREE * (np.abs(best) + np.sqrt(np.mean(score * score)))
    return np.where(along & clear, score.argmax(axis=-1), ids)
