"""What an audit says of a layer: five answers, from its findings, and which of those fail."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from ..judge.finding import ERROR, NOTE, RIGHT, SEVERITIES, UNAUDITED, WARNING, Finding, Plain, number
from ..judge.report import Result

FORWARD = "forward differs from the canonical one"
BACKWARD = "backward is not the derivative of its own forward"
BOTH = "both: the forward differs from the canonical one and the backward is not its own forward's derivative"
FRAGILE = "right, but not at extreme inputs"
PROTOCOL = "the textbook protocol is broken"
STUB = "not implemented"
FAILED = "it could not be run"
UNJUDGED = "not judged"
DIFFERS = "forward differs from what its name says"
VERDICTS = (FORWARD, BACKWARD, FRAGILE, PROTOCOL, STUB, FAILED)

# what fails only where it is asked to: by kind, what goes wrong because of it, and what to do
WARNINGS = {
    "accumulated": "The second step of training uses the sum of both gradients: overwrite, `self.grads[i][...] = dW`.",
    "approximate": "Usually a small constant inside a norm, root or logarithm, an eps, that backward takes otherwise "
                   "than forward: with a larger one, or near zero, the gradient is wrong.",
    "clamped-log": "Where the probability is small, loss and gradient are those of another function: go through "
                   "log-softmax.",
    "dtype": "Whoever gets the array may compute with integers where numbers are meant.",
    "float32": "A gradient check in float64 sees the rounding of float32, and small gradients vanish: take the dtype "
               "of the inputs, `np.empty_like(x, shape=...)`.",
    "mutated-cotangent": "The same cotangent often goes to another layer too (a residual, a sum), which then gets a "
                         "wrong one. Copy first.",
    "mutated-input": "Whoever passed the array still needs it: the layer before computes its gradient from it. Copy "
                     "first.",
    "mutated-params": "Only the optimizer may change the parameters.",
    "replaced": "An optimizer, and a model that gathered `grads`, hold the old arrays and never see these gradients: "
                "write `self.grads[i][...] = dW`.",
    "shape": "An optimizer may broadcast it, and whoever adds it to another gets a third shape: give it the shape of "
             "its array.",
    "name": "Whoever reads the name takes it for the other function; the gradient is judged against your own forward.",
    "second-backward": "backward changed what forward had kept, so it cannot be called again (for a second loss, or a "
                       "check).",
    "unused-cotangent": "What comes behind the loss, a weight or the scale of mixed precision, is lost: multiply by "
                        "it, or do not take it.",
    "state-kept": "The answer depends on what was computed before: reset the state at the start of forward.",
}

ARRAY = (np.ndarray, type(None))
TEXT = ("check", "quantity", "verdict", "diagnosis", "kind", "severity", "layer", "lane", "case_id", "words", "breaks",
        "detail")
SENT: dict[str, Any] = dict.fromkeys(TEXT, str) | dict.fromkeys(("expected", "got"), ARRAY) | {
    "index": (list, type(None)), "values": dict, "share": (float, int, type(None)), "pairs": type(None),
    "again": str}


def from_plain(plain: Any) -> Finding:
    """A finding as it was told, of which nothing is believed but that it is data.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(plain, dict) or plain.keys() != SENT.keys():
        raise ValueError("no finding")
    for name, kinds in SENT.items():
        if not isinstance(plain[name], kinds) or isinstance(plain[name], bool):
            raise ValueError(f"a finding's {name}")
    if plain["again"]:
        raise ValueError("a finding's command")
    if plain["severity"] not in SEVERITIES or plain["verdict"] not in VERDICTS:
        raise ValueError("a finding's severity or verdict")
    index = plain["index"]
    if index is not None and not all(type(i) is int and 0 <= i < 1 << 40 for i in index):
        raise ValueError("a finding's index")
    if not all(isinstance(v, (int, float)) for v in plain["values"].values()):
        raise ValueError("a finding's values")
    return Finding(**plain | {"index": None if index is None else tuple(index)})


@dataclass(frozen=True)
class Policy:
    """What fails an audit beside a wrong forward and a wrong gradient.

    Args:
        strict: whether warnings are errors.
        allow: kinds of them that are neither.
        tolerance: relative error of a gradient, beyond its budget, that is a note.

    Raises:
        UsageError: a kind that there is not.
    """

    strict: bool = False
    allow: tuple[str, ...] = ()
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.allow if kind not in WARNINGS]:
            raise UsageError(f"allow is {', '.join(unknown)}: no such kind, known are {', '.join(WARNINGS)}")

    @classmethod
    def of(cls, strict: bool, allow: str | Iterable[str]) -> "Policy":
        """The policy of kinds in a sequence, or in a text with commas between."""
        kinds = allow.split(",") if isinstance(allow, str) else allow
        return cls(strict, tuple(kind.strip() for kind in kinds if kind.strip()))

    def grade(self, finding: Finding) -> Finding:
        """The finding, with its severity; what was found to be a note stays one."""
        if finding.kind in WARNINGS and finding.severity != NOTE:
            finding.severity = NOTE if finding.kind in self.allow else ERROR if self.strict else WARNING
        elif finding.severity != NOTE:
            finding.severity = NOTE if self._tolerated(finding) else ERROR
        return finding

    def _tolerated(self, finding: Finding) -> bool:
        a, b = finding.got, finding.expected
        if not self.tolerance or finding.check != "gradient" or a is None or b is None or np.shape(a) != np.shape(b):
            return False
        return bool(np.all(np.abs(a - b) <= self.tolerance * (np.abs(b) + np.sqrt(np.mean(np.square(b))))))


@dataclass
class Audited(Result):
    """What was found about one layer of somebody's; ``judged`` and ``unjudged`` by gradient.

    Attributes:
        twin: name of its twin; empty where there is none.
        skipped: why it was not audited; empty where it was.
        policy: what fails beside wrong values.
        checked: number of samples that it was given.
        witnessed: by case id, ``(outputs, gradients)``, for the twin's autograd to be held against.
        given: the ``Sample`` of inputs that somebody passed, or that were guessed; None with a twin.
        canonical: what it is by its name, where its forward was held against that and it has no twin.
        recipe: how what was guessed is run, a ``Recipe``; None for what has forward and backward as in the book.
        variants: by the words of a finding that is about other values than the usual, the ``Recipe`` that ran it.
        shapes: of the outputs of the first sample.
        stale: why it was judged at the parameters that its constructor gives, and at no others; empty where it was not.
        seconds: it took.
    """

    twin: str = ""
    skipped: str = ""
    policy: Policy = Policy()
    checked: int = 0
    witnessed: dict[str, Any] = field(default_factory=dict)
    given: Any = None
    canonical: str = ""
    recipe: Any = None
    variants: dict[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ()
    stale: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no finding is an error, and nothing was left unjudged."""
        return not self.unjudged and not self.errors

    @property
    def against(self) -> list[str]:
        return [f"of {self.name} {name} was not judged: {why}" for name, why in self.unjudged.items()]

    @property
    def verdict(self) -> str:
        """The verdict over all findings."""
        found = {f.verdict for f in self.errors}
        if found:
            found |= {f.verdict for f in self.findings}
        if {FORWARD, BACKWARD} <= found:
            return BOTH
        order = (STUB, BACKWARD, FORWARD, FAILED, PROTOCOL)
        differs = any(f.kind == "name" and f.severity == WARNING for f in self.findings)
        return next((v for v in order if v in found), (self.skipped and UNAUDITED) or
                    (self.unjudged and UNJUDGED) or (differs and DIFFERS) or RIGHT)

    @property
    def answers(self) -> dict[str, str]:
        """The five answers, each ``yes``, ``no`` or a word on why neither."""
        said = {verdict: [f for f in self.findings if f.verdict == verdict] for verdict in VERDICTS}

        def no(verdict: str) -> bool:
            return any(f.severity == ERROR for f in said[verdict])

        gone = not self.shapes or any(f.check in ("raised", "ended") and not f.words for f in self.errors)
        return {
            "forward right": "no" if no(FORWARD) else "no twin" if not (self.twin or self.canonical) else
            "not what its name says" if any(f.kind == "name" for f in said[FORWARD]) else
            "another function" if any(f.kind not in WARNINGS and "leading axes" not in f.words
                                      for f in said[FORWARD]) else
            "unknown" if not self.shapes else "yes",
            "gradient right": "no" if no(BACKWARD) else "yes" if self.judged and not self.unjudged else UNJUDGED,
            "protocol kept": "no" if any(f.kind != "name" and (f.kind in WARNINGS or f.verdict == PROTOCOL)
                                         for f in self.findings) else
            "unknown" if gone else "yes",
            "implemented": "no" if said[STUB] else "yes",
            "could be run": "no" if gone and not said[STUB] else "yes",
        }

    @property
    def rows(self) -> list[Plain]:
        failed = {f.quantity for f in self.errors}
        return [row | {"quantity": f"grad.{row['quantity']}", "status": "fail" if f"grad.{row['quantity']}" in failed
                       else row["status"]} for row in super().rows]

    def lines(self) -> Iterator[str]:
        if self.skipped:
            yield f"{self.name}: skipped, {self.skipped}"
            return
        counts = [(sum(f.severity == s for f in self.findings), s) for s in (WARNING, NOTE)]
        also = "".join(f", {n} {s}{'s' * (n > 1)}" for n, s in counts if n and not self.errors)
        yield f"{self.name}{f' (twin: {self.twin})' if self.twin else ''}: {self.verdict}{also}"
        yield f"  {'; '.join(f'{asked}: {answer}' for asked, answer in self.answers.items())}"
        for name, why in self.unjudged.items():
            yield f"  not judged: {name}, {why}"
        told: dict[Any, str] = {}
        for f in self.findings:
            cause = f.check, f.diagnosis, f.words
            lines = f.lines()
            if cause in told and f.values:  # the same fault seen in another gradient
                lines = [f"{lines[0]}: the same as {told[cause]}", *lines[2:3]]
            told.setdefault(cause, f.quantity)
            yield from (f"  {line}" for line in lines)
        shares = [f"{name} {share:.0%}" for name, share in self.judged.items() if share <= 1]
        if shares:
            yield f"  (share of the budget used: {', '.join(shares)})"
        yield from (f"  ({text})" for text in self.remarks)

    def to_plain(self) -> Plain:
        """What the process that examined it tells ours."""
        given, recipe = self.given, None if self.recipe is None else self.recipe.to_plain()
        return {"twin": self.twin, "recipe": recipe, "variants": {w: r.to_plain() for w, r in self.variants.items()},
                "findings": [f.to_plain() for f in self.findings], "remarks": self.remarks, "checked": self.checked,
                "judged": self.judged, "unjudged": self.unjudged, "skipped": self.skipped,
                "witnessed": [[case_id, outputs, grads] for case_id, (outputs, grads) in self.witnessed.items()],
                "given": None if given is None else [given.id, given.params, given.inputs, given.sizes, given.seed],
                "shapes": [list(s) for s in self.shapes], "seconds": self.seconds, "stale": self.stale}

    def take(self, plain: Plain) -> None:
        """Takes what ``to_plain`` gave in the other process.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is not that.
        """
        self.findings = sorted((self.policy.grade(from_plain(f)) for f in plain["findings"]),
                               key=lambda f: SEVERITIES.index(f.severity))
        self.remarks = [_text(r) for r in plain["remarks"]]
        self.stale = _text(plain["stale"])
        self.skipped = _text(plain["skipped"])  # as by another name, under which it has no twin
        self.judged = {_text(name): float(share) for name, share in plain["judged"].items()}
        self.unjudged = {_text(name): _text(why) for name, why in plain["unjudged"].items()}
        self.checked, self.seconds = int(plain["checked"]), float(plain["seconds"])
        self.witnessed = {_text(case_id): (_named(outputs), _named(grads))
                          for case_id, outputs, grads in plain["witnessed"]}
        self.shapes = tuple(tuple(int(n) for n in s) for s in plain["shapes"])
        if plain["given"] is not None:
            from .subject import Sample

            self.twin = ""
            name, params, inputs, sizes, seed = plain["given"]
            self.given = Sample(_text(name), _named(params), _named(inputs),
                                sizes={k: int(v) for k, v in sizes.items()}, seed=seed)
        elif self.skipped or self.unjudged:
            self.twin = _text(plain["twin"]) and self.twin
        if plain["recipe"] is not None:
            from .adapted import Recipe

            self.recipe = Recipe.from_plain(plain["recipe"])
            self.variants = {_text(w): Recipe.from_plain(r) for w, r in plain["variants"].items()}

    def to_json(self) -> Plain:
        return super().to_json() | {
            "twin": self.twin, "verdict": self.verdict, "answers": self.answers, "skipped": self.skipped,
            "judged": {name: number(share) for name, share in self.judged.items()}, "unjudged": self.unjudged,
            "findings": [f.to_json() for f in self.findings], "samples": self.checked,
            "seconds": round(self.seconds, 3)}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _named(arrays: Any) -> dict[str, Any]:
    if not all(isinstance(a, ARRAY) for a in arrays.values()):
        raise ValueError("no arrays by name")
    return dict(arrays)
