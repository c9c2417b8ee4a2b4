"""Functions that are easily taken for a layer of the catalogue, so that an audit can name them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ours import ours

reference: Any = ours("reference")


class ResetAfterGRU(reference.GRU):  # type: ignore[misc] # ours, not the one that is imported by that name
    """A GRU that applies the reset gate after the matrix product."""

    @staticmethod
    def step(a: NDArray[Any], Wh: NDArray[Any], h: NDArray[Any]) -> Any:
        H = len(Wh)
        product = np.matmul(h, Wh)
        z, r = (1 / (1 + np.exp(-a[:, s] - product[:, s])) for s in (slice(H), slice(H, 2 * H)))
        h_hat = np.tanh(a[:, 2 * H :] + r * product[:, 2 * H :])
        return ((1 - z) * h + z * h_hat,), (h, z, r, h_hat)


class ResetAfterTimeGRU(reference.TimeGRU):  # type: ignore[misc] # as above
    """``ResetAfterGRU`` over time."""

    cell = ResetAfterGRU
