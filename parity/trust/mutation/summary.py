"""What became of the mutants: the kill matrix, what each check costs and kills alone, and the survivors."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...catalogue import CATALOGUE
from .mutants import SIDES, Key, Mutant

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

KILLED, TIMEOUT, SURVIVED, STILLBORN = "killed", "time-out", "survived", "stillborn"


@dataclass
class Verdict:
    """What became of a mutant.

    Attributes:
        kind: ``killed``, ``time-out``, ``survived``, or ``stillborn`` for what does not even import.
        kills: by check, what it found.
        layer: on which layer of the catalogue it was killed first.
        seconds: CPU time by check.
        met: layers whose trials run through the mutant.
    """

    kind: str = SURVIVED
    kills: dict[str, str] = field(default_factory=dict)
    layer: str = ""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    met: tuple[str, ...] = ()

    @property
    def dead(self) -> bool:
        return self.kind in (KILLED, TIMEOUT)


@dataclass
class Summary:
    """The verdicts on all mutants.

    Attributes:
        fast: whether the first check that noticed was enough.
        explained: by mutant's key, why it is the same function.
        unmade: keys explained that no mutant has.
        results: list of ``(mutant, verdict)``, without the stillborn.
        stillborn: number of mutants that could not be imported: they count as none.
        seconds: time taken.
        interrupted: whether Ctrl-C ended it, before all mutants had met their trials.
    """

    fast: bool
    explained: dict[Key, str]
    unmade: list[Key]
    results: list[tuple[Mutant, Verdict]] = field(default_factory=list)
    stillborn: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Takes in one verdict."""
        if verdict.kind == STILLBORN:
            self.stillborn += 1
        else:
            self.results.append((mutant, verdict))

    @property
    def survivors(self) -> list[Mutant]:
        """Mutants that no check noticed and nobody explained."""
        return [m for m, v in self.results if v.kind == SURVIVED and m.key not in self.explained]

    @property
    def contradicted(self) -> list[tuple[Mutant, Verdict]]:
        """Mutants that are said to be the same function and were noticed."""
        return [(m, v) for m, v in self.results if v.dead and m.key in self.explained]

    @property
    def ok(self) -> bool:
        """Whether there are mutants, all were tried, and each is killed or rightly explained."""
        return (bool(self.results) and not self.interrupted and not self.survivors and not self.contradicted
                and not self.unmade)

    def matrix(self, side: str) -> dict[str, Counter[str]]:
        """By layer, or module that layers share: counts of mutants, of verdicts and of kills by check."""
        rows: dict[str, Counter[str]] = {}
        for mutant, verdict in self.results:
            if mutant.side == side:
                row = rows.setdefault(mutant.layer, Counter())
                row.update(["mutants", verdict.kind, *verdict.kills])
                row["same"] += verdict.kind == SURVIVED and mutant.key in self.explained
        order = [*CATALOGUE, *sorted(set(rows) - set(CATALOGUE))]
        return {layer: rows[layer] for layer in order if layer in rows}

    def met(self, side: str) -> Counter[str]:
        """By layer of the catalogue, the number of mutants in code that it runs, its own and shared."""
        return Counter(layer for m, v in self.results if m.side == side for layer in v.met)

    @property
    def families(self) -> dict[str, dict[str, int]]:
        """By kind of mistake: mutants, killed, the same function, and unexplained survivors."""
        rows: dict[str, dict[str, int]] = {}
        for mutant, verdict in self.results:
            row = rows.setdefault(mutant.operator, {"mutants": 0, "killed": 0, "same function": 0, "unexplained": 0})
            row["mutants"] += 1
            row["killed" if verdict.dead else "same function" if mutant.key in self.explained else "unexplained"] += 1
        return rows

    def checks(self, side: str) -> dict[str, dict[str, float]]:
        """By check: mutants killed, mutants killed by nothing else, and CPU seconds."""
        rows: dict[str, dict[str, float]] = {}
        for mutant, verdict in self.results:
            if mutant.side == side:
                for check in (*verdict.seconds, *verdict.kills):
                    rows.setdefault(check, {"kills": 0, "alone": 0, "seconds": 0.0})
                for check, seconds in verdict.seconds.items():
                    rows[check]["seconds"] += seconds
                for check in verdict.kills:
                    rows[check]["kills"] += 1
                    rows[check]["alone"] += len(verdict.kills) == 1
        return rows

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, for ``json.dumps``."""
        kinds = Counter(v.kind for _, v in self.results)
        return {
            "ok": self.ok, "interrupted": self.interrupted, "fast": self.fast,
            "mutants": len(self.results), "killed": kinds[KILLED],
            "time-out": kinds[TIMEOUT], "same function": kinds[SURVIVED] - len(self.survivors),
            "unexplained": len(self.survivors), "stillborn": self.stillborn, "seconds": round(self.seconds, 1),
            "matrix": {side: {layer: dict(row) for layer, row in self.matrix(side).items()} for side in SIDES},
            "met": {side: dict(self.met(side)) for side in SIDES},
            "checks": {side: self.checks(side) for side in SIDES},
            "families": self.families,
            "explained, not made": [list(key) for key in self.unmade],
            "verdicts": [{
                "where": m.key[0], "operator": m.operator, "before": m.before, "after": m.after, "layer": m.layer,
                "side": m.side, "verdict": v.kind, "kills": v.kills, "on": v.layer,
                "reason": self.explained.get(m.key, ""), "seconds": round(sum(v.seconds.values()), 4),
            } for m, v in self.results],
        }

    def _tables(self, side: str) -> "tuple[Table, Table]":
        """The checks with what they cost, each under a number, and the matrix with a column a number."""
        from rich.table import Table

        checks = sorted(self.checks(side).items(), key=lambda item: -item[1]["kills"])
        numbers = [f"{k}" for k in range(1, len(checks) + 1)]
        costs = Table(title=f"{side}: the checks, and what they cost", title_justify="left", box=None, padding=(0, 1))
        for column in ("", "check", "kills", "alone", "CPU s", "ms a kill"):
            costs.add_column(column, justify="left" if column in ("", "check") else "right")
        for number, (check, row) in zip(numbers, checks, strict=True):
            each = f"{1e3 * row['seconds'] / row['kills']:.1f}" if row["kills"] else ""
            alone = "" if self.fast else f"{row['alone']:,}"
            costs.add_row(number, check, f"{row['kills']:,}", alone, f"{row['seconds']:.1f}", each)
        who = "first noticed" if self.fast else "noticed"
        matrix = Table(title=f"{side}: mutants by place (met: those that the layer runs into), and who {who} them",
                       title_justify="left", box=None, padding=(0, 1))
        for column in ("layer or module", "met", "made", "killed", "time-out", "same", *numbers):
            matrix.add_column(column, justify="left" if column == "layer or module" else "right")
        met = self.met(side)
        for layer, counts in self.matrix(side).items():
            cells = (met.get(layer, 0), counts["mutants"], counts[KILLED], counts[TIMEOUT], counts["same"],
                     *(counts[check] for check, _ in checks))
            matrix.add_row(layer, *(f"{cell:,}" if cell else "" for cell in cells))
        return costs, matrix

    def _families(self) -> "Table":
        from rich.table import Table

        shown = Table(title="kill rate by kind of mistake", title_justify="left", box=None, padding=(0, 1))
        for column in ("kind", "made", "killed", "same", "unexplained", "kill rate"):
            shown.add_column(column, justify="left" if column == "kind" else "right")
        for kind, row in self.families.items():
            judged = row["mutants"] - row["same function"]
            rate = f"{row['killed'] / judged:.1%}" if judged else ""
            shown.add_row(kind, *(f"{row[name]:,}" for name in ("mutants", "killed", "same function", "unexplained")),
                          rate)
        return shown

    def print(self, console: "Console") -> None:
        """Writes the matrix, the cost of the checks and the survivors to a ``rich`` console."""
        for side in SIDES:
            for table in self._tables(side):
                console.print(table)
        console.print(self._families())
        for mutant in self.survivors:
            console.print(f"\nSURVIVED {mutant.diff}", highlight=False, markup=False, soft_wrap=True)
        for mutant, verdict in self.contradicted:
            console.print(f"\nNOT THE SAME FUNCTION, found by {verdict.kills}: {mutant.diff}", highlight=False,
                          markup=False, soft_wrap=True)
        for key in self.unmade:
            console.print(f"\nNO SUCH MUTANT any more: {key}", highlight=False, markup=False, soft_wrap=True)
        kinds = Counter(v.kind for _, v in self.results)
        same = kinds[SURVIVED] - len(self.survivors)
        state = ("interrupted" if self.interrupted else "every mutant killed or explained" if self.ok else
                 "FAILED" if self.results else "FAILED, nothing was judged")
        console.print(f"{state}: {len(self.results):,} mutants, "
                      f"{kinds[KILLED]:,} killed, {kinds[TIMEOUT]} timed out, {same} the same function, "
                      f"{len(self.survivors)} unexplained; {self.stillborn} could not be imported and do not count; "
                      f"{self.seconds:.0f} s", style="bold", highlight=False, soft_wrap=True)
