"""``parity audit``: judges the hand-written gradients of files and notebooks."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from . import assignment

if TYPE_CHECKING:
    from rich.console import Console

    from ..judge.report import Report

    Target = tuple[Path, tuple[str, ...], Path | None]  # a file, classes of it or none for all, the root of its folder


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("targets", nargs="+", metavar="FILE[:CLASS]",
                        help="a .py file, a notebook or a folder with all below it; of one class behind a colon")
    parser.add_argument("--like", metavar="NAME", help="the layer of the catalogue that it is meant to be")
    parser.add_argument("--seed", type=int, default=0, help="of all random values (default 0)")
    parser.add_argument("--seconds", type=float, default=60, help="that one class may take (default 60)")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="that it may take (default 2048)")
    parser.add_argument("--jobs", type=int, default=2, help="files at once (default 2)")
    parser.add_argument("--no-autograd", action="store_true", help="do not ask the twin's autograd: torch stays out")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--allow", default="", metavar="KIND,…",
                        help="kinds of warnings that are none (an unknown one is answered with the list)")
    parser.add_argument("--setup", metavar="FILE",
                        help="a .py file that is run before each: aliases for names that NumPy has no more")
    parser.add_argument("--details", action="store_true", help="of many files too, everything that is known of a layer")
    assignment.arguments(parser)
    parser.add_argument("--json", metavar="FILE",
                        help="write the report as JSON; with --spec, where a later run goes on from")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page with heat maps (needs Jinja2)")
    parser.add_argument("--script", metavar="FILE", help="write a program that shows the first finding")


def run(args: Namespace) -> int:
    """Audits every target; gives the exit code: 0 all right, 1 something wrong, 2 nothing could be audited."""
    from reference.data import write_atomically

    from ..auditing import a_file, audit_file
    from ..auditing.answers import Policy
    from ..auditing.autograd import ask
    from ..errors import UsageError
    from ..errors import whole as whole_number
    from ..judge.report import Report, check_writable, write_json
    from ..screen import console as screen

    whole_number("jobs", args.jobs, 1)
    Policy.of(args.strict, args.allow)
    if args.spec:
        for option in ("like", "html", "script"):
            if getattr(args, option):
                raise UsageError(f"--{option} goes with a file, not with --spec")
        return assignment.run(args, screen())
    for option in ("baseline", "csv", "junit"):
        if getattr(args, option):
            raise UsageError(f"--{option} needs --spec, an assignment")
    for path in filter(None, (args.json, args.html, args.script)):
        check_writable(path)

    def one(pair: "Target") -> "Report":
        path, names, root = pair
        found: Report = audit_file(path, names, like=args.like, seed=args.seed, seconds=args.seconds,
                                   memory=args.memory, autograd=False, strict=args.strict, allow=args.allow, root=root,
                                   setup=args.setup)
        return found

    console = screen()
    pairs = [pair for target in args.targets for pair in _files(target)]
    if not pairs:
        raise UsageError(f"no .py file or notebook with a forward and a backward in {', '.join(args.targets)}")
    for path, *_ in pairs:
        a_file(path)  # before anything is run whose findings the error would hide
    whole = Report(seed=args.seed, path=str(pairs[0][0]) if len(pairs) == 1 else "")
    pool = ThreadPoolExecutor(args.jobs)
    try:
        for (path, *_), report in zip(pairs, pool.map(one, pairs), strict=True):
            if not args.no_autograd:
                ask(report)
            if len(pairs) > 1 and (report.results or report.remarks):
                console.print(str(path), style="bold", markup=False, highlight=False, soft_wrap=True)
            if len(pairs) == 1 or (args.details and (report.results or report.remarks)):
                report.print(console)
            else:
                _rows(console, report)
            whole.results += report.results
            whole.remarks += report.remarks
            whole.failed += report.failed
        if len(pairs) > 1:
            counts = Counter("could not be tried" if r.skipped else r.verdict for r in whole.results)
            console.print(", ".join(f"{n} {words}" for words, n in counts.most_common()) or "nothing was judged")
    except KeyboardInterrupt:  # what the files run dies with this process
        whole.interrupted = True
        console.print("interrupted", style="bold")
    finally:  # though nobody reads it
        pool.shutdown(wait=False, cancel_futures=True)
        if args.json:
            write_json(args.json, whole.to_json())
        if args.html:
            write_atomically(args.html, whole.to_html().encode())
    if args.script and not whole.interrupted:
        text = whole.script()
        if text:
            write_atomically(args.script, text.encode())
        console.print(f"script: {args.script}" if text else "no script: nothing found, or none that shows it by itself",
                      markup=False, highlight=False, soft_wrap=True)
    return whole.exit_code


def _files(target: str) -> "list[Target]":
    """The paths and class names of one target."""
    from ..auditing.repository import files

    path = Path(target)
    if path.is_dir():
        return [(p, (), path) for p in files(path)]
    head, colon, name = target.rpartition(":")
    if colon and not path.exists():
        return [(Path(head), (name,), None)]
    return [(path, (), None)]


def _rows(console: "Console", report: "Report") -> None:
    """A line a layer, and what could not be run of the file."""
    for r in report.results:
        judged = ", ".join(r.judged)
        finding = next(iter(r.errors), None)
        why = f"not judged: {', '.join(f'{n}, {w}' for n, w in r.unjudged.items())}" if r.unjudged else ""
        words = f"{finding.where}: {finding.diagnosis or finding.verdict}" if finding else why or (
            f"judged: {judged}" if judged else r.skipped)
        verdict = "not tried" if r.skipped else "right" if r.ok else "wrong" if finding else "not judged"
        style = {"right": "green", "wrong": "bold red"}.get(verdict, "yellow")
        console.print(f"  {verdict:<10} {r.name}: {words}", style=style, markup=False, highlight=False, soft_wrap=True)
    for words in report.remarks:
        console.print(f"  {words}", markup=False, highlight=False, soft_wrap=True)
