from __future__ import annotations

from typing import Optional

import numpy as np


class Dense:
    def __init__(self, in_features: int, out_features: int, bias: bool = True, rng: Optional[np.random.Generator] = None):
        rng = rng or np.random.default_rng(0)
        limit = np.sqrt(6.0 / (in_features + out_features))
        self.W = rng.uniform(-limit, limit, size=(in_features, out_features))
        self.b = np.zeros(out_features) if bias else None
        self.dW: Optional[np.ndarray] = None
        self.db: Optional[np.ndarray] = None
        self._input: Optional[np.ndarray] = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._input = x
        y = np.einsum("...i,io->...o", x, self.W)
        return y if self.b is None else y + self.b

    def backward(self, dy: np.ndarray) -> np.ndarray:
        axes = list(range(dy.ndim - 1))
        self.dW = np.tensordot(self._input, dy, axes=(axes, axes))
        if self.b is not None:
            self.db = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
        return np.einsum("...o,io->...i", dy, self.W)
