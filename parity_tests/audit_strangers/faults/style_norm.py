import numpy as np


class InstanceNorm(object):
    """Instance normalisation for style transfer, (N, C, H, W), with a learned scale and shift"""

    def __init__(self, C, eps=1e-3):
        self.eps = eps
        self.scale = np.ones((1, C, 1, 1))
        self.shift = np.zeros((1, C, 1, 1))

    def forward(self, x):
        self.mean = np.mean(x, axis=(2, 3), keepdims=True)
        self.var = np.var(x, axis=(2, 3), keepdims=True)
        self.x = x
        return self.scale * (x - self.mean) / np.sqrt(self.var + self.eps) + self.shift

    def backward(self, dy):
        xc = self.x - self.mean
        xn = xc / np.sqrt(self.var + self.eps)
        self.dscale = np.sum(dy * xn, axis=(0, 2, 3), keepdims=True)
        self.dshift = np.sum(dy, axis=(0, 2, 3), keepdims=True)
        inv = 1.0 / (np.sqrt(self.var) + self.eps)
        g = dy * self.scale
        return inv * (g - g.mean((2, 3), keepdims=True) - xn * (g * xn).mean((2, 3), keepdims=True))
