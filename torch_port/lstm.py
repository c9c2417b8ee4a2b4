"""Long short-term memory."""

import torch
from torch import Tensor, nn

from ._checks import check, check_sizes
from ._recurrent import Device, FusedTimeCell, OneBias, OneBiasCell, cell_slots
from ._twin import Twin

GATES = (2, 0, 1, 3)  # torch's i, f, g, o in the reference's f, g, i, o


class LSTM(Twin):
    """c_next = f c_prev + i g, h_next = o tanh(c_next), gates from x Wx + h_prev Wh + b.

    The reference's gates stand in the order f, g, i, o along ``4H``; here, as torch has them.

    Source: Hochreiter and Schmidhuber 1997; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        input_size, hidden_size: D and H, each >= 1.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    slots = cell_slots("cell", gates=GATES)
    sizes = ((0, 0), (1, 0))

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        D, H = check_sizes("LSTM", input_size=input_size, hidden_size=hidden_size)
        super().__init__()
        self.cell = OneBiasLSTMCell(D, H, device=device, dtype=dtype)

    def forward(self, x: Tensor, h_prev: Tensor, c_prev: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            x: ``(N, D)``, dtype of the weights (under autocast, any that it casts).
            h_prev: ``(N, H)``, same dtype.
            c_prev: ``(N, H)``, same dtype.

        Returns:
            ``h_next`` ``(N, H)``, ``c_next`` ``(N, H)``.

        Raises:
            TypeError: a tensor that is not floating of that dtype.
            ValueError: shapes that do not fit.
        """
        check(
            "LSTM.forward",
            weight_ih=(self.cell.weight_ih, "4H D"),
            x=(x, "N D"),
            h_prev=(h_prev, "N H"),
            c_prev=(c_prev, "N H"),
        )
        h_next, c_next = self.cell(x, (h_prev, c_prev))
        return h_next, c_next


class OneBiasLSTM(OneBias, nn.LSTM):
    """``nn.LSTM`` with one bias."""

    @staticmethod
    def step(a: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        _, c = state
        i, f, g, o = a.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class OneBiasLSTMCell(OneBiasCell, nn.LSTMCell):
    """``nn.LSTMCell`` with one bias."""

    step = staticmethod(OneBiasLSTM.step)


class TimeLSTM(FusedTimeCell):
    """``LSTM`` over the time steps of ``xs`` ``(N, T, D)``; see ``TimeCell`` for the methods.

    Source: Saito, Deep Learning from Scratch 2, chapter 6.
    """

    h: Tensor | None
    c: Tensor | None
    kernel = OneBiasLSTM
    slots = cell_slots("rnn", "_l0", GATES)
    states = {"h": "h", "c": "c"}


class TimeBiLSTM(FusedTimeCell):
    """Two LSTM, one forward and one backward in time, side by side: ``(N, T, 2H)``.

    The state is ``h1``, ``c1`` of the forward and ``h2``, ``c2`` of the backward direction.

    Source: Schuster and Paliwal 1997; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    kernel = OneBiasLSTM
    directions = 2
    slots = {
        **cell_slots("rnn", "_l0", GATES, "1"),
        **cell_slots("rnn", "_l0_reverse", GATES, "2"),
    }
    states = {
        "h1": "forward_lstm.h",
        "c1": "forward_lstm.c",
        "h2": "backward_lstm.h",
        "c2": "backward_lstm.c",
    }
