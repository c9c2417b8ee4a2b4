import numpy as np

_C = np.sqrt(2.0 / np.pi)
_K = 0.44715


def gelu_forward(x):
    """tanh approximation of the Gaussian error linear unit (Hendrycks & Gimpel)"""
    inner = _C * (x + _K * np.power(x, 3))
    th = np.tanh(inner)
    return 0.5 * x * (1 + th), (x, th)


def gelu_backward(dout, cache):
    x, th = cache
    dinner = _C * (1 + 3 * _K * np.square(x))
    return dout * (0.5 * (1 + th) + 0.5 * x * (1 - np.square(th)) * dinner)
