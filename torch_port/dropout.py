"""Dropout."""

import torch.nn.functional as F
from torch import Tensor

from ._checks import check
from ._twin import Twin


class TimeDropout(Twin):
    """Sets entries to zero with probability ``dropout_ratio``, scales the rest by 1 / (1 - ratio).

    Does nothing in evaluation mode. An infinite entry or NaN that is dropped becomes NaN, as in ``F.dropout``.

    Source: Srivastava et al. 2014; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        dropout_ratio: probability in [0, 1) that an entry is dropped.

    Raises:
        ValueError: a ratio outside [0, 1).
    """

    options = ("dropout_ratio",)

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        if not 0 <= dropout_ratio < 1:
            raise ValueError(
                f"TimeDropout: dropout_ratio is {dropout_ratio}, expected 0 <= ratio < 1"
            )
        super().__init__()
        self.dropout_ratio = dropout_ratio

    def forward(self, xs: Tensor, mask: Tensor | None = None) -> Tensor:
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
        if not self.training or (mask is None and not self.dropout_ratio):
            return xs.clone()  # the caller's own, which that of F.dropout is not
        if mask is None:
            return F.dropout(xs, self.dropout_ratio)
        return xs * (mask.to(xs.dtype) * (1 / (1 - self.dropout_ratio)))

    def extra_repr(self) -> str:
        return f"dropout_ratio={self.dropout_ratio}"
