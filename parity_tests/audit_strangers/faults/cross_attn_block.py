import numpy as np

def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)

class CrossAttention:
    def __init__(self, d):
        self.d = d
        self.Wq, self.Wk, self.Wv, self.Wo = [np.random.randn(d, d) * d ** -0.5 for _ in range(4)]

    def forward(self, x, mem):
        self.x, self.mem = x, mem
        self.Q, self.K, self.V = x @ self.Wq, mem @ self.Wk, mem @ self.Wv
        self.A = softmax(self.Q @ np.swapaxes(self.K, 1, 2) / np.sqrt(self.d))
        self.C = self.A @ self.V
        return x + self.C @ self.Wo

    def backward(self, dy):
        d = self.d
        f = lambda a: a.reshape(-1, d)
        self.dWo = f(dy).T @ f(self.C)
        dC = dy @ self.Wo.T
        dA = dC @ np.swapaxes(self.V, 1, 2)
        dV = np.swapaxes(self.A, 1, 2) @ dC
        dS = self.A * (dA - np.sum(dA * self.A, axis=-1, keepdims=True)) / np.sqrt(d)
        dQ, dK = dS @ self.K, np.swapaxes(dS, 1, 2) @ self.Q
        self.dWq = f(self.x).T @ f(dQ)
        self.dWk = f(self.mem).T @ f(dK)
        self.dWv = f(self.mem).T @ f(dV)
        return dy + dQ @ self.Wq.T, dK @ self.Wk.T + dV @ self.Wv.T
