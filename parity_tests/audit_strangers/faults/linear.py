import numpy as np


class Linear:
    def __init__(self, input_dim: int, output_dim: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.weight = rng.standard_normal((input_dim, output_dim)) / np.sqrt(input_dim)
        self.bias = np.zeros(output_dim)
        self.weight_grad = np.zeros_like(self.weight)
        self.bias_grad = np.zeros_like(self.bias)
        self._x = None

    def forward(self, x):
        self._x = np.asarray(x, dtype=np.float32)
        return self._x @ self.weight.astype(np.float32) + self.bias.astype(np.float32)

    def backward(self, grad):
        self.weight_grad = self._x.T @ grad
        self.bias_grad = grad.sum(axis=0)
        return grad @ self.weight.T
