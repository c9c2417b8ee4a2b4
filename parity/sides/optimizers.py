"""Optimizers and gradient clipping on either side: no backward, but steps."""

from typing import Any

import numpy as np

from .textbook import as_array, in_layout


def _steps(spec: Any, options: Any, data: Any, update: Any, copy: Any) -> Any:
    """Parameters after every step of an optimizer, from the gradients of the steps along T."""
    names = list(spec.outputs)
    history: dict[str, list[Any]] = {name: [] for name in names}
    for t in range(len(data.inputs[f"d{names[0]}"])):
        update([data.inputs[f"d{name}"][t] for name in names])
        for name in names:
            history[name].append(copy(name))
    return {name: np.stack(values) for name, values in history.items()}


def optimizer_reference(spec: Any, options: Any, data: Any, forced: Any = None) -> Any:
    """Parameters after every step by the reference."""
    params = {name: _own(data.inputs[name]) for name in spec.outputs}
    optimizer = spec.reference(**options)
    return _steps(spec, options, data, lambda grads: optimizer.update(list(params.values()), grads),
                  lambda name: params[name].copy())


def optimizer_port(spec: Any, options: Any, data: Any, lane: Any, forced: Any = None) -> Any:
    """Parameters after every step by the port."""
    import torch

    dtype = getattr(torch, lane.torch_dtype)
    params = {name: _tensor(data.inputs[name], dtype, lane).requires_grad_() for name in spec.outputs}
    optimizer = spec.port_class(list(params.values()), **options)

    def update(grads: Any) -> None:
        for p, g in zip(params.values(), grads, strict=True):
            p.grad = _tensor(g, dtype, lane)
        optimizer.step()

    return _steps(spec, options, data, update, lambda name: as_array(params[name]).copy())


def clip_reference(spec: Any, options: Any, data: Any, forced: Any = None) -> Any:
    """Clipped gradients and their norm by the reference."""
    grads = {name: _own(a) for name, a in data.inputs.items()}
    norm = spec.reference(list(grads.values()), **options)
    return grads | {"norm": norm}


def clip_port(spec: Any, options: Any, data: Any, lane: Any, forced: Any = None) -> Any:
    """Clipped gradients and their norm by the port."""
    import torch

    params = {name: torch.zeros(a.shape, dtype=getattr(torch, lane.torch_dtype), device=lane.device,
                                requires_grad=True) for name, a in data.inputs.items()}
    for p, a in zip(params.values(), data.inputs.values(), strict=True):
        p.grad = _tensor(a, p.dtype, lane)
    norm = spec.port_class(list(params.values()), **options)
    return {name: as_array(p.grad) for name, p in params.items()} | {"norm": as_array(norm)}


def _own(array: Any) -> Any:
    """A copy with the array's strides, which may be written to; in C order where entries share memory."""
    if type(array) is not np.ndarray or not array.ndim or not array.size or 0 in array.strides:
        return array.copy()
    strides = [abs(step) for step in array.strides]
    last = sum((n - 1) * step for n, step in zip(array.shape, strides, strict=True)) // array.itemsize
    found = np.lib.stride_tricks.as_strided(np.zeros(last + 1, array.dtype), array.shape, strides)
    found = found[tuple(slice(None, None, -1 if step < 0 else 1) for step in array.strides)]
    found[...] = array
    return found


def _tensor(array: Any, dtype: Any, lane: Any) -> Any:
    """The same as a tensor."""
    import torch

    tensor = torch.tensor(array.copy(), dtype=dtype, device=lane.device)
    return tensor if 0 in array.strides else in_layout(tensor, array)
