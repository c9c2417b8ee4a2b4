"""Conventions that the numbers tell, and the same layer with another option."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..spec.results import listed
from . import guess
from .adapted import walk
from .assign import has_role
from .calls import LOGITS, other_options
from .trial import GRADIENTS, Fit, copies_of, in_silence, run_once


def variants(fit: Fit) -> Iterator[tuple[str, Fit]]:
    """The same with another stride, padding, window or mode, where its forward still runs: in words, and the fit.
    """
    if fit.again is None:
        return
    with in_silence():
        for change in other_options(fit.given, "".join(map(guess.source_of, (fit.kind, *fit.functions)))):
            found = fit.again(change)
            if found.score >= 2:
                yield ", ".join(f"{n}={v}" for n, v in change.items()), settle(found)
        if (flattened := _flattened(fit)) is not None:
            yield flattened


def _flattened(fit: Fit) -> tuple[str, Fit] | None:
    """The same with samples of two axes instead of one, where the forward says that it flattens them."""
    name = next((n for n in fit.recipe.gradients if n in fit.inputs), "")
    x: Any = fit.inputs.get(name)
    if fit.again is None or np.ndim(x) != 2 or x.shape[1] % 2:
        return None
    other = fit.again({}, {name: x.reshape(len(x), 2, -1)})
    with contextlib.suppress(Exception):
        plain, more = (listed(f.adapted().forward(*copies_of(f.inputs).values())) for f in (fit, other))
        if other.score >= 2 and np.ndim(plain[0]) and all(
                np.shape(a) == np.shape(b) and np.allclose(a, b) for a, b in zip(plain, more, strict=True)):
            return f"{name} of shape {other.inputs[name].shape}", settle(other)
    return None


def settle(fit: Fit) -> Fit:
    """The same recipe under the convention that its numbers keep, where there is more than one: of a loss that gives
    a number a sample, the sum or the mean; of a derivative, by the argument or by the value."""
    if fit.score < GRADIENTS:
        return fit
    recipe, others = fit.recipe, []
    local = dict(fit.inputs, layer=copy.deepcopy(fit.layer), optimizer=fit.optimizer)
    x = next((n for n in fit.inputs if n in recipe.gradients), "")
    with in_silence():
        try:
            local["result"] = run_once(recipe, fit.space, local, fit.inputs)
            before = [np.array(eval(o, fit.space, local)) for o in recipe.outputs]
            single = np.ndim(before[0]) == 0
            for n in recipe.constant:
                if has_role(n) and _matters(fit, local, before, n):
                    fit.leftover[n] = n
        except Exception:
            return fit
        if recipe.scalar:
            first = recipe.outputs[0]
            if not single:
                recipe = fit.recipe = replace(recipe, outputs=(f"np.sum({first})",))
                others += [(replace(recipe, outputs=(f"np.sum({first}) / len({x})",)),
                            "its gradient is that of the mean over the samples"),
                           (replace(recipe, outputs=(f"np.mean({first})",)), "its gradient is that of the mean")]
            label = recipe.constant or [n for n, a in fit.inputs.items() if np.asarray(a).dtype.kind in "biu"]
            if x and label and np.ndim(fit.inputs[x]) == 2 and not LOGITS.search(recipe.name):
                forward, backward = (re.sub(rf"\b{x}\b", f"softmax({x})", t)
                                     for t in (recipe.forward, recipe.backward))
                others.append((replace(recipe, forward=forward, backward=backward),
                               "its gradient is that of the scores before a softmax"))
        elif recipe.backward.startswith("dy0 * ") and x:
            others.append((replace(recipe, backward=re.sub(rf"\b{x}\b", "result", recipe.backward)),
                           "its derivative is by the value of the function, not by its argument"))
        if others and not agrees(fit):
            for other, words in others:
                trial = replace(fit, recipe=replace(other, words=(*other.words, words)))
                if agrees(trial):
                    return trial
    return fit


def as_read(fit: Fit) -> Fit:
    """The same with inputs as large as their gradients, where the forward reads no more: a grid of two columns."""
    if fit.again is None or not fit.recipe.gradients:
        return fit
    with in_silence(), contextlib.suppress(Exception):
        sizes, usual = _gradient_shapes(fit), _outputs(fit, fit.layer)
        less = {n: fit.inputs[n][tuple(map(slice, shape))] for n, shape in sizes.items()
                if len(shape) == np.ndim(fit.inputs[n]) and shape < fit.inputs[n].shape}
        if less:
            other = fit.again({}, less)
            if _gradient_shapes(other) == {n: np.shape(other.inputs[n]) for n in sizes} and all(
                    map(np.array_equal, usual, _outputs(other, other.layer))):
                return other
    return fit


def _gradient_shapes(fit: Fit) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs' gradients, by name."""
    layer = fit.adapted()
    outputs = listed(layer.forward(*copies_of(fit.inputs).values()))
    returned = layer.backward(*(np.ones(np.shape(o))[()] for o in outputs))
    return {n: np.shape(g) for n, g in zip(fit.recipe.gradients, listed(returned), strict=True)}


def unsettled(fit: Fit) -> Fit:
    """The same with what is kept of zeros or ones alone, and has a say in the forward, drawn: running means, say."""
    if fit.layer is None or fit.single:
        return fit
    known = {*fit.recipe.params.values(), *fit.recipe.grads.values()}
    with in_silence(), contextlib.suppress(Exception):
        usual = _outputs(fit, fit.layer)
        for expression, _, name, a in list(walk(fit.layer, "layer")):
            if expression in known or not _blank(a) or "mask" in name.lower():
                continue
            drawn = "uniform(0.5, 1.5, " if a.all() else "normal(0, 0.5, "
            text = f"{expression}[...] = np.random.default_rng({len(name)}).{drawn}{a.shape})"
            layer = copy.deepcopy(fit.layer)
            exec(text, fit.space, {"layer": layer})
            before = np.array(eval(expression, fit.space, {"layer": layer}))
            moved, kept = _outputs(fit, layer), eval(expression, fit.space, {"layer": layer})
            if np.array_equal(kept, before) and all(map(np.all, map(np.isfinite, moved))) and not all(
                    map(np.array_equal, usual, moved)):
                exec(text, fit.space, {"layer": fit.layer})
                fit.recipe.before += (text,)
    return fit


def _blank(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size > 0 and bool((a == 0).all() or (a == 1).all())


def _outputs(fit: Fit, layer: Any) -> list[Any]:
    other = replace(fit, layer=layer).adapted()
    return [np.array(o) for o in listed(other.forward(*copies_of(fit.inputs).values()))]


def _matters(fit: Fit, local: dict[str, Any], before: list[Any], name: str) -> bool:
    """Whether an output changes with an array that has no gradient."""
    try:
        moved = fit.inputs | {name: np.asarray(fit.inputs[name]) * 1.25 + 0.125}
        own = dict(local, layer=copy.deepcopy(fit.layer))
        own["result"] = run_once(fit.recipe, fit.space, own, moved)
        now = [np.array(eval(o, fit.space, own)) for o in fit.recipe.outputs]
        return not all(np.array_equal(a, b) for a, b in zip(before, now, strict=True))
    except Exception:
        return True


def agrees(fit: Fit) -> bool:
    """Whether a gradient is, roughly, the derivative of its forward along two directions."""
    try:
        layer = fit.adapted()
        names = list(fit.recipe.gradients)
        rng = np.random.default_rng(5)
        inputs = copies_of(fit.inputs)
        np.random.seed(0)
        outputs = listed(layer.forward(*inputs.values()))
        cotangents = [np.ones(())[()] if fit.recipe.scalar else rng.standard_normal(np.shape(o))[()] for o in outputs]
        np.random.seed(1)
        gradients = dict(zip(names, layer.backward(*cotangents), strict=True))
        for _ in range(2):
            vectors = {n: rng.uniform(-1, 1, inputs[n].shape) for n in names}
            got = sum(float(np.sum(gradients[n] * v)) for n, v in vectors.items())
            ends: list[float] = []
            for sign in (1, -1):
                np.random.seed(0)
                moved = {n: a + sign * 1e-6 * vectors[n] if n in vectors else a for n, a in inputs.items()}
                ends.append(sum(float(np.sum(c * o)) for c, o in zip(
                    cotangents, listed(layer.forward(*moved.values())), strict=True)))
            slope = (ends[0] - ends[1]) / 2e-6
            size = sum(float(np.abs(gradients[n] * v).sum()) for n, v in vectors.items())
            if not abs(got - slope) <= 1e-4 * (size + abs(slope)) + 1e-9:
                return False
        return True
    except Exception:
        return False
