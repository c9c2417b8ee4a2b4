"""Softmax over the last axis."""

from ._checks import check
from ._functions import softmax, softmax_backward
from ._layer import Layer, like
from ._types import Array


class Softmax(Layer):
    """y = exp(x) / sum(exp(x)) over the last axis of any number of axes, without overflow.

    The textbook's returns three axes unchanged; this one normalises them.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.
    """

    def forward(self, x: Array) -> Array:
        """Normalises.

        Args:
            x: logits ``(..., V)``, floating, V >= 1.

        Returns:
            Weights ``(..., V)``, positive, each row summing to 1, dtype of ``x``.

        Raises:
            TypeError: ``x`` is not a floating array.
            ValueError: no axis, or an empty last one.
        """
        check("Softmax.forward", x=(x, "... V"))
        y = softmax(x)
        self._save(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Cotangent of the logits.

        Args:
            dy: cotangent of the weights ``(..., V)``.

        Returns:
            ``dx`` ``(..., V)``, dtype of ``x``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dy`` has another shape than the output.
        """
        (y,) = self._saved()
        self._check_cotangents(dy=(dy, y.shape))
        return like(softmax_backward(dy, y), y)
