"""``parity check``."""

import contextlib
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine import Outcome, Progress


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("pairs", nargs="?", metavar="FILE",
                        help="Python file with pairs of your own, which is run (this project's own layers)")
    parser.add_argument("--layer", default="*", metavar="GLOB", help="layers to check, such as 'Time*' (all)")
    parser.add_argument("--lane", default="*", metavar="GLOB", help="lanes to run in, such as 'cpu-*' (all)")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--cases", type=int, metavar="N", help="cases per layer and lane (24)")
    amount.add_argument("--minutes", type=float, metavar="M", help="draw cases for so long instead")
    amount.add_argument("--last-failed", action="store_true", help="run the cases that failed last time, here")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="from which all cases follow (0)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write rows, findings and versions there")
    parser.add_argument("--reach", action="store_true", help="print how far the cases of each layer looked, too")
    parser.add_argument("--plot", metavar="FILE",
                        help="draw the largest share of the budget by the size of each axis, as .png or .svg")
    parser.add_argument("--require", action="append", default=[], choices=["cuda"],
                        help="fail where the lanes of this device cannot run")


def run(args: Namespace) -> int:
    """Checks, prints, remembers what failed, and gives the exit code."""
    from ..engine import check
    from ..judge.report import check_writable, write_json
    from ..screen import console
    from ..trust.shares import Shares, check_picture
    from .memory import Memory

    if args.json:
        check_writable(args.json)
    if args.plot:
        check_picture(args.plot)
    memory = Memory(args.pairs)
    only = memory.recall() if args.last_failed else None
    shares = Shares()

    def seen(outcome: "Outcome") -> None:
        memory.saw(outcome)
        shares.add(outcome)

    with progress(args.minutes is None) as advance:
        report = check(args.layer, args.lane, catalogue=args.pairs, cases=args.cases, minutes=args.minutes,
                       only=only, seed=args.seed, jobs=args.jobs, require=args.require, progress=advance,
                       seen=seen)
    screen, line = console(), memory.keep()
    try:
        if args.reach:
            _show_reach(screen, report)
        report.print(screen)
        if line:
            screen.print(line, highlight=False, markup=False, soft_wrap=True)
    finally:  # though nobody reads the table
        if args.json:
            write_json(args.json, report.to_json())
        if args.plot:
            shares.write(args.plot)
    return report.exit_code


def _show_reach(screen: Any, report: Any) -> None:
    """Prints what the cases of each layer were, and what of the declared reach they left out."""
    from ..cases.reach import COLUMNS
    from ..screen import show, table

    shown = table("reach", *COLUMNS, folded=COLUMNS[1:])
    for reach in report.reach.values():
        shown.add_row(*reach.row())
    show(screen, shown)


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def progress(ends: bool = True) -> "Iterator[Progress]":
    """A progress bar on standard error, so that a pipe gets the table alone.

    Args:
        ends: whether the number of cases is known.

    Yields:
        A function of (cases done, cases in all or None, current layer).
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    left = [TimeRemainingColumn()] if ends else []
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("cases"),
                   TimeElapsedColumn(), *left, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None)

    def advance(done: int, total: int | None, layer: str) -> None:
        bar.start()  # not before: wrong usage ends with one line
        bar.update(task, completed=done, total=total, description=f"{layer:<20}")

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
