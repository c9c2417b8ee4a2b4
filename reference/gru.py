"""The gated recurrent unit."""

from typing import Any

import numpy as np

from ._functions import sigmoid
from ._recurrent import Cell, TimeCell
from ._types import Array


class GRU(Cell):
    """h_next = (1 - z) h_prev + z h_hat, h_hat = tanh(x Wxh + (r h_prev) Whh + bh).

    The gates stand in the order z, r, h along ``3H``; the reset gate applies before the matrix
    product (``torch.nn.GRU`` applies it after, and takes z the other way round).

    Source: Cho et al. 2014; Saito, Deep Learning from Scratch 2, appendix C.

    Args:
        Wx: ``(D, 3H)``; Wh: ``(H, 3H)``; b: ``(3H,)``, floating.

    Raises:
        TypeError: a parameter is not a floating array.
        ValueError: the shapes do not fit.
    """

    width = "3H"

    def forward(self, x: Array, h_prev: Array) -> Array:
        """One step.

        Args:
            x: ``(N, D)``, floating.
            h_prev: ``(N, H)``, floating.

        Returns:
            ``h_next`` ``(N, H)``.

        Raises:
            TypeError: an argument is not a floating array.
            ValueError: shapes that do not fit.
        """
        (h_next,) = self._step_forward(x, h_prev)
        return h_next

    def backward(self, dh_next: Array) -> tuple[Array, ...]:
        """Cotangents of the inputs; writes the gradients of the parameters.

        Args:
            dh_next: cotangent of ``h_next`` ``(N, H)``.

        Returns:
            ``dx`` ``(N, D)``, ``dh_prev`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: a cotangent has another shape than the output.
        """
        return self._step_backward(dh_next)

    @staticmethod
    def step(a: Array, Wh: Array, h: Array) -> Any:
        H = len(Wh)
        zr = sigmoid(a[:, : 2 * H] + np.matmul(h, Wh[:, : 2 * H]))
        z, r = zr[:, :H], zr[:, H:]
        h_hat = np.tanh(a[:, 2 * H :] + np.matmul(r * h, Wh[:, 2 * H :]))
        return ((1 - z) * h + z * h_hat,), (h, z, r, h_hat)

    @staticmethod
    def step_backward(Wh: Array, cache: Any, dh_next: Array) -> Any:
        h, z, r, h_hat = cache
        H = len(Wh)
        dh_hat = dh_next * z * (1 - h_hat * h_hat)
        drh = np.matmul(dh_hat, Wh[:, 2 * H :].T)
        dzr = np.concatenate((dh_next * (h_hat - h) * z * (1 - z), drh * h * r * (1 - r)), axis=1)
        dWh = np.concatenate((np.matmul(h.T, dzr), np.matmul((r * h).T, dh_hat)), axis=1)
        dh = dh_next * (1 - z) + drh * r + np.matmul(dzr, Wh[:, : 2 * H].T)
        return np.concatenate((dzr, dh_hat), axis=1), dWh, (dh,)


class TimeGRU(TimeCell):
    """``GRU`` over the time steps of ``xs`` ``(N, T, D)``; see ``TimeCell`` for the methods.

    Source: Saito, Deep Learning from Scratch 2, appendix C.
    """

    cell = GRU
