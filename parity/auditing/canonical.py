"""What layers of well-known names compute: candidates for the output, one a convention, from their inputs alone.

A forward that is none of them is another function than its name says; which convention it keeps is its own business.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .adapted import softmax

EPSILONS = (1e-5, 1e-8, 1e-7, 1e-6, 1e-3, 1e-12, 0.0)
CLOSE = 1e-7  # relative
Candidates = Iterator[Any]


def _of_one(function: Callable[[Any], Any]) -> Callable[..., Candidates]:
    def candidates(x: Any) -> Candidates:
        yield function(x)

    return candidates


def _softmax(x: Any) -> Candidates:
    for axis in range(x.ndim):
        yield np.moveaxis(softmax(np.moveaxis(x, axis, -1)), -1, axis)


def _matmul(a: Any, b: Any) -> Candidates:
    yield from (np.matmul(p, q) for p, q in ((a, b), (b, a), (a, b.T), (b.T, a)) if p.shape[-1] == q.shape[-2 % q.ndim])


def _affine(x: Any, w: Any, b: Any) -> Candidates:
    flat = x.reshape(len(x), -1)
    for p, q in ((x, w), (flat, w), (w, x), (x, w.T), (flat, w.T)):
        if p.ndim > 1 and q.ndim > 1 and p.shape[-1] == q.shape[-2]:
            for bias in (b, b.T):
                try:
                    yield np.matmul(p, q) + bias
                except ValueError:
                    continue


def _normalized(axes: Callable[[int], list[Any]]) -> Callable[..., Candidates]:
    def candidates(x: Any, gamma: Any = 1.0, beta: Any = 0.0) -> Candidates:
        for axis, eps in itertools.product(axes(x.ndim), EPSILONS):
            away = x - x.mean(axis=axis, keepdims=True)
            for g, b in ((gamma, beta), tuple(np.reshape(p, (*np.shape(p), 1, 1)) for p in (gamma, beta))):
                try:
                    yield g * away / np.sqrt((away**2).mean(axis=axis, keepdims=True) + eps) + b
                    yield g * away / (np.sqrt((away**2).mean(axis=axis, keepdims=True)) + eps) + b
                except ValueError:
                    continue

    return candidates


def _windows(x: Any, rows: int, columns: int, stride: int, pad: int) -> Any:
    """Windows of images ``(N, C, H, W)``: ``(N, C, rows out, columns out, rows, columns)``."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(2, 3))
    return view[:, :, ::stride, ::stride]


def _convolution(x: Any, w: Any, b: Any = 0.0) -> Candidates:
    if x.ndim != 4 or w.ndim != 4:
        return
    for (image, back), kernel in itertools.product(
            ((x, (0, 1, 2, 3)), (x.transpose(0, 3, 1, 2), (0, 2, 3, 1))), (w, w.transpose(3, 2, 0, 1))):
        rows, columns = kernel.shape[2:]
        for stride, pad in itertools.product((1, 2), (0, 1, 2)):
            fits = kernel.shape[1] == image.shape[1] and np.size(b) in (1, len(kernel))
            if fits and max(rows, columns) <= min(image.shape[2:]) + 2 * pad:
                out = np.einsum("nchwij,fcij->nfhw", _windows(image, rows, columns, stride, pad), kernel)
                yield (out + np.reshape(b, (-1, 1, 1))).transpose(back)


def _pooling(reduce: Callable[..., Any]) -> Callable[..., Candidates]:
    def candidates(x: Any) -> Candidates:
        for image, back in ((x, (0, 1, 2, 3)), (x.transpose(0, 3, 1, 2), (0, 2, 3, 1))) if x.ndim == 4 else ():
            for size, stride in itertools.product((2, 3), (1, 2, 3)):
                if size <= min(image.shape[2:]):
                    yield reduce(_windows(image, size, size, stride, 0), axis=(4, 5)).transpose(back)

    return candidates


def _squares(p: Any, t: Any) -> Candidates:
    for factor in (1.0, 0.5):
        squares = factor * (p - t) ** 2
        yield from (squares, squares.mean(), squares.sum(), squares.sum() / len(p), squares.mean(axis=-1))


def _crossentropy(p: Any, t: Any) -> Candidates:
    hot = np.eye(p.shape[-1])[t] if t.dtype.kind in "iu" else t
    for q in (p, softmax(p)):
        rows = -np.sum(hot * np.log(np.maximum(q, 1e-300)), axis=-1)
        yield from (rows, rows.mean(), rows.sum(), rows.sum() / p.size)


TABLE: tuple[tuple[str, re.Pattern[str], Callable[..., Candidates]], ...] = tuple(
    (name, re.compile(pattern), candidates) for name, pattern, candidates in (
        ("sigmoid", r"^(sigmoid|logistic)(forward)?$", _of_one(lambda x: 1 / (1 + np.exp(-x)))),
        ("tanh", r"^(tanh|hyperbolictangent)(forward)?$", _of_one(np.tanh)),
        ("relu", r"^relu(forward)?$", _of_one(lambda x: np.maximum(x, 0))),
        ("softmax", r"^softmax(forward)?$", _softmax),
        ("matmul", r"^matmul$", _matmul),
        ("affine", r"^(affine|linear|dense|fullyconnected|fc)(forward)?$", _affine),
        ("batch norm", r"^batchnorm(alization)?(1d|2d)?(forward)?$",
         _normalized(lambda n: [0] if n == 2 else [(0, *range(2, n)), tuple(range(n - 1))])),
        ("layer norm", r"^layernorm(alization)?(1d|2d)?(forward)?$",
         _normalized(lambda n: [-1, tuple(range(1, n)), 0])),
        ("convolution", r"^conv(olution)?(2d)?(forward)?(naive)?$", _convolution),
        ("max pooling", r"^max_?pool(ing)?(2d)?(forward)?(naive)?$", _pooling(np.max)),
        ("average pooling", r"^(avg|average|mean)_?pool(ing)?(2d)?(forward)?(naive)?$", _pooling(np.mean)),
        ("squared error", r"^(mse|meansquarederror|squarederror|squaredloss|l2)(loss)?$", _squares),
        ("cross entropy", r"^(softmax)?(categorical)?cross_?entropy(loss)?$|^softmaxloss$", _crossentropy)))


def called(name: str) -> tuple[str, Callable[..., Candidates]] | None:
    """What a class or function of that name is called, and its candidates; None for a name that says nothing."""
    bare = re.sub(r"^(activation|layer(?!norm)|loss)|(layer|activation)$", "", name.lower().replace("_", ""))
    return next(((title, candidates) for title, pattern, candidates in TABLE if pattern.match(bare)), None)


def agrees(name: str, params: dict[str, Any], inputs: dict[str, Any], output: Any) -> bool | None:
    """Whether an output is what its name says; None where the name, or the number of arrays, says nothing."""
    known = called(name)
    if known is None:
        return None
    arrays = [*inputs.values(), *params.values()]
    try:
        with np.errstate(all="ignore"):
            found = [c for c in known[1](*arrays) if np.shape(c) == np.shape(output)]
    except (TypeError, ValueError, IndexError):  # another number of arguments, or other shapes: not that layer
        return None
    if not found:
        return None
    return any(np.allclose(c, output, CLOSE, CLOSE) for c in found)
