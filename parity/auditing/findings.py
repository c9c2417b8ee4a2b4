"""What an audit says: findings, and the result of one layer."""

from dataclasses import dataclass, field

import numpy as np

FORWARD = "forward differs from the canonical one"
BACKWARD = "backward is not the derivative of its own forward"
BOTH = "both: the forward differs from the canonical one and the backward is not its own forward's derivative"
FRAGILE = "right, but not at extreme inputs"
PROTOCOL = "the textbook protocol is broken"
RIGHT = "right"


VERDICTS = (FORWARD, BACKWARD, BOTH, FRAGILE, PROTOCOL)
ARRAY = (np.ndarray, type(None))
SENT = {"severity": str, "check": str, "quantity": str, "verdict": str, "diagnosis": str, "kind": str, "case_id": str,
        "words": str, "index": (list, type(None)), "values": dict, "distance": (float, int, type(None)), "breaks": str,
        "expected": ARRAY, "got": ARRAY, "detail": str}


@dataclass
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        severity: ``error`` or ``note``.
        check: what was looked at: ``gradient``, ``forward``, ``raised``, ``shape``, ``dtype``, ...
        quantity: ``grad.Wh``, an output's name, or empty.
        verdict: one of the sentences above.
        diagnosis: in words, what explains it; empty where nothing known does.
        kind: short name of the diagnosis, the key of its table.
        case_id: text that names the inputs; for a layer of the catalogue, a case id.
        words: what is special about the inputs, "with N = 1".
        index: of the worst element, None where there is none.
        values: what each witness says about that element, by witness.
        distance: from what is right, in budgets; None where nothing was measured.
        breaks: what goes wrong because of it, and what to do.
        expected, got: the whole arrays, None where there are none or they are large.
        detail: a traceback or another text to read on.
        program: the text of ``script()``, None until asked for.
        maker: function of the finding that makes it.
    """

    severity: str
    check: str
    quantity: str = ""
    verdict: str = PROTOCOL
    diagnosis: str = ""
    kind: str = ""
    case_id: str = ""
    words: str = ""
    index: tuple | None = None
    values: dict = field(default_factory=dict)
    distance: float | None = None
    breaks: str = ""
    expected: object = None
    got: object = None
    detail: str = ""
    program: str | None = None
    maker: object = None

    def script(self):
        """The standalone program that shows this finding; empty where none could be made.

        It is made, shrunk and run when first asked for.
        """
        if self.program is None:
            self.program = self.maker(self) if self.maker else ""
        return self.program

    def to_plain(self):
        """What the process that found it tells ours."""
        plain = {name: getattr(self, name) for name in SENT}
        plain["values"] = {k: float(np.real(v)) for k, v in self.values.items()}
        plain["index"] = None if self.index is None else list(self.index)
        plain["distance"] = None if self.distance is None else float(self.distance)
        return plain | {k: None if plain[k] is None or plain[k].dtype.kind not in "biuf" else plain[k]
                        for k in ("expected", "got")}

    @classmethod
    def from_plain(cls, plain):
        """A finding as it was told, of which nothing is believed but that it is data.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(plain, dict) or plain.keys() != SENT.keys():
            raise ValueError("no finding")
        for name, kinds in SENT.items():
            if not isinstance(plain[name], kinds) or isinstance(plain[name], bool):
                raise ValueError(f"a finding's {name}")
        if plain["severity"] not in ("error", "note") or plain["verdict"] not in VERDICTS:
            raise ValueError("a finding's severity or verdict")
        index = plain["index"]
        if index is not None and not all(type(i) is int and 0 <= i < 1 << 40 for i in index):
            raise ValueError("a finding's index")
        if not all(isinstance(v, (int, float)) for v in plain["values"].values()):
            raise ValueError("a finding's values")
        return cls(**plain | {"index": None if index is None else tuple(index)})

    def to_json(self):
        """The finding as a dict of plain values."""
        plain = {k: v for k, v in vars(self).items() if k not in ("expected", "got", "program", "maker")}
        plain["index"] = None if self.index is None else list(self.index)
        plain["values"] = {k: _number(v) for k, v in self.values.items()}
        plain["index"] = None if self.index is None else list(self.index)
        plain["distance"] = None if self.distance is None else _number(self.distance)
        return plain | {"script": self.program or ""}

    @property
    def where(self):
        """The quantity with the index of its worst element."""
        return self.quantity + (f"[{', '.join(map(str, self.index))}]" if self.index else "")

    def lines(self):
        """The finding as lines of text."""
        head = f"{self.severity}: {self.check}"
        yield f"{head} {self.where}".rstrip() + (f", {self.words}" if self.words else "")
        yield f"  {self.verdict}" + (f": {self.diagnosis}" if self.diagnosis else "")
        if self.values:
            yield "  " + ", ".join(f"{k} {v:.6g}" for k, v in self.values.items())
        if self.distance is not None and np.isfinite(self.distance):
            yield f"  {self.distance:.3g} budgets away"
        places = [line.strip() for line in self.detail.splitlines() if line.startswith('  File "')]
        if places:
            yield f"  {places[-1]}"
        if self.breaks:
            yield f"  {self.breaks}"


def _text(value):
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _named(arrays):
    if not all(isinstance(a, ARRAY) for a in arrays.values()):
        raise ValueError("no arrays by name")
    return dict(arrays)


def _number(value):
    value = float(value)
    return value if np.isfinite(value) else str(value)


@dataclass
class Result:
    """What was found about one class.

    Attributes:
        name: of the class.
        twin: name of its twin; empty where there is none.
        skipped: why it was not audited; empty where it was.
        findings: list of ``Finding``, the gravest first.
        remarks: sentences: methods, kinks left out, what could not be asked.
        judged: by gradient, the largest share of its budget that it used in any sample.
        unjudged: by gradient or array, why nothing can be said of it.
        checked: number of samples that it was given.
        witnessed: by case id, ``(outputs, gradients)``, for the twin's autograd to be held against.
        given: the ``Sample`` of inputs that somebody passed; None with a twin.
        shapes: of the outputs of the first sample.
        seconds: it took.
    """

    name: str
    twin: str = ""
    skipped: str = ""
    findings: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    judged: dict = field(default_factory=dict)
    unjudged: dict = field(default_factory=dict)
    checked: int = 0
    witnessed: dict = field(default_factory=dict)
    given: object = None
    shapes: tuple = ()
    seconds: float = 0.0

    @property
    def ok(self):
        """Whether no finding is an error, and nothing was left unjudged."""
        return not self.unjudged and not any(f.severity == "error" for f in self.findings)

    @property
    def verdict(self):
        """The verdict over all findings."""
        found = {f.verdict for f in self.findings if f.severity == "error"}
        if found:
            found |= {f.verdict for f in self.findings}
        if {FORWARD, BACKWARD} <= found:
            return BOTH
        order = (BOTH, BACKWARD, FORWARD, PROTOCOL)
        return next((v for v in order if v in found), (self.skipped and "not audited") or
                    (self.unjudged and "not judged") or RIGHT)

    def remark(self, text):
        if text not in self.remarks:
            self.remarks.append(text)

    def to_plain(self):
        """What the process that examined it tells ours, beside the findings."""
        given = self.given
        return {"findings": [f.to_plain() for f in self.findings], "remarks": self.remarks, "checked": self.checked,
                "judged": self.judged, "unjudged": self.unjudged, "skipped": self.skipped,
                "witnessed": [[case_id, outputs, grads] for case_id, (outputs, grads) in self.witnessed.items()],
                "given": None if given is None else [given.id, given.params, given.inputs, given.sizes, given.seed],
                "shapes": [list(s) for s in self.shapes], "seconds": self.seconds}

    def take(self, plain):
        """Takes what ``to_plain`` gave in the other process.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is not that.
        """
        self.findings = [Finding.from_plain(f) for f in plain["findings"]]
        self.remarks = [_text(r) for r in plain["remarks"]]
        self.skipped = _text(plain["skipped"])  # as by another name, under which it has no twin
        self.judged = {_text(name): float(share) for name, share in plain["judged"].items()}
        self.unjudged = {_text(name): _text(why) for name, why in plain["unjudged"].items()}
        self.checked, self.seconds = int(plain["checked"]), float(plain["seconds"])
        self.witnessed = {_text(case_id): (_named(outputs), _named(grads))
                          for case_id, outputs, grads in plain["witnessed"]}
        self.shapes = tuple(tuple(int(n) for n in s) for s in plain["shapes"])
        if plain["given"] is not None:
            from .subject import Sample

            name, params, inputs, sizes, seed = plain["given"]
            self.given = Sample(_text(name), _named(params), _named(inputs),
                                sizes={k: int(v) for k, v in sizes.items()}, seed=seed)

    def to_json(self):
        """The result as a dict of plain values."""
        return {"name": self.name, "twin": self.twin, "ok": self.ok, "verdict": self.verdict, "skipped": self.skipped,
                "judged": {name: _number(share) for name, share in self.judged.items()}, "unjudged": self.unjudged,
                "findings": [f.to_json() for f in self.findings], "remarks": self.remarks, "samples": self.checked,
                "seconds": round(self.seconds, 3)}
