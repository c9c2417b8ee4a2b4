import numpy as np

def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    """x (N, C, H, W); gamma, beta (1, C, 1, 1); G groups, a divisor of C"""
    eps = gn_param.get('eps', 1e-5)
    N, C, H, W = x.shape
    xg = x.reshape(N * G, -1)
    mean = xg.mean(axis=1, keepdims=True)
    var = xg.var(axis=1, keepdims=True)
    xn = ((xg - mean) / np.sqrt(var + eps)).reshape(x.shape)
    out = xn * gamma + beta
    cache = (xn, gamma, var, eps, G)
    return out, cache

def spatial_groupnorm_backward(dout, cache):
    xn, gamma, var, eps, G = cache
    N, C, H, W = dout.shape
    dbeta = dout.sum(axis=(0, 2, 3), keepdims=True)
    dgamma = (dout * xn).sum(axis=(0, 2, 3), keepdims=True)
    dxn = (dout * gamma).reshape(N * G, -1)
    xn = xn.reshape(N * G, -1)
    dx = dxn - dxn.mean(axis=1, keepdims=True) - xn * (dxn * xn).mean(axis=1, keepdims=True)
    dx /= np.sqrt(var + eps)
    return dx.reshape(N, C, H, W), dgamma, dbeta
