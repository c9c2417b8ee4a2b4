import numpy as np


class Conv2D:
    """Channels-last convolution, weights (kh, kw, c_in, c_out)."""

    def __init__(self, out_ch, kernel_shape, stride=1, pad=0):
        self.out_ch = out_ch
        self.kernel_shape = kernel_shape
        self.stride = stride
        self.pad = pad
        self.in_ch = None
        self.parameters = {"W": None, "b": None}
        self.gradients = {}
        self.is_initialized = False

    def _init_params(self):
        fr, fc = self.kernel_shape
        W = np.random.randn(fr, fc, self.in_ch, self.out_ch) / np.sqrt(fr * fc * self.in_ch)
        b = np.zeros((1, 1, 1, self.out_ch))
        self.parameters = {"W": W, "b": b}
        self.gradients = {"W": np.zeros_like(W), "b": np.zeros_like(b)}
        self.is_initialized = True

    def forward(self, X):
        if not self.is_initialized:
            self.in_ch = X.shape[3]
            self._init_params()
        W, b = self.parameters["W"], self.parameters["b"]
        p, s = self.pad, self.stride
        fr, fc = self.kernel_shape
        Xp = np.pad(X, ((0, 0), (p, p), (p, p), (0, 0)))
        oh = (Xp.shape[1] - fr) // s + 1
        ow = (Xp.shape[2] - fc) // s + 1
        Y = np.empty((X.shape[0], oh, ow, self.out_ch))
        for i in range(oh):
            for j in range(ow):
                Y[:, i, j, :] = np.tensordot(Xp[:, i*s:i*s+fr, j*s:j*s+fc, :], W, axes=([1, 2, 3], [0, 1, 2]))
        self.Xp = Xp
        self.in_shape = X.shape
        return Y + b

    def backward(self, dLdY):
        W = self.parameters["W"]
        p, s = self.pad, self.stride
        fr, fc = self.kernel_shape
        _, oh, ow, _ = dLdY.shape
        dXp = np.zeros_like(self.Xp)
        dW = np.zeros_like(W)
        for i in range(oh):
            for j in range(ow):
                win = self.Xp[:, i*s:i*s+fr, j*s:j*s+fc, :]
                dy = dLdY[:, i, j, :]
                dW += np.tensordot(win, dy, axes=([0], [0]))
                dXp[:, i*s:i*s+fr, j*s:j*s+fc, :] += np.tensordot(dy, W, axes=([1], [3]))
        self.gradients["W"] = dW
        self.gradients["b"] = dLdY.sum(axis=(0, 1, 2)).reshape(1, 1, 1, -1)
        _, h, w, _ = self.in_shape
        return dXp[:, p:p+h, p:p+w, :]
