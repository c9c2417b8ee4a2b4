import numpy as np


class Dropout:
    """Inverted dropout"""

    def __init__(self, p=0.5):
        self.p = p

    def forward(self, x, train_flg=True):
        if train_flg:
            np.random.seed(0)
            self.mask = (np.random.rand(*x.shape) > self.p) / (1.0 - self.p)
            return x * self.mask
        return x

    def backward(self, dout):
        return dout * self.mask
