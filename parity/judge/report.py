"""What was found: results, a layer and lane each, and the report of them that a person and a program read."""

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from ..errors import UsageError
from ..ours import ours
from ..trust.vacuity import MOST, Vision
from .budget import FACTOR
from .finding import ERROR, NOTE, RIGHT, SEVERITIES, UNAUDITED, WARNING, Finding, Plain, number

NOTHING = "no case, or no gradient with an entry in it"
EMPTY = "empty in every case"


@dataclass(frozen=True)
class Untested:
    """A lane that could not run.

    Attributes:
        lane: its name.
        reason: why.
        required: whether that is a failure.
    """

    lane: str
    reason: str
    required: bool


@dataclass
class Result:
    """What was found about one layer in one lane.

    Attributes:
        name: of the layer.
        lane: of it; empty for somebody's layer.
        findings: list of ``Finding``, in the order in which they were found.
        remarks: sentences: methods, what was left out, what could not be asked.
        judged: by quantity, the largest share of its budget that it used.
        unjudged: by quantity that no case judged, why.
        cases: by quantity, the number of cases in which there was something to judge.
        at: by quantity, the case that used the largest share.
        vision: what its cases could see.
    """

    name: str
    lane: str = ""
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    judged: dict[str, float] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    cases: dict[str, int] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    vision: Vision = field(default_factory=Vision)

    def add(self, outcome: Any) -> None:
        """Takes in what came out of one case."""
        self.findings += outcome.findings
        self.vision.add(outcome.case_id, outcome.blind)
        failed = {finding.quantity for finding in outcome.findings}
        shares = dict.fromkeys(outcome.untested) | dict.fromkeys(failed, np.inf) | outcome.shares
        for quantity, share in shares.items():
            self.judge(quantity, share, outcome.case_id, outcome.untested.get(quantity, EMPTY))

    def judge(self, quantity: str, share: float | None, case_id: str, why: str = EMPTY) -> None:
        """Notes the share of its budget that a quantity used in a case; None where there was nothing to judge."""
        if share is None:
            if quantity not in self.judged and self.unjudged.get(quantity, EMPTY) == EMPTY:
                self.unjudged[quantity] = why
            return
        self.unjudged.pop(quantity, None)
        self.cases[quantity] = self.cases.get(quantity, 0) + 1
        if quantity not in self.judged or share > self.judged[quantity]:
            self.judged[quantity], self.at[quantity] = float(share), case_id

    def remark(self, text: str) -> None:
        """Keeps a sentence, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    @property
    def errors(self) -> list[Finding]:
        """The findings that fail."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def seen(self) -> bool:
        """Whether there was a gradient to judge, or for what has none, a number."""
        gradients = [name for name in (*self.judged, *self.unjudged) if name.startswith("grad.")]
        return any(name in self.judged for name in gradients or self.judged)

    @property
    def rows(self) -> list[Plain]:
        """One dict a quantity: layer, lane, quantity, cases, worst, status, case_id and, where untested, reason."""
        failed = {finding.quantity for finding in self.errors}
        held = [{"layer": self.name, "lane": self.lane, "quantity": quantity, "cases": self.cases.get(quantity, 0),
                 "worst": share, "status": "fail" if quantity in failed else "ok", "case_id": self.at.get(quantity)}
                for quantity, share in self.judged.items()]
        return held + [{"layer": self.name, "lane": self.lane, "quantity": quantity, "cases": 0, "worst": None,
                        "status": "untested", "case_id": None, "reason": why}
                       for quantity, why in self.unjudged.items()]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.errors

    @property
    def against(self) -> list[str]:
        """Why this is no pass, beside its errors: what was left unjudged of it."""
        return []

    def lines(self) -> Iterator[str]:
        """The result as lines of text; none for a row of the table."""
        yield from ()

    def to_json(self) -> Plain:
        """The result as a dict of plain values, beside its rows and findings."""
        return {"name": self.name, "lane": self.lane, "ok": self.ok, "remarks": self.remarks}


@dataclass
class Report:
    """What came out of a check of pairs, or of an audit of somebody's layers.

    Attributes:
        seed: from which the cases followed; None for a replay.
        layers, lanes: names, in order; no lanes for an audit.
        devices: name of the device of each lane that ran.
        untested: lanes that could not run.
        asked: pairs (layer, lane) that were to be judged.
        results: list of ``Result``, one a layer and lane.
        cases: number of cases run, a case in two lanes counted twice.
        seconds: time taken.
        interrupted: whether Ctrl-C ended it.
        remarks: sentences about a file as a whole.
        failed: why nothing can be said of a file, or of layers that were asked for, a sentence each.
        path: of the file; empty for a live object.
        reach: by layer, how far its drawn cases looked, see ``reach.Reach``.
        whole: whether the cases are so many that they come to all that is declared.
    """

    seed: int | None = 0
    layers: list[str] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)
    devices: dict[str, str] = field(default_factory=dict)
    untested: list[Untested] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    cases: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    path: str = ""
    reach: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    def reached(self, case: Any, lane: Any) -> None:
        """Takes in a drawn case that ran."""
        from ..cases.reach import Reach

        self.reach.setdefault(case.spec.name, Reach(case.spec)).add(case, lane)

    @property
    def short(self) -> list[str]:
        """Layers whose cases fell short of the reach that is declared, a sentence each."""
        if not self.whole or self.interrupted:
            return []
        return [f"the cases of {layer} never had {_some(reach.missed)}" for layer, reach in self.reach.items()
                if reach.missed]

    def result(self, layer: str, lane: str) -> Result:
        """The result of a layer in a lane, made when first asked for."""
        known: list[Result] = self.results
        for result in known:
            if (result.name, result.lane) == (layer, lane):
                return result
        known.append(Result(layer, lane))
        return known[-1]

    def add(self, outcome: Any) -> None:
        """Takes in what came out of one case in one lane."""
        self.cases += 1
        self.result(outcome.layer, outcome.lane).add(outcome)

    @property
    def findings(self) -> list[Finding]:
        """All findings, result by result."""
        return [finding for result in self.results for finding in result.findings]

    @property
    def audited(self) -> list[Any]:
        """The results that are no skips."""
        return [result for result in self.results if not getattr(result, "skipped", "")]

    @property
    def rows(self) -> list[Plain]:
        """One dict a layer, lane and quantity: layer, lane, quantity, cases, worst, status, case_id.

        ``cases`` counts those in which there was something to judge, ``worst`` is the largest share of the
        budget used. What was not judged is of status ``untested`` (``fail`` where it was required), and
        says why as ``reason``; lanes that could not run have one row a layer.
        """
        missing = [
            {"layer": layer, "lane": u.lane, "quantity": "*", "cases": 0, "worst": None,
             "status": "fail" if u.required else "untested", "case_id": None, "reason": u.reason}
            for u in self.untested for layer in self.layers
        ]
        return [row for result in self.results for row in result.rows] + missing

    @property
    def without(self) -> dict[tuple[str, str, str], list[str]]:
        """Of layers in lanes, the quantities that no case judged for another reason than that they are empty.

        A dict from (layer, lane, reason) to their names.
        """
        found: dict[tuple[str, str, str], list[str]] = {}
        for result in self.results:
            for quantity, why in result.unjudged.items():
                if why != EMPTY:
                    found.setdefault((result.name, result.lane, why), []).append(quantity)
        return found

    @property
    def unjudged(self) -> list[tuple[str, str]]:
        """Pairs (layer, lane) that were asked for and of which no gradient, or no number at all, was judged."""
        seen = {(result.name, result.lane) for result in self.results if result.seen}
        return [pair for pair in self.asked if pair not in seen]

    @property
    def reasons(self) -> list[str]:
        """Why this is no pass, a sentence each; none where it is one."""
        errors = sum(len(result.errors) for result in self.results)
        found = [f"{errors:,} findings"] * bool(errors)
        found += [*self.failed, *(reason for result in self.results for reason in result.against)]
        required: dict[str, list[str]] = {}
        for u in self.untested:
            if u.required:
                required.setdefault(u.reason, []).append(u.lane)
        found += [f"{' and '.join(lanes)} required, and cannot run: {reason}" for reason, lanes in required.items()]
        if self.blind:
            found.append(f"too many cases of {_some(layer for layer, _ in self.blind)} are blind")
        found += self.short
        found += self._nothing()
        if self.interrupted:
            found.append("interrupted")
        return found

    def _nothing(self) -> list[str]:
        """What was not judged at all of what was asked, a sentence each."""
        if not self.lanes:
            return [] if self.audited else ["nothing was judged"]
        unjudged, without = self.unjudged, self.without
        if not self.asked:
            why = "every lane is UNTESTED" if len(self.untested) == len(self.lanes) else "no case was selected"
            return ["nothing was judged: " + "; ".join({reason: None for *_, reason in without} or [why])]
        if not self.cases:
            return ["nothing was judged: no case was run"]
        if self.interrupted:
            return []
        reasons = {(layer, lane): reason for layer, lane, reason in without}
        whose = {reason: [f"{layer} in {lane}" for layer, lane in unjudged
                          if reasons.get((layer, lane), NOTHING) == reason]
                 for reason in dict.fromkeys(reasons.get(pair, NOTHING) for pair in unjudged)}
        return [f"nothing was judged of {_some(names)}: {reason}" for reason, names in whose.items()]

    @property
    def ok(self) -> bool:
        """Whether there is no reason against: something was judged of all that was asked, and nothing failed."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """Of an audit, that of the first layer that is not right; ``not audited`` where there is none to be right."""
        wrong = [result.verdict for result in self.audited if result.verdict != RIGHT]
        return wrong[0] if wrong else RIGHT if self.ok else UNAUDITED

    @property
    def exit_code(self) -> int:
        """0 where it is a pass, 130 where Ctrl-C ended it before anything failed, 2 where nothing could be audited,
        else 1."""
        if self.ok:
            return 0
        if self.interrupted and not any(result.errors for result in self.results):
            return 130
        return 1 if self.lanes or self.audited else 2

    @property
    def blind(self) -> list[tuple[str, str]]:
        """Layers and lanes in which too many cases would not notice a wrong gradient."""
        return [(result.name, result.lane) for result in self.results if not result.vision.ok]

    def script(self) -> str:
        """A program that shows the gravest finding of which one could be made; empty where there is none."""
        return next(filter(None, (finding.script() for finding in sorted(self.findings, key=_gravity))), "")

    def to_json(self) -> Plain:
        """Everything as plain values, for ``json.dumps``."""
        return {
            "format": 2,
            "ok": self.ok,
            "reasons": self.reasons,
            "interrupted": self.interrupted,
            "seed": self.seed,
            "factor": FACTOR,
            "cases": self.cases,
            "seconds": round(self.seconds, 2),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "torch")},
            "devices": self.devices,
            "path": self.path,
            "remarks": self.remarks,
            "results": [result.to_json() for result in self.results],
            "rows": [row | {"worst": number(row["worst"])} for row in self.rows],
            "vacuity": [{"layer": result.name, "lane": result.lane} | result.vision.to_json()
                        for result in self.results if result.lane],
            "reach": [reach.to_json() for reach in self.reach.values()],
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_html(self) -> str:
        """An audit as one HTML page, with heat maps; asks for Jinja2."""
        from ..auditing.html import page

        made: str = page(self)
        return made

    def table(self) -> Any:
        """A ``rich`` table: a row a layer, a column a lane, in each cell the largest share used."""
        from ..screen import table

        shown = table(f"largest share of the budget used ({self.cases:,} cases)", "layer",
                      **dict.fromkeys(self.lanes, "right"))
        reasons = {u.lane: u for u in self.untested}
        for layer in self.layers:
            shown.add_row(layer, *(self._cell(layer, lane, reasons.get(lane)) for lane in self.lanes))
        return shown

    def _cell(self, layer: str, lane: str, untested: Untested | None) -> str:
        if untested:
            return "[red]UNTESTED[/red]" if untested.required else "[yellow]UNTESTED[/yellow]"
        result = next((r for r in self.results if (r.name, r.lane) == (layer, lane)), None)
        if (layer, lane) not in self.asked:
            return "[yellow]UNTESTED[/yellow]" if result else "[dim]not asked[/dim]"
        if result is None:
            return "[yellow]not run[/yellow]"
        failed = [row["quantity"] for row in result.rows if row["status"] == "fail"]
        if failed:
            return f"[bold red]FAIL {failed[0]}{f' +{len(failed) - 1}' if len(failed) > 1 else ''}[/bold red]"
        return f"[green]{max(result.judged.values()):.0%}[/green]" if result.seen else "[yellow]nothing[/yellow]"

    def print(self, console: Any, most: int = 10) -> None:
        """Writes it to a ``rich`` console: the table, or a paragraph a layer; reasons and the first findings."""
        from ..screen import show

        def say(text: str, style: str | None = None) -> None:
            console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

        for text in self.remarks:
            say(text)
        if self.lanes:
            show(console, self.table())
            for u in self.untested:
                say(f"{u.lane}: UNTESTED, {u.reason}", "red" if u.required else "yellow")
            for (layer, lane, why), names in self.without.items():
                say(f"{layer} in {lane}: {', '.join(names)} UNTESTED, {why}", "yellow")
            for text in self._findings(most):
                say(f"\n{text}")
            if self.cases:
                say(self._sight())
        for result in self.results:
            for line in result.lines():
                say(line, _style(line))
        if self.lanes:
            say(self.summary(), "bold")
        elif not self.results and not self.remarks:
            say("nothing to audit: no class with forward and backward")
        elif not self.audited:
            say("nothing was judged")

    def _findings(self, most: int) -> Iterator[str]:
        """The first findings, the same error in many cases once."""
        kinds = Counter(map(_said, self.findings))
        shown = [next(f for f in self.findings if _said(f) == kind) for kind in kinds]
        for finding in shown[:most]:
            more = kinds[_said(finding)] - 1
            yield f"{finding}" + (f"\n  and {more} more cases like it" if more else "")
        if len(shown) > most:
            yield f"and {len(shown) - most} more findings (--json has all)"

    def summary(self) -> str:
        """How it ended, in a line, and why it is no pass where it is none."""
        counts = f"{self.cases:,} cases" + ("" if self.findings else ", 0 findings")
        counts += "" if self.seed is None else f", seed {self.seed}"
        counts += f", {self.seconds:.1f} s" if self.seconds else ""
        state = "all within budget" if self.ok else "interrupted" if self.reasons == ["interrupted"] else "FAILED"
        why = "" if state != "FAILED" else f"; {'; '.join(self.reasons)}"
        return f"{state}: {counts}{why}"

    def _sight(self) -> str:
        """What the vacuity gate counted, in a line or, where cases are too blind, a few."""
        visions = [result.vision for result in self.results]
        ordinary, dull = sum(v.ordinary for v in visions), sum(v.blind for v in visions)
        kinds: Counter[str] = sum((v.reasons for v in visions), Counter())
        why = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        apart = self.cases - ordinary
        lines = [f"every case was held to its budget; {ordinary:,} ordinary ones were also asked whether they could "
                 f"tell a wrong gradient from the right one: {dull} could not{f' ({why})' if why else ''}"]
        if apart:
            lines.append(f"(the other {apart:,} were not asked: there a gradient may rightly be zero or constant, or "
                         "there is none)")
        for layer, lane in self.blind:
            vision = self.result(layer, lane).vision
            lines.append(f"VACUOUS: {layer} in {lane}: {vision.blind} of {vision.ordinary} ordinary cases are blind, "
                         f"at most {MOST:.0%} may be, such as {vision.case_id}")
        return "\n".join(lines)

    def __str__(self) -> str:
        from io import StringIO

        from ..screen import console

        text = StringIO()
        self.print(console(file=text))
        return text.getvalue().rstrip()


def version(package: str) -> str | None:
    """Of a package, without importing it; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gravity(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _style(line: str) -> str | None:
    """The colour of a line of an audit."""
    text = line.strip()
    known = {f"{ERROR}:": "bold red", f"{WARNING}:": "yellow", f"{NOTE}:": "yellow"}
    return next((style for word, style in known.items() if text.startswith(word)),
                "green" if text.endswith(f": {RIGHT}") else None)


def _said(finding: Finding) -> Any:
    """What tells a finding from another of its kind: of what a side raised, only what it says."""
    if finding.check != "raised":
        return id(finding)
    return finding.layer, finding.verdict, re.sub(r"[\d(), ]+", " ", finding.diagnosis)  # whatever the shapes


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_writable(path: str) -> None:
    """Refuses a path that nothing can be written to, before the work whose result it should hold.

    Raises:
        UsageError: says what is in the way.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        problem = "is a folder"
    elif os.path.exists(path) and not os.access(path, os.W_OK):
        problem = "is read-only"
    elif os.path.exists(path) and not os.path.isfile(path):
        return  # a device or a pipe is written to where it is
    elif not os.path.isdir(folder):
        problem = f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK):
        problem = f"the folder {folder} is read-only"
    else:
        return
    raise UsageError(f"{path}: cannot be written, {problem}")


def write_json(path: str, value: Any) -> None:
    """Writes a value as JSON, all of it or nothing; see ``reference.data.write_atomically``."""
    ours("reference")  # here: what somebody's pairs are judged with needs no layer of ours
    from reference.data import write_atomically

    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())
