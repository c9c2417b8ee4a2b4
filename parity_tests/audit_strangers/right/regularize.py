import numpy as np


class Dropout:
    def __init__(self, rate=0.5, seed=0):
        self.rate = rate
        self.rng = np.random.default_rng(seed)
        self.training = True
        self.mask = None

    def forward(self, x):
        if not self.training:
            self.mask = None
            return x
        keep = 1.0 - self.rate
        self.mask = self.rng.binomial(1, keep, size=x.shape) / keep
        return x * self.mask

    def backward(self, grad):
        return grad if self.mask is None else grad * self.mask


class GaussianNoise:
    def __init__(self, stddev=0.1, seed=0):
        self.stddev = stddev
        self.rng = np.random.default_rng(seed)
        self.training = True

    def forward(self, x):
        if self.training:
            return x + self.rng.normal(0.0, self.stddev, x.shape)
        return x

    def backward(self, grad):
        return grad


class DropPath:
    """Drops whole samples (stochastic depth)."""

    def __init__(self, drop_prob, seed=0):
        self.drop_prob = drop_prob
        self.rng = np.random.default_rng(seed)

    def forward(self, x):
        keep = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        self.gate = np.floor(keep + self.rng.random(shape)) / keep
        return x * self.gate

    def backward(self, grad):
        return grad * self.gate
