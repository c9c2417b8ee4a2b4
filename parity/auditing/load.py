"""Loading somebody's file or notebook, in the child process, and auditing the classes that it defines."""

import ast
import contextlib
import importlib
import importlib.util
import json
import linecache
import os
import sys
import types
from pathlib import Path
from typing import Any, NoReturn

from ..ours import NAMES
from . import fit, notebooks
from .recognise import Functions, Planned
from .sandbox import CAN_FORK, limit, quiet_down, relayed, steady_randomness
from .wire import Channel, Link


def child(arguments: dict[str, Any], reading: int, writing: int) -> NoReturn:
    """What the new interpreter does: load, then one process a class."""
    link = Link(reading, writing)
    quiet_down(1)
    limit(arguments["memory"])
    steady_randomness()
    from .. import catalogue  # noqa: F401 (all before somebody's files can stand in the way of an import)
    from . import examine  # noqa: F401

    for name in [n for n in sys.modules if n.partition(".")[0] in NAMES]:
        del sys.modules[name]  # the file may have modules of these names of its own
    if arguments["root"]:
        sys.path.append(arguments["root"])
    if arguments["setup"]:
        text = Path(arguments["setup"]).read_text(encoding="utf-8")
        exec(compile(text, arguments["setup"], "exec"), {"__name__": "setup", "__file__": arguments["setup"]})
    module, remarks = load(Path(arguments["path"]))
    for text in remarks:
        link.send("remark", text)
    classes = planned(module, arguments["tasks"]) if arguments["tasks"] else own_layers(module)
    wanted = arguments["names"]
    missing = [name for name in wanted if name not in classes]
    if missing:
        link.send("missing", missing, sorted(classes))
    for name, kind in classes.items():
        if not wanted or name in wanted:
            link.send("class", name)
            audit_one(kind, arguments, link)
    link.send("end")
    os._exit(0)  # nothing that the code left behind, a thread or an exit function, has anything to say


def audit_one(kind: Any, arguments: dict[str, Any], link: Link) -> None:
    """One class in a process of its own, where the machine can fork."""
    from . import twin_of
    from .examine import examine

    spec = None if isinstance(kind, (Functions, Planned)) else twin_of(kind.__name__, arguments["like"])

    def job(inner: Channel) -> None:
        examine(kind, spec, bool(arguments["like"]), arguments["seed"], None, inner)

    if CAN_FORK:
        how = relayed(job, arguments["seconds"], arguments["memory"], link)
    else:
        how = ""
        job(link)
    if how:
        link.send("died", how)


def planned(module: types.ModuleType, tasks: list[dict[str, Any]]) -> dict[str, Planned]:
    """What a module has of the tasks of an assignment, by name."""
    found = {}
    for task in tasks:
        names = [task["name"], *([task["backward"]] if task["backward"] else [])]
        things = tuple(getattr(module, name, None) for name in names)
        if all(callable(thing) for thing in things):
            found[task["name"]] = Planned(task, things)
    return found


def own_layers(module: types.ModuleType) -> dict[str, Any]:
    """What a module defines itself and can be audited, by name: classes, then pairs of functions."""
    found = fit.classes(module)
    return found | {name: Functions(name, *pair) for name, pair in fit.functions(module).items() if name not in found}


def load(path: Path) -> tuple[types.ModuleType, list[str]]:
    """Runs a file or a notebook as a module of its own; gives it and remarks on what failed."""
    cells: list[tuple[int | None, str]] = [(None, path.read_text(encoding="utf-8"))]
    remarks: list[str] = []
    if path.suffix == ".ipynb":
        cells, remarks = notebook(path)
    module = _module(path, any(_relative(source) for _, source in cells))
    for number, source in cells:
        name = str(path) if number is None else f"{path}, cell {number}"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        where = path.name if number is None else f"cell {number} of {path.name}"
        try:
            exec(compile(source, name, "exec"), module.__dict__)
        except SystemExit:
            remarks.append(f"{where} called exit()")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            remarks.append(f"{where} failed: {type(error).__name__}: {error}")
    return module, remarks


def notebook(path: Path) -> tuple[list[tuple[int | None, str]], list[str]]:
    """The code cells of a notebook, numbered from 1 among all cells, and remarks on what is skipped.

    Raises:
        ValueError: not a notebook.
    """
    found: list[tuple[int | None, str]] = []
    remarks: list[str] = []
    try:
        for number, source in notebooks.code_cells(json.loads(path.read_text(encoding="utf-8"))):
            source, left = notebooks.plain(source)
            for line in left:
                skipped = "line skipped" if source else "skipped"
                remarks.append(f"cell {number}{', ' * bool(source)}{' ' * (not source)}{skipped}: {line}")
            found += [(number, source + "\n")] if source else []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a notebook: {error}") from error
    return found, remarks


def _relative(source: str) -> bool:
    with contextlib.suppress(SyntaxError):
        return any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(ast.parse(source)))
    return False


def _module(path: Path, relative: bool) -> types.ModuleType:
    """An empty module for a file: a member of its package where it has one, or imports as if it had."""
    parents: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").exists() or (relative and not parents):
        parents.insert(0, folder.name)
        folder = folder.parent
    sys.path.insert(0, str(folder))
    if parents and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # as beside the file, after the package's own place
    name = ".".join([*parents, path.stem])
    if not parents and (name in sys.modules or not name.isidentifier()):
        name = f"audited_{''.join(c if c.isalnum() else '_' for c in path.stem)}"
    if parents:
        with contextlib.suppress(Exception):  # a package that fails to import is not the file's fault
            importlib.import_module(".".join(parents))
        already = sys.modules.get(name)
        if already is not None and getattr(already, "__file__", None) == str(path):
            del sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    module.__package__ = ".".join(parents)
    sys.modules[name] = module
    return module
