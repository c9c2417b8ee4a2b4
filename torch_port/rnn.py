"""The simple recurrent layer."""

from typing import Any

import torch
from torch import Tensor, nn

from ._checks import check, check_sizes
from ._recurrent import Device, FusedTimeCell, OneBias, OneBiasCell, cell_slots
from ._twin import Twin


class RNN(Twin):
    """h_next = tanh(x Wx + h_prev Wh + b).

    Source: Elman 1990; Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        input_size, hidden_size: D and H, each >= 1.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    slots = cell_slots("cell")
    sizes = ((0, 0), (1, 0))

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        D, H = check_sizes("RNN", input_size=input_size, hidden_size=hidden_size)
        super().__init__()
        self.cell = OneBiasRNNCell(D, H, device=device, dtype=dtype)

    def forward(self, x: Tensor, h_prev: Tensor) -> Tensor:
        """One step.

        Args:
            x: ``(N, D)``, dtype of the weights (under autocast, any that it casts).
            h_prev: ``(N, H)``, same dtype.

        Returns:
            ``h_next`` ``(N, H)``.

        Raises:
            TypeError: a tensor that is not floating of that dtype.
            ValueError: shapes that do not fit.
        """
        weight = self.cell.weight_ih
        check("RNN.forward", weight_ih=(weight, "H D"), x=(x, "N D"), h_prev=(h_prev, "N H"))
        h_next: Tensor = self.cell(x, h_prev)
        return h_next


class OneBiasRNN(OneBias, nn.RNN):
    """``nn.RNN`` with one bias, and with the state in a tuple, as in ``nn.LSTM``."""

    @staticmethod
    def step(a: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (torch.tanh(a),)

    def forward(self, xs: Tensor, state: Any) -> Any:  # type: ignore[override]
        hs, h = super().forward(xs, *state)
        return hs, (h,)


class OneBiasRNNCell(OneBiasCell, nn.RNNCell):
    """``nn.RNNCell`` with one bias."""

    step = staticmethod(OneBiasRNN.step)


class TimeRNN(FusedTimeCell):
    """``RNN`` over the time steps of ``xs`` ``(N, T, D)``; see ``TimeCell`` for the methods.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.
    """

    h: Tensor | None
    kernel = OneBiasRNN
    slots = cell_slots("rnn", "_l0")
