import numpy as np


class TripletLoss:
    def __init__(self, margin=1.0):
        self.margin = margin

    def forward(self, anchor, positive, negative):
        self.ap = anchor - positive
        self.an = anchor - negative
        d = (self.ap ** 2).sum(axis=1) - (self.an ** 2).sum(axis=1) + self.margin
        self.active = (d > 0).astype(float)[:, None]
        self.n = len(d)
        return np.maximum(d, 0).mean()

    def backward(self, dout=1.0):
        k = 2.0 * dout / self.n
        d_anchor = k * self.active * (self.ap - self.an)
        d_positive = -k * self.active * self.ap
        d_negative = k * self.active * self.an
        return d_anchor, d_positive, d_negative


def contrastive_loss(x1, x2, y, margin=2.0):
    """Hadsell et al. y = 1: same, y = 0: different. Returns loss, dx1, dx2."""
    diff = x1 - x2
    dist = np.sqrt(np.sum(diff ** 2, axis=1))
    n = x1.shape[0]
    gap = np.maximum(0, margin - dist)
    loss = np.sum(y * dist ** 2 + (1 - y) * gap ** 2) / (2 * n)
    coef = (y - (1 - y) * gap / dist) / n
    dx1 = coef[:, None] * diff
    return loss, dx1, -dx1
