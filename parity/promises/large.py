"""What a module says at large sizes is the same in every mode, and what the layer that it was made from says."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..cases.case import Case, admitted, derived
from ..judge.lanes import LANES
from ..sides.objects import OBJECTS, Mode
from ..spec.spec import Spec
from .common import arrays_of, standard

FACTORS = frozenset(("plain", "eval", "no_grad", "frozen"))  # of which the other modes are made
SIZE = 257  # past which something may begin, one axis at a time
TERMS = 64 * 1000  # roundings of sums in another order, over T, U, D and H
WORK = 1 << 26  # multiplications of a case


def check_large(spec: Spec) -> None:
    """One axis long, in evaluation, without gradients, frozen: results, gradients and what is kept aside.

    Raises:
        AssertionError: something is further from what the reference gives than sums in another order explain.
    """
    lane = LANES["cpu-float64"]
    for case in _large(spec):
        data = arrays_of(case)
        ours, theirs = (make(case, dict(data.params), lane, "float64") for make in OBJECTS[spec.side])
        ran = ours.forward(dict(data.inputs))
        expected = {name: ours.array(a) for name, a in ran.outputs.items()}
        expected |= {f"grad.{name}": ours.array(g) for name, g in ours.backward(ran, dict(data.cotangents)).items()}
        for name in sorted(FACTORS & set(theirs.modes)):
            inputs, cotangents = ({key: theirs.given(a, lane, "float64") for key, a in group.items()}
                                  for group in (data.inputs, data.cotangents))
            ran = theirs.forward(inputs, Mode(name))
            found = {key: theirs.array(t) for key, t in ran.outputs.items()}
            assert found.keys() == {key for key in expected if not key.startswith("grad.")}, \
                f"{name}, {case.sizes}: {sorted(found)}, not {sorted(expected)}"
            if ran.wanted:
                found |= {f"grad.{key}": theirs.array(g) for key, g in theirs.backward(ran, cotangents).items()}
            for key, array in found.items():
                right = expected[key]
                size = max(1.0, float(np.abs(right).max(initial=0)))
                near = array.shape == right.shape and np.abs(array - right).max(initial=0) <= 2.0**-53 * TERMS * size
                assert near, f"{name}, {case.sizes}: {key} is not what the reference gives"


def _large(spec: Spec) -> Iterator[Case]:
    usual = standard(spec)
    for letter in spec.letters:
        value = (SIZE, 3) if letter == "..." else SIZE
        case = replace(usual, sizes=derived(spec, usual.sizes | {letter: value}, usual.options))
        if case.work <= WORK and admitted(spec, case.sizes, case.options):
            yield case
