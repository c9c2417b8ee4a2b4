import numpy as np


class BilinearSampler:
    """Samples an image (N, H, W, C) at grid (N, Ho, Wo, 2) of (x, y) in [-1, 1]."""

    def forward(self, img, grid):
        N, H, W, C = img.shape
        x = (grid[..., 0] + 1) * (W - 1) / 2
        y = (grid[..., 1] + 1) * (H - 1) / 2
        x0 = np.clip(np.floor(x).astype(int), 0, W - 2)
        y0 = np.clip(np.floor(y).astype(int), 0, H - 2)
        fx = (x - x0)[..., None]
        fy = (y - y0)[..., None]
        n = np.arange(N)[:, None, None]
        Ia = img[n, y0, x0]
        Ib = img[n, y0, x0 + 1]
        Ic = img[n, y0 + 1, x0]
        Id = img[n, y0 + 1, x0 + 1]
        out = Ia * (1 - fx) * (1 - fy) + Ib * fx * (1 - fy) + Ic * (1 - fx) * fy + Id * fx * fy
        self.cache = img.shape, n, x0, y0, fx, fy, Ia, Ib, Ic, Id
        return out

    def backward(self, dout):
        shape, n, x0, y0, fx, fy, Ia, Ib, Ic, Id = self.cache
        dimg = np.zeros(shape)
        np.add.at(dimg, (n, y0, x0), dout * (1 - fx) * (1 - fy))
        np.add.at(dimg, (n, y0, x0 + 1), dout * fx * (1 - fy))
        np.add.at(dimg, (n, y0 + 1, x0), dout * (1 - fx) * fy)
        np.add.at(dimg, (n, y0 + 1, x0 + 1), dout * fx * fy)
        dfx = (dout * ((Ib - Ia) * (1 - fy) + (Id - Ic) * fy)).sum(-1)
        dfy = (dout * ((Ic - Ia) * (1 - fx) + (Id - Ib) * fx)).sum(-1)
        dgrid = np.stack([dfx * (shape[2] - 1) / 2, dfy * (shape[1] - 1) / 2], axis=-1)
        return dimg, dgrid
