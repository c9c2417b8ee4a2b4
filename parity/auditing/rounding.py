"""How far each output and gradient of somebody's layer may honestly be from what is right: the budget of any case.

The layer's own code runs on copies whose operations err (``judge.noise``). Where it drops their array type, its
inputs err instead, and every quantity as much as a sum over all that was given may.
"""

import contextlib
from dataclasses import replace

import numpy as np

from ..judge.budget import COPIES, FACTOR, allowance
from ..judge.compare import shares
from ..judge.noise import Noisy, noise, recording
from .subject import gradients, noisy

NEARLY = FACTOR * 2.0**-24  # relative error that no computation in float32 is free of
ODD = np.uint64(0x9E3779B97F4A7C15)  # scatters the bits of a number over a word


def budgets(subject, measured, lane):
    """The budget of every quantity of one call, element by element.

    Args:
        subject: the ``Subject``.
        measured: its ``Measured``.
        lane: the ``Lane`` in whose precision it computes.

    Returns:
        dict from ``("output", name)`` and ``("grad", name)`` to array, and the set of those that dropped the noise.
    """
    sample = measured.sample
    plain = {("output", n): a for n, a in measured.outputs.items()}
    plain |= {("grad", n): a for n, a in measured.got.items() if a is not None}

    def run(sample, cotangents, cast):
        layer = subject.make(sample, cast)
        outputs = subject.forward(layer, [cast(a) for a in sample.inputs.values()])
        found = {("output", n): o for n, o in zip(measured.outputs, outputs, strict=True)}
        if measured.got:
            returned = subject.backward(layer, [cast(c) if c.ndim else c[()] for c in cotangents])
            found |= {("grad", n): g for n, g in gradients(subject, sample, layer, returned).items()}
        return {key: found[key] for key, a in plain.items() if np.shape(found.get(key)) == a.shape}

    cotangents = [np.array(c) for c in measured.cotangents]
    try:
        with recording() as ties:
            kept = {key for key, a in run(sample, cotangents, noisy).items() if isinstance(a, Noisy)}
        copies = []
        for number in range(COPIES):
            with noise(lane.unit_roundoff, f"{sample.id} {number}", ties=ties):
                copies.append({key: np.array(a) for key, a in run(sample, cotangents, noisy).items()})
    except Exception:  # code that refuses the array type
        kept, copies = set(), []
    dropped, sums = {key for key, a in plain.items() if a.dtype.kind == "f"} - kept, 0.0
    if dropped:
        for number in range(COPIES):
            moved = [_moved(group, lane.unit_roundoff, number)
                     for group in (sample.params, sample.inputs, sample.states, sample.warm)]
            near = replace(sample, **dict(zip(("params", "inputs", "states", "warm"), moved, strict=True)))
            other = _moved(dict(enumerate(cotangents)), lane.unit_roundoff, number)
            with contextlib.suppress(Exception):  # code that asks for these very numbers
                copies.append(run(near, list(other.values()), np.array))
        sums = lane.unit_roundoff * sum(a.size for a in (*sample.point().values(), *cotangents))
    size = scale(measured)
    found = {}
    for key, a in plain.items():
        found[key] = allowance(a, [copy[key] for copy in copies if key in copy], lane)
        if key in dropped:
            found[key] = found[key] + FACTOR * sums * (np.where(np.isfinite(a), np.abs(a), 0) + size)
    return found, dropped


def scale(measured):
    """The size of what flows backward: of the largest gradient or cotangent."""
    return max((rms(a) for a in (*measured.got.values(), *measured.cotangents)
                if a is not None and np.isfinite(a).all()), default=0.0)


def blind(got, budget, measured, lane):
    """Whether the budget has grown to the size of the gradient: one per cent more of it would not be seen.

    A gradient that is zero in theory is rounding alone, and is judged: its budget is small beside what went into it.
    """
    a = np.abs(got)
    unseen = np.all(0.01 * a <= budget)
    return bool(a.size and unseen and ((a > budget).any()
                                       or rms(budget) > np.sqrt(lane.unit_roundoff) * scale(measured)))


def grainy(plain, moved, nearer):
    """Whether a quantity answers a change of 1e-5 in the inputs and, mostly, not one of 1e-10, as in float32.

    To answer is to move by more than one unit in float32's last place. There 1e-10 is the 600th of a roundoff, and
    moves one entry in so many; in float64 it is a million roundoffs, and moves all. One or two might be still by luck.
    """
    answers = np.abs(moved - plain) > np.finfo(np.float32).eps * rms(plain)
    return bool(answers.sum() > 3 and np.mean((nearer == plain)[answers]) > 0.5)


def rounded(a):
    """Whether all that takes more than a few bits has no more than float32 has."""
    a = np.asarray(a, np.float64)
    with np.errstate(all="ignore"):
        a = a[a.astype(np.float16) != a]
        return bool(a.size and (a.astype(np.float32) == a).all())


def apart(got, right, lane, budget=0.0):
    """Distance of a layer's quantity from the right one, of which ``budget`` is known, in halves of the lane's digits.

    How its own rounding grows only the process could tell that is not believed.
    """
    right = np.asarray(right, np.float64)
    if np.shape(got) != right.shape:
        return np.full((), np.inf)
    return shares(got, right, np.sqrt(lane.unit_roundoff) * (np.abs(right) + rms(right)) + lane.underflow + budget)


def rms(a):
    """Root mean square of an array; 0 for an empty one."""
    a = np.asarray(a, np.float64)
    return float(np.sqrt(np.mean(a * a))) if a.size else 0.0


def _moved(group, unit_roundoff, number):
    """Arrays that err as results do; equal numbers alike, so that ties stay."""
    found = {}
    for name, a in group.items():
        if a.dtype.kind == "f":
            bits = np.array(a, np.float64).view(np.uint64)
            draw = ((bits ^ (bits >> np.uint64(29))) + np.uint64(number + 1)) * ODD
            draw = (draw ^ (draw >> np.uint64(32))) * ODD
            a = a * (1 + 2 * unit_roundoff * ((draw >> np.uint64(11)) / 2.0**52 - 1))
        found[name] = a
    return found
