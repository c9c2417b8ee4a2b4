"""Elementary functions that never overflow, over real and complex numbers alike."""

import numpy as np

from ._types import Array


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) for any real or complex array, exact in both tails."""
    positive = x.real >= 0
    z = np.exp(np.where(positive, -x, x))
    return np.where(positive, 1, z) / (1 + z)


def softmax(x: Array, mask: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) over the last axis, among the entries where ``mask`` is true.

    The other entries are zero; so is a row with nothing valid.
    """
    if mask is None:
        z = np.exp(x - x.real.max(axis=-1, keepdims=True))
        return z / z.sum(axis=-1, keepdims=True)
    some = mask.any(axis=-1, keepdims=True)
    top = np.where(mask, x.real, -np.inf).max(axis=-1, keepdims=True)
    top = np.where(some, top, 0)
    z = np.where(mask, np.exp(np.where(mask, x, top) - top), 0)
    return np.where(mask, z / np.where(some, z.sum(axis=-1, keepdims=True), 1), 0)


def softmax_backward(dy: Array, y: Array, mask: Array | None = None) -> Array:
    """Cotangent of softmax's argument: J dy with J = diag(y) - y y^T, row by row."""
    if mask is not None:
        dy = np.where(mask, dy, 0)  # y is zero there, but zero times NaN is not
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """x - log(sum(exp(x))) over the last axis."""
    z = x - x.real.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
