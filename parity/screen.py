"""The screen: where results are printed, and tables whose names are never cut."""

from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDE = 200  # columns of what is no terminal: a pipe or a file cuts and folds nothing


def console(**where: Any) -> Console:
    """A ``rich`` console as wide as its terminal; what is none is wide.

    Args:
        where: ``file=`` or ``stderr=``, as ``rich.console.Console`` takes them; standard output by default.
    """
    made = Console(**where)
    return made if made.is_terminal else Console(**where, width=max(WIDE, made.width))


def table(title: str, *columns: str, folded: Collection[str] = (), **aligned: Any) -> Table:
    """A table without rows yet.

    Args:
        title: above it.
        columns: names of columns on the left.
        folded: those of them whose text may go on in another line; every other cell stays whole.
        aligned: further columns by name, with how they are justified.
    """
    made = Table(title=title, title_justify="left", show_edge=False)
    for name in columns:
        made.add_column(name, no_wrap=name not in folded, overflow="fold")
    for name, justify in aligned.items():
        made.add_column(name, justify=justify, no_wrap=True, overflow="fold")
    return made


def show(console: Console, table: Table) -> None:
    """Prints a table; wider than the console where a cell that stays whole would not fit."""
    huge = console.options.update(max_width=10**6)
    whole = [column for column in table.columns if column.no_wrap]
    for column in whole:
        column.min_width = max(Measurement.get(console, huge, text).maximum for text in (column.header, *column.cells))
    before = console.width
    console.width = max(before, Measurement.get(console, huge, table).minimum)
    try:
        console.print(table, crop=False)
    finally:
        console.width = before
