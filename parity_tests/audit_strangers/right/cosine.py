import numpy as np


class CosineSimilarity:
    def __init__(self, eps=1e-8):
        self.eps = eps

    def forward(self, a, b):
        self.a, self.b = a, b
        self.na = np.sqrt((a ** 2).sum(1, keepdims=True))
        self.nb = np.sqrt((b ** 2).sum(1, keepdims=True))
        self.dot = (a * b).sum(1, keepdims=True)
        self.cos = self.dot / np.maximum(self.na * self.nb, self.eps)
        return self.cos[:, 0]

    def backward(self, dy):
        dy = dy[:, None]
        den = self.na * self.nb
        da = dy * (self.b / den - self.cos * self.a / self.na ** 2)
        db = dy * (self.a / den - self.cos * self.b / self.nb ** 2)
        return da, db


class CosineEmbeddingLoss:
    """1 - cos for pairs with label 1, max(0, cos - margin) for label -1"""

    def __init__(self, margin=0.0):
        self.margin = margin
        self.sim = CosineSimilarity()

    def forward(self, a, b, y):
        c = self.sim.forward(a, b)
        self.y = y
        self.c = c
        return np.mean(np.where(y == 1, 1 - c, np.maximum(0, c - self.margin)))

    def backward(self):
        dc = np.where(self.y == 1, -1.0, (self.c > self.margin) * 1.0) / len(self.y)
        return self.sim.backward(dc)
