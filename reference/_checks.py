"""Shape, dtype and index checks, written as axis strings.

An axis string names one axis a letter: ``"N T H"``. A digit multiplies (``"4H"``), ``...`` stands
for any number of leading axes, and a first word in lower case asks for a kind of dtype other than
floating: ``"int N T"``, ``"bool N T"``. Letters mean the same size everywhere in one call.
"""

import numpy as np

KINDS = {"float": "fc", "int": "iu", "bool": "b"}
MAY_BE_EMPTY = {"N", "..."}  # the batch; an average or a maximum over any other axis needs one entry


class CotangentError(ValueError, RuntimeError):
    """A cotangent of the wrong shape: a wrong value here, and what autograd calls a RuntimeError."""


def check(where, error=ValueError, **arguments):
    """Holds each ``name=(array, axes)`` against its axis string and against the others.

    Args:
        where: the call on whose behalf this speaks, ``"WeightSum.forward"``.
        error: exception type for a shape that does not fit.
        arguments: ``name=(array, axis string)``, checked in order.

    Returns:
        dict: the size of each axis letter.

    Raises:
        TypeError: not an array, or a dtype of another kind.
        ValueError: the wrong number of axes, sizes that do not fit, an empty axis.
    """
    sizes, source = {}, {}
    for name, (array, axes) in arguments.items():
        kind, letters = _parse(axes)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{where}: {name} is a {type(array).__name__}, expected a numpy.ndarray")
        if array.dtype.kind not in KINDS[kind]:
            article = "an integer" if kind == "int" else f"a {kind}"
            raise TypeError(f"{where}: {name} has dtype {array.dtype}, expected {article} dtype")
        shape = array.shape
        if letters[0] == "...":
            letters = letters[1:]
            if len(shape) >= len(letters):
                shape = shape[len(shape) - len(letters) :]
        got = [_size(letter, sizes) for letter in letters]
        if len(shape) != len(got) or any(g not in (None, s) for g, s in zip(got, shape, strict=True)):
            known = [str(g) if g is not None else x for g, x in zip(got, letters, strict=True)]
            text = f"{where}: {name} has shape {array.shape}, expected {_tuple(letters)}"
            if known != letters:
                text += f" = {_tuple(known)}"
                bound = dict.fromkeys(source[x.lstrip("0123456789")] for x, g in zip(letters, got, strict=True)
                                      if g is not None)
                text += f" from {', '.join(bound)}"
            raise error(text)
        for letter, size in zip(letters, shape, strict=True):
            if size == 0 and letter not in MAY_BE_EMPTY:
                raise ValueError(f"{where}: {name} has shape {array.shape}, axis {letter} may not be empty")
            base = letter.lstrip("0123456789")
            factor = int(letter[: -len(base)] or 1)
            if size % factor:
                raise error(f"{where}: {name} has shape {array.shape}, expected {_tuple(letters)}")
            if base not in sizes:
                sizes[base] = size // factor
                source[base] = f"{name} {array.shape}"
    return sizes


def check_index(where, name, index, upper, ignore=None):
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


def _parse(axes):
    words = axes.split()
    return (words[0], words[1:]) if words[0] in KINDS else ("float", words)


def _size(letter, sizes):
    base = letter.lstrip("0123456789")
    return sizes[base] * int(letter[: -len(base)] or 1) if base in sizes else None


def _tuple(parts):
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
