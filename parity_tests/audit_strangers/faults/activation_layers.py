import numpy as np


class Softmax:
    def __init__(self):
        self.a = None

    def forward(self, z):
        e = np.exp(z - np.max(z, axis=1, keepdims=True))
        self.a = e / np.sum(e, axis=1, keepdims=True)
        return self.a

    def backward(self, grad):
        return grad * self.a * (1 - self.a)


class Sigmoid:
    def forward(self, z):
        self.a = 1 / (1 + np.exp(-z))
        return self.a

    def backward(self, grad):
        return grad * self.a * (1 - self.a)


class ReLU:
    def forward(self, z):
        self.z = z
        return np.maximum(z, 0)

    def backward(self, grad):
        return np.where(self.z > 0, grad, 0)
