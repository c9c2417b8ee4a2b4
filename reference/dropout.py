"""Dropout."""

import numpy as np

from ._checks import check
from ._layer import Layer
from ._types import Array


class TimeDropout(Layer):
    """Sets entries to zero with probability ``dropout_ratio`` and scales the rest by 1 / (1 - ratio).

    Does nothing while the attribute ``train_flg`` is false. An infinite entry or NaN that is dropped becomes NaN.

    Source: Srivastava et al. 2014; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        dropout_ratio: probability in [0, 1) that an entry is dropped.
        rng: ``numpy.random.Generator`` that draws the masks; None for a fresh one.

    Raises:
        ValueError: a ratio outside [0, 1).
    """

    def __init__(self, dropout_ratio: float = 0.5, rng: np.random.Generator | None = None) -> None:
        if not 0 <= dropout_ratio < 1:
            raise ValueError(f"TimeDropout: dropout_ratio is {dropout_ratio}, expected 0 <= ratio < 1")
        super().__init__()
        self.dropout_ratio = dropout_ratio
        self.rng = np.random.default_rng() if rng is None else rng
        self.train_flg = True

    def forward(self, xs: Array, mask: Array | None = None) -> Array:
        """Drops entries.

        Args:
            xs: ``(N, T, D)``, floating.
            mask: boolean ``(N, T, D)``, true where an entry stays; None to draw one.

        Returns:
            ``(N, T, D)``, dtype of ``xs``.

        Raises:
            TypeError: ``xs`` is not floating, or ``mask`` not boolean.
            ValueError: shapes that do not fit.
        """
        given = {} if mask is None else {"mask": (mask, "bool N T D")}
        check("TimeDropout.forward", xs=(xs, "N T D"), **given)
        if not self.train_flg:
            mask = np.ones(xs.shape, dtype=bool)
        elif mask is None:
            mask = self.rng.random(xs.shape) >= self.dropout_ratio
        scale = 1 / (1 - float(self.dropout_ratio)) if self.train_flg else 1  # NumPy's float64 would widen float32
        self._save(xs.dtype, mask, scale)
        return xs * mask * scale

    def backward(self, dys: Array) -> Array:
        """Cotangent of ``xs``, through the same mask.

        Args:
            dys: cotangent of the output ``(N, T, D)``.

        Returns:
            ``dxs`` ``(N, T, D)``, dtype of ``xs``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dys`` has another shape than the output.
        """
        dtype, mask, scale = self._saved()
        self._check_cotangents(dys=(dys, mask.shape))
        return (dys * mask * scale).astype(dtype, copy=False)
