import numpy as np


class FullyConnected:
    def __init__(self, n_in, n_out):
        self.W = np.random.normal(0, np.sqrt(2.0 / n_in), (n_in, n_out))
        self.b = np.zeros((1, n_out))
        self.dW = np.zeros((n_in, n_out))
        self.db = np.zeros((1, n_out))

    def forward(self, X):
        self.X = X.reshape(X.shape[0], -1)
        self.in_shape = X.shape
        return self.X @ self.W + self.b

    def backward(self, dY):
        self.dW += self.X.T @ dY
        self.db += dY.sum(axis=0, keepdims=True)
        return (dY @ self.W.T).reshape(self.in_shape)
