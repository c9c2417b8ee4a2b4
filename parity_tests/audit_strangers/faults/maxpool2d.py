import numpy as np


class MaxPool2D:
    def __init__(self, pool_size=(3, 3), stride=2):
        self.pool_size = pool_size
        self.stride = stride

    def forward(self, X):
        ph, pw = self.pool_size
        s = self.stride
        n, c, h, w = X.shape
        oh, ow = (h - ph) // s + 1, (w - pw) // s + 1
        out = np.zeros((n, c, oh, ow))
        self.arg = np.zeros((n, c, oh, ow), dtype=int)
        for i in range(oh):
            for j in range(ow):
                flat = X[:, :, i * s:i * s + ph, j * s:j * s + pw].reshape(n, c, -1)
                self.arg[:, :, i, j] = flat.argmax(axis=2)
                out[:, :, i, j] = flat.max(axis=2)
        self.X = X
        return out

    def backward(self, dY):
        dX = np.zeros_like(self.X)
        s = self.stride
        pw = self.pool_size[1]
        for n, c, i, j in np.ndindex(dY.shape):
            r, q = divmod(self.arg[n, c, i, j], pw)
            dX[n, c, i * s + r, j * s + q] = dY[n, c, i, j]
        return dX
