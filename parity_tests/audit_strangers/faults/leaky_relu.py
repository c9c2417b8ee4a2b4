import numpy as np


class LeakyReLU:
    def __init__(self, alpha=0.1):
        self.alpha = alpha
        self.mask = None

    def forward(self, x):
        self.mask = x < 0
        out = x
        out[self.mask] *= self.alpha
        return out

    def backward(self, dout):
        return np.where(self.mask, self.alpha * dout, dout)
