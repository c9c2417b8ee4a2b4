import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[float])


def gelu_forward(x):
    cdf = 0.5 * (1.0 + _erf(x / np.sqrt(2.0)))
    return x * cdf, (x, cdf)


def gelu_backward(dy, cache):
    x, cdf = cache
    pdf = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    return dy * (cdf + x * pdf)


def gelu_tanh_forward(x):
    k = np.sqrt(2.0 / np.pi)
    t = np.tanh(k * (x + 0.044715 * x ** 3))
    return 0.5 * x * (1.0 + t), (x, t)


def gelu_tanh_backward(dy, cache):
    x, t = cache
    k = np.sqrt(2.0 / np.pi)
    inner = k * (1.0 + 3 * 0.044715 * x ** 2)
    return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t ** 2) * inner)


def silu_forward(x):
    s = 1.0 / (1.0 + np.exp(-x))
    return x * s, (x, s)


def silu_backward(dy, cache):
    x, s = cache
    return dy * s * (1.0 + x * (1.0 - s))
