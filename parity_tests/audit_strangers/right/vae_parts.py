import numpy as np


class Reparameterize:
    """z = mu + exp(logvar / 2) * eps"""

    def __init__(self, seed=None):
        self.seed = seed

    def forward(self, mu, logvar):
        rng = np.random.RandomState(self.seed)
        self.eps = rng.standard_normal(mu.shape)
        self.std = np.exp(0.5 * logvar)
        return mu + self.std * self.eps

    def backward(self, dz):
        return dz, dz * self.eps * 0.5 * self.std


def kl_gaussian(mu, logvar):
    n = mu.shape[0]
    loss = -0.5 * np.sum(1 + logvar - mu ** 2 - np.exp(logvar)) / n
    grads = {'mu': mu / n, 'logvar': 0.5 * (np.exp(logvar) - 1) / n}
    return loss, grads
