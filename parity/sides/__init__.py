"""How a side of a case is run: adapters, each imported when first used.

``reference(spec, options, data, forced)`` runs NumPy code in whatever dtype, or array type, the data
has; ``port(spec, options, data, lane, forced)`` runs its twin in a lane. Both give quantities, a dict
from name to array. ``forced`` are ids of the oracle's, along which models that generate are scored.
``FORWARDS`` are the sides whose forward can be run by itself, where a derivative is asked for; others are run whole.
"""

import contextlib
import importlib
from typing import Any

import numpy as np

SIDES = {
    "textbook": ("textbook:layer_reference", "textbook:layer_port"),
    "optimizer": ("optimizers:optimizer_reference", "optimizers:optimizer_port"),
    "functions": ("functions:reference", "functions:port"),
    "clip": ("optimizers:clip_reference", "optimizers:clip_port"),
}
FORWARDS = {"textbook": ("forwards:layer_reference", "forwards:layer_port")}
WHOLE = "forwards:whole_reference", "forwards:whole_port"


class NoGradient(np.ndarray):
    """Zeros that stand for a gradient that is None."""


@contextlib.contextmanager
def blamed(side: Any) -> Any:
    """What is raised within gets an attribute ``side``, if it has none: whose code it came from."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(AttributeError):
            error.side = getattr(error, "side", side)  # type: ignore[attr-defined]  # that is the point
        raise


def _adapter(place: Any) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def run_reference(case: Any, data: Any, forced: Any = None) -> Any:
    """The quantities of a case by the reference; ``forced`` are the ids along which to score."""
    with blamed("reference"):
        return _adapter(SIDES[case.spec.side][0])(case.spec, case.options, data, forced)


def run_port(case: Any, data: Any, lane: Any, forced: Any = None) -> Any:
    """The quantities of a case by the port in a lane."""
    with blamed("port"), lane.mode():
        return _adapter(SIDES[case.spec.side][1])(case.spec, case.options, data, lane, forced)


def reference_forward(case: Any, data: Any, moved: Any) -> Any:
    """The outputs that have cotangents, by the reference at moved arrays, in their dtype; a tuple."""
    return _adapter(FORWARDS.get(case.spec.side, WHOLE)[0])(case, data, moved)


def port_forward(case: Any, data: Any, moved: Any, lane: Any) -> Any:
    """The same by the port in a lane."""
    with lane.mode():
        return _adapter(FORWARDS.get(case.spec.side, WHOLE)[1])(case, data, moved, lane)


def untested(spec: Any, lane: Any) -> Any:
    """Why a spec cannot run in a lane that itself can, in one sentence; empty where it can."""
    if spec.side == "functions":
        return _adapter("functions:untested")(spec, lane)
    return spec.untold.get(lane.torch_dtype, "")
