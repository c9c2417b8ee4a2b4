"""The mistakes that are planted: a table of functions, each from a syntax node to wrong versions of it."""

import ast
import copy
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard, TypeVar

Node = TypeVar("Node", bound=ast.AST)
Wrong = Iterator[ast.AST]  # versions of a node
Operator = Callable[[ast.AST], Wrong]


def _like(node: Node, **fields: Any) -> Node:
    """A copy of a node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _named(node: ast.AST | None, *names: str) -> TypeGuard[ast.Call]:
    """Whether a node is a call of a function or method of one of these names."""
    return isinstance(node, ast.Call) and name_of(node.func) in names


def name_of(node: ast.AST | None) -> str:
    """Of a name or of an attribute, the last part; empty of anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _receiver(node: ast.Call) -> ast.expr | None:
    """What a method is called on, or the first argument of a function of a module such as ``np``."""
    if isinstance(node.func, ast.Attribute) and name_of(node.func.value) not in ("np", "torch", "F"):
        return node.func.value
    return node.args[0] if node.args and not isinstance(node.args[0], ast.Starred) else None


def _number(node: ast.AST | None) -> float | None:
    """The value of a literal number, negative ones included; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    value = node.value if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) else None
    return None if isinstance(value, bool) else value


def _integer(node: ast.AST | None) -> int | None:
    """The same of a whole number."""
    number = _number(node)
    return number if isinstance(number, int) else None


def _swapped(items: list[Node]) -> Iterator[list[Node]]:
    """The list with two neighbours exchanged, for all that differ."""
    for i in range(len(items) - 1):
        if ast.dump(items[i]) != ast.dump(items[i + 1]):
            yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


def stabilisation(node: ast.AST) -> Wrong:
    """The maximum is not subtracted."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and any(
            _named(n, "max", "amax") for n in ast.walk(node.right)):
        yield node.left


ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
              ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}


def arithmetic(node: ast.AST) -> Wrong:
    """Another operation: ``+`` for ``-``, ``*`` for ``/``."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield _like(node, op=ARITHMETIC[type(node.op)]())


COMPARISON = {ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt),
              ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
              ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
              ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)}


def comparison(node: ast.AST) -> Wrong:
    """Another comparison: ``<=`` or ``>`` for ``<``."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISON[type(op)]:
                yield _like(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


def condition(node: ast.AST) -> Wrong:
    """Always, or never; one branch for both; ``and`` for ``or``, and one operand for both."""
    if isinstance(node, ast.If):
        for value in (True, False):
            yield _like(node, test=ast.Constant(value))
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    if _named(node, "where") and len(node.args) == 3:
        yield from node.args[1:]
    if isinstance(node, ast.BoolOp):
        yield _like(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield from node.values
    if isinstance(node, ast.comprehension) and node.ifs:
        yield _like(node, ifs=[])


def axis(node: ast.AST) -> Wrong:
    """Another axis, or all of them; axes not kept."""
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            rest = node.keywords[:i], node.keywords[i + 1 :]
            if keyword.arg in ("axis", "dim", "keepdims", "keepdim"):
                yield _like(node, keywords=[*rest[0], *rest[1]])
            if keyword.arg in ("axis", "dim") and (number := _integer(keyword.value)) is not None:
                other = ast.Constant({0: 1, -1: 0}.get(number, 0))
                yield _like(node, keywords=[*rest[0], _like(keyword, value=other), *rest[1]])


def reverse(node: ast.AST) -> Wrong:
    """A reversal left out."""
    if _named(node, "reversed"):
        yield node.args[0]


def slices(node: ast.AST) -> Wrong:
    """Another index; a bound or a step of a slice left out."""
    if isinstance(node, ast.Subscript):
        for part in _parts(node.slice):
            yield _like(node, slice=part)


def _parts(part: ast.expr) -> Iterator[ast.expr]:
    if isinstance(part, ast.Tuple):
        for i, element in enumerate(part.elts):
            for other in _parts(element):
                yield _like(part, elts=[*part.elts[:i], other, *part.elts[i + 1 :]])
    elif isinstance(part, ast.Slice):
        for bound in ("lower", "upper", "step"):
            if getattr(part, bound):
                yield _like(part, **{bound: None})
    elif (number := _integer(part)) is not None:
        yield ast.Constant({0: -1, -1: 0}.get(number, 0))


def transpose(node: ast.AST) -> Wrong:
    """A transposition left out."""
    if isinstance(node, ast.Attribute) and node.attr in ("T", "mT") and isinstance(node.ctx, ast.Load):
        yield node.value
    if _named(node, "transpose") and (receiver := _receiver(node)):
        yield receiver


def copies(node: ast.AST) -> Wrong:
    """A copy, or a detachment, left out."""
    if _named(node, "copy", "clone", "detach") and not node.args and (receiver := _receiver(node)):
        yield receiver


def constant(node: ast.AST) -> Wrong:
    """Another number: one more, one less; a fraction doubled or left out; true for false."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        elif isinstance(node.value, float):
            yield from (ast.Constant(2 * node.value), ast.Constant(0.0))


def negation(node: ast.AST) -> Wrong:
    """A sign or a negation left out."""
    if isinstance(node, ast.UnaryOp) and not isinstance(_number(node), (int, float)):
        yield node.operand


def term(node: ast.AST) -> Wrong:
    """A term, or a factor, left out."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult, ast.Sub, ast.Div, ast.Pow)):
        yield node.left
        if isinstance(node.op, (ast.Add, ast.Mult)):
            yield node.right


UNWRAPPED = ("tanh", "exp", "log", "sqrt", "sigmoid", "like", "long", "byte", "clamp", "masked_fill", "nan_to_num",
             "abs", "max", "to", "bind", "expand", "repeat")


def call(node: ast.AST) -> Wrong:
    """A function left out."""
    if _named(node, *UNWRAPPED) and (receiver := _receiver(node)):
        yield receiver


RENAMED = {"zeros": "ones", "zeros_like": "ones_like", "new_zeros": "new_ones", "argmax": "argmin", "max": "min",
           "any": "all", "all": "any", "tanh": "sin", "sum": "mean", "ones": "zeros", "stack": "concatenate"}


def function(node: ast.AST) -> Wrong:
    """Another function: ones for zeros, the smallest for the largest."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RENAMED:
        yield _like(node, func=_like(node.func, attr=RENAMED[node.func.attr]))


# keyword arguments that change no result: guards against our own mistakes, memory, and what a help text says
SILENT = {"strict", "copy", "order", "metavar", "help"}


def arguments(node: ast.AST) -> Wrong:
    """Two arguments exchanged; a keyword argument left out."""
    if isinstance(node, ast.Call):
        if not any(isinstance(arg, ast.Starred) or name_of(arg) == "where" for arg in node.args):  # a message's words
            for args in _swapped(node.args):
                yield _like(node, args=args)
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in SILENT:
                yield _like(node, keywords=[k for k in node.keywords if k is not keyword])


def returns(node: ast.AST) -> Wrong:
    """Two results exchanged."""
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        for elements in _swapped(node.value.elts):
            yield _like(node, value=_like(node.value, elts=elements))


def order(node: ast.AST) -> Wrong:
    """Two neighbours exchanged in a tuple, a list or a table: gates, parts of a concatenation, results unpacked."""
    if isinstance(node, (ast.Tuple, ast.List)):
        for elements in _swapped(node.elts):
            yield _like(node, elts=elements)
    if isinstance(node, ast.Dict) and all(node.keys):
        for values in _swapped(node.values):
            yield _like(node, values=values)


def accumulation(node: ast.AST) -> Wrong:
    """``=`` for ``+=``, and ``+=`` for ``=`` into an array."""
    if isinstance(node, ast.AugAssign):
        yield ast.Assign(targets=[node.target], value=node.value)
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
        yield ast.AugAssign(target=node.targets[0], op=ast.Add(), value=node.value)


STATE = ("set_state", "reset_state", "setattr")


def state(node: ast.AST) -> Wrong:
    """A state that is not set, or not reset."""
    if isinstance(node, ast.Expr) and _named(node.value, *STATE):
        yield ast.Pass()


def store(node: ast.AST) -> Wrong:
    """A store into an array or an attribute left out."""
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, (ast.Subscript, ast.Attribute)):
            yield ast.Pass()


def attribute(node: ast.AST) -> Wrong:
    """A table, a method or another attribute of a class left out, so that its base's holds."""
    table = isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value
    method = isinstance(node, ast.FunctionDef) and not all(isinstance(s, (ast.Expr, ast.Raise)) for s in node.body)
    if getattr(node, "of_class", False) and (table or method):
        yield ast.Pass()


def statement(node: ast.AST) -> Wrong:
    """A call or a step of a computation left out."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        yield ast.Pass()
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and any(
            isinstance(n, ast.Name) and n.id == node.targets[0].id for n in ast.walk(node.value)):
        yield ast.Pass()


FLOATING = ("matmul", "bmm", "addmm", "linear", "tanh", "exp", "log", "sqrt", "sigmoid", "softmax", "log_softmax",
            "sum", "softmax_backward", "cross_entropy_backward", "cross_entropy", "step", "step_backward",
            "_foreach_mul", "_foreach_sqrt", "_foreach_sub", "like", "stack", "cat", "concatenate")
NARROW = "_narrow"  # the name under which mutated modules find ``narrow``


def cast(node: ast.AST) -> Wrong:
    """A result that goes through float32."""
    if isinstance(node, (ast.Assign, ast.Return)) and node.value and any(
            _named(n, *FLOATING) for n in ast.walk(node.value)):
        yield _like(node, value=ast.Call(ast.Name(NARROW, ast.Load()), [node.value], []))


def narrow(x: Any) -> Any:
    """Floating arrays and tensors rounded to float32, in their own dtype; anything else as it is."""
    if isinstance(x, (tuple, list)):
        return type(x)(narrow(y) for y in x)
    kind = f"{getattr(x, 'dtype', '')}".removeprefix("torch.")
    if kind not in ("float64", "longdouble", "float128"):
        return x
    if hasattr(x, "astype"):
        return x.astype("float32").astype(x.dtype)
    return x.float().to(x.dtype)


def _changed(condition: Callable[[Any, str], bool], size: float = 0.01) -> Callable[[Any], Any]:
    """A function of a value that scales what meets a condition, in its own dtype; nested values too."""
    def change(x: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return type(x)(change(y) for y in x)
        kind = f"{getattr(x, 'dtype', '')}".removeprefix("torch.")
        return x * (1 + size) if kind.startswith(("float", "longdouble")) and condition(x, kind) else x

    return change


def _contiguous(x: Any) -> bool:
    return bool(x.flags.c_contiguous if hasattr(x, "flags") else x.is_contiguous())


def _laid(x: Any) -> Any:
    """Wrong where one of the arrays that the code around has is not contiguous."""
    around = [a for a in sys._getframe(1).f_locals.values() if hasattr(a, "shape") and hasattr(a, "dtype")]
    return x if all(map(_contiguous, around)) else _changed(lambda y, kind: True)(x)


def _recorded(x: Any) -> bool:
    import torch

    return not isinstance(x, torch.Tensor) or torch.is_grad_enabled()


def _from_call(number: int) -> Callable[[Any], Any]:
    """A function of a value that is wrong from the so manieth call on of the object whose method asks for it."""
    calls: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def change(x: Any) -> Any:
        owner = _owner()
        calls[owner] = calls.get(owner, 0) + 1
        return _changed(lambda y, kind: calls[owner] >= number)(x)

    return change


def _owner() -> Any:
    """The object whose method asks a helper for a value; of a function, its code."""
    frame = sys._getframe(2)  # that of the method, which called the helper, which called this
    return frame.f_locals.get("self", frame.f_code)


def _evaluated(x: Any) -> Any:
    return x if getattr(_owner(), "training", True) else _changed(lambda y, kind: True)(x)


# what a mutated module finds under a name: made anew for each
HELPERS = {
    NARROW: lambda: narrow,
    "_large": lambda: _changed(lambda x, kind: max(x.shape, default=0) > 64),
    "_laid": lambda: _laid,
    "_unrecorded": lambda: _changed(lambda x, kind: not _recorded(x)),
    "_later": lambda: _from_call(3),
    "_tenth": lambda: _from_call(10),
    "_evaluated": lambda: _evaluated,
    "_part_in_10000": lambda: _changed(lambda x, kind: kind == "float32", 1e-4),
    "_part_in_a_million": lambda: _changed(lambda x, kind: kind == "float32", 1e-6),
}


def _wrapped(helper: str) -> Operator:
    """An operator: a computed result that goes through a helper."""
    def operator(node: ast.AST) -> Wrong:
        if isinstance(node, (ast.Assign, ast.Return)) and node.value and any(
                _named(n, *FLOATING) for n in ast.walk(node.value)):
            yield _like(node, value=ast.Call(ast.Name(helper, ast.Load()), [node.value], []))

    return operator


TORCH = ("without recording", "in evaluation")  # which NumPy knows nothing of
# faults that begin somewhere: ``parity mutate --hidden`` makes them too
HIDDEN = {
    "from a size on": _wrapped("_large"),
    "from the third call on": _wrapped("_later"),
    "from the tenth call on": _wrapped("_tenth"),
    "in evaluation": _wrapped("_evaluated"),
    "without recording": _wrapped("_unrecorded"),
    "in one layout": _wrapped("_laid"),
    "a part in 10,000 in float32": _wrapped("_part_in_10000"),
    "a part in a million in float32": _wrapped("_part_in_a_million"),
}

# the first that makes a mutant names it
OPERATORS = {
    "stabilisation removed": stabilisation,
    "reversal removed": reverse,
    "state not set": state,
    "store dropped": store,
    "statement dropped": statement,
    "attribute dropped": attribute,
    "= for +=": accumulation,
    "copy removed": copies,
    "transpose removed": transpose,
    "axis": axis,
    "index or slice": slices,
    "arithmetic": arithmetic,
    "comparison": comparison,
    "condition": condition,
    "negation removed": negation,
    "term dropped": term,
    "results swapped": returns,
    "arguments": arguments,
    "order": order,
    "call removed": call,
    "other function": function,
    "constant": constant,
    "cast to float32": cast,
}
