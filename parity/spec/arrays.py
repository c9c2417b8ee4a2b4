"""What is known of one array: its axes, what its entries are, and how they are drawn."""

from .axes import axes


class Array(str):
    """An axis string, and whatever else is known of the array.

    Attributes:
        below: of ids, the axis letter, or the number, below which they lie.
        optional: whether it may be left out.
        one_hot: whether the ids may also come as one-hot rows.
        ignored: the option whose value marks ids that are left out.
        drawn: an output whose nonzero entries tell what was drawn, where a layer may draw the array for itself.
        draw: function of (generator, shape, sizes and options by name) that gives its values; None for the pattern's.
    """

    def __new__(cls, text, below="", optional=False, one_hot=False, ignored="", drawn="", draw=None):
        self = super().__new__(cls, text)
        self.below, self.optional, self.one_hot, self.ignored = below, optional, one_hot, ignored
        self.drawn, self.draw = drawn, draw
        return self

    def __getnewargs__(self):
        return str(self), self.below, self.optional, self.one_hot, self.ignored, self.drawn, self.draw


def floats(text, *, optional=False, draw=None):
    """A floating array with these axes; a plain axis string means the same."""
    return Array(text, optional=optional, draw=draw)


def ids(text, *, below, optional=False, one_hot=False, ignored="", draw=None):
    """Integers from 0 to below ``below``: the size of that axis letter, or a number."""
    return Array(f"int {text}".strip(), below=below, optional=optional, one_hot=one_hot, ignored=ignored,
                 draw=draw)


def mask(text, *, optional=False, drawn="", draw=None):
    """A boolean array, seven entries of ten true, or none."""
    return Array(f"bool {text}".strip(), optional=optional, drawn=drawn, draw=draw)


def array(text):
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
