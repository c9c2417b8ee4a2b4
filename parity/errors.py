"""What a user asked for and cannot have."""

import math
import numbers
from typing import Any


class UsageError(ValueError):
    """A wrong argument; its message is the one line that the command line shows."""


def whole(name: str, value: Any, least: int) -> int:
    """A number of things, as an int.

    Raises:
        UsageError: not an integer (``True`` is none), or below ``least``.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"{name} is {value!r}, expected an integer >= {least}")
    number: int = value.__index__()
    if number < least:
        raise UsageError(f"{name} is {number}, expected >= {least}")
    return number


def amount(name: str, value: Any) -> float:
    """A finite positive quantity, as a float.

    Raises:
        UsageError: no number, or not one above 0.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
        raise UsageError(f"{name} is {value!r}, expected a finite number > 0")
    return float(value)
