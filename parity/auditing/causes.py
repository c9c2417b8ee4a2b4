"""Causes that are common in the wild: each takes a ``Scene`` and a name, and gives ``(kind, words)`` or None."""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rounding import rms
from .scene import Scene, Told, ratio

CROPS = (-2, -1, 0, 1, 2)  # entries by which a gradient may be shifted where padding was cropped wrongly


def unused_cotangent(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """As if all cotangents were ones."""
    base = scene.base
    if scene.subject.without_cotangent:
        return None
    ones = scene.ask(base.sample, [np.ones_like(c)[()] for c in base.cotangents])
    if scene.same(got, ones.right[name]) and not scene.same(right, ones.right[name]):
        return "linear", "the cotangent is not used: backward has to multiply by it"
    return None


def fused(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """The gradient of a loss and a softmax in one, where there is but one of them, or the softmax once more."""
    if got.ndim < 1:
        return None
    arrays = {n: a for n, a in (scene.base.sample.inputs | scene.base.outputs).items()
              if a.dtype.kind == "f" and a.shape == right.shape}
    targets = {n: a for n, a in scene.base.sample.inputs.items() if n != name and a.shape == right.shape}
    targets |= {n: np.eye(right.shape[-1])[a] for n, a in scene.base.sample.inputs.items()
                if a.dtype.kind in "iu" and a.shape == right.shape[:-1] and a.size
                and a.min() >= 0 and a.max() < right.shape[-1]}
    for (given, a), (target, t) in itertools.product(arrays.items(), targets.items()):
        if given != target and ratio(scene, got, a - t) is not None:
            return "fused", (f"it is already fused through softmax: {given} - {target} is the gradient of the logits "
                             f"behind a softmax, not that of {name}")
    for given, a in arrays.items():
        for probabilities in (a, np.exp(a - a.max(axis=-1, keepdims=True))):
            y = probabilities / probabilities.sum(axis=-1, keepdims=True)
            if scene.same(got, y * (right - (y * right).sum(axis=-1, keepdims=True))):
                return "fused", f"it is already fused through softmax, and sent through softmax of {given} once more"
    return None


def at_the_other_end(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """A function element by element, its derivative taken at the output for the input, or the reverse."""
    base = scene.base
    if name not in base.sample.inputs:
        return None
    for label, y in base.outputs.items():
        if y.shape != right.shape or y.dtype.kind != "f":
            continue
        other = scene.ask(replace(base.sample, inputs=base.sample.inputs | {name: y.copy()}), base.cotangents)
        if scene.same(got, other.right[name]):
            return "jacobian", f"the derivative is taken at the output {label} instead of the input {name}"
        if scene.same(other.got[name], right):
            return "jacobian", (f"the derivative is taken at the input {name} instead of the output {label}: its "
                                f"formula is that of {label}")
    return None


def masked(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """What forward sets to zero, or does not choose, gets a gradient; or the scale of what it keeps is left out."""
    base = scene.base
    if name not in base.sample.inputs:
        return None
    x = base.sample.inputs[name]
    for label, c in zip(base.outputs, base.cotangents, strict=True):
        y = base.outputs[label]
        if np.shape(c) != right.shape or y.shape != right.shape:
            continue
        off = (right == 0) & (c != 0)
        if not off.any() or off.all():
            continue
        if not got[~off].any() and ratio(scene, got[off], c[off]) is not None:
            return "branch", ("it goes through the wrong argument of a maximum, or a mask the other way round: where "
                              "forward passes the input on it is zero, and elsewhere it is not")
        with np.errstate(all="ignore"):
            kept = (y / x)[~off & (x != 0)]
        scale = float(kept.flat[0]) if kept.size and scene.same(kept, np.full_like(kept, kept.flat[0])) else None
        drops = scale is not None and not y[off].any()
        through = ratio(scene, got[~off], right[~off])
        left = scale is not None and through is not None and abs(through * scale - 1) < 1e-5 < abs(scale - 1)
        if not got[off].any() and drops and left:
            return "factor", f"the scale is left out: forward multiplies what it keeps by {scale:.6g}"
        if through is not None and got[off].all() and ratio(scene, got[off], c[off]) is not None:
            also = f", and the scale {scale:.6g}" if drops and left else ""
            return "jacobian", (f"a missing Jacobian term: the mask{also} is left out: what forward sets to zero gets "
                                "a gradient as well")
    return None


def assigned(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Entries that are read more than once: one contribution of theirs instead of the sum."""
    if got.ndim < 1:
        return None
    for found in (scene.contributions(name) or {}).values():
        outputs = found.ndim - right.ndim
        for axis in (None, *range(outputs)):  # a window may add up over channels first
            parts = found if axis is None else found.sum(axis=axis)
            parts = parts.reshape(-1, *right.shape)
            there = parts != 0
            if not (there.sum(axis=0) > 1).any():
                continue
            order = np.arange(len(parts)).reshape(-1, *[1] * right.ndim)
            ends = {"last": np.where(there, order, -1).argmax(axis=0), "first": there.argmax(axis=0)}
            for word, place in ends.items():
                if scene.same(got, np.take_along_axis(parts, place[None], axis=0)[0], rms(right)):
                    return "duplicates", (f"the sum over repeated indices is lost: of an entry that is read more than "
                                          f"once only the {word} contribution is there, assigned instead of added")
    return None


def cropped(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Shifted as a whole, something else where it came from: the padding was cropped at the wrong place."""
    if got.ndim < 2:
        return None
    axes = range(max(0, right.ndim - 3), right.ndim)
    shifts = itertools.product(*[CROPS if axis in axes and right.shape[axis] > 3 else (0,)
                                 for axis in range(right.ndim)])
    for shift in sorted(shifts, key=lambda s: sum(map(abs, s))):
        if any(shift):
            to = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, right.shape, strict=True))
            of = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(shift, right.shape, strict=True))
            if 2 * got[to].size > got.size // 2 and right[of].any() and scene.same(got[to], right[of], rms(right)):
                return "cropped", f"padding is cropped wrongly: it is shifted by {_along(shift)}"
    return None


def uncropped(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Larger than it should be, with the right one inside."""
    if got.ndim != right.ndim or any(g < r for g, r in zip(got.shape, right.shape, strict=True)):
        return None
    room = [range(g - r + 1) for g, r in zip(got.shape, right.shape, strict=True)]
    for start in itertools.product(*room):
        inner = tuple(slice(s, s + r) for s, r in zip(start, right.shape, strict=True))
        if scene.same(got[inner], right):
            return "cropped", f"padding is not cropped: the gradient begins at {_along(start)}"
    return None


def _along(shift: Iterable[int]) -> str:
    return ", ".join(f"{s} along axis {axis}" for axis, s in enumerate(shift) if s)
