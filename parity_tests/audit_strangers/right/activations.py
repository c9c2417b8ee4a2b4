import numpy as np


class Activation(object):
    def forward(self, x):
        self.x = x
        return self.f(x)

    def backward(self, grad):
        return grad * self.df(self.x)

    def __call__(self, x):
        return self.forward(x)


class ELU(Activation):
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def f(self, x):
        return np.where(x > 0, x, self.alpha * (np.exp(x) - 1))

    def df(self, x):
        return np.where(x > 0, 1.0, self.alpha * np.exp(x))


class SELU(Activation):
    alpha = 1.6732632423543772848170429916717
    scale = 1.0507009873554804934193349852946

    def f(self, x):
        return self.scale * np.where(x > 0, x, self.alpha * np.expm1(x))

    def df(self, x):
        return self.scale * np.where(x > 0, 1.0, self.alpha * np.exp(x))


class Softplus(Activation):
    def f(self, x):
        return np.logaddexp(0, x)

    def df(self, x):
        return 1 / (1 + np.exp(-x))


class Swish(Activation):
    def __init__(self, beta=1.0):
        self.beta = beta

    def f(self, x):
        return x / (1 + np.exp(-self.beta * x))

    def df(self, x):
        s = 1 / (1 + np.exp(-self.beta * x))
        return s + self.beta * x * s * (1 - s)


class Mish(Activation):
    def f(self, x):
        return x * np.tanh(np.log1p(np.exp(x)))

    def df(self, x):
        t = np.tanh(np.log1p(np.exp(x)))
        s = 1 / (1 + np.exp(-x))
        return t + x * s * (1 - t ** 2)


class LeakyReLU(Activation):
    def __init__(self, slope=0.01):
        self.slope = slope

    def f(self, x):
        return np.maximum(x, self.slope * x)

    def df(self, x):
        return np.where(x > 0, 1, self.slope)


class HardSigmoid(Activation):
    def f(self, x):
        return np.clip(0.2 * x + 0.5, 0, 1)

    def df(self, x):
        return 0.2 * ((x > -2.5) & (x < 2.5))


class Tanh(Activation):
    def f(self, x):
        return np.tanh(x)

    def df(self, x):
        return 1 - np.tanh(x) ** 2


class Softsign(Activation):
    def f(self, x):
        return x / (1 + np.abs(x))

    def df(self, x):
        return 1 / (1 + np.abs(x)) ** 2
