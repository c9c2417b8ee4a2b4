"""What a forward or a backward returns: one array for one, a tuple for several, None for none."""

from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]  # quantities, or what a call takes, by name
Gradients = dict[str, NDArray[Any] | None]  # what somebody's backward gave, None where it gave none


def as_tuple(x: Any) -> tuple[Any, ...]:
    """What a forward of the protocol returned."""
    return x if isinstance(x, tuple) else (x,)


def gradients_of(x: Any) -> tuple[Any, ...]:
    """What a backward of the protocol returned."""
    return () if x is None else as_tuple(x)


def listed(x: Any) -> tuple[Any, ...]:
    """What anybody's function returned, who may give a list too."""
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)
