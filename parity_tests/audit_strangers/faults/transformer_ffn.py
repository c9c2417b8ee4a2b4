import numpy as np

SQRT_2_PI = np.sqrt(2 / np.pi)


class FeedForward:
    """Linear - GELU - Linear"""

    def __init__(self, d_model, d_ff):
        self.params = {
            "W1": np.random.randn(d_model, d_ff) * 0.3, "b1": np.zeros(d_ff),
            "W2": np.random.randn(d_ff, d_model) * 0.3, "b2": np.zeros(d_model),
        }
        self.grads = {k: np.zeros_like(v) for k, v in self.params.items()}

    @staticmethod
    def gelu(u):
        return 0.5 * u * (1 + np.tanh(SQRT_2_PI * (u + 0.044715 * u ** 3)))

    @staticmethod
    def gelu_grad(u):
        t = np.tanh(SQRT_2_PI * (u + 0.044715 * u ** 3))
        return 0.5 * (1 + t) + 0.5 * u * (1 - t * t) * SQRT_2_PI * (1 + 0.044715 * u ** 2)

    def forward(self, x):
        self.x = x
        self.u = x @ self.params["W1"] + self.params["b1"]
        self.g = self.gelu(self.u)
        return self.g @ self.params["W2"] + self.params["b2"]

    def backward(self, dy):
        F = self.g.shape[-1]
        D = dy.shape[-1]
        self.grads["W2"] = self.g.reshape(-1, F).T @ dy.reshape(-1, D)
        self.grads["b2"] = dy.reshape(-1, D).sum(axis=0)
        du = (dy @ self.params["W2"].T) * self.gelu_grad(self.u)
        self.grads["W1"] = self.x.reshape(-1, D).T @ du.reshape(-1, F)
        self.grads["b1"] = du.reshape(-1, F).sum(axis=0)
        return du @ self.params["W1"].T
