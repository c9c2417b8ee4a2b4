"""Faults that begin somewhere, in code beside the layers: data, weights, training, what answers with a trained model.

Such code computes few floating numbers: it orders, counts, reads and writes. So another set of faults is planted there
than in ``operators.HIDDEN``: each is a wrapper around whatever a statement assigns or returns, that changes it from a
size or a call on, in one dtype or layout. A wrapper says whether it ever saw a value that it could have changed.
"""

import ast
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .operators import Operator, narrow

SIZE = 1000  # entries from which on a large value is another
CALL = 3


class Fault:
    """A wrapper of values.

    Args:
        applies: function of a value: whether it is of the kind that the fault changes.
        begins: function of a value and of how often its owner asked: whether the fault has begun.
        change: function of a value that gives a wrong one.

    Attributes:
        met: whether it ever saw a value of that kind.
    """

    def __init__(self, applies: Callable[[Any], bool], begins: Callable[[Any, int], bool],
                 change: Callable[[Any], Any]) -> None:
        self.applies, self.begins, self.change = applies, begins, change
        self.met = False
        self.calls: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __call__(self, x: Any) -> Any:
        if not self.applies(x):
            return x
        self.met = True
        frame = sys._getframe(1)
        owner = frame.f_locals.get("self", frame.f_code)
        try:
            self.calls[owner] = self.calls.get(owner, 0) + 1
        except TypeError:  # one of slots, or that cannot be hashed
            owner = frame.f_code
            self.calls[owner] = self.calls.get(owner, 0) + 1
        return self.change(x) if self.begins(x, self.calls[owner]) else x


def _dtype(x: Any) -> str:
    return f"{getattr(x, 'dtype', '')}".removeprefix("torch.")


def _array(x: Any) -> bool:
    return hasattr(x, "dtype") and hasattr(x, "shape")


def _ordered(x: Any) -> bool:
    """Whether a value has an order: text, bytes, lists, tables, arrays with an axis."""
    return type(x) in (str, bytes, list, tuple, dict) or (_array(x) and len(x.shape) > 0)


def _turned(x: Any) -> Any:
    if type(x) is dict:
        return dict(reversed(x.items()))
    return x.flip(0) if hasattr(x, "flip") else x[::-1]


def _number(x: Any) -> bool:
    return (isinstance(x, (int, float)) and not isinstance(x, bool)) or _dtype(x).startswith("float")


def _off(x: Any) -> Any:
    return x + 1 if isinstance(x, int) else x * 1.01


def _around() -> list[Any]:
    """The arrays of several axes that the code has which asks a fault for a value."""
    return [a for a in sys._getframe(3).f_locals.values() if _array(a) and len(a.shape) > 1]


def _apart(array: Any) -> bool:
    """Whether an array lies otherwise in memory than in C order."""
    return not (array.flags.c_contiguous if hasattr(array, "flags") else array.is_contiguous())


FAULTS: dict[str, tuple[str, Callable[[], Fault]]] = {
    "another order from a thousand on": ("_disordered", lambda: Fault(
        _ordered, lambda x, call: len(x) > SIZE, _turned)),
    "another order from the third call on": ("_disordered_later", lambda: Fault(
        _ordered, lambda x, call: call >= CALL, _turned)),
    "another number from the third call on": ("_off_later", lambda: Fault(
        _number, lambda x, call: call >= CALL, _off)),
    "rounded to float32": ("_rounded", lambda: Fault(
        lambda x: _array(x) and _dtype(x) == "float64", lambda x, call: True, narrow)),
    "off by a part in a million in float32": ("_near", lambda: Fault(
        lambda x: _array(x) and _dtype(x) == "float32", lambda x, call: True, lambda x: x * x.dtype.type(1 + 1e-6)
        if hasattr(x.dtype, "type") else x * (1 + 1e-6))),
    "another order in one layout": ("_disordered_apart", lambda: Fault(
        lambda x: _ordered(x) and bool(_around()), lambda x, call: any(map(_apart, _around())), _turned)),
}
HELPERS = dict(FAULTS.values())


def _wrapping(helper: str) -> Operator:
    """An operator: what a statement computes goes through a helper."""
    def operator(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, (ast.Assign, ast.Return)) and isinstance(node.value, COMPUTED):
            yield type(node)(**{**dict(ast.iter_fields(node)),
                                "value": ast.Call(ast.Name(helper, ast.Load()), [node.value], [])})

    return operator


COMPUTED = (ast.Call, ast.BinOp, ast.Subscript, ast.ListComp, ast.DictComp, ast.IfExp)
OPERATORS = {name: _wrapping(helper) for name, (helper, _) in FAULTS.items()}


def idle(module: Any, operator: str) -> bool:
    """Whether the fault that a module has had planted never saw a value that it could have changed."""
    return operator in FAULTS and not getattr(module, FAULTS[operator][0]).met


def known(modules: Sequence[str], side: str) -> tuple[str, ...]:
    """Those of some modules that belong to a side's package."""
    package = {"reference": "reference.", "port": "torch_port."}[side]
    return tuple(name for name in modules if name.startswith(package))
