import numpy as np

class LSTM:
    # many to one, x: (N, T, D)
    def __init__(self, input_dim, hidden_dim, output_dim):
        self.H = hidden_dim
        k = 1.0 / np.sqrt(hidden_dim)
        self.W = {g: np.random.uniform(-k, k, (input_dim + hidden_dim, hidden_dim)) for g in 'ifog'}
        self.b = {g: np.zeros(hidden_dim) for g in 'ifog'}
        self.V = np.random.uniform(-k, k, (hidden_dim, output_dim))

    def _s(self, v):
        return 1 / (1 + np.exp(-v))

    def forward(self, x):
        N, T, D = x.shape
        h, c = np.zeros((N, self.H)), np.zeros((N, self.H))
        self.tape = []
        for t in range(T):
            z = np.hstack([x[:, t], h])
            a = {g: z @ self.W[g] + self.b[g] for g in 'ifog'}
            i, f, o, g = self._s(a['i']), self._s(a['f']), self._s(a['o']), np.tanh(a['g'])
            c_old = c
            c = f * c + i * g
            h = o * np.tanh(c)
            self.tape.append((z, i, f, o, g, c_old, c))
        self.h = h
        return h @ self.V

    def backward(self, dy):
        self.dW = {g: np.zeros_like(w) for g, w in self.W.items()}
        self.db = {g: np.zeros_like(w) for g, w in self.b.items()}
        self.dV = self.h.T @ dy
        dh = dy @ self.V.T
        dc = np.zeros_like(dh)
        dxs = []
        for z, i, f, o, g, c_old, c in self.tape[::-1]:
            dc = dc + dh * o * (1 - c ** 2)
            da = {
                'o': dh * np.tanh(c) * o * (1 - o),
                'f': dc * c_old * f * (1 - f),
                'i': dc * g * i * (1 - i),
                'g': dc * i * (1 - g * g),
            }
            dz = np.zeros_like(z)
            for k, d in da.items():
                self.dW[k] += z.T @ d
                self.db[k] += d.sum(axis=0)
                dz += d @ self.W[k].T
            dxs.append(dz[:, :-self.H])
            dh = dz[:, -self.H:]
            dc = dc * f
        return np.stack(dxs[::-1], axis=1)
