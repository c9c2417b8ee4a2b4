"""The Python of a notebook: its code cells, without what only IPython understands.

Only the standard library is used, because scripts that show a finding carry this text with them.
"""

import ast
import warnings
from collections.abc import Iterator
from typing import Any

TIMED = ("time", "prun")  # line and cell magics whose text is Python that leaves its names
PYTHON = (*TIMED, "capture")  # cell magics whose cell is Python


def code_cells(book: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """The sources of the code cells, numbered from 1 among all cells; of the old format, too."""
    cells = book["cells"] if "cells" in book else [c for sheet in book["worksheets"] for c in sheet["cells"]]
    for number, cell in enumerate(cells, 1):
        if cell.get("cell_type") == "code":
            yield number, "".join(cell.get("source", cell.get("input", "")))


def plain(source: str) -> tuple[str, list[str]]:
    """The source as Python, with ``pass`` for each line that is none, and the lines that were replaced.

    Python decides: only a line at which it stops is looked at, so a ``%`` inside a string or an expression stays.
    """
    lines, left = source.split("\n"), list[str]()
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        left.append(lines[first])
        if lines[first][2:].split()[:1] not in ([name] for name in PYTHON):
            return "", left
        lines[first] = ""
    for _ in lines:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse("\n".join(lines))
            break
        except (SyntaxError, ValueError) as error:
            number = (getattr(error, "lineno", None) or 1) - 1
        if number >= len(lines) or not _foreign(lines[number]):
            break  # wrong Python: whoever runs it says so
        bare = lines[number].strip()
        indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
        word, _, rest = bare[1:].partition(" ")
        kept = bare[0] == "%" and word in TIMED and rest.strip() and not rest.lstrip().startswith("-")
        left += [] if kept else [bare]
        while lines[number].endswith("\\") and bare[0] in "%!" and number + 1 < len(lines):
            lines[number], number = indent + "pass", number + 1  # the command goes on
        lines[number] = indent + (rest.strip() if kept else "pass")
    return "\n".join(lines), left


def _foreign(line: str) -> bool:
    """Whether a line that is no Python is one of IPython: a magic, a command, a question, or one assigned."""
    bare = line.strip()
    target, sign, value = bare.partition("=")
    assigned = sign and value.lstrip()[:1] in ("%", "!") and value.lstrip()[:1] and target.strip().isidentifier()
    return bare.startswith(("%", "!", "?")) or bare.endswith("?") or bool(assigned)
