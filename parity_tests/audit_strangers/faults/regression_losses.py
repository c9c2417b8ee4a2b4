import numpy as np


class SquaredLoss:
    def forward(self, y, t):
        self.e = y - t
        return 0.5 * np.sum(self.e ** 2) / self.e.shape[0]

    def backward(self, dout=1.0):
        return dout * self.e / self.e.shape[0]


class HuberLoss:
    def __init__(self, delta=1.0):
        self.delta = delta

    def forward(self, y, t):
        self.e = y - t
        a = np.abs(self.e)
        quadratic = 0.5 * self.e ** 2
        linear = self.delta * (a - self.delta)
        return np.sum(np.where(a < self.delta, quadratic, linear)) / self.e.shape[0]

    def backward(self, dout=1.0):
        g = np.where(np.abs(self.e) < self.delta, self.e, self.delta * np.sign(self.e))
        return dout * g / self.e.shape[0]
