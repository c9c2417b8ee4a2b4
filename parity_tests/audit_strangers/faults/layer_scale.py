import numpy as np


class LayerScale:
    """Learned scale of a residual branch, x (batch, time, channels)"""

    def __init__(self, dim, init=1e-1):
        self.gamma = np.full(dim, init)
        self.dgamma = None

    def forward(self, x, branch):
        self.branch = branch
        return x + self.gamma * branch

    def backward(self, dout):
        self.dgamma = np.sum(dout * self.branch, axis=0)
        return dout, dout * self.gamma
