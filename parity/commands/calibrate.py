"""``parity calibrate``."""

from .check import cores


def arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("--cases", type=int, default=40_000, metavar="N",
                        help="cases over all layers (%(default)s); each takes about 20 ms of a processor")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="from which all cases follow (0)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")


def run(args):
    """Measures, prints two tables, and gives the exit code: 1 where right results raised an alarm."""
    from ..catalogue import CATALOGUE
    from ..engine import TURN
    from ..errors import UsageError, whole
    from ..judge.lanes import LANES
    from ..judge.report import check_writable, write_json
    from ..processes import parallel
    from ..screen import console
    from ..trust import calibration as c
    from .check import progress

    for name, least in (("cases", 1), ("jobs", 1), ("seed", 0)):
        whole(name, getattr(args, name), least)
    reasons = {name: LANES[name].untested() for name in ("cpu-float32", "cpu-float64")}
    lanes = tuple(name for name, reason in reasons.items() if not reason)
    if not CATALOGUE or not lanes:
        raise UsageError(f"nothing to measure: {len(CATALOGUE)} layers, {len(lanes)} lanes that can run here")
    if args.json:
        check_writable(args.json)
    each = -(-args.cases // (len(CATALOGUE) * len(lanes)))
    tasks = ((name, args.seed, index, lanes) for first in range(0, each, TURN) for name in CATALOGUE
             for index in range(first, min(first + TURN, each)))
    results, total = [], each * len(CATALOGUE) * len(lanes)
    interrupted = False
    with progress() as advance:
        advance(0, total, "starting")
        try:
            for some in parallel(c.trials, tasks, args.jobs, c.lost):
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


def _print(c, figures, reasons, bad):
    from ..screen import console, show

    screen = console()
    for table in _tables(c, figures):
        show(screen, table)
    for name, reason in reasons.items():
        if reason:
            screen.print(f"{name}: UNTESTED, {reason}", style="yellow", highlight=False, soft_wrap=True)
    for case in figures["alarms"]:
        screen.print(f"parity replay '{case}'", highlight=False, soft_wrap=True)
    screen.print(f"{'FAILED' if bad else 'no false alarm'}: {figures['cases']:,} cases{''.join(f'; {b}' for b in bad)}",
                 style="bold", highlight=False, soft_wrap=True)


def _figures(c, results, seed):
    import platform

    import numpy as np
    import torch

    planted = [t for t in results if t.planted]
    rules = [*c.RULES, c.BUDGET]
    return {
        "seed": seed,
        "cases": len(results),
        "planted": len(planted),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
        "largest share": {lane: max(t.share for t in results if t.lane == lane)
                          for lane in dict.fromkeys(t.lane for t in results)},
        "alarms": [t.case_id for t in results if c.BUDGET in t.alarms],
        "rules": {rule: {
            "false alarms": c.rate(results, "alarms", rule),
            "found, normal values": c.rate(planted, "found", rule, lambda t: t.pattern == c.ORDINARY),
            "found, all patterns": c.rate(planted, "found", rule),
        } for rule in rules},
        "layers": {layer: {rule: c.rate(planted, "found", rule, lambda t, layer=layer: t.layer == layer)
                           for rule in rules} for layer in dict.fromkeys(t.layer for t in planted)},
    }


def _tables(c, figures):
    from ..screen import table

    shares = ", ".join(f"{share:.0%} in {lane}" for lane, share in figures["largest share"].items())
    columns = "false alarms", "found, normal values", "found, all patterns"
    first = table(f"{figures['cases']:,} cases, seed {figures['seed']}; largest share of the budget: {shares}", "rule",
                  **dict.fromkeys(columns, "right"))
    for rule, row in figures["rules"].items():
        first.add_row(rule, *(f"{value:.2%}" for value in row.values()))
    second = table(f"planted error of {c.PLANTED:g} found, by layer ({figures['planted']:,} planted)", "layer",
                   **dict.fromkeys(figures["rules"], "right"))
    for layer, row in figures["layers"].items():
        second.add_row(layer, *(f"{value:.0%}" for value in row.values()))
    return first, second
