import numpy as np


class RNN:
    def __init__(self, n_in, n_hid):
        self.Wx = np.random.randn(n_in, n_hid) * 0.3
        self.Wh = np.random.randn(n_hid, n_hid) * 0.3
        self.b = np.zeros(n_hid)

    def forward(self, xs):
        N, T, _ = xs.shape
        self.xs = xs
        self.hs = np.zeros((N, T + 1, self.b.size))
        for t in range(T):
            self.hs[:, t + 1] = np.tanh(xs[:, t] @ self.Wx + self.hs[:, t] @ self.Wh + self.b)
        return self.hs[:, 1:].copy()

    def backward(self, dhs):
        T = dhs.shape[1]
        self.dWx = np.zeros_like(self.Wx)
        self.dWh = np.zeros_like(self.Wh)
        self.db = np.zeros_like(self.b)
        dxs = np.zeros_like(self.xs)
        carry = 0
        for t in reversed(range(T)):
            da = (dhs[:, t] + carry) * (1 - self.hs[:, t + 1] ** 2)
            self.dWx += self.xs[:, t].T @ da
            self.dWh += self.hs[:, t].T @ da
            self.db += da.sum(axis=0)
            dxs[:, t] = da @ self.Wx.T
            carry = da @ self.Wh.T
        return dxs


class BiRNN:
    def __init__(self, n_in, n_hid):
        self.fw = RNN(n_in, n_hid)
        self.bw = RNN(n_in, n_hid)
        self.n_hid = n_hid

    def forward(self, xs):
        a = self.fw.forward(xs)
        b = self.bw.forward(xs[:, ::-1])[:, ::-1]
        return np.concatenate([a, b], axis=2)

    def backward(self, d):
        H = self.n_hid
        return self.fw.backward(d[:, :, :H]) + self.bw.backward(d[:, ::-1, H:])[:, ::-1]
