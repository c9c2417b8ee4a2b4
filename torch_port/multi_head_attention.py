"""Multi-head attention."""

import torch
from torch import Tensor, nn

from ._checks import check_masked, check_sizes
from ._twin import Slot, Twin, textbook_init_
from .attention import attend, valid


class MultiHeadAttention(Twin):
    """softmax(q k^T / sqrt(K)) v in each of ``heads`` parts of width K = D / heads, one more product.

    Its parameters are those of ``nn.MultiheadAttention(D, heads, bias=False)``, under the same
    names: the weights of queries, keys and values packed in one.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.2.

    Args:
        embed_dim: D, >= 1.
        heads: number of heads, >= 1; divides D.
        device, dtype: of the parameters.

    Raises:
        TypeError: an argument is no integer.
        ValueError: a number below 1, or ``heads`` does not divide D.
    """

    slots = {
        "Wq": Slot("in_proj_weight", transposed=True, part=(0, 3)),
        "Wk": Slot("in_proj_weight", transposed=True, part=(1, 3)),
        "Wv": Slot("in_proj_weight", transposed=True, part=(2, 3)),
        "Wo": Slot("out_proj.weight", transposed=True),
    }
    sizes = ((0, 0),)
    options = ("heads",)

    def __init__(
        self,
        embed_dim: int,
        heads: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        D, self.heads = check_sizes("MultiHeadAttention", embed_dim=embed_dim, heads=heads)
        if D % self.heads:
            raise ValueError(
                f"MultiHeadAttention: heads is {heads}, expected >= 1 and a divisor of D = {D}"
            )
        self.in_proj_weight = nn.Parameter(torch.empty(3 * D, D, device=device, dtype=dtype))
        self.out_proj = nn.Linear(D, D, bias=False, device=device, dtype=dtype)
        self._weights: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the textbook's initial weights."""
        textbook_init_(self.in_proj_weight, self.out_proj.weight)

    @property
    def attention_weights(self) -> Tensor | None:
        """Detached weights ``(N, heads, U, T)`` of the last ``forward``; None before."""
        return self._weights

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Attends from every query to all keys.

        Args:
            query: ``(N, U, D)``, dtype of the weights (under autocast, any that it casts).
            key, value: ``(N, T, D)``, the same.
            mask: boolean ``(N, T)``, true at valid keys; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``(N, U, D)``; zero where no key is valid.

        Raises:
            TypeError: an argument is not a floating tensor of that dtype, or ``mask`` not boolean.
            ValueError: shapes that do not fit.
        """
        weight = self.in_proj_weight
        mask = check_masked("MultiHeadAttention.forward", mask, lengths, in_proj_weight=(weight, "3D D"),
                            query=(query, "N U D"), key=(key, "N T D"), value=(value, "N T D"))
        # contiguous: else torch chooses its product by whether a gradient is asked for, and rounds otherwise
        given = (x.contiguous() for x in (query, valid(key, mask), valid(value, mask)))
        q, k, v = (self._split(x @ w.T) for x, w in zip(given, weight.chunk(3), strict=True))
        mask = None if mask is None else mask.repeat_interleave(self.heads, 0)
        a = attend(k, q / q.shape[-1] ** 0.5, mask)
        if not torch.compiler.is_exporting():  # nothing is kept of a trace
            self._weights = a.detach().unflatten(0, (-1, self.heads))
        y: Tensor = self.out_proj(self._join(a @ v).contiguous())
        return y

    def _split(self, x: Tensor) -> Tensor:
        """``(N, U, D)`` as ``(N heads, U, K)``."""
        parts: Tensor = x.unflatten(-1, (self.heads, -1))
        return parts.transpose(1, 2).flatten(0, 1)

    def _join(self, x: Tensor) -> Tensor:
        """``(N heads, U, K)`` as ``(N, U, D)``."""
        parts: Tensor = x.unflatten(0, (-1, self.heads))
        return parts.transpose(1, 2).flatten(2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
