import numpy as np


class Embedding:
    def __init__(self, vocab_size, dim):
        self.W = np.random.randn(vocab_size, dim) * 0.01
        self.dW = np.zeros_like(self.W)

    def forward(self, tokens):
        """tokens: (N, T) integers"""
        self.tokens = tokens
        return self.W[tokens]

    def backward(self, dout):
        self.dW = np.zeros_like(self.W)
        self.dW[self.tokens] += dout
        return self.dW
