"""What explains a wrong gradient: a table of transformations of the right one.

Every entry of ``GRADIENT``, and of ``outputs.OUTPUT``, takes a ``Scene``, a name, what was got and what is right, and
gives ``(kind, words)`` where it explains what was got, on the first sample and on the others, else None. The first that
does is the diagnosis, so the plainest stand first. Gradients have the shape of their array; those of another are
explained by ``misshapen``.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.axes import axes
from . import causes, terms
from .rounding import NEARLY, STEPS, grainy, nudged, rms, rounded
from .scene import Scene, Told, ratio
from .search import traced
from .sizes import counting, law_of
from .subject import quantities
from .trace import Refused, somebodys_code

Explanation = Callable[[Scene, str, NDArray[Any], NDArray[Any]], Told]
FLOAT32 = "float64 is silently cut to float32 somewhere on the way: it agrees to seven digits only"


def zero(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    if not got.any():
        return "dropped", "one path is dropped: it is all zeros, as if never computed or never written"
    return None


def unconnected(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    if name in scene.base.sample.params and not right.any():
        return "unconnected", "forward does not depend on the array in params: it is not used, or only a copy of it"
    return None


def ignored(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Right at the labels that count, something at those that do not."""
    for label, counts in counting(scene.base.sample).items():
        if counts.shape == right.shape[: counts.ndim]:
            out = ~counts
            if out.any() and scene.same(got[~out], right[~out], rms(right)) and got[out].any():
                return "ignored", f"ignored {label} get a gradient: it has to be zero there"
    return None


def not_finite(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    if got.shape == right.shape and not np.isfinite(got).all():
        return "overflow", f"overflow or a division by zero: it is {got[~np.isfinite(got)][0]}"
    return None


def single(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Right to the seven digits of float32, and of its values no more digits are there, or none that answer."""
    return ("float32", FLOAT32) if scene.same(got, right) and (rounded(got) or _deaf(scene, got, name)) else None


def _deaf(scene: Scene, got: NDArray[Any], name: str) -> bool:
    with somebodys_code():
        near, nearer = (quantities(scene.subject, nudged(scene.base.sample, step, 7), scene.base.cotangents)[1][name]
                        for step in STEPS)
    return near is not None and nearer is not None and grainy(got, near, nearer)


def approximate(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Off by less than a computation in float32 is."""
    size = np.abs(right) + rms(right)
    if not (np.abs(got - right) <= NEARLY * size).all():
        return None
    share = np.max(np.abs(got - right) / np.where(size > 0, size, 1))
    return "approximate", f"it is off by {share:.1g} of its size, less than float32 could tell"


def factor(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    everywhere = [scene.base, *scene.varied]
    scalar = all(len(m.cotangents) == 1 and np.ndim(m.cotangents[0]) == 0 for m in everywhere)
    if scalar and not scene.subject.without_cotangent:
        ratios = [(ratio(scene, m.got[name], m.right.get(name)), float(m.cotangents[0])) for m in everywhere]
        if all(r is not None and abs(r * c - 1) < 1e-5 for r, c in ratios):
            return "linear", "the cotangent is not used: backward has to multiply by it"
    return law_of(scene, lambda m: (m.got.get(name), m.right.get(name)))


def nonlinear(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Twice the cotangent does not give twice the gradient."""
    base = scene.base
    if scene.subject.without_cotangent:
        return None
    with somebodys_code():
        _, twice = quantities(scene.subject, base.sample, [2 * c for c in base.cotangents])
    if twice[name] is not None and not scene.same(twice[name], 2 * got):
        return "linear", "backward is not linear in the cotangent"
    return None


def one_output(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """The cotangent of one of several outputs left out, or counted twice."""
    base = scene.base
    for i, output_name in enumerate(base.outputs if len(base.cotangents) > 1 else ()):
        without = [np.zeros_like(c)[()] if j == i else c for j, c in enumerate(base.cotangents)]
        rest = scene.ask(base.sample, without).right[name]
        if scene.same(got, rest):
            return "dropped", f"one path is dropped: the cotangent of {output_name} is not used"
        if scene.same(got, 2 * right - rest):
            return "doubled", f"one path is doubled: the cotangent of {output_name} is counted twice"
    return None


def times(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Multiplied by an input or an output once too often."""
    for label, a in (scene.base.outputs | scene.base.sample.inputs).items():
        if a.dtype.kind == "f" and a.shape == right.shape:
            if scene.same(got, right * a):
                return "jacobian", f"a Jacobian term too many: multiplied by {label} once too often"
            if scene.same(got * a, right):
                return "jacobian", f"a missing Jacobian term: it should be multiplied by {label}"
    return None


def rearranged(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    if got.size != right.size or right.ndim < 2:
        return None
    for order in itertools.permutations(range(right.ndim)):
        moved = right.transpose(order)
        if order == tuple(range(right.ndim)):
            continue
        back = right.reshape(moved.shape).transpose(np.argsort(order))
        if scene.same(got, moved) or scene.same(got.ravel(), moved.ravel()) or scene.same(got, back):
            return "transposed", f"transposed: its axes stand in the order {order}"
    for axis in range(right.ndim):
        if scene.same(got, np.flip(right, axis)):
            return "flipped", f"reversed along axis {axis}{_letter(scene, name, axis)}"
        half = right.shape[axis] // 2
        if half > 1 and right.shape[axis] == 2 * half and scene.same(got, np.roll(right, half, axis)):
            return "order", f"its two halves are swapped along axis {axis}{_letter(scene, name, axis)}"
        for shift in (1, -1):
            if scene.same(got, np.roll(right, shift, axis)):
                return "shifted", f"shifted by one along axis {axis}{_letter(scene, name, axis)}"
    return None


def _letter(scene: Scene, name: str, axis: int) -> str:
    spec = scene.subject.spec
    text = (spec.inputs | spec.params | spec.states | spec.outputs).get(name) if spec else None
    words = axes(text)[1] if text else []
    return f" ({words[axis]})" if axis < len(words) and "..." not in words else ""


def swapped(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    for other, a in scene.base.right.items():
        if other != name and scene.same(got, a):
            return "order", f"the return order is swapped: it is the gradient of {other}"
    return None


def _gates(scene: Scene, name: str) -> str:
    """The gates packed along the last axis of a parameter; empty for none."""
    spec = scene.subject.spec
    return spec.gates if spec is not None and name in spec.params else ""


def gate_order(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    if not (gates := _gates(scene, name)):
        return None
    blocks = np.split(right, len(gates), axis=-1)
    for order in list(itertools.permutations(range(len(blocks))))[1:]:
        if scene.same(got, np.concatenate([blocks[i] for i in order], axis=-1)):
            packed = ", ".join(gates[i] for i in order)
            return "gates", f"gates are swapped: its blocks are those of {packed}, expected {', '.join(gates)}"
    return None


def duplicates(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Rows of a table: right where an index occurs once, wrong where it occurs more often."""
    wrong = {i for i in range(len(right)) if not scene.same(got[i], right[i], rms(right))} if right.ndim else set()
    for a in scene.base.sample.inputs.values():
        if a.dtype.kind in "iu" and a.size and a.max() < len(right):
            index, counts = np.unique(a[a >= 0], return_counts=True)
            often = set(index[counts > 1].tolist())
            if wrong and wrong <= often and (len(set(index.tolist()) - often) or wrong == often):
                return "duplicates", ("duplicate indices are overwritten: only the rows of indices that occur more "
                                      "than once are wrong; their gradients have to be added, as numpy.add.at does")
    return None


def slabs(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Right in one slice along an axis, zero in the others."""
    for axis in range(right.ndim):
        count = right.shape[axis]
        parts = [(got.take(i, axis), right.take(i, axis)) for i in range(count)]
        good = [i for i, (g, r) in enumerate(parts) if scene.same(g, r, rms(right))]
        none = [i for i, (g, r) in enumerate(parts) if not g.any()]
        if good and len(good) + len(set(none) - set(good)) == count and len(good) < count > 1:
            where = f"along axis {axis}{_letter(scene, name, axis)}"
            if good == [count - 1]:
                return "last-step", f"only the last step {where} is there, the others are zero"
            if good == [0]:
                return "first-step", f"only the first step {where} is there, the others are zero"
            return "dropped", f"one path is dropped: entries {sorted(set(none) - set(good))} {where} are zero"
    return None


def steps(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """What single steps of the sequence contribute, where the layer treats them apart: first, last only."""
    spec, base = scene.subject.spec, scene.base
    if spec is None or not base.outputs:
        return None
    words = axes(next(iter(spec.outputs.values())))[1]
    axis = next((words.index(x) for x in ("T", "U") if x in words), None)
    if axis is None or len(base.cotangents) != 1:
        return None
    count = base.cotangents[0].shape[axis]

    def only(t: int) -> NDArray[Any]:
        masked = np.zeros_like(base.cotangents[0])
        span = (slice(None),) * axis + (t,)
        masked[span] = base.cotangents[0][span]
        return scene.ask(base.sample, [masked]).right[name]

    last, first = only(count - 1), only(0)
    for kind, value, text in (("last-step", last, "only the last time step counts"),
                              ("first-step", first, "only the first time step counts"),
                              ("last-step", right - last, "the last time step is left out"),
                              ("first-step", right - first, "the first time step is left out")):
        if scene.same(got, value):
            return kind, text
    return None


def added(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Off by something known: the cotangent, the input, itself of another call."""
    rest = got - right
    for label, other in [(f"the gradient of {n}", r) for n, r in scene.base.right.items() if n != name] + [
            ("the cotangent", c) for c in scene.base.cotangents]:
        for sign in (1, -1):
            if scene.same(rest, sign * np.asarray(other)):
                return "doubled", f"{label} is added to it" if sign == 1 else f"{label} is subtracted from it"
    if rest.size > 1 and scene.same(rest, np.full_like(rest, rest.flat[0]), abs(rest.flat[0])):
        return "added", f"a constant {rest.flat[0]:.6g} is added to it"
    return None


def block(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Nothing known explains it: at least where it is wrong, gate by gate."""
    if not (gates := _gates(scene, name)):
        return None
    pairs = zip(gates, np.split(got, len(gates), -1), np.split(right, len(gates), -1), strict=True)
    wrong = [gate for gate, g, r in pairs if not scene.same(g, r, rms(right))]
    if 0 < len(wrong) < len(gates):
        return "block", f"no known transformation explains it; only the block of gate {', '.join(wrong)} is wrong"
    return None


GRADIENT: tuple[Explanation, ...] = (
    zero, unconnected, ignored, not_finite, single, approximate, causes.masked, factor, rearranged, swapped, gate_order,
    terms.summed, terms.blocks, duplicates, slabs, added, times, causes.unused_cotangent, causes.fused,
    causes.at_the_other_end, causes.cropped, terms.signs, terms.branches, terms.unmasked, nonlinear, one_output, traced,
    steps, causes.assigned, terms.product, terms.arguments, block, terms.located)


def gradient(scene: Scene, name: str) -> tuple[str, str]:
    """The diagnosis of a wrong gradient of the right shape: kind and words, both empty where nothing explains it."""
    got, right = scene.base.got[name], scene.base.right.get(name)
    assert got is not None
    if right is None:  # of an array of so many entries only some are known
        return zero(scene, name, got, got) or ("", "")
    return first(GRADIENT, scene, name, got, right)


def misshapen(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> tuple[str, str]:
    """The same of a gradient that has another shape than its array."""
    return first((causes.uncropped, rearranged, wrong_sum), scene, name, got, right)


def wrong_sum(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """The letters of the shape that was got tell along which axis it was summed."""
    if got.ndim == right.ndim and sorted(got.shape) == sorted(right.shape):
        return "transposed", f"transposed: shape {got.shape}, expected {right.shape}"
    letters = {v: k for k, v in scene.base.sample.sizes.items() if isinstance(v, int)} if scene.subject.spec else {}
    names = ", ".join(letters.get(s, str(s)) for s in got.shape)
    return "axis", f"summed over the wrong axis: its shape is {got.shape} ({names}), expected {right.shape}"


def first(table: Iterable[Explanation], scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]
          ) -> tuple[str, str]:
    """The first explanation in a table that holds; both empty where none does."""
    for entry in table:
        try:
            found = entry(scene, name, got, right)
        except Refused:  # an explanation that the code does not let us try
            continue
        except Exception as error:  # our own mistake: told, where it cannot be mistaken for the layer's
            word = getattr(entry, "__name__", "")
            scene.tell(f"the explanation {word} could not be tried: {type(error).__name__}: {error}")
            continue
        if found is not None:
            return found
    return "", ""
