"""How often the instrument raises an alarm where nothing is wrong: measured, with its 95 % bound."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..engine import Outcome, check
from ..errors import whole
from ..judge.finding import Finding
from ..judge.report import Report
from .bounds import upper


@dataclass
class Alarms:
    """What many checks of right code gave.

    Attributes:
        lanes: by lane, the number of cases in which something was judged; one in two lanes counts twice.
        findings: list of ``Finding``, each a false alarm as long as the code is right.
        alarms: number of cases with a finding.
        runs: number of checks.
        failed: number of checks with a finding.
        worst: by lane, the largest share of the budget used and the case that used it.
        seconds: time taken.
        interrupted: whether Ctrl-C ended it.
        reasons: why a check was no pass, other than an alarm; without repetition.
    """

    lanes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    runs: int = 0
    failed: int = 0
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    reasons: list[str] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Takes in a ``Report``."""
        self.findings += report.findings
        self.runs += 1
        self.failed += bool(report.findings)
        self.seconds += report.seconds
        self.interrupted |= report.interrupted
        self.reasons += [reason for reason in report.reasons[bool(report.findings):] if reason not in self.reasons]
        for row in report.rows:
            if row["worst"] is not None and row["worst"] > self.worst.get(row["lane"], (-1.0, None))[0]:
                self.worst[row["lane"]] = row["worst"], row["case_id"]

    def saw(self, outcome: Outcome) -> None:
        """Takes in an ``Outcome``."""
        self.lanes[outcome.lane] += bool(outcome.findings) or any(s is not None for s in outcome.shares.values())

    @property
    def cases(self) -> int:
        return self.lanes.total()

    @property
    def alarms(self) -> int:
        return sum(self.by_lane.values())

    @property
    def by_lane(self) -> Counter[str]:
        """By lane, the number of cases with a finding."""
        return Counter(lane for _, lane in {(finding.case_id, finding.lane) for finding in self.findings})

    @property
    def bound(self) -> float:
        """With 95 % confidence, the rate of alarms a case is not above this."""
        return upper(self.alarms, self.cases)

    @property
    def ok(self) -> bool:
        """Whether something was run, every check judged what it was to judge, and nothing alarmed."""
        return bool(self.cases) and not self.findings and not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, for ``json.dumps``."""
        return {
            "ok": self.ok, "reasons": self.reasons, "interrupted": self.interrupted,
            "runs": self.runs, "failed": self.failed,
            "cases": self.cases, "alarms": self.alarms, "bound": self.bound, "seconds": round(self.seconds, 1),
            "lanes": {lane: {"cases": count, "alarms": self.by_lane[lane]} for lane, count in self.lanes.items()},
            "worst": {lane: {"share": str(share) if math.isinf(share) else share, "case_id": case_id}
                      for lane, (share, case_id) in self.worst.items()},
            "findings": [finding.to_json() | {"share": str(finding.share)} for finding in self.findings],
        }


def false_alarms(runs: int, *, seed: int = 1, progress: Callable[[int], object] | None = None,
                 **options: Any) -> Alarms:
    """Checks right code again and again, every time under another seed.

    Args:
        runs: number of checks.
        seed: of the first; it grows by one a check.
        progress: function of (checks done), called as it goes.
        options: of ``parity.check``: ``layer``, ``lane``, ``catalogue``, ``cases``, ``jobs``.

    Returns:
        An ``Alarms``.

    Raises:
        UsageError: no check asked for, or what ``parity.check`` refuses.
    """
    runs, seed = whole("runs", runs, 1), whole("seed", seed, 0)
    total = Alarms()
    try:
        for number in range(runs):
            report = check(seed=seed + number, seen=total.saw, **options)
            total.add(report)
            if progress:
                progress(total.runs)
            if report.interrupted:
                break
    except KeyboardInterrupt:  # between two checks
        total.interrupted = True
    return total
