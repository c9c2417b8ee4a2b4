"""Learned positions."""

import torch
from torch import Tensor, nn

from ._checks import check_masked, check_sizes
from ._twin import Slot, Twin
from .attention import valid


class PositionalEmbedding(Twin):
    """ys = xs + W[positions]: a learned row for each position among the valid ones of a sequence.

    Source: Gehring et al. 2017; Vaswani et al., Attention Is All You Need, 2017, section 3.5.

    Args:
        max_positions: M, >= 1.
        embedding_dim: D, >= 1.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    slots = {"W": Slot("weight")}
    sizes = ((0, 0), (0, 1))

    def __init__(
        self,
        max_positions: int,
        embedding_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        M, D = check_sizes(
            "PositionalEmbedding", max_positions=max_positions, embedding_dim=embedding_dim
        )
        self.weight = nn.Parameter(torch.empty(M, D, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the initial weights of ``Embedding``: normal, standard deviation 0.01."""
        with torch.no_grad():
            self.weight.normal_(std=0.01)

    def forward(
        self, xs: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Adds to each entry of a sequence the row of its position.

        Args:
            xs: ``(N, T, D)``, dtype of the weights (under autocast, any that it casts), T <= M.
            mask: boolean ``(N, T)``, true at valid entries, which alone count; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``ys`` ``(N, T, D)``, zero where ``mask`` is false; ``positions`` ``(N, T)``, int64: how
            many valid entries stand before, zero where ``mask`` is false.

        Raises:
            TypeError: ``xs`` is not a floating tensor of that dtype, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or a sequence longer than M.
        """
        where = "PositionalEmbedding.forward"
        mask = check_masked(where, mask, lengths, weight=(self.weight, "M D"), xs=(xs, "N T D"))
        longest = self.weight.shape[0]
        if xs.shape[1] > longest:
            raise ValueError(
                f"{where}: xs has shape {tuple(xs.shape)}, expected T <= M = {longest}"
            )
        counted = xs.new_ones(xs.shape[:2], dtype=torch.bool) if mask is None else mask
        positions = (counted.cumsum(1) - 1).masked_fill(~counted, 0)
        return valid(xs + nn.functional.embedding(positions, self.weight), mask), positions

    def extra_repr(self) -> str:
        return "{}, {}".format(*self.weight.shape)
