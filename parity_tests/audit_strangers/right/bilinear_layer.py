import numpy as np


class Bilinear:
    """y_k = x1^T W_k x2 + b_k"""

    def __init__(self, d1, d2, out):
        self.W = np.random.randn(out, d1, d2) * 0.1
        self.b = np.zeros(out)
        self.gradW = np.zeros_like(self.W)
        self.gradb = np.zeros_like(self.b)

    def forward(self, x1, x2):
        self.x1, self.x2 = x1, x2
        return np.einsum('ni,kij,nj->nk', x1, self.W, x2) + self.b

    def backward(self, dy):
        self.gradW = np.einsum('nk,ni,nj->kij', dy, self.x1, self.x2)
        self.gradb = dy.sum(axis=0)
        dx1 = np.einsum('nk,kij,nj->ni', dy, self.W, self.x2)
        dx2 = np.einsum('nk,kij,ni->nj', dy, self.W, self.x1)
        return dx1, dx2
