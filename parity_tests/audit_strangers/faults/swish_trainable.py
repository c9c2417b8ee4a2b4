import numpy as np


class Swish:
    """x * sigmoid(beta * x), beta is learned"""

    def __init__(self, beta=1.0):
        self.beta = np.array([beta])
        self.dbeta = None

    def forward(self, x):
        self.x = x
        self.s = 1.0 / (1.0 + np.exp(-self.beta * x))
        return x * self.s

    def backward(self, dout):
        ds = self.s * (1 - self.s)
        if self.dbeta is None:
            self.dbeta = np.array([np.sum(dout * self.x ** 2 * ds)])
        return dout * (self.s + self.beta * self.x * ds)
