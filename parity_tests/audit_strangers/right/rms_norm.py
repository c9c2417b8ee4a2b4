import numpy as np


class RMSNorm:
    """Root mean square layer normalisation (Zhang & Sennrich, 2019)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        self.eps = eps
        self.weight = np.ones(dim)
        self.grad_weight = np.zeros(dim)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._x = x
        self._rstd = 1.0 / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + self.eps)
        return x * self._rstd * self.weight

    def backward(self, grad: np.ndarray) -> np.ndarray:
        x, r = self._x, self._rstd
        lead = tuple(range(x.ndim - 1))
        self.grad_weight = np.sum(grad * x * r, axis=lead)
        g = grad * self.weight
        return r * g - x * r ** 3 * np.mean(g * x, axis=-1, keepdims=True)
