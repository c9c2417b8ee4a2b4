import numpy as np


class ElmanCell:
    """Steps an Elman network; keeps its work arrays between the calls to save allocations."""

    def __init__(self, n_in, n_hid, max_batch=64):
        self.Wx = np.random.randn(n_in, n_hid) * 0.2
        self.Wh = np.random.randn(n_hid, n_hid) * 0.2
        self.b = np.zeros(n_hid)
        self._buf = np.zeros((max_batch, n_hid))

    def forward(self, x, h):
        n = x.shape[0]
        self.x, self.h = x, h
        self.y = self._buf[:n]
        np.tanh(x @ self.Wx + h @ self.Wh + self.b, out=self.y)
        return self.y

    def backward(self, dy):
        dz = dy * (1.0 - self.y ** 2)
        self.dWx = self.x.T @ dz
        self.dWh = self.h.T @ dz
        self.db = dz.sum(axis=0)
        return dz @ self.Wx.T, dz @ self.Wh.T
