"""Affine maps, of single vectors and of sequences."""

import numpy as np

from ._checks import check
from ._layer import Layer, like
from ._types import Array


class Affine(Layer):
    """y = x W + b.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.

    Args:
        W: weights ``(D, H)``, floating.
        b: bias ``(H,)``, floating.

    Raises:
        TypeError: a parameter is not a floating array.
        ValueError: the shapes do not fit.
    """

    param_names = ("W", "b")
    _input, _axes = "x", "N D"

    def __init__(self, W: Array, b: Array) -> None:
        super().__init__(W, b)
        check(type(self).__name__, W=(W, "D H"), b=(b, "H"))

    def forward(self, x: Array) -> Array:
        """Maps each row.

        Args:
            x: ``(N, D)``, floating.

        Returns:
            ``(N, H)``, the promotion of the dtypes of ``x``, ``W`` and ``b``.

        Raises:
            TypeError: ``x`` is not a floating array.
            ValueError: its shape does not fit ``W``.
        """
        W, b = self.params
        check(f"{type(self).__name__}.forward", W=(W, "D H"), **{self._input: (x, self._axes)})
        y = np.matmul(x, W) + b
        self._save(x, y.shape)
        return y

    def backward(self, dy: Array) -> Array:
        """Cotangent of the input; writes the gradients of ``W`` and ``b``.

        Args:
            dy: cotangent of the output, its shape.

        Returns:
            Cotangent of the input, its shape and dtype.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dy`` has another shape than the output.
        """
        x, shape = self._saved()
        self._check_cotangents(dy=(dy, shape))
        W, _ = self.params
        rows = dy.reshape(-1, W.shape[1])
        self.grads[0][...] = np.matmul(x.reshape(-1, W.shape[0]).T, rows)
        self.grads[1][...] = rows.sum(axis=0)
        return like(np.matmul(dy, W.T), x)


class TimeAffine(Affine):
    """ys = xs W + b at every time step: ``Affine`` over ``xs`` ``(N, T, D)``, giving ``(N, T, H)``.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.
    """

    _input, _axes = "xs", "N T D"
