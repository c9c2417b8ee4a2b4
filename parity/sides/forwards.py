"""The forward of a side at moved arrays, by itself where it can be: what a numerical derivative asks."""

from typing import Any

import numpy as np

from ..spec.results import as_tuple
from . import run_port, run_reference
from .textbook import build, parts


def _pieces(case: Any, data: Any, moved: Any) -> Any:
    """The inputs of each part of the sequence, as they are and as moved."""
    return ([inputs for inputs, _ in parts(case.spec, case.options, d)] for d in (data, moved))


def _floating(spec: Any, outputs: Any) -> Any:
    """The outputs that have a cotangent."""
    named = zip(spec.outputs, as_tuple(outputs), strict=True)
    return tuple(value for name, value in named if name in spec.with_cotangents())


def layer_reference(case: Any, data: Any, moved: Any) -> Any:
    """Outputs of a textbook layer, part by part: before each, the state is that of the unmoved parts."""
    before, after = _pieces(case, data, moved)
    found: tuple[Any, ...] = ()
    for number, inputs in enumerate(after):
        start = data if number else moved
        layer = build(case.spec, case.options, start)
        if data.states:
            layer.set_state(*start.states.values())
        for earlier in before[:number]:
            layer.forward(*earlier.values())
        if number:
            layer.bind(list(moved.params.values()))
        found += _floating(case.spec, layer.forward(*inputs.values()))
    return tuple(np.asarray(o) for o in found)


def layer_port(case: Any, data: Any, moved: Any, lane: Any) -> Any:
    """The same of its twin, in a lane."""
    import torch

    def tensors(group: Any) -> Any:
        return [torch.from_numpy(np.array(a)).to(lane.device) for a in group.values()]

    before, after = _pieces(case, data, moved)
    found: tuple[Any, ...] = ()
    with torch.no_grad():
        for number, inputs in enumerate(after):
            module = case.spec.port_class.from_reference(build(case.spec, case.options, data), device=lane.device,
                                                         dtype=getattr(torch, lane.torch_dtype))
            if data.states:
                module.set_state(*tensors((data if number else moved).states))
            for earlier in before[:number]:
                module(*tensors(earlier))
            module.load_reference_params(list(moved.params.values()))
            found += _floating(case.spec, module(*tensors(inputs)))
    return tuple(o.cpu().numpy() for o in found)


def whole_reference(case: Any, data: Any, moved: Any) -> Any:
    """Outputs of a side that is run whole: its backward is run beside, and asked nothing."""
    return _with_cotangents(run_reference(case, moved), data)


def whole_port(case: Any, data: Any, moved: Any, lane: Any) -> Any:
    """The same of a port, in a lane."""
    return _with_cotangents(run_port(case, moved, lane), data)


def _with_cotangents(found: Any, data: Any) -> Any:
    return tuple(np.asarray(found[name]) for name in data.cotangents)
