import numpy as np

class AvgPool:
    def __init__(self, kh, kw, stride):
        self.kh, self.kw = kh, kw
        self.stride = stride

    def __call__(self, x):
        return self.forward(x)

    def forward(self, x):
        B, H, W, C = x.shape
        self.in_shape = x.shape
        self.oh = 1 + (H - self.kh) // self.stride
        self.ow = 1 + (W - self.kw) // self.stride
        y = np.zeros((B, self.oh, self.ow, C))
        for r in range(self.oh):
            for c in range(self.ow):
                top, left = r * self.stride, c * self.stride
                y[:, r, c] = x[:, top:top + self.kh, left:left + self.kw].sum((1, 2)) / (self.kh * self.kw)
        return y

    def backward(self, dy):
        dx = np.zeros(self.in_shape)
        area = self.kh ** 2
        for r in range(self.oh):
            for c in range(self.ow):
                top, left = r * self.stride, c * self.stride
                dx[:, top:top + self.kh, left:left + self.kw] += dy[:, r:r + 1, c:c + 1] / area
        return dx
