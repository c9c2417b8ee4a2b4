"""How a case is run on either side. Every program gives its quantities as a dict from name to array.

``reference(spec, options, data, forced)`` runs NumPy code in whatever dtype, or array type, the data
has; ``port(spec, options, data, lane, forced)`` runs its twin in a lane. ``forced`` are ids of the
oracle's, along which models that generate are scored.
"""

import numpy as np

from ..judge.noise import Noise
from ..spec.spec import axes


def build(spec, options, data):
    """The reference's layer with the case's parameters and options."""
    named = {name: options[name] for name in spec.options}
    if spec.sizes:
        sizes = _model_sizes(spec, data)
        layer = spec.reference(*sizes, dtype=np.float32, rng=np.random.default_rng(0), **named)
        layer.bind(data.params.values())
    else:
        layer = spec.reference(*data.params.values(), **named)
    for name in spec.attributes:
        setattr(layer, name, options[name])
    return layer


def _model_sizes(spec, data):
    """A model's size arguments, read off its parameters: every model has an embedding and an LSTM."""
    shapes = {name.rpartition(".")[2] if name.endswith("Wh") else name: p.shape for name, p in data.params.items()}
    V, D = next(shape for name, shape in shapes.items() if name.endswith("embed.W"))
    return V, D, shapes["Wh"][0]


def parts(spec, options, data):
    """The sequence whole, or in two where the case cuts it: inputs and cotangents of each part."""
    cut = options.get("cut", 0)
    if not cut:
        return [(data.inputs, data.cotangents)]

    def piece(group, texts, span):
        return {name: array[tuple(span if a == spec.time else slice(None) for a in axes(texts[name])[1])]
                for name, array in group.items()}

    return [(piece(data.inputs, spec.inputs, span), piece(data.cotangents, spec.outputs, span))
            for span in (slice(None, cut), slice(cut, None))]


def join(spec, runs):
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


def _tuple(x):
    return x if isinstance(x, tuple) else (x,)


def layer_reference(spec, options, data, forced=None):
    layer = build(spec, options, data)
    if data.states:
        layer.set_state(*data.states.values())
    runs = []
    for number, (inputs, cotangents) in enumerate(parts(spec, options, data)):
        found = dict(zip(spec.outputs, _tuple(layer.forward(*inputs.values())), strict=True))
        for name in spec.kept:
            found[name] = _stacked(getattr(layer, name), np.stack)
        gradients = layer.backward(*cotangents.values())
        gradients = () if gradients is None else _tuple(gradients)
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


def layer_port(spec, options, data, lane, forced=None):
    import torch

    def tensor(array):
        return torch.from_numpy(np.array(array)).to(lane.device)

    def leaf(array):
        t = torch.from_numpy(np.array(array)).to(lane.device, getattr(torch, lane.torch_dtype))
        return _in_layout(t, array).requires_grad_()

    module = spec.port_class.from_reference(build(spec, options, data), device=lane.device,
                                            dtype=getattr(torch, lane.torch_dtype))
    states = {name: leaf(a) for name, a in data.states.items()}
    if states:
        module.set_state(*states.values())
    runs = []
    for number, (inputs, cotangents) in enumerate(parts(spec, options, data)):
        floating = {n: leaf(inputs[n]) for n in spec.differentiable()}
        given = {n: floating[n] if n in floating else tensor(a) for n, a in inputs.items()}
        outputs = _tuple(module(*given.values()))
        if {o.device.type for o in outputs} != {lane.device}:
            raise RuntimeError(f"{spec.name} ran on {outputs[0].device.type} in the lane {lane.name}")
        found = {n: _array(o) for n, o in zip(spec.outputs, outputs, strict=True)}
        for name in spec.kept:
            found[name] = _array(_stacked(getattr(module, name), torch.stack))
        named = dict(zip(spec.outputs, outputs, strict=True))
        wanted = [(named[n], _in_layout(tensor(c).to(named[n].dtype), c)) for n, c in cotangents.items()]
        torch.autograd.backward(*zip(*wanted, strict=True))
        found |= {f"grad.{n}": _gradient(t) for n, t in floating.items()}
        if options.get("stateful"):
            found |= {n: _array(getattr(module, n)) for n in spec.states}
        if states and number == 0:
            found |= {f"grad.{n}0": _gradient(t) for n, t in states.items()}
        runs.append(found)
    joined = join(spec, runs)
    joined |= {f"grad.{n}": g for n, g in zip(data.params, module.reference_grads(), strict=True)}
    if spec.greedy:
        with torch.no_grad():
            joined |= {n: _array(q) for n, q in _greedy(module, data, forced, tensor, torch.cat).items()}
    return joined


def _greedy(model, data, forced, tensor, concatenate):
    """Generated ids, and the scores along ``forced`` ids (the oracle's): what ids were chosen by.

    The decoder starts from a target id and writes as many ids as there are targets. Noisy copies
    choose nothing: their ids would be another sequence's.
    """
    xs, ts, *mask = (tensor(a) for a in data.inputs.values())
    start = int(data.inputs["ts"][0, 0]) if len(data.inputs["ts"]) else 0
    ids = forced if Noise.current else model.generate(xs, start, ts.shape[1], *mask)
    first = tensor(np.full((len(data.inputs["ts"]), 1), start))
    fed = concatenate((first, (ids if forced is None else tensor(forced))[:, :-1]), 1)
    return {"ids": ids, "score": model.score(xs, fed, *mask)}


def _stacked(value, stack):
    return stack(list(value)) if isinstance(value, (list, tuple)) else value


def _array(tensor):
    import torch

    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _gradient(leaf):
    """A leaf's gradient; zeros where it took no part, as the hand-written backward has it."""
    import torch

    return _array(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)


def _in_layout(tensor, array):
    """The tensor with strides like the array's; where those are negative, which torch has not, padded ones."""
    if array.ndim == 0 or array.flags.c_contiguous:
        return tensor
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


def _steps(spec, options, data, update, copy):
    """Parameters after every step of an optimizer, from the gradients of the steps along T."""
    names = list(spec.outputs)
    history = {name: [] for name in names}
    for t in range(len(data.inputs[f"d{names[0]}"])):
        update([data.inputs[f"d{name}"][t] for name in names])
        for name in names:
            history[name].append(copy(name))
    return {name: np.stack(values) for name, values in history.items()}


def optimizer_reference(spec, options, data, forced=None):
    params = {name: data.inputs[name].copy() for name in spec.outputs}
    optimizer = spec.reference(**options)
    return _steps(spec, options, data, lambda grads: optimizer.update(list(params.values()), grads),
                  lambda name: params[name].copy())


def optimizer_port(spec, options, data, lane, forced=None):
    import torch

    params = {name: torch.tensor(data.inputs[name].copy(), device=lane.device, requires_grad=True)
              for name in spec.outputs}
    optimizer = spec.port_class(list(params.values()), **options)

    def update(grads):
        for p, g in zip(params.values(), grads, strict=True):
            p.grad = torch.tensor(g.copy(), device=lane.device)
        optimizer.step()

    return _steps(spec, options, data, update, lambda name: _array(params[name]).copy())


def clip_reference(spec, options, data, forced=None):
    grads = {name: a.copy() for name, a in data.inputs.items()}
    norm = spec.reference(list(grads.values()), **options)
    return grads | {"norm": norm}


def clip_port(spec, options, data, lane, forced=None):
    import torch

    params = {name: torch.zeros(a.shape, dtype=getattr(torch, lane.torch_dtype), device=lane.device,
                                requires_grad=True) for name, a in data.inputs.items()}
    for p, a in zip(params.values(), data.inputs.values(), strict=True):
        p.grad = torch.tensor(a.copy(), device=lane.device)
    norm = spec.port_class(list(params.values()), **options)
    return {name: _array(p.grad) for name, p in params.items()} | {"norm": _array(norm)}


PROGRAMS = {
    "layer": (layer_reference, layer_port),
    "optimizer": (optimizer_reference, optimizer_port),
    "clip": (clip_reference, clip_port),
}


def run_reference(case, data, forced=None):
    """The quantities of a case by the reference; ``forced`` are the ids along which to score."""
    return PROGRAMS[case.spec.program][0](case.spec, case.options, data, forced)


def run_port(case, data, lane, forced=None):
    """The quantities of a case by the port in a lane."""
    with lane.mode():
        return PROGRAMS[case.spec.program][1](case.spec, case.options, data, lane, forced)
