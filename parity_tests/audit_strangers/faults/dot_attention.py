import numpy as np


class ScaledDotProductAttention:
    def forward(self, Q, K, V, mask=None):
        self.Q, self.K, self.V = Q, K, V
        scores = Q @ K.swapaxes(-2, -1)
        if mask is not None:
            scores = scores + (1 - mask) * -1e9
        scores -= scores.max(axis=-1, keepdims=True)
        self.weights = np.exp(scores)
        self.weights /= self.weights.sum(axis=-1, keepdims=True)
        return self.weights @ V

    def backward(self, grad):
        dV = self.weights.swapaxes(-2, -1) @ grad
        dW = grad @ self.V.swapaxes(-2, -1)
        dS = self.weights * (dW - (dW * self.weights).sum(axis=-1, keepdims=True))
        dQ = dS @ self.K
        dK = dS.swapaxes(-2, -1) @ self.Q
        return dQ, dK, dV
