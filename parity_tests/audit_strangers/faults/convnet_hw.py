import numpy as np


def conv_forward(x, w, b, conv_param):
    """
    x: (N, C, H, W)   w: (F, C, HH, WW)   b: (F,)
    conv_param: 'stride', 'pad'
    """
    s, p = conv_param['stride'], conv_param['pad']
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    Ho, Wo = (H + 2*p - HH)//s + 1, (W + 2*p - WW)//s + 1
    xp = np.pad(x, ((0,0),(0,0),(p,p),(p,p)), mode='constant')
    out = np.zeros((N, F, Ho, Wo))
    for i in range(Ho):
        for j in range(Wo):
            patch = xp[:, :, i*s:i*s+HH, j*s:j*s+WW]
            for f in range(F):
                out[:, f, i, j] = np.sum(patch * w[f], axis=(1, 2, 3)) + b[f]
    return out, (x, w, b, conv_param)


def conv_backward(dout, cache):
    x, w, b, conv_param = cache
    s, p = conv_param['stride'], conv_param['pad']
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0,0),(0,0),(p,p),(p,p)), mode='constant')
    dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), dout.sum(axis=(0, 2, 3))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            patch = xp[:, :, i*s:i*s+HH, j*s:j*s+WW]
            for f in range(F):
                g = dout[:, f, i, j][:, None, None, None]
                dw[f] += np.sum(patch * g, axis=0)
                dxp[:, :, i:i+HH, j:j+WW] += w[f] * g
    return dxp[:, :, p:p+H, p:p+W], dw, db
