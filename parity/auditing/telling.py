"""What is told of a layer: findings, with what goes wrong because of them and what to do."""

import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..judge.finding import ERROR, NOTE, Finding
from ..judge.lanes import LANES, Lane
from .answers import BACKWARD, FAILED, FORWARD, PROTOCOL, STUB, WARNINGS, Audited
from .scene import Searched
from .subject import Sample, Subject
from .trace import OURS

KEEP = 4096  # entries up to which a finding keeps the whole arrays

BREAKS = {
    "state-lost": "A long sequence in pieces then restarts from zeros at every piece.",
    "overflow": "One such value turns the loss into NaN and training is lost: subtract the maximum before exp, go "
                "through log-softmax, use exp of negative numbers only.",
    "linear": "backward has to be linear in the cotangent: something is added to it, or the cotangent is not used.",
    "random": "Nothing can be said about a forward that gives something else each time.",
    "params": "An optimizer and this audit find the parameters in `self.params`, and their gradients in `self.grads`, "
              "in the same order.",
} | WARNINGS  # what goes wrong because of it, and what to do


class Teller:
    """One subject, and what is told of it.

    Args:
        subject: the ``Subject``.
        base: the first ``Sample``.
        named: whether the canonical one was: a forward other than that is an error then, else a note.
        seed: of what is drawn.
        emit: called with each finding as soon as it is known.
    """

    def __init__(self, subject: Subject, base: Sample, named: bool, seed: int, emit: Callable[[Finding], None]) -> None:
        self.subject, self.base, self.named, self.seed, self.emit = subject, base, named, seed, emit
        spec = subject.spec
        self.canonical = None if spec is None else Subject(spec.reference, spec)
        self.result = Audited(subject.name, twin=spec.name if spec else "")
        self.known: set[tuple[str, str]] = set()
        self.lane: Lane = LANES["cpu-float64"]
        self.searched = Searched()

    @property
    def narrow(self) -> bool:
        """Whether the layer computes in float32 inside."""
        return self.lane.dtype == "float32"

    @property
    def otherwise(self) -> str:
        """The severity of another forward than the canonical one."""
        return ERROR if self.named else NOTE

    def add(self, finding: Finding) -> None:
        """Keeps a finding, unless the same check already said it of this quantity."""
        key = finding.check, finding.quantity
        if key not in self.known:
            self.known.add(key)
            finding.breaks = finding.breaks or BREAKS.get(finding.kind, "")
            self.result.findings.append(finding)
            self.emit(finding)

    def tell(self, check: str, quantity: str, verdict: str, diagnosis: str, kind: str, sample: Sample,
             index: tuple[int, ...] | None = None, pair: tuple[Any, Any] | None = None, names: Sequence[str] = (),
             **rest: Any) -> None:
        """Adds a finding.

        Args:
            sample: in which it was found.
            index: of the worst element.
            pair: what is right and what was got, whole.
            names: of these two, for the values of that element.
        """
        right, got = pair or (None, None)
        values = {} if index is None else dict(zip(names, (a[index] for a in (got, right) if a is not None),
                                                   strict=False))
        self.add(Finding(check, quantity, verdict, diagnosis, kind, index=index, case_id=sample.id, words=sample.words,
                         expected=small(right), got=small(got), **{"values": values} | rest))

    def difference(self, check: str, quantity: str, expected: Any, got: Any, sample: Sample, diagnosis: str, kind: str,
                   verdict: str = PROTOCOL) -> None:
        """Adds the finding of two arrays that should be the same."""
        self.tell(check, quantity, verdict, diagnosis, kind, sample, farthest(expected, got), (expected, got),
                  ("got", "expected"))

    def raised(self, error: BaseException, what: str, sample: Sample) -> None:
        """Adds the finding of a call that raised."""
        if isinstance(error, NotImplementedError):
            self.stub(what, "raises NotImplementedError", sample)
            return
        words = f"{what} raised {type(error).__name__}: {error}".splitlines()[0]
        kind, why = _reading(error, sample)
        if isinstance(error, MemoryError):
            kind, why = "memory", "it allocates without end, or more than the memory limit"
        verdict = {"backward": BACKWARD, "forward": FORWARD if self.canonical else FAILED}.get(what, FAILED)
        self.tell("raised", what, verdict, f"{why}: {words}" if why else words, kind or "raised", sample,
                  # a rank refused is not a wrong gradient
                  severity=NOTE if "leading axes" in sample.words else ERROR, detail=trace_of(error))

    def stub(self, what: str, does: str, sample: Sample, quantity: str = "") -> None:
        """Adds the finding of a part that nobody has written yet, of which nothing else is said."""
        self.tell("stub", quantity or what, STUB, f"{what} {does}", "stub", sample)

def _reading(error: BaseException, sample: Sample) -> tuple[str, str]:
    """What an exception's text tells: axes that do not fit, by their letters."""
    text = str(error)
    found = re.search(r"from shape (\([\d,]+\)) into shape (\([\d,]+\))", text)
    letters = {v: k for k, v in sample.sizes.items() if isinstance(v, int)}
    if found:
        got, expected = (tuple(int(x) for x in g.strip("()").split(",") if x) for g in found.groups())
        names = ", ".join(letters.get(s, str(s)) for s in got)
        if sorted(got) == sorted(expected):
            return "transposed", f"transposed: shape {got} goes into {expected}"
        return "axis", f"summed over the wrong axis: shape {got} ({names}) goes into {expected}"
    if "not aligned" in text or "mismatch in its core dimension" in text or "could not be broadcast" in text:
        return "transposed", "transposed, or the wrong axis: shapes do not fit"
    return "", ""


def farthest(right: Any, got: Any, unit: NDArray[Any] | None = None) -> tuple[int, ...] | None:
    """Index of the element that is furthest away; None where shapes differ or nothing is there."""
    if right is None or got is None or np.shape(right) != np.shape(got) or not np.size(right):
        return None
    with np.errstate(all="ignore"):
        away = np.abs(np.asarray(got, np.float64) - np.asarray(right, np.float64))
        away = np.where(np.isfinite(away), away, np.inf if unit is None else 1e308)
        if unit is not None and np.max(away / unit) > 1e12:
            unit = None  # all far beyond rounding: the largest difference is the plainest to read
        flat = int(np.argmax(away if unit is None else away / unit))
    return tuple(int(i) for i in np.unravel_index(flat, np.shape(right)))


def small(a: Any) -> NDArray[Any] | None:
    """A copy of what a finding keeps whole; None of a large array."""
    return None if a is None or np.size(a) > KEEP else np.array(a)


def trace_of(error: BaseException) -> str:
    """The last lines of a traceback, those in the layer's own code."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)[1:]
    return "".join([line for line in lines if OURS not in line][-4:])
