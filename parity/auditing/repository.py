"""The files of a repository that have something to audit, read without running any of them."""

from __future__ import annotations

import ast
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from . import notebooks, protocols
from .calls import LOSS

LEFT_OUT = re.compile(r"^(\.|__pycache__|node_modules|site-packages|build$|dist$|venv|env$|.*\.egg-info$)")
LARGEST = 4 << 20  # bytes of a file that is read


def files(folder: Path) -> list[Path]:
    """The ``.py`` files and notebooks below a folder that define a layer by some row of the table of protocols."""
    found = []
    for place, inside, names in os.walk(folder):
        inside[:] = sorted(d for d in inside if not LEFT_OUT.match(d))
        found += [Path(place, n) for n in sorted(names) if n.endswith((".py", ".ipynb"))]
    return [path for path in found if _has_layers(path)]


def _has_layers(path: Path) -> bool:
    try:
        if path.stat().st_size > LARGEST:
            return False
        text = path.read_text(encoding="utf-8", errors="replace")
        sources = [notebooks.plain(s)[0] for _, s in notebooks.code_cells(json.loads(text))] if (
            path.suffix == ".ipynb") else [text]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return any(_defines(ast.parse(s)) for s in sources)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, AttributeError, RecursionError):
        return path.suffix == ".py" and _says(path)  # whoever runs it says what is wrong with it


def _says(path: Path) -> bool:
    try:
        return bool(re.search(r"^\s*def \w*(backward|backprop)", path.read_text(errors="replace"), re.M))
    except OSError:
        return False


def _defines(tree: ast.Module) -> bool:
    methods = {m.backward or m.forward for m in protocols.rows(protocols.Methods)}
    patterns = [re.compile(f.backward) for f in protocols.rows(protocols.Functions)]
    for node in _top(tree.body):
        if isinstance(node, ast.ClassDef) and any(
                isinstance(n, ast.FunctionDef) and n.name in methods for n in node.body):
            return True
        if isinstance(node, ast.FunctionDef) and (any(p.match(node.name) for p in patterns)
                                                  or LOSS.search(node.name)):
            return True
    return False


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            yield from _top(node.body)
