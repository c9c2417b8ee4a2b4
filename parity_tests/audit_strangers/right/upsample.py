import numpy as np


class UpsampleNearest:
    def __init__(self, factor=2):
        self.factor = factor

    def forward(self, x):
        f = self.factor
        return x.repeat(f, axis=2).repeat(f, axis=3)

    def backward(self, dy):
        f = self.factor
        n, c, h, w = dy.shape
        return dy.reshape(n, c, h // f, f, w // f, f).sum(axis=(3, 5))


def _interp_matrix(n_in, n_out):
    # half pixel centres, edges clamped
    A = np.zeros((n_out, n_in))
    pos = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    pos = np.clip(pos, 0, n_in - 1)
    lo = np.floor(pos).astype(int)
    hi = np.minimum(lo + 1, n_in - 1)
    t = pos - lo
    rows = np.arange(n_out)
    np.add.at(A, (rows, lo), 1 - t)
    np.add.at(A, (rows, hi), t)
    return A


class UpsampleBilinear:
    def __init__(self, factor=2):
        self.factor = factor

    def forward(self, x):
        h, w = x.shape[2:]
        self.Ah = _interp_matrix(h, h * self.factor)
        self.Aw = _interp_matrix(w, w * self.factor)
        return np.einsum('ph,nchw,qw->ncpq', self.Ah, x, self.Aw)

    def backward(self, dy):
        return np.einsum('ph,ncpq,qw->nchw', self.Ah, dy, self.Aw)
