import numpy as np


class ConvTranspose2d:
    # weight: (in, out, k, k)
    def __init__(self, in_channels, out_channels, kernel_size, stride=2, padding=0):
        self.W = np.random.normal(0, 0.05, (in_channels, out_channels, kernel_size, kernel_size))
        self.b = np.zeros(out_channels)
        self.k, self.s, self.p = kernel_size, stride, padding

    def forward(self, x):
        N, C, H, W = x.shape
        k, s, p = self.k, self.s, self.p
        full = np.zeros((N, self.W.shape[1], (H - 1) * s + k, (W - 1) * s + k))
        for i in range(H):
            for j in range(W):
                full[:, :, i*s:i*s+k, j*s:j*s+k] += np.tensordot(x[:, :, i, j], self.W, 1)
        self.x = x
        self.full_shape = full.shape
        out = full[:, :, p:full.shape[2]-p, p:full.shape[3]-p]
        return out + self.b.reshape(1, -1, 1, 1)

    def backward(self, dout):
        x = self.x
        N, C, H, W = x.shape
        k, s, p = self.k, self.s, self.p
        dfull = np.zeros(self.full_shape)
        dfull[:, :, p:dfull.shape[2]-p, p:dfull.shape[3]-p] = dout
        self.db = dout.sum((0, 2, 3))
        self.dW = np.zeros_like(self.W)
        dx = np.zeros_like(x)
        for i in range(H):
            for j in range(W):
                patch = dfull[:, :, i*s:i*s+k, j*s:j*s+k]
                self.dW += np.einsum('nc,nokl->cokl', x[:, :, i, j], patch)
                dx[:, :, i, j] = np.einsum('nokl,cokl->nc', patch, self.W)
        return dx
