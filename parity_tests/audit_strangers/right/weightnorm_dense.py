import numpy as np


class WeightNormDense:
    """w = g * v / ||v||, one norm for every output unit"""

    def __init__(self, fan_in, fan_out):
        self.v = np.random.randn(fan_in, fan_out)
        self.g = np.ones(fan_out)
        self.b = np.zeros(fan_out)

    def forward(self, x):
        self.x = x
        self.norm = np.linalg.norm(self.v, axis=0)
        self.w = self.v * (self.g / self.norm)
        return x.dot(self.w) + self.b

    def backward(self, delta):
        dw = self.x.T.dot(delta)
        self.dg = (dw * self.v).sum(axis=0) / self.norm
        self.dv = self.g / self.norm * dw - self.g * self.dg / self.norm ** 2 * self.v
        self.db = delta.sum(axis=0)
        return delta.dot(self.w.T)
