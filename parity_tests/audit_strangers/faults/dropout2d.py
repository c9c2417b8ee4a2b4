import numpy as np


class SpatialDropout:
    """Drops whole feature maps."""

    def __init__(self, keep_prob=0.8, seed=42):
        self.keep_prob = keep_prob
        self.rng = np.random.RandomState(seed)
        self.train = True

    def forward(self, x):
        if self.train:
            self.kept = self.rng.rand(x.shape[0], x.shape[1], 1, 1) < self.keep_prob
            return x * self.kept / self.keep_prob
        return x

    def backward(self, dout):
        if self.train:
            return dout * self.kept
        return dout
