import numpy as np

class PReLU:
    def __init__(self, channels):
        self.params = dict(alpha=0.25 * np.ones(channels))
        self.grads = dict(alpha=np.zeros(channels))

    def forward(self, x, train=True):
        # x (N, C)
        self.x = x
        return np.maximum(x, 0) + self.params['alpha'] * np.minimum(x, 0)

    def backward(self, dout):
        neg = self.x < 0
        self.grads['alpha'] = np.sum(dout * self.x, axis=0)
        return np.where(neg, self.params['alpha'], 1.0) * dout
