"""Optimizers and gradient clipping, on lists of arrays, in place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._types import Array


class SGD:
    """p -= lr g.

    Source: Robbins and Monro 1951; Saito, Deep Learning from Scratch 2, chapter 1.

    Args:
        lr: learning rate, > 0.
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: Sequence[Array], grads: Sequence[Array]) -> None:
        """One step.

        Args:
            params: list of arrays, changed in place.
            grads: list of arrays of the same shapes.

        Raises:
            ValueError: another number of gradients or another shape; then nothing has moved.
        """
        for p, g in _pairs("SGD.update", params, grads=grads):
            p -= float(self.lr) * g  # NumPy's float64 would round float32 otherwise


class Adam:
    """p -= lr_t m / (sqrt(v) + 1e-7), lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t).

    The 1e-7 stands outside the bias correction, as in the textbook, unlike ``torch.optim.Adam``. Where g^2 overflows
    (in float32 beyond 1e19), v is inf from then on, and the entry moves no more: clip before.

    Source: Kingma and Ba 2015; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        lr: learning rate, > 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
    """

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.iter = 0
        self.m: Any = None  # lists of arrays, made at the first step
        self.v: Any = None

    def update(self, params: Sequence[Array], grads: Sequence[Array]) -> None:
        """One step.

        Args:
            params: list of arrays, changed in place; the same list at every step.
            grads: list of arrays of the same shapes.

        Raises:
            ValueError: another number of gradients or another shape, or parameters that do not fit those of
                the steps before; then nothing has moved, nor been counted.
        """
        params = list(params)
        fresh = self.m is None
        m, v = ([np.zeros_like(p) for p in params] for _ in range(2)) if fresh else (self.m, self.v)
        steps = _pairs("Adam.update", params, grads=grads, m=m, v=v)
        self.m, self.v = m, v
        self.iter += 1
        lr, beta1, beta2 = float(self.lr), float(self.beta1), float(self.beta2)
        lr_t = lr * (1 - beta2**self.iter) ** 0.5 / (1 - beta1**self.iter)
        for p, g, m, v in steps:
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g * g - v)
            p -= lr_t * m / (np.sqrt(v) + 1e-7)


def _pairs(where: str, params: Sequence[Array], **others: Sequence[Array]) -> list[tuple[Array, ...]]:
    """Rows of a parameter and what belongs to it, each of its shape."""
    params = list(params)
    lists = {name: list(arrays) for name, arrays in others.items()}
    for name, arrays in lists.items():
        got, needed = ([np.shape(a) for a in some] for some in (arrays, params))
        if got != needed:
            raise ValueError(f"{where}: {name} has shapes {got}, expected {needed} as params")
    return list(zip(params, *lists.values(), strict=True))


def clip_grads(grads: Sequence[Array], max_norm: float) -> float:
    """Scales all gradients by max_norm / (norm + 1e-6) where that is below 1.

    Source: Pascanu et al. 2013; Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        grads: list of arrays, changed in place.
        max_norm: largest norm that stays as it is.

    Returns:
        The Euclidean norm of all gradients together, before clipping, in their dtype: inf where it is beyond that,
        and the gradients are clipped all the same. An infinite gradient makes it inf too, and zeroes the finite ones.
    """
    grads, max_norm = list(grads), float(max_norm)
    wide = [g.astype(np.promote_types(g.dtype, np.float32), copy=False) for g in grads]  # as torch adds halves up
    top = max((np.abs(g).max(initial=0) for g in wide), default=0)
    # by a power of two, which changes no bit, the largest is near 1, and no square overflows
    e = np.frexp(top)[1] if np.isfinite(top) else 0
    wide = [np.ldexp(g, -e) for g in wide]
    part = np.sqrt(sum((g * g).sum() for g in wide))
    with np.errstate(over="ignore"):
        norm = np.ldexp(part, e).astype(np.result_type(np.float16, *grads))
        rate = max_norm / (norm + 1e-6)
    if np.isinf(norm) and np.isfinite(part):
        if np.ldexp(max_norm / part, -e) < 1:
            for g, w in zip(grads, wide, strict=True):
                g[...] = w * (max_norm / part)
    elif rate < 1:
        for g in grads:
            g *= rate
    return norm
