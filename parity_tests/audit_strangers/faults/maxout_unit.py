import numpy as np


class MaxoutDense:
    def __init__(self, n_in, units, pieces):
        self.units, self.pieces = units, pieces
        self.W = np.random.uniform(-0.3, 0.3, size=(n_in, units * pieces))
        self.b = np.zeros(units * pieces)

    def forward(self, x):
        self.x = x
        z = (x @ self.W + self.b).reshape(-1, self.units, self.pieces)
        self.best = z.argmax(axis=2)
        return z.max(axis=2)

    def backward(self, dy):
        n = len(dy)
        hot = np.eye(self.pieces)[self.best]
        dz = hot * dy[:, :, None]
        dz = dz.transpose(0, 2, 1).reshape(n, -1)
        self.dW = self.x.T @ dz
        self.db = dz.sum(axis=0)
        return dz @ self.W.T
