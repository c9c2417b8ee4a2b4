"""Finding the places for mutants in the layers' sources, and importing a package with one of them in it."""

import ast
import contextlib
import fnmatch
import functools
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

from ...catalogue import CATALOGUE
from ...spec.axes import axes
from . import beside
from .operators import HELPERS, HIDDEN, OPERATORS, SILENT, TORCH, Operator
from .same import same

Key = tuple[str, str, str, str]  # what a mutant is known by: place, operator, statement before and after
Slot = tuple[ast.AST, str, int | None]  # parent, field, index
Change = tuple[tuple[str, ...], ast.stmt, str, str, str, Slot, ast.AST]  # see ``changes``
REFERENCE, PORT = SIDES = ("reference", "port")

# functions that no mutants are made in, by module and dotted name, and why; ``*`` where the name itself,
# Python's or torch's, says what a method is for
EXCLUDED = {
    "*.__init__": "initialisation",
    "*.reset_parameters": "initialisation",
    "*.extra_repr": "message",
    "torch_port._twin:textbook_init_": "initialisation",
    "reference._layer:normal": "initialisation",
    "reference.seq2seq:embedding_and_lstm": "initialisation",
    "reference.seq2seq:output_affine": "initialisation",
    "reference.seq2seq:model_sizes": "initialisation",
    "torch_port._recurrent:TimeCell.__getstate__": "pickling",
    "torch_port._recurrent:scanned": "what torch.export traces, which takes too long for every mutant; tests hold it",
    "torch_port._recurrent:TimeCell._apply": "moving between devices, which this machine may not have",
}
# modules that none are made in, and why
LEFT_OUT = {"_checks": "which arguments are refused, in which words; a call of it that is left out is a mutant"}
NEVER = {"annotation", "returns", "ctx"}  # fields of nodes that are no code
UNSEEN = NEVER | {"decorator_list", "bases", "keywords"}  # and of definitions


@dataclass(frozen=True)
class Source:
    """One module of a package.

    Attributes:
        name: ``reference.lstm``.
        path: of its file.
        tree: its syntax tree, into which one mutant at a time is set.
        needs: names of the modules of the same package that it imports.
    """

    name: str
    path: str
    tree: ast.Module = field(repr=False)
    needs: tuple[str, ...]

    @functools.cached_property
    def code(self) -> CodeType:
        return compile(self.tree, self.path, "exec")


@dataclass(frozen=True)
class Mutant:
    """One mistake in one place.

    Attributes:
        side: ``reference`` or ``port``.
        source: the module.
        function: dotted name of the function or class around the place.
        operator: name of the kind of mistake.
        before, after: the statement, right and wrong.
        lines: first and last line of what has to run for it to matter; None where importing runs it.
    """

    side: str
    source: Source = field(repr=False)
    function: str
    operator: str
    before: str
    after: str
    lines: tuple[int, int] | None
    slot: Slot = field(repr=False)
    node: ast.AST = field(repr=False)
    every: dict[str, Source] = field(repr=False, compare=False)

    @property
    def key(self) -> Key:
        """What a mutant is known by, whatever its line."""
        return f"{self.source.name}:{self.function}", self.operator, self.before, self.after

    @property
    def layer(self) -> str:
        """The layer of the catalogue whose own code this is, or the module that layers share."""
        top = self.function.split(".")[0]
        return top if top in CATALOGUE else self.source.name.rpartition(".")[2]

    @property
    def diff(self) -> str:
        return f"{self.source.name}: {self.function or 'module'} ({self.operator})\n- {self.before}\n+ {self.after}"

    def compile(self) -> CodeType:
        """The module's code with the mistake in it."""
        with _set(self.slot, self.node):
            return compile(self.source.tree, self.source.path, "exec")


@contextlib.contextmanager
def _set(slot: Slot, node: ast.AST) -> Iterator[None]:
    """Within it, the node stands in the slot: (parent, field, index or None)."""
    parent, name, index = slot
    target = getattr(parent, name)
    before = target if index is None else target[index]
    if index is None:
        setattr(parent, name, node)
    else:
        target[index] = node
    try:
        yield
    finally:
        if index is None:
            setattr(parent, name, before)
        else:
            target[index] = before


@functools.cache
def sources(side: str, others: tuple[str, ...] = ()) -> dict[str, Source]:
    """The modules of one side's layers, and others, by name, each after those of its package that it imports."""
    if side == REFERENCE:
        wanted = {spec.reference.__module__ for spec in CATALOGUE.values()}
    else:
        wanted = {spec.port_class.__module__ for spec in CATALOGUE.values()}
    found: dict[str, Source] = {}

    def visit(name: str) -> None:
        if name in found:
            return
        path = _file(name)
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        needs = tuple(needed for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level
                      for needed in _imported(name, node))
        for needed in needs:
            visit(needed)
        found[name] = Source(name, path, tree, needs)

    for name in sorted({*wanted, *others}):
        visit(name)
    return found


def _imported(name: str, node: ast.ImportFrom) -> Iterator[str]:
    """The modules that a relative import in a module of some name is about."""
    package = ".".join(name.split(".")[: -node.level])
    if node.module:
        yield f"{package}.{node.module}"
    else:
        yield from (f"{package}.{alias.name}" for alias in node.names)


def mutants(side: str, hidden: bool = False, others: Sequence[str] = ()) -> list[Mutant]:
    """All mutants of one side, in the order of the sources; none of two with the same text in one place.

    None that is the same function by a rule of ``same``.

    Args:
        side: ``reference`` or ``port``.
        hidden: whether those too that are wrong from a size or a call on, in one mode or layout, or by very little.
        others: modules that no layer is made of, of which mutants are made too.
    """
    unique: dict[tuple[object, ...], Mutant] = {}
    others = beside.known(others, side)
    every = sources(side, others)
    layered = sources(side)
    for source in every.values():
        if source.name.rpartition(".")[2] in LEFT_OUT or (source.name not in layered and source.name not in others):
            continue
        families = HIDDEN if source.name in layered else beside.OPERATORS
        for function, statement, operator, before, after, slot, node in changes(
                source.tree, source.name, OPERATORS | (families if hidden else {})):
            spec = CATALOGUE.get(function[-1]) if function else None
            sizes = [axes(text)[1] for text in spec.params.values()] if spec is not None else []
            if same(before, after, side == REFERENCE, sizes) or (side == REFERENCE and operator in TORCH):
                continue
            mutant = Mutant(side, source, ".".join(function), operator, before, after,
                            _lines(statement, function, source.tree), slot, node, every)
            unique.setdefault((source.name, mutant.lines or before, function, after), mutant)
    return list(unique.values())


def changes(tree: ast.Module, module: str = "",
            operators: Mapping[str, Operator] = OPERATORS) -> Iterator[Change]:
    """Every wrong version of every statement: (function, statement, operator, before, after, slot, wrong node)."""
    for function, statement, slot, node in _places(tree, module, (), None):
        before = _text(statement)
        for operator, replacements in operators.items():
            for wrong in replacements(node):
                ast.fix_missing_locations(ast.copy_location(wrong, node))
                with _set(slot, wrong):
                    after = _text(wrong if node is statement and isinstance(wrong, ast.stmt) else statement)
                if after != before:
                    yield function, statement, operator, before, after, slot, wrong


DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def _places(node: ast.AST, module: str, function: tuple[str, ...],
            statement: ast.stmt | None) -> Iterator[tuple[tuple[str, ...], ast.stmt, Slot, ast.AST]]:
    """Every node that may be changed: (function around it, its statement, its slot, the node)."""
    for name, value in ast.iter_fields(node):
        if name in (UNSEEN if isinstance(node, DEFINITIONS) else NEVER):
            continue
        if name == "body" and isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
            continue  # what it says is a message
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            within = (*function, child.name) if isinstance(child, DEFINITIONS) else function
            if not isinstance(child, ast.AST) or _skipped(child, f"{module}:{'.'.join(within)}"):
                continue
            inner = child if isinstance(child, ast.stmt) else statement
            of_class = isinstance(node, ast.ClassDef) and name == "body"
            child.of_class = of_class  # type: ignore[attr-defined]  # a mark for ``operators.attribute``
            if inner is not None and (not isinstance(child, DEFINITIONS) or of_class):
                yield function, inner, (node, name, index), child
            yield from _places(child, module, within, inner)


def excluded(function: str) -> str | None:
    """The entry by which no mutants are made in a function, ``module:dotted.name``; None where they are."""
    return next((pattern for pattern in EXCLUDED if fnmatch.fnmatchcase(function, pattern)), None)


def _skipped(node: ast.AST, function: str) -> bool:
    if isinstance(node, ast.FunctionDef):
        overloads = any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
        return overloads or excluded(function) is not None
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.keyword):
        return node.arg in SILENT
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    return isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom))


def _text(statement: ast.stmt) -> str:
    """A statement's source in one line; of a compound one, its head."""
    if hasattr(statement, "body"):
        changed = {"body": [ast.Pass()]}
        if getattr(statement, "orelse", None):
            changed["orelse"] = []
        if getattr(statement, "decorator_list", None):
            changed["decorator_list"] = []
        head = type(statement)(**{**dict(ast.iter_fields(statement)), **changed})
        return ast.unparse(ast.copy_location(head, statement)).partition(":\n    pass")[0]
    return ast.unparse(statement)


def _lines(statement: ast.stmt, function: tuple[str, ...], tree: ast.Module) -> tuple[int, int] | None:
    """Lines of which one has to run; None for what importing runs."""
    if isinstance(statement, ast.FunctionDef):
        return statement.body[0].lineno, _end(statement)
    if not any(isinstance(n, ast.FunctionDef) and n.lineno <= statement.lineno <= _end(n) for n in ast.walk(tree)):
        return None
    last = statement.body[0].lineno - 1 if hasattr(statement, "body") else _end(statement)
    return statement.lineno, max(last, statement.lineno)


def _end(statement: ast.stmt) -> int:
    """The last line of a statement that was read from a file."""
    return statement.end_lineno or statement.lineno


class StillbornError(Exception):
    """A mutant that does not compile or cannot be imported: it is none."""


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Within it, the mutant's package is imported with the mistake in it, under its own name.

    Raises:
        StillbornError: compiling or importing it fails.
    """
    every = mutant.every
    top = mutant.source.name.partition(".")[0]
    # a package that loads its names when they are asked for has them in ``_all``
    packages = {name.rpartition(".")[0] for name in every}
    around = [name for name in (f"{top}._all", *sorted(packages)) if name in sys.modules]
    saved = {name: sys.modules[name] for name in (*every, *around)}
    try:
        try:
            code = mutant.compile()
            changed = {mutant.source.name}
            for name, source in every.items():
                if name in changed or changed.intersection(source.needs):
                    changed.add(name)
                    _execute(name, saved[name], code if name == mutant.source.name else source.code)
            for name in around:
                _execute(name, saved[name], _code(name))
            for name in every:  # a package has its modules as attributes, too
                setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], sys.modules[name])
        except Exception as error:
            raise StillbornError(f"{type(error).__name__}: {error}") from error
        yield
    finally:
        sys.modules.update(saved)


def _execute(name: str, original: ModuleType, code: CodeType) -> None:
    module = ModuleType(name)
    for attribute in ("__file__", "__package__", "__path__"):
        if hasattr(original, attribute):
            setattr(module, attribute, getattr(original, attribute))
    for helper, make in (HELPERS | beside.HELPERS).items():
        setattr(module, helper, make())
    sys.modules[name] = module
    exec(code, module.__dict__)


def _file(module: str) -> str:
    """Where a module that was imported came from."""
    path = importlib.import_module(module).__file__
    assert path is not None, f"{module} has no file"
    return path


@functools.cache
def _code(module: str) -> CodeType:
    path = _file(module)
    return compile(Path(path).read_text(encoding="utf-8"), path, "exec")
