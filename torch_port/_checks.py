"""Shape, dtype and index checks, written as axis strings.

An axis string names one axis a letter: ``"N T H"``. A number multiplies (``"4H"``), a leading ``...``
stands for any number of axes, a first word in lower case asks for a kind of dtype other than floating:
``"int N T"``, ``"bool N T"``; ``""`` is a scalar. Letters mean the same size everywhere in one call.
"""

import operator
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor

KINDS: dict[str, tuple[str, Callable[[torch.dtype], bool]]] = {
    "float": ("a float", lambda dtype: dtype.is_floating_point),
    "int": ("an integer", lambda dtype: not (
        dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)),
    "bool": ("a bool", lambda dtype: dtype == torch.bool),
}
MAY_BE_EMPTY = {"N"}  # the batch; an average or a maximum over any other axis needs one entry
Parts = Sequence[tuple[int, str]]


class _Switch(threading.local):
    on = True


_switch = _Switch()


def index_checks(enabled: bool) -> AbstractContextManager[object]:
    """Switches the range check of indices and labels, in this thread.

    The check waits for the device once a call, a model's loss included (and once for lengths that are on it);
    it is on at first, because an index out of range kills the CUDA context. A training loop checks
    its data once and then switches it off. Where there are no values to look at, there is none:
    under ``torch.compile``, ``torch.export``, ``make_fx`` and ``FakeTensorMode`` and on the meta
    device.

    Args:
        enabled: whether to check from now on.

    Returns:
        A context manager that restores the former setting on exit; a plain call needs none.
    """
    former = ExitStack()
    former.callback(setattr, _switch, "on", _switch.on)
    _switch.on = enabled
    return former


def parse(axes: str) -> tuple[str, bool, Parts]:
    """Takes an axis string apart.

    Args:
        axes: the string.

    Returns:
        Kind of dtype (``float``, ``int`` or ``bool``), whether any number of axes stands before,
        and a list of (factor, letter) of each axis.

    Raises:
        ValueError: the string is not an axis string.
    """
    words = axes.split()
    kind, words = (words[0], words[1:]) if words and words[0] in KINDS else ("float", words)
    rest = words[:1] == ["..."]
    parts = []
    for word in words[rest:]:
        number, letter = word[:-1], word[-1]
        if not word.isascii() or not letter.isalpha() or (
            number and (not number.isdecimal() or number[0] == "0")
        ):
            raise ValueError(
                f"axis string {axes!r}: expected a kind ({', '.join(KINDS)}) or none, '...' or "
                "not, then one letter an axis, each with a number before it or without"
            )
        parts.append((int(number or 1), letter))
    return kind, rest, parts


def unchecked() -> AbstractContextManager[object]:
    """``index_checks(False)`` for indices that are in range; nothing under ``torch.compile``."""
    return nullcontext() if torch.compiler.is_compiling() else index_checks(False)


def check(where: str, **arguments: tuple[Tensor, str]) -> dict[str, int]:
    """Holds each ``name=(tensor, axes)`` against its axis string and against the others.

    Args:
        where: the call on whose behalf this speaks, ``"WeightSum.forward"``.
        arguments: ``name=(tensor, axis string)``, checked in order.

    Returns:
        The size of each axis letter.

    Raises:
        TypeError: not a tensor, a dtype of another kind, or, outside autocast, two floating dtypes.
        ValueError: the wrong number of axes, sizes that do not fit, an empty axis; a malformed
            axis string.
    """
    sizes: dict[str, int] = {}
    source: dict[str, str] = {}
    floating: tuple[str, torch.dtype] | None = None
    for name, (tensor, axes) in arguments.items():
        kind, rest, parts = parse(axes)
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
        inner = shape[max(len(shape) - len(parts), 0):] if rest else shape
        got = [sizes[letter] * factor if letter in sizes else None for factor, letter in parts]
        if len(inner) != len(got) or any(
            g != s if g is not None else s % f
            for g, s, (f, _) in zip(got, inner, parts, strict=True)
        ):
            expected = _expected(rest, parts, got, source)
            raise ValueError(f"{where}: {name} has shape {shape}, {expected}")
        for (factor, letter), size in zip(parts, inner, strict=True):
            if size == 0 and letter not in MAY_BE_EMPTY:
                raise ValueError(
                    f"{where}: {name} has shape {shape}, axis {letter} may not be empty"
                )
            if letter not in sizes:
                sizes[letter] = size // factor
                source[letter] = f"{name} {shape}"
    return sizes


def _expected(
    rest: bool, parts: Parts, got: Sequence[int | None], source: dict[str, str]
) -> str:
    """What was needed, in letters, and in numbers as far as earlier arguments have set them."""
    first = ["..."] * rest
    letters = [*first, *(f"{factor if factor > 1 else ''}{letter}" for factor, letter in parts)]
    known = [*first, *(x if g is None else str(g)
                       for g, x in zip(got, letters[rest:], strict=True))]
    origins = dict.fromkeys(source[letter] for _, letter in parts if letter in source)
    numbers = f" = {_tuple(known)} from {', '.join(origins)}" if origins else ""
    return f"expected {_tuple(letters)}{numbers}"


def check_masked(
    where: str, mask: Tensor | None, lengths: Tensor | None, **arguments: tuple[Tensor, str]
) -> Tensor | None:
    """``check``, and which positions are valid, said by a mask or by lengths.

    Args:
        where, arguments: as for ``check``, N and T among the axes.
        mask: boolean ``(N, T)``, true at valid positions; None where it is not given.
        lengths: integer ``(N,)``, on any device, 0 <= length <= T: so many from the first are valid; None where
            it is not given. On an accelerator their check waits for it, see ``index_checks``.

    Returns:
        The mask, on the device of the first argument; None for all.

    Raises:
        TypeError, ValueError: as ``check``; both are given, or a length is out of range.
    """
    given = {"mask": (mask, "bool N T"), "lengths": (lengths, "int N")}
    sizes = check(where, **arguments, **{name: (a, axes) for name, (a, axes) in given.items() if a is not None})
    if lengths is None:
        return mask
    if mask is not None:
        raise ValueError(f"{where}: mask and lengths are given, expected one of them")
    lengths = lengths.long()  # torch can do little with unsigned integers
    if (wrong := _first_outside({"lengths": lengths}, sizes["T"] + 1, None)) is not None:
        raise ValueError(f"{where}: lengths contains {wrong[1]}, expected 0 <= length <= T = {sizes['T']}")
    device = next(tensor for tensor, _ in arguments.values()).device
    return torch.arange(sizes["T"], device=device) < lengths.to(device)[:, None]


def check_index(
    where: str, indices: dict[str, Tensor], upper: int, ignore: int | None = None
) -> None:
    """Refuses integer tensors, by name, with an entry outside ``[0, upper)`` that is not ``ignore``.

    Waits for the device once, however many there are.

    Raises:
        IndexError: names the first offending index.
    """
    if (wrong := _first_outside(indices, upper, ignore)) is not None:
        refuse_index(where, *wrong, upper, ignore)


def _first_outside(indices: dict[str, Tensor], upper: int, ignore: int | None) -> tuple[str, int] | None:
    """Name and value of the first entry outside ``[0, upper)`` that is not ``ignore``; None for none, or unchecked."""
    if torch.compiler.is_compiling() or not _switch.on:
        return None
    values = {name: _values(index) for name, index in indices.items()}
    wrong = {name: _wrong(index, upper, ignore) for name, index in values.items() if index is not None}
    if not wrong or not torch.stack([w.any() for w in wrong.values()]).any():
        return None
    name = next(name for name, w in wrong.items() if w.any())
    return name, int(values[name][wrong[name]][0])  # type: ignore[index]


def refuse_index(where: str, name: str, index: int, upper: int, ignore: int | None = None) -> None:
    """Raises IndexError."""
    also = "" if ignore is None else f" or {ignore}"
    raise IndexError(f"{where}: {name} contains index {index}, "
                     f"expected 0 <= index < V = {upper}{also}")


def _wrong(index: Tensor, upper: int, ignore: int | None) -> Tensor:
    wrong = (index < 0) | (index >= upper)
    return wrong if ignore is None else wrong & (index != ignore)


def _values(index: Tensor) -> Tensor | None:
    """What stands under the tensors of ``torch.func``, all of a ``vmap``; None for no values."""
    modes = torch._C._TorchDispatchModeKey
    if index.is_meta or torch._C._get_dispatch_mode(modes.FAKE) or torch._C._get_dispatch_mode(modes.PROXY):
        return None
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(index):
        index = functorch.get_unwrapped(index)
    return None if isinstance(index, torch._subclasses.FakeTensor) else index


def check_sizes(where: str, **sizes: int) -> tuple[int, ...]:
    """The size arguments of a constructor.

    Raises:
        TypeError: not an integer.
        ValueError: below 1.
    """
    for name, size in sizes.items():
        if integer(where, **{name: size}) < 1:
            raise ValueError(f"{where}: {name} is {size}, expected >= 1")
    return tuple(int(size) for size in sizes.values())


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


def _autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tuple(parts: list[str]) -> str:
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
