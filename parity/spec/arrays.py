"""What is known of one array: its axes, what its entries are, and how they are drawn."""

from collections.abc import Callable
from typing import Any, Self

from ..errors import UsageError
from .axes import axes

Draw = Callable[..., Any]  # of a generator, a shape, and sizes and options by name


class Array(str):
    """An axis string, and whatever else is known of the array.

    Attributes:
        below: of ids, the axis letter, or the number, below which they lie.
        optional: whether it may be left out.
        constant: of floats, whether nobody wants their gradient; of an output, whether it has no cotangent.
        one_hot: whether the ids may also come as one-hot rows.
        ignored: the option whose value marks ids that are left out.
        drawn: an output whose nonzero entries tell what was drawn, where a layer may draw the array for itself.
        lengths: of masks, the keyword that takes, instead of it, how many of each row from the first are true.
        draw: function of (generator, shape, sizes and options by name) that gives its values; None for the pattern's.
    """

    below: str | int
    optional: bool
    constant: bool
    one_hot: bool
    ignored: str
    drawn: str
    lengths: str
    draw: Draw | None

    def __new__(cls, text: str, below: str | int = "", optional: bool = False, one_hot: bool = False, ignored: str = "",
                drawn: str = "", draw: Draw | None = None, constant: bool = False, lengths: str = "") -> Self:
        self = super().__new__(cls, text)
        self.below, self.optional, self.one_hot, self.ignored = below, optional, one_hot, ignored
        self.drawn, self.draw, self.constant, self.lengths = drawn, draw, constant, lengths
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (str(self), self.below, self.optional, self.one_hot, self.ignored, self.drawn, self.draw, self.constant,
                self.lengths)


def floats(text: str, *, optional: bool = False, constant: bool = False, draw: Draw | None = None) -> Array:
    """A floating array with these axes; a plain axis string means the same.

    Args:
        text: axis string.
        optional: whether it may be left out.
        constant: whether nobody wants its gradient, as of running statistics; of an output, whether it has none.
        draw: function of (generator, shape, sizes and options by name) that gives its values.

    Raises:
        ValueError: no axis string, or a ``draw`` that is no function.
    """
    return _checked(Array(text, optional=optional, constant=constant, draw=draw))


def ids(text: str, *, below: str | int, optional: bool = False, one_hot: bool = False, ignored: str = "",
        draw: Draw | None = None) -> Array:
    """Integers from 0 to below ``below``: the size of that axis letter, or a number. Raises as ``floats``."""
    return _checked(Array(f"int {text}".strip(), below=below, optional=optional, one_hot=one_hot, ignored=ignored,
                          draw=draw))


def mask(text: str, *, optional: bool = False, drawn: str = "", lengths: str = "", draw: Draw | None = None) -> Array:
    """A boolean array, seven entries of ten true, or none. Raises as ``floats``."""
    return _checked(Array(f"bool {text}".strip(), optional=optional, drawn=drawn, lengths=lengths, draw=draw))


def _checked(made: Array) -> Array:
    axes(made)
    if made.draw is not None and not callable(made.draw):
        raise UsageError(f"{str(made)!r}: draw is {made.draw!r}, expected a function of (generator, shape, sizes and "
                         "options by name)")
    if made.below != "" and not _is_below(made.below):
        raise UsageError(f"{str(made)!r}: below is {made.below!r}, expected an axis letter or an integer >= 1")
    return made


def _is_below(below: object) -> bool:
    if isinstance(below, str):
        return len(below) == 1 and below.isascii() and below.isalpha()
    return isinstance(below, int) and not isinstance(below, bool) and below >= 1


def array(text: object) -> Array:
    """An ``Array`` of an axis string or of an ``Array``.

    Raises:
        ValueError: no axis string, or an axis string that is none.
    """
    if not isinstance(text, str):
        raise ValueError(f"an array is described by {text!r}, expected an axis string such as 'N T D', "
                         "or ids(...), mask(...), floats(...)")
    found = text if isinstance(text, Array) else Array(text)
    axes(found)
    return found
