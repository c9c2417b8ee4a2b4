"""Promises that both sides give: each function takes the side, and is held to the reference and to the port."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from ..cases.case import Case, Data, admitted, derived
from ..judge.lanes import LANES
from ..sides.objects import parts_of, shown_of
from ..sides.textbook import build
from ..spec.axes import axes, shape
from ..spec.results import Arrays, as_tuple
from ..spec.spec import Spec
from .accuracy import check_magnitudes, check_unbiased
from .aliasing import check_one_for_several
from .common import PORT, SIZES, Array, Side, arrays_of, ordinary, raised, repeated, standard
from .histories import check_history
from .keeping import check_memory
from .linear import check_linear
from .widths import check_width


def bad_inputs(spec: Spec) -> tuple[Case, Data, list[tuple[str, str, dict[str, Any], type[Exception]]]]:
    """Inputs that no side may accept: (what is wrong, name of the argument, inputs, type of the error)."""
    case, data = ordinary(spec, **({"masked": True} if spec.optional else {}))
    for name in spec.optional:
        data.inputs[name] = np.ones_like(data.inputs[name])  # what is masked may be anything
    known = {axis[-1] for text in (*spec.params.values(), spec.size_arguments) for axis in axes(text)[1]}
    found = []

    def add(what: str, name: str, value: Any, error: type[Exception]) -> None:
        found.append((what, name, data.inputs | {name: value}, error))

    def resized(letter: str, size: int) -> dict[str, Any]:
        """All inputs with so many entries along an axis, repeated as needed."""
        entries, found = np.arange(size) % case.sizes[letter], dict(data.inputs)
        for name, array in data.inputs.items():
            words = axes(spec.inputs[name])[1]
            if letter in words:
                found[name] = array.take(entries, words.index(letter) - len(words))
        return found

    for letter in {word for text in spec.inputs.values() for word in axes(text)[1]} & case.sizes.keys() - {"..."}:
        name = next(name for name, text in spec.inputs.items() if letter in axes(text)[1])
        for size in (case.sizes[letter] + 1,) if letter in known else range(1, 13):
            if letter in known or not admitted(spec, case.sizes | {letter: size}, case.options):
                what = f"and all others have {letter} = {size}"
                found.append((what, name, resized(letter, size), ValueError))

    for name, text in spec.inputs.items():
        array, (kind, letters) = data.inputs[name], axes(text)
        add("is a list", name, array.tolist(), TypeError)
        other = array.astype(np.int64) if kind == "float" else array.astype(np.float64)
        add("is of another kind", name, other, TypeError)
        if letters[0] == "...":
            add("has too few axes", name, np.array(1.0), ValueError)
        else:
            add("has one axis more", name, array[None], ValueError)
            add("has one axis less", name, np.asarray(array[0]), ValueError)
        for axis, letter in enumerate(letters, array.ndim - len(letters)):
            if letter == "...":
                continue
            if letter[-1] in known:
                add(f"has one {letter} more", name, array.take([*range(array.shape[axis]), 0], axis), ValueError)
            if letter != "N":
                add(f"has no {letter}", name, array.take([], axis), ValueError)
            if min(spec.ranges.get(letter, (1,))) > 1:
                add(f"has one {letter} alone", name, array.take([0], axis), ValueError)
            known.add(letter[-1])
        if kind == "int":
            ignored = spec.options.get(text.ignored, ())
            if name in spec.labels:
                ignored += (attrgetter(spec.labels[name])(build(spec, case.options, data)),)
            upper = case.sizes.get(spec.bounds[name], spec.bounds[name])
            for value, place in ((upper, -1), (-7, -1), (upper, 0), (-1, 0), (-2, 0)):
                wrong = array.copy()
                wrong[(place,) * array.ndim] = value
                if value not in ignored:
                    add(f"contains {value}", name, wrong, IndexError)
    return case, data, found


def check_bad_inputs(side: Side, spec: Spec) -> None:
    """Both sides refuse bad inputs with the same type of error, and name the argument."""
    case, data, wrong = bad_inputs(spec)
    for what, name, inputs, expected in wrong:
        error = raised(side.call, side.make(spec, case.options, data), "forward", *inputs.values())
        assert isinstance(error, expected), f"{name} {what}: raises {error!r}, expected {expected.__name__}"
        if expected is IndexError:  # the business of the embedding or the loss inside
            assert "contains index" in str(error), f"{name} {what}: {error} does not say which index"
            continue
        assert name in str(error) or "shape" in str(error), f"{name} {what}: {error} does not name it"
        inside = spec.greedy and name in spec.optional  # a model hands it to its decoder as it is
        assert inside or str(error).startswith(f"{spec.name}.forward: "), f"{name} {what}: {error} does not say where"


def check_repeats(side: Side, spec: Spec) -> None:
    """Made twice from the same numbers, a side says the same, bit for bit."""
    case, data = ordinary(spec)
    first, second = (side.run(case, data, LANES["cpu-float64"]) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first), "a second run differs"


def check_state(side: Side, spec: Spec) -> None:
    """A stateful layer goes on where it stopped until its state is reset; another always starts from zeros."""
    if "stateful" not in spec.options:
        return
    case, data = ordinary(spec)
    kept, other = (side.make(spec, case.options | {"stateful": stateful}, data) for stateful in (True, False))

    def said(layer: Any) -> Array:
        found: Array = side.call(layer, "forward", *data.inputs.values())
        return found

    first = said(kept)
    assert not np.array_equal(said(kept), first), "the state is not kept"
    kept.reset_state()
    assert np.array_equal(said(kept), first), "the state is not reset"
    for _ in range(2):
        assert np.array_equal(said(other), first), "a state is kept that should not be"
    if not hasattr(kept, "set_state"):
        return
    error = raised(kept.set_state, *[None] * (len(spec.port_class.states) + 1))
    assert isinstance(error, TypeError) and "states given" in str(error), f"too many states raise {error!r}"


def check_generate(side: Side, spec: Spec) -> None:
    """``generate`` chooses what ``score`` scores highest, by its scores and beams, and refuses bad input."""
    if not hasattr(spec.reference, "generate"):
        return
    names = list(spec.inputs)
    floating = spec.differentiable()
    source = floating[0] if floating else names[0]
    steps = 12
    for seed in range(4):
        case, data = ordinary(spec, seed)
        layer, given = side.make(spec, case.options, data), data.inputs[source]
        ids = side.call(layer, "generate", given, 1, steps)
        assert ids.shape == (len(given), steps) and ids.dtype.kind == "i", f"ids of shape {ids.shape} and {ids.dtype}"
        score = _score(side, layer, given, ids)
        assert np.array_equal(score.argmax(axis=-1), ids), "the ids are not those of the highest scores"
    _hold_long(side, spec, source)
    _hold_ids(side, spec, source)
    two = side.call(layer, "generate", given, 1, 2, beam_width=SIZES["V"], length_penalty=0.0, scores=True)
    wide = side.call(layer, "generate", given, 1, 2, beam_width=SIZES["V"] ** 2, length_penalty=0.0, scores=True)
    assert all(map(np.array_equal, two, wide)), "a beam as wide as the vocabulary misses the best of two ids"
    for start in (True, np.int64(1), np.uint8(1)):
        same = np.array_equal(side.call(layer, "generate", given, start, steps), ids)
        assert same, f"a start id {start!r} is another than 1"
    _hold_search(side, spec, layer, given, ids, steps)
    rows = np.concatenate([given] * 8)
    many = side.call(layer, "generate", rows, 1, 3, end_id=int(ids[0, 0]))  # more answers than ids in one
    assert np.array_equal(many, np.tile(side.call(layer, "generate", given, 1, 3, end_id=int(ids[0, 0])), (8, 1))), \
        "answers depend on how many are asked for"
    assert side.call(layer, "generate", given, 1, 0).shape == (len(given), 0), "no ids asked for, and some given"
    assert not side.call(layer, "generate", given, 1, 0, scores=True)[1].any(), "no ids have a score"
    letter = axes(spec.inputs[source])[1][-1]
    wrong = [("a start id out of range", (given, SIZES["V"], 1), IndexError),
             ("a negative start id", (given, -1, 1), IndexError),
             ("a negative number of ids", (given, 1, -1), ValueError),
             ("a start id that is no integer", (given, 1.0, 0), TypeError),
             ("a number of ids that is none", (given, 1, 2.0), TypeError),
             (f"{source} with one axis more", (given[None], 1, 1), ValueError),
             (f"{source} of another kind", (given.astype(int if floating else float), 1, 1), TypeError)]
    if floating:
        wrong += [(f"{source} with one {letter} more", (np.concatenate((given, given[..., :1]), -1), 1, 1), ValueError)]
    for what, arguments, expected in wrong:
        error = raised(side.call, layer, "generate", *arguments)
        assert isinstance(error, expected), f"generate from {what} raises {error!r}, expected {expected.__name__}"
        assert not floating or str(error).startswith(f"{spec.name}.generate: "), f"{what}: {error} does not say where"


FAR = 260


def _hold_ids(side: Side, spec: Spec, source: str) -> None:
    """From every start id, and to end ids that answers have in their middle, 0 among them."""
    ends: set[int] = set()
    for seed in range(20):
        case, data = ordinary(spec, seed)
        layer, given = side.make(spec, case.options, data), data.inputs[source]
        for start in range(SIZES["V"]):
            ids = side.call(layer, "generate", given, start, 6)
            score = _score(side, layer, given, ids, start)
            assert np.array_equal(score.argmax(axis=-1), ids), f"from the start id {start} come other ids than those " \
                "of the highest scores"
            for end in set(ids[:, :4].ravel().tolist()) - ends:
                over = np.cumsum(ids == end, axis=1) - (ids == end) > 0
                found = side.call(layer, "generate", given, start, 6, end_id=end)
                assert np.array_equal(found, np.where(over, end, ids)), f"answers that end with {end}: {found}"
                ends |= {end} if over.any() else set()
        if 0 in ends and len(ends) > 2:
            return
    raise AssertionError(f"of {SIZES['V']} ids only {sorted(ends)} came up as an end")


def _hold_long(side: Side, spec: Spec, source: str, steps: int = 70) -> None:
    """Far past the length of any answer, and over ties, of which the first is chosen."""
    for rows in (1, 5):
        case = replace(standard(spec, 9), sizes=SIZES | {"N": rows})
        data = arrays_of(case)
        layer, given = side.make(spec, case.options, data), data.inputs[source]
        ids = side.call(layer, "generate", given, 1, steps)
        score = _score(side, layer, given, ids)
        assert ids.shape == (rows, steps) and np.array_equal(score.argmax(axis=-1), ids), \
            f"of {steps} ids, some are not those of the highest scores"
        for beam in (1, 2):  # answers of more ids than 8 bits count
            ids, found = side.call(layer, "generate", given, 1, FAR, beam_width=beam, scores=True)
            kept = _lists(side, spec, layer)
            logp = np.take_along_axis(_log(_score(side, layer, given, ids)), ids[:, :, None], 2)
            for name, asked in _lists(side, spec, layer).items():
                assert len(kept[name]) == len(asked) == FAR, f"{name} of {len(kept[name])} steps, not {FAR}"
                far = max(float(np.abs(a - b).max()) for a, b in zip(kept[name], asked, strict=True))
                assert far <= 2.0**-40, f"after {FAR} ids by a beam of {beam}, {name} are those of another answer"
            expected = logp.sum(axis=(1, 2)) / FAR
            assert np.abs(found - expected).max() <= 2.0**-40 * np.abs(expected).max(), \
                f"of {FAR} ids by a beam of {beam} the scores are {found}, not {expected}"
    for high in ((), (2, 4), (0, 3), tuple(range(SIZES["V"]))):
        params = {name: np.zeros_like(p) for name, p in data.params.items()}
        for p in params.values():
            if p.shape == (SIZES["V"],):
                p[list(high)] = 1.0
        layer = side.make(spec, case.options, replace(data, params=params))
        for beam in (1, 3):
            ids = side.call(layer, "generate", given, 1, steps, beam_width=beam)
            assert (ids == min(high, default=0)).all(), f"of equals {high}, a beam of {beam} does not choose the first"


def _lists(side: Side, spec: Spec, layer: Any) -> dict[str, list[Array]]:
    """What a layer and its parts offer as lists of an array a step, copied, by dotted names."""
    hidden: tuple[type, ...] = ()
    parts = parts_of(layer)
    if side.name == PORT.name:
        import torch

        parts, hidden = layer.named_modules(), (torch.nn.Parameter,)
    return {name: [np.asarray(step).copy() for step in value]
            for name, value in shown_of(spec, dict(parts), True, hidden).items() if isinstance(value, list)}


def _score(side: Side, layer: Any, given: Array, ids: Array, start: int = 1) -> Array:
    """Of each of the ids ``(N, U)`` after those before it and the start id, and of the model's other choices."""
    fed = np.concatenate((np.full_like(ids[:, :1], start), ids[:, :-1]), axis=1)
    found: Array = side.call(layer, "forward", fed, given) if given.dtype.kind == "f" else \
        side.call(layer, "score", given, fed)
    return found


def _log(score: Array) -> Array:
    """Log-probabilities of scores."""
    score = score - score.max(axis=-1, keepdims=True)
    found: Array = score - np.log(np.exp(score).sum(axis=-1, keepdims=True))
    return found


def _hold_search(side: Side, spec: Spec, layer: Any, given: Array, greedy: Array, steps: int) -> None:
    """Ends, scores and beams of ``generate``: by their definitions, the best of a beam by trying all answers."""
    V, N = SIZES["V"], len(given)
    bound = 2.0**-53 * 64 * steps * (SIZES["D"] + SIZES["H"])

    def total(ids: Array, end: int, penalty: float) -> tuple[Array, Array]:
        """The score of answers by definition, of several to each sample one after the other."""
        asked = np.repeat(given, len(ids) // N, axis=0)
        logp = np.take_along_axis(_log(_score(side, layer, asked, ids)), ids[:, :, None], 2)[:, :, 0]
        over = np.cumsum(ids == end, axis=1) - (ids == end) > 0  # after the first end
        return np.where(over, 0, logp).sum(axis=1) / (~over).sum(axis=1) ** penalty, over

    ids, first = np.unique(greedy[0], return_index=True)
    late = int(ids[first.argmax()])  # so that answers are of more than one id
    for end, penalty in ((None, 1.0), (None, 0.0), (late, 1.0), (late, 0.0), (0, 0.5), (late, 2.5)):
        ids, scores = side.call(layer, "generate", given, 1, steps, end_id=end, length_penalty=penalty, scores=True)
        expected, over = total(ids, -1 if end is None else end, penalty)
        assert np.array_equal(ids, np.where(over, end or 0, greedy)), f"greedy answers that end with {end}: {ids}"
        assert np.abs(scores - expected).max() <= bound * np.abs(expected).max(), f"scores {scores}, not {expected}"
        same = side.call(layer, "generate", given, 1, steps, end_id=end)
        assert np.array_equal(same, ids), "the scores change the answers"
        _, plain = side.call(layer, "generate", given, 1, steps, end_id=end, scores=True)
        assert penalty != 1.0 or np.array_equal(plain, scores), "the length penalty is not 1 where none is given"
        every = np.stack(np.meshgrid(*[range(V)] * 3, indexing="ij"), -1).reshape(-1, 3)
        tried, over = total(np.tile(every, (N, 1)), -1 if end is None else end, penalty)
        for_good = (~over | (np.tile(every, (N, 1)) == end)).all(axis=1)  # after its end an answer is its end alone
        tried = np.where(for_good, tried, -np.inf).reshape(N, len(every))
        how = {"end_id": end, "length_penalty": penalty, "scores": True}
        ids, scores = side.call(layer, "generate", given, 1, 3, beam_width=V**3, **how)
        assert np.abs(scores - tried.max(axis=1)).max() <= bound * np.abs(scores).max(), \
            f"the best score of all answers is {tried.max(axis=1)}, the widest beam gives {scores}"
        second, first = np.sort(tried, axis=1)[:, -2:].T
        clear = first - second > bound * np.abs(first)
        assert np.array_equal(ids[clear], every[tried.argmax(axis=1)][clear]), "the widest beam misses the best answer"
        for width in (2, 3):
            expected = _beam(side, layer, given, -1 if end is None else end, width, penalty)
            found = side.call(layer, "generate", given, 1, 4, beam_width=width, end_id=end, length_penalty=penalty)
            assert np.array_equal(found, expected), f"a beam of {width} gives {found}, by definition {expected}"
        same = side.call(layer, "generate", given, 1, 3, beam_width=2, end_id=end, length_penalty=penalty)
        narrow, less = side.call(layer, "generate", given, 1, 3, beam_width=2, **how)
        kept = _kept(spec, layer)  # before the next run
        assert np.array_equal(same, narrow), "the scores change the answers of a beam"
        expected, _ = total(narrow, -1 if end is None else end, penalty)
        assert np.abs(less - expected).max() <= bound * np.abs(expected).max(), "a beam's scores are not its answers'"
        for name, asked in _kept(spec, layer).items():
            before = kept[name]
            assert len(before) == len(asked) or end is not None, f"{name} of {len(before)} steps, not {len(asked)}"
            assert all(a.shape == b.shape and np.abs(a - b).max() <= bound
                       for a, b in zip(before, asked, strict=False)), f"{name} are those of another answer"
    for what, wrong, kind in (("end id out of range", {"end_id": V}, IndexError),
                                ("negative end id", {"end_id": -1}, IndexError),
                                ("end id that is no integer", {"end_id": 1.0}, TypeError),
                                ("beam of none", {"beam_width": 0}, ValueError),
                                ("half a beam", {"beam_width": 1.5}, TypeError),
                                ("negative length penalty", {"length_penalty": -1.0}, ValueError),
                                ("length penalty that is no number", {"length_penalty": np.nan}, ValueError)):
        error = raised(side.call, layer, "generate", given, 1, 2, **wrong)
        assert isinstance(error, kind) and next(iter(wrong)) in str(error), f"{what}: {error!r}"


def _kept(spec: Spec, layer: Any) -> dict[str, list[Array]]:
    """What a run keeps aside, by name, an array a step."""
    return {name: [np.asarray(step) for step in getattr(layer, name) or ()] for name in spec.kept}


def _beam(side: Side, layer: Any, given: Array, end: int, width: int, penalty: float, steps: int = 4) -> Array:
    """The best answers ``(N, steps)`` of a beam, one sample and one answer at a time."""
    chosen = []
    for n in range(len(given)):
        beam: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        for _ in range(steps):
            grown = []
            for ids, total in beam:
                if end in ids:
                    grown.append(((*ids, end), total))
                    continue
                asked = np.array([[*ids, 0]])  # of the last, any id will do: what comes before it decides
                logp = _log(_score(side, layer, given[n : n + 1], asked))[0, -1]
                grown += [((*ids, v), total + float(logp[v])) for v in range(len(logp))]
            grown.sort(key=lambda found: -found[1] / ((*found[0], end).index(end) + (end in found[0])) ** penalty)
            beam = grown[:width]
        chosen.append(beam[0][0])
    return np.array(chosen)


def _hold_ignored_ids(side: Side, spec: Spec, name: str, place: str) -> None:
    """Whatever label the loss ignores, the decoder reads it as the id that it is, and as 0 where it is none."""
    data, V = arrays_of(case := standard(spec)), SIZES["V"]
    source, labels = (data.inputs[given] for given in (next(iter(spec.inputs)), name))
    owner, _, attribute = place.rpartition(".")
    bound = 2.0**-53 * 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"])
    for ignored in (-1, 0, 1, V - 1, V, -100):
        layer = side.make(spec, case.options, data)
        setattr(attrgetter(owner)(layer), attribute, ignored)
        labels[:, 1:] = np.where(labels[:, 1:] == ignored, 2, labels[:, 1:])
        labels[:, 1] = ignored
        fed = labels[:, :-1] if 0 <= ignored < V else np.where(labels[:, :-1] == ignored, 0, labels[:, :-1])
        logp = _log(side.call(layer, "score", source, fed))
        expected = -np.take_along_axis(logp[:, 1:], labels[:, 2:, None], axis=2).mean()
        found = side.call(layer, "forward", *data.inputs.values())
        assert abs(found - expected) <= bound * expected, \
            f"{place} {ignored} in the middle of {name}: loss {found}, expected {expected}"


def check_labels(side: Side, spec: Spec) -> None:
    """Ids and labels of any integer dtype, and one-hot labels of any dtype, mean the same."""
    for name, place in spec.labels.items():
        _hold_ignored_ids(side, spec, name, place)
    case, data = ordinary(spec)
    layer = side.make(spec, case.options, data)
    expected = side.call(layer, "forward", *data.inputs.values())
    for name, text in spec.inputs.items():
        if axes(text)[0] != "int":
            continue
        for dtype in ("int8", "int16", "int32", "uint8"):
            given = data.inputs | {name: np.maximum(data.inputs[name], 0).astype(dtype)}
            same = side.call(layer, "forward", *(data.inputs | {name: given[name].astype("int64")}).values())
            found = side.call(layer, "forward", *given.values())
            assert np.array_equal(found, same), f"{name} of {dtype} give another result"
        if spec.one_hot == name:
            upper = case.sizes.get(spec.bounds[name], spec.bounds[name])
            labels = np.maximum(data.inputs[name], 0)
            expected = side.call(layer, "forward", *(data.inputs | {name: labels}).values())
            rows = np.eye(upper)[labels]
            for dtype, size in (("bool", 1), ("int64", 1), ("int64", 256), ("float32", 1), ("float32", 0.5)):
                found = side.call(layer, "forward", *(data.inputs | {name: (size * rows).astype(dtype)}).values())
                assert np.array_equal(found, expected), f"one-hot {name} of {dtype} give another result"
            short = data.inputs | {name: rows[..., :-1]}
            error = raised(side.call, layer, "forward", *short.values())
            assert isinstance(error, ValueError), f"one-hot {name} with too few columns raise {error!r}"


def check_ignored(side: Side, spec: Spec) -> None:
    """Where a label is ignored, its logits have no influence, not even NaN, and no gradient."""
    of = [(name, text.ignored, value) for name, text in spec.inputs.items() if text.ignored
          for value in sorted({*spec.options[text.ignored], *range(-2, SIZES["V"] + 3), 1000})]
    for labels, option, ignored in of:
        case, data = ordinary(spec, **{option: ignored})
        logits = spec.differentiable()[0]
        data.inputs[labels][...] = 1 + (ignored == 1)
        data.inputs[labels][:, 0] = ignored
        expected = side.quantities(case, data.params, data.inputs, data.cotangents)
        data.inputs[logits][:, 0] = [[np.nan], [np.inf]]
        found = side.quantities(case, data.params, data.inputs, data.cotangents)
        for name, one in found.items():
            assert np.array_equal(one, expected[name]), \
                f"logits of ignored labels have an influence: {name} is {one}, not {expected[name]}"
        assert not found[f"grad.{logits}"][:, 0].any(), "logits of labels that are ignored have a gradient"


def check_padding(side: Side, spec: Spec) -> None:
    """What a mask leaves out changes nothing, and each sample gets what it gets without it, gradients included."""
    for name, place in spec.labels.items():
        V = SIZES["V"]
        for ignored in (-1, -100, 2, V, V + 3, 1000):
            _answers_of_their_own_length(side, _with(spec, place, ignored), name, ignored)
    masks = [name for name in spec.optional if spec.inputs[name].startswith("bool")]
    for mask in masks:
        along = axes(spec.inputs[mask])[1]
        case, data = ordinary(spec, masked=True)
        padded = [name for name, text in spec.inputs.items() if axes(text)[1][: len(along)] == along and name != mask]
        shown = [name for name, text in spec.outputs.items() if axes(text)[1][: len(along)] == along]
        for seed in range(4):
            valid = np.random.default_rng(seed).random(data.inputs[mask].shape) < 0.5
            valid[0, 0], valid[1] = True, seed > 0  # pads at the end of one, at the start of others, all, and none
            _nothing_shows_through(side, case, data, mask, valid, padded)
            for n in np.flatnonzero(valid.any(axis=1)):
                _as_alone(side, case, data, mask, valid, int(n), padded, shown)


def _with(spec: Spec, place: str, value: Any) -> Spec:
    """The same layer, with an attribute set once it is made."""
    def made(*arguments: Any, **named: Any) -> Any:
        layer, (owner, _, attribute) = spec.reference(*arguments, **named), place.rpartition(".")
        setattr(attrgetter(owner)(layer) if owner else layer, attribute, value)
        return layer

    return replace(spec, reference=made)


def _answers_of_their_own_length(side: Side, spec: Spec, name: str, ignored: int) -> None:
    """An answer that is padded at its end with the label that is ignored is the shorter one, among others too."""
    case, data = ordinary(spec)
    labels = data.inputs[name]
    labels[labels == ignored] += 1  # of the vocabulary, too, there may be one
    labels[:, -1] = ignored
    labels[1, 2:] = ignored
    found = side.quantities(case, data.params, data.inputs, data.cotangents)
    counted, total = 0, {quantity: np.zeros_like(a) for quantity, a in found.items()}
    for n, length in ((0, labels.shape[1] - 1), (1, 2)):
        one = {given: a[n : n + 1] for given, a in data.inputs.items()} | {name: labels[n : n + 1, :length]}
        counted += length - 1
        for quantity, a in side.quantities(case, data.params, one, data.cotangents).items():
            total[quantity] = total[quantity] + (length - 1) * a
    for quantity, a in found.items():  # a mean over the labels of both
        bound = 2.0**-53 * 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"])
        assert np.abs(a - total[quantity] / counted).max() <= bound * max(1.0, np.abs(a).max()), \
            f"{quantity} of {name} padded with {ignored} is not that of shorter ones"


def _nothing_shows_through(side: Side, case: Case, data: Data, mask: str, valid: Array, padded: list[str]) -> None:
    """Other numbers, no numbers, and ids that are none where nothing is valid: all the same, to the bit."""
    expected = side.quantities(case, data.params, data.inputs | {mask: valid}, data.cotangents)
    for filling in (1, -1):
        inputs = data.inputs | {mask: valid}
        for name in padded:
            inputs[name] = inputs[name].copy()
            inputs[name][~valid] = np.nan if inputs[name].dtype.kind == "f" else filling * 99
        found = side.quantities(case, data.params, inputs, data.cotangents)
        for name in expected:
            assert np.array_equal(found[name], expected[name]), f"what stands where {mask} is false changes {name}"
    for name in padded:
        if f"grad.{name}" in expected:
            assert not expected[f"grad.{name}"][~valid].any(), f"where {mask} is false, {name} has a gradient"


def _as_alone(side: Side, case: Case, data: Data, mask: str, valid: Array, n: int, padded: list[str],
              shown: list[str]) -> None:
    """A sample in a padded batch gets what it gets in a batch of its own that is not padded."""
    kept = valid[n]

    def of(group: Arrays, texts: dict[str, Any], alone: bool) -> Arrays:
        """The arrays of sample n; alone, without the positions that are not valid."""
        taken = {}
        for name, array in group.items():
            taken[name] = array[n : n + 1] if "N" in axes(texts[name])[1] else array
            if name in (*padded, *shown) and alone:
                taken[name] = taken[name][:, kept]
        return taken

    spec = case.spec
    cotangents = {name: c.copy() for name, c in data.cotangents.items()}
    for name in cotangents.keys() & set(shown):
        cotangents[name][~valid] = 0  # there the batch repeats what stands before
    inputs = {name: a for name, a in data.inputs.items() if name != mask}
    apart = side.quantities(case, data.params, of(inputs, spec.inputs, True), of(cotangents, spec.outputs, True))
    one = side.quantities(case, data.params, of(inputs, spec.inputs, False) | {mask: valid[n : n + 1]},
              of(cotangents, spec.outputs, False))
    batch = side.quantities(case, data.params, inputs | {mask: valid}, cotangents)
    scale = max(1.0, *(np.abs(a).max() for a in apart.values()))
    # sums of T or U terms of products of D + H, or N of them, in another order
    bound = 2.0**-53 * 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"]) * scale
    for name, expected in apart.items():
        inner = name.removeprefix("grad.")
        found = [one[name]]
        if "N" in axes((spec.outputs | spec.inputs).get(inner, ""))[1]:
            found.append(batch[name][n : n + 1])
        for array in found:
            array = array[:, kept] if inner in (*padded, *shown) else array
            assert np.abs(array - expected).max() <= bound, f"{name} of a padded sample is not what it is alone"


def check_lengths(side: Side, spec: Spec) -> None:
    """Lengths are the mask that they stand for, in every method that takes one, and bad ones are refused by name."""
    for name, text in spec.inputs.items():
        if text.lengths:
            case, data = ordinary(spec)
            layer, inputs = side.make(spec, case.options, data), tuple(data.inputs.values())
            source = data.inputs[next(iter(spec.differentiable() or spec.inputs))], 1, 4
            for method, arguments, how in (("forward", inputs, {}), ("score", inputs, {}), ("generate", source, {}),
                                           ("sample", source, {"top_k": 1})):
                if hasattr(layer, method):
                    of = partial(side.call, layer, method, *arguments, **how)
                    _as_the_mask(spec, of, name, text.lengths, shape(text, case.sizes))


def _as_the_mask(spec: Spec, of: Callable[..., Any], mask: str, lengths: str, sizes: tuple[int, ...]) -> None:
    """The same of one method: ``of(name=array)`` calls it."""
    rows, T = sizes
    some = np.arange(rows) * T % (T + 1)  # none, all, ...
    expected = of(**{mask: np.arange(T) < some[:, None]})
    for dtype in ("int64", "int32", "uint8"):
        found = of(**{lengths: some.astype(dtype)})
        same = np.array_equal(*(a[0] if isinstance(a, tuple) else a for a in (found, expected)))
        assert same, f"{lengths} of {dtype} are not the {mask} that they stand for"
    for what, wrong, kind in (
        (f"contains {T + 1}", {lengths: np.full(rows, T + 1)}, ValueError),
        ("contains -1", {lengths: np.full(rows, -1)}, ValueError),
        ("has shape", {lengths: np.append(some, 1)}, ValueError),
        ("has dtype float64", {lengths: np.ones(rows)}, TypeError),
        ("are given", {lengths: some, mask: np.ones((rows, T), bool)}, ValueError),
    ):
        error = raised(of, **wrong)
        said = str(error).startswith(f"{spec.name}.") and f"{lengths} {what}" in str(error)
        assert isinstance(error, kind) and said, \
            f"{wrong} raises {error!r}, expected {kind.__name__}: {spec.name}. ... {lengths} {what}"


def check_drawn(side: Side, spec: Spec) -> None:
    """What a side draws for itself does what the same does when given."""
    for mask, output in spec.drawn.items():
        for option, values in spec.options.items():
            for value in values:
                case, data = ordinary(spec, **{option: value})
                layer = side.make(spec, case.options, data)
                rest = [a for name, a in data.inputs.items() if name != mask]
                drawn = side.call(layer, "forward", *rest)
                kept = drawn != 0
                again = side.call(layer, "forward", *(data.inputs | {mask: kept}).values())
                close = np.allclose(drawn, again, rtol=2.0**-50, atol=0)  # a product in another order
                assert close, f"{option} = {value}: a {mask} that is drawn does something else than one that is given"
                if value == min(values):
                    assert kept.all() == (value == 0), f"{option} = {value}: {kept.mean():.0%} of {output} are kept"
                if value == max(values):
                    assert kept.mean() < 0.5, f"{option} = {value}: {kept.mean():.0%} of {output} are kept"
            _hold_fresh_draws(side, spec, mask, option, 0.5)
            _hold_long_draws(side, spec, mask, option, 0.5)
            _hold_draws_in_every_mode(side, spec, mask, option, 0.5)


DRAWS = 70_001  # entries of a long axis, past 2^16, and no multiple of anything


def _hold_fresh_draws(side: Side, spec: Spec, mask: str, option: str, ratio: float) -> None:
    """Whoever gives no generator gets other draws from each object and each call."""
    case = standard(spec, 0, **{option: ratio})
    one, other = (side.make(spec, case.options, arrays_of(case)) for _ in range(2))
    (name,) = spec.differentiable()
    ones = np.ones(shape(spec.inputs[name], dict.fromkeys(case.sizes, 5)))  # alike by chance once in 2^125
    drawn = [side.call(layer, "forward", ones).tobytes() for layer in (one, one, other, other)]
    assert len(set(drawn)) == len(drawn), f"a {mask} that is drawn is drawn again"


def _hold_draws_in_every_mode(side: Side, spec: Spec, mask: str, option: str, ratio: float) -> None:
    """What is drawn hangs on the generator alone, and not on whether gradients are recorded."""
    import torch

    case = standard(spec, 0, **{option: ratio})
    data = arrays_of(case)
    layer = side.make(spec, case.options, data)
    given = [a for name, a in data.inputs.items() if name != mask]
    found = []
    for mode in (contextlib.nullcontext, torch.no_grad, torch.inference_mode):
        with mode(), side.seeded(layer, 0):
            found.append(side.call(layer, "forward", *given).tobytes())
    assert len(set(found)) == 1, f"without gradients another {mask} is drawn"


def _hold_long_draws(side: Side, spec: Spec, mask: str, option: str, ratio: float) -> None:
    """Of all that is drawn over long axes, one after the other, nothing is drawn twice, and the share is right."""
    case, every = standard(spec, 0, **{option: ratio}), []
    layer = side.make(spec, case.options, arrays_of(case))
    (name,) = spec.differentiable()
    words = axes(spec.inputs[name])[1]
    with side.seeded(layer, 0):
        for letter in (*words, words[-1]):
            sizes = dict.fromkeys(words, 1) | {letter: DRAWS}
            every.append(side.call(layer, "forward", np.ones(shape(spec.inputs[name], sizes))).ravel() != 0)
    drawn = np.concatenate(every)
    share, spread = 1 - drawn.mean(), (ratio * (1 - ratio) / drawn.size) ** 0.5
    assert abs(share - ratio) <= 8 * spread, f"{option} = {ratio}: of {drawn.size:,} entries {share:.2%} are dropped"
    assert not repeated(drawn), f"a {mask} that is drawn repeats itself: {repeated(drawn)}"


LONG = 8209  # rows whose sum float16 does not hold where their mean is above 8


def check_half(side: Side, spec: Spec) -> None:
    """In float16, what does not grow with the length of an axis is finite at any length, and a mean is the mean."""
    words, mean = axes(next(iter(spec.inputs.values())))[1], list(spec.outputs.values()) == [""]
    shown = {word for text in spec.outputs.values() for word in axes(text)[1]}
    along = [word for word in words if word in shown or mean]
    for letter in along[:1] if spec.recurrent else along:  # in time a loop goes
        usual = standard(spec)
        sizes = {word: (2,) if word == "..." else 2 for word in usual.sizes}
        sizes = derived(spec, sizes | {letter: (LONG,) if letter == "..." else LONG}, usual.options)
        if not admitted(spec, sizes, usual.options):
            continue
        # losses above 8, and squares whose sum is no float16
        data = arrays_of(replace(usual, sizes=sizes, scale=16.0 if mean else 4.0), "float16")
        half, wide = (side.call(side.make(spec, usual.options, given), "forward", *given.inputs.values())
                      for given in (data, data.map(lambda a: a.astype("float64"))))
        half, wide = (np.asarray(as_tuple(found)[0], dtype=float) for found in (half, wide))
        assert np.isfinite(half).all(), f"in float16, {letter} = {LONG:,}: not finite, where float64 gives {wide.max()}"
        # a dozen roundings, and logits of size 32
        assert not mean or abs(half - wide) <= abs(wide) / 32, f"in float16, {letter} = {LONG:,}: {half}, not {wide}"


BOTH: dict[str, Callable[[Side, Spec], None]] = {
    "bad inputs": check_bad_inputs,
    "rebuilt": check_repeats,
    "state": check_state,
    "padding": check_padding,
    "lengths": check_lengths,
    "ignored": check_ignored,
    "labels": check_labels,
    "drawn": check_drawn,
    "half": check_half,
    "width": check_width,
    "generate": check_generate,
    "history": check_history,
    "one for several": check_one_for_several,
    "linear": check_linear,
    "magnitudes": check_magnitudes,
    "unbiased": check_unbiased,
    "memory": check_memory,
}
