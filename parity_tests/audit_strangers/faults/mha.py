import numpy as np


class MultiHeadAttention:

    def __init__(self, hidden, heads):
        self.hidden, self.heads, self.dim = hidden, heads, hidden // heads
        self.params = {}
        for n in ["q", "k", "v", "o"]:
            self.params["W_" + n] = np.random.normal(scale=0.5, size=(hidden, hidden))
        self.params["b_q"] = np.zeros(hidden)
        self.params["b_o"] = np.zeros(hidden)
        self.grads = {}

    def _heads(self, t):
        return t.reshape(t.shape[0], t.shape[1], self.heads, self.dim).transpose(0, 2, 1, 3)

    def _cat(self, t):
        return t.transpose(0, 2, 1, 3).reshape(t.shape[0], t.shape[2], self.hidden)

    def forward(self, query, context):
        P = self.params
        Q = self._heads(query @ P["W_q"] + P["b_q"])
        K = self._heads(context @ P["W_k"])
        V = self._heads(context @ P["W_v"])
        E = np.matmul(Q, K.transpose(0, 1, 3, 2)) / self.dim ** 0.5
        A = np.exp(E - E.max(-1, keepdims=True))
        A = A / A.sum(-1, keepdims=True)
        Z = self._cat(np.matmul(A, V))
        self.saved = (query, context, Q, K, V, A, Z)
        return Z @ P["W_o"] + P["b_o"]

    def backward(self, d_out):
        P, G = self.params, self.grads
        query, context, Q, K, V, A, Z = self.saved
        G["W_o"] = np.einsum("bti,btj->ij", Z, d_out)
        G["b_o"] = d_out.sum((0, 1))
        dZ = self._heads(d_out @ P["W_o"].T)
        dA = np.matmul(dZ, V.transpose(0, 1, 3, 2))
        dV = np.matmul(A.transpose(0, 1, 3, 2), dZ)
        dE = A * (dA - (dA * A).sum(axis=-2, keepdims=True)) / self.dim ** 0.5
        dQ = self._cat(np.matmul(dE, K))
        dK = self._cat(np.matmul(dE.transpose(0, 1, 3, 2), Q))
        dV = self._cat(dV)
        G["W_q"] = np.einsum("bti,btj->ij", query, dQ)
        G["b_q"] = dQ.sum((0, 1))
        G["W_k"] = np.einsum("bti,btj->ij", context, dK)
        G["W_v"] = np.einsum("bti,btj->ij", context, dV)
        return dQ @ P["W_q"].T, dK @ P["W_k"].T + dV @ P["W_v"].T
