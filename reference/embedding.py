"""Rows of a matrix by index."""

import numpy as np

from ._checks import check, check_index
from ._layer import Layer
from ._types import Array


class Embedding(Layer):
    """y = W[idx]; indices that occur more than once add up in the gradient.

    Source: Saito, Deep Learning from Scratch 2, chapter 4.

    Args:
        W: one row a word ``(V, D)``, floating.

    Raises:
        TypeError: ``W`` is not a floating array.
        ValueError: it does not have two axes.
    """

    param_names = ("W",)
    _input, _axes = "idx", "int N"

    def __init__(self, W: Array) -> None:
        super().__init__(W)
        check(type(self).__name__, W=(W, "V D"))

    def forward(self, idx: Array) -> Array:
        """Looks the rows up.

        Args:
            idx: ``(N,)``, integer, 0 <= idx < V.

        Returns:
            ``(N, D)``, dtype of ``W``.

        Raises:
            IndexError: an index out of range or negative.
            TypeError: ``idx`` is not an integer array.
            ValueError: it does not have the axes above.
        """
        (W,) = self.params
        where = f"{type(self).__name__}.forward"
        check(where, **{self._input: (idx, self._axes)})
        check_index(where, self._input, idx, len(W))
        self._save(idx)
        return W[idx]

    def backward(self, dy: Array) -> None:
        """Writes the gradient of ``W``; an index has none.

        Args:
            dy: cotangent of the output, its shape.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dy`` has another shape than the output.
        """
        (idx,) = self._saved()
        (dW,) = self.grads
        self._check_cotangents(dy=(dy, idx.shape + dW.shape[1:]))
        total = np.zeros_like(dy, shape=dW.shape)
        np.add.at(total, idx, dy)
        dW[...] = total


class TimeEmbedding(Embedding):
    """ys = W[xs] at every time step: ``Embedding`` over ``xs`` ``(N, T)``, giving ``(N, T, D)``.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.
    """

    _input, _axes = "xs", "int N T"
