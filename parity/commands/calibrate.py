"""``parity calibrate``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .check import cores

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..judge.report import Report
    from ..trust.calibration import Trial
    from ..trust.growth import Row

    Plain = dict[str, Any]

CASES = 40_000


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("pairs", nargs="?", metavar="FILE",
                        help="Python file with right pairs, which is run (this project's own layers)")
    parser.add_argument("--cases", type=int, metavar="N",
                        help="cases over all layers and lanes (40000); each takes about 25 ms of a processor")
    parser.add_argument("--layer", default="*", metavar="GLOB", help="layers to measure (all)")
    parser.add_argument("--lane", default="cpu-*", metavar="GLOB", help="lanes to measure in (%(default)s)")
    parser.add_argument("--growth", action="store_true",
                        help="instead, the largest share of the budget by the length of a sum, 4 to 16,384, and at "
                             "sizes in real use; --cases is then the number for each (8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="from which all cases follow (0)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")


def run(args: Namespace) -> int:
    """Measures, prints tables, and gives the exit code: 1 where right results raised an alarm."""
    from ..errors import whole

    for name, least in (("cases", 1), ("jobs", 1), ("seed", 0)):
        if getattr(args, name) is not None:
            whole(name, getattr(args, name), least)
    return _growth(args) if args.growth else _rates(args, CASES if args.cases is None else args.cases)


def _rates(args: Namespace, cases: int) -> int:
    from ..engine import TURN
    from ..errors import UsageError
    from ..judge.lanes import LANES, select
    from ..judge.report import check_writable, write_json
    from ..processes import parallel
    from ..screen import console
    from ..sides import untested
    from ..spec.catalogue import Catalogue
    from ..trust import calibration as c
    from .check import progress

    catalogue = Catalogue.of(args.pairs)
    layers = [spec.name for spec in select(catalogue, args.layer)] if catalogue else []
    reasons = {lane.name: lane.untested() for lane in select(LANES, args.lane)}
    lanes = tuple(name for name, reason in reasons.items() if not reason)
    lanes_of = {name: tuple(lane for lane in lanes if not untested(catalogue[name], LANES[lane])) for name in layers}
    pairs = sum(map(len, lanes_of.values()))
    if not pairs:
        raise UsageError(f"nothing to measure: {len(layers)} layers, {len(lanes)} lanes that can run here")
    if args.json:
        check_writable(args.json)
    each = -(-cases // pairs)
    tasks = ((name, args.seed, index, lanes_of[name]) for first in range(0, each, TURN) for name in layers
             for index in range(first, min(first + TURN, each)))
    results, total = [], each * pairs
    interrupted = False
    with progress() as advance:
        advance(0, total, "starting")
        try:
            for some in parallel(partial(c.trials, catalogue), tasks, args.jobs, partial(c.lost, catalogue)):
                results += some
                advance(len(results), total, some[-1].layer)
        except KeyboardInterrupt:
            interrupted = True
    if not results:
        console().print("interrupted: 0 cases")
        return 130
    figures = _figures(c, results, args.seed)
    bad = [f"{len(figures['alarms'])} right results called wrong"] if figures["alarms"] else []
    if not figures["planted"]:
        bad.append("nothing was judged of planted errors: no case had a gradient to plant one in")
    if interrupted:
        bad.append(f"interrupted before {total:,}")
    try:
        _print(c, figures, reasons, bad)
    finally:  # though nobody reads the tables
        if args.json:
            write_json(args.json, figures | {"ok": not bad, "interrupted": interrupted})
    return 130 if interrupted else 1 if bad else 0


def _print(c: ModuleType, figures: "Plain", reasons: dict[str, str], bad: list[str]) -> None:
    from ..screen import console, show

    screen = console()
    for table in _tables(c, figures):
        show(screen, table)
    for name, reason in reasons.items():
        if reason:
            screen.print(f"{name}: UNTESTED, {reason}", style="yellow", highlight=False, soft_wrap=True)
    for case, lane in figures["alarms"]:
        screen.print(f"parity replay '{case}' --lane {lane}", highlight=False, soft_wrap=True)
    screen.print(f"{'FAILED' if bad else 'no false alarm'}: {figures['cases']:,} cases{''.join(f'; {b}' for b in bad)}",
                 style="bold", highlight=False, soft_wrap=True)


def _figures(c: ModuleType, results: "list[Trial]", seed: int) -> "Plain":
    import platform

    import numpy as np
    import torch

    rules = [*c.RULES, c.BUDGET]
    by_lane = {lane: [t for t in results if t.lane == lane] for lane in dict.fromkeys(t.lane for t in results)}
    whole = [t for t in results if not c.half(t.lane)]
    halves = [t for t in results if c.half(t.lane)]
    compared = [t for t in by_lane.get(c.PLANTED_LANE, []) if t.planted]
    ordinary = [t for t in compared if t.pattern == c.ORDINARY]
    return {
        "seed": seed,
        "cases": len(results),
        "planted": sum(t.planted for t in results),
        "compared": len(compared),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
        "alarms": [(t.case_id, t.lane) for t in results if c.BUDGET in t.alarms],
        "rules": {rule: {
            "false alarms": c.alarmed(whole, rule),
            "in half precision": c.alarmed(halves, rule),
            "found, normal values": c.found(ordinary, c.PLANTED, rule),
            "found, all patterns": c.found(compared, c.PLANTED, rule),
        } for rule in rules},
        "lanes": {lane: {
            "cases": len(some),
            "false alarms": sum(c.BUDGET in t.alarms for t in some),
            "largest share": max(t.share for t in some),
            "found": {error: c.found(some, error) for error in c.ERRORS},
        } for lane, some in by_lane.items()},
        "layers": {layer: {rule: c.found([t for t in compared if t.layer == layer], c.PLANTED, rule) for rule in rules}
                   for layer in dict.fromkeys(t.layer for t in compared)},
    }


def _tables(c: ModuleType, figures: "Plain") -> "tuple[Table, ...]":
    from ..screen import table

    columns = next(iter(figures["rules"].values()))
    first = table(f"{figures['cases']:,} cases, seed {figures['seed']}: right results called wrong, and errors of "
                  f"{c.PLANTED} planted in one element found, in {c.PLANTED_LANE}", "rule",
                  **dict.fromkeys(columns, "right"))
    for rule, row in figures["rules"].items():
        first.add_row(rule, *(f"{value:.2%}" for value in row.values()))
    second = table(f"what a lane can see: planted errors found, scales up to {c.PLANTED_SCALE}", "lane",
                   **dict.fromkeys(("cases", "false alarms", "largest share", *c.ERRORS), "right"))
    for lane, row in figures["lanes"].items():
        second.add_row(lane, f"{row['cases']:,}", str(row["false alarms"]), f"{row['largest share']:.0%}",
                       *(f"{value:.1%}" for value in row["found"].values()))
    third = table(f"{c.PLANTED} found, by layer ({figures['compared']:,} planted)", "layer",
                  **dict.fromkeys(figures["rules"], "right"))
    for layer, row in figures["layers"].items():
        third.add_row(layer, *(f"{value:.0%}" for value in row.values()))
    return first, second, third


def _growth(args: Namespace) -> int:
    from ..judge.report import check_writable, write_json
    from ..screen import console
    from ..trust import growth as g
    from .check import progress

    if args.json:
        check_writable(args.json)
    with progress() as advance:
        report, worst = g.growth(args.layer, args.lane, cases=args.cases or g.CASES, seed=args.seed, jobs=args.jobs,
                                 progress=advance)
    try:
        _print_growth(console(), report, worst)
    finally:  # though nobody reads the tables
        if args.json:
            rows = [{"layer": name, "length": length, **shares} for (name, length), shares in worst.items()]
            write_json(args.json, report.to_json() | {"growth": rows})
    return report.exit_code


def _print_growth(screen: "Console", report: "Report", worst: "dict[Row, dict[str, float | None]]") -> None:
    from ..screen import show, table

    def cells(shares: Iterable[float | None]) -> list[str]:
        return ["" if share is None else f"{share:.0%}" for share in shares]

    lanes = list(next(iter(worst.values())))
    columns = dict.fromkeys(lanes, "right")
    names = list(dict.fromkeys(name for name, length in worst if length))
    sums = table("largest share of the budget by the length of a sum", "length", **columns)
    for size in dict.fromkeys(length for _, length in worst if length):
        shares = [[worst[name, size][lane] for name in names] for lane in lanes]
        sums.add_row(f"{size:,}", *cells(max((x for x in some if x is not None), default=None) for some in shares))
    sizes = table("and at sizes in real use", "layer", **columns)
    for (name, length), by_lane in worst.items():
        if not length:
            sizes.add_row(name, *cells(by_lane.values()))
    if names:
        show(screen, sums)
        screen.print(f"(sums of {', '.join(names)})", highlight=False, soft_wrap=True)
    if sizes.row_count:
        show(screen, sizes)
    for finding in report.findings:
        screen.print(f"{finding}\n", highlight=False, markup=False, soft_wrap=True)
    said = "no false alarm" if report.ok else f"FAILED: {'; '.join(report.reasons)}"
    screen.print(f"{said}: {report.cases:,} cases, seed {report.seed}, {report.seconds:.1f} s", style="bold",
                 highlight=False, markup=False, soft_wrap=True)
