import numpy as np


def depthwise_conv_forward(x, w, stride=1, pad=1):
    """
    x : (N, C, H, W)
    w : (C, K, K), one filter for each channel
    """
    N, C, H, W = x.shape
    K = w.shape[1]
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    oh = (H + 2 * pad - K) // stride + 1
    ow = (W + 2 * pad - K) // stride + 1
    out = np.zeros((N, C, oh, ow))
    for a in range(K):
        for b in range(K):
            out += w[:, a, b][:, None, None] * xp[:, :, a:a + stride * oh:stride, b:b + stride * ow:stride]
    return out, (xp, w, stride, pad, (H, W))


def depthwise_conv_backward(dout, cache):
    xp, w, stride, pad, (H, W) = cache
    K = w.shape[1]
    oh, ow = dout.shape[2:]
    dxp = np.zeros_like(xp)
    dw = np.zeros_like(w)
    for a in range(K):
        for b in range(K):
            rows = slice(a, a + stride * oh, stride)
            cols = slice(b, b + stride * ow, stride)
            dw[:, b, a] = (xp[:, :, rows, cols] * dout).sum(axis=(0, 2, 3))
            dxp[:, :, rows, cols] += w[:, a, b][:, None, None] * dout
    return dxp[:, :, pad:pad + H, pad:pad + W], dw
