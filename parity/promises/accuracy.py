"""What a side may err by, held against the other side in float64: neither sets its own measure.

At sizes from 1e-30 to 1e15 the measure is relative, element by element: as much as the function itself changes where
every number that it is given is rounded once more. At ordinary sizes it is the mean error of many cases, in which
honest ones cancel.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..cases.case import Case, Data
from ..judge.lanes import LANES, ROUNDOFF
from ..spec.results import Arrays
from ..spec.spec import Spec
from .common import PORT, REFERENCE, Array, Side, standard

SMALL = (1e-30, 1e-18, 1e-9, 1e-4, 1e-2)  # sizes of inputs, states and biases
TAILS = (50.0,)  # where what a softmax leaves over is small, and not yet zero
LARGE = (1e6, 1e15)  # past it squares of squares overflow in float32
SHUT = (-10.0, -20.0)  # biases, under which gates nearly close; a product of such is 1e-26 at least
COPIES = 6
FACTOR = 64  # roundings on the way, for one of each number given; and the least that six copies may show of it
SEEDS = 16
SPREADS = 8  # of a mean of as many, by their own spread


def check_magnitudes(side: Side, spec: Spec) -> None:
    """Near zero and far from it results and gradients keep their digits, and so do results that gates nearly close.

    Raises:
        AssertionError: an entry is further from the exact one than ``FACTOR`` roundings of what it is made of explain.
    """
    if spec.size_arguments:
        return  # made of layers that are held here
    case = standard(spec)
    data = case.data(LANES["cpu-float32"].narrow)
    for scale in (*SMALL, *TAILS, *LARGE):
        # the derivative of a gate, and in the tails of a softmax, is what is left of two numbers near 1
        apart = ("grad.",) if scale in TAILS or (scale in LARGE and spec.recurrent) else ()
        _hold_relative(side, case, _sized(data, scale), f"at a size of {scale:g}", apart)
    small = _sized(data, SMALL[-1])
    for bias in SHUT if spec.gates else ():
        shut = {name: p + p.dtype.type(bias) if p.ndim == 1 else p for name, p in small.params.items()}
        _hold_relative(side, case, replace(small, params=shut), f"under biases of {bias:g}", ("grad.",))


def _hold_relative(side: Side, case: Case, data: Data, words: str, apart: tuple[str, ...] = ()) -> None:
    """Holds a side in float32 and float64, but for quantities whose names begin as said."""
    exact, spread = _explained(_other(side), case, data.map(_double))
    for lane in (LANES["cpu-float32"], LANES["cpu-float64"]):
        u = lane.unit_roundoff
        found = side.run(case, data.map(lane.narrow), lane)
        for name, right in exact.items():
            if right.dtype.kind != "f" or name.startswith(apart):
                continue
            bound = FACTOR * (u / ROUNDOFF["float32"] * spread[name] + u * np.abs(right) + lane.underflow)
            far = np.abs(np.asarray(found[name], float) - right)
            assert (far <= bound).all(), (
                f"{lane.name}, {words}: an entry of {name} is {(far / bound).max() * FACTOR:.3g} times from the exact "
                "one what rounding what it is made of explains")


def _sized(data: Data, scale: float) -> Data:
    """Inputs, states and biases of a size; weights as they are, or products of both would underflow."""
    def times(a: Array) -> Array:
        return np.asarray((a * scale).astype(a.dtype)) if a.dtype.kind == "f" else a

    return replace(data, inputs={name: times(a) for name, a in data.inputs.items()},
                   states={name: times(a) for name, a in data.states.items()},
                   params={name: times(p) if p.ndim == 1 else p for name, p in data.params.items()})


def _explained(side: Side, case: Case, data: Data) -> tuple[Arrays, Arrays]:
    """Quantities in float64, and how far they move where all that is given is rounded to float32 once more."""
    lane, rng = LANES["cpu-float64"], np.random.default_rng(0)
    exact = side.run(case, data, lane)
    spread = {name: np.zeros(np.shape(a)) for name, a in exact.items()}
    for _ in range(COPIES):
        copy = data.map(lambda a: a * (1 + 2 * ROUNDOFF["float32"] * rng.uniform(-1, 1, a.shape)))
        for name, a in side.run(case, copy, lane).items():
            if a.dtype.kind == "f":
                spread[name] = np.maximum(spread[name], np.abs(a - exact[name]))
    return exact, spread


def check_unbiased(side: Side, spec: Spec) -> None:
    """In float32 no quantity is too large or too small as a whole, by the mean over many cases of its slope.

    Raises:
        AssertionError: by more than a roundoff, and 8 standard deviations of such a mean.
    """
    lane = LANES["cpu-float32"]
    slopes: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        case = standard(spec, seed)
        data = case.data(lane.narrow)
        for name, slope in _slopes(side.run(case, data, lane), _other(side).run(case, data.map(_double),
                                                                                LANES["cpu-float64"])):
            slopes.setdefault(name, []).append(slope)
    for name, found in slopes.items():
        mean, spread = np.mean(found), np.std(found) / len(found) ** 0.5
        assert abs(mean) <= lane.unit_roundoff + SPREADS * spread, \
            f"{name} in float32 is {1 + mean:.9f} times the exact one, in the mean of {len(found)} cases"


def _slopes(found: Arrays, exact: Arrays) -> Iterator[tuple[str, float]]:
    for name, right in exact.items():
        if right.dtype.kind == "f" and right.any():
            apart = np.asarray(found[name], float) - right
            yield name, float((apart * right).sum() / (right * right).sum())


def _other(side: Side) -> Side:
    return REFERENCE if side is PORT else PORT


def _double(a: Array) -> Array:
    return np.asarray(a, np.float64)
