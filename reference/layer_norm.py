"""Layer normalisation."""

import numpy as np

from ._checks import check
from ._layer import Layer, like
from ._types import Array


class LayerNorm(Layer):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, mean and biased variance over the last axis.

    Source: Ba, Kiros, Hinton, Layer Normalization, 2016.

    Args:
        gamma: gain ``(D,)``, floating.
        beta: bias ``(D,)``, floating.
        eps: what is added to the variance, > 0.

    Raises:
        TypeError: a parameter is not a floating array.
        ValueError: the shapes do not fit, or ``eps`` is not positive.
    """

    param_names = ("gamma", "beta")

    def __init__(self, gamma: Array, beta: Array, eps: float = 1e-05) -> None:
        super().__init__(gamma, beta)
        check("LayerNorm", gamma=(gamma, "D"), beta=(beta, "D"))
        if not eps > 0:
            raise ValueError(f"LayerNorm: eps is {eps}, expected > 0")
        self.eps = eps

    def forward(self, x: Array) -> Array:
        """Normalises each row.

        Args:
            x: ``(..., D)``, floating.

        Returns:
            ``(..., D)``, the promotion of the dtypes of ``x``, ``gamma`` and ``beta``.

        Raises:
            TypeError: ``x`` is not a floating array.
            ValueError: its last axis does not fit the parameters.
        """
        gamma, beta = self.params
        check("LayerNorm.forward", gamma=(gamma, "D"), x=(x, "... D"))
        x = x.copy()  # in C order: only along memory does NumPy add up pairwise, and errs little
        centred = x - x.mean(axis=-1, keepdims=True)
        std = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + float(self.eps))
        normalised = centred / std
        self._save(normalised, std)
        return gamma * normalised + beta

    def backward(self, dy: Array) -> Array:
        """Cotangent of ``x``, through the mean and the variance too; writes the gradients of ``gamma`` and ``beta``.

        Args:
            dy: cotangent of the output, its shape.

        Returns:
            ``dx``, shape and dtype of ``x``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dy`` has another shape than the output.
        """
        normalised, std = self._saved()
        self._check_cotangents(dy=(dy, normalised.shape))
        gamma, _ = self.params
        rows = tuple(range(dy.ndim - 1))
        self.grads[0][...] = (dy * normalised).sum(axis=rows)
        self.grads[1][...] = dy.sum(axis=rows)
        dn = dy * gamma
        along = (dn * normalised).mean(axis=-1, keepdims=True)
        return like((dn - dn.mean(axis=-1, keepdims=True) - normalised * along) / std, normalised)
