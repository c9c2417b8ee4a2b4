"""Softmax and cross entropy in one, of single rows and of sequences."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check, check_index
from ._twin import Twin


class SoftmaxWithLoss(Twin):
    """loss = mean over the rows of -log softmax(x)[t], through log-softmax: it never overflows.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.
    """

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Mean loss of the rows; 0 for a batch of none.

        Args:
            x: logits ``(N, V)``, floating.
            t: class indices ``(N,)``, integer, or one-hot rows ``(N, V)`` of any dtype: the place
                of the largest entry.

        Returns:
            The loss, a scalar of the dtype of ``x`` (float32 under autocast), in nats.

        Raises:
            IndexError: a label out of range or negative (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        where = "SoftmaxWithLoss.forward"
        check(where, x=(x, "N V"))
        t = class_indices(where, "t", t, x, "N")
        return _mean(F.cross_entropy(x, t, reduction="none"), max(t.shape[0], 1))


class TimeSoftmaxWithLoss(Twin):
    """Mean of -log softmax(xs)[ts] over all time steps whose label is not ``ignore_label``.

    Logits of the others have no influence, not even NaN or inf.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        ignore_label: label of the time steps that do not count.
    """

    options = ("ignore_label",)

    def __init__(self, ignore_label: int = -1) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, xs: Tensor, ts: Tensor) -> Tensor:
        """Mean loss of the labels that count; 0 where none does.

        Args:
            xs: logits ``(N, T, V)``, floating.
            ts: class indices ``(N, T)``, integer, or one-hot rows ``(N, T, V)`` of any dtype: the
                place of the largest entry.

        Returns:
            The loss, a scalar of the dtype of ``xs`` (float32 under autocast), in nats.

        Raises:
            IndexError: a label out of range that is not ``ignore_label`` (on CUDA, see
                ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        where = "TimeSoftmaxWithLoss.forward"
        check(where, xs=(xs, "N T V"))
        labels = class_indices(where, "ts", ts, xs, "N T", self.ignore_label).flatten()
        ignored = labels == self.ignore_label
        # filled before the logarithm: cross_entropy's own ignore_index lets NaN into the gradient
        rows = xs.flatten(0, 1).masked_fill(ignored[:, None], 0)
        losses = F.cross_entropy(rows, labels.masked_fill(ignored, 0), reduction="none")
        return _mean(losses.masked_fill(ignored, 0), (~ignored).sum().clamp(min=1))

    def extra_repr(self) -> str:
        return f"ignore_label={self.ignore_label}"


def class_indices(
    where: str, name: str, labels: Tensor, logits: Tensor, axes: str, ignore: int | None = None
) -> Tensor:
    """Labels as int64 indices, from indices or one-hot rows, checked against the logits."""
    if isinstance(labels, Tensor) and labels.ndim == logits.ndim:
        if labels.shape != logits.shape:
            raise ValueError(f"{where}: {name} has shape {tuple(labels.shape)}, "
                             f"expected {tuple(logits.shape)} if one-hot")
        return (labels if labels.is_floating_point() else labels.long()).argmax(dim=-1)
    check(where, logits=(logits, f"{axes} V"), **{name: (labels, f"int {axes}")})
    labels = labels.long()
    check_index(where, {name: labels}, logits.shape[-1], ignore)
    return labels


def _mean(losses: Tensor, count: Tensor | int) -> Tensor:
    # a float16 sum overflows where the mean does not
    wide = torch.promote_types(losses.dtype, torch.float32)
    return (losses.sum(dtype=wide) / count).to(losses.dtype)
