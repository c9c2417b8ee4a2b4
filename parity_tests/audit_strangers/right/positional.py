import numpy as np


class SinusoidalPositionalEncoding:
    def __init__(self, d_model, max_len=512):
        pos = np.arange(max_len)[:, None]
        div = np.exp(np.arange(0, d_model, 2) * (-np.log(10000.0) / d_model))
        pe = np.zeros((max_len, d_model))
        pe[:, 0::2] = np.sin(pos * div)
        pe[:, 1::2] = np.cos(pos * div)[:, :d_model // 2]
        self.pe = pe

    def forward(self, x):
        return x + self.pe[None, :x.shape[1]]

    def backward(self, grad):
        return grad


class LearnedPositionalEmbedding:
    def __init__(self, max_len, d_model):
        self.weight = 0.02 * np.random.randn(max_len, d_model)
        self.grad = np.zeros_like(self.weight)

    def forward(self, x):
        self.T = x.shape[1]
        return x + self.weight[:self.T]

    def backward(self, grad):
        self.grad[...] = 0
        self.grad[:self.T] = grad.sum(axis=0)
        return grad


class RotaryEmbedding:
    """x (B, T, d), d even; pairs (2i, 2i+1) turned by pos * theta_i"""

    def __init__(self, dim, base=10000):
        self.freq = base ** (-np.arange(0, dim, 2) / dim)

    def _angles(self, T):
        a = np.outer(np.arange(T), self.freq)
        return np.cos(a), np.sin(a)

    def _rotate(self, x, cos, sin):
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def forward(self, x):
        cos, sin = self._angles(x.shape[-2])
        return self._rotate(x, cos, sin)

    def backward(self, grad):
        cos, sin = self._angles(grad.shape[-2])
        return self._rotate(grad, cos, -sin)
