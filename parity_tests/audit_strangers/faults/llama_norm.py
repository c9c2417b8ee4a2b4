import numpy as np
from typing import Tuple


def rmsnorm_forward(x: np.ndarray, weight: np.ndarray, eps: float = 1e-6) -> Tuple[np.ndarray, tuple]:
    ms = (x * x).mean(axis=-1, keepdims=True)
    r = 1.0 / np.sqrt(ms + eps)
    return weight * (x * r), (x, weight, r)


def rmsnorm_backward(dy: np.ndarray, cache: tuple) -> Tuple[np.ndarray, np.ndarray]:
    x, weight, r = cache
    xh = x * r
    dweight = (dy * xh).reshape(-1, x.shape[-1]).sum(axis=0)
    dxh = dy * weight
    dx = r * (dxh - xh * (dxh * xh).sum(axis=-1, keepdims=True))
    return dx, dweight
