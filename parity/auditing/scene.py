"""What a diagnosis may ask: a layer measured in one case and in others, and when two arrays are the same."""

from dataclasses import dataclass, field

import numpy as np

from . import samples as _samples
from .rounding import rms
from .subject import Function
from .trace import Refused, somebodys_code

SAME = 1e-6  # relative to the root mean square: an explanation has to fit this closely
ENTRIES = 400  # of an array, up to which its whole Jacobian is asked for: one forward each
IMAGINARY, STEP = 1e-30, 2.0**-20  # of the complex step, and of central differences where the code drops that


@dataclass
class Measured:
    """What a layer gave for one sample, and what is right.

    Attributes:
        sample, cotangents: what it was given.
        outputs: dict by name, and ``right_outputs`` the canonical ones (empty without a twin).
        got, right: gradients by name: of ``backward``, and of the layer's own forward.
        doubt: estimated error of the right ones, by name.
    """

    sample: object
    cotangents: list
    outputs: dict
    got: dict
    right_outputs: dict = field(default_factory=dict)
    right: dict = field(default_factory=dict)
    doubt: dict = field(default_factory=dict)


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
        traced: changes that explained another quantity, by subject: tried first; and what searches may still run.
        tell: called with what is wrong with a diagnosis itself.
    """

    subject: object
    canonical: object
    base: Measured
    agrees: bool
    measure: object
    exact: float = SAME
    traced: dict = field(default_factory=dict)
    tell: object = None

    def varied(self):
        """The base with one axis grown at a time: letter, measured; computed once."""
        if not hasattr(self, "_varied"):
            self._varied = []
            for letter, sample in _samples.variations(self.subject, self.base.sample):
                try:
                    self._varied.append((letter, self.ask(sample)))
                except Refused:  # a layer that fails at other sizes has a finding of its own
                    continue
        return self._varied

    def ask(self, sample, cotangents=None):
        """A sample, measured.

        Raises:
            Refused: the code raised.
        """
        with somebodys_code():
            return self.measure(sample, cotangents)

    def contributions(self, name):
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

    def same(self, a, b, size=None):
        """Whether two arrays are the same, as far as an explanation asks."""
        if a is None or b is None or np.shape(a) != np.shape(b):
            return False
        size = min(rms(a), rms(b)) if size is None else size  # the wilder of two cannot set how near is near
        return bool(np.all(np.abs(a - b) <= self.exact * (size + 1e-12)))


def ratio(scene, got, right):
    """The constant c with got = c right; None where there is none."""
    if got is None or got.shape != right.shape or not np.isfinite(got).all() or not rms(right):
        return None
    c = float(np.sum(got * right) / np.sum(right * right))
    return c if scene.same(got, c * right, max(rms(got), rms(right))) else None
