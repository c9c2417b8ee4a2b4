"""Softmax over the last axis."""

import torch
from torch import Tensor

from ._checks import check
from ._twin import Twin


class Softmax(Twin):
    """y = exp(x) / sum(exp(x)) over the last axis of any number of axes, without overflow.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises.

        Args:
            x: logits ``(..., V)``, floating, V >= 1.

        Returns:
            Weights ``(..., V)``, each row summing to 1, dtype of ``x``.

        Raises:
            TypeError: ``x`` is not a floating tensor.
            ValueError: no axis, or an empty last one.
        """
        check("Softmax.forward", x=(x, "... V"))
        return torch.softmax(x, dim=-1)
