import numpy as np


class RBFLayer:
    """phi_k(x) = exp(-exp(log_beta_k) * ||x - c_k||^2)"""

    def __init__(self, input_dim, n_centers):
        self.centers = np.random.randn(n_centers, input_dim)
        self.log_beta = np.zeros(n_centers) - 1.0

    def forward(self, x):
        self.diff = x[:, None, :] - self.centers[None]
        self.dist2 = np.sum(self.diff ** 2, axis=2)
        self.beta = np.exp(self.log_beta)
        self.phi = np.exp(-self.beta * self.dist2)
        return self.phi

    def backward(self, grad_out):
        g = grad_out * self.phi
        self.grad_log_beta = -(g * self.dist2 * self.beta).sum(axis=0)
        t = 2 * (g * self.beta)[:, :, None] * self.diff
        self.grad_centers = t.sum(axis=0)
        return -t.sum(axis=1)
