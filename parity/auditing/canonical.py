"""What layers of well-known names compute, from their inputs alone, and what is easily written in its place.

Of a name there is a list of forwards, one a convention, and a list of plain mistakes. An output that is one of the
first is what its name says; one that is a mistake, or close to the first and none of them, is not; anything else is
another function that shares the name.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .adapted import softmax

EPSILONS = (1e-5, 1e-8, 1e-7, 1e-6, 1e-3, 1e-12, 1e-4, 1e-2, 0.0)
CLOSE = 1e-7  # relative
NEAR = 0.2  # of its own size that an output may be away to be taken for the same function, gone wrong
SIGMAS = 3  # that the share of entries that a dropout keeps may be away
# thresholds that nobody passed: a delta, a beta
USUAL = (1.0, 0.5, 2.0, 0.3, 0.6, 1.5, 0.1, 0.2, 0.25, 0.7, 0.8, 0.9, 1.2, 0.4, 3.0, 0.18, 0.06)
Candidates = Iterator[Any]
Mistakes = Iterator[tuple[str, Any]]


# --- element by element ---------------------------------------------------------------------------


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _of_one(*functions: Callable[[Any], Any]) -> Callable[..., Candidates]:
    def candidates(x: Any) -> Candidates:
        yield from (f(x) for f in functions)

    return candidates


def _wrong_one(**functions: Callable[[Any], Any]) -> Callable[..., Mistakes]:
    def mistakes(x: Any) -> Mistakes:
        yield from ((words.replace("_", " "), f(x)) for words, f in functions.items())

    return mistakes


_erf = np.vectorize(math.erf, otypes=[float])


def _gelus(x: Any) -> Candidates:
    yield 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    yield 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    yield x * _sigmoid(1.702 * x)


def _fitted(shape: Callable[[Any], Any]) -> Callable[..., Candidates]:
    """Of a function that passes positive numbers on and is a constant times ``shape`` elsewhere, whatever that is."""
    def candidates(x: Any, *own: Any, output: Any) -> Candidates:
        yield np.where(x > 0, x, _constant(output, shape(x), x <= 0) * shape(x))

    return candidates


def _constant(output: Any, shape: Any, where: Any) -> float:
    """The factor that an output has before a shape, by its first entry of those meant."""
    found = np.flatnonzero(where & (shape != 0))
    return float(np.ravel(output)[found[0]] / np.ravel(shape)[found[0]]) if found.size else 0.0


def _wrong_elu(x: Any, *own: Any, output: Any) -> Mistakes:
    at = np.flatnonzero(x <= 0)
    if at.size:
        a = float((np.ravel(output)[at[0]] + 1) / np.exp(np.ravel(x)[at[0]]))
        yield "1 is subtracted outside the factor alpha: alpha exp(x) - 1", np.where(x > 0, x, a * np.exp(x) - 1)


def _swish(x: Any, *own: Any, output: Any) -> Candidates:
    """With any one constant before the argument."""
    beta = next((float(np.ravel(b)[0]) for b in own if np.size(b) == 1), 1.0)
    yield x * _sigmoid(beta * x)
    yield x * _sigmoid(x)
    share = float(np.ravel(output)[0] / np.ravel(x)[0])
    if 0 < share < 1 and not own:
        yield x * _sigmoid(math.log(share / (1 - share)) / np.ravel(x)[0] * x)


def _dropout(x: Any, output: Any) -> Candidates:
    """Some entries zero, the others scaled by one over the share that is kept; or kept as they are."""
    kept, scale = output != 0, _constant(output, x, output != 0)
    share = 1 / scale if scale else 0.0
    if scale == 1 or abs(np.mean(kept) - share) <= SIGMAS * math.sqrt(max(share * (1 - share), 0.01) / kept.size):
        yield np.where(kept, scale * x, 0)


def _wrong_dropout(x: Any, output: Any) -> Mistakes:
    kept, scale = output != 0, _constant(output, x, output != 0)
    share = 1 - 1 / scale if scale else 0.0
    if abs(np.mean(kept) - share) <= SIGMAS * math.sqrt(max(share * (1 - share), 0.01) / kept.size):
        yield "what is kept is scaled by one over the share that is dropped", np.where(kept, scale * x, 0)


# --- rows -----------------------------------------------------------------------------------------


def _softmax(x: Any) -> Candidates:
    for axis in range(x.ndim) if x.ndim != 2 else (-1, 0):
        yield np.moveaxis(softmax(np.moveaxis(x, axis, -1)), -1, axis)


def _wrong_softmax(x: Any) -> Mistakes:
    yield "it is normalised over everything at once", softmax(x.reshape(1, -1)).reshape(x.shape)
    yield "it is not normalised", np.exp(x)
    yield "it is not normalised", np.exp(x - x.max(axis=-1, keepdims=True))


def _log_softmax(x: Any) -> Candidates:
    yield from (np.log(y) for y in _softmax(x))


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


def _wrong_affine(x: Any, w: Any, b: Any) -> Mistakes:
    yield from (("the bias is left out", c) for c in _affine(x, w, 0 * b))
    yield from (("the bias is subtracted", c) for c in _affine(x, w, -b))


def _scales(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    yield arrays
    yield tuple(np.reshape(p, (*np.shape(p), 1, 1)) for p in arrays)


def _normalized(axes: Callable[[int], list[Any]], variance: Callable[[Any, Any], Any] | None = None
                ) -> Callable[..., Candidates]:
    def candidates(x: Any, gamma: Any = 1.0, beta: Any = 0.0, *running: Any) -> Candidates:
        for axis, eps in itertools.product(axes(x.ndim), EPSILONS):
            away = x - x.mean(axis=axis, keepdims=True)
            spread = (away**2).mean(axis=axis, keepdims=True) if variance is None else variance(away, axis)
            for g, b in _scales(gamma, beta):
                try:
                    yield g * away / np.sqrt(spread + eps) + b
                    yield g * away / (np.sqrt(spread) + eps) + b
                except ValueError:
                    continue

    return candidates


def _wrong_norm(axes: Callable[[int], list[Any]]) -> Callable[..., Mistakes]:
    def less(away: Any, axis: Any) -> Any:
        count = away.size / away.mean(axis=axis).size
        return (away**2).sum(axis=axis, keepdims=True) / (count - 1)

    spreads = {"its variance divides by one less than the number of entries": less,
               "it divides by the variance instead of its square root":
                   lambda away, axis: (away**2).mean(axis=axis, keepdims=True)**2,
               "its variance is a sum instead of a mean": lambda away, axis: (away**2).sum(axis=axis, keepdims=True)}

    def mistakes(x: Any, gamma: Any = 1.0, beta: Any = 0.0, *running: Any) -> Mistakes:
        for words, variance in spreads.items():
            yield from ((words, c) for c in _normalized(axes, variance)(x, gamma, beta))
        yield from (("its scale is left out", c) for c in _normalized(axes)(x, 1.0, beta))
        yield from (("its shift is left out", c) for c in _normalized(axes)(x, gamma, 0.0))

    return mistakes


def _batch_axes(n: int) -> list[Any]:
    return [0, *([1] if n == 2 else [(0, *range(2, n)), tuple(range(n - 1))])]


def _layer_axes(n: int) -> list[Any]:
    return [-1, tuple(range(1, n)), 0]


def _rms(mean: Callable[[Any], Any]) -> Callable[..., Candidates]:
    def candidates(x: Any, g: Any = 1.0) -> Candidates:
        for eps in EPSILONS:
            yield g * x / np.sqrt(mean(x**2) + eps)
            yield g * x / (np.sqrt(mean(x**2)) + eps)

    return candidates


def _wrong_rms(x: Any, g: Any = 1.0) -> Mistakes:
    yield from (("it sums the squares instead of taking their mean", c)
                for c in _rms(lambda q: q.sum(axis=-1, keepdims=True))(x, g))
    yield from (("it divides by the mean square instead of its root", c)
                for c in _rms(lambda q: q.mean(axis=-1, keepdims=True)**2)(x, g))
    yield from (("it subtracts the mean, which is a layer norm", c) for c in _normalized(_layer_axes)(x, g))


def _unit(x: Any) -> Candidates:
    for axis, eps in itertools.product(range(x.ndim), EPSILONS):
        size = (x**2).sum(axis=axis, keepdims=True)
        yield from (x / np.sqrt(size + eps), x / (np.sqrt(size) + eps), x / np.maximum(np.sqrt(size), eps))


def _attention(scale: float = 0.5, axis: int = -1) -> Callable[..., Candidates]:
    """Queries, keys and values: of scores divided by the size to that power, or not."""
    def candidates(q: Any, k: Any, v: Any) -> Candidates:
        scores = q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** scale
        later = np.triu(np.ones(scores.shape[-2:], bool), 1)
        for s in (scores, np.where(later, -np.inf, scores), np.where(later, -1e9, scores)):
            yield np.moveaxis(softmax(np.moveaxis(s, axis, -1)), -1, axis) @ v

    return candidates


def _wrong_attention(q: Any, k: Any, v: Any) -> Mistakes:
    yield from (("the scores are divided by the size instead of its square root", c) for c in _attention(1.0)(q, k, v))
    yield from (("the scores are multiplied by the root of the size", c) for c in _attention(-0.5)(q, k, v))
    for scale in (0.5, 0.0):
        yield from (("the softmax runs over the queries, not the keys", c) for c in _attention(scale, -2)(q, k, v))
        weights = softmax(q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** scale)
        yield "the mask is applied behind the softmax: the weights do not sum to one", np.tril(weights) @ v


def _embedding(ids: Any, table: Any) -> Candidates:
    yield (table[ids] if ids.dtype.kind in "iu" else ids[table])


# --- recurrent steps ------------------------------------------------------------------------------


def _gated(cell: Callable[[Any], Any]) -> Callable[..., Candidates]:
    """Hidden states of four gates packed along the last axis, in any order: of one step, or of a sequence."""
    def candidates(x: Any, h: Any, *rest: Any) -> Candidates:
        c, w, u, b = rest if len(rest) == 4 else (np.zeros_like(h), *rest)
        for order in itertools.permutations(range(4)):
            hidden, kept, found = h, c, []
            for xt in np.moveaxis(x, 1, 0) if x.ndim == 3 else [x]:
                parts = np.split(xt @ w + hidden @ u + b, 4, axis=-1)
                i, f, o, g = (parts[k] for k in order)
                kept = _sigmoid(f) * kept + _sigmoid(i) * np.tanh(g)
                hidden = _sigmoid(o) * cell(kept)
                found.append(hidden)
            yield np.stack(found, axis=1) if x.ndim == 3 else hidden
            yield hidden

    return candidates


def _wrong_gated(x: Any, h: Any, *rest: Any) -> Mistakes:
    yield from (("the tanh of the cell is left out", c) for c in _gated(lambda c: c)(x, h, *rest))
    yield from (("the cell goes through a sigmoid instead of a tanh", c) for c in _gated(_sigmoid)(x, h, *rest))


def _recurrent(function: Callable[[Any], Any] = np.tanh) -> Callable[..., Candidates]:
    def candidates(x: Any, h: Any, w: Any, u: Any, b: Any = 0.0) -> Candidates:
        hidden, found = h, []
        for xt in np.moveaxis(x, 1, 0) if x.ndim == 3 else [x]:
            hidden = function(xt @ w + hidden @ u + b)
            found.append(hidden)
        yield np.stack(found, axis=1) if x.ndim == 3 else hidden
        yield hidden

    return candidates


def _wrong_recurrent(x: Any, h: Any, w: Any, u: Any, b: Any = 0.0) -> Mistakes:
    yield from (("the tanh is left out", c) for c in _recurrent(lambda a: a)(x, h, w, u, b))
    yield from (("the earlier state is left out", c) for c in _recurrent()(x, h, w, 0 * u, b))
    yield from (("the bias is left out", c) for c in _recurrent()(x, h, w, u, 0 * np.asarray(b)))


# --- images ---------------------------------------------------------------------------------------


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


def _wrong_convolution(x: Any, w: Any, b: Any = 0.0) -> Mistakes:
    yield from (("the bias is left out", c) for c in _convolution(x, w, 0 * np.asarray(b)))
    for axes in ((2, 3), (0, 1)):
        yield from (("the kernel is turned around", c) for c in _convolution(x, np.flip(w, axes), b))


def _pooling(reduce: Callable[..., Any]) -> Callable[..., Candidates]:
    def candidates(x: Any) -> Candidates:
        for image, back in ((x, (0, 1, 2, 3)), (x.transpose(0, 3, 1, 2), (0, 2, 3, 1))) if x.ndim == 4 else ():
            for size, stride in itertools.product((2, 3), (1, 2, 3)):
                if size <= min(image.shape[2:]):
                    yield reduce(_windows(image, size, size, stride, 0), axis=(4, 5)).transpose(back)

    return candidates


def _wrong_pooling(reduce: Callable[..., Any], words: str) -> Callable[..., Mistakes]:
    def mistakes(x: Any) -> Mistakes:
        yield from ((words, c) for c in _pooling(reduce)(x))

    return mistakes


# --- losses ---------------------------------------------------------------------------------------


def _reduced(rows: Any) -> Candidates:
    """Of losses by entry, those that people give: as they are, their sum, mean, and mean over the samples."""
    yield from (rows, rows.mean(), rows.sum(), rows.sum() / len(rows), rows.mean(axis=-1), rows.sum(axis=-1))


def _squares(p: Any, t: Any) -> Candidates:
    for factor in (1.0, 0.5):
        yield from _reduced(factor * (p - t) ** 2)
    yield np.sqrt(np.mean((p - t) ** 2))


def _absolutes(p: Any, t: Any) -> Candidates:
    yield from _reduced(np.abs(p - t))


def _wrong_distance(power: int) -> Callable[..., Mistakes]:
    def mistakes(p: Any, t: Any) -> Mistakes:
        yield from (("the target is added instead of subtracted", c) for c in _reduced(np.abs(p + t) ** power))
        yield from (("the differences are not squared" if power == 2 else "the differences keep their signs", c)
                    for c in _reduced(p - t))

    return mistakes


def _hubers(inner: Callable[[Any, float], Any], outer: Callable[[Any, float], Any], right: bool = True
            ) -> Callable[..., Candidates]:
    def candidates(p: Any, t: Any) -> Candidates:
        for delta in USUAL:
            r = np.abs(p - t)
            rows = np.where(r <= delta, inner(r, delta), outer(r, delta))
            if not right and ((r <= delta).all() or (r > delta).all()):
                continue  # of one branch alone another threshold may say the same
            for scale in (1.0, 2.0, 1 / delta) if right else (1.0,):
                yield from _reduced(scale * rows)

    return candidates


def _half(r: Any, delta: float) -> Any:
    return 0.5 * r**2


def _wrong_huber(p: Any, t: Any) -> Mistakes:
    wrong = {"its linear branch subtracts delta instead of half of it": (_half, lambda r, d: d * (r - d)),
             "its linear branch subtracts nothing": (_half, lambda r, d: d * r),
             "its linear branch lacks the factor delta": (_half, lambda r, d: r - d / 2),
             "its quadratic branch lacks the half": (lambda r, d: r**2, lambda r, d: d * (r - d / 2))}
    for words, branches in wrong.items():
        yield from ((words, c) for c in _hubers(*branches, right=False)(p, t))


def _margins(p: Any, t: Any, own: float = 0.0) -> Any:
    """Of each class, how far it comes within 1 of the right one; of the right one itself ``own``."""
    right = np.take_along_axis(p, t[:, None], axis=1)
    margins = np.maximum(0, p - right + 1.0)
    np.put_along_axis(margins, t[:, None], own, axis=1)
    return margins


def _hinge(p: Any, t: Any) -> Candidates:
    if t.dtype.kind in "iu":
        margins = _margins(p, t)
        for rows in (margins, margins**2):
            yield from (rows.sum() / len(p), rows.sum(), rows.mean(), rows.sum(axis=1), rows.max(axis=1).mean())
    else:
        for rows in (np.maximum(0, 1 - t * p), np.maximum(0, 1 - t * p) ** 2):
            yield from _reduced(rows)


def _wrong_hinge(p: Any, t: Any) -> Mistakes:
    if t.dtype.kind in "iu":
        margins = _margins(p, t, 1.0)
        yield "the margin of the right class is counted: it is too large by 1", margins.sum() / len(p)
        yield "the margin of the right class is counted: it is too large by 1", margins.sum()
    else:
        yield from (("its sign is the other way round", c) for c in _reduced(np.maximum(0, 1 + t * p)))


def _entropies(p: Any, t: Any) -> Any:
    hot = np.eye(p.shape[-1])[t] if t.dtype.kind in "iu" else t
    for q in (p, softmax(p)):
        yield -np.sum(hot * np.log(np.maximum(q, 1e-300)), axis=-1), q
    if (p <= 0).all():
        yield -np.sum(hot * p, axis=-1), np.exp(p)


def _crossentropy(p: Any, t: Any) -> Candidates:
    for rows, _ in _entropies(p, t):
        yield from (rows, rows.mean(), rows.sum())


def _wrong_crossentropy(p: Any, t: Any) -> Mistakes:
    for rows, q in _entropies(p, t):
        yield "it is averaged over the classes too", rows.sum() / p.size
        yield from (("its sign is wrong", c) for c in (-rows, -rows.mean(), -rows.sum()))
        hot = np.eye(p.shape[-1])[t] if t.dtype.kind in "iu" else t
        picked = (hot * q).sum(axis=-1)
        yield from (("the logarithm is left out", -c) for c in (picked, picked.mean(), picked.sum()))


def _binary(p: Any, t: Any) -> Candidates:
    for q in (p, _sigmoid(p)):
        yield from _reduced(-t * np.log(q) - (1 - t) * np.log(1 - q))


def _wrong_binary(p: Any, t: Any) -> Mistakes:
    for q in (p, _sigmoid(p)):
        yield from (("the term of the other class is left out", c) for c in _reduced(-t * np.log(q)))
        yield from (("its sign is wrong", c) for c in _reduced(t * np.log(q) + (1 - t) * np.log(1 - q)))


@dataclass(frozen=True)
class Named:
    """A name that says what a forward computes.

    Attributes:
        title: in words, with its article.
        pattern: of the name, in small letters and without underscores.
        forwards: of arrays, what they may give.
        mistakes: of the same, what is easily written instead, each in words.
    """

    title: str
    pattern: str
    forwards: Callable[..., Candidates]
    mistakes: Callable[..., Mistakes] | None = None


TABLE: tuple[Named, ...] = (
    Named("a sigmoid", r"(sigmoid|logistic)", _of_one(_sigmoid),
          _wrong_one(the_sign_of_its_argument_is_wrong=lambda x: _sigmoid(-x))),
    Named("a tanh", r"(tanh|hyperbolictangent)", _of_one(np.tanh),
          _wrong_one(it_is_a_sigmoid=_sigmoid, its_sign_is_wrong=lambda x: -np.tanh(x))),
    Named("a ReLU", r"(relu|rectifiedlinear|rectifier)", _of_one(lambda x: np.maximum(x, 0)),
          _wrong_one(it_passes_negative_numbers_on_instead_of_positive_ones=lambda x: np.minimum(x, 0),
                     it_gives_the_absolute_value=np.abs)),
    Named("a leaky ReLU", r"(leakyrelu|lrelu|leaky)", _fitted(lambda x: x)),
    Named("an ELU", r"elu", _fitted(np.expm1), _wrong_elu),
    Named("a SELU", r"selu", _of_one(lambda x: 1.0507009873554805 * np.where(
        x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))))),
    Named("a GELU", r"gelu(tanh|exact|erf)?", _gelus),
    Named("a swish", r"(swish|silu)", _swish),
    Named("a softplus", r"softplus", _of_one(lambda x: np.log1p(np.exp(x)))),
    Named("a softsign", r"softsign", _of_one(lambda x: x / (1 + np.abs(x)))),
    Named("a dropout", r"(inverted)?dropout", _dropout, _wrong_dropout),
    Named("softmax", r"softmax", _softmax, _wrong_softmax),
    Named("log-softmax", r"logsoftmax", _log_softmax),
    Named("a matrix product", r"matmul", _matmul),
    Named("an affine layer", r"(affine|linear|dense|fullyconnected|fc)", _affine, _wrong_affine),
    Named("a batch norm", r"(spatial)?(batchnorm(alization)?|bn)(1d|2d)?", _normalized(_batch_axes),
          _wrong_norm(_batch_axes)),
    Named("a layer norm", r"(layernorm(alization)?|ln)(1d|2d)?", _normalized(_layer_axes), _wrong_norm(_layer_axes)),
    Named("an RMS norm", r"rms(layer)?norm(alization)?", _rms(lambda q: q.mean(axis=-1, keepdims=True)), _wrong_rms),
    Named("an L2 norm", r"(l2norm(alize|alization)?|unitnorm)", _unit),
    Named("an embedding", r"(embedding|wordembedding|lookup(table)?)", _embedding),
    Named("attention", r"(scaled)?(dotproduct|sdp)?attention", lambda q, k, v: itertools.chain(
        _attention()(q, k, v), _attention(0.0)(q, k, v)), _wrong_attention),
    Named("an LSTM", r"lstm(step|cell)?", _gated(np.tanh), _wrong_gated),
    Named("an RNN", r"(vanilla)?rnn(step|cell)?", _recurrent(), _wrong_recurrent),
    Named("a convolution", r"conv(olution)?(2d)?", _convolution, _wrong_convolution),
    Named("max pooling", r"max_?pool(ing)?(2d)?", _pooling(np.max), _wrong_pooling(np.min, "it takes the smallest")),
    Named("average pooling", r"(avg|average|mean)_?pool(ing)?(2d)?", _pooling(np.mean),
          _wrong_pooling(np.sum, "it sums instead of taking the mean")),
    Named("a squared error", r"(mse|meansquarederror|squarederror|squaredloss|l2)(loss)?", _squares,
          _wrong_distance(2)),
    Named("an absolute error", r"(mae|meanabsoluteerror|absoluteerror|l1)(loss)?", _absolutes, _wrong_distance(1)),
    Named("a Huber loss", r"(huber|smoothl1)(loss)?", _hubers(_half, lambda r, d: d * (r - d / 2)), _wrong_huber),
    Named("a hinge loss", r"((multiclass)?(svm|hinge)(loss)?)", _hinge, _wrong_hinge),
    Named("a binary cross entropy", r"(bce|binarycrossentropy)(loss|withlogits)*", _binary, _wrong_binary),
    Named("a cross entropy", r"(softmax)?(categorical)?crossentropy(loss)?|softmaxloss|nll(loss)?", _crossentropy,
          _wrong_crossentropy))


def called(name: str) -> Named | None:
    """What a class or function of that name is called; None for a name that says nothing."""
    bare = re.sub(r"(forward|layer|activation|naive|vectorized|function|func)$|^(activation|layer(?!norm)|loss)", "",
                  re.sub(r"(_|naive$)", "", name.lower()))
    bare = re.sub(r"(forward|step)$", "", bare) or bare
    return next((named for named in TABLE if re.fullmatch(named.pattern, bare)), None)


RIGHT, NEARLY, OTHER = "right", "it is close to that, and is not that", "other"


def judged(name: str, arrays: list[Any], output: Any) -> str | None:
    """What an output is by its forward's name: ``RIGHT``, ``OTHER``, or in words what is wrong with it; None where
    the name, or the number of arrays, says nothing."""
    known = called(name)
    if known is None:
        return None
    found = list(_given(known.forwards, arrays, output))
    if any(np.allclose(c, output, CLOSE, CLOSE) for c in found):
        return RIGHT
    for words, c in _given(known.mistakes, arrays, output) if known.mistakes is not None else ():
        if np.allclose(c, output, CLOSE, CLOSE):
            return str(words)
    if not found:
        return None
    size = float(np.sqrt(np.mean(np.square(output))))
    away = min(float(np.sqrt(np.mean(np.square(c - output)))) for c in found)
    return NEARLY if np.ndim(output) and np.size(output) > 3 and away <= NEAR * size else OTHER


def _given(function: Callable[..., Any], arrays: list[Any], output: Any) -> Iterator[Any]:
    """What a function of arrays gives, of the output's shape; where their number or shapes do not fit, nothing."""
    options = {"output": output} if "output" in inspect.signature(function).parameters else {}
    with np.errstate(all="ignore"):
        try:
            for c in function(*arrays, **options):
                a = c[1] if isinstance(c, tuple) else c
                if np.shape(a) == np.shape(output) and np.isfinite(a).all():
                    yield c
        except (TypeError, ValueError, IndexError, AttributeError):  # not that layer
            return
