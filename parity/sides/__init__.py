"""How a side of a case is run: adapters, each imported when first used.

``reference(spec, options, data, forced)`` runs NumPy code in whatever dtype, or array type, the data
has; ``port(spec, options, data, lane, forced)`` runs its twin in a lane. Both give quantities, a dict
from name to array. ``forced`` are ids of the oracle's, along which models that generate are scored.
"""

import importlib

SIDES = {
    "textbook": ("textbook:layer_reference", "textbook:layer_port"),
    "optimizer": ("optimizers:optimizer_reference", "optimizers:optimizer_port"),
    "functions": ("functions:reference", "functions:port"),
    "clip": ("optimizers:clip_reference", "optimizers:clip_port"),
}


def _adapter(place):
    module, name = place.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def run_reference(case, data, forced=None):
    """The quantities of a case by the reference; ``forced`` are the ids along which to score."""
    return _adapter(SIDES[case.spec.side][0])(case.spec, case.options, data, forced)


def run_port(case, data, lane, forced=None):
    """The quantities of a case by the port in a lane."""
    with lane.mode():
        return _adapter(SIDES[case.spec.side][1])(case.spec, case.options, data, lane, forced)
