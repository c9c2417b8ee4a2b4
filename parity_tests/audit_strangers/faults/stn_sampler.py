import numpy as np


def grid_sample_forward(image, grid):
    """image (N, C, H, W); grid (N, Ho, Wo, 2), last axis x, y in [-1, 1], corners aligned"""
    N, C, H, W = image.shape
    px = 0.5 * (grid[..., 0] + 1.0) * (W - 1)
    py = 0.5 * (grid[..., 1] + 1.0) * (H - 1)
    x0 = np.minimum(np.maximum(np.floor(px).astype(int), 0), W - 2)
    y0 = np.minimum(np.maximum(np.floor(py).astype(int), 0), H - 2)
    wx, wy = px - x0, py - y0
    out = np.zeros((N, C) + grid.shape[1:3])
    for n in range(N):
        im = image[n]
        out[n] = (im[:, y0[n], x0[n]] * (1 - wx[n]) * (1 - wy[n])
                  + im[:, y0[n], x0[n] + 1] * wx[n] * (1 - wy[n])
                  + im[:, y0[n] + 1, x0[n]] * (1 - wx[n]) * wy[n]
                  + im[:, y0[n] + 1, x0[n] + 1] * wx[n] * wy[n])
    return out, (image, x0, y0, wx, wy)


def grid_sample_backward(dout, cache):
    image, x0, y0, wx, wy = cache
    N, C, H, W = image.shape
    dimage = np.zeros_like(image)
    dgrid = np.zeros(x0.shape + (2,))
    for n in range(N):
        X, Y, a, b, d = x0[n], y0[n], wx[n], wy[n], dout[n]
        tl, tr = image[n][:, Y, X], image[n][:, Y, X + 1]
        bl, br = image[n][:, Y + 1, X], image[n][:, Y + 1, X + 1]
        ch = np.arange(C)[:, None, None]
        np.add.at(dimage[n], (ch, Y, X), d * (1 - a) * (1 - b))
        np.add.at(dimage[n], (ch, Y, X + 1), d * a * (1 - b))
        np.add.at(dimage[n], (ch, Y + 1, X), d * (1 - a) * b)
        np.add.at(dimage[n], (ch, Y + 1, X + 1), d * a * b)
        dpx = np.sum(d * ((tr - tl) * (1 - b) + (br - bl) * b), axis=0)
        dpy = np.sum(d * ((bl - tl) * (1 - a) + (br - tr) * a), axis=0)
        dgrid[n, ..., 0] = dpx * 0.5 * (H - 1)
        dgrid[n, ..., 1] = dpy * 0.5 * (W - 1)
    return dimage, dgrid
