"""What a diagnosis may ask: a layer measured in one case and in others, and when two arrays are the same."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..spec.results import Arrays, Gradients
from . import samples
from .rounding import Quantities, rms
from .subject import Function, Sample, Subject, gradients
from .trace import Refused, Site, somebodys_code

Told = tuple[str, str] | None  # kind and words of an explanation; None where it explains nothing

SAME = 1e-6  # relative to the root mean square: an explanation has to fit this closely
TOGETHER = 300_000  # traced operations of all searches of an audit: 20 microseconds each in long loops, 6 of its 10 s
ENTRIES = 400  # of an array, up to which its whole Jacobian is asked for: one forward each
IMAGINARY, STEP = 1e-30, 2.0**-20  # of the complex step, and of central differences where the code drops that


@dataclass
class Measured:
    """What a layer gave for one sample, and what is right.

    Attributes:
        sample, cotangents: what it was given.
        outputs: dict by name, and ``right_outputs`` the canonical ones (empty without a twin).
        got, right: gradients by name: of ``backward``, and of the layer's own forward.
        kept, right_kept: what it keeps aside by name, and the canonical one does.
        canonical: gradients of the canonical one, by name; empty without a twin, and where outputs differ in shape.
        asked: what the canonical one was given; None without a twin.
        room: the budgets of the canonical one, None until they are asked for.
    """

    sample: Sample
    cotangents: list[Any]
    outputs: Arrays
    got: Gradients
    right_outputs: Arrays = field(default_factory=dict)
    right: Arrays = field(default_factory=dict)  # of arrays of so many entries that only some were asked for, none
    kept: dict[str, Any] = field(default_factory=dict)
    right_kept: dict[str, Any] = field(default_factory=dict)
    canonical: Arrays = field(default_factory=dict)
    asked: Sample | None = None
    room: Quantities | None = None


class Measuring(Protocol):
    """Measures a sample, with other cotangents than its own where they are given."""

    def __call__(self, sample: Sample, cotangents: list[Any] | None = None) -> Measured: ...


@dataclass
class Searched:
    """What the searches of an audit came to.

    Attributes:
        left: traced operations that they may still run: a number, so that the same case gives the same words anywhere.
        changes: by the id of a subject, those that explained another gradient: tried first.
    """

    left: int = TOGETHER
    changes: dict[int, list[tuple[Site, str]]] = field(default_factory=dict)


@dataclass
class Scene:
    """Everything that a diagnosis may ask.

    Attributes:
        subject: what is audited.
        canonical: the NumPy twin as a subject; None without one.
        base: the first sample, measured.
        agrees: whether the forward is the canonical one.
        measure: function from a sample to a ``Measured``.
        exact: relative precision that can be asked for.
        searched: what the searches for a change of the derivative came to so far.
        tell: called with what is wrong with a diagnosis itself.
    """

    subject: Subject
    canonical: Subject | None
    base: Measured
    agrees: bool
    measure: Measuring
    searched: Searched
    tell: Callable[[str], None]
    exact: float = SAME

    @cached_property
    def varied(self) -> list[Measured]:
        """The base with one axis grown at a time, measured."""
        found = []
        for sample in samples.variations(self.subject, self.base.sample):
            try:
                found.append(self.ask(sample))
            except Refused:  # a layer that fails at other sizes has a finding of its own
                continue
        return found

    def ask(self, sample: Sample, cotangents: list[Any] | None = None) -> Measured:
        """A sample, measured.

        Raises:
            Refused: the code raised.
        """
        with somebodys_code():
            return self.measure(sample, cotangents)

    def contributions(self, name: str) -> Arrays | None:
        """By output, what each element adds to the gradient of an array ``(*output, *array)``; None of large arrays.

        Raises:
            Refused: the code raised.
        """
        base = self.base
        point, array = base.sample.point(), base.sample.point()[name]
        if array.size > ENTRIES:
            return None
        function = Function(self.subject, base.sample)
        for step in (1j * IMAGINARY, STEP):
            columns = []
            for index in np.ndindex(array.shape):
                ends = []
                for sign in (1, -1)[: 1 + np.isrealobj(step)]:
                    moved = {n: a.astype(np.result_type(a, step)) if a.dtype.kind == "f" else a
                             for n, a in point.items()}
                    moved[name][index] += sign * step
                    with somebodys_code():
                        ends.append([np.array(o) for o in function(moved)])
                columns.append([(up - down) / (2 * step) for up, down in zip(*ends, strict=True)] if len(ends) > 1 else
                               [o.imag / IMAGINARY for o in ends[0]])
            found = {label: np.reshape(c, np.shape(c) + (1,) * array.ndim) * np.moveaxis(
                np.reshape(rows, array.shape + np.shape(c)), range(array.ndim), range(-array.ndim, 0))
                for label, c, rows in zip(base.outputs, base.cotangents, zip(*columns, strict=True), strict=True)}
            total = sum(a.sum(axis=tuple(range(np.ndim(a) - array.ndim))) for a in found.values())
            if self.same(total, base.right[name]):  # code may drop what is imaginary
                return found
        return None

    def same(self, a: Any, b: Any, size: float | None = None) -> bool:
        """Whether two arrays are the same, as far as an explanation asks."""
        if a is None or b is None or np.shape(a) != np.shape(b):
            return False
        size = min(rms(a), rms(b)) if size is None else size  # the wilder of two cannot set how near is near
        return bool(np.all(np.abs(a - b) <= self.exact * (size + 1e-12)))


def ask_canonical(canonical: Subject, measured: Measured) -> None:
    """Outputs and gradients of the canonical NumPy layer for the same arrays, into ``measured``.

    Raises:
        RuntimeError: it does not take them.
    """
    spec, sample = canonical.entry, measured.sample
    drawn = {n: measured.outputs[o] != 0 for n, o in spec.drawn.items() if n not in sample.inputs}
    inputs = sample.inputs | drawn
    sample = measured.asked = replace(sample, inputs={n: inputs[n] for n in spec.inputs if n in inputs})
    try:
        layer = canonical.make(sample)
        outputs = canonical.forward(layer, sample.fresh())
        measured.right_outputs = dict(zip(spec.outputs, outputs, strict=True))
        if all(np.shape(c) == o.shape for c, o in zip(measured.cotangents, outputs, strict=True)):
            returned = canonical.backward(layer, measured.cotangents)
            found = gradients(canonical, sample, layer, returned)
            measured.canonical = {n: np.array(g) for n, g in found.items() if n in measured.got}
        measured.right_kept = {n: getattr(layer, n) for n in spec.kept}
    except Exception as error:
        raise RuntimeError(f"the canonical layer refused {sample.id}: {error}") from error


def ratio(scene: Scene, got: NDArray[Any] | None, right: NDArray[Any] | None) -> float | None:
    """The constant c with got = c right; None where there is none."""
    if got is None or right is None or got.shape != right.shape or not np.isfinite(got).all() or not rms(right):
        return None
    c = float(np.sum(got * right) / np.sum(right * right))
    return c if scene.same(got, c * right, max(rms(got), rms(right))) else None
