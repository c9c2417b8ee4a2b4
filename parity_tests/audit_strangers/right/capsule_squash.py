import numpy as np

EPS = 1e-9

def squash_forward(s):
    """ v = |s|^2 / (1 + |s|^2) * s / |s|   over the last axis """
    n2 = np.sum(s * s, axis=-1, keepdims=True)
    n = np.sqrt(n2 + EPS)
    scale = n2 / (1 + n2) / n
    return scale * s, (s, n2, n, scale)

def squash_backward(dv, cache):
    s, n2, n, scale = cache
    # d scale / d n2
    dscale_dn2 = 1 / ((1 + n2) ** 2 * n) - 0.5 * n2 / ((1 + n2) * n ** 3)
    dscale = np.sum(dv * s, axis=-1, keepdims=True)
    return dv * scale + dscale * dscale_dn2 * 2 * s
