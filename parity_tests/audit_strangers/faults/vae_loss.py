import numpy as np


class GaussianKL:
    """KL(N(mu, exp(logvar)) || N(0, 1)), summed over the latent, mean over the batch"""

    def forward(self, mu, logvar):
        self.mu = mu
        self.logvar = logvar
        kl = 0.5 * (mu ** 2 + np.exp(logvar) - 1.0 - logvar)
        return kl.sum(axis=1).mean()

    def backward(self):
        n = self.mu.shape[0]
        dmu = self.mu / n
        dlogvar = (np.exp(self.logvar) - 1.0) / n
        return dmu, dlogvar
