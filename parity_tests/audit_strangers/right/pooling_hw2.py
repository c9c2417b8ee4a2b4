import numpy as np


def max_pool_forward(x, pool_param):
    hh, ww, s = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    N, C, H, W = x.shape
    Ho = (H - hh) // s + 1
    Wo = (W - ww) // s + 1
    out = np.zeros((N, C, Ho, Wo), dtype=x.dtype)
    for i in range(Ho):
        for j in range(Wo):
            out[:, :, i, j] = x[:, :, i*s:i*s+hh, j*s:j*s+ww].max(axis=(2, 3))
    return out, (x, pool_param)


def max_pool_backward(dout, cache):
    x, pool_param = cache
    hh, ww, s = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    N, C, Ho, Wo = dout.shape
    dx = np.zeros_like(x)
    for n in range(N):
        for c in range(C):
            for i in range(Ho):
                for j in range(Wo):
                    win = x[n, c, i*s:i*s+hh, j*s:j*s+ww]
                    r, q = np.unravel_index(np.argmax(win), win.shape)
                    dx[n, c, i*s + r, j*s + q] += dout[n, c, i, j]
    return dx


def avg_pool_forward(x, pool_param):
    hh, ww, s = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    N, C, H, W = x.shape
    Ho = (H - hh) // s + 1
    Wo = (W - ww) // s + 1
    out = np.zeros((N, C, Ho, Wo), dtype=x.dtype)
    for i in range(Ho):
        for j in range(Wo):
            out[:, :, i, j] = x[:, :, i*s:i*s+hh, j*s:j*s+ww].mean(axis=(2, 3))
    return out, (x.shape, pool_param)


def avg_pool_backward(dout, cache):
    shape, pool_param = cache
    hh, ww, s = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    dx = np.zeros(shape)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dx[:, :, i*s:i*s+hh, j*s:j*s+ww] += dout[:, :, i, j][:, :, None, None] / (hh * ww)
    return dx
