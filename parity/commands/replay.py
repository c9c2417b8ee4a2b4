"""``parity replay``."""


def arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("case_id", metavar="CASE_ID", help="text of the case, as a finding or --json shows it")
    parser.add_argument("--lane", default="*", metavar="GLOB", help="lanes to run in (all)")


def run(args):
    """Replays, prints a row a quantity, and gives the exit code."""
    from rich.console import Console
    from rich.table import Table

    from ..engine import replay

    report = replay(args.case_id, args.lane)
    console = Console()
    table = Table(title="share of the budget used", title_justify="left")
    for column in ("lane", "quantity", "worst", "status"):
        table.add_column(column, justify="right" if column == "worst" else "left")
    for row in report.rows:
        worst = "" if row["worst"] is None else f"{row['worst']:.3g}"
        table.add_row(row["lane"], row["quantity"], worst, row["status"].upper() if row["status"] != "ok" else "ok")
    console.print(table)
    for u in report.untested:
        console.print(f"{u.lane}: UNTESTED, {u.reason}", style="yellow", highlight=False)
    for finding in report.findings:
        console.print(f"\n{finding}", highlight=False, markup=False, soft_wrap=True)
    return 0 if report.ok else 1
