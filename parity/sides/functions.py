"""Pairs: functions, modules and layers of anybody's, on either side."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..spec.pair import Built, Pair, clean, is_module, style
from ..spec.results import Arrays, listed
from . import NoGradient, blamed
from .textbook import as_array

if TYPE_CHECKING:
    import torch

    from ..cases.case import Case, Data
    from ..judge.lanes import Lane

Leaves = dict[str, tuple["torch.Tensor", Callable[[Any], Any]]]  # with the way back
Before = dict[str, tuple["torch.Tensor", "torch.Tensor"]]  # an input, and a copy of it
Places = Mapping[str, tuple[Any, ...]]  # by the reference's name: that on the other side, the way there, the way back


def reference(spec: Pair, options: dict[str, Any], data: Data, forced: Any = None) -> Arrays:
    """The quantities of a reference, in whatever dtype, or array type where it is NumPy's, the data has.

    Raises:
        ValueError: it changes an input, or does not compute in the dtype of what it is given.
    """
    given = _dtype(data)
    if kind(spec) == "torch":
        return torch_run(spec, spec.reference, options, data, (given or np.dtype(np.float64)).name, "cpu")
    with _unchanged():
        found = _layer(spec, options, data) if spec.textbook else _numpy(spec, spec.reference, spec.backward, options,
                                                                         data)
    _steady(spec)
    if given is not None:
        _refuse_complex(found)
    for name, q in found.items() if given is not None else ():
        if q.dtype.kind == "f" and np.finfo(q.dtype).nmant < min(np.finfo(given).nmant, np.finfo(np.float64).nmant):
            raise ValueError(f"it gives {q.dtype} for {name} where its inputs are {given}: nothing wider says what is "
                             "right")
    return found


def port(spec: Pair, options: dict[str, Any], data: Data, lane: Lane, forced: Any = None) -> Arrays:
    """The quantities of a pair's port in a lane."""
    if spec.port_kind == "torch":
        return torch_run(spec, spec.port, options, data, lane.torch_dtype, lane.device, spec.places)
    if spec.port_kind == "jax":
        from .jax import run

        return run(spec, options, data, lane)
    with _unchanged():
        found = _numpy(spec, spec.port, spec.port_backward, options, data, spec.places)
    for name, q in found.items():
        if q.dtype.kind == "f" and q.dtype != (_dtype(data) or q.dtype):
            raise ValueError(f"{name} has dtype {q.dtype}, expected {_dtype(data)}, that of the inputs")
    return found


def _dtype(data: Data) -> np.dtype[Any] | None:
    """The dtype of the floating arrays of a case; None where there is none, or they are complex."""
    kinds = {a.dtype for group in (data.params, data.inputs) for a in group.values() if a.dtype.kind in "fc"}
    return kinds.pop() if len(kinds) == 1 and next(iter(kinds)).kind == "f" else None


@contextlib.contextmanager
def _unchanged() -> Iterator[None]:
    """NumPy refuses to write to the inputs, which are read-only: says so in fewer words."""
    try:
        yield
    except ValueError as error:
        if "read-only" in str(error):
            raise ValueError("it changes an input in place") from None
        raise


def untested(spec: Pair, lane: Lane) -> str:
    """Why a pair cannot run in a lane that can, in one sentence; empty where it can."""
    if spec.port_kind != "torch" and lane.device != "cpu":
        return f"a port of {spec.port_kind} functions runs on the CPU only"
    if spec.port_kind == "jax" and importlib.util.find_spec("jax") is None:
        return "JAX is not installed: pip install 'numpy-torch-parity[jax]'"
    return ""


def kind(spec: Pair) -> str:
    """``numpy`` or ``torch``: what the reference of a pair computes in.

    Raises:
        UsageError: it runs in neither; says what each said.
    """
    return spec.reference_kind or _kind(spec)


@lru_cache(maxsize=256)
def _kind(spec: Pair) -> str:
    if isinstance(spec.reference, Built):
        return "torch"
    if spec.textbook or spec.backward is not None:
        return "numpy"
    if is_module(spec.reference):
        return "torch"
    case, data = _first(spec)
    said = []
    for name, attempt in (("numpy", lambda: _call(spec, spec.reference, data, case.options)),
                          ("torch", lambda: _torch_call(spec, data, case.options))):
        try:
            found = listed(attempt())
        except Exception as error:
            said.append(f"as {name}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        if found and all(type(y).__module__.startswith(name) or isinstance(y, (int, float)) for y in found):
            return name
        said.append(f"as {name}: it gave {', '.join(type(y).__name__ for y in found)}")
    raise UsageError(f"Pair {spec.name}: the reference runs neither on NumPy arrays nor on tensors; {'; '.join(said)}")


def output_shapes(spec: Pair, options: dict[str, Any], data: Data) -> dict[str, tuple[int, ...]]:
    """Shape of each floating output by name, as the reference gives it in float64."""
    with blamed("reference"):
        outputs = _arrays(name_outputs(spec, _reference_outputs(spec, options, data)))
        _refuse_complex(outputs)
    return {n: tuple(y.shape) for n, y in outputs.items() if y.dtype.kind == "f"}


def _refuse_complex(outputs: Arrays) -> None:
    wrong = next((name for name, y in outputs.items() if y.dtype.kind == "c"), None)
    if wrong:
        raise ValueError(f"it gives {outputs[wrong].dtype} for {wrong}, expected a real dtype")


def _reference_outputs(spec: Pair, options: dict[str, Any], data: Data) -> tuple[Any, ...] | list[Any]:
    """The outputs of the reference alone, arrays or tensors, in float64."""
    if kind(spec) == "torch":
        import torch

        with torch.no_grad():
            return [as_array(y) for y in _torch_forward(spec, spec.reference, options, data, "float64", "cpu", {})[0]]
    if spec.textbook:
        return listed(_made(spec, options, data).forward(*given(spec, data)))
    return _outputs(spec, _call(spec, spec.reference, data, options))


def name_outputs(spec: Pair, outputs: Sequence[Any]) -> dict[str, Any]:
    """Outputs of either side by name; where nobody names them, the reference says how many there are.

    Raises:
        ValueError: another number of them than there are names.
    """
    names = tuple(spec.outputs) or spec.names or _names(_count(spec))
    if len(names) != len(outputs):
        raise ValueError(f"it gives {len(outputs)} outputs, expected {len(names)}: {', '.join(names)}")
    return dict(zip(names, outputs, strict=True))


def _names(count: int) -> tuple[str, ...]:
    return ("y",) if count == 1 else tuple(f"y{i}" for i in range(count))


def _first(spec: Pair) -> tuple[Case, Data]:
    """A case with something in it, to find out about a pair by, and its arrays."""
    from ..cases.drawing import draw

    case = next((c for c in (draw(spec, 0, i) for i in range(50)) if not c.degenerate), None) or draw(spec, 0, 0)
    return case, case.bare()


@lru_cache(maxsize=256)
def _steady(spec: Pair) -> None:
    """Refuses a reference that gives something else when it is run again: its budget would be as wide as that."""
    case, data = _first(spec)
    first, second = (_reference_outputs(spec, case.options, data) for _ in range(2))
    if not all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")
               for a, b in zip(first, second, strict=True)):
        raise UsageError(f"Pair {spec.name}: the reference is not deterministic: run again on the same input, it gives "
                         "something else")


@lru_cache(maxsize=256)
def _count(spec: Pair) -> int:
    """Number of outputs of a pair's reference, which names none."""
    case, data = _first(spec)
    return len(_reference_outputs(spec, case.options, data))


def given(spec: Pair, data: Data) -> list[Any]:
    """The inputs in order; None for one that is left out."""
    return [data.inputs.get(name) for name in spec.inputs]


def forward(spec: Pair, options: dict[str, Any], data: Data) -> tuple[NDArray[Any], ...]:
    """The floating outputs of a NumPy reference, a tuple, in whatever dtype the data has."""
    outputs = name_outputs(spec, _outputs(spec, _call(spec, spec.reference, data, options)))
    return tuple(np.asarray(y) for name, y in outputs.items() if name in data.cotangents)


def noisy_port(case: Case, data: Data, lane: Lane) -> tuple[Arrays, list[Arrays], str]:
    """What the port gives, how far noise moves it each time, and why that does not tell; empty where it does.

    Moves, not values: a port with a wrong gradient has wrong copies, and must not be measured by its own mistake.
    """
    spec = case.spec
    if not isinstance(spec, Pair) or spec.port_kind != "torch":
        what = getattr(spec, "port_kind", spec.side)
        return {}, [], f"the reference has no backward, and a port of {what} has no noise: give backward="
    from ..judge.budget import COPIES, turned
    from ..judge.noise import Turns
    from ..judge.noise_torch import TorchNoise

    turns = Turns()
    unknown: set[str] = set()

    def run(mode: Any, dtype: str = lane.torch_dtype) -> Arrays:
        return torch_run(spec, spec.port, case.options, data, dtype, lane.device, spec.places, mode)

    def copy(number: int, sign: int = 0) -> Arrays:
        turns.start(sign)
        mode = TorchNoise(f"{case.id} {number}", turns, 0.0 if number else lane.flushed)
        found = run(mode)
        unknown.update(mode.unknown)
        return found

    with blamed("port"), lane.mode():
        plain = run(None)
        if lane.round:  # what underflows there decides otherwise than in the oracle
            turns.start()
            run(TorchNoise(None, turns), "float64")
        copies = turned(copy, turns)(COPIES)
    if unknown:
        return plain, [], ("the reference has no backward, and the port has operations without noise: "
                           f"{', '.join(sorted(unknown))}")
    gradients = [name for name in plain if name.startswith("grad.") and plain[name].any()]
    if gradients and _opaque(spec, case, data, lane) and all(
            np.array_equal(plain[n], copy[n], equal_nan=True) for n in gradients for copy in copies):
        return plain, [], ("the reference has no backward, and the port is not made of torch's own operations: give "
                           "backward=")
    moves = [{n: copy[n].astype(np.float64) - plain[n] for n in plain if n.startswith("grad.")} for copy in copies]
    return plain, moves, ""


def _opaque(spec: Pair, case: Case, data: Data, lane: Lane) -> bool:
    """Whether a port's graph has nodes of somebody's own: one of exact operations alone does not move either."""
    import torch

    outputs = _torch_forward(spec, spec.port, case.options, data, lane.torch_dtype, lane.device, spec.places)[0]
    nodes, seen = [y.grad_fn for y in outputs], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        seen.add(node)
        nodes += [after for after, _ in node.next_functions]
    return False


def _call(spec: Pair, function: Any, data: Data, options: dict[str, Any], places: Places | None = None) -> Any:
    """Calls a function with the inputs in order, and the parameters and options by name."""
    params = {(places or {}).get(name, (name,))[0]: array for name, array in data.params.items()}
    return function(*given(spec, data), **params, **{name: options[name] for name in spec.options})


def _outputs(spec: Pair, found: Any) -> tuple[Any, ...]:
    """The results of a NumPy reference without its cache."""
    results = listed(found)
    return results[:-1] if spec.backward is not None and _cached(spec, spec.backward, results) else results


def _cached(spec: Pair, backward: Any, found: Any) -> bool:
    return style(backward, found, len(spec.inputs) + len(spec.params)) == "cache"


def _numpy(spec: Pair, function: Any, backward: Any, options: dict[str, Any], data: Data,
           places: Places | None = None) -> Arrays:
    """The quantities of a NumPy function and its backward, as the reference names and lays them out."""
    ways = {name: way for name, way in (places or {}).items() if len(way) == 3}

    def there(group: Arrays) -> Arrays:
        return {n: ways[n][1](a) if n in ways and ways[n][1] else a for n, a in group.items()}

    data = replace(data, params=there(data.params), inputs=there(data.inputs))
    found = listed(_call(spec, function, data, options, places))
    if backward is None:
        outputs = _arrays(name_outputs(spec, found))
        _cotangents(spec, outputs, data)  # which shapes the outputs too
        return outputs
    cached = _cached(spec, backward, found)
    outputs = _arrays(name_outputs(spec, found[:-1] if cached else found))
    cotangents = _cotangents(spec, outputs, data)
    rest = found[-1:] if cached else (*given(spec, data), *data.params.values())
    gradients = _gradients(spec, data, listed(backward(*cotangents, *rest)), spec.params)
    for name, way in ways.items():
        if way[2] and f"grad.{name}" in gradients:
            gradients[f"grad.{name}"] = np.asarray(way[2](gradients[f"grad.{name}"]))
    return outputs | gradients


def _cotangents(spec: Pair, outputs: Arrays, data: Data) -> list[NDArray[Any]]:
    """The cotangents in the order of the outputs.

    Raises:
        ValueError: an output has another shape than its cotangent.
    """
    found = []
    for name in filter(data.cotangents.__contains__, outputs):
        _refuse_output(name, outputs[name].dtype.kind, outputs[name].dtype, outputs[name].shape, data)
        found.append(data.cotangents[name])
    return found


def _refuse_output(name: str, kind: str, dtype: object, shape: Sequence[int], data: Data) -> None:
    wanted = np.shape(data.cotangents[name])
    if kind not in "fc":
        raise ValueError(f"output {name} has dtype {dtype}, expected a floating one")
    if tuple(shape) != wanted:
        raise ValueError(f"output {name} has shape {tuple(shape)}, expected {wanted}")


def _gradients(spec: Pair, data: Data, gradients: Sequence[Any], params: Iterable[str] = ()) -> Arrays:
    """The gradients that a backward returned, by name; those of integers, None or left out, are passed over."""
    names = [*spec.differentiable(), *params]
    every = [*spec.inputs, *params]
    if len(gradients) == len(every):
        gradients = [g for g, name in zip(gradients, every, strict=True) if name in names]
    if len(gradients) != len(names):
        raise ValueError(f"backward gives {len(gradients)} gradients, expected {len(names)}: of {', '.join(names)}")
    arrays, found = data.inputs | data.params, {}
    for name, gradient in zip(names, gradients, strict=True):
        if name not in arrays:
            continue
        if gradient is None:
            raise ValueError(f"backward gives None for the gradient of {name}")
        if np.shape(gradient) != arrays[name].shape:
            raise ValueError(f"backward gives a gradient of shape {np.shape(gradient)} for {name} of shape "
                             f"{arrays[name].shape}")
        found[f"grad.{name}"] = gradient
    return _arrays(found)


def _arrays(quantities: Mapping[str, Any]) -> Arrays:
    found = {name: q if isinstance(q, np.ndarray) else np.asarray(q) for name, q in quantities.items()}
    for name, array in found.items():
        if array.dtype.kind not in "fiubc":
            raise ValueError(f"output {name} is a {type(quantities[name]).__name__}, expected an array of numbers")
    return found


def _made(spec: Pair, options: dict[str, Any], data: Data) -> Any:
    named = {name: options[name] for name in spec.options}
    if isinstance(spec.reference, type):
        return spec.reference(*data.params.values(), **named)
    layer = copy.deepcopy(spec.reference)
    if len(getattr(layer, "params", ())) != len(data.params):
        raise UsageError(f"Pair {spec.name}: the reference has {len(layer.params)} params, expected params= with axis "
                         f"strings of as many, not {len(data.params)}")
    if data.params:
        layer.params[:] = list(data.params.values())
        layer.grads[:] = [np.zeros_like(p) for p in layer.params]
    return layer


def _layer(spec: Pair, options: dict[str, Any], data: Data) -> Arrays:
    layer = _made(spec, options, data)
    outputs = _arrays(name_outputs(spec, listed(layer.forward(*given(spec, data)))))
    gradients = layer.backward(*_cotangents(spec, outputs, data))
    found = outputs | _gradients(spec, data, () if gradients is None else listed(gradients))
    grads = list(getattr(layer, "grads", ()))
    if [np.shape(g) for g in grads] != [p.shape for p in data.params.values()]:
        raise ValueError(f"grads has the shapes {', '.join(str(np.shape(g)) for g in grads) or 'none'}, expected those "
                         f"of params, {', '.join(str(p.shape) for p in data.params.values()) or 'none'}")
    return found | {f"grad.{n}": g.copy() for n, g in zip(data.params, grads, strict=True)}


# --- torch -----------------------------------------------------------------------------------------


def torch_run(spec: Pair, function: Any, options: dict[str, Any], data: Data, dtype: str, device: str,
              places: Places | None = None, mode: Any = None) -> Arrays:
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

    with mode or contextlib.nullcontext(), _compiling():
        outputs, leaves, before = _torch_forward(spec, function, options, data, dtype, device, places or {})
        named = name_outputs(spec, outputs)
        wanted = {n: y for n, y in named.items() if n in data.cotangents}
        for name, y in wanted.items():
            _refuse_output(name, "f" if y.is_floating_point() else "i", y.dtype, y.shape, data)
            if leaves and not y.requires_grad:
                raise ValueError(f"no gradient flows through the output {name}: it is detached from the inputs")
        if wanted and leaves:
            torch.autograd.backward(list(wanted.values()), [
                torch.from_numpy(np.array(data.cotangents[n])).to(device, y.dtype) for n, y in wanted.items()])
    for name, (tensor, copy_) in before.items():
        if not torch.equal(tensor, copy_) and not (tensor.isnan() | (tensor == copy_)).all():
            raise ValueError(f"it changed its input {name} in place")
    found = {n: as_array(y) for n, y in named.items()}
    for name, (leaf, back) in leaves.items() if wanted else ():  # of integers alone there are none
        grad = np.asarray(back(as_array(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)))
        found[f"grad.{name}"] = grad.view(NoGradient) if leaf.grad is None else grad
    return found


def _compiling() -> contextlib.AbstractContextManager[Any]:
    """What is compiled is compiled for every case anew: past some number torch would run it uncompiled, and say so
    to nobody."""
    dynamo = sys.modules.get("torch._dynamo")
    return contextlib.nullcontext() if dynamo is None else dynamo.config.patch(
        recompile_limit=1 << 20, accumulated_recompile_limit=1 << 20)


def _torch_forward(spec: Pair, function: Any, options: dict[str, Any], data: Data, dtype: str, device: str,
                   places: Places) -> tuple[tuple[torch.Tensor, ...], Leaves, Before]:
    """Outputs, the leaves by the reference's names, each with its way back, and the inputs with copies of them."""
    import torch

    kind: torch.dtype = getattr(torch, dtype)

    def tensor(array: NDArray[Any], name: str) -> torch.Tensor:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            return torch.from_numpy(np.array(array)).to(device)
        t = torch.from_numpy(np.ascontiguousarray(array).copy()).to(device, kind)
        return _strided(t, array).requires_grad_(name in wanted)

    wanted = {*spec.differentiable(), *data.params}
    module = function.make(data.sizes | options) if isinstance(function, Built) else function
    if not callable(module):
        raise ValueError(f"built(...) gives {module!r}, expected a module")
    if isinstance(module, type) and issubclass(module, torch.autograd.Function):
        module = module.apply
    holds = isinstance(module, torch.nn.Module)
    if holds:
        module = copy.deepcopy(module).to(device, kind)
    own = {clean(name): p for name, p in module.named_parameters()} if holds else {}
    unknown = [name for name in places if name not in data.params and name not in spec.inputs]
    if unknown:
        raise ValueError(f"params[{unknown[0]!r}]: the reference has no such parameter, it has "
                         f"{', '.join(data.params) or 'none'}")
    leaves: Leaves = {}
    arguments: list[str] = []
    named: dict[str, Any] = {}
    for name, array in {**data.params, **dict.fromkeys(spec.inputs), **data.inputs}.items():
        place, forth, back = (*places.get(name, (name,)), None, None)[:3]
        if place in own and array is not None:
            with torch.no_grad():
                value = np.asarray(array if forth is None else forth(np.asarray(array)))
                if value.shape != tuple(own[place].shape):
                    raise ValueError(f"{name} has shape {value.shape} for the parameter {place} of shape "
                                     f"{tuple(own[place].shape)}")
                own[place].copy_(torch.from_numpy(value.copy()))
            leaves[name] = own[place], back or (lambda g: g)
        elif holds and (name in data.params or name in places):
            raise ValueError(f"the module has no parameter {place!r} for {name}, it has {', '.join(own) or 'none'}")
        elif name in spec.inputs or array is not None:
            arguments.append(name)
    loose = [n for n, p in own.items() if p.requires_grad and not any(p is leaf for leaf, _ in leaves.values())]
    if loose:
        raise ValueError(f"the module's parameter {loose[0]!r} is none of the reference's: say in params= which it is")
    passed: dict[str, torch.Tensor | None] = {}
    for name in arguments:
        array = (data.params | data.inputs).get(name)
        place, forth, back = (*places.get(name, (name,)), None, None)[:3]
        passed[name] = None if array is None else tensor(array if forth is None else forth(np.asarray(array)), name)
        if name in data.params:
            named[place] = passed[name]
        leaf = passed[name]
        if leaf is not None and leaf.requires_grad:
            leaves[name] = leaf, back or (lambda g: g)
    before = {name: (t, t.detach().clone()) for name, t in passed.items() if t is not None}
    if not isinstance(function, Built):  # which has been given them
        named |= {name: options[name] for name in spec.options}
    outputs = listed(module(*(t for name, t in passed.items() if name in spec.inputs), **named))
    wrong = [type(y).__name__ for y in outputs if not isinstance(y, torch.Tensor)]
    if wrong:
        raise ValueError(f"an output is a {wrong[0]}, expected a tensor")
    for y in outputs:
        if (y.is_floating_point() or y.is_complex()) and y.dtype != kind:
            raise ValueError(f"an output has dtype {y.dtype}, expected {kind}, that of the inputs")
    return outputs, leaves, before


def _torch_call(spec: Pair, data: Data, options: dict[str, Any]) -> Any:
    import torch

    def tensors(group: Arrays) -> dict[str, Any]:
        return {n: torch.from_numpy(np.array(a)) for n, a in group.items()}

    return _call(spec, spec.reference, replace(data, params=tensors(data.params), inputs=tensors(data.inputs)), options)


def _strided(tensor: torch.Tensor, array: NDArray[Any]) -> torch.Tensor:
    from .textbook import in_layout

    found: torch.Tensor = in_layout(tensor, array)
    return found


def parameters(spec: Pair, sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the parameters of a reference that is a module."""
    if not is_module(spec.reference) and not isinstance(spec.reference, Built):
        return {}
    module = spec.reference.make(sizes) if isinstance(spec.reference, Built) else spec.reference
    named = getattr(module, "named_parameters", tuple)
    return {clean(n): tuple(p.shape) for n, p in named() if clean(n) not in spec.inputs}
