"""What an audit says: findings, and the result of one layer."""

from dataclasses import dataclass, field

import numpy as np

FORWARD = "forward differs from the canonical one"
BACKWARD = "backward is not the derivative of its own forward"
BOTH = "both: the forward differs from the canonical one and the backward is not its own forward's derivative"
FRAGILE = "right, but not at extreme inputs"
PROTOCOL = "the textbook protocol is broken"
RIGHT = "right"


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
        distance: from what is right, in units of the expected rounding; None where nothing was measured.
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

    def to_json(self):
        """The finding as a dict of plain values."""
        plain = {k: v for k, v in vars(self).items() if k not in ("expected", "got", "program", "maker")}
        plain["index"] = None if self.index is None else list(self.index)
        plain["values"] = {k: _number(v) for k, v in self.values.items()}
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
            yield f"  {self.distance:.3g} times the expected rounding away"
        places = [line.strip() for line in self.detail.splitlines() if line.startswith('  File "')]
        if places:
            yield f"  {places[-1]}"
        if self.breaks:
            yield f"  {self.breaks}"


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
    checked: int = 0
    witnessed: dict = field(default_factory=dict)
    given: object = None
    shapes: tuple = ()
    seconds: float = 0.0

    @property
    def ok(self):
        """Whether no finding is an error."""
        return not any(f.severity == "error" for f in self.findings)

    @property
    def verdict(self):
        """The verdict over all findings."""
        found = {f.verdict for f in self.findings if f.severity == "error"}
        if found:
            found |= {f.verdict for f in self.findings}
        if {FORWARD, BACKWARD} <= found:
            return BOTH
        order = (BOTH, BACKWARD, FORWARD, PROTOCOL)
        return next((v for v in order if v in found), (self.skipped and "not audited") or RIGHT)

    def remark(self, text):
        if text not in self.remarks:
            self.remarks.append(text)

    def to_json(self):
        """The result as a dict of plain values."""
        return {"name": self.name, "twin": self.twin, "ok": self.ok, "verdict": self.verdict, "skipped": self.skipped,
                "findings": [f.to_json() for f in self.findings], "remarks": self.remarks, "samples": self.checked,
                "seconds": round(self.seconds, 3)}
