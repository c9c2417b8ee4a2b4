import numpy as np


def im2col_indices(x, kh, kw, padding, stride):
    N, C, H, W = x.shape
    oh = (H + 2 * padding - kh) // stride + 1
    ow = (W + 2 * padding - kw) // stride + 1
    xp = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    i0 = np.tile(np.repeat(np.arange(kh), kw), C)
    j0 = np.tile(np.arange(kw), kh * C)
    i1 = stride * np.repeat(np.arange(oh), ow)
    j1 = stride * np.tile(np.arange(ow), oh)
    i = i0.reshape(-1, 1) + i1.reshape(1, -1)
    j = j0.reshape(-1, 1) + j1.reshape(1, -1)
    k = np.repeat(np.arange(C), kh * kw).reshape(-1, 1)
    cols = xp[:, k, i, j]
    return cols.transpose(1, 2, 0).reshape(kh * kw * C, -1), (k, i, j), (oh, ow)


class Conv2D:
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1, padding=1):
        self.W = np.random.randn(out_channels, in_channels, kernel_size, kernel_size) * 0.1
        self.b = np.zeros((out_channels, 1))
        self.ks, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        self.x_shape = x.shape
        self.cols, self.idx, (oh, ow) = im2col_indices(x, self.ks, self.ks, self.padding, self.stride)
        out = self.W.reshape(len(self.W), -1) @ self.cols + self.b
        return out.reshape(len(self.W), oh, ow, x.shape[0]).transpose(3, 0, 1, 2)

    def backward(self, dout):
        F = len(self.W)
        d = dout.transpose(1, 2, 3, 0).reshape(F, -1)
        self.db = d.mean(axis=1, keepdims=True)
        self.dW = (d @ self.cols.T).reshape(self.W.shape)
        dcols = self.W.reshape(F, -1).T @ d
        N, C, H, W = self.x_shape
        p = self.padding
        dxp = np.zeros((N, C, H + 2 * p, W + 2 * p))
        k, i, j = self.idx
        dcols = dcols.reshape(C * self.ks ** 2, -1, N).transpose(2, 0, 1)
        np.add.at(dxp, (slice(None), k, i, j), dcols)
        return dxp[:, :, p:p + H, p:p + W]
