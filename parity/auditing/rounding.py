"""How far each output and gradient of somebody's layer may honestly be from what is right: the budget of any case.

The layer's own code runs on copies whose operations err (``judge.noise``). Where it drops their array type, its
inputs err instead, and every quantity as much as a sum over all that was given may.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..judge.budget import COPIES, FACTOR, allowance
from ..judge.compare import shares, worst
from ..judge.lanes import LANES, Lane
from ..judge.noise import Noisy, noise, recording
from .subject import Cast, Sample, Subject, gradients, noisy

if TYPE_CHECKING:
    from .scene import Measured

Key = tuple[str, str]  # ``output`` or ``grad``, and a name
Quantities = dict[Key, NDArray[Any]]
NEARLY = FACTOR * 2.0**-24  # relative error that no computation in float32 is free of
STEPS = 1e-5, 1e-10  # changes of the inputs of which float32 answers but the first
ODD = np.uint64(0x9E3779B97F4A7C15)  # scatters the bits of a number over a word


def budgets(subject: Subject, measured: Measured, lane: Lane) -> tuple[Quantities, set[Key]]:
    """The budget of every quantity of one call, element by element.

    Args:
        subject: the ``Subject``.
        measured: its ``Measured``.
        lane: the ``Lane`` in whose precision it computes.

    Returns:
        dict from ``("output", name)`` and ``("grad", name)`` to array, and the set of those that dropped the noise.
    """
    sample = measured.sample
    plain: Quantities = {("output", n): a for n, a in measured.outputs.items()}
    plain |= {("grad", n): a for n, a in measured.got.items() if a is not None}

    def run(sample: Sample, cotangents: Sequence[NDArray[Any]], cast: Cast) -> Quantities:
        layer = subject.make(sample, cast)
        outputs = subject.forward(layer, [cast(a) for a in sample.inputs.values()])
        found: dict[Key, Any] = {("output", n): o for n, o in zip(measured.outputs, outputs, strict=True)}
        if measured.got:
            returned = subject.backward(layer, [cast(c) if c.ndim else c[()] for c in cotangents])
            found |= {("grad", n): g for n, g in gradients(subject, sample, layer, returned).items()}
        return {key: found[key] for key, a in plain.items() if key in found and np.shape(found[key]) == a.shape}

    cotangents = [np.array(c) for c in measured.cotangents]
    try:
        with recording() as ties:
            kept = {key for key, a in run(sample, cotangents, noisy).items() if isinstance(a, Noisy)}
        copies: list[Quantities] = []
        for number in range(COPIES):
            with noise(lane.unit_roundoff, f"{sample.id} {number}", ties=ties):
                copies.append({key: np.array(a) for key, a in run(sample, cotangents, noisy).items()})
    except Exception:  # code that refuses the array type
        kept, copies = set(), []
    dropped, sums = {key for key, a in plain.items() if a.dtype.kind == "f"} - kept, 0.0
    if dropped:
        for number in range(COPIES):
            move = functools.partial(_moved, unit_roundoff=lane.unit_roundoff, number=number)
            with contextlib.suppress(Exception):  # code that asks for these very numbers
                copies.append(run(sample.mapped(move), list(map(move, cotangents)), np.array))
        sums = lane.unit_roundoff * sum(a.size for a in (*sample.point().values(), *cotangents))
    size = scale(measured)
    found = {}
    for key, a in plain.items():
        found[key] = allowance(a, [copy[key] for copy in copies if key in copy], lane)
        if key in dropped:
            found[key] = found[key] + FACTOR * sums * (np.where(np.isfinite(a), np.abs(a), 0) + size)
    return found, dropped


def scale(measured: Measured) -> float:
    """The size of what flows backward: of the largest gradient or cotangent."""
    return max((rms(a) for a in (*measured.got.values(), *measured.cotangents)
                if a is not None and np.isfinite(a).all()), default=0.0)


def blind(got: NDArray[Any], budget: NDArray[Any], measured: Measured, lane: Lane) -> bool:
    """Whether the budget has grown to the size of the gradient: one per cent more of it would not be seen.

    A gradient that is zero in theory is rounding alone, and is judged: its budget is small beside what went into it.
    """
    a = np.abs(got)
    unseen = np.all(0.01 * a <= budget)
    return bool(a.size and unseen and ((a > budget).any()
                                       or rms(budget) > np.sqrt(lane.unit_roundoff) * scale(measured)))


def grainy(plain: NDArray[Any], moved: NDArray[Any], nearer: NDArray[Any]) -> bool:
    """Whether a quantity answers a change of 1e-5 in the inputs and, mostly, not one of 1e-10, as in float32.

    To answer is to move by more than one unit in float32's last place. There 1e-10 is the 600th of a roundoff, and
    moves one entry in so many; in float64 it is a million roundoffs, and moves all. One or two might be still by luck.
    """
    answers = np.abs(moved - plain) > np.finfo(np.float32).eps * rms(plain)
    return bool(answers.sum() > 3 and np.mean((nearer == plain)[answers]) > 0.5)


def nudged(sample: Sample, step: float, seed: int | Sequence[int]) -> Sample:
    """The sample with everything floating moved by up to a relative step, in the same direction for every step."""
    rng = np.random.default_rng(seed)
    return sample.mapped(lambda a: a * (1 + step * rng.uniform(0.5, 1, a.shape)))


def rounded(a: NDArray[Any]) -> bool:
    """Whether all that takes more than a few bits has no more than float32 has."""
    a = np.asarray(a, np.float64)
    with np.errstate(all="ignore"):
        a = a[a.astype(np.float16) != a]
        return bool(a.size and (a.astype(np.float32) == a).all())


def apart(got: Any, right: Any, lane: Lane, budget: NDArray[Any] | float = 0.0) -> NDArray[Any]:
    """Distance of a layer's quantity from the right one, of which ``budget`` is known, in halves of the lane's digits.

    How its own rounding grows only the process could tell that is not believed.
    """
    right = np.asarray(right, np.float64)
    if np.shape(got) != right.shape:
        return np.full((), np.inf)
    return shares(got, right, np.sqrt(lane.unit_roundoff) * (np.abs(right) + rms(right)) + lane.underflow + budget)


def within(got: Any, right: Any, allowed: NDArray[Any]) -> bool:
    """Whether every element lies within its budget."""
    return np.shape(got) == np.shape(right) and worst(shares(got, np.asarray(right), allowed))[0] <= 1


def equal(a: Any, b: Any, lane: Lane = LANES["cpu-float64"]) -> bool:
    """Whether the same computation gave these: to half of the digits."""
    if a is None or b is None:
        return a is b
    return np.shape(a) == np.shape(b) and worst(apart(a, b, lane))[0] <= 1


def rms(a: Any) -> float:
    """Root mean square of an array; 0 for an empty one."""
    a = np.asarray(a, np.float64)
    return float(np.sqrt(np.mean(a * a))) if a.size else 0.0


def _moved(a: NDArray[Any], unit_roundoff: float, number: int) -> NDArray[Any]:
    """An array that errs as results do; equal numbers alike, so that ties stay."""
    bits = np.array(a, np.float64).view(np.uint64)
    draw = ((bits ^ (bits >> np.uint64(29))) + np.uint64(number + 1)) * ODD
    draw = (draw ^ (draw >> np.uint64(32))) * ODD
    return a * (1 + 2 * unit_roundoff * ((draw >> np.uint64(11)) / 2.0**52 - 1))
