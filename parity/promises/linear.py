"""A backward is linear in its cotangents, however large or small they are."""

from dataclasses import replace

import numpy as np

from ..cases.case import Case, Data
from ..judge.lanes import LANES, Lane
from ..sides.objects import OBJECTS
from ..spec.results import Arrays
from ..spec.spec import Spec
from .common import PORT, SIZES, Array, Side, standard, with_state

FACTORS = {"cpu-float32": (2.0**40, -(2.0**90), -(2.0**-40)), "cpu-float64": (-(2.0**400), 2.0**-400)}
TERMS = 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"])  # of sums over D or H, over T or U steps


def check_linear(side: Side, spec: Spec) -> None:
    """Cotangents times a power of two give gradients times that, bit for bit; a sum of two gives the sum of theirs.

    Those of zero give zero, whatever came before.
    """
    every = {name: values[1] for name, values in spec.options.items()} | with_state(spec)
    for options in ({}, every | ({"masked": True} if spec.optional else {})):
        case = standard(spec, **options)
        for name, factors in FACTORS.items():
            lane = LANES[name]
            data = case.data(lane.narrow)
            plain = side.run(case, data, lane)
            for factor in factors:
                _hold_scaled(plain, side.run(case, _by(data, factor), lane), factor, lane)
            if name == "cpu-float64":
                _hold_sum(side, case, data, plain)
                _hold_zero(side, case, data)


def _by(data: Data, factor: float) -> Data:
    def times(c: Array) -> Array:
        return np.asarray(c * c.dtype.type(factor))

    return replace(data, cotangents={name: times(c) for name, c in data.cotangents.items()})


def _hold_scaled(plain: Arrays, scaled: Arrays, factor: float, lane: Lane) -> None:
    # what underflows on one of both ways; a term of a sum over D or H, over T or U
    lost = lane.underflow * TERMS / min(abs(factor), 1)
    for name, array in plain.items():
        if not name.startswith("grad."):
            assert np.array_equal(scaled[name], array), f"cotangents times {factor:g} change {name}"
            continue
        back = np.asarray(scaled[name], np.longdouble) / np.longdouble(factor)
        far = np.abs(back - array)
        assert (far <= lost).all(), \
            f"{lane.name}: cotangents times {factor:g} give {name} times {factor:g}, but for {far.max():.3g}"


def _hold_zero(side: Side, case: Case, data: Data) -> None:
    """Cotangents of zero give gradients of zero, whatever the backward before gave."""
    lane = LANES["cpu-float64"]
    one = OBJECTS[case.spec.side][side.name == PORT.name](case, data.params, lane, "float64")
    inputs, cotangents, zeros = ({name: one.given(a, lane, "float64") for name, a in group.items()}
                                 for group in (data.inputs, data.cotangents, _by(data, 0.0).cotangents))
    ran = one.forward(inputs)
    one.backward(ran, cotangents)
    for name, gradient in one.backward(ran, zeros).items():
        assert not one.array(gradient).any(), f"cotangents of zero, after others, give a {name} that is not zero"


def _hold_sum(side: Side, case: Case, data: Data, plain: Arrays) -> None:
    lane = LANES["cpu-float64"]
    other = replace(data, cotangents=replace(case, seed=case.seed + 1).data(lane.narrow).cotangents)
    both = replace(data, cotangents={name: c + other.cotangents[name] for name, c in data.cotangents.items()})
    second, together = side.run(case, other, lane), side.run(case, both, lane)
    for name, array in plain.items():
        if name.startswith("grad."):
            size = max(1.0, *(float(np.abs(a).max(initial=0)) for a in (array, second[name])))
            far = np.abs(together[name] - array - second[name]).max(initial=0)
            assert far <= 2.0**-53 * TERMS * size, f"the {name} of a sum of cotangents is not the sum of theirs"
