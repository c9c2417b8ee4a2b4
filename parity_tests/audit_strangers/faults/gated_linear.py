import numpy as np


class GLU:
    """Gated linear unit over channels (axis 1): first half * sigmoid(second half)"""

    def sigmoid(self, v):
        return 1 / (1 + np.exp(-v))

    def forward(self, x):
        c = x.shape[1] // 2
        self.lin, self.gate = x[:, :c], x[:, c:]
        return self.lin * self.sigmoid(self.gate)

    def backward(self, grad):
        s = self.sigmoid(self.gate)
        d_lin = grad * s
        q = self.sigmoid(self.lin)
        d_gate = grad * self.lin * q * (1 - q)
        return np.concatenate((d_lin, d_gate), axis=1)
