"""What a wrong gradient differs by: the right one in other blocks or axes, at other arguments, or a term too many.

Each entry takes a ``Scene`` and a name, and gives ``(kind, words)`` or None. None of them knows a layer: they hold what
was got against a small dictionary of what the sample, its cotangent and its output have to offer.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rounding import rms
from .scene import Scene, Told, ratio

BLOCKS = (2, 3, 4)  # that an array may be packed of, along one axis
ASKED = 16  # other arguments at which the right gradient is asked for


def summed(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """One total, or mean, along an axis, given to every entry."""
    if right.size < 2:
        return None
    for count in range(1, right.ndim + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if np.prod([right.shape[a] for a in axes]) < 2:
                continue
            for word, function in (("summed", np.sum), ("averaged", np.mean)):
                if scene.same(got, np.broadcast_to(function(right, axis=axes, keepdims=True), right.shape)):
                    return "axis", (f"it is {word} over ax{'i' if count == 1 else 'e'}s {', '.join(map(str, axes))} as "
                                    "well, and the result given to every entry")
    return None


def blocks(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Packed of blocks in another order, as gates are."""
    for axis, count in itertools.product(reversed(range(right.ndim)), BLOCKS):
        if right.shape[axis] % count or right.shape[axis] == 1:
            continue
        parts = np.split(right, count, axis)
        for order in list(itertools.permutations(range(count)))[1:]:
            if scene.same(got, np.concatenate([parts[i] for i in order], axis)):
                return "order", (f"its {count} blocks along axis {axis} are in the wrong order: those of the right one "
                                 f"stand as {', '.join(str(i + 1) for i in order)}")
    return None


def signs(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Right but for signs."""
    if not scene.same(np.abs(got), np.abs(right)) or not (right * got < 0).any():
        return None
    wrong = np.count_nonzero(right * got < 0)
    lost = ": all of it is positive" if (got >= 0).all() else ""
    return "sign", f"the sign is wrong in {wrong} of {got.size} entries, the size nowhere{lost}"


def element(scene: Scene, name: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """By output of a function element by element: the cotangent, the output and the argument; None for others."""
    base = scene.base
    if len(base.cotangents) != 1:
        return None
    (c,), (y,), x = base.cotangents, base.outputs.values(), base.sample.point()[name]
    if np.shape(c) != x.shape or y.shape != x.shape or x.size < 4 or not np.all(c):
        return None
    return c, y, x


def branches(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Each entry has the slope of some branch, and not of its own."""
    if (found := element(scene, name)) is None:
        return None
    c, _, x = found
    slopes = np.unique(np.round(right / c, 9))
    own = np.round(got / c, 9)
    if not 1 < slopes.size <= 3 or not all(np.isclose(slopes, v, 1e-6, 1e-9).any() for v in np.unique(own)):
        return None
    asked = {"the sign of the incoming gradient": c > 0, "the opposite condition": ~np.isclose(own, right / c, 1e-6),
             "the size of the input": np.abs(x) > 1}
    for words, condition in asked.items():
        if 0 < condition.sum() < condition.size and np.ptp(own[condition]) < 1e-6 and np.ptp(own[~condition]) < 1e-6:
            return "branch", f"its branch is chosen by {words}, where forward asks for the input"
    return "branch", "its branch, or its mask, is another one than forward's: every entry has the slope of one of them"


def product(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """One term of a product rule alone."""
    if (found := element(scene, name)) is None:
        return None
    c, y, x = found
    with np.errstate(all="ignore"):
        term = c * y / x
    if not np.isfinite(term).all():
        return None
    if scene.same(got, term):
        return "jacobian", (f"a term of the product rule is missing: it is the cotangent times output / {name}, "
                            f"without {name} times the derivative of the other factor")
    if scene.same(got, right - term):
        return "jacobian", f"a term of the product rule is missing: output / {name} times the cotangent"
    return None


def unmasked(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """A cotangent that by-passes, or is added, where a mask of the forward stops it."""
    base = scene.base
    rest = got - right
    for label, c in zip(base.outputs, base.cotangents, strict=True):
        y = base.outputs[label]
        if np.shape(c) != rest.shape or np.size(c) < 4:
            continue
        where = {f"where {label} is zero": y == 0, f"where {label} is not zero": y != 0,
                 f"where {name} is positive": base.sample.point()[name] > 0,
                 f"where {name} is not positive": base.sample.point()[name] <= 0}
        for words, mask in where.items():
            if not 0 < mask.sum() < mask.size or (rest[~mask].any() and not scene.same(
                    rest[~mask], 0 * rest[~mask], rms(right))):
                continue
            if (share := ratio(scene, rest[mask], c[mask])) is not None and abs(share) > 1e-3:
                return "jacobian", f"the cotangent is {_times(share)}added {words}: a mask is left out on one path"
    return None


def _times(c: float) -> str:
    return "" if abs(c - 1) < 1e-6 else f"{c:.6g} times "


def arguments(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """The right one of other arguments: of an array turned around, transposed, without its sign."""
    base = scene.base
    point, tried = base.sample.point(), 0
    for label, a in point.items():
        if a.dtype.kind != "f" or not a.size or (label == name and a.ndim < 2):
            continue
        for kind, words, other in _others(a):
            if np.array_equal(other, a) or tried >= ASKED:
                continue
            tried += 1
            params, inputs, states = ({n: other if n == label else b for n, b in group.items()} for group in
                                      (base.sample.params, base.sample.inputs, base.sample.states))
            changed = replace(base.sample, params=params, inputs=inputs, states=states)
            if scene.same(got, scene.ask(changed, base.cotangents).right.get(name)):
                return kind, f"it is the right one for another {label}: {label} {words}"
    return None


def _others(a: NDArray[Any]) -> Iterator[tuple[str, str, NDArray[Any]]]:
    if a.ndim > 1 and a.shape[-1] == a.shape[-2]:
        yield "transposed", "with its last two axes transposed", np.swapaxes(a, -1, -2).copy()
    if a.ndim > 2:
        yield "flipped", "turned around along its last two axes", np.flip(a, (-1, -2)).copy()
        yield "flipped", "turned around along its first two axes", np.flip(a, (0, 1)).copy()
    if a.ndim:
        yield "flipped", f"reversed along axis {a.ndim - 1}", np.flip(a, -1).copy()
    yield "jacobian", "without its sign", np.abs(a)
    yield "sign", "with the other sign", -a
    yield "jacobian", "squared", a * a
    yield "jacobian", "as ones, as if it were not there", np.ones_like(a)


def located(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Nothing known explains it: at least where it is wrong, if that is a place with a name."""
    if right.size < 4:
        return None
    wrong = np.abs(got - right) > scene.exact * rms(right)
    if wrong.all() or not wrong.any():
        return None
    places = {}
    for label, a in scene.base.sample.inputs.items():
        indices = a.dtype.kind in "iu" and a.shape == right.shape[:-1] and a.size > 0
        if indices and a.min() >= 0 and a.max() < right.shape[-1]:
            places[f"at the entries that {label} names"] = np.eye(right.shape[-1], dtype=bool)[a]
        if a.shape == right.shape and a.dtype.kind in "fb":
            places[f"where {label} is positive"], places[f"where {label} is not positive"] = a > 0, a <= 0
    for axis, size in enumerate(right.shape):
        for words, index in (("first", 0), ("last", size - 1)):
            there = np.zeros(right.shape, bool)
            np.moveaxis(there, axis, 0)[index] = size > 2
            places[f"in the {words} entries along axis {axis}"] = there
            places[f"in all but the {words} entries along axis {axis}"] = ~there & (size > 2)
    found = next((words for words, there in places.items() if (wrong <= there).all() and wrong.sum() > there.sum() / 2
                  ), "")
    return ("where", f"no known transformation explains it; it is wrong only {found}") if found else None
