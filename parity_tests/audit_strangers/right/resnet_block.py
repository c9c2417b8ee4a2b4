import numpy as np


class Linear:
    def __init__(self, i, o):
        self.W = np.random.randn(i, o) * np.sqrt(2 / i)
        self.b = np.zeros((1, o))

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, d):
        self.grad_W = self.x.T @ d
        self.grad_b = d.sum(0, keepdims=True)
        return d @ self.W.T


class ReLU:
    def forward(self, x):
        self.on = x > 0
        return x * self.on

    def backward(self, d):
        return d * self.on


class ResidualBlock:
    def __init__(self, width, hidden):
        self.fc1 = Linear(width, hidden)
        self.act = ReLU()
        self.fc2 = Linear(hidden, width)
        self.out_act = ReLU()

    def forward(self, x):
        h = self.fc2.forward(self.act.forward(self.fc1.forward(x)))
        return self.out_act.forward(x + h)

    def backward(self, d):
        d = self.out_act.backward(d)
        return d + self.fc1.backward(self.act.backward(self.fc2.backward(d)))
