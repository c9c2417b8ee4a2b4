"""What explains an output that is another than the canonical one: a table as in ``diagnose``."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.axes import axes
from ..spec.results import Arrays
from ..spec.spec import Spec
from .diagnose import FLOAT32, Explanation, first, not_finite, rearranged, slabs
from .rounding import rms
from .scene import Scene, Told
from .sizes import POWERS, counting, law_of, power
from .subject import Sample, Subject, quantities
from .trace import Refused, Surgery, Tracer, describe, somebodys_code

Change = Callable[[Sample], Sample]


def outputs_of(subject: Subject, sample: Sample) -> tuple[NDArray[Any], ...]:
    """Outputs of a layer whose backward is not asked."""
    with somebodys_code():
        return subject.forward(subject.make(sample), [a.copy() for a in sample.inputs.values()])


def canonical_outputs(scene: Scene, sample: Sample) -> Arrays:
    assert scene.canonical is not None
    with somebodys_code():
        outputs, _ = quantities(scene.canonical, sample)
    return dict(zip(scene.subject.entry.outputs, outputs, strict=True))


def guarded(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """A tiny constant in the code, as in log(p + 1e-7), without which the forward is the canonical one."""
    place = list(scene.base.outputs).index(name)
    tracer = Tracer(scene.subject, scene.base.sample, scene.base.cotangents)
    for site in tracer.sites():
        if site[2] == "guard" and scene.same(np.asarray(tracer.outputs(Surgery(site, "guard"))[place]).real, right):
            where = describe(site, "forward")
            return ("clamped-log", f"a clamped logarithm: {where}") if site in tracer.logged else (
                "epsilon", f"another eps: {where}")
    return None


def single(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    return ("float32", FLOAT32) if scene.same(got, right) else None


def factor(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    return law_of(scene, lambda m: (m.outputs[name], m.right_outputs[name]))


def moved(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    return rearranged(scene, name, got, right) or (slabs(scene, name, got, right) if got.shape == right.shape else None)


def swapped(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    for other, a in scene.base.right_outputs.items():
        if other != name and scene.same(got, a):
            return "order", f"the return order is swapped: it is {other}"
    return None


def variant(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Another function that is easily taken for this one."""
    spec = scene.subject.entry
    for words, kind in spec.variants.items():
        outputs = outputs_of(Subject(kind, spec), scene.base.sample)
        if scene.same(got, outputs[list(spec.outputs).index(name)]):
            return "variant", words
    return None


def modified(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """As if the canonical layer had been given something else."""
    for kind, words, change in modifications(scene):
        try:
            if all(scene.same(m.outputs[name], canonical_outputs(scene, change(m.sample))[name],
                              rms(m.right_outputs[name])) for m in [scene.base, *scene.varied[:2]]):
                return kind, words
        except Refused:  # a change that the canonical layer refuses
            continue
    return None


def modifications(scene: Scene) -> Iterator[tuple[str, str, Change]]:
    """Changes of a sample, with what they mean: kind, words, function."""
    spec, sample = scene.subject.entry, scene.base.sample
    yield from _gates(spec)
    names = list(sample.params)
    for name in names:
        yield "unused", f"one path is dropped: {name} is not used", _params({name: np.zeros_like})
        yield "doubled", f"{name} is counted twice", _params({name: lambda a: 2 * a})
        yield "sign", f"the sign of {name} is wrong", _params({name: lambda a: -a})
        if sample.params[name].ndim == 2 and len(set(sample.params[name].shape)) == 1:
            yield "transposed", f"{name} is transposed", _params({name: lambda a: a.T.copy()})
    for a, b in itertools.combinations(names, 2):
        if sample.params[a].shape == sample.params[b].shape:
            yield "order", f"{a} and {b} are swapped", _swapped(a, b)
    for name, x in sample.inputs.items():
        text = axes(spec.inputs[name])[1]
        if x.dtype.kind == "f":
            yield "unused", f"one path is dropped: {name} is not used", _input(name, lambda a, s: np.zeros_like(a))
            for letter in (word[-1] for word in text + [other for other in spec.letters if other not in text]):
                for p in POWERS if isinstance(sample.sizes.get(letter), int) else ():
                    yield "scaled", f"{name} is scaled by {power(letter, p)}", _scaled(name, letter, p)
            for c in (2.0, 0.5, -1.0):
                yield "sign" if c < 0 else "factor", f"{name} is scaled by {c:g}", _times(name, c)
        for axis, word in enumerate(text):
            if word in ("T", "U"):
                yield "flipped", f"{name} is read in reverse along {word}", _flipped(name, axis)
        if x.dtype.kind == "b":
            yield "mask", f"{name} is ignored", _input(name, lambda a, s: np.ones_like(a))
            yield "mask", f"{name} is the other way round", _input(name, lambda a, s: ~a)
        if x.dtype.kind in "iu" and x.ndim:
            yield "shifted", f"{name} is off by one", _input(name, lambda a, s: np.where(a > 0, a - 1, a))
            if (option := spec.inputs[name].ignored) in sample.options:
                yield "ignored", "ignored labels are counted, as class 0", _as_class_0(name, option)
    for name in sample.states:
        yield "state-lost", f"the state {name} is lost", _without_state(name)
    if sample.warm:
        yield "state-lost", "the state is lost between calls", lambda s: replace(s, warm={})
    for option, values in (spec.options | spec.attributes).items():
        for value in values:
            if value != sample.options.get(option):
                yield "option", f"{option} is taken as {value}", _with_option(option, value)


def _gates(spec: Spec) -> Iterator[tuple[str, str, Change]]:
    """The blocks of gates in another order, or one of them the other way round or zero."""
    own = [n for n, text in spec.params.items() if spec.gates and axes(text)[1][-1][:-1] == str(len(spec.gates))]

    def blocks(places: Sequence[int], factors: Sequence[float]) -> Change:
        def packed(a: NDArray[Any]) -> NDArray[Any]:
            parts = np.split(a, len(spec.gates), -1)
            return np.concatenate([c * parts[i] for i, c in zip(places, factors, strict=True)], -1)
        return _params(dict.fromkeys(own, packed))

    usual = range(len(spec.gates))
    for order in list(itertools.permutations(usual))[1:]:
        packed = ", ".join(spec.gates[order.index(i)] for i in usual)
        yield ("gates", f"gates are mis-ordered: packed as {packed}, expected {', '.join(spec.gates)}",
               blocks(order, [1.0] * len(usual)))
    for place, gate in enumerate(spec.gates):
        for c, words in ((-1.0, f"is the other way round: {gate} stands where 1 - {gate} belongs"),
                         (0.0, "gets no pre-activation")):
            yield "gates", f"gate {gate} {words}", blocks(usual, [c if i == place else 1.0 for i in usual])


def _params(functions: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]) -> Change:
    return lambda s: replace(s, params=s.params | {n: function(s.params[n]) for n, function in functions.items()})


def _input(name: str, function: Callable[[NDArray[Any], Sample], NDArray[Any]]) -> Change:
    return lambda s: replace(s, inputs=s.inputs | {name: function(s.inputs[name], s)})


def _swapped(a: str, b: str) -> Change:
    return lambda s: replace(s, params=s.params | {a: s.params[b], b: s.params[a]})


def _scaled(name: str, letter: str, p: float) -> Change:
    return _input(name, lambda a, s: a * float(s.sizes[letter]) ** p)


def _times(name: str, c: float) -> Change:
    return _input(name, lambda a, s: c * a)


def _flipped(name: str, axis: int) -> Change:
    return _input(name, lambda a, s: np.flip(a, axis).copy())


def _as_class_0(name: str, option: str) -> Change:
    return _input(name, lambda a, s: np.where(a == s.options[option], 0, a))


def _without_state(name: str) -> Change:
    return lambda s: replace(s, states=s.states | {name: np.zeros_like(s.states[name])})


def _with_option(option: str, value: Any) -> Change:
    return lambda s: replace(s, options=s.options | {option: value})


def other_axis(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """A function of rows that was taken over another axis."""
    base = scene.base
    if len(scene.subject.entry.inputs) != 1:
        return None
    (given, a), = base.sample.inputs.items()
    if scene.same(got, a):
        return "unchanged", f"{given} is returned unchanged"
    for axis in range(a.ndim - 1):
        changed = replace(base.sample, inputs={given: np.moveaxis(a, axis, -1).copy()})
        if scene.same(got, np.moveaxis(canonical_outputs(scene, changed)[name], -1, axis)):
            return "axis", f"computed over the wrong axis: {axis}, expected the last"
    return None


def ignored_rows(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Rows whose label is ignored change the loss."""
    sample = scene.base.sample
    for label, counts in counting(sample).items():
        out = ~counts
        for given, x in sample.inputs.items():
            if x.dtype.kind == "f" and x.shape[: out.ndim] == out.shape and out.any():
                blank = replace(sample, inputs=sample.inputs | {given: np.where(out[..., None], 0.0, x)})
                if not scene.same(outputs_of(scene.subject, blank)[0], got):
                    return "ignored", f"ignored {label} are counted: the {name} depends on {given} where they stand"
    return None


def raw_scores(scene: Scene, name: str, got: NDArray[Any], right: NDArray[Any]) -> Told:
    """Where the canonical layer, its output scaled row by row, or known only up to a row's sum."""
    if got.shape != right.shape or got.ndim < 2:
        return None
    with np.errstate(all="ignore"):
        share = got / right
    for axis in range(got.ndim):
        one = share.take([0], axis)
        if np.isfinite(share).all() and scene.same(share, np.broadcast_to(one, share.shape)):
            return "normalised", f"not normalised the same way: along axis {axis} it is the right one times a constant"
    return None


OUTPUT: tuple[Explanation, ...] = (not_finite, guarded, single, factor, moved, swapped, variant, modified, other_axis,
                                   ignored_rows, raw_scores)


def output(scene: Scene, name: str) -> tuple[str, str]:
    """The diagnosis of a forward that is another function: kind and words, both empty where nothing explains it."""
    if scene.canonical is None:
        return "", ""
    return first(OUTPUT, scene, name, scene.base.outputs[name], scene.base.right_outputs[name])
