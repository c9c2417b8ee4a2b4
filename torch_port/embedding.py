"""Rows of a matrix by index."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ._checks import check, check_index, check_sizes
from ._twin import Slot, Twin


class Embedding(Twin, nn.Embedding):
    """y = W[idx]; indices that occur more than once add up in the gradient.

    Source: Saito, Deep Learning from Scratch 2, chapter 4.

    Args:
        num_embeddings, embedding_dim: V and D, each >= 1.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    slots = {"W": Slot("weight")}
    sizes = ((0, 0), (0, 1))
    _input: ClassVar[tuple[str, str]] = ("idx", "int N")

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        V, D = check_sizes(
            type(self).__name__, num_embeddings=num_embeddings, embedding_dim=embedding_dim
        )
        super().__init__(V, D, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draws the textbook's initial weights: normal, standard deviation 0.01."""
        with torch.no_grad():
            self.weight.normal_(std=0.01)

    def forward(self, idx: Tensor) -> Tensor:
        """Looks the rows up.

        Args:
            idx: ``(N,)``, integer, 0 <= idx < V.

        Returns:
            ``(N, D)``, dtype of the weights.

        Raises:
            IndexError: an index out of range or negative (on CUDA, see ``index_checks``).
            TypeError: ``idx`` is not an integer tensor.
            ValueError: it does not have the axes above.
        """
        where = f"{type(self).__name__}.forward"
        name, axes = self._input
        check(where, **{name: (idx, axes)})
        idx = idx.long()
        check_index(where, {name: idx}, self.num_embeddings)
        return super().forward(idx)


class TimeEmbedding(Embedding):
    """ys = W[xs] at every time step: ``Embedding`` over ``xs`` ``(N, T)``, giving ``(N, T, D)``.

    Source: Saito, Deep Learning from Scratch 2, chapter 5.
    """

    _input = ("xs", "int N T")
