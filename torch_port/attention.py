"""Dot-product attention: weights, weighted sum, both, and over all decoder steps.

One decoder step is the case U = 1 of the batched products over all of them.
"""

import torch
from torch import Tensor

from ._checks import check, check_masked
from ._twin import Twin


class WeightSum(Twin):
    """c = sum over t of a_t hs_t: the context vector.

    Source: Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, hs: Tensor, a: Tensor) -> Tensor:
        """Weighted sum over time.

        Args:
            hs: encoder states ``(N, T, H)``, floating.
            a: weights ``(N, T)``, dtype of ``hs``.

        Returns:
            ``c`` ``(N, H)``.

        Raises:
            TypeError: an argument is not a floating tensor, or they differ in dtype.
            ValueError: shapes that do not fit.
        """
        check("WeightSum.forward", hs=(hs, "N T H"), a=(a, "N T"))
        return torch.bmm(a[:, None, :], hs)[:, 0]


class AttentionWeight(Twin):
    """a = softmax over t of hs_t . h: the unscaled dot product.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(
        self, hs: Tensor, h: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Weights of the encoder states.

        Args:
            hs: encoder states ``(N, T, H)``, floating.
            h: decoder state ``(N, H)``, dtype of ``hs``.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``a`` ``(N, T)``, rows summing to 1; a row with nothing valid is zero.

        Raises:
            TypeError: ``hs`` or ``h`` is not floating, they differ in dtype, or ``mask`` is not
                boolean.
            ValueError: shapes that do not fit.
        """
        mask = check_masked("AttentionWeight.forward", mask, lengths, hs=(hs, "N T H"), h=(h, "N H"))
        return attend(valid(hs, mask), h[:, None, :], mask)[:, 0]


class Attention(Twin):
    """``AttentionWeight``, then ``WeightSum`` of the same states.

    Attributes:
        attention_weight: weights ``(N, T)`` of the last ``forward``, detached; None before.

    Source: Saito, Deep Learning from Scratch 2, chapter 8.
    """

    attention_weight: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.weight = AttentionWeight()
        self.sum = WeightSum()
        self.attention_weight = None

    def forward(
        self, hs: Tensor, h: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Context of one decoder state.

        Args:
            hs: encoder states ``(N, T, H)``, floating.
            h: decoder state ``(N, H)``, dtype of ``hs``.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``c`` ``(N, H)``; zero in a row with nothing valid.

        Raises:
            TypeError: ``hs`` or ``h`` is not floating, they differ in dtype, or ``mask`` is not
                boolean.
            ValueError: shapes that do not fit.
        """
        mask = check_masked("Attention.forward", mask, lengths, hs=(hs, "N T H"), h=(h, "N H"))
        hs = valid(hs, mask)
        a = self.weight(hs, h, mask)
        if not torch.compiler.is_exporting():  # nothing is kept of a trace
            self.attention_weight = a.detach()
        c: Tensor = self.sum(hs, a)
        return c


class TimeAttention(Twin):
    """``Attention`` of every decoder state over all encoder states, as two batched products.

    Source: Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def __init__(self) -> None:
        super().__init__()
        self._weights: Tensor | None = None

    @property
    def attention_weights(self) -> list[Tensor] | None:
        """Detached weights ``(N, T)`` of each decoder step of the last ``forward``; None before.

        After ``generate`` of a model, those of all steps that it took.
        """
        return None if self._weights is None else list(self._weights.unbind(1))

    def forward(
        self, hs_enc: Tensor, hs_dec: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Contexts of all decoder states.

        Args:
            hs_enc: encoder states ``(N, T, H)``, floating.
            hs_dec: decoder states ``(N, U, H)``, dtype of ``hs_enc``; U may differ from T.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``cs`` ``(N, U, H)``; zero in a row with nothing valid.

        Raises:
            TypeError: ``hs_enc`` or ``hs_dec`` is not floating, they differ in dtype, or ``mask``
                is not boolean.
            ValueError: shapes that do not fit.
        """
        where = "TimeAttention.forward"
        mask = check_masked(where, mask, lengths, hs_enc=(hs_enc, "N T H"), hs_dec=(hs_dec, "N U H"))
        hs_enc = valid(hs_enc, mask)
        a = attend(hs_enc, hs_dec, mask)
        if not torch.compiler.is_exporting():  # nothing is kept of a trace
            self._weights = a.detach()
        return torch.bmm(a, hs_enc)


def attend(hs_enc: Tensor, hs_dec: Tensor, mask: Tensor | None) -> Tensor:
    """Weights ``(N, U, T)`` of encoder states ``(N, T, H)`` for decoder states ``(N, U, H)``."""
    scores = torch.bmm(hs_dec, hs_enc.transpose(1, 2))
    if mask is None:
        return torch.softmax(scores, dim=-1)
    mask = mask[:, None, :]
    # a row with nothing valid is filled with 0, not -inf, so that no derivative becomes NaN
    scores = scores.masked_fill(~mask, -torch.inf).masked_fill(~mask.any(-1, keepdim=True), 0)
    return torch.softmax(scores, dim=-1).masked_fill(~mask, 0)


def valid(hs: Tensor, mask: Tensor | None) -> Tensor:
    """States ``(N, T, H)`` with zeros where ``mask`` ``(N, T)`` is false; None masks nothing."""
    return hs if mask is None else hs.masked_fill(~mask[:, :, None], 0)
