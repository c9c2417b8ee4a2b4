"""Functions that are easily taken for a layer of the catalogue, so that an audit can name them."""

from typing import Any

import numpy as np

from .ours import ours

reference: Any = ours("reference")


class ResetAfterGRU(reference.GRU):
    """A GRU that applies the reset gate after the matrix product."""

    @staticmethod
    def step(a, Wh, h):
        H = len(Wh)
        product = np.matmul(h, Wh)
        z, r = (1 / (1 + np.exp(-a[:, s] - product[:, s])) for s in (slice(H), slice(H, 2 * H)))
        h_hat = np.tanh(a[:, 2 * H :] + r * product[:, 2 * H :])
        return ((1 - z) * h + z * h_hat,), (h, z, r, h_hat)


class ResetAfterTimeGRU(reference.TimeGRU):
    """``ResetAfterGRU`` over time."""

    cell = ResetAfterGRU
