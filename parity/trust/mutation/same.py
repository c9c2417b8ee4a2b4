"""Statements that are one function by rule, in whatever code they stand: no mutants are made of one into another.

A length that NumPy has to find, ``reshape(-1, n)``, may be any negative number; two axes are exchanged in either
order, the larger of two numbers is found in either; a size may be read off any axis of any parameter that has it.
"""

import ast
from collections.abc import Sequence

from .operators import name_of

Sizes = Sequence[Sequence[str]]  # of a class's table of sizes: the axis letters of each parameter
EXCHANGES = ("swapaxes", "swapdims", "transpose")
SYMMETRIC = ("array_equal", "maximum", "minimum", "promote_types", "max", "min")


def same(before: str, after: str, numpy: bool, sizes: Sizes | None = None) -> bool:
    """Whether two statements are one by rule.

    Args:
        before, after: their texts.
        numpy: whether they are NumPy's code.
        sizes: of a class's table ``sizes``, the axis letters of each parameter; None where it has none.
    """
    return _rewritten(before, numpy, sizes) == _rewritten(after, numpy, sizes)


def _rewritten(text: str, numpy: bool, sizes: Sizes | None) -> str:
    for whole in (text, f"{text}:\n    pass"):
        try:
            return ast.dump(_Rules(numpy, sizes).visit(ast.parse(whole)))
        except SyntaxError:
            continue
    return text


class _Rules(ast.NodeTransformer):
    """One spelling for each of those that mean the same."""

    def __init__(self, numpy: bool, sizes: Sizes | None) -> None:
        self.numpy, self.sizes = numpy, sizes

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        method = isinstance(node.func, ast.Attribute)
        name = name_of(node.func)
        numbers = [_number(arg) for arg in node.args]
        if name == "reshape" and self.numpy:
            node.args = [ast.Constant(-1) if number is not None and number < 0 else arg
                         for arg, number in zip(node.args, numbers, strict=True)]
        permutation = name == "transpose" and (len(numbers) == 3 or set(numbers) == {0, 1})  # may be NumPy's
        if name in EXCHANGES and len(numbers) in (2, 3) and None not in numbers[-2:] and not permutation:
            node.args = [*node.args[:-2], *sorted(node.args[-2:], key=ast.dump)]
        if name in SYMMETRIC and len(node.args) == 2 and not (method and name in ("max", "min")):
            node.args = sorted(node.args, key=ast.dump)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if not self.sizes or not isinstance(node.targets[0], ast.Name) or node.targets[0].id != "sizes":
            return self.generic_visit(node)
        try:
            read = tuple(self.sizes[parameter][axis] for parameter, axis in ast.literal_eval(node.value))
        except (ValueError, TypeError, IndexError):
            return node
        return ast.Assign(node.targets, ast.Constant(str(read)))


def _number(node: ast.AST) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int) else None
