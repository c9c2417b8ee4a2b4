"""What a check found: rows, findings, the table that a person reads and the JSON that a program reads."""

import json
import os
import platform
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from reference.data import write_atomically

from .budget import FACTOR
from .errors import UsageError
from .vacuity import MOST, Vision


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
    findings: list = field(default_factory=list)
    cases: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    vision: dict = field(default_factory=dict)
    _rows: dict = field(default_factory=dict)

    def add(self, outcome):
        """Takes in what came out of one case in one lane."""
        self.cases += 1
        self.findings += outcome.findings
        self.vision.setdefault((outcome.layer, outcome.lane), Vision()).add(outcome.case_id, outcome.blind)
        failed = {finding.quantity for finding in outcome.findings}
        for quantity in outcome.shares | dict.fromkeys(failed, np.inf):
            share = outcome.shares.get(quantity, np.inf)
            key = outcome.layer, outcome.lane, quantity
            row = self._rows.setdefault(key, {"layer": key[0], "lane": key[1], "quantity": key[2], "cases": 0,
                                              "worst": -1.0, "status": "ok", "case_id": None})
            row["cases"] += 1
            if quantity in failed:
                row["status"] = "fail"
            if share > row["worst"]:
                row["worst"], row["case_id"] = share, outcome.case_id

    @property
    def rows(self):
        """One dict a layer, lane and quantity: layer, lane, quantity, cases, worst, status, case_id.

        ``worst`` is the largest share of the budget used; lanes that could not run have one row a
        layer, of status ``untested`` (``fail`` where they were required), with the ``reason``.
        """
        missing = [
            {"layer": layer, "lane": u.lane, "quantity": "*", "cases": 0, "worst": None,
             "status": "fail" if u.required else "untested", "case_id": None, "reason": u.reason}
            for u in self.untested for layer in self.layers
        ]
        return [*self._rows.values(), *missing]

    @property
    def ok(self):
        """Whether nothing failed, no lane that was required could not run, and the cases are not blind."""
        return not self.findings and not self.blind and not any(u.required for u in self.untested)

    @property
    def blind(self):
        """Layers and lanes in which too many cases would not notice a wrong gradient."""
        return [key for key, vision in self.vision.items() if not vision.ok]

    def to_json(self):
        """Everything as plain values, for ``json.dumps``."""
        import torch

        return {
            "ok": self.ok,
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
        from rich.table import Table

        table = Table(title=f"largest share of the budget used ({self.cases:,} cases)", title_justify="left")
        table.add_column("layer", no_wrap=True, min_width=max(map(len, self.layers), default=0))
        reasons = {u.lane: u for u in self.untested}
        for lane in self.lanes:
            table.add_column(lane, justify="right")
        for layer in self.layers:
            table.add_row(layer, *(self._cell(layer, lane, reasons.get(lane)) for lane in self.lanes))
        return table

    def _cell(self, layer, lane, untested):
        if untested:
            return "[red]UNTESTED[/red]" if untested.required else "[yellow]UNTESTED[/yellow]"
        rows = [row for key, row in self._rows.items() if key[:2] == (layer, lane)]
        if not rows:
            return "[dim]not run[/dim]"
        failed = [row["quantity"] for row in rows if row["status"] == "fail"]
        if failed:
            return f"[bold red]FAIL {failed[0]}{f' +{len(failed) - 1}' if len(failed) > 1 else ''}[/bold red]"
        return f"[green]{max(row['worst'] for row in rows):.0%}[/green]"

    def print(self, console, most=10):
        """Writes table, reasons and the first findings to a ``rich`` console."""
        console.print(self.table())
        for u in self.untested:
            console.print(f"{u.lane}: UNTESTED, {u.reason}", style="red" if u.required else "yellow",
                          highlight=False, soft_wrap=True)
        for finding in self.findings[:most]:
            console.print(f"\n{finding}", highlight=False, markup=False, soft_wrap=True)
        if len(self.findings) > most:
            console.print(f"\nand {len(self.findings) - most} more findings (--json has all)")
        console.print(self._sight(), highlight=False, soft_wrap=True)
        state = "interrupted" if self.interrupted else "all within budget" if self.ok else "FAILED"
        if self.ok and not self.interrupted and not self.cases:
            state = "nothing was run"
        console.print(f"{state}: {self.cases:,} cases, {len(self.findings)} findings, seed {self.seed}, "
                      f"{self.seconds:.1f} s", highlight=False, style="bold")

    def _sight(self):
        """What the vacuity gate counted, in a line or, where cases are too blind, a few."""
        visions = self.vision.values()
        ordinary, dull = sum(v.ordinary for v in visions), sum(v.blind for v in visions)
        kinds = sum((v.reasons for v in visions), Counter())
        why = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        lines = [f"{ordinary:,} ordinary cases, {dull} of them blind to a wrong gradient{f' ({why})' if why else ''}; "
                 f"{self.cases - ordinary:,} degenerate or without gradients, counted apart"]
        for layer, lane in self.blind:
            vision = self.vision[layer, lane]
            lines.append(f"VACUOUS: {layer} in {lane}: {vision.blind} of {vision.ordinary} ordinary cases are blind, "
                         f"at most {MOST:.0%} may be, such as {vision.case_id}")
        return "\n".join(lines)

    def __str__(self):
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        self.print(Console(file=text, width=120, color_system=None))
        return text.getvalue().rstrip()


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
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())
