import numpy as np
from dataclasses import dataclass, field


@dataclass
class Param:
    value: np.ndarray
    grad: np.ndarray = field(default=None)


class WeightNormLinear:
    """Salimans & Kingma: W[o] = g[o] * v[o] / |v[o]|, y = x W^T + b"""

    def __init__(self, in_features: int, out_features: int):
        self.v = Param(np.random.randn(out_features, in_features) * 0.05)
        self.g = Param(np.ones((out_features, 1)))
        self.b = Param(np.zeros(out_features))

    def parameters(self):
        return [self.v, self.g, self.b]

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        self.norm = np.sqrt(np.sum(self.v.value ** 2, axis=1, keepdims=True))
        self.dir = self.v.value / self.norm
        self.W = self.g.value * self.dir
        return x @ self.W.T + self.b.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dW = dy.T @ self.x
        self.b.grad = dy.sum(axis=0)
        self.g.grad = np.sum(dW * self.dir, axis=1, keepdims=True)
        self.v.grad = self.g.value / self.norm * dW
        return dy @ self.W
