import numpy as np


class PReLU:
    """Parametric ReLU with one slope per channel (axis 1)."""

    def __init__(self, num_parameters=1, init=0.25):
        self.a = np.full(num_parameters, init, dtype=float)
        self.da = np.zeros_like(self.a)

    def _shape(self, x):
        return self.a.reshape([1, -1] + [1] * (x.ndim - 2))

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self._shape(x) * x)

    def backward(self, dy):
        x = self.x
        t = np.where(x > 0, 0.0, x) * dy
        if self.a.size == 1:
            self.da = np.array([t.sum()])
        else:
            self.da = t.sum(axis=(0,) + tuple(range(2, x.ndim)))
        return dy * np.where(x > 0, 1.0, self._shape(x))
