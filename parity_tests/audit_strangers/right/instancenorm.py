import numpy as np


class InstanceNorm2d:
    def __init__(self, num_features, eps=1e-5, affine=True):
        self.eps = eps
        self.affine = affine
        if affine:
            self.gamma = np.ones(num_features)
            self.beta = np.zeros(num_features)
        self.dgamma = self.dbeta = None

    def forward(self, x):
        self.mu = x.mean(axis=(2, 3), keepdims=True)
        self.xc = x - self.mu
        self.inv = 1.0 / np.sqrt((self.xc ** 2).mean(axis=(2, 3), keepdims=True) + self.eps)
        self.xhat = self.xc * self.inv
        if not self.affine:
            return self.xhat
        return self.gamma[:, None, None] * self.xhat + self.beta[:, None, None]

    def backward(self, dy):
        if self.affine:
            self.dgamma = (dy * self.xhat).sum(axis=(0, 2, 3))
            self.dbeta = dy.sum(axis=(0, 2, 3))
            dy = dy * self.gamma[:, None, None]
        m1 = dy.mean(axis=(2, 3), keepdims=True)
        m2 = (dy * self.xhat).mean(axis=(2, 3), keepdims=True)
        return self.inv * (dy - m1 - self.xhat * m2)
