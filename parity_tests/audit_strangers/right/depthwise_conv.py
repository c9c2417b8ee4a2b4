import numpy as np


class DepthwiseConv2d:
    """One k x k filter for every channel, NCHW."""

    def __init__(self, channels, k, stride=1, padding=0):
        self.k, self.s, self.p = k, stride, padding
        self.weight = np.random.randn(channels, k, k) * 0.1
        self.bias = np.zeros(channels)

    def _windows(self, x):
        w = np.lib.stride_tricks.sliding_window_view(x, (self.k, self.k), axis=(2, 3))
        return w[:, :, ::self.s, ::self.s]

    def forward(self, x):
        p = self.p
        self.shape = x.shape
        xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        self.padded = xp.shape
        self.cols = self._windows(xp)
        return np.einsum('nchwij,cij->nchw', self.cols, self.weight) + self.bias[None, :, None, None]

    def backward(self, dout):
        self.dweight = np.einsum('nchwij,nchw->cij', self.cols, dout)
        self.dbias = dout.sum(axis=(0, 2, 3))
        dxp = np.zeros(self.padded)
        oh, ow = dout.shape[2:]
        s = self.s
        for i in range(self.k):
            for j in range(self.k):
                dxp[:, :, i:i + s * oh:s, j:j + s * ow:s] += dout * self.weight[None, :, i, j, None, None]
        h, w = self.shape[2:]
        return dxp[:, :, self.p:self.p + h, self.p:self.p + w]


class PointwiseConv2d:
    def __init__(self, cin, cout):
        self.weight = np.random.randn(cout, cin) * 0.1
        self.bias = np.zeros(cout)

    def forward(self, x):
        self.x = x
        return np.einsum('oc,nchw->nohw', self.weight, x) + self.bias[:, None, None]

    def backward(self, dout):
        self.dweight = np.einsum('nohw,nchw->oc', dout, self.x)
        self.dbias = dout.sum(axis=(0, 2, 3))
        return np.einsum('oc,nohw->nchw', self.weight, dout)
