"""The simple recurrent layer."""

from typing import Any

import numpy as np

from ._recurrent import Cell, TimeCell
from ._types import Array


class RNN(Cell):
    """h_next = tanh(x Wx + h_prev Wh + b).

    Source: Elman 1990; Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        Wx: ``(D, H)``; Wh: ``(H, H)``; b: ``(H,)``, floating.

    Raises:
        TypeError: a parameter is not a floating array.
        ValueError: the shapes do not fit.
    """

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
        h_next = np.tanh(a + np.matmul(h, Wh))
        return (h_next,), (h, h_next)

    @staticmethod
    def step_backward(Wh: Array, cache: Any, dh_next: Array) -> Any:
        h, h_next = cache
        da = dh_next * (1 - h_next * h_next)
        return da, np.matmul(h.T, da), (np.matmul(da, Wh.T),)


class TimeRNN(TimeCell):
    """``RNN`` over the time steps of ``xs`` ``(N, T, D)``; see ``TimeCell`` for the methods.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.
    """

    cell = RNN
