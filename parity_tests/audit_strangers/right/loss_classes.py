import numpy as np


class MSELoss:
    def forward(self, y_pred, y_true):
        self.diff = y_pred - y_true
        return np.mean(self.diff ** 2)

    def backward(self):
        return 2 * self.diff / self.diff.size


class L1Loss:
    def forward(self, y_pred, y_true):
        self.diff = y_pred - y_true
        return np.mean(np.abs(self.diff))

    def backward(self):
        return np.sign(self.diff) / self.diff.size


class HuberLoss:
    def __init__(self, delta=1.0):
        self.delta = delta

    def forward(self, y_pred, y_true):
        self.diff = y_pred - y_true
        a = np.abs(self.diff)
        return np.mean(np.where(a <= self.delta, 0.5 * a ** 2, self.delta * (a - 0.5 * self.delta)))

    def backward(self):
        return np.clip(self.diff, -self.delta, self.delta) / self.diff.size


class LogCoshLoss:
    def forward(self, y_pred, y_true):
        self.diff = y_pred - y_true
        return np.mean(np.log(np.cosh(self.diff)))

    def backward(self):
        return np.tanh(self.diff) / self.diff.size


class BCEWithLogitsLoss:
    def __init__(self, pos_weight=1.0):
        self.pos_weight = pos_weight

    def forward(self, logits, targets):
        self.logits, self.targets = logits, targets
        log_sig = -np.logaddexp(0, -logits)
        log_one_minus = -np.logaddexp(0, logits)
        return -np.mean(self.pos_weight * targets * log_sig + (1 - targets) * log_one_minus)

    def backward(self):
        p = 1 / (1 + np.exp(-self.logits))
        g = self.pos_weight * self.targets * (p - 1) + (1 - self.targets) * p
        return g / g.size


class CrossEntropyLoss:
    def __init__(self, label_smoothing=0.0):
        self.ls = label_smoothing

    def forward(self, logits, labels):
        n, k = logits.shape
        z = logits - logits.max(1, keepdims=True)
        logp = z - np.log(np.exp(z).sum(1, keepdims=True))
        self.q = np.full((n, k), self.ls / k)
        self.q[np.arange(n), labels] += 1 - self.ls
        self.p = np.exp(logp)
        return -(self.q * logp).sum() / n

    def backward(self):
        return (self.p - self.q) / len(self.p)
