"""The third witness of an audit, which only our own process asks: torch's autograd of the twin."""

import numpy as np

from ..cases.case import parse
from ..judge.compare import worst
from ..judge.finding import Finding
from ..judge.lanes import LANES
from ..judge.report import Report
from .answers import BACKWARD, Audited
from .rounding import apart

LANE = "cpu-float64"


def ask(report: Report) -> None:
    """Holds the gradients of a report against torch's autograd of the twins, where torch is there."""
    asked = [r for r in report.results if r.twin and r.witnessed]
    if not asked:
        return
    try:
        import torch  # noqa: F401
    except ImportError:
        report.remarks.append("autograd of the twin: UNTESTED, torch is not installed")
        return
    for result in asked:
        try:
            _ask(result)
        except Exception as error:  # the twin cannot speak: the other two witnesses stand
            result.remark(f"autograd of the twin: UNTESTED, {type(error).__name__}: {error}".splitlines()[0])


def _ask(result: Audited) -> None:
    from ..sides import run_port

    agreed, lane = 0, LANES[LANE]
    for case_id, (outputs, got) in result.witnessed.items():
        case = parse(case_id)
        twin = run_port(case, case.data(lambda a: np.asarray(a, np.float64)), lane)
        same = all(n in twin and worst(apart(o, twin[n], lane))[0] <= 1 for n, o in outputs.items())
        for name, g in got.items():
            auto = twin.get(f"grad.{name}")
            if auto is None or g is None or g.shape != auto.shape:
                continue
            known = [f for f in result.findings if f.quantity == f"grad.{name}"]
            for f in known:
                if f.check == "gradient" and f.case_id == case_id and f.index:
                    f.values["autograd of the twin" + ("" if same else " (of another forward)")] = float(auto[f.index])
            away, index = worst(apart(g, auto, lane))
            if same and away <= 1:
                agreed += 1
            elif same and not known and result.ok:
                result.findings.append(Finding(
                    "autograd", f"grad.{name}", BACKWARD, "autograd of the twin, whose forward is the same, says "
                    "otherwise", "autograd", index=index, case_id=case_id,
                    values={"backward": float(g[index]), "autograd of the twin": float(auto[index])}))
    if agreed:
        result.remark(f"autograd of the twin agrees on {agreed} gradients")
