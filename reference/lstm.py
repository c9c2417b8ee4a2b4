"""Long short-term memory."""

from typing import Any

import numpy as np

from ._checks import check
from ._functions import sigmoid
from ._layer import Composite
from ._recurrent import Cell, TimeCell
from ._types import Array


class LSTM(Cell):
    """c_next = f c_prev + i g, h_next = o tanh(c_next), gates from x Wx + h_prev Wh + b.

    The gates stand in the order f, g, i, o along ``4H``; g goes through tanh, the others through
    the sigmoid.

    Source: Hochreiter and Schmidhuber 1997; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        Wx: ``(D, 4H)``; Wh: ``(H, 4H)``; b: ``(4H,)``, floating.

    Raises:
        TypeError: a parameter is not a floating array.
        ValueError: the shapes do not fit.
    """

    states = ("h", "c")
    width = "4H"

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, ...]:
        """One step.

        Args:
            x: ``(N, D)``, floating.
            h_prev: ``(N, H)``, floating.
            c_prev: ``(N, H)``, floating.

        Returns:
            ``h_next`` ``(N, H)``, ``c_next`` ``(N, H)``.

        Raises:
            TypeError: an argument is not a floating array.
            ValueError: shapes that do not fit.
        """
        return self._step_forward(x, h_prev, c_prev)

    def backward(self, dh_next: Array, dc_next: Array) -> tuple[Array, ...]:
        """Cotangents of the inputs; writes the gradients of the parameters.

        Args:
            dh_next: cotangent of ``h_next`` ``(N, H)``.
            dc_next: cotangent of ``c_next`` ``(N, H)``.

        Returns:
            ``dx`` ``(N, D)``, ``dh_prev`` ``(N, H)``, ``dc_prev`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: a cotangent has another shape than its output.
        """
        return self._step_backward(dh_next, dc_next)

    @staticmethod
    def step(a: Array, Wh: Array, h: Array, c: Array) -> Any:
        a = a + np.matmul(h, Wh)
        H = len(Wh)
        f, g = sigmoid(a[:, :H]), np.tanh(a[:, H : 2 * H])
        i, o = sigmoid(a[:, 2 * H : 3 * H]), sigmoid(a[:, 3 * H :])
        c_next = f * c + i * g
        tanh_c = np.tanh(c_next)
        return (o * tanh_c, c_next), (h, c, f, g, i, o, tanh_c)

    @staticmethod
    def step_backward(Wh: Array, cache: Any, dh_next: Array, dc_next: Array) -> Any:
        h, c, f, g, i, o, tanh_c = cache
        dc = dc_next + dh_next * o * (1 - tanh_c * tanh_c)
        da = np.concatenate(
            (
                dc * c * f * (1 - f),
                dc * i * (1 - g * g),
                dc * g * i * (1 - i),
                dh_next * tanh_c * o * (1 - o),
            ),
            axis=1,
        )
        return da, np.matmul(h.T, da), (np.matmul(da, Wh.T), dc * f)


class TimeLSTM(TimeCell):
    """``LSTM`` over the time steps of ``xs`` ``(N, T, D)``; see ``TimeCell`` for the methods.

    Keeps float64, where the textbook's cuts to float32.

    Source: Saito, Deep Learning from Scratch 2, chapter 6.
    """

    h: Any  # arrays, or None for zeros
    c: Any
    dh: Any
    dc: Any
    cell = LSTM


class TimeBiLSTM(Composite):
    """Two ``TimeLSTM``, one forward and one backward in time, side by side: ``(N, T, 2H)``.

    Source: Schuster and Paliwal 1997; Saito, Deep Learning from Scratch 2, chapter 8.

    Args:
        Wx1, Wh1, b1: parameters of the forward direction, ``(D, 4H)``, ``(H, 4H)``, ``(4H,)``.
        Wx2, Wh2, b2: parameters of the backward direction, same shapes.
        stateful: both directions start from the state that they ended with.

    Raises:
        TypeError: a parameter is not a floating array.
        ValueError: the shapes do not fit.
    """

    forward_lstm: TimeLSTM
    backward_lstm: TimeLSTM

    def __init__(self, Wx1: Array, Wh1: Array, b1: Array, Wx2: Array, Wh2: Array, b2: Array,
                 stateful: bool = False) -> None:
        first, second = TimeLSTM(Wx1, Wh1, b1, stateful), TimeLSTM(Wx2, Wh2, b2, stateful)
        super().__init__(forward_lstm=first, backward_lstm=second)
        self.param_names = ("Wx1", "Wh1", "b1", "Wx2", "Wh2", "b2")
        check("TimeBiLSTM", Wh1=(Wh1, "H 4H"), Wx1=(Wx1, "D 4H"), Wh2=(Wh2, "H 4H"), Wx2=(Wx2, "D 4H"))

    @property
    def stateful(self) -> bool:
        """Whether both directions start from the state that they ended with."""
        return self.forward_lstm.stateful

    @stateful.setter
    def stateful(self, value: bool) -> None:
        self.forward_lstm.stateful = self.backward_lstm.stateful = value

    def reset_state(self) -> None:
        """Forgets the state of both directions."""
        self.forward_lstm.reset_state()
        self.backward_lstm.reset_state()

    def forward(self, xs: Array) -> Array:
        """Runs through the sequence both ways.

        Args:
            xs: ``(N, T, D)``, floating.

        Returns:
            ``hs`` ``(N, T, 2H)``: forward states, then backward states, of each time step.

        Raises:
            TypeError: ``xs`` is not a floating array.
            ValueError: shapes that do not fit.
        """
        check("TimeBiLSTM.forward", Wx1=(self.params[0], "D G"), xs=(xs, "N T D"))
        ahead = self.forward_lstm.forward(xs)
        back = self.backward_lstm.forward(xs[:, ::-1])[:, ::-1]
        hs = np.concatenate((ahead, back), axis=2)
        self._save(hs.shape)
        return hs

    def backward(self, dhs: Array) -> Array:
        """Cotangent of ``xs``; writes the gradients of the parameters.

        Args:
            dhs: cotangent of ``hs`` ``(N, T, 2H)``.

        Returns:
            ``dxs`` ``(N, T, D)``, dtype of ``xs``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dhs`` has another shape than the output.
        """
        (shape,) = self._saved()
        self._check_cotangents(dhs=(dhs, shape))
        H = shape[2] // 2
        ahead = self.forward_lstm.backward(dhs[:, :, :H])
        back = self.backward_lstm.backward(dhs[:, ::-1, H:])
        return ahead + back[:, ::-1]
