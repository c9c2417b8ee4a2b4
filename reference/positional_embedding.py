"""Learned positions."""

import numpy as np

from ._checks import check, check_masked
from ._layer import Layer
from ._types import Array
from .attention import valid


class PositionalEmbedding(Layer):
    """ys = xs + W[positions]: a learned row for each position among the valid ones of a sequence.

    Source: Gehring et al. 2017; Vaswani et al., Attention Is All You Need, 2017, section 3.5.

    Args:
        W: one row a position ``(M, D)``, floating.

    Raises:
        TypeError: ``W`` is not a floating array.
        ValueError: it does not have two axes.
    """

    param_names = ("W",)

    def __init__(self, W: Array) -> None:
        super().__init__(W)
        check("PositionalEmbedding", W=(W, "M D"))

    def forward(self, xs: Array, mask: Array | None = None, *, lengths: Array | None = None) -> tuple[Array, Array]:
        """Adds to each entry of a sequence the row of its position.

        Args:
            xs: ``(N, T, D)``, floating, T <= M.
            mask: boolean ``(N, T)``, true at valid entries, which alone count; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``ys`` ``(N, T, D)``, the promotion of the dtypes of ``xs`` and ``W``, zero where ``mask`` is false;
            ``positions`` ``(N, T)``, int64: how many valid entries stand before, zero where ``mask`` is false.

        Raises:
            TypeError: ``xs`` is not floating, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or a sequence longer than M.
        """
        (W,) = self.params
        where = "PositionalEmbedding.forward"
        mask = check_masked(where, mask, lengths, W=(W, "M D"), xs=(xs, "N T D"))
        if xs.shape[1] > len(W):
            raise ValueError(f"{where}: xs has shape {xs.shape}, expected T <= M = {len(W)}")
        counted = np.ones(xs.shape[:2], bool) if mask is None else mask
        positions = np.where(counted, counted.cumsum(axis=1) - 1, 0)
        self._save(xs.dtype, mask, positions)
        return valid(xs + W[positions], mask), positions

    def backward(self, dys: Array) -> Array:
        """Cotangent of ``xs``; writes the gradient of ``W``; positions have none.

        Args:
            dys: cotangent of ``ys`` ``(N, T, D)``.

        Returns:
            ``dxs`` ``(N, T, D)``, dtype of ``xs``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dys`` has another shape than the output.
        """
        dtype, mask, positions = self._saved()
        (dW,) = self.grads
        self._check_cotangents(dys=(dys, positions.shape + dW.shape[1:]))
        dys = valid(dys, mask).copy()  # or the gradient would be the caller's own cotangent
        total = np.zeros_like(dys, shape=dW.shape)
        np.add.at(total, positions, dys)
        dW[...] = total
        return dys.astype(dtype, copy=False)
