"""Shape, dtype and index checks, written as axis strings.

An axis string names one axis a letter: ``"N T H"``. A digit multiplies (``"4H"``), ``...`` stands
for any number of leading axes, and a first word in lower case asks for a kind of dtype other than
floating: ``"int N T"``, ``"bool N T"``. Letters mean the same size everywhere in one call.
"""

import operator
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import torch
from torch import Tensor

KINDS: dict[str, tuple[str, Callable[[torch.dtype], bool]]] = {
    "float": ("a float", lambda dtype: dtype.is_floating_point),
    "int": ("an integer", lambda dtype: not (
        dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)),
    "bool": ("a bool", lambda dtype: dtype == torch.bool),
}
MAY_BE_EMPTY = {"N", "..."}  # the batch; an average or a maximum over another axis needs one entry


class _Switch(threading.local):
    on = True


_switch = _Switch()


def index_checks(enabled: bool) -> AbstractContextManager[object]:
    """Switches the range check of indices and labels on CUDA, in this thread.

    The check waits for the device once a call; it is on at first, because an index out of range
    kills the CUDA context. A training loop checks its data once and then switches it off. On the
    CPU the check is always on; under ``torch.compile`` and on the meta device there is none.

    Args:
        enabled: whether to check from now on.

    Returns:
        A context manager that restores the former setting on exit; a plain call needs none.
    """
    former = ExitStack()
    former.callback(setattr, _switch, "on", _switch.on)
    _switch.on = enabled
    return former


def check(where: str, **arguments: tuple[Tensor, str]) -> dict[str, int]:
    """Holds each ``name=(tensor, axes)`` against its axis string and against the others.

    Args:
        where: the call on whose behalf this speaks, ``"WeightSum.forward"``.
        arguments: ``name=(tensor, axis string)``, checked in order.

    Returns:
        The size of each axis letter.

    Raises:
        TypeError: not a tensor, a dtype of another kind, or, outside autocast, two floating dtypes.
        ValueError: the wrong number of axes, sizes that do not fit, an empty axis.
    """
    sizes: dict[str, int] = {}
    source: dict[str, str] = {}
    floating: tuple[str, torch.dtype] | None = None
    for name, (tensor, axes) in arguments.items():
        words = axes.split()
        kind, letters = (words[0], words[1:]) if words[0] in KINDS else ("float", words)
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{where}: {name} is a {type(tensor).__name__}, expected a torch.Tensor"
            )
        article, belongs = KINDS[kind]
        if not belongs(tensor.dtype):
            raise TypeError(
                f"{where}: {name} has dtype {_text(tensor.dtype)}, expected {article} dtype"
            )
        if kind == "float":
            floating = floating or (name, tensor.dtype)
            if tensor.dtype != floating[1] and not _autocast(tensor.device.type):
                raise TypeError(f"{where}: {name} has dtype {_text(tensor.dtype)}, "
                                f"expected {_text(floating[1])}, the dtype of {floating[0]}")
        shape = tuple(tensor.shape)
        if letters[0] == "...":
            letters = letters[1:]
            shape = shape[-len(letters):]
        parts = [(int(x[:-1] or 1), x[-1]) for x in letters]
        got = [sizes[base] * factor if base in sizes else None for factor, base in parts]
        if len(shape) != len(got) or any(
            g != s if g is not None else s % f
            for g, s, (f, _) in zip(got, shape, parts, strict=True)
        ):
            known = [x if g is None else str(g) for g, x in zip(got, letters, strict=True)]
            text = f"{where}: {name} has shape {tuple(tensor.shape)}, expected {_tuple(letters)}"
            if known != letters:
                origins = dict.fromkeys(source[base] for _, base in parts if base in sizes)
                text += f" = {_tuple(known)} from {', '.join(origins)}"
            raise ValueError(text)
        for (factor, base), size in zip(parts, shape, strict=True):
            if size == 0 and base not in MAY_BE_EMPTY:
                raise ValueError(f"{where}: {name} has shape {tuple(tensor.shape)}, "
                                 f"axis {base} may not be empty")
            if base not in sizes:
                sizes[base] = size // factor
                source[base] = f"{name} {tuple(tensor.shape)}"
    return sizes


def check_index(
    where: str, name: str, index: Tensor, upper: int, ignore: int | None = None
) -> None:
    """Refuses an integer tensor with an entry outside ``[0, upper)`` that is not ``ignore``.

    Raises:
        IndexError: names the first offending index.
    """
    if torch.compiler.is_compiling() or index.is_meta:
        return
    if index.device.type != "cpu" and not _switch.on:
        return
    wrong = (index < 0) | (index >= upper)
    if ignore is not None:
        wrong &= index != ignore
    if wrong.any():
        also = "" if ignore is None else f" or {ignore}"
        raise IndexError(f"{where}: {name} contains index {index[wrong][0]}, "
                         f"expected 0 <= index < V = {upper}{also}")


def check_sizes(where: str, **sizes: int) -> tuple[int, ...]:
    """The size arguments of a constructor.

    Raises:
        TypeError: not an integer.
        ValueError: below 1.
    """
    for name, size in sizes.items():
        try:
            operator.index(size)
        except TypeError:
            raise TypeError(f"{where}: {name} is {size!r}, expected an integer") from None
        if size < 1:
            raise ValueError(f"{where}: {name} is {size}, expected >= 1")
    return tuple(int(size) for size in sizes.values())


def _autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tuple(parts: list[str]) -> str:
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
