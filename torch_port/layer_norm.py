"""Layer normalisation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._checks import check, check_sizes
from ._twin import Slot, Twin

HALF = (torch.bfloat16, torch.float16)


class LayerNorm(Twin, nn.LayerNorm):
    """y = gamma (x - mean) / sqrt(var + eps) + beta over the last axis: an ``nn.LayerNorm``, with more digits.

    Torch's kernels differentiate with digits lost where the mean is far from zero, and on the CPU add up the gradients
    of gamma and beta in half precision: the mean is taken off first, and half precision computes in float32.

    Source: Ba, Kiros, Hinton, Layer Normalization, 2016.

    Args:
        num_features: D, >= 1.
        eps: what is added to the variance, > 0.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or ``eps`` is not positive.
    """

    slots = {"gamma": Slot("weight"), "beta": Slot("bias")}
    sizes = ((0, 0),)
    options = ("eps",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not eps > 0:
            raise ValueError(f"LayerNorm: eps is {eps}, expected > 0")
        (D,) = check_sizes("LayerNorm", num_features=num_features)
        super().__init__(D, eps, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises each row.

        Args:
            x: ``(..., D)``, dtype of the weights (under autocast, any that it casts).

        Returns:
            ``(..., D)``.

        Raises:
            TypeError: ``x`` is not a floating tensor of that dtype.
            ValueError: its last axis does not fit the weights.
        """
        check("LayerNorm.forward", weight=(self.weight, "D"), x=(x, "... D"))
        wide = x.float() if x.dtype in HALF else x
        centred = wide - wide.mean(dim=-1, keepdim=True).detach()  # its gradient is the same, as no shift is seen
        gamma, beta = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(centred, self.normalized_shape, gamma, beta, self.eps).to(self.weight.dtype)
