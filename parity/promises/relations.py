"""What a layer gives for a case grown along an axis, or in another order, follows from what it gives for the case.

A case's budget is computed where the case is small. The grown case is run by both sides, and what it says of the small
one lies within that same budget: sizes at which an oracle would be dear are judged element by element. A spec says by
its ``relations`` how it behaves along an axis, as one or more names of ``RELATIONS``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..cases.case import Case, Data, admitted, generator
from ..judge.budget import Yardstick
from ..judge.compare import shares, worst
from ..judge.lanes import LANES, Lane
from ..sides import run_port, run_reference
from ..spec.axes import axes
from ..spec.results import Arrays

GROWN = (30, 65, 130, 257)  # sizes that an axis grows to
WORK = 1 << 26  # multiplications that a grown case may take
SHARE = 1 / 4  # of the ordinary cases


@dataclass
class Related:
    """A case made of another one, and how its quantities are those of the other.

    Attributes:
        case, data: the grown or reordered case.
        back: function of (name, axes, quantity) that gives what the smaller case should have; more than one of what
            stands for the same number is one axis before the others.
        rest: function of the same that gives entries that must be zero; None for none.
        words: how it was made.
        slack: by how much more than in the smaller case a sum over the axis may be off.
        ends: quantities that are those of another step.
        place: where the entries of the smaller case stand among those of the grown one.
    """

    case: Case
    data: Data
    back: Callable[[str, list[str], Any], Any]
    words: str
    rest: Callable[[str, list[str], Any], Any] | None = None
    slack: dict[str, float] = field(default_factory=dict)
    ends: frozenset[str] = frozenset()
    place: tuple[int, ...] = ()


@dataclass
class Apart:
    """A quantity of a grown case that is not what the case's is; attributes as of a finding."""

    side: str
    quantity: str
    words: str
    index: tuple[int, ...] | None = None
    share: float | None = None


def relate(case: Case, lane: Lane, yardstick: Yardstick) -> Iterator[Apart]:
    """What both sides say of the relation that follows from a case's id, where it has one in this lane."""
    known = relations(case)
    if lane.round or case.degenerate or not known:
        return
    rng = generator(f"{case.id} relation")
    kin = [other for other in LANES.values() if other.device == lane.device and other.round is None]
    if rng.random() >= SHARE or kin[int(rng.integers(len(kin)))] is not lane:
        return
    letter, name = known[int(rng.integers(len(known)))]
    related = RELATIONS[name](case, yardstick.data, letter, rng)
    if related is not None:
        yield from held(case, lane, yardstick, related)


def relations(case: Case) -> list[tuple[str, str]]:
    """The relations of a case: axis letter and name."""
    spec = case.spec
    found = [(letter, name) for letter, names in spec.relations.items() for name in names.split()]
    found += [(axes(text)[1][-1], "masked") for text in spec.inputs.values() if text.optional and
              axes(text)[0] == "bool"]
    return [(letter, name) for letter, name in found if letter != "..." or case.sizes["..."]]


def held(case: Case, lane: Lane, yardstick: Yardstick, related: Related) -> Iterator[Apart]:
    """Runs both sides, and holds what they say."""
    data = related.data.frozen()
    with np.errstate(all="ignore"):
        sides = {"reference": lambda: run_reference(related.case, data),
                 "port": lambda: run_port(related.case, data, lane)}
        for side, run in sides.items():
            for name, quantity in run().items():
                text = _text(case, yardstick.data, name)
                if text is None or name not in yardstick.budget or name in related.ends:
                    continue
                yield from _compared(side, name, related, text, np.asarray(quantity), yardstick)


def _compared(side: str, name: str, related: Related, text: list[str], quantity: Any,
              yardstick: Yardstick) -> Iterator[Apart]:
    right, budget = yardstick.oracle[name], yardstick.budget[name] * related.slack.get(name, 1.0)
    found = np.asarray(related.back(name, text, quantity))
    if found.ndim > right.ndim:  # several for one: the farthest
        place = np.abs(found - right).argmax(axis=0, keepdims=True)
        found = np.take_along_axis(found, place, 0)[0]
    share, index = worst(shares(found, right, budget))
    if share > 1:
        yield Apart(side, name, f"{related.words}, it is not what it is in the case itself", index, share)
    elif related.rest is not None and name.startswith("grad.") and np.any(related.rest(name, text, quantity)):
        yield Apart(side, name, f"{related.words}, it is not zero where no cotangent reaches")


# --- relations -----------------------------------------------------------------------------------------------


def _among(case: Case, data: Data, letter: str, rng: Any) -> Related | None:
    """Entries along an axis do not see each other: others among them, without cotangents, change nothing."""
    grown = _grown(case, letter, rng)
    if grown is None:
        return None
    size, total = _size(case, letter), _size(grown, letter)
    places = np.sort(rng.permutation(total)[:size])

    def more(group: str, name: str, array: Any, axis: int) -> Any:
        shape = (*array.shape[:axis], total, *array.shape[axis + 1 :])
        if group == "cotangents":
            made = np.zeros(shape, array.dtype)
        elif _text(case, data, name) and array.ndim == len(_shape_words(case, name)):
            made = rng.choice(array.ravel(), shape)
        else:  # one-hot rows
            made = np.take(array, rng.integers(0, size, total), axis)
        made[(slice(None),) * axis + (places,)] = array
        return made

    def back(name: str, words: list[str], quantity: Any) -> Any:
        axis = _axis(case, words, letter)
        return quantity if axis is None else np.take(quantity, places, axis)

    def rest(name: str, words: list[str], quantity: Any) -> Any:
        axis = _axis(case, words, letter)
        return 0 if axis is None else np.delete(quantity, places, axis)

    return Related(grown, _mapped(case, data, letter, more), back, f"among {total - size} others along {letter}",
                   rest)


def _tiled(case: Case, data: Data, letter: str, rng: Any, mean: bool = False) -> Related | None:
    """The same entries over and over: each gives the same, and what is summed over them so many times as much."""
    grown = _grown(case, letter, rng, whole=True)
    if grown is None:
        return None
    size = _size(case, letter)
    times = _size(grown, letter) // size

    def more(group: str, name: str, array: Any, axis: int) -> Any:
        return np.concatenate([array] * times, axis)

    def back(name: str, words: list[str], quantity: Any) -> Any:
        axis, gradient = _axis(case, words, letter), name.startswith("grad.")
        if axis is None:
            return quantity / times if gradient and not mean else quantity
        parts = np.stack(np.split(quantity, times, axis))
        return parts * times if gradient and mean else parts

    summed = [name for name in (f"grad.{n}" for n in (*data.params, *data.inputs, *data.states))
              if (words := _text(case, data, name)) is not None and _axis(case, words, letter) is None]
    # a sum of so many equal terms may round the same way every time
    slack = dict.fromkeys((*summed, *(case.spec.outputs if mean else ())), float(times))
    return Related(grown, _mapped(case, data, letter, more), back, f"{times} times over along {letter}", slack=slack)


def _mean(case: Case, data: Data, letter: str, rng: Any) -> Related | None:
    """An output is the mean over an axis: the same entries over and over have the same one."""
    return _tiled(case, data, letter, rng, mean=True)


def _prefix(case: Case, data: Data, letter: str, rng: Any, *, scattered: bool = False) -> Related | None:
    """Entries do not see those after them: what comes later, without cotangents, changes nothing before.

    ``scattered`` entries have the others between them and in front too.
    """
    grown = _grown(case, letter, rng)
    if grown is None:
        return None
    size, total = _size(case, letter), _size(grown, letter)
    order = rng.permutation(total) if scattered else np.arange(total)
    place, others = np.sort(order[:size]), np.sort(order[size:])
    order = np.argsort(np.concatenate((place, others)))

    def more(group: str, name: str, array: Any, axis: int) -> Any:
        shape = (*array.shape[:axis], total - size, *array.shape[axis + 1 :])
        later = np.zeros(shape, array.dtype) if group == "cotangents" else rng.choice(array.ravel(), shape)
        return np.take(np.concatenate((array, later), axis), order, axis)

    def back(name: str, words: list[str], quantity: Any) -> Any:
        axis = _axis(case, words, letter)
        return quantity if axis is None else np.take(quantity, place, axis)

    def rest(name: str, words: list[str], quantity: Any) -> Any:
        axis = _axis(case, words, letter)
        return 0 if axis is None else np.take(quantity, others, axis)

    return Related(grown, _mapped(case, data, letter, more), back, f"as the first {size} of {total} along {letter}",
                   rest, ends=frozenset(case.spec.states), place=tuple(place.tolist()))


def _masked(case: Case, data: Data, letter: str, rng: Any) -> Related | None:
    """What stands where the mask is false changes nothing, however much of it there is and wherever it stands."""
    spec = case.spec
    (mask,) = (n for n, text in spec.inputs.items() if text.optional and axes(text)[0] == "bool")
    if mask not in data.inputs:
        words = _shape_words(case, mask)
        data = replace(data, inputs=data.inputs | {mask: np.ones([_size(case, w) for w in words], bool)})
    related = _prefix(replace(case, options=case.options | {"masked": True}), data, letter, rng, scattered=True)
    if related is None or not case.sizes["N"]:
        return None
    hidden = np.zeros_like(related.data.inputs[mask])
    hidden[..., related.place] = data.inputs[mask]
    related.data.inputs[mask] = hidden
    related.words = f"with {hidden.shape[-1] - len(related.place)} more along {letter} that {mask} hides"
    return related


def _symmetric(case: Case, data: Data, letter: str, rng: Any) -> Related | None:
    """Entries along an axis of all arrays at once, parameters among them, in another order."""
    size = _size(case, letter)
    order = rng.permutation(size)
    ranks = np.argsort(order)

    def turned(words: list[str], array: Any, order: Any) -> Any:
        for axis, word in enumerate(words, array.ndim - len(words)):
            if word[-1] == letter:
                blocks = int(word[:-1] or 1)
                array = np.take(array, np.concatenate([order + b * size for b in range(blocks)]), axis)
        return array

    def laid(name: str, array: Any) -> Any:
        text = case.spec.inputs.get(name)
        if text is not None and text.below == letter:
            return ranks[array] if array.ndim == len(axes(text)[1]) else np.take(array, order, -1)
        words = _text(case, data, name)
        return array if words is None else turned([w for w in words if w != "..."], array, order)

    params, inputs, states, cotangents = ({name: laid(name, a) for name, a in group.items()} for group in
                                          (data.params, data.inputs, data.states, data.cotangents))

    def back(name: str, words: list[str], quantity: Any) -> Any:
        return turned([w for w in words if w != "..."], quantity, ranks)

    return Related(case, Data(params, inputs, states, cotangents, data.sizes), back, f"with {letter} in another order")


RELATIONS: dict[str, Callable[[Case, Data, str, Any], Related | None]] = {
    "among": _among, "tiled": _tiled, "mean": _mean, "causal": _prefix, "masked": _masked, "symmetric": _symmetric,
}


# --- sizes and axes ------------------------------------------------------------------------------------------


def _size(case: Case, letter: str) -> int:
    return int(case.sizes["..."][0] if letter == "..." else case.sizes[letter])


def _grown(case: Case, letter: str, rng: Any, whole: bool = False) -> Case | None:
    """The case with an axis of a size that is not too much, a multiple of its own where asked."""
    now = _size(case, letter)
    for start in rng.permutation(len(GROWN)):
        size = -(-GROWN[start] // now) * now if whole else GROWN[start]
        value = (size, *case.sizes["..."][1:]) if letter == "..." else size
        grown = replace(case, sizes=case.sizes | {letter: value})
        if size > now and grown.work <= WORK and admitted(case.spec, grown.sizes, grown.options):
            return grown
    return None


def _shape_words(case: Case, name: str) -> list[str]:
    spec = case.spec
    text: str = {**spec.outputs, **spec.states, **spec.inputs}.get(name, "")
    return axes(text)[1]


def _text(case: Case, data: Data, name: str) -> list[str] | None:
    """The axes of a quantity or an array; none of a model's parameters; None where they are not known."""
    spec, inner = case.spec, name.removeprefix("grad.")
    texts = {**spec.params, **spec.inputs, **spec.states, **{f"{n}0": t for n, t in spec.states.items()}}
    texts = texts | spec.outputs if inner == name else texts
    if inner in data.params and inner not in texts:
        return []
    return axes(texts[inner])[1] if inner in texts else None


def _axis(case: Case, words: list[str], letter: str) -> int | None:
    """The place of an axis in an array, of ``...`` that of its first."""
    if letter not in words:
        return None
    return words.index(letter) + (len(case.sizes["..."]) - 1 if "..." in words and letter != "..." else 0)


def _mapped(case: Case, data: Data, letter: str, function: Callable[[str, str, Any, int], Any]) -> Data:
    """The arrays that have an axis, grown along it."""
    spec = case.spec

    def of(group: str, texts: dict[str, Any]) -> Arrays:
        found = {}
        for name, array in getattr(data, group).items():
            axis = _axis(case, axes(texts[name])[1], letter)
            found[name] = array if axis is None else function(group, name, array, axis)
        return found

    return Data(dict(data.params), of("inputs", spec.inputs), of("states", spec.states),
                of("cotangents", spec.outputs), data.sizes)
