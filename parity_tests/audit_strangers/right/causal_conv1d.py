import numpy as np


class CausalConv1d:
    """Dilated causal convolution, x (batch, time, channels)."""

    def __init__(self, c_in, c_out, kernel=2, dilation=1):
        self.kernel = kernel
        self.dilation = dilation
        self.weights = np.random.randn(kernel, c_in, c_out) / np.sqrt(kernel * c_in)
        self.bias = np.zeros(c_out)
        self.weights_grad = None
        self.bias_grad = None

    def forward(self, x):
        T = x.shape[1]
        self.left = (self.kernel - 1) * self.dilation
        self.xp = np.pad(x, ((0, 0), (self.left, 0), (0, 0)))
        y = np.zeros((x.shape[0], T, self.bias.size)) + self.bias
        for k in range(self.kernel):
            off = k * self.dilation
            y += self.xp[:, off:off + T] @ self.weights[k]
        return y

    def backward(self, dy):
        T = dy.shape[1]
        self.weights_grad = np.zeros_like(self.weights)
        self.bias_grad = dy.sum(axis=(0, 1))
        dxp = np.zeros_like(self.xp)
        for k in range(self.kernel):
            off = k * self.dilation
            self.weights_grad[k] = np.tensordot(self.xp[:, off:off + T], dy, axes=([0, 1], [0, 1]))
            dxp[:, off:off + T] += dy @ self.weights[k].T
        return dxp[:, self.left:]
