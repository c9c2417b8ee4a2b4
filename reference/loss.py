"""Softmax and cross entropy in one, of single rows and of sequences."""

from typing import Any

import numpy as np

from ._checks import check, check_index
from ._functions import log_softmax
from ._layer import Layer, like
from ._types import Array


def class_indices(where: str, name: str, labels: Array, logits: Array, axes: str, ignore: int | None = None) -> Array:
    """Labels as indices: as they are, or the place of the largest entry of one-hot rows, checked against the logits."""
    if isinstance(labels, np.ndarray) and labels.ndim == logits.ndim:
        if labels.shape != logits.shape:
            raise ValueError(f"{where}: {name} has shape {labels.shape}, expected {logits.shape} if one-hot")
        return labels.argmax(axis=-1)
    check(where, logits=(logits, f"{axes} V"), **{name: (labels, f"int {axes}")})
    check_index(where, name, labels, logits.shape[-1], ignore)
    return labels


def cross_entropy(x: Array, t: Array) -> Any:
    """Mean of -log softmax(x)[t] over the rows (0 for none) and the weights softmax(x)."""
    logp = log_softmax(x)
    losses = -logp[np.arange(len(t)), t]
    # a mean, as a float16 sum overflows where that does not
    return losses.mean() if len(t) else losses.sum(), np.exp(logp)


def cross_entropy_backward(dout: Array | float, y: Array, t: Array) -> Array:
    """Cotangent of the logits of ``cross_entropy``."""
    dx = y.copy()
    dx[np.arange(len(t)), t] -= 1
    return dx * (dout / max(len(t), 1))


class SoftmaxWithLoss(Layer):
    """loss = mean over the rows of -log softmax(x)[t], through log-softmax, so that it never overflows.

    The textbook's log(p + 1e-7) gives 16.1 where the loss is 40, and a backward that is not the
    derivative of that.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.
    """

    def forward(self, x: Array, t: Array) -> Array:
        """Mean loss of the rows; 0 for a batch of none.

        Args:
            x: logits ``(N, V)``, floating.
            t: class indices ``(N,)``, integer, or one-hot rows ``(N, V)`` of any dtype: the place of
                the largest entry.

        Returns:
            The loss, a scalar of the dtype of ``x``, in nats.

        Raises:
            IndexError: a label out of range or negative.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        check("SoftmaxWithLoss.forward", x=(x, "N V"))
        t = class_indices("SoftmaxWithLoss.forward", "t", t, x, "N")
        loss, y = cross_entropy(x, t)
        self._save(y, t)
        return loss

    def backward(self, dout: Array | float = 1) -> Array:
        """Cotangent of the logits.

        Args:
            dout: cotangent of the loss, a scalar.

        Returns:
            ``dx`` ``(N, V)``, dtype of ``x``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dout`` is not a scalar.
        """
        y, t = self._saved()
        self._check_cotangents(dout=(dout, ()))
        return like(cross_entropy_backward(dout, y, t), y)


class TimeSoftmaxWithLoss(Layer):
    """Mean of -log softmax(xs)[ts] over all time steps whose label is not ``ignore_label``.

    Rows that are left out are left out before the logarithm, whatever their logits.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        ignore_label: label of the time steps that do not count.
    """

    def __init__(self, ignore_label: int = -1) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, xs: Array, ts: Array) -> Array:
        """Mean loss of the labels that count; 0 where none does.

        Args:
            xs: logits ``(N, T, V)``, floating.
            ts: class indices ``(N, T)``, integer, or one-hot rows ``(N, T, V)`` of any dtype: the place
                of the largest entry.

        Returns:
            The loss, a scalar of the dtype of ``xs``, in nats.

        Raises:
            IndexError: a label out of range that is not ``ignore_label``.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        check("TimeSoftmaxWithLoss.forward", xs=(xs, "N T V"))
        ts = class_indices("TimeSoftmaxWithLoss.forward", "ts", ts, xs, "N T", self.ignore_label)
        counts = ts != self.ignore_label
        loss, y = cross_entropy(xs[counts], ts[counts])
        self._save(y, ts, counts)
        return loss

    def backward(self, dout: Array | float = 1) -> Array:
        """Cotangent of the logits, zero where the label is ignored.

        Args:
            dout: cotangent of the loss, a scalar.

        Returns:
            ``dxs`` ``(N, T, V)``, dtype of ``xs``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dout`` is not a scalar.
        """
        y, ts, counts = self._saved()
        self._check_cotangents(dout=(dout, ()))
        dxs = np.zeros_like(y, shape=(*ts.shape, y.shape[-1]))
        dxs[counts] = cross_entropy_backward(dout, y, ts[counts])
        return dxs
