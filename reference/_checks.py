"""Shape, dtype and index checks, written as axis strings.

An axis string names one axis a letter: ``"N T H"``. A number multiplies (``"4H"``), a leading ``...``
stands for any number of axes, a first word in lower case asks for a kind of dtype other than floating:
``"int N T"``, ``"bool N T"``; ``""`` is a scalar. Letters mean the same size everywhere in one call.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._types import Array

KINDS = {"float": ("a float", "fc"), "int": ("an integer", "iu"), "bool": ("a bool", "b")}
MAY_BE_EMPTY = {"N"}  # the batch; an average or a maximum over any other axis needs one entry


class CotangentError(ValueError, RuntimeError):
    """A cotangent of the wrong shape: a wrong value here, and what autograd calls a RuntimeError."""


def parse(axes: str) -> tuple[str, bool, list[tuple[int, str]]]:
    """Takes an axis string apart.

    Args:
        axes: the string.

    Returns:
        Kind of dtype (``float``, ``int`` or ``bool``), whether any number of axes stands before, and a
        list of (factor, letter) of each axis.

    Raises:
        ValueError: the string is not an axis string.
    """
    words = axes.split()
    kind, words = (words[0], words[1:]) if words and words[0] in KINDS else ("float", words)
    rest = words[:1] == ["..."]
    parts = []
    for word in words[rest:]:
        number, letter = word[:-1], word[-1]
        if not word.isascii() or not letter.isalpha() or (number and (not number.isdecimal() or number[0] == "0")):
            raise ValueError(f"axis string {axes!r}: expected a kind ({', '.join(KINDS)}) or none, '...' or not, then "
                             "one letter an axis, each with a number before it or without")
        parts.append((int(number or 1), letter))
    return kind, rest, parts


def check(where: str, **arguments: tuple[Array, str]) -> dict[str, int]:
    """Holds each ``name=(array, axes)`` against its axis string and against the others.

    Args:
        where: the call on whose behalf this speaks, ``"WeightSum.forward"``.
        arguments: ``name=(array, axis string)``, checked in order.

    Returns:
        dict: the size of each axis letter.

    Raises:
        TypeError: not an array, or a dtype of another kind.
        ValueError: the wrong number of axes, sizes that do not fit, an empty axis; a malformed axis string.
    """
    sizes: dict[str, int] = {}
    source: dict[str, str] = {}
    for name, (array, axes) in arguments.items():
        kind, rest, parts = parse(axes)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{where}: {name} is a {type(array).__name__}, expected a numpy.ndarray")
        article, kinds = KINDS[kind]
        if array.dtype.kind not in kinds:
            raise TypeError(f"{where}: {name} has dtype {array.dtype}, expected {article} dtype")
        shape = array.shape
        inner = shape[max(len(shape) - len(parts), 0) :] if rest else shape
        got = [sizes[letter] * factor if letter in sizes else None for factor, letter in parts]
        if len(inner) != len(got) or any(g != s if g is not None else s % f
                                         for g, s, (f, _) in zip(got, inner, parts, strict=True)):
            raise ValueError(f"{where}: {name} has shape {shape}, {_expected(rest, parts, got, source)}")
        for (factor, letter), size in zip(parts, inner, strict=True):
            if size == 0 and letter not in MAY_BE_EMPTY:
                raise ValueError(f"{where}: {name} has shape {shape}, axis {letter} may not be empty")
            if letter not in sizes:
                sizes[letter] = size // factor
                source[letter] = f"{name} {shape}"
    return sizes


def check_masked(where: str, mask: Array | None, lengths: Array | None, **arguments: tuple[Array, str]) -> Array | None:
    """``check``, and which positions are valid, said by a mask or by lengths.

    Args:
        where, arguments: as for ``check``, N and T among the axes.
        mask: boolean ``(N, T)``, true at valid positions; None where it is not given.
        lengths: integer ``(N,)``, 0 <= length <= T: so many from the first are valid; None where it is not given.

    Returns:
        The mask; None for all.

    Raises:
        TypeError, ValueError: as ``check``; both are given, or a length is out of range.
    """
    given = {"mask": (mask, "bool N T"), "lengths": (lengths, "int N")}
    sizes = check(where, **arguments, **{name: (a, axes) for name, (a, axes) in given.items() if a is not None})
    if lengths is None:
        return mask
    if mask is not None:
        raise ValueError(f"{where}: mask and lengths are given, expected one of them")
    wrong = (lengths < 0) | (lengths > sizes["T"])
    if wrong.any():
        raise ValueError(f"{where}: lengths contains {lengths[wrong][0]}, expected 0 <= length <= T = {sizes['T']}")
    return np.arange(sizes["T"]) < lengths[:, None]


def integer(where: str, **argument: int) -> int:
    """One ``name=value`` as an int.

    Raises:
        TypeError: it is none, nor anything that stands for one as NumPy's integers do.
    """
    ((name, value),) = argument.items()
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} is {value!r}, expected an integer") from None


def _expected(rest: bool, parts: Any, got: Any, source: Mapping[str, str]) -> str:
    """What was needed, in letters, and in numbers as far as earlier arguments have set them."""
    first = ["..."] * rest
    letters = [*first, *(f"{factor if factor > 1 else ''}{letter}" for factor, letter in parts)]
    known = [*first, *(x if g is None else str(g) for g, x in zip(got, letters[rest:], strict=True))]
    origins = dict.fromkeys(source[letter] for _, letter in parts if letter in source)
    numbers = f" = {_tuple(known)} from {', '.join(origins)}" if origins else ""
    return f"expected {_tuple(letters)}{numbers}"


def check_index(where: str, name: str, index: Array, upper: int, ignore: int | None = None) -> None:
    """Refuses an integer array with an entry outside ``[0, upper)`` that is not ``ignore``.

    Raises:
        IndexError: names the first offending index.
    """
    wrong = (index < 0) | (index >= upper)
    if ignore is not None:
        wrong &= index != ignore
    if wrong.any():
        also = "" if ignore is None else f" or {ignore}"
        raise IndexError(
            f"{where}: {name} contains index {index[wrong][0]}, expected 0 <= index < V = {upper}{also}"
        )


def _tuple(parts: Sequence[str]) -> str:
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
