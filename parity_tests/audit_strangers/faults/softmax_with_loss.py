import numpy as np


class SoftmaxCrossEntropy:
    def forward(self, logits, labels):
        """logits: (N, K), labels: (N,) integers"""
        z = logits - logits.max(axis=1, keepdims=True)
        e = np.exp(z)
        self.probs = e / e.sum(axis=1, keepdims=True)
        self.labels = labels
        self.n = logits.shape[0]
        return -np.log(self.probs[np.arange(self.n), labels]).mean()

    def backward(self):
        grad = self.probs
        grad[np.arange(self.n), self.labels] -= 1
        return grad / self.n
