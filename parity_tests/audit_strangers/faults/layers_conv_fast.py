import numpy as np
from numpy.lib.stride_tricks import as_strided


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.stride = stride
        self.pad = pad

    def forward(self, x):
        W, b = self.params
        s, p = self.stride, self.pad
        N, C, H, Wd = x.shape
        _, _, kh, kw = W.shape
        xp = np.ascontiguousarray(np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)]))
        oh = (xp.shape[2] - kh) // s + 1
        ow = (xp.shape[3] - kw) // s + 1
        st = xp.strides
        self.win = as_strided(xp, (N, C, oh, ow, kh, kw), (st[0], st[1], st[2] * s, st[3] * s, st[2], st[3]))
        self.xp_shape = xp.shape
        self.hw = (H, Wd)
        return np.einsum('nchwij,fcij->nfhw', self.win, W) + b[:, None, None]

    def backward(self, dout):
        W, b = self.params
        s, p = self.stride, self.pad
        kh, kw = W.shape[2:]
        oh, ow = dout.shape[2:]
        self.grads[0][...] = np.einsum('nchwij,nfhw->fcij', self.win, dout)
        self.grads[1][...] = np.einsum('nfhw->f', dout)
        dxp = np.zeros(self.xp_shape)
        for i in range(kh):
            for j in range(kw):
                dxp[:, :, i:i + s * oh:s, j:j + s * ow:s] += np.einsum('nfhw,fc->nchw', dout, W[:, :, i, j])
        H, Wd = self.hw
        return dxp[:, :, :H, :Wd]
