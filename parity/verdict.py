"""Who is wrong: three witnesses for every gradient, and the majority of them.

The reference's backward, the numerical derivative of the reference's forward, and autograd of the
port are three sources for one gradient; two that agree, in arithmetic wide enough for rounding not
to matter, outvote the third.
"""

import numpy as np

from .budget import exact
from .case import Data
from .lanes import LANES
from .programs import build, run_port
from .witness import LIMIT, Differentiator

AGREE = 1e-6  # of the gradient's size: far above what float64 loses in an ordinary case, far below a mistake
WIDE = "cpu-float64"


def verdict(case, lane):
    """Names the culprit in a case.

    Args:
        case: a ``Case`` in which something was found.
        lane: the ``Lane`` that it was found in, whose numbers both sides see.

    Returns:
        dict from quantity to (verdict, reason in words); empty where there are no gradients to ask.
    """
    spec = case.spec
    if spec.program != "layer" or case.options.get("cut") or case.pattern == "nonfinite":
        return {}
    data = case.data(lane.narrow).map(lambda a: a.astype(np.float64))
    with np.errstate(all="ignore"):
        backward = exact(case, data, LANES[WIDE])
        numerical = _numerical(case, data)
    autograd = run_port(case, data, LANES[WIDE], backward.get("ids"))
    found = {}
    for name, derivative in numerical.items():
        quantity = f"grad.{name}"
        found[quantity] = _majority(backward[quantity], derivative, autograd[quantity])
    culprits = {who for who, _ in found.values()} - {"nobody"}
    for name in spec.outputs:
        if culprits and not _agree(backward[name], autograd[name]):
            found[name] = ", ".join(sorted(culprits)), "the functions differ; the gradients tell whose is wrong"
    return found


def _majority(backward, numerical, autograd):
    same = _agree(backward, numerical), _agree(numerical, autograd), _agree(backward, autograd)
    if all(same):
        return "nobody", "three witnesses agree in float64: precision is lost in this lane, or its budget is too small"
    if sum(same) != 1:
        return "undecided", "three witnesses, and no two of them outvote the third"
    return {
        0: ("port", "backward and numerical derivative of the reference agree, autograd of the port differs"),
        1: ("reference backward", "numerical derivative and autograd of the port agree, the backward differs"),
        2: ("reference forward", "backward and autograd of the port agree, the forward's own derivative differs"),
    }[same.index(True)]


def _agree(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.sqrt(np.mean(b * b)) if b.size else 0
    return bool(np.all(np.abs(a - b) <= AGREE * (np.abs(b) + size)))


def _numerical(case, data):
    """The derivative of sum(cotangent * output) of the reference's forward, by every array of the case."""
    spec, groups = case.spec, ("params", "inputs", "states")
    point = {name: a for group in groups for name, a in getattr(data, group).items()}

    def function(point):
        parts = [{name: point[name] for name in getattr(data, group)} for group in groups]
        here = Data(*parts, data.cotangents)
        layer = build(spec, case.options, here)
        if here.states:
            layer.set_state(*here.states.values())
        outputs = layer.forward(*here.inputs.values())
        return tuple(np.asarray(o) for o in (outputs if isinstance(outputs, tuple) else (outputs,)))

    witness = Differentiator(function, point, tuple(data.cotangents.values()), case.seed)
    names = [name for name in witness.names if point[name].size <= LIMIT]
    values = witness.elementwise(names).values
    return {f"{name}0" if name in data.states else name: value for name, value in values.items()}
