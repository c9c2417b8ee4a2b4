"""Dot-product attention: weights, weighted sum, both, and over all decoder steps."""

import numpy as np

from ._checks import check, check_masked
from ._functions import softmax, softmax_backward
from ._layer import Composite, Layer, like
from ._types import Array


def valid(hs: Array, mask: Array | None) -> Array:
    """States ``(N, T, H)`` with zeros where ``mask`` ``(N, T)`` is false, whatever stands there; None masks nothing."""
    return hs if mask is None else np.where(mask[:, :, None], hs, 0)


class WeightSum(Layer):
    """c = sum over t of a_t hs_t: the context vector.

    Source: Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, hs: Array, a: Array) -> Array:
        """Weighted sum over time.

        Args:
            hs: encoder states ``(N, T, H)``, floating.
            a: weights ``(N, T)``, floating.

        Returns:
            ``c`` ``(N, H)``.

        Raises:
            TypeError: an argument is not a floating array.
            ValueError: shapes that do not fit.
        """
        check("WeightSum.forward", hs=(hs, "N T H"), a=(a, "N T"))
        self._save(hs, a)
        return np.matmul(a[:, None, :], hs)[:, 0]

    def backward(self, dc: Array) -> tuple[Array, Array]:
        """Cotangents of states and weights.

        Args:
            dc: cotangent of ``c`` ``(N, H)``.

        Returns:
            ``dhs`` ``(N, T, H)``, ``da`` ``(N, T)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dc`` has another shape than the output.
        """
        hs, a = self._saved()
        self._check_cotangents(dc=(dc, hs.shape[::2]))
        return like(a[:, :, None] * dc[:, None, :], hs), like(np.matmul(hs, dc[:, :, None])[:, :, 0], a)


class AttentionWeight(Layer):
    """a = softmax over t of hs_t . h: the unscaled dot product.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, hs: Array, h: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Weights of the encoder states.

        Args:
            hs: encoder states ``(N, T, H)``, floating.
            h: decoder state ``(N, H)``, floating.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``a`` ``(N, T)``, rows summing to 1; a row with nothing valid is zero.

        Raises:
            TypeError: ``hs`` or ``h`` is not floating, or ``mask`` not boolean.
            ValueError: shapes that do not fit.
        """
        mask = check_masked("AttentionWeight.forward", mask, lengths, hs=(hs, "N T H"), h=(h, "N H"))
        hs = valid(hs, mask)
        a = softmax(np.matmul(hs, h[:, :, None])[:, :, 0], mask)
        self._save(hs, h, mask, a)
        return a

    def backward(self, da: Array) -> tuple[Array, Array]:
        """Cotangents of the states.

        Args:
            da: cotangent of ``a`` ``(N, T)``.

        Returns:
            ``dhs`` ``(N, T, H)``, ``dh`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``da`` has another shape than the output.
        """
        hs, h, mask, a = self._saved()
        self._check_cotangents(da=(da, a.shape))
        ds = softmax_backward(da, a, mask)
        dhs = valid(ds[:, :, None] * h[:, None, :], mask)
        return like(dhs, hs), like(np.matmul(ds[:, None, :], hs)[:, 0], h)


class Attention(Composite):
    """``AttentionWeight``, then ``WeightSum`` of the same states.

    Attributes:
        attention_weight: weights ``(N, T)`` of the last ``forward``.

    Source: Saito, Deep Learning from Scratch 2, chapter 8.
    """

    weight: AttentionWeight
    sum: WeightSum

    def __init__(self) -> None:
        super().__init__(weight=AttentionWeight(), sum=WeightSum())
        self.attention_weight: Array | None = None

    def forward(self, hs: Array, h: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Context of one decoder state.

        Args:
            hs: encoder states ``(N, T, H)``, floating.
            h: decoder state ``(N, H)``, floating.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``c`` ``(N, H)``; zero in a row with nothing valid.

        Raises:
            TypeError: ``hs`` or ``h`` is not floating, or ``mask`` not boolean.
            ValueError: shapes that do not fit.
        """
        mask = check_masked("Attention.forward", mask, lengths, hs=(hs, "N T H"), h=(h, "N H"))
        hs = valid(hs, mask)
        self.attention_weight = self.weight.forward(hs, h, mask)
        c = self.sum.forward(hs, self.attention_weight)
        self._save(c.shape, mask)
        return c

    def backward(self, dc: Array) -> tuple[Array, Array]:
        """Cotangents of the states, through the sum and through the weights.

        Args:
            dc: cotangent of ``c`` ``(N, H)``.

        Returns:
            ``dhs`` ``(N, T, H)``, ``dh`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dc`` has another shape than the output.
        """
        shape, mask = self._saved()
        self._check_cotangents(dc=(dc, shape))
        dhs_sum, da = self.sum.backward(dc)
        dhs_weight, dh = self.weight.backward(da)
        return valid(dhs_sum, mask) + dhs_weight, dh


class TimeAttention(Layer):
    """``Attention`` of every decoder state over all encoder states, as three batched products.

    Attributes:
        attention_weights: list of the weights ``(N, T)`` of each decoder step of the last ``forward``.

    Source: Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attention_weights: list[Array] | None = None

    def forward(self, hs_enc: Array, hs_dec: Array, mask: Array | None = None, *,
                lengths: Array | None = None) -> Array:
        """Contexts of all decoder states.

        Args:
            hs_enc: encoder states ``(N, T, H)``, floating.
            hs_dec: decoder states ``(N, U, H)``, floating; U may differ from T.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``cs`` ``(N, U, H)``; zero in a row with nothing valid.

        Raises:
            TypeError: ``hs_enc`` or ``hs_dec`` is not floating, or ``mask`` not boolean.
            ValueError: shapes that do not fit.
        """
        mask = check_masked("TimeAttention.forward", mask, lengths, hs_enc=(hs_enc, "N T H"), hs_dec=(hs_dec, "N U H"))
        hs_enc = valid(hs_enc, mask)
        mask = None if mask is None else mask[:, None, :]
        a = softmax(np.matmul(hs_dec, hs_enc.transpose(0, 2, 1)), mask)
        self.attention_weights = [a[:, u] for u in range(a.shape[1])]
        self._save(hs_enc, hs_dec, mask, a)
        return np.matmul(a, hs_enc)

    def backward(self, dcs: Array) -> tuple[Array, Array]:
        """Cotangents of encoder and decoder states.

        Args:
            dcs: cotangent of ``cs`` ``(N, U, H)``.

        Returns:
            ``dhs_enc`` ``(N, T, H)``, ``dhs_dec`` ``(N, U, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dcs`` has another shape than the output.
        """
        hs_enc, hs_dec, mask, a = self._saved()
        self._check_cotangents(dcs=(dcs, hs_dec.shape))
        ds = softmax_backward(np.matmul(dcs, hs_enc.transpose(0, 2, 1)), a, mask)
        dhs_enc = np.matmul(a.transpose(0, 2, 1), dcs) + np.matmul(ds.transpose(0, 2, 1), hs_dec)
        dhs_enc = valid(dhs_enc, None if mask is None else mask[:, 0])
        return like(dhs_enc, hs_enc), like(np.matmul(ds, hs_enc), hs_dec)
