"""What a hand-written ``forward`` and ``backward`` owe whoever calls them: stated once, for our layers and strangers'.

Each ``check_*`` takes ``Calls``, how a layer is made and called, and yields a ``Finding`` for what is broken of its
promise: its ``expected`` and ``got`` are the arrays that should be the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..judge.finding import Finding
from ..spec.results import Arrays, Gradients

FILLED = 0.625  # what stands in gradients before they are overwritten: exact in every format


@dataclass
class Calls:
    """How a layer is made and called.

    Attributes:
        make: gives a fresh layer.
        forward: of a layer and a list of inputs, gives a sequence of outputs.
        backward: of a layer and a list of cotangents, gives the gradients by name, those of parameters included.
        inputs, cotangents: by name.
        other: other inputs of the same shapes, for a call before.
        same: of two arrays, whether the same computation gave them.
        kept: whether outputs that were given stay as they are when the layer is called again.
    """

    make: Callable[[], Any]
    forward: Callable[[Any, list[Any]], Any]
    backward: Callable[[Any, list[Any]], Gradients]
    inputs: Arrays
    cotangents: Arrays
    other: Arrays
    same: Callable[[Any, Any], bool] = np.array_equal
    kept: bool = True

    def called(self, layer: Any, inputs: Arrays | None = None) -> tuple[list[Any], Gradients]:
        """Copies of the outputs and of the gradients of a forward and a backward."""
        outputs = [np.array(o) for o in self.forward(layer, copies(self.inputs if inputs is None else inputs))]
        return outputs, self.gradients(layer)

    def gradients(self, layer: Any) -> Gradients:
        """Copies of the gradients of a backward."""
        found = self.backward(layer, copies(self.cotangents))
        return {name: None if g is None else np.array(g) for name, g in found.items()}

    def apart(self, first: Gradients, second: Gradients) -> Iterator[str]:
        """The names under which something else stands in two groups."""
        for name, array in first.items():
            other = second.get(name)
            if not (array is other if array is None or other is None else self.same(array, other)):
                yield name


def copies(arrays: Arrays) -> list[Any]:
    """Copies in the same memory layout."""
    return [np.array(a, order="K")[()] if np.ndim(a) == 0 else np.array(a, order="K") for a in arrays.values()]


def check_nothing_changed(calls: Calls) -> Iterator[Finding]:
    """Inputs, cotangents, parameters and earlier results stay as they are."""
    layer, inputs, cotangents = calls.make(), copies(calls.inputs), copies(calls.cotangents)
    watched = [("input", name, a) for name, a in zip(calls.inputs, inputs, strict=True)]
    watched += [("params", f"params[{i}]", p) for i, p in enumerate(getattr(layer, "params", ()))]
    watched += [("cotangent", name, c) for name, c in zip(calls.cotangents, cotangents, strict=True)]
    before = [np.array(a) for *_, a in watched]
    said = set()

    def changed(what: str) -> Iterator[Finding]:
        for (kind, name, a), was in zip(watched, before, strict=True):
            if name not in said and not np.array_equal(a, was, equal_nan=was.dtype.kind in "fc"):
                said.add(name)
                word = {"params": "parameter"}.get(kind, kind)
                yield Finding("in place", name, diagnosis=f"{word} changed in place: {what} changed {name}",
                              kind=f"mutated-{kind}", expected=was, got=np.array(a))

    outputs = calls.forward(layer, inputs)
    yield from changed("forward")
    if calls.kept:
        watched += [("output", f"output {i}", o) for i, o in enumerate(outputs)]
        before += [np.array(o) for o in outputs]
    calls.backward(layer, cotangents)
    yield from changed("backward")
    if calls.kept:
        calls.backward(layer, cotangents)
        calls.forward(layer, inputs)
        yield from changed("a second call")


def check_same_arrays(calls: Calls) -> Iterator[Finding]:
    """Gradients are written into the arrays in ``grads``, which stay those that a model gathered."""
    layer = calls.make()
    gathered = list(getattr(layer, "grads", ()))
    calls.called(layer)
    for i, (old, new) in enumerate(zip(gathered, layer.grads if gathered else (), strict=False)):
        if old is not new and np.shape(old) == np.shape(new):  # another shape is a wrong gradient
            yield Finding("grads replaced", f"grads[{i}]", kind="replaced", diagnosis="the arrays in grads are "
                          f"replaced: backward puts a new array in place of grads[{i}]")
            return


def check_overwritten(calls: Calls) -> Iterator[Finding]:
    """Whatever stood in ``grads``, a backward overwrites it."""
    layer = calls.make()
    if not getattr(layer, "grads", ()):
        return
    for g, p in zip(getattr(layer, "grads", ()), getattr(layer, "params", ()), strict=False):
        if isinstance(g, np.ndarray) and g.shape == np.shape(p):
            g[...] = FILLED
    (_, got), (_, right) = calls.called(layer), calls.called(calls.make())
    for name in calls.apart(right, got):
        a, b = got.get(name), right[name]
        if a is not None and b is not None and a.shape == b.shape:
            added = calls.same(a - b, np.full_like(b, FILLED))
            yield Finding("accumulated", f"grad.{name}", diagnosis="gradients are accumulated instead of overwritten" if
                          added else "the gradient depends on what stood in grads before", kind="accumulated",
                          expected=b, got=a)


def check_backward_twice(calls: Calls) -> Iterator[Finding]:
    """``backward`` may be called again, and says the same."""
    layer = calls.make()
    _, first = calls.called(layer)
    try:
        second = calls.gradients(layer)
    except Exception as error:
        yield Finding("second backward", "backward", diagnosis=f"second backward differs: it raised "
                      f"{type(error).__name__}: {error}", kind="second-backward")
        return
    for name in calls.apart(first, second):
        yield Finding("second backward", f"grad.{name}", diagnosis="second backward differs: the cache was changed in "
                      "place", kind="second-backward", expected=first[name], got=second[name])


def check_repeats(calls: Calls) -> Iterator[Finding]:
    """A second forward and backward know nothing of the first: they give what those of a fresh layer do."""
    layer = calls.make()
    _, earlier = calls.called(layer, calls.other)
    outputs, got = calls.called(layer)
    fresh, right = calls.called(calls.make())
    for i, (a, b) in enumerate(zip(outputs, fresh, strict=True)):
        if not calls.same(a, b):
            yield Finding("second call", f"output {i}" if len(fresh) > 1 else "output", kind="state-kept", expected=b,
                          got=a, diagnosis="state is kept between calls: a second forward on the same object gives "
                          "something else than a fresh one")
            return
    for name in calls.apart(right, got):
        before = earlier.get(name)
        summed = before is not None and got[name] is not None and calls.same(got[name], right[name] + before)
        yield Finding("second call", f"grad.{name}", diagnosis="gradients are accumulated instead of overwritten" if
                      summed else "state is kept between calls: the gradient of a second call differs from that of a "
                      "fresh object", kind="accumulated" if summed else "state-kept", expected=right[name],
                      got=got[name])


CHECKS = (check_nothing_changed, check_same_arrays, check_overwritten, check_backward_twice, check_repeats)
