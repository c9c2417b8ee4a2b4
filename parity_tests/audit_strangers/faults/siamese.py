import numpy as np


class Encoder:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out) / np.sqrt(n_in)
        self.b = np.zeros(n_out)
        self.dW = np.zeros_like(self.W)
        self.db = np.zeros_like(self.b)
        self.cache = []

    def forward(self, x):
        y = np.tanh(x @ self.W + self.b)
        self.cache = [(x, y)]
        return y

    def backward(self, dy):
        x, y = self.cache[-1]
        dz = dy * (1 - y ** 2)
        self.dW += x.T @ dz
        self.db += dz.sum(axis=0)
        return dz @ self.W.T

    def zero_grad(self):
        self.dW[...] = 0
        self.db[...] = 0


class SiameseNet:
    """Squared distance between the codes of two inputs under one encoder"""

    def __init__(self, n_in, n_out):
        self.encoder = Encoder(n_in, n_out)

    def forward(self, x1, x2):
        e1 = self.encoder.forward(x1)
        e2 = self.encoder.forward(x2)
        self.diff = e1 - e2
        return (self.diff ** 2).sum(axis=1)

    def backward(self, dout):
        self.encoder.zero_grad()
        d = 2 * self.diff * dout[:, None]
        dx2 = self.encoder.backward(-d)
        dx1 = self.encoder.backward(d)
        return dx1, dx2
