"""``parity replay``."""

from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("case_id", metavar="CASE_ID", help="text of the case, as a finding or --json shows it")
    parser.add_argument("--pairs", metavar="FILE", help="Python file with the pair that it names, which is run")
    parser.add_argument("--lane", default="*", metavar="GLOB", help="lanes to run in (all)")


def run(args: Namespace) -> int:
    """Replays, prints a row a quantity, and gives the exit code."""
    from ..engine import replay
    from ..screen import console, show, table

    report = replay(args.case_id, args.lane, pairs=args.pairs)
    screen, shown = console(), table("share of the budget used", "lane", "quantity", worst="right", status="left")
    for row in report.rows:
        worst = "" if row["worst"] is None else f"{row['worst']:.3g}"
        shown.add_row(row["lane"], row["quantity"], worst, row["status"].upper() if row["status"] != "ok" else "ok")
    show(screen, shown)
    for u in report.untested:
        screen.print(f"{u.lane}: UNTESTED, {u.reason}", style="yellow", highlight=False, soft_wrap=True)
    for row in report.rows:
        if row["status"] == "untested" and row["quantity"] != "*":
            screen.print(f"{row['lane']}: {row['quantity']} UNTESTED, {row['reason']}", style="yellow", highlight=False,
                         markup=False, soft_wrap=True)
    for finding in report.findings:
        screen.print(f"\n{finding}", highlight=False, markup=False, soft_wrap=True)
    screen.print(report.summary(), highlight=False, markup=False, style="bold", soft_wrap=True)
    code: int = report.exit_code
    return code
