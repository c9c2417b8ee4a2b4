"""The finding: one disagreement, or one broken promise, as every command tells it."""

import shlex
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

Plain = dict[str, Any]

ERROR, WARNING, NOTE = SEVERITIES = "error", "warning", "note"
RIGHT, UNAUDITED = "right", "not audited"  # verdicts on somebody's layer or file
DIGITS = range(9, 18)  # of a printed value: as many as tell two apart, and no more


@dataclass
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        check: what was looked at: the side that left the budget, ``port`` or ``reference``, or ``stable``; of
            somebody's layer ``gradient``, ``forward``, ``second call``, ...; ``raised``.
        quantity: ``grad.Wh``, an output's name, ``*`` for all.
        verdict: who is wrong, once the witnesses have spoken; of somebody's layer which of the answers is no, and how.
        diagnosis: in words, what explains it; empty where nothing known does.
        kind: short name of the diagnosis, the key of its table.
        severity: ``error``, ``warning`` or ``note``: an error alone fails.
        layer, lane: where.
        index: of the worst element, None where there is none.
        values: what each side or witness says of that element, by its name: port, reference, oracle, ...
        share: distance from what is right, in budgets; None where nothing was measured.
        case_id: text that replays the case, or that names the inputs.
        words: what is special about the inputs, "with N = 1".
        breaks: what goes wrong because of it, and what to do.
        expected, got: the whole arrays, None where there are none or they are large.
        detail: a traceback or another text to read on.
        pairs: path of the file that describes the pair; "" where it lives in memory alone, None for our own layers.
        again: command that shows it again, where that takes more than one case; else empty.
        maker: function of the finding that makes its script; None where the case id alone replays it.
        program: what the maker made, None until it was asked.
    """

    check: str
    quantity: str = ""
    verdict: str = ""
    diagnosis: str = ""
    kind: str = ""
    severity: str = ERROR
    layer: str = ""
    lane: str = ""
    index: tuple[int, ...] | None = None
    values: dict[str, float] = field(default_factory=dict)
    share: float | None = None
    case_id: str = ""
    words: str = ""
    breaks: str = ""
    expected: Any = None
    got: Any = None
    detail: str = ""
    pairs: str | None = None
    again: str = ""
    maker: Any = None
    program: str | None = None

    LOCAL: ClassVar = ("maker", "program")  # of this process alone
    ARRAYS: ClassVar = ("expected", "got")

    @property
    def port(self) -> float | None:
        """The worst element's value on the port's side."""
        return self.values.get("port")

    @property
    def reference(self) -> float | None:
        """The worst element's value on the reference's side."""
        return self.values.get("reference")

    @property
    def oracle(self) -> float | None:
        """Its value by the reference's own code in a wider dtype: the yardstick, and wrong where that code is."""
        return self.values.get("oracle")

    @property
    def where(self) -> str:
        """The quantity with the index of its worst element."""
        return self.quantity + (f"[{', '.join(map(str, self.index))}]" if self.index else "")

    @property
    def replay(self) -> str:
        """The command that shows this finding again; of a pair that no file describes, a line of Python; else empty."""
        if self.again or self.maker or not self.lane:
            return self.again
        if self.pairs == "":
            return f"print(pair.run({self.case_id!r}, lane={self.lane!r}))  # pair: {self.layer}"
        file = f"--pairs {shlex.quote(self.pairs)} " if self.pairs else ""
        return f"parity replay {file}'{self.case_id}' --lane {self.lane}"

    def script(self) -> str:
        """A program that shows this finding again, made when first asked for; empty where none could be made."""
        if self.program is None and self.replay and not self.again:
            pairs = f", pairs={self.pairs!r}" if self.pairs else ""
            self.program = f"from parity import replay\n\nprint(replay({self.case_id!r}, lane={self.lane!r}{pairs}))\n"
        elif self.program is None:
            self.program = self.maker(self) if self.maker else ""
        return self.program

    def to_plain(self) -> Plain:
        """Everything but what is of this process alone; arrays stay arrays."""
        plain = {name: value for name, value in vars(self).items() if name not in self.LOCAL}
        plain["index"] = None if self.index is None else list(self.index)
        plain["values"] = {k: float(np.real(v)) for k, v in self.values.items()}
        plain["share"] = None if self.share is None else float(self.share)
        return plain | {name: a if a is not None and a.dtype.kind in "biuf" else None
                        for name, a in ((name, plain[name]) for name in self.ARRAYS)}

    def to_json(self) -> Plain:
        """The finding as a dict of plain values, without its arrays; its script where that was made."""
        plain = {name: value for name, value in self.to_plain().items() if name not in self.ARRAYS}
        plain["values"] = {k: number(v) for k, v in plain["values"].items()}
        return plain | {"share": number(self.share), "replay": self.replay, "script": self.program or ""}

    def lines(self) -> list[str]:
        """The finding as lines of text, the first that of where it is."""
        layer = f"{self.layer}." * bool(self.lane and self.layer)
        head = f"{self.severity}: {self.check} {layer}{self.where}".rstrip()
        head += (f" in {self.lane}" if self.lane else "") + (f", {self.words}" if self.words else "")
        said = f"{self.verdict}{': ' if self.verdict and self.diagnosis else ''}{self.diagnosis}"
        away = ""
        if self.oracle is not None and self.share is not None:  # whose code it is that is believed
            by = "code in a wider dtype" if self.reference is not None else "numerical derivative"
            away = f"{self.share:.3g} budgets from the oracle, the reference's {by}"
        elif self.share is not None and np.isfinite(self.share):
            away = f"{self.share:.3g} budgets away"
        places = [line.strip() for line in self.detail.splitlines() if line.startswith('  File "')]
        rest = (said, valued(self.values), away, *places[-1:], self.breaks, self.replay)
        return [head, *(f"  {line}" for line in rest if line)]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def valued(values: dict[str, float]) -> str:
    """Values by name in a line, in as many digits as tell the largest from the smallest."""
    numbers = [v for v in values.values() if v == v] or [0.0]
    ends = {min(numbers), max(numbers)}
    digits = next((d for d in DIGITS if len({f"{v:.{d}g}" for v in ends}) == len(ends)), DIGITS[-1])
    return ", ".join(f"{name} {value:.{digits}g}" for name, value in values.items())


def number(value: float | None) -> float | str | None:
    """A value as JSON has it: no infinity and no NaN, they become text."""
    return None if value is None else float(value) if np.isfinite(value) else str(float(value))
