"""What a check found: rows, findings, the table that a person reads and the JSON that a program reads."""

import json
import os
import platform
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError
from ..ours import ours
from ..trust.vacuity import MOST, Vision
from .budget import FACTOR

NEXT = "\n  "
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
class Report:
    """What came out of a check.

    Attributes:
        seed: from which the cases followed; None for a replay.
        layers, lanes: names, in order.
        devices: name of the device of each lane that ran.
        untested: lanes that could not run.
        asked: pairs (layer, lane) that were to be judged.
        findings: list of ``Finding``.
        cases: number of cases run, a case in two lanes counted twice.
        seconds: time taken.
        interrupted: whether Ctrl-C ended it.
        vision: by layer and lane, what its cases could see, a ``Vision``.
    """

    seed: int | None
    layers: list
    lanes: list
    devices: dict
    untested: list
    asked: list = field(default_factory=list)
    findings: list = field(default_factory=list)
    cases: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    vision: dict = field(default_factory=dict)
    _rows: dict = field(default_factory=dict)
    _why: dict = field(default_factory=dict)

    def add(self, outcome):
        """Takes in what came out of one case in one lane."""
        self.cases += 1
        self.findings += outcome.findings
        self.vision.setdefault((outcome.layer, outcome.lane), Vision()).add(outcome.case_id, outcome.blind)
        failed = {finding.quantity for finding in outcome.findings}
        for quantity, why in outcome.untested.items():
            self._why.setdefault((outcome.layer, outcome.lane, quantity), why)
        judged = dict.fromkeys(outcome.untested) | dict.fromkeys(failed, np.inf) | outcome.shares
        for quantity, share in judged.items():
            key = outcome.layer, outcome.lane, quantity
            row = self._rows.setdefault(key, {"layer": key[0], "lane": key[1], "quantity": key[2], "cases": 0,
                                              "worst": None, "status": "untested", "case_id": None})
            if share is None:  # an empty array, or no yardstick: nothing to judge
                continue
            row["cases"] += 1
            if row["worst"] is None or share > row["worst"]:
                row["worst"], row["case_id"] = share, outcome.case_id
            if row["status"] != "fail":
                row["status"] = "fail" if quantity in failed else "ok"

    @property
    def rows(self):
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
        return [*(row if row["status"] != "untested" else row | {"reason": self._why.get(key, EMPTY)}
                  for key, row in self._rows.items()), *missing]

    @property
    def without(self):
        """Of pairs (layer, lane), the quantities that no case judged for another reason than that they are empty.

        A dict from (layer, lane, reason) to their names.
        """
        found = {}
        for key, why in self._why.items():
            if self._rows[key]["status"] == "untested":
                found.setdefault((*key[:2], why), []).append(key[2])
        return found

    @property
    def unjudged(self):
        """Pairs (layer, lane) that were asked for and of which no gradient, or no number at all, was judged."""
        held = {}
        for (layer, lane, quantity), row in self._rows.items():
            held.setdefault((layer, lane), {})[quantity] = row["cases"]
        return [pair for pair in self.asked if not _judged(held.get(pair, {}))]

    @property
    def reasons(self):
        """Why this is no pass, a sentence each; none where it is one."""
        found = []
        if self.findings:
            found.append(f"{len(self.findings):,} findings")
        required = {}
        for u in self.untested:
            if u.required:
                required.setdefault(u.reason, []).append(u.lane)
        found += [f"{' and '.join(lanes)} required, and cannot run: {reason}" for reason, lanes in required.items()]
        if self.blind:
            found.append(f"too many cases of {_some(layer for layer, _ in self.blind)} are blind")
        unjudged = self.unjudged
        if not self.asked:
            why = "every lane is UNTESTED" if len(self.untested) == len(self.lanes) else "no case was selected"
            found.append("nothing was judged: " + "; ".join({reason: None for *_, reason in self.without} or [why]))
        elif not self.cases:
            found.append("nothing was judged: no case was run")
        elif unjudged and not self.interrupted:
            why = {(layer, lane): reason for layer, lane, reason in self.without}
            for reason in dict.fromkeys(why.get(pair, NOTHING) for pair in unjudged):
                some = _some(f"{layer} in {lane}" for layer, lane in unjudged
                             if why.get((layer, lane), NOTHING) == reason)
                found.append(f"nothing was judged of {some}: {reason}")
        if self.interrupted:
            found.append("interrupted")
        return found

    @property
    def ok(self):
        """Whether there is no reason against: something was judged of all that was asked, and nothing failed."""
        return not self.reasons

    @property
    def blind(self):
        """Layers and lanes in which too many cases would not notice a wrong gradient."""
        return [key for key, vision in self.vision.items() if not vision.ok]

    def to_json(self):
        """Everything as plain values, for ``json.dumps``."""
        import torch

        return {
            "ok": self.ok,
            "reasons": self.reasons,
            "interrupted": self.interrupted,
            "seed": self.seed,
            "factor": FACTOR,
            "cases": self.cases,
            "seconds": round(self.seconds, 2),
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
            "devices": self.devices,
            "rows": [row | {"worst": _plain(row["worst"])} for row in self.rows],
            "vacuity": [{"layer": layer, "lane": lane} | vision.to_json()
                        for (layer, lane), vision in self.vision.items()],
            "findings": [{k: _plain(v) for k, v in finding.to_json().items()} for finding in self.findings],
        }

    def table(self):
        """A ``rich`` table: a row a layer, a column a lane, in each cell the largest share used."""
        from ..screen import table

        shown = table(f"largest share of the budget used ({self.cases:,} cases)", "layer",
                      **dict.fromkeys(self.lanes, "right"))
        reasons = {u.lane: u for u in self.untested}
        for layer in self.layers:
            shown.add_row(layer, *(self._cell(layer, lane, reasons.get(lane)) for lane in self.lanes))
        return shown

    def _cell(self, layer, lane, untested):
        if untested:
            return "[red]UNTESTED[/red]" if untested.required else "[yellow]UNTESTED[/yellow]"
        rows = [row for key, row in self._rows.items() if key[:2] == (layer, lane)]
        if (layer, lane) not in self.asked:
            return "[yellow]UNTESTED[/yellow]" if rows else "[dim]not asked[/dim]"
        if not rows:
            return "[yellow]not run[/yellow]"
        failed = [row["quantity"] for row in rows if row["status"] == "fail"]
        if failed:
            return f"[bold red]FAIL {failed[0]}{f' +{len(failed) - 1}' if len(failed) > 1 else ''}[/bold red]"
        if not _judged({row["quantity"]: row["cases"] for row in rows}):
            return "[yellow]nothing[/yellow]"
        return f"[green]{max(row['worst'] for row in rows if row['cases']):.0%}[/green]"

    def print(self, console, most=10):
        """Writes table, reasons and the first findings to a ``rich`` console."""
        from ..screen import show

        show(console, self.table())
        for u in self.untested:
            console.print(f"{u.lane}: UNTESTED, {u.reason}", style="red" if u.required else "yellow",
                          highlight=False, soft_wrap=True)
        for (layer, lane, why), names in self.without.items():
            console.print(f"{layer} in {lane}: {', '.join(names)} UNTESTED, {why}", style="yellow", highlight=False,
                          markup=False, soft_wrap=True)
        kinds = Counter(map(_said, self.findings))  # the same error in many cases is said once
        shown = [next(f for f in self.findings if _said(f) == kind) for kind in kinds]
        for finding in shown[:most]:
            more = kinds[_said(finding)] - 1
            console.print(f"\n{finding}{f'{NEXT}and {more} more cases like it' if more else ''}", highlight=False,
                          markup=False, soft_wrap=True)
        if len(shown) > most:
            console.print(f"\nand {len(shown) - most} more findings (--json has all)")
        if self.cases:
            console.print(self._sight(), highlight=False, soft_wrap=True)
        console.print(self.summary(), highlight=False, markup=False, style="bold", soft_wrap=True)

    def summary(self):
        """How it ended, in a line, and why it is no pass where it is none."""
        counts = f"{self.cases:,} cases" + ("" if self.findings else ", 0 findings")
        counts += "" if self.seed is None else f", seed {self.seed}"
        counts += f", {self.seconds:.1f} s" if self.seconds else ""
        state = "all within budget" if self.ok else "interrupted" if self.reasons == ["interrupted"] else "FAILED"
        why = "" if state != "FAILED" else f"; {'; '.join(self.reasons)}"
        return f"{state}: {counts}{why}"

    def _sight(self):
        """What the vacuity gate counted, in a line or, where cases are too blind, a few."""
        visions = self.vision.values()
        ordinary, dull = sum(v.ordinary for v in visions), sum(v.blind for v in visions)
        kinds = sum((v.reasons for v in visions), Counter())
        why = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        apart = self.cases - ordinary
        lines = [f"every case was held to its budget; {ordinary:,} ordinary ones were also asked whether they could "
                 f"tell a wrong gradient from the right one: {dull} could not{f' ({why})' if why else ''}"]
        if apart:
            lines.append(f"(the other {apart:,} were not asked: there a gradient may rightly be zero or constant, or "
                         "there is none)")
        for layer, lane in self.blind:
            vision = self.vision[layer, lane]
            lines.append(f"VACUOUS: {layer} in {lane}: {vision.blind} of {vision.ordinary} ordinary cases are blind, "
                         f"at most {MOST:.0%} may be, such as {vision.case_id}")
        return "\n".join(lines)

    def __str__(self):
        from io import StringIO

        from ..screen import console

        text = StringIO()
        self.print(console(file=text))
        return text.getvalue().rstrip()


def _judged(cases):
    """Whether there was a gradient to judge, or for what has none, a number.

    Args:
        cases: dict from quantity to the number of cases with something to judge in it.
    """
    gradients = {name: count for name, count in cases.items() if name.startswith("grad.")}
    return any((gradients or cases).values())


def _said(finding):
    """What tells a finding from another of its kind: of what a side raised, only what it says."""
    if finding.check != "raised":
        return id(finding)
    return finding.layer, finding.verdict, re.sub(r"[\d(), ]+", " ", finding.diagnosis)  # whatever the shapes


def _some(names, most=3):
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _plain(value):
    """JSON has no infinity and no NaN: they become text."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def check_writable(path):
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


def write_json(path, value):
    """Writes a value as JSON, all of it or nothing; see ``reference.data.write_atomically``."""
    ours("reference")  # here: what somebody's pairs are judged with needs no layer of ours
    from reference.data import write_atomically

    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())
