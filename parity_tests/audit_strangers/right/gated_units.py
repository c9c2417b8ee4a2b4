import numpy as np


def glu_forward(x):
    a, b = np.split(x, 2, axis=-1)
    s = 1 / (1 + np.exp(-b))
    return a * s, (a, s)


def glu_backward(dout, cache):
    a, s = cache
    return np.concatenate([dout * s, dout * a * s * (1 - s)], axis=-1)


def swiglu_forward(x, W, V, W2):
    """(swish(x W) * (x V)) W2"""
    u = x @ W
    v = x @ V
    s = 1 / (1 + np.exp(-u))
    g = u * s
    h = g * v
    y = h @ W2
    return y, (x, W, V, W2, u, v, s, g, h)


def swiglu_backward(dy, cache):
    x, W, V, W2, u, v, s, g, h = cache
    dh = dy @ W2.T
    dW2 = h.T @ dy
    dv = dh * g
    du = dh * v * (s + u * s * (1 - s))
    dx = du @ W.T + dv @ V.T
    return dx, x.T @ du, x.T @ dv, dW2
