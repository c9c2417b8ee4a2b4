import numpy as np


class SigmoidWithLoss:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x, t):
        self.t = t
        self.y = 1 / (1 + np.exp(-x))
        p = np.where(t == 1, self.y, 1 - self.y)
        return -np.sum(np.log(p)) / len(t)

    def backward(self, dout=1):
        return (self.y - self.t) * dout / self.t.shape[0]


class EmbeddingDot:
    def __init__(self, W):
        self.W = W
        self.dW = np.zeros_like(W)
        self.cache = None

    def forward(self, h, idx):
        target_W = self.W[idx]
        self.cache = (h, target_W, idx)
        return np.sum(target_W * h, axis=1)

    def backward(self, dout):
        h, target_W, idx = self.cache
        dout = dout.reshape(-1, 1)
        self.dW[...] = 0
        np.add.at(self.dW, idx, dout * h)
        return dout * target_W


class NegativeSamplingLoss:
    def __init__(self, W, negatives):
        """negatives: (N, S) indices of the sampled words"""
        self.W = W
        self.negatives = negatives
        S = negatives.shape[1]
        self.loss_layers = [SigmoidWithLoss() for _ in range(S + 1)]
        self.dot_layers = [EmbeddingDot(W) for _ in range(S + 1)]

    def forward(self, h, target):
        N = len(target)
        loss = self.loss_layers[0].forward(self.dot_layers[0].forward(h, target), np.ones(N))
        for i in range(self.negatives.shape[1]):
            score = self.dot_layers[1 + i].forward(h, self.negatives[:, i])
            loss += self.loss_layers[1 + i].forward(score, np.zeros(N))
        return loss

    def backward(self, dout=1):
        dh = 0
        self.dW = np.zeros_like(self.W)
        for l0, l1 in zip(self.loss_layers, self.dot_layers):
            dh = l1.backward(l0.backward(dout))
            self.dW += l1.dW
        return dh
