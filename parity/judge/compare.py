"""Holding what a side computed against the yardstick: shares of the budget."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..spec.results import Arrays
from .pooled import Gauge, whole

if TYPE_CHECKING:
    from .budget import Yardstick

CHOSEN = "ids"  # the quantity of a generating model that is chosen by its ``score``


def shares(value: NDArray[Any], oracle: NDArray[Any], budget: NDArray[Any]) -> NDArray[Any]:
    """Distance from the oracle in budgets, element by element; infinite where finiteness differs.

    Args:
        value: what a side computed, any floating dtype.
        oracle: what is right.
        budget: greatest allowed distance, finite and positive.

    Raises:
        ValueError: another shape than the oracle's.
    """
    value = np.asarray(value)
    if value.shape != oracle.shape:
        raise ValueError(f"shape {value.shape}, expected {oracle.shape}")
    value = value.astype(oracle.dtype)
    with np.errstate(all="ignore"):
        share = np.abs(value - oracle) / budget
    same = (value == oracle) | (np.isnan(value) & np.isnan(oracle))
    return np.where(same, 0, np.where(np.isfinite(value) & np.isfinite(oracle), share, np.inf))


def decided(score: NDArray[Any], budget: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a greedy choice is beyond doubt: every rival is further from the best than both budgets.

    Past the first doubtful step of a row, the ids that follow are another sequence's, and not decided.

    Args:
        score: the oracle's logits ``(N, U, V)`` along its own ids.
        budget: of the score, same shape.

    Returns:
        Boolean ``(N, U)``.
    """
    if not score.size:
        return np.zeros(score.shape[:2], bool)
    best = score.argmax(axis=-1)[..., None]
    top, doubt = np.take_along_axis(score, best, -1), np.take_along_axis(budget, best, -1)
    clear = top - score > doubt + budget
    np.put_along_axis(clear, best, True, -1)
    return np.logical_and.accumulate(clear.all(axis=-1), axis=1)


def compare(yardstick: "Yardstick", quantities: Arrays, partial: bool = False) -> Arrays:
    """The share of the budget of every quantity that is judged, element by element.

    Args:
        yardstick: a ``budget.Yardstick``.
        quantities: dict from name to array, what a side computed.
        partial: whether gradients may be missing: those of a reference that is a forward alone.

    Returns:
        dict from name to array of shares.

    Raises:
        ValueError: a quantity is missing, not expected, or of another shape.
    """
    oracle, quantities = yardstick.oracle, yardstick.projected(quantities)
    judged = [name for name in oracle if name in quantities or not (partial and name.startswith("grad."))]
    if set(quantities) - set(yardstick.untested) != set(judged):
        raise ValueError(f"quantities {sorted(quantities)}, expected {sorted(judged)}")
    found = {}
    for name in judged:
        right, got = oracle[name], np.asarray(quantities[name])
        try:
            if _kind(got) != _kind(right):
                raise ValueError(f"dtype {got.dtype}, expected {right.dtype}")
            if right.dtype.kind == "f":
                found[name] = _with_whole(shares(got, right, yardstick.budget[name]), yardstick.gauges.get(name), got,
                                          right)
            elif got.shape != right.shape:
                raise ValueError(f"shape {got.shape}, expected {right.shape}")
            else:  # a greedy choice need only be the same where it is beyond doubt
                sure = (decided(oracle["score"], yardstick.budget["score"]) if name == CHOSEN else
                        ~yardstick.unsure.get(name, np.zeros(right.shape, bool)))
                found[name] = np.where(sure & (got != right), np.inf, 0.0)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _with_whole(share: NDArray[Any], gauge: Gauge | None, got: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """The shares; the largest of them is that of the tensor as a whole, where that is larger."""
    if gauge is None or not share.size:
        return share
    place = np.unravel_index(int(share.argmax()), share.shape)
    share[place] = max(share[place], whole(gauge, got, right))
    return share


def _kind(array: NDArray[Any]) -> str:
    return array.dtype.kind.replace("u", "i")


def worst(share: NDArray[Any]) -> tuple[float, tuple[int, ...] | None]:
    """The largest share and its index; 0 and None for an empty array."""
    if not share.size:
        return 0.0, None
    index = np.unravel_index(int(share.argmax()), share.shape)
    return float(share[index]), tuple(int(i) for i in index)
