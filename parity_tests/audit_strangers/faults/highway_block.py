import numpy as np

def sigm(a):
    return .5 * (1 + np.tanh(.5 * a))

class HighwayLayer:

    def __init__(self, size):
        self.parameters = {
            'W_h': np.random.randn(size, size) * .1,
            'b_h': np.zeros(size),
            'W_t': np.random.randn(size, size) * .1,
            'b_t': -2. * np.ones(size),
        }
        self.gradients = {}

    def forward(self, x):
        p = self.parameters
        pre = x @ p['W_h'] + p['b_h']
        h = np.maximum(pre, 0)
        t = sigm(x @ p['W_t'] + p['b_t'])
        self.saved = x, pre, h, t
        return h * t + x * (1 - t)

    def backward(self, dy):
        p = self.parameters
        x, pre, h, t = self.saved
        d_pre = dy * t * (pre > 0)
        d_t = dy * (h - x) * t * (1 - t)
        self.gradients['W_h'] = x.T @ d_pre
        self.gradients['b_h'] = d_pre.sum(0)
        self.gradients['W_t'] = x.T @ d_t
        self.gradients['b_t'] = d_t.sum(0)
        dx = d_pre @ p['W_h'].T + d_t @ p['W_t'].T
        return dx
