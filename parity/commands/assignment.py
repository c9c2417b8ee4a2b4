"""``parity audit --spec``: grades submissions by an assignment."""

import json
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ..judge.report import Report


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--spec", metavar="FILE", help="an assignment (TOML): grades submissions, a row a function")
    parser.add_argument("--baseline", metavar="FILE",
                        help="the official solution: what it has too is hidden, another forward than its is told")
    parser.add_argument("--csv", metavar="FILE", help="with --spec: write the rows as a table")
    parser.add_argument("--junit", metavar="FILE", help="with --spec: write the rows as JUnit's XML")


def run(args: Namespace, console: "Console") -> int:
    """Grades every submission; gives the exit code: 0 all right, 1 something wrong, 2 nothing could be audited.

    With ``--json`` the rows are kept after each submission, and a later run leaves out those that have not changed.
    """
    from reference.data import write_atomically

    from ..auditing import a_file, assignment, audit_file
    from ..errors import UsageError
    from ..judge.report import check_writable, write_json

    asked = assignment.read(args.spec)
    paths = [p for target in args.targets for p in _submissions(Path(target))]
    if not paths:
        raise UsageError(f"no .py file or notebook in {', '.join(args.targets)}")
    for path in filter(None, (args.json, args.csv, args.junit)):
        check_writable(path)
    for path in (*paths, *([args.baseline] if args.baseline else [])):
        a_file(path)

    def graded(path: Path) -> "Report":
        found: Report = audit_file(path, seed=args.seed, seconds=args.seconds, memory=args.memory, autograd=False,
                                   strict=args.strict, allow=args.allow, setup=args.setup, tasks=asked.tasks)
        return found

    baseline, digest = None, ""
    if args.baseline:
        baseline = graded(args.baseline)
        digest = assignment.digest_of(Path(args.baseline))
    earlier = {}
    if args.json and Path(args.json).exists():
        try:
            earlier = assignment.kept(json.loads(Path(args.json).read_text(encoding="utf-8")), asked, digest)
        except ValueError as error:
            raise UsageError(f"{args.json}: no result of an assignment: {error}") from error
    known = {p: earlier.get((str(p), assignment.digest_of(p))) for p in paths}
    pool = ThreadPoolExecutor(args.jobs)
    waiting = {p: pool.submit(graded, p) for p in paths if known[p] is None}
    found, interrupted = [], False
    try:
        for path in paths:
            rows = known[path] or assignment.rows(path, waiting[path].result(), asked, baseline)
            found += rows
            for r in rows:
                style = "green" if r.verdict == assignment.PASSED else "bold red"
                console.print(f"{r.submission}  {r.task}: {r.verdict}, {r.points:g} of {r.of:g}"
                              + (f"; {r.why}" if r.why else ""), style=style, markup=False, highlight=False,
                              soft_wrap=True)
            if args.json:
                write_json(args.json, assignment.to_json(asked, found, digest))
    except KeyboardInterrupt:
        interrupted = True
        console.print("interrupted", style="bold")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if left := sum(known[p] is not None for p in paths):
        console.print(f"{left} of {len(paths)} submissions as before", markup=False, highlight=False)
    if args.csv:
        write_atomically(args.csv, assignment.to_csv(found).encode())
    if args.junit:
        write_atomically(args.junit, assignment.to_junit(asked.title, found).encode())
    if interrupted:
        return 130
    if all(r.verdict == assignment.PASSED for r in found):
        return 0
    return 1 if any(r.judged for r in found) else 2


def _submissions(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in (".py", ".ipynb") and p.name != "__init__.py"
                      and ".ipynb_checkpoints" not in p.parts)
    return [path]
