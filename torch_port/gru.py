"""The gated recurrent unit.

Not ``nn.GRU``: there the reset gate applies after the matrix product, and z the other way round.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check, check_sizes
from ._recurrent import Device, TimeCell, over_time
from ._twin import Slot, Twin, textbook_init_


class GRUCell(nn.Module):
    """Parameters and step of the GRU, gates z, r, h along ``3H``.

    Args:
        input_size, hidden_size: D and H.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        D, H = input_size, hidden_size
        self.weight_ih = nn.Parameter(torch.empty(3 * H, D, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(3 * H, H, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(3 * H, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the textbook's initial weights."""
        textbook_init_(*self.parameters())

    def forward(self, xs: Tensor, h: Tensor) -> Tensor:
        """States ``(N, T, H)`` after every step of ``xs`` ``(N, T, D)`` from ``h`` ``(N, H)``."""
        H = self.weight_hh.shape[1]
        Wh = self.weight_hh.T

        def step(state: Sequence[Tensor], a_t: Tensor) -> Sequence[Tensor]:
            (h,) = state
            z, r = torch.sigmoid(torch.addmm(a_t[:, : 2 * H], h, Wh[:, : 2 * H])).chunk(2, dim=1)
            h_hat = torch.tanh(torch.addmm(a_t[:, 2 * H :], r * h, Wh[:, 2 * H :]))
            return [(1 - z) * h + z * h_hat]

        return over_time(step, [h], F.linear(xs, self.weight_ih, self.bias))[0]


SLOTS = {
    "Wx": Slot("cell.weight_ih", transposed=True),
    "Wh": Slot("cell.weight_hh", transposed=True),
    "b": Slot("cell.bias"),
}


class GRU(Twin):
    """h_next = (1 - z) h_prev + z h_hat, h_hat = tanh(x Wxh + (r h_prev) Whh + bh).

    Source: Cho et al. 2014; Saito, Deep Learning from Scratch 2, appendix C.

    Args:
        input_size, hidden_size: D and H, each >= 1.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    slots = SLOTS
    sizes = ((0, 0), (1, 0))

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        D, H = check_sizes("GRU", input_size=input_size, hidden_size=hidden_size)
        super().__init__()
        self.cell = GRUCell(D, H, device=device, dtype=dtype)

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
        check("GRU.forward", weight_ih=(weight, "3H D"), x=(x, "N D"), h_prev=(h_prev, "N H"))
        h_next: Tensor = self.cell(x[:, None], h_prev)[:, 0]
        return h_next


class TimeGRU(TimeCell):
    """``GRU`` over the time steps of ``xs`` ``(N, T, D)``; see ``TimeCell`` for the methods.

    Source: Saito, Deep Learning from Scratch 2, appendix C.
    """

    h: Tensor | None
    slots = SLOTS

    def _build(self, **factory: Any) -> None:
        self.cell = GRUCell(self.input_size, self.hidden_size, **factory)

    def _run(self, xs: Tensor, state: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        hs = self.cell(xs, *state)
        return hs, (hs[:, -1],)
