"""Textbook layers and their twins: forward, backward, kept results, states, cuts and greedy generation."""

from typing import Any

import numpy as np

from ..judge.noise import Noise
from ..spec.axes import axes
from ..spec.results import as_tuple, gradients_of


def build(spec: Any, options: Any, data: Any) -> Any:
    """The reference's layer with the case's parameters and options."""
    named = {name: options[name] for name in spec.options}
    if spec.size_arguments:
        sizes = [data.sizes[letter] for letter in axes(spec.size_arguments)[1]]
        layer = spec.reference(*sizes, dtype=np.float32, rng=np.random.default_rng(0), **named)
        layer.bind(data.params.values())
    else:
        layer = spec.reference(*data.params.values(), **named)
    for name in spec.attributes:
        setattr(layer, name, options[name])
    return layer


def parts(spec: Any, options: Any, data: Any) -> Any:
    """The sequence whole, or in two where the case cuts it: inputs and cotangents of each part."""
    cut = options.get("cut", 0)
    if not cut:
        return [(data.inputs, data.cotangents)]

    def piece(group: Any, texts: Any, span: Any) -> Any:
        return {name: array[tuple(span if a == spec.time else slice(None) for a in axes(texts[name])[1])]
                for name, array in group.items()}

    return [(piece(data.inputs, spec.inputs, span), piece(data.cotangents, spec.outputs, span))
            for span in (slice(None, cut), slice(cut, None))]


def join(spec: Any, runs: Any) -> Any:
    """The quantities of the parts as those of the whole: time axes one after the other, the rest added up."""
    if len(runs) == 1:
        return runs[0]
    joined = {}
    for name in runs[0]:
        text = spec.outputs.get(name) or spec.inputs.get(name.removeprefix("grad."), "")
        pieces = [run[name] for run in runs if name in run]
        axis = axes(text)[1].index(spec.time) if spec.time and spec.time in axes(text)[1] else None
        if len(pieces) == 1:
            joined[name] = pieces[0]
        elif axis is not None:
            joined[name] = np.concatenate(pieces, axis=axis)
        else:
            joined[name] = sum(pieces) if name.startswith("grad.") else pieces[-1]
    return joined


def layer_reference(spec: Any, options: Any, data: Any, forced: Any = None) -> Any:
    """The quantities of a textbook layer, in whatever dtype, or array type, the data has."""
    layer = build(spec, options, data)
    if data.states:
        layer.set_state(*data.states.values())
    runs = []
    for number, (inputs, cotangents) in enumerate(parts(spec, options, data)):
        found = dict(zip(spec.outputs, as_tuple(layer.forward(*inputs.values())), strict=True))
        for name in spec.kept:
            found[name] = _stacked(getattr(layer, name), np.stack)
        gradients = gradients_of(layer.backward(*cotangents.values()))
        found |= {f"grad.{n}": g for n, g in zip(spec.differentiable(), gradients, strict=True)}
        found |= {f"grad.{n}": g.copy() for n, g in zip(layer.param_names, layer.grads, strict=True)}
        if options.get("stateful"):
            found |= {n: getattr(layer, n) for n in spec.states}
        if data.states and number == 0:
            found |= {f"grad.{n}0": getattr(layer, f"d{n}") for n in spec.states}
        runs.append(found)
    joined = join(spec, runs)
    if spec.greedy:
        joined |= _greedy(layer, data, forced, lambda a: a, np.concatenate)
    return joined


def layer_port(spec: Any, options: Any, data: Any, lane: Any, forced: Any = None) -> Any:
    """The quantities of its twin in a lane."""
    import torch

    def tensor(array: Any) -> Any:
        return torch.from_numpy(np.array(array)).to(lane.device)

    def leaf(array: Any) -> Any:
        t = torch.from_numpy(np.array(array)).to(lane.device, getattr(torch, lane.torch_dtype))
        return in_layout(t, array).requires_grad_()

    module = spec.port_class.from_reference(build(spec, options, data), device=lane.device,
                                            dtype=getattr(torch, lane.torch_dtype))
    for slot, array in zip(module.all_slots().values(), data.params.values(), strict=True):
        slot.of(module).data = in_layout(slot.of(module).data, array)
    states = {name: leaf(a) for name, a in data.states.items()}
    if states:
        module.set_state(*states.values())
    runs = []
    for number, (inputs, cotangents) in enumerate(parts(spec, options, data)):
        floating = {n: leaf(inputs[n]) for n in spec.differentiable()}
        given = {n: floating[n] if n in floating else tensor(a) for n, a in inputs.items()}
        outputs = as_tuple(module(*given.values()))
        if {o.device.type for o in outputs} != {lane.device}:
            raise RuntimeError(f"{spec.name} ran on {outputs[0].device.type} in the lane {lane.name}")
        found = {n: as_array(o) for n, o in zip(spec.outputs, outputs, strict=True)}
        for name in spec.kept:
            found[name] = as_array(_stacked(getattr(module, name), torch.stack))
        named = dict(zip(spec.outputs, outputs, strict=True))
        wanted = [(named[n], in_layout(tensor(c).to(named[n].dtype), c)) for n, c in cotangents.items()]
        ended, begun = zip(*wanted, strict=True)
        torch.autograd.backward(ended, begun)
        found |= {f"grad.{n}": _gradient(t) for n, t in floating.items()}
        if options.get("stateful"):
            found |= {n: as_array(getattr(module, n)) for n in spec.states}
        if states and number == 0:
            found |= {f"grad.{n}0": _gradient(t) for n, t in states.items()}
        runs.append(found)
    joined = join(spec, runs)
    joined |= {f"grad.{n}": g for n, g in zip(data.params, module.reference_grads(), strict=True)}
    if spec.greedy:
        with torch.no_grad():
            joined |= {n: as_array(q) for n, q in _greedy(module, data, forced, tensor, torch.cat).items()}
    return joined


def _greedy(model: Any, data: Any, forced: Any, tensor: Any, concatenate: Any) -> Any:
    """Generated ids, and the scores along ``forced`` ids (the oracle's): what ids were chosen by.

    The decoder starts from a target id and writes as many ids as there are targets. Noisy copies
    choose nothing: their ids would be another sequence's.
    """
    _, targets, *_ = data.inputs.values()
    xs, ts, *mask = (tensor(a) for a in data.inputs.values())
    start = int(targets[0, 0]) if len(targets) else 0
    ids = forced if Noise.current and forced is not None else model.generate(xs, start, ts.shape[1], *mask)
    first = tensor(np.full((len(targets), 1), start))
    fed = concatenate((first, (ids if forced is None else tensor(forced))[:, :-1]), 1)
    return {"ids": ids, "score": model.score(xs, fed, *mask)}


def _stacked(value: Any, stack: Any) -> Any:
    return stack(list(value)) if isinstance(value, (list, tuple)) else value


def as_array(tensor: Any) -> Any:
    """A tensor as a NumPy array; bfloat16, which NumPy has not, as float32."""
    import torch

    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _gradient(leaf: Any) -> Any:
    """A leaf's gradient; zeros where it took no part, as the hand-written backward has it."""
    import torch

    return as_array(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)


def in_layout(tensor: Any, array: Any) -> Any:
    """The tensor with strides like the array's; where those are negative, which torch has not, padded ones."""
    if array.ndim == 0 or array.flags.c_contiguous:
        return tensor
    if 0 in array.strides and array.size:
        return tensor[:1].expand(tensor.shape)
    if array.flags.f_contiguous:
        order = tuple(reversed(range(array.ndim)))
        return tensor.permute(order).contiguous().permute(order)
    if min(array.strides) < 0:
        wide = tensor.new_zeros([s + 2 for s in tensor.shape])
        view = wide[(slice(1, -1),) * tensor.ndim]
    else:
        view = tensor.new_zeros((*tensor.shape[:-1], 2 * tensor.shape[-1]))[..., ::2]
    view.copy_(tensor)
    return view
