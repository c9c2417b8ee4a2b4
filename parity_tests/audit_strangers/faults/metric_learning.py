import numpy as np


class TripletMarginLoss:
    """Euclidean distances, as in FaceNet's follow-ups: mean(max(0, |a - p| - |a - n| + margin))"""

    def __init__(self, margin=0.5):
        self.margin = margin

    def forward(self, a, p, n):
        self.vp, self.vn = a - p, a - n
        self.dp = np.linalg.norm(self.vp, axis=1, keepdims=True)
        self.dn = np.linalg.norm(self.vn, axis=1, keepdims=True)
        h = self.dp - self.dn + self.margin
        self.on = h > 0
        return float(np.where(self.on, h, 0).mean())

    def backward(self):
        k = self.on / self.on.size
        up = self.vp / self.dp * k
        un = self.vn / self.dn * k
        grad_a = up - un
        grad_p = -up
        grad_n = -un
        return grad_a, grad_p, grad_n
