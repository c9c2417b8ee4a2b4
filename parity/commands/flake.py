"""``parity flake``."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .check import cores

if TYPE_CHECKING:
    from rich.console import Console

    from ..trust.flake import Alarms


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("pairs", nargs="?", metavar="FILE",
                        help="Python file with right pairs, which is run (this project's own layers)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="checks, each under another seed (1)")
    parser.add_argument("--cases", type=int, metavar="N", help="cases per layer and lane in a check (as parity check)")
    parser.add_argument("--layer", default="*", metavar="GLOB", help="layers to check (all)")
    parser.add_argument("--lane", default="*", metavar="GLOB", help="lanes to run in (all)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first check, growing by one (1)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the counts and every alarm there")


def run(args: Namespace) -> int:
    """Counts, prints, and gives the exit code: 1 for any alarm."""
    from ..judge.report import check_writable, write_json
    from ..screen import console
    from ..trust.flake import false_alarms

    if args.json:
        check_writable(args.json)
    screen, log = console(), console(stderr=True)
    total = false_alarms(args.runs, seed=args.seed, layer=args.layer, lane=args.lane, catalogue=args.pairs,
                         cases=args.cases, jobs=args.jobs,
                         progress=lambda done: log.print(f"{done} of {args.runs} checks", style="dim", highlight=False))
    try:
        _print(screen, total, args.seed)
    finally:  # though nobody reads it
        if args.json:
            write_json(args.json, total.to_json())
    return 0 if total.ok else 130 if total.interrupted and not total.findings else 1


def _print(screen: "Console", total: "Alarms", seed: int) -> None:
    for finding in total.findings[:10]:
        screen.print(f"{finding}\n", highlight=False, markup=False, soft_wrap=True)
    for lane, (share, case_id) in total.worst.items():
        screen.print(f"{lane}: {total.by_lane[lane]} false alarms in {total.lanes[lane]:,} cases, at most {share:.0%} "
                     f"of the budget used, by {case_id}", highlight=False, markup=False, soft_wrap=True)
    screen.print(f"{total.alarms} false alarms in {total.cases:,} cases ({total.runs} checks from seed {seed}, "
                 f"{total.failed} failed): with 95 % confidence at most {total.bound:.2g} a case; "
                 f"{total.seconds:.0f} s{''.join(f'; FAILED: {reason}' for reason in total.reasons)}",
                 highlight=False, markup=False, style="bold", soft_wrap=True)
