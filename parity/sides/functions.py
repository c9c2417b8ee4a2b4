"""Pairs: functions, modules and layers of anybody's, on either side."""

import contextlib
import copy
import importlib.util
from functools import lru_cache

import numpy as np

from ..errors import UsageError
from ..spec.pair import Built, style
from .textbook import as_array


def reference(spec, options, data, forced=None):
    """The quantities of a reference, in whatever dtype, or array type where it is NumPy's, the data has."""
    if spec.textbook:
        return _layer(spec, options, data)
    if kind(spec) == "torch":
        return torch_run(spec, spec.reference, options, data, _dtype(data), "cpu")
    return _numpy(spec, spec.reference, spec.backward, options, data)


def port(spec, options, data, lane, forced=None):
    """The quantities of a pair's port in a lane."""
    if spec.port_kind == "torch":
        return torch_run(spec, spec.port, options, data, lane.torch_dtype, lane.device, spec.places)
    if spec.port_kind == "jax":
        from .jax import run

        return run(spec, options, data, lane)
    return _numpy(spec, spec.port, spec.port_backward, options, data)


def _dtype(data):
    """Name of the dtype that the floating arrays of a case have in common."""
    return np.result_type(*(a for group in (data.params, data.inputs, data.cotangents) for a in group.values()
                            if a.dtype.kind not in "biu")).name


def untested(spec, lane):
    """Why a pair cannot run in a lane that can, in one sentence; empty where it can."""
    if spec.port_kind != "torch" and lane.device != "cpu":
        return f"a port of {spec.port_kind} functions runs on the CPU only"
    if spec.port_kind == "jax" and importlib.util.find_spec("jax") is None:
        return "JAX is not installed: pip install 'numpy-torch-parity[jax]'"
    return ""


def kind(spec):
    """``numpy`` or ``torch``: what the reference of a pair computes in.

    Raises:
        UsageError: it runs in neither; says what each said.
    """
    return spec.reference_kind or _kind(spec)


@lru_cache(maxsize=256)
def _kind(spec):
    if isinstance(spec.reference, Built):
        return "torch"
    if spec.textbook or spec.backward is not None:
        return "numpy"
    if any(c.__module__.startswith("torch.nn") for c in type(spec.reference).__mro__):
        return "torch"
    from ..cases.case import draw

    case = next((c for c in (draw(spec, 0, i) for i in range(50)) if not c.degenerate), None) or draw(spec, 0, 0)
    inputs, said = case.given(), []
    for name, attempt in (("numpy", lambda: _call(spec, spec.reference, inputs, case.options)),
                          ("torch", lambda: _torch_call(spec, inputs, case.options))):
        try:
            found = _tuple(attempt())
        except Exception as error:
            said.append(f"as {name}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        if all(type(y).__module__.startswith(name) or isinstance(y, (int, float)) for y in found):
            return name
        said.append(f"as {name}: it gave {', '.join(type(y).__name__ for y in found)}")
    raise UsageError(f"Pair {spec.name}: the reference runs neither on NumPy arrays nor on tensors; {'; '.join(said)}")


def output_shapes(spec, options, data):
    """Shape of each floating output by name, as the reference gives it in float64."""
    if kind(spec) == "torch":
        import torch

        with torch.no_grad():
            outputs = _torch_forward(spec, spec.reference, options, data, "float64", "cpu", {})[0]
        return {n: tuple(y.shape) for n, y in name_outputs(spec, outputs).items() if y.is_floating_point()}
    if spec.textbook:
        outputs = _made(spec, options, data).forward(*given(spec, data))
    else:
        outputs = _call(spec, spec.reference, data.inputs, options)
    return {n: np.shape(y) for n, y in name_outputs(spec, _outputs(spec, outputs)).items()
            if np.asarray(y).dtype.kind == "f"}


def name_outputs(spec, outputs):
    """Outputs by name.

    Raises:
        UsageError: another number of them than there are names.
    """
    names = tuple(spec.outputs) or spec.names or (("y",) if len(outputs) == 1 else
                                                  tuple(f"y{i}" for i in range(len(outputs))))
    if len(names) != len(outputs):
        raise UsageError(f"{spec.name}: {len(outputs)} outputs, expected {len(names)}: {', '.join(names)}")
    return dict(zip(names, outputs, strict=True))


def given(spec, data):
    """The inputs in order; None for one that is left out."""
    return [data.inputs.get(name) for name in spec.inputs]


def forward(spec, options, data):
    """The floating outputs of a NumPy reference, a tuple, in whatever dtype the data has."""
    outputs = name_outputs(spec, _outputs(spec, _call(spec, spec.reference, data.inputs, options)))
    return tuple(np.asarray(y) for name, y in outputs.items() if name in data.cotangents)


def noisy_port(case, data, lane, count):
    """How far noise moves the quantities of the port, ``count`` times, and why that does not tell; empty where it does.

    Moves, not values: a port with a wrong gradient has wrong copies, and must not be measured by its own mistake.
    """
    if case.spec.port_kind != "torch":
        return [], f"the reference has no backward, and a port of {case.spec.port_kind} has no noise: give backward="
    from ..judge.noise_torch import TorchNoise

    spec, copies, unknown = case.spec, [], set()

    def run(mode):
        return torch_run(spec, spec.port, case.options, data, lane.torch_dtype, lane.device, spec.places, mode)

    with lane.mode():
        plain = run(None)
        for number in range(count):
            mode = TorchNoise(f"{case.id} {number}")
            copies.append(run(mode))
            unknown |= mode.unknown
    if unknown:
        return [], ("the reference has no backward, and the port has operations without noise: "
                    f"{', '.join(sorted(unknown))}")
    gradients = [name for name in plain if name.startswith("grad.") and plain[name].any()]
    if gradients and all(np.array_equal(plain[n], copy[n], equal_nan=True) for n in gradients for copy in copies):
        return [], "the reference has no backward, and the port is not made of torch's own operations: give backward="
    return [{n: copy[n].astype(np.float64) - plain[n] for n in plain if n.startswith("grad.")} for copy in copies], ""


def _tuple(x):
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _call(spec, function, inputs, options):
    return function(*(inputs.get(name) for name in spec.inputs), **{name: options[name] for name in spec.options})


def _outputs(spec, found):
    """The results of a NumPy reference without its cache."""
    found = _tuple(found)
    if spec.backward is not None and style(spec.backward, found, len(spec.inputs)) == "cache":
        return found[:-1]
    return found


def _numpy(spec, function, backward, options, data):
    found = _tuple(_call(spec, function, data.inputs, options))
    if backward is None:
        return _arrays(name_outputs(spec, found))
    cached = style(backward, found, len(spec.inputs)) == "cache"
    outputs = name_outputs(spec, found[:-1] if cached else found)
    cotangents = [data.cotangents[name] for name in outputs if name in data.cotangents]
    gradients = _tuple(backward(*cotangents, *(found[-1:] if cached else given(spec, data))))
    return _arrays(outputs) | _gradients(spec, data, gradients)


def _gradients(spec, data, gradients):
    """The gradients that a backward returned, by name; those of integers, None or left out, are passed over."""
    names = spec.differentiable()
    if len(gradients) == len(spec.inputs):
        gradients = [g for g, name in zip(gradients, spec.inputs, strict=True) if name in names]
    if len(gradients) != len(names):
        raise ValueError(f"backward gave {len(gradients)} gradients, expected {len(names)}: of {', '.join(names)}")
    missing = [name for name, g in zip(names, gradients, strict=True) if g is None and name in data.inputs]
    if missing:
        raise ValueError(f"backward gave None for the gradient of {missing[0]}")
    return _arrays({f"grad.{n}": g for n, g in zip(names, gradients, strict=True) if n in data.inputs})


def _arrays(quantities):
    return {name: q if isinstance(q, np.ndarray) else np.asarray(q) for name, q in quantities.items()}


def _made(spec, options, data):
    named = {name: options[name] for name in spec.options}
    if isinstance(spec.reference, type):
        return spec.reference(*data.params.values(), **named)
    layer = copy.deepcopy(spec.reference)
    layer.params[:] = list(data.params.values())
    layer.grads[:] = [np.zeros_like(p) for p in layer.params]
    return layer


def _layer(spec, options, data):
    layer = _made(spec, options, data)
    outputs = name_outputs(spec, _tuple(layer.forward(*given(spec, data))))
    cotangents = [data.cotangents[name] for name in outputs if name in data.cotangents]
    found = _arrays(outputs)
    gradients = layer.backward(*cotangents)
    found |= _gradients(spec, data, () if gradients is None else _tuple(gradients))
    return found | {f"grad.{n}": g.copy() for n, g in zip(data.params, getattr(layer, "grads", ()), strict=True)}


# --- torch -----------------------------------------------------------------------------------------


def torch_run(spec, function, options, data, dtype, device, places=None, mode=None):
    """The quantities of a torch function or module.

    Args:
        spec: the ``Pair``.
        function: a function, a module, or a ``Built``.
        options: of the case.
        data: of the case; NumPy arrays.
        dtype: name of a torch dtype.
        device: name of a device.
        places: where it keeps the reference's parameters, see ``Pair``.
        mode: context in which forward and backward run; None for none.

    Raises:
        ValueError: the function changed an input in place; an output that no gradient flows through.
    """
    import torch

    with mode or contextlib.nullcontext():
        outputs, leaves, before = _torch_forward(spec, function, options, data, dtype, device, places or {})
        named = name_outputs(spec, outputs)
        wanted = {n: y for n, y in named.items() if n in data.cotangents}
        for name, y in wanted.items():
            if not y.requires_grad:
                raise ValueError(f"no gradient flows through the output {name}: it is detached from the inputs")
            if tuple(y.shape) != np.shape(data.cotangents[name]):
                raise ValueError(f"output {name} has shape {tuple(y.shape)}, "
                                 f"expected {np.shape(data.cotangents[name])}")
        if wanted:
            torch.autograd.backward(list(wanted.values()), [
                torch.from_numpy(np.array(data.cotangents[n])).to(device, y.dtype) for n, y in wanted.items()])
    for name, (tensor, copy_) in before.items():
        if not torch.equal(tensor, copy_) and not (tensor.isnan() | (tensor == copy_)).all():
            raise ValueError(f"it changed its input {name} in place")
    found = {n: as_array(y) for n, y in named.items()}
    for name, (leaf, back) in leaves.items():
        grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        found[f"grad.{name}"] = np.asarray(back(as_array(grad)))
    return found


def _torch_forward(spec, function, options, data, dtype, device, places):
    """Outputs, the leaves by the reference's names, each with its way back, and the inputs with copies of them."""
    import torch

    dtype = getattr(torch, dtype)

    def tensor(array, name):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            return torch.from_numpy(np.array(array)).to(device)
        t = torch.from_numpy(np.ascontiguousarray(array).copy()).to(device, dtype)
        return _strided(t, array).requires_grad_()

    module = function.make(data.sizes | options) if isinstance(function, Built) else function
    holds = isinstance(module, torch.nn.Module)
    if holds:
        module = copy.deepcopy(module).to(device, dtype)
    own = dict(module.named_parameters()) if holds else {}
    leaves, arguments = {}, []
    for name, array in {**data.params, **data.inputs}.items():
        place, forth, back = (*places.get(name, (name,)), None, None)[:3]
        if place in own:
            with torch.no_grad():
                value = np.asarray(array if forth is None else forth(np.asarray(array)))
                if value.shape != tuple(own[place].shape):
                    raise ValueError(f"{name} has shape {value.shape} for the parameter {place} of shape "
                                     f"{tuple(own[place].shape)}")
                own[place].copy_(torch.from_numpy(value.copy()))
            leaves[name] = own[place], back or (lambda g: g)
        elif name in data.params or (holds and name in places):
            raise ValueError(f"the module has no parameter {place!r} for {name}, it has {', '.join(own) or 'none'}")
    for name in spec.inputs:
        if name in leaves:
            continue
        array = data.inputs.get(name)
        _, forth, back = (*places.get(name, (name,)), None, None)[:3]
        argument = None if array is None else tensor(array if forth is None else forth(np.asarray(array)), name)
        arguments.append((name, argument))
        if argument is not None and argument.requires_grad:
            leaves[name] = argument, back or (lambda g: g)
    before = {name: (t, t.detach().clone()) for name, t in arguments if t is not None}
    named = {} if holds else {name: options[name] for name in spec.options}
    outputs = _tuple(module(*(t for _, t in arguments), **named))
    wrong = next((y for y in outputs if not isinstance(y, torch.Tensor)), None)
    if wrong is not None:
        raise ValueError(f"an output is a {type(wrong).__name__}, expected a tensor")
    for y in outputs:
        if y.is_floating_point() and y.dtype != dtype:
            raise ValueError(f"an output has dtype {y.dtype}, expected {dtype}, that of the inputs")
    return outputs, leaves, before


def _torch_call(spec, inputs, options):
    import torch

    return _call(spec, spec.reference, {n: torch.from_numpy(np.array(a)) for n, a in inputs.items()}, options)


def _strided(tensor, array):
    from .textbook import in_layout

    return in_layout(tensor, array)


def parameters(spec, sizes):
    """Shapes by name of the parameters of a reference that is a module."""
    if spec.textbook or kind(spec) != "torch":
        return {}
    module = spec.reference.make(sizes) if isinstance(spec.reference, Built) else spec.reference
    named = getattr(module, "named_parameters", None)
    return {} if named is None else {n: tuple(p.shape) for n, p in named() if n not in spec.inputs}
