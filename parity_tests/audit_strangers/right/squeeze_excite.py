import numpy as np


class SqueezeExcite:
    def __init__(self, channels, reduction=2):
        r = max(1, channels // reduction)
        self.params = {
            'w1': np.random.randn(channels, r) * 0.5,
            'b1': np.zeros(r) + 0.1,
            'w2': np.random.randn(r, channels) * 0.5,
            'b2': np.zeros(channels),
        }
        self.gradients = {}

    def forward(self, x):
        p = self.params
        squeeze = x.mean(axis=(2, 3))
        h = squeeze @ p['w1'] + p['b1']
        a = np.maximum(h, 0)
        s = 1 / (1 + np.exp(-(a @ p['w2'] + p['b2'])))
        self.cache = (x, squeeze, h, a, s)
        return x * s[:, :, None, None]

    def backward(self, dy):
        p, g = self.params, self.gradients
        x, squeeze, h, a, s = self.cache
        ds = (dy * x).sum(axis=(2, 3)) * s * (1 - s)
        g['w2'] = a.T @ ds
        g['b2'] = ds.sum(axis=0)
        dh = (ds @ p['w2'].T) * (h > 0)
        g['w1'] = squeeze.T @ dh
        g['b1'] = dh.sum(axis=0)
        dsq = dh @ p['w1'].T
        hw = x.shape[2] * x.shape[3]
        return dy * s[:, :, None, None] + dsq[:, :, None, None] / hw
