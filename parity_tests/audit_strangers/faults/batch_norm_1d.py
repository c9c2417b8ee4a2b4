import numpy as np


class BatchNorm1d:
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.eps = eps
        self.momentum = momentum
        self.gamma = np.ones(num_features)
        self.beta = np.zeros(num_features)
        self.running_mean = np.zeros(num_features)
        self.running_var = np.ones(num_features)
        self.training = True

    def forward(self, x):
        if not self.training:
            return self.gamma * (x - self.running_mean) / np.sqrt(self.running_var + self.eps) + self.beta
        n = x.shape[0]
        mean = x.mean(axis=0)
        self.xc = x - mean
        self.var = np.sum(self.xc ** 2, axis=0) / (n - 1)
        self.inv = 1 / np.sqrt(self.var + self.eps)
        self.xhat = self.xc * self.inv
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (x.var(axis=0, ddof=1) - self.running_var)
        return self.gamma * self.xhat + self.beta

    def backward(self, dout):
        n = dout.shape[0]
        self.dgamma = np.sum(dout * self.xhat, axis=0)
        self.dbeta = np.sum(dout, axis=0)
        g = dout * self.gamma
        dvar = np.sum(g * self.xc, axis=0) * -0.5 * self.inv ** 3
        dxc = g * self.inv + 2 * self.xc * dvar / (n - 1)
        return dxc - dxc.mean(axis=0)
