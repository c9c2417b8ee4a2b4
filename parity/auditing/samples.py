"""What a layer is given: cases of its twin's spec, or variations of the inputs that somebody passed."""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.case import Case, Options, Sizes, choices, fitting
from ..spec.axes import axes
from ..spec.results import Arrays
from ..spec.spec import Spec
from .subject import Sample, Subject, kept_arrays

SIZES = {"N": 3, "T": 5, "U": 4, "V": 9, "D": 7, "H": 2, "...": (3,)}  # all different, as are their doubles
OTHER = {"N": 4, "T": 3, "U": 5, "V": 6, "D": 2, "H": 7, "...": (5,)}
GROWN = 2  # factor by which one axis is varied alone, to tell 1/N from 1/T
SMALL, SENSIBLE = 0.1, 0.4  # size of a parameter below which it is drawn larger, and how large then
MANY = 33  # batch size past those at which matrix kernels change their path


def base_options(spec: Spec) -> Options:
    """The option values of an ordinary case: those that the constructor has by itself."""
    signature = inspect.signature(spec.reference).parameters
    chosen = {}
    for name, values in choices(spec).items():
        default = signature[name].default if name in signature else inspect.Parameter.empty
        chosen[name] = (values or (0,))[0] if default is inspect.Parameter.empty else default
    return chosen


def sample(subject: Subject, sizes: Sizes | None = None, pattern: str = "normal", scale: float = 1.0, layout: str = "C",
           seed: int = 0, words: str = "", **options: Any) -> Sample | None:
    """A sample of the subject's spec; None where the subject has not what it needs.

    Args:
        sizes: of axis letters that differ from the usual.
    """
    spec = subject.entry
    fixed = fixed_sizes(subject)
    wanted = {letter: size for letter, size in (sizes or {}).items() if letter in spec.letters}
    if any(fixed.get(letter, size) != size for letter, size in wanted.items()):
        return None
    sizes = fitting(spec, base_options(spec) | options, SIZES, fixed | wanted)
    if sizes is None:
        return None
    case = Case(spec, sizes, pattern, scale, layout, base_options(spec) | options, seed)
    data = case.data(lambda a: np.asarray(a, np.float64))
    takes = subject.takes()
    own = {k: v for k, v in case.options.items() if k in spec.options or k in spec.attributes}
    usual = base_options(spec)
    if any(not subject.has_option(k) and v != usual[k] for k, v in own.items()):
        return None
    if any(name in spec.optional and name not in takes for name in data.inputs):
        return None
    if data.states and not subject.takes_states(len(data.states)):
        return None
    inputs = {name: a for name, a in data.inputs.items() if name in takes}
    cotangents = data.cotangents
    warm: Arrays = {}
    if case.options.get("cut"):
        cut = case.options["cut"]
        spans = {n: axes(t)[1].index(spec.time) for n, t in (spec.inputs | spec.outputs).items()}
        warm = {n: a.take(range(cut), spans[n]) for n, a in inputs.items()}
        inputs = {n: a.take(range(cut, a.shape[spans[n]]), spans[n]) for n, a in inputs.items()}
        cotangents = {n: a.take(range(cut, a.shape[spans[n]]), spans[n]) for n, a in cotangents.items()}
    return Sample(case.id, data.params, inputs, data.states, cotangents, own, sizes, warm, words, case, seed)


def fixed_sizes(subject: Subject) -> dict[str, int]:
    """The axis sizes that an object's own parameters fix; none for a class."""
    spec = subject.entry
    if subject.is_class or not spec.letters:
        return {}
    own = list(getattr(subject.target, "params", []))
    if not own:
        return {}
    fixed: dict[str, int] = {}
    if spec.size_arguments:
        fixed = dict(zip("VD", own[0].shape, strict=False))  # every model begins with its embedding
        fixed["H"] = own[2].shape[0]
        return {k: v for k, v in fixed.items() if k in spec.letters}
    for text, array in zip(spec.params.values(), own, strict=False):
        for word, size in zip(axes(text)[1], np.shape(array), strict=False):
            fixed[word[-1]] = size // int(word[:-1] or 1)
    return fixed


def given(inputs: Any, params: list[NDArray[Any]], names: tuple[Iterable[str] | None, Iterable[str] | None],
          seed: int = 0) -> Sample:
    """The sample of inputs that somebody passed.

    Args:
        inputs: dict or sequence of arrays.
        params: list of the layer's own parameters.
        names: of the inputs and of the parameters, as far as known.
    """
    if not isinstance(inputs, dict):
        inputs = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        known = list(names[0] or [])
        known += [f"input {i}" for i in range(len(known), len(inputs))]
        inputs = dict(zip(known, inputs, strict=False))
    inputs = {n: _wide(a) for n, a in inputs.items()}
    own = list(names[1] or ())
    own = own if len(own) == len(params) else [f"params[{i}]" for i in range(len(params))]
    first = next((a for a in inputs.values() if a.ndim), None)  # what is as long as it is taken for the batch
    sizes = {} if first is None else {"N": len(first)}
    return Sample(f"given:{seed}", {n: _wide(p) for n, p in zip(own, params, strict=True)}, inputs, sizes=sizes,
                  seed=seed)


def _wide(array: Any) -> NDArray[Any]:
    a: NDArray[Any] = np.array(array)
    return a.astype(np.float64) if a.dtype.kind == "f" else a


def measured(array: NDArray[Any]) -> bool:
    """Whether an array holds numbers that may be any; signs, zeros and ones are marks."""
    return array.dtype.kind == "f" and not np.isin(array, (-1, 0, 1)).all()


def off(array: Any, rng: np.random.Generator, guessed: bool = False) -> NDArray[Any]:
    """A parameter away from what a constructor gives: other ones for equal entries, or zeros and ones alone; of what
    nobody passed also for values so small that a layer all but forgets them. What is positive stays so.

    Args:
        guessed: whether the layer was made by trial, and not by whoever asks.
    """
    a = np.array(array)
    if a.dtype.kind != "f" or not a.size:
        return a
    if np.isin(a, (-1, 0, 1)).all() or (a == a.flat[0]).all():
        return a * rng.uniform(0.5, 1.5, a.shape) if (a > 0).all() else a + 0.5 * rng.standard_normal(a.shape)
    size = np.sqrt(np.mean(np.square(a)))
    return a * (SENSIBLE / size) if guessed and 0 < size < SMALL else a


def copied(subject: Subject, base: Sample) -> dict[str, str]:
    """Which parameters a new layer also holds a copy of, that nobody who changes the parameter changes: by name, where.
    """
    layer = subject.make(base)
    gradients = [*getattr(layer, "buffers", getattr(layer, "grads", ()))]
    kept = {path: a for path, a in kept_arrays(getattr(layer, "layer", layer)).items()
            if not any(a is g for g in gradients)}
    params = dict(zip(base.params, (layer.params[i] for i in subject.places(layer, base)), strict=True))
    return {name: path.lstrip(".") for name, p in params.items() for path, a in kept.items()
            if a.size == p.size and not any(np.may_share_memory(a, q) for q in params.values())
            and np.allclose(np.sort(np.abs(a), axis=None), np.sort(np.abs(p), axis=None))}


def rows(subject: Subject, base: Sample) -> list[str]:
    """Names of the inputs that are a batch: the first, and those whose first entry has a say in no output's others.

    What happens to be as long as the batch, a bias of as many units, is none of them.
    """
    count = base.sizes["N"]
    names = [n for n, a in base.inputs.items() if a.ndim and len(a) == count]

    def outputs(inputs: Arrays) -> list[NDArray[Any]]:
        return [np.array(o) for o in subject.forward(subject.make(base), [a.copy() for a in inputs.values()])]

    try:
        plain = outputs(base.inputs)
        if not all(o.ndim and len(o) == count for o in plain):
            return names  # a loss tells nothing of rows
        for name in names[1:]:
            a = base.inputs[name].copy()
            a[0] = a[0] * 1.25 + 0.125 if measured(a) else a[-1]
            moved = outputs(base.inputs | {name: a})
            if count > 1 and any(not np.array_equal(o[1:], p[1:], equal_nan=True)
                                 for o, p in zip(moved, plain, strict=True)):
                names = [n for n in names if n != name]
    except Exception:  # told where its values are asked for
        pass
    return names


def batch(subject: Subject, base: Sample, size: int) -> Sample:
    """A given sample with another batch size: its rows, repeated with other values as needed."""
    count, names = base.sizes["N"], rows(subject, base)
    rng = np.random.default_rng([base.seed, size])

    def resized(name: str, a: NDArray[Any]) -> NDArray[Any]:
        if name not in names:
            return a
        more: NDArray[Any] = np.take(a, np.arange(size) % count, axis=0)
        if measured(a):
            more[count:] *= rng.uniform(0.5, 1.5, more[count:].shape)
        return more

    return replace(base, id=f"{base.id}:N={size}", inputs={n: resized(n, a) for n, a in base.inputs.items()},
                   cotangents={}, sizes={"N": size}, words=f"with N = {size}")


def plan(subject: Subject, seed: int) -> list[tuple[Sample, str]]:
    """The samples of an audit beside the first: ``(sample, kind)``, kind ``value`` or ``finite``."""
    spec = subject.entry
    sizes: Sizes = {letter: OTHER[letter] for letter in spec.letters if letter in OTHER}
    found: list[tuple[Sample | None, str]] = []
    usual = base_options(spec)
    taken = subject.constructor() if subject.is_class else None  # a value that nobody can ask for was never promised
    asked = {name: values for name, values in spec.options.items() if taken is None or name in taken}
    for name, values in (asked | spec.attributes).items():
        found += [(sample(subject, seed=seed, words=f"with {name}={v}", **{name: v}), "value")
                  for v in values if v != usual[name]]
    if spec.optional:
        found.append((sample(subject, seed=seed, words=f"with {spec.optional[0]}", masked=True), "value"))
    if spec.one_hot:
        found.append((sample(subject, seed=seed, words=f"with one-hot {spec.one_hot}", one_hot=True), "value"))
    if spec.states:
        found.append((sample(subject, seed=seed, words="from a state that was set", stateful=True, given=True),
                      "value"))
    if spec.time:
        found.append((sample(subject, {"T": 6}, seed=seed, words="in the second part of a sequence, stateful",
                             stateful=True, cut=3), "value"))
    for letter in spec.letters:
        if letter == "...":
            found += [(sample(subject, {"...": lead}, seed=seed, words=f"with leading axes {lead}"), "value")
                      for lead in ((), (2, 4))]
        elif letter in "NTU":
            size = _least(spec, letter)
            found.append((sample(subject, {letter: size}, seed=seed, words=f"with {letter} = {size}"), "value"))
    found.append((sample(subject, {"N": MANY} if "N" in spec.letters else {"...": (MANY,)}, seed=seed,
                         words=f"with a batch of {MANY}"), "value"))
    words = "with " + ", ".join(f"{k} = {v}" for k, v in sizes.items())
    found.append((sample(subject, sizes, scale=0.5, seed=seed + 1, words=words), "value"))
    if spec.bounds:
        found.append((sample(subject, pattern="duplicates", seed=seed, words="where indices occur more than once"),
                      "value"))
    for layout in ("F", "reversed"):
        found.append((sample(subject, layout=layout, seed=seed,
                             words=f"with non-contiguous inputs ({layout} layout)"), "value"))
    for pattern in ("ignored", "extreme", "saturated"):
        if pattern in spec.patterns:
            words = {"ignored": "where every label is ignored", "extreme": f"at logits of {spec.extreme:g}",
                     "saturated": "with saturated gates"}[pattern]
            found.append((sample(subject, pattern=pattern, seed=seed, words=words),
                          "value" if pattern == "ignored" else "finite"))
    return [(s, kind) for s, kind in found if s is not None]


def variations(subject: Subject, base: Sample) -> list[Sample]:
    """The base sample with one axis at a time grown, for telling 1/N from 1/T."""
    if subject.spec is None:
        return [batch(subject, base, GROWN * base.sizes["N"])] if "N" in base.sizes else []
    found = []
    for letter in subject.spec.letters:
        size = base.sizes[letter]
        grown = (GROWN * size[0], *size[1:]) if letter == "..." and size else GROWN * size if size else size
        case = base.drawn
        if letter != "..." or size:
            found.append(sample(subject, base.sizes | {letter: grown}, case.pattern, case.scale, seed=base.seed,
                                **case.options))
    return [s for s in found if s is not None]


def _least(spec: Spec, letter: str) -> int:
    return min(spec.ranges.get(letter, (1,)))


def smaller(subject: Subject, base: Sample) -> Iterator[tuple[str, int]]:
    """Samples with fewer entries than the base, for a script that fits on a screen: smallest last."""
    for letter in subject.entry.letters:
        if letter == "...":
            continue
        for size in (1, 2):
            if _least(subject.entry, letter) <= size < base.sizes[letter] and not base.drawn.options.get("cut"):
                yield letter, size
                break

