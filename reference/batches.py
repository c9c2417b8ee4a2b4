"""The order in which training sees the data: one for both sides."""


import numpy as np

from ._types import Array


def batches(size: int, batch_size: int, rng: np.random.Generator) -> list[Array]:
    """One epoch of rows: all of them in a random order, cut into batches; the last may be smaller.

    Args:
        size: number of rows, >= 0.
        batch_size: rows a batch, >= 1.
        rng: ``numpy.random.Generator`` that draws the order; it moves on by one permutation.

    Returns:
        list of row indices ``(N,)``, int64.

    Raises:
        ValueError: ``batch_size`` below 1, or a negative size.
    """
    if batch_size < 1:
        raise ValueError(f"batches: batch_size is {batch_size}, expected >= 1")
    if size < 0:
        raise ValueError(f"batches: size is {size}, expected >= 0")
    order = rng.permutation(size)
    return [order[start : start + batch_size] for start in range(0, size, batch_size)]
