"""Affine maps, of single vectors and of sequences."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ._checks import check, check_sizes
from ._twin import Slot, Twin, textbook_init_


class Affine(Twin, nn.Linear):
    """y = x W + b: an ``nn.Linear`` whose reference weight is ``(in, out)``.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.

    Args:
        in_features, out_features: D and H, each >= 1.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    slots = {"W": Slot("weight", transposed=True), "b": Slot("bias")}
    sizes = ((0, 0), (0, 1))
    _input: ClassVar[tuple[str, str]] = ("x", "N D")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        D, H = check_sizes(type(self).__name__, in_features=in_features, out_features=out_features)
        super().__init__(D, H, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draws the textbook's initial weights."""
        textbook_init_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps each row.

        Args:
            x: ``(N, D)``, dtype of the weights (under autocast, any that it casts).

        Returns:
            ``(N, H)``.

        Raises:
            TypeError: ``x`` is not a floating tensor of that dtype.
            ValueError: its shape does not fit the weights.
        """
        name, axes = self._input
        check(f"{type(self).__name__}.forward", weight=(self.weight, "H D"), **{name: (x, axes)})
        # contiguous: else torch chooses its product by whether a gradient is asked for, and rounds otherwise
        return super().forward(x.contiguous())


class TimeAffine(Affine):
    """ys = xs W + b at every time step: ``Affine`` over ``xs`` ``(N, T, D)``, giving ``(N, T, H)``.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.
    """

    _input = ("xs", "N T D")
