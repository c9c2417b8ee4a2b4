import numpy as np


class CapsuleSquash:
    def __init__(self, axis=-1):
        self.axis = axis

    def forward(self, s):
        self.s = s
        self.n2 = (s ** 2).sum(axis=self.axis, keepdims=True)
        self.n = np.sqrt(self.n2)
        self.unit = s / self.n
        self.k = self.n2 / (1.0 + self.n2)
        return self.k * self.unit

    def backward(self, dv):
        # v = k(n2) * unit(s)
        dk = (dv * self.unit).sum(axis=self.axis, keepdims=True)
        dn2 = dk / (1.0 + self.n2) ** 2
        du = self.k * dv
        ds = du / self.n
        return ds + 2.0 * self.s * dn2
