"""The report of an audit: for reading, as JSON, and the third witness, which only the parent asks."""

from dataclasses import dataclass, field

import numpy as np

from ..cases.case import parse
from .findings import BACKWARD, Finding

CLOSE = 1e-7  # relative: autograd in float64 against a gradient that is right


@dataclass
class Report:
    """What ``audit`` gives back.

    Attributes:
        results: list of ``Result``, one a class.
        remarks: sentences about the file as a whole.
        died: whether the file itself could not be run to its end.
        missing: names of classes that were asked for and are not there.
        seed: of all random values.
        path: of the file; empty for a live object.
    """

    results: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    died: bool = False
    missing: list = field(default_factory=list)
    seed: int = 0
    path: str = ""

    @property
    def audited(self):
        """The results that are no skips."""
        return [r for r in self.results if not r.skipped]

    @property
    def ok(self):
        """Whether something was judged, every class that was asked for, and no finding is an error."""
        return not self.died and not self.missing and bool(self.audited) and all(r.ok for r in self.results)

    @property
    def findings(self):
        """All findings, class by class."""
        return [f for r in self.results for f in r.findings]

    @property
    def verdict(self):
        """The verdict of the first class that is not right; ``right`` where all are, ``not audited`` where none was."""
        return next((r.verdict for r in self.audited if r.verdict != "right"), "right" if self.ok else "not audited")

    @property
    def exit_code(self):
        """0 all right, 1 something wrong, 2 nothing could be audited."""
        return 0 if self.ok else 1 if self.audited else 2

    def script(self):
        """A standalone program that shows the first finding; empty where there is none, or none could be made."""
        for finding in sorted(self.findings, key=lambda f: f.severity != "error"):
            if finding.script():
                return finding.program
        return ""

    def to_json(self):
        """The report as a dict of plain values."""
        return {"format": 1, "ok": self.ok, "path": self.path, "seed": self.seed, "remarks": self.remarks,
                "results": [r.to_json() for r in self.results]}

    def to_html(self):
        """The report as one HTML page, with heat maps; asks for Jinja2."""
        from .html import page

        return page(self)

    def __str__(self):
        return "\n".join(self.lines())

    def lines(self):
        """The report as lines of text."""
        for text in self.remarks:
            yield text
        for r in self.results:
            if r.skipped:
                yield f"{r.name}: skipped, {r.skipped}"
                continue
            twin = f" (twin: {r.twin})" if r.twin else ""
            if not r.findings:
                yield f"{r.name}{twin}: {r.verdict}"
            else:
                count = sum(f.severity == "error" for f in r.findings)
                yield (f"{r.name}{twin}: {r.verdict}" if count else
                       f"{r.name}{twin}: no error, {len(r.findings)} note{'s' * (len(r.findings) > 1)}")
            for name, why in r.unjudged.items():
                yield f"  not judged: {name}, {why}"
            told = {}
            for f in r.findings:
                cause = f.check, f.diagnosis, f.words
                lines = list(f.lines())
                if cause in told and f.values:  # the same fault seen in another gradient
                    lines = [f"{lines[0]}: the same as {told[cause]}", *lines[2:3]]
                told.setdefault(cause, f.quantity)
                for line in lines:
                    yield f"  {line}"
            shares = {n: s for n, s in r.judged.items() if s <= 1}
            if shares:
                yield f"  (share of the budget used: {', '.join(f'{n} {s:.0%}' for n, s in shares.items())})"
            for text in r.remarks:
                yield f"  ({text})"
        if not self.results and not self.remarks:
            yield "nothing to audit: no class with forward and backward"
        elif not self.audited:
            yield "nothing was judged"

    # --- the third witness ------------------------------------------------------------------------

    def ask_autograd(self):
        """Holds gradients against torch's autograd of the twin, where torch is there."""
        asked = [r for r in self.results if r.twin and r.witnessed]
        if not asked:
            return
        try:
            import torch  # noqa: F401
        except ImportError:
            self.remarks.append("autograd of the twin: UNTESTED, torch is not installed")
            return
        for result in asked:
            try:
                self._ask(result)
            except Exception as error:  # the twin cannot speak: the other two witnesses stand
                result.remark(f"autograd of the twin: UNTESTED, {type(error).__name__}: {error}".splitlines()[0])

    def _ask(self, result):
        from ..judge.lanes import LANES
        from ..sides import run_port

        agreed = 0
        for case_id, (outputs, got) in result.witnessed.items():
            case = parse(case_id)
            twin = run_port(case, case.data(lambda a: np.asarray(a, np.float64)), LANES["cpu-float64"])
            same = all(n in twin and _close(o, twin[n]) for n, o in outputs.items())
            for name, g in got.items():
                auto = twin.get(f"grad.{name}")
                if auto is None or g is None or g.shape != auto.shape:
                    continue
                for f in result.findings:
                    if f.check == "gradient" and f.quantity == f"grad.{name}" and f.case_id == case_id and f.index:
                        label = "autograd of the twin" + ("" if same else " (of another forward)")
                        f.values[label] = float(auto[f.index])
                known = any(f.quantity == f"grad.{name}" for f in result.findings)
                if same and _close(g, auto):
                    agreed += 1
                elif same and not known and result.ok:
                    index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(g - auto)), g.shape))
                    result.findings.append(Finding(
                        "error", "autograd", f"grad.{name}", BACKWARD, "autograd of the twin, whose forward is the "
                        "same, says otherwise", "autograd", case_id, "", index,
                        {"backward": g[index], "autograd of the twin": auto[index]}))
        if agreed:
            result.remark(f"autograd of the twin agrees on {agreed} gradients")

    def scripts_for(self, layer, seconds, memory):
        """Lets every finding make its script when it is asked for one."""
        from .script import Maker

        for result in self.results:
            maker = Maker(self.path, layer, result, seconds, memory)
            for f in result.findings:
                f.maker = maker


def _close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    size = np.sqrt(np.mean(b * b)) if b.size else 0.0
    return bool(np.all(np.abs(a - b) <= CLOSE * (np.abs(b) + size) + 1e-14))
