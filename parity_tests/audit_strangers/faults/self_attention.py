import numpy as np


class SelfAttention:
    def __init__(self, d_in, d_k, d_v):
        self.W_q = np.random.randn(d_in, d_k) / np.sqrt(d_in)
        self.W_k = np.random.randn(d_in, d_k) / np.sqrt(d_in)
        self.W_v = np.random.randn(d_in, d_v) / np.sqrt(d_in)

    def forward(self, x):
        # x: (batch, seq, d_in)
        self.x = x
        self.q = x @ self.W_q
        self.k = x @ self.W_k
        self.v = x @ self.W_v
        self.scale = 1.0 / np.sqrt(self.q.shape[-1])
        scores = np.einsum('bid,bjd->bij', self.q, self.k) * self.scale
        scores -= scores.max(axis=-1, keepdims=True)
        w = np.exp(scores)
        self.w = w / w.sum(axis=-1, keepdims=True)
        return np.einsum('bij,bjd->bid', self.w, self.v)

    def backward(self, dout):
        dv = np.einsum('bij,bid->bjd', self.w, dout)
        dw = np.einsum('bid,bjd->bij', dout, self.v)
        ds = self.w * (dw - np.einsum('bij,bij->bi', dw, self.w)[..., None])
        dq = np.einsum('bij,bjd->bid', ds, self.k)
        dk = np.einsum('bij,bid->bjd', ds, self.q) * self.scale
        self.dW_q = np.einsum('bnd,bnk->dk', self.x, dq)
        self.dW_k = np.einsum('bnd,bnk->dk', self.x, dk)
        self.dW_v = np.einsum('bnd,bnk->dk', self.x, dv)
        return dq @ self.W_q.T + dk @ self.W_k.T + dv @ self.W_v.T
