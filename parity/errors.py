"""What a user asked for and cannot have."""

import math
import numbers


class UsageError(ValueError):
    """A wrong argument; its message is the one line that the command line shows."""


def whole(name, value, least):
    """A number of things, as an int.

    Raises:
        UsageError: not an integer (``True`` is none), or below ``least``.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"{name} is {value!r}, expected an integer >= {least}")
    value = value.__index__()
    if value < least:
        raise UsageError(f"{name} is {value}, expected >= {least}")
    return value


def amount(name, value):
    """A finite positive quantity, as a float.

    Raises:
        UsageError: no number, or not one above 0.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise UsageError(f"{name} is {value!r}, expected a finite number > 0")
    return float(value)
