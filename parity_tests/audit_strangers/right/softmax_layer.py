import numpy as np


class Softmax:
    def __init__(self, axis: int = -1):
        self.axis = axis

    def forward(self, x):
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        self.out = e / e.sum(axis=self.axis, keepdims=True)
        return self.out

    def backward(self, dout):
        # full Jacobian, one row at a time
        y = np.moveaxis(self.out, self.axis, -1)
        d = np.moveaxis(dout, self.axis, -1)
        dx = np.empty_like(y)
        for i in np.ndindex(*y.shape[:-1]):
            J = np.diag(y[i]) - np.outer(y[i], y[i])
            dx[i] = J @ d[i]
        return np.moveaxis(dx, -1, self.axis)


class LogSoftmax:
    def forward(self, x):
        z = x - x.max(axis=-1, keepdims=True)
        self.out = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
        return self.out

    def backward(self, dout):
        return dout - np.exp(self.out) * dout.sum(axis=-1, keepdims=True)
