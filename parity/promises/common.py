"""What the checks share: an ordinary case, and either side under one kind of call."""

from typing import Any

import numpy as np

from ..cases.case import Case, choices, fitting
from ..sides.textbook import build
from ..spec.results import as_tuple, gradients_of

SIZES: dict[str, Any] = {"N": 2, "T": 3, "U": 4, "V": 5, "D": 6, "H": 7, "...": (2, 3)}  # all different
FLOATS = ("float16", "float32", "float64", "longdouble")


def standard(spec: Any, seed: Any = 0, **options: Any) -> Any:
    """An ordinary case with all axis sizes different; the first choice of every option not given."""
    chosen = {name: options.get(name, (values or (0,))[0]) for name, values in choices(spec).items()}
    sizes = fitting(spec, chosen, SIZES)
    assert sizes, f"{spec.name}: no sizes up to 12, all different, are in `ranges` and admitted by `where`"
    return Case(spec, sizes, "normal", 1.0, "C", chosen, seed)


def arrays_of(case: Any, dtype: Any = "float64") -> Any:
    return case.data(lambda a: a.astype(dtype))


def forward(layer: Any, data: Any) -> Any:
    return outputs_of(layer, data.inputs.values())


def outputs_of(layer: Any, inputs: Any) -> Any:
    return as_tuple(layer.forward(*inputs))


def floating(arrays: Any) -> Any:
    """Those arrays that are not integers or booleans."""
    return [a for a in arrays if a.dtype.kind == "f"]


def backward(layer: Any, data: Any) -> Any:
    gradients = gradients_of(layer.backward(*data.cotangents.values()))
    return [g.copy() for g in (*gradients, *layer.grads)]


def with_state(spec: Any) -> Any:
    return {"stateful": True} if "stateful" in spec.options else {}


def raised(call: Any) -> Any:
    """The exception that a call ends with; None where it ends without one."""
    try:
        call()
    except Exception as error:
        return error
    return None


def call_reference(layer: Any, method: Any, *arrays: Any, **how: Any) -> Any:
    return getattr(layer, method)(*arrays, **how)


def call_port(module: Any, method: Any, *arrays: Any, **how: Any) -> Any:
    import torch

    def tensor(a: Any) -> Any:
        return torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a

    arguments, how = map(tensor, arrays), {name: tensor(a) for name, a in how.items()}
    result = module(*arguments, **how) if method == "forward" else getattr(module, method)(*arguments, **how)
    if how.get("scores"):
        return tuple(r.numpy() for r in result)
    result = result[0] if isinstance(result, tuple) else result
    assert method != "generate" or not result.requires_grad, "generate leaves a graph"
    return result.detach().numpy()


def twin(spec: Any, options: Any, data: Any) -> Any:
    return spec.port_class.from_reference(build(spec, options, data))
