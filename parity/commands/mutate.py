"""``parity mutate``."""

import os
import sys
import time
from argparse import ArgumentParser, Namespace

from ..errors import UsageError
from .check import cores

WIDTH = 170  # of the matrix, which has a column a check


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--layer", default="*", metavar="GLOB", help="layers, or shared modules, to break (all)")
    parser.add_argument("--fast", action="store_true", help="stop at the first check that notices")
    parser.add_argument("--hidden", action="store_true",
                        help="plant faults too that begin at a size or a call, in one mode or layout, or are tiny")
    parser.add_argument("--tests", default="", metavar="FILE",
                        help="break what no layer is made of, too, as this file of tests says, which is run (none)")
    parser.add_argument("--share", type=float, default=1.0, metavar="P", help="of the mutants, that are tried (all)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="by which a share is drawn (0)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write every mutant with its verdict there")


def run(args: Namespace) -> int:
    """Mutates, prints, and gives the exit code: 1 for an unexplained survivor or an explanation that is wrong."""
    if not hasattr(os, "fork"):
        raise UsageError("mutants run in forked processes, which this platform has not")
    if args.jobs < 1:
        raise UsageError(f"jobs is {args.jobs}, expected >= 1")
    from rich.console import Console
    from rich.progress import Progress

    from ..judge.report import check_writable, write_json
    from ..trust.mutation.kills import mutate

    if args.json:
        check_writable(args.json)
    start = time.monotonic()
    # no thread of its own: workers are forked while it shows
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True,
                  disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("surveying the layers", total=None)
        bar.refresh()

        def progress(done: int, total: int) -> None:
            bar.update(task, description="mutants", completed=done, total=total)
            if done % 20 == 0:
                bar.refresh()

        summary = mutate(args.layer, fast=args.fast, hidden=args.hidden, share=args.share, seed=args.seed,
                         jobs=args.jobs, tests=args.tests, progress=progress)
    summary.seconds = time.monotonic() - start
    try:
        summary.print(Console(width=max(Console().width, WIDTH)))
    finally:  # though nobody reads the tables
        if args.json:
            write_json(args.json, summary.to_json())
    return 130 if summary.interrupted else 0 if summary.ok else 1
