import numpy as np


class FactorizationMachine:
    """w0 + x w + 1/2 sum_f ((x v_f)^2 - (x^2)(v_f^2))"""

    def __init__(self, n_features, k, scale=0.1):
        self.params = {
            "w0": np.zeros(1),
            "w": np.zeros(n_features),
            "V": scale * np.random.randn(n_features, k),
        }
        self.grads = {}

    def forward(self, x):
        p = self.params
        self.x = x
        self.xv = x @ p["V"]
        pairs = 0.5 * (self.xv ** 2 - (x ** 2) @ (p["V"] ** 2)).sum(axis=1)
        return p["w0"] + x @ p["w"] + pairs

    def backward(self, dy):
        x, p = self.x, self.params
        V = p["V"]
        self.grads["w0"] = np.array([dy.sum()])
        self.grads["w"] = x.T @ dy
        self.grads["V"] = x.T @ (dy[:, None] * self.xv) - V * ((x ** 2).T @ dy)[:, None]
        dx = dy[:, None] * (p["w"] + self.xv @ V.T - x * (V ** 2).sum(axis=1))
        return dx
