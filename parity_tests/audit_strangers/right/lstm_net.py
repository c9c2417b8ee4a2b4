import numpy as np


class LSTM:
    """One layer LSTM, time first: inputs (T, N, D), returns the last hidden state."""

    def __init__(self, D, H):
        z = H + D
        self.H = H
        self.params = {}
        for name in ("Wf", "Wi", "Wc", "Wo"):
            self.params[name] = np.random.randn(z, H) / np.sqrt(z)
            self.params["b" + name[1]] = np.zeros((1, H))
        self.grads = {k: np.zeros_like(v) for k, v in self.params.items()}

    @staticmethod
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def forward(self, x):
        T, N, D = x.shape
        p = self.params
        h = np.zeros((N, self.H))
        c = np.zeros((N, self.H))
        self.states = []
        for t in range(T):
            zt = np.concatenate([h, x[t]], axis=1)
            f = self.sigmoid(zt @ p["Wf"] + p["bf"])
            i = self.sigmoid(zt @ p["Wi"] + p["bi"])
            c_bar = np.tanh(zt @ p["Wc"] + p["bc"])
            o = self.sigmoid(zt @ p["Wo"] + p["bo"])
            c_prev = c
            c = f * c_prev + i * c_bar
            h = o * np.tanh(c)
            self.states.append((zt, f, i, c_bar, o, c_prev, c))
        return h

    def backward(self, dh):
        for k in self.grads:
            self.grads[k] = np.zeros_like(self.params[k])
        p, g = self.params, self.grads
        dc = 0
        dx = []
        for zt, f, i, c_bar, o, c_prev, c in reversed(self.states):
            tc = np.tanh(c)
            do = dh * tc * o * (1 - o)
            dc = dc + dh * o * (1 - tc ** 2)
            df = dc * c_prev * f * (1 - f)
            di = dc * c_bar * i * (1 - i)
            dcb = dc * i * (1 - c_bar ** 2)
            dz = 0
            for n, d in (("f", df), ("i", di), ("c", dcb), ("o", do)):
                g["W" + n] += zt.T @ d
                g["b" + n] += d.sum(axis=0, keepdims=True)
                dz = dz + d @ p["W" + n].T
            dh = dz[:, :self.H]
            dx.insert(0, dz[:, self.H:])
            dc = dc * f
        return np.stack(dx)
