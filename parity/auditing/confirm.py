"""What makes a "right" of somebody's file ours: outputs and gradients that it could not prepare, judged here.

The process that examines a layer also runs its file, which may have changed the examination. So, where that found
nothing wrong, our process draws cases of its own from a seed that nobody knew, asks for their outputs and gradients
alone, and compares: with the canonical layer where the functions are the same, with the forward's own differences
where they are not. To forge these numbers is as hard as to compute them; a file that computes them with the canonical
layer, or numerically, is not told from one that has a backward of its own.
"""

import abc
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..cases.case import parse
from ..judge.compare import worst
from ..judge.finding import NOTE, WARNING, Finding
from ..judge.lanes import LANES, Lane
from ..judge.witness import DOUBT, NEARER, Differentiator
from ..spec.results import Arrays, Gradients
from . import canonical, samples
from .answers import BACKWARD, DIFFERS, FORWARD, Audited
from .rounding import NEARLY, apart, budgets, rms
from .scene import Measured, ask_canonical
from .subject import Function, Sample, Subject, copies, draw_cotangents, quantities
from .trace import TINY
from .trial import in_silence
from .wire import Channel

DIRECTIONS = 4  # along which an unknown function is differentiated
CASES = 2  # of a layer without a twin
SIGMAS = 12  # that the share of entries kept by a layer that draws its own mask may be away


class Died(Exception):
    """The process that was asked is there no more."""


def answer(subject: Subject, request: list[Any]) -> list[Any]:
    """In the layer's process: what it gives for a request, without its name.

    ``case``, an id and cotangents or None: outputs, gradients, names of the inputs taken, whether ``backward`` takes
    no cotangent. ``moved``, an id and arrays by name: outputs where these stand in place of the case's own.
    """
    try:
        what, case_id, given = request
        if what in ("given", "given moved"):
            return _answer_given(subject, given, what == "given moved")
        case = parse(case_id)
        sample = samples.sample(subject, case.sizes, case.pattern, case.scale, case.layout, case.seed, **case.options)
        if sample is None:
            return ["lacks"]
        return _given_back(subject, sample, given if what == "moved" else None, given)
    except BaseException as error:  # it is somebody's code
        return ["refused", f"{type(error).__name__}: {error}".splitlines()[0]]


def confirm(result: Audited, named: bool, link: Channel) -> list[Finding]:
    """Asks the process at the other end of ``link``; gives findings where what it says does not hold.

    Args:
        result: the ``Result`` that nothing was found wrong with; its remarks tell what was confirmed.
        named: whether the canonical layer was: another forward is an error then.
        link: the ``Link``, on whose other end ``answer`` is asked.

    Raises:
        Died: the process ended instead of answering.
        Malformed, TimeoutError: as ``Link.receive``.
    """
    from ..catalogue import CATALOGUE

    spec = CATALOGUE[result.twin]
    canonical, seed, precision = Subject(spec.reference, spec), secrets.randbits(32), _precision(result)
    base = samples.sample(canonical, seed=seed)
    assert base is not None
    plan = [base, *(s for s, kind in samples.plan(canonical, seed) if kind == "value")]
    usual, count = samples.base_options(spec), 0
    with in_silence():
        for sample in plan:
            asked = _Asked(canonical, sample, link, seed, precision)
            if asked.reply[0] != "quantities":
                if sample.drawn.options == usual and "leading axes" not in sample.words:
                    return [_finding("answer", asked.words, sample)]
                continue  # an option, or a rank, that it does not have
            found = asked.misshapen(sample.params | sample.inputs) or asked.judge(named)
            if found is None and sample is base:
                found = asked.judge_by_differences(seed)
            if found:
                return [found]
            count += found is False or sample is base
    result.remark(f"confirmed on {count} case{'s' * (count != 1)} that it could not know")
    return []


def _answer_given(subject: Subject, given: dict[str, Any], moved: bool) -> list[Any]:
    """The same for inputs that were not of the catalogue.

    Args:
        given: ``params``, ``inputs`` and ``cotangents``; for outputs alone, ``arrays`` by name beside them.
    """
    sample = replace(subject.base, params=dict(given["params"]), inputs=dict(given["inputs"]), cotangents={})
    return _given_back(subject, sample, given["arrays"] if moved else None, given["cotangents"])


def _given_back(subject: Subject, sample: Sample, moved: Arrays | None, cotangents: list[Any]) -> list[Any]:
    """The reply: outputs where other arrays stand in place of some of the sample's own, or outputs and gradients."""
    with in_silence():
        if moved is not None:
            arrays = {n: moved.get(n, a) for n, a in sample.point().items()}
            return ["outputs", list(Function(subject, sample)(arrays))]
        outputs, got = quantities(subject, sample, copies(cotangents))
    return ["quantities", list(outputs), got, list(sample.inputs), bool(subject.without_cotangent)]


def confirm_given(result: Audited, link: Channel) -> list[Finding]:
    """As ``confirm``, where there is no canonical layer: against the differences of the layer's own forward.

    Args:
        result: the ``Result``, whose ``given`` sample says what the layer takes.
        link: the ``Link``.

    Raises:
        Died, Malformed, TimeoutError: as ``confirm``.
    """
    rng, count = np.random.default_rng(secrets.randbits(64)), 0
    says: set[str | None] = set()
    with in_silence():
        for _ in range(CASES):
            params = result.given.params if result.stale else {
                n: np.array(jitter(a, rng)) for n, a in result.given.params.items()}
            sample = replace(result.given, params=params,
                             inputs={n: jitter(a, rng) for n, a in result.given.inputs.items()})
            asked = _AskedGiven(result, sample, link, rng)
            if asked.reply[0] != "quantities":
                return [_finding("answer", asked.words, sample)]
            found = asked.misshapen({n for n, share in result.judged.items() if share <= 1})
            if found := found or asked.judge_by_differences(int(rng.integers(1 << 31))):
                return [found]
            says.add(as_named(result, sample, asked.outputs))
            count += 1
    result.remark(f"confirmed on {count} cases that it could not know")
    return _by_its_name(result, says)


def _by_its_name(result: Audited, says: set[str | None]) -> list[Finding]:
    """Findings where a forward is not what its name says, in every case that was asked."""
    named = canonical.called(result.name)
    if named is None or says & {None}:
        return []
    result.canonical = named.title
    if says == {canonical.RIGHT}:
        result.remark(f"its forward is that of {named.title}, as its name says")
        return []
    if len(says) == 1 and (word := says.pop()) not in (None, canonical.OTHER):
        return [result.policy.grade(by_name(result.name, str(word)))]
    return [Finding("forward", "", FORWARD, f"by its name it is {named.title}, and gives something else",
                    "canonical", NOTE, breaks="The gradient is judged against your own forward.")]


def by_name(name: str, wrong: str, words: str = "") -> Finding:
    """The finding of a forward that is nearly what its name says, and what is wrong with it."""
    named = canonical.called(name)
    assert named is not None
    return Finding("forward", "", FORWARD, f"{DIFFERS}, {named.title}: {wrong}", "name", WARNING, words=words)


def as_named(result: Audited, sample: Sample, outputs: Sequence[Any]) -> str | None:
    """What the outputs are by the layer's name; None where that says nothing."""
    constant = result.recipe.constant if result.recipe is not None else ()
    inputs = dict(sorted(sample.inputs.items(), key=lambda pair: pair[0] in constant))
    if any(n in inputs and a.dtype.kind in "iu" for n, a in inputs.items()) and len(inputs) == 2 and not sample.params:
        inputs = dict(sorted(inputs.items(), key=lambda pair: pair[1].dtype.kind != "f"))
    said = [canonical.judged(result.name, [*inputs.values(), *sample.params.values()], np.asarray(o)) for o in outputs]
    return canonical.RIGHT if canonical.RIGHT in said else next((s for s in said if s not in (None, canonical.OTHER)),
                                                                said[0])


class _Asking(abc.ABC):
    """A case that was asked for its outputs and gradients: ``reply`` begins with ``quantities`` where it gave them."""

    kinds = "fiub"  # of arrays that it may give
    gone: Exception | None = None

    def __init__(self, sample: Sample, link: Channel, precision: tuple[Lane, float]) -> None:
        self.sample, self.link = sample, link
        self.lane, self.loose = precision
        self.reply, what = self.ask_moved({}), "outputs"
        if self.reply[0] == "outputs":
            self.shapes = [np.shape(o) for o in self.reply[1]]
            self.cotangents = self.draw()
            self.reply, what = self.ask(), "gradients"
        self.words = f"it gave no {what}: {' '.join(map(str, self.reply[1:2])) or self.reply[0]}"
        if self.reply[0] == "quantities":
            self.outputs: list[Any]
            self.got: Gradients
            _, self.outputs, self.got, self.taken, self.bare = self.reply
            if [np.shape(o) for o in self.outputs] != self.shapes or not all(
                    a is None or np.asarray(a).dtype.kind in self.kinds for a in (*self.outputs, *self.got.values())):
                raise ValueError("no quantities")

    @abc.abstractmethod
    def draw(self) -> list[Any]:
        """Cotangents of its outputs."""

    @abc.abstractmethod
    def ask(self) -> list[Any]:
        """The reply to what the outputs and gradients are."""

    @abc.abstractmethod
    def ask_moved(self, arrays: Arrays) -> list[Any]:
        """The reply to what the outputs are at other arrays."""

    def misshapen(self, names: Iterable[str]) -> Finding | None:
        """The finding of one of these arrays whose gradient is missing or of another shape; None for none."""
        for name, a in self.sample.point().items():
            if name in names and a.dtype.kind == "f" and ((g := self.got.get(name)) is None or g.shape != a.shape):
                return _finding("gradient", "it is missing, or of another shape than its array", self.sample,
                                f"grad.{name}")
        return None

    def judge_by_differences(self, seed: int) -> Finding | None:
        """A finding against the differences of the layer's own forward; None where all is well."""
        got = {n: g for n, g in self.got.items() if g is not None}
        point = {n: a for n, a in self.sample.point().items() if a.dtype.kind == "f" and n in got}
        differ = Differentiator(self._moved, point, tuple(self.cotangents), seed, roundoff=self.lane.unit_roundoff)
        loose = self.loose + np.sqrt(self.lane.unit_roundoff)
        for _ in range(DIRECTIONS):
            vectors = {n: differ.rng.uniform(-1, 1, a.shape) for n, a in point.items()}
            parts = [got[n] * v for n, v in vectors.items()]
            size = sum(float(np.abs(p).sum()) for p in parts)
            for differ.shrink in (1.0, NEARER):  # shorter steps where a kink may lie within the longer ones
                try:
                    value, error = differ.direction(vectors)
                except ArithmeticError as refused:
                    return _finding("forward", f"forward said {refused}", self.sample)
                right = abs(sum(float(p.sum()) for p in parts) - value) <= loose * size + DOUBT * error
                if right:
                    break
            if not right:
                return _finding("gradient", "it is not the derivative of its own forward", self.sample)
        return None

    def _moved(self, arrays: Arrays) -> tuple[Any, ...]:
        """The forward at other arrays, as the derivative asks for it, which goes on after any error."""
        if self.gone is not None:
            raise self.gone
        try:
            reply = self.ask_moved(arrays)
        except (Died, OSError, ValueError) as error:
            self.gone = error
            raise
        if reply[0] != "outputs":
            raise ArithmeticError(" ".join(map(str, reply[:2])))
        return tuple(reply[1])


def jitter(array: Any, rng: np.random.Generator) -> NDArray[Any]:
    """Another array of the same kind: sums of one, signs, zeros and ones, and the range of integers stay."""
    a: NDArray[Any] = np.array(array)
    if not a.size or not a.ndim:
        return a * rng.uniform(0.75, 1.25) if a.dtype.kind == "f" else a
    if a.dtype.kind != "f" or np.isin(a, (-1, 0, 1)).all():
        return rng.permutation(a)
    moved: NDArray[Any] = a * rng.uniform(0.5, 1.5, a.shape)
    whole = (a >= 0).all() and np.allclose(a.sum(axis=-1), 1)
    if whole:
        moved /= moved.sum(axis=-1, keepdims=True)
        return moved
    return a + (1 - a) * a * rng.uniform(-0.5, 0.5, a.shape) if (a > 0).all() and (a < 1).all() else moved


class _AskedGiven(_Asking):
    """One sample without a twin, asked."""

    def __init__(self, result: Audited, sample: Sample, link: Channel, rng: np.random.Generator) -> None:
        self.rng, self.scalar = rng, result.recipe is not None and result.recipe.scalar
        self.given: dict[str, Any] = {"params": sample.params, "inputs": sample.inputs, "cotangents": [], "arrays": {}}
        super().__init__(sample, link, _precision(result))

    def draw(self) -> list[Any]:
        scalar = self.scalar and all(s == () for s in self.shapes)
        return [np.ones(())[()] if scalar else np.array(self.rng.standard_normal(s))[()] for s in self.shapes]

    def ask(self) -> list[Any]:
        return _ask(self.link, "given", self.sample.id, self.given | {"cotangents": self.cotangents})

    def ask_moved(self, arrays: Arrays) -> list[Any]:
        return _ask(self.link, "given moved", self.sample.id, self.given | {"arrays": arrays})


def _ask(link: Channel, *request: Any) -> list[Any]:
    link.send(*request)
    reply = link.receive()
    if reply is None or reply[0] == "died":
        raise Died(str(reply[1]) if reply else "its process ended before it was judged")
    if reply[0] != "answer" or len(reply) < 2:
        raise ValueError("no answer")
    return reply[1:]


def _precision(result: Audited) -> tuple[Lane, float]:
    """The lane that a layer computes in, and the relative error that its warnings leave it beyond that."""
    kinds = {finding.kind for finding in result.findings}
    loose = {"clamped-log": TINY, "approximate": NEARLY}
    return LANES["cpu-float32" if "float32" in kinds else "cpu-float64"], max(
        result.policy.tolerance, *(loose.get(k, 0.0) for k in kinds), 0.0)


def _finding(check: str, words: str, sample: Sample, quantity: str = "", verdict: str = BACKWARD) -> Finding:
    return Finding(check, quantity, verdict, f"on a case that it could not know, {words}", "unconfirmed",
                   case_id=sample.id, words=sample.words)


class _Asked(_Asking):
    """One case, asked."""

    kinds = "f"

    def __init__(self, canonical: Subject, sample: Sample, link: Channel, seed: int, precision: tuple[Lane, float]
                 ) -> None:
        self.canonical, self.seed = canonical, seed
        super().__init__(sample, link, precision)
        if self.reply[0] == "quantities":
            self.named: Arrays = dict(zip(canonical.entry.outputs, self.outputs, strict=True))
            if self.bare and all(s == () for s in self.shapes):  # a loss that starts the chain itself, with 1
                self.cotangents = [np.ones(())[()] for _ in self.shapes]

    def draw(self) -> list[Any]:
        right, _ = quantities(self.canonical, self.sample)
        self.same_shapes = self.shapes == [o.shape for o in right]
        rng = np.random.default_rng([self.seed, 23])
        return (draw_cotangents(self.canonical, self.sample, right) if self.same_shapes else
                [rng.standard_normal(s) for s in self.shapes])

    def ask(self) -> list[Any]:
        return _ask(self.link, "case", self.sample.id, self.cotangents)

    def judge(self, named: bool) -> Finding | Literal[False] | None:
        """A finding against the canonical layer; None for another function than that, False where all is well."""
        sample, spec = self.sample, self.canonical.entry
        if not self.same_shapes:
            return _finding("forward", "its outputs have other shapes than the canonical ones", sample, "",
                            FORWARD) if named else None
        measured = Measured(sample, self.cotangents, self.named, self.got)
        drawn = [n for n in spec.drawn if n in sample.inputs and n not in self.taken]
        if drawn:
            kept, (own, *_) = self.outputs[0] != 0, self._own_draw(drawn)
            share = np.mean(own != 0)
            if abs(np.mean(kept) - share) > SIGMAS * np.sqrt(max(share * (1 - share), 1e-4) / kept.size):
                return _finding("drawn", f"{drawn[0]} is true in {np.mean(kept):.1%} of the draws", sample, drawn[0],
                                FORWARD)
            measured.sample = replace(sample, inputs={n: a for n, a in sample.inputs.items() if n not in drawn})
        ask_canonical(self.canonical, measured)
        right = Measured(sample, self.cotangents, measured.right_outputs, {**measured.canonical})
        units, _ = budgets(self.canonical, right, self.lane)
        for name, a in measured.right_outputs.items():
            if not self.close(self.named[name], a, units["output", name]):
                return _finding("forward", "it is another function than the canonical one", sample, name,
                                FORWARD) if named else None
        for name, a in measured.canonical.items():
            if not self.close(self.got[name], a, units["grad", name]):
                return _finding("gradient", "it is not that of the canonical one, whose forward is the same", sample,
                                f"grad.{name}")
        return False

    def _own_draw(self, drawn: list[str]) -> tuple[NDArray[Any], ...]:
        inputs = {n: a for n, a in self.sample.inputs.items() if n not in drawn}
        return quantities(self.canonical, replace(self.sample, inputs=inputs))[0]

    def ask_moved(self, arrays: Arrays) -> list[Any]:
        return _ask(self.link, "moved", self.sample.id, arrays)

    def close(self, got: NDArray[Any] | None, right: NDArray[Any], budget: NDArray[Any]) -> bool:
        """Whether an array is the right one: within its budget, and what cannot be known here of the layer's own."""
        if got is None or np.shape(got) != np.shape(right):
            return False
        own = self.loose * (np.abs(right) + rms(right)) + budget
        return worst(apart(got, right, self.lane, own))[0] <= 1
