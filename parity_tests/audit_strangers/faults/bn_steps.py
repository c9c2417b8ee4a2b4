import numpy as np


def batchnorm_forward(x, gamma, beta, eps):
    N, D = x.shape
    # step1: calculate mean
    mu = 1. / N * np.sum(x, axis=0)
    # step2: subtract mean vector of every training example
    xmu = x - mu
    # step3: following the lower branch - calculation denominator
    sq = xmu ** 2
    # step4: calculate variance
    var = 1. / N * np.sum(sq, axis=0)
    # step5: add eps for numerical stability, then sqrt
    sqrtvar = np.sqrt(var + eps)
    # step6: invert sqrtwar
    ivar = 1. / sqrtvar
    # step7: execute normalization
    xhat = xmu * ivar
    # step8 and 9: the two transformation steps
    out = gamma * xhat + beta
    cache = (xhat, gamma, xmu, ivar, sqrtvar, var, eps)
    return out, cache


def batchnorm_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
    N, D = dout.shape
    # step9
    dbeta = np.sum(dout, axis=0)
    # step8
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    # step7
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    # step6
    dsqrtvar = -1. / (sqrtvar ** 2) * divar
    # step5
    dvar = 0.5 * 1. / np.sqrt(var + eps) * dsqrtvar
    # step4
    dsq = 1. / N * np.ones((N, D)) * dvar
    # step3
    dxmu2 = 2 * xmu * dsq
    # step2, 1, 0
    dx = dxmu1 + dxmu2
    return dx, dgamma, dbeta
