import numpy as np


class MultiHeadAttention:
    def __init__(self, d_model, n_heads, causal=False):
        assert d_model % n_heads == 0
        self.h = n_heads
        self.d = d_model // n_heads
        self.causal = causal
        s = 1 / np.sqrt(d_model)
        self.params = {
            'Wq': np.random.randn(d_model, d_model) * s, 'bq': np.zeros(d_model),
            'Wk': np.random.randn(d_model, d_model) * s, 'bk': np.zeros(d_model),
            'Wv': np.random.randn(d_model, d_model) * s, 'bv': np.zeros(d_model),
            'Wo': np.random.randn(d_model, d_model) * s, 'bo': np.zeros(d_model),
        }
        self.grads = {k: np.zeros_like(v) for k, v in self.params.items()}

    def _split(self, x):
        B, T, _ = x.shape
        return x.reshape(B, T, self.h, self.d).transpose(0, 2, 1, 3)

    def _merge(self, x):
        B, _, T, _ = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, -1)

    def forward(self, x):
        p = self.params
        q = self._split(x @ p['Wq'] + p['bq'])
        k = self._split(x @ p['Wk'] + p['bk'])
        v = self._split(x @ p['Wv'] + p['bv'])
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(self.d)
        if self.causal:
            T = x.shape[1]
            scores = np.where(np.tril(np.ones((T, T), dtype=bool)), scores, -np.inf)
        scores = scores - scores.max(-1, keepdims=True)
        a = np.exp(scores)
        a /= a.sum(-1, keepdims=True)
        ctx = self._merge(a @ v)
        self.cache = x, q, k, v, a, ctx
        return ctx @ p['Wo'] + p['bo']

    def backward(self, dout):
        p, g = self.params, self.grads
        x, q, k, v, a, ctx = self.cache
        D = x.shape[-1]
        flat = lambda t: t.reshape(-1, D)
        g['Wo'] = flat(ctx).T @ flat(dout)
        g['bo'] = flat(dout).sum(0)
        dctx = self._split(dout @ p['Wo'].T)
        dv = a.swapaxes(-1, -2) @ dctx
        da = dctx @ v.swapaxes(-1, -2)
        ds = a * (da - (da * a).sum(-1, keepdims=True)) / np.sqrt(self.d)
        dq = ds @ k
        dk = ds.swapaxes(-1, -2) @ q
        dx = 0
        for name, d in (('q', dq), ('k', dk), ('v', dv)):
            d = self._merge(d)
            g['W' + name] = flat(x).T @ flat(d)
            g['b' + name] = flat(d).sum(0)
            dx = dx + d @ p['W' + name].T
        return dx
