"""Objects that are called again and again: a layer or a module, with one set of methods for either side.

``OBJECTS`` holds, by a spec's side, the adapter of the reference and that of the port. An adapter is made of a case's
data; it hands out what the object itself returned, arrays or tensors, so that a caller may look whether they change.
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from ..cases.case import Data
from ..spec.results import Arrays, as_tuple, gradients_of
from .textbook import as_array, build, in_layout


class Mode(NamedTuple):
    """How a forward is run.

    Attributes:
        name: one of ``MODES``.
        left: names of inputs and parameters of which no gradient is asked.
    """

    name: str = "plain"
    left: frozenset[str] = frozenset()


PLAIN = Mode()


@dataclass
class Ran:
    """A forward that has run.

    Attributes:
        outputs: what it returned and kept, by name.
        leaves: the inputs whose gradients are wanted, as they were handed over.
        wanted: the names of the gradients that its backward gives; none where it leaves no graph.
    """

    outputs: dict[str, Any]
    leaves: dict[str, Any] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()


def _named(spec: Any, result: Any) -> dict[str, Any]:
    return dict(zip(spec.outputs, as_tuple(result), strict=True))


def _kept(spec: Any, owner: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in spec.kept:
        value = getattr(owner, name)
        found |= {f"{name}.{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
    return found


OWN = ("params", "grads")  # which a backward writes over, and an optimizer


def shown_of(spec: Any, owners: Mapping[str, Any], every: bool, hidden: tuple[type, ...] = ()) -> dict[str, Any]:
    """What callers may read off objects, by dotted names: arrays, and lists and dictionaries of them.

    Args:
        owners: the objects by their own names.
        every: all that is public, or what a layer's entry says that it keeps aside: a stranger's layer may keep its
            cache in public.
        hidden: types that are left out.
    """
    found = {}
    for path, owner in owners.items():
        properties = [n for n in dir(type(owner)) if isinstance(getattr(type(owner), n, None), property)]
        declared = [*spec.kept, *(f"d{name}" for name in spec.states)]
        for name in (*vars(owner), *properties) if every else declared:
            value = None if name.startswith("_") or name in OWN else getattr(owner, name, None)
            if _arrays(value, hidden):
                found[f"{path}.{name}".lstrip(".")] = value
    return found


def _arrays(value: Any, hidden: tuple[type, ...]) -> bool:
    """Whether a value is an array, or a list, a tuple or a dictionary of nothing else."""
    if isinstance(value, (list, tuple, dict)):
        parts = list(value.values() if isinstance(value, dict) else value)
        return bool(parts) and all(_arrays(part, hidden) for part in parts)
    return hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, hidden)


def parts_of(layer: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A layer and those that it is made of, by dotted names."""
    yield path, layer
    for name, part in vars(layer).items():
        if hasattr(part, "forward") and hasattr(part, "backward"):
            yield from parts_of(part, f"{path}.{name}".lstrip("."))


def _places(spec: Any) -> Mapping[str, str]:
    """Where a layer keeps its state, by the name that the twin has for it."""
    return getattr(spec.port_class, "states", {}) if "stateful" in spec.options else {}


class Unshared(np.ndarray[Any, Any]):
    """An array whose product with itself is taken as that of two.

    NumPy has another routine for it, which rounds otherwise: ``matmul`` of an array with its own transpose is BLAS's
    ``syrk``, and not ``gemm``.
    """

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **rest: Any) -> Any:
        raw = [np.asarray(x) if isinstance(x, Unshared) else x for x in inputs]
        if ufunc is np.matmul and np.may_share_memory(raw[0], raw[1]):
            raw[1] = raw[1].copy(order="K")
        if out is not None:
            rest["out"] = tuple(np.asarray(o) if isinstance(o, Unshared) else o for o in out)
        result = getattr(ufunc, method)(*raw, **rest)
        return result.view(Unshared) if isinstance(result, np.ndarray) else result


class NumpyObject:
    """A layer of the textbook protocol.

    Args:
        case: a ``Case``.
        params: its parameters by name, arrays that become the layer's own.
    """

    modes: tuple[str, ...] = ("plain",)
    plain_kernels = contextlib.nullcontext
    where_made = in_mode = contextlib.nullcontext
    several = False  # whether a backward of any forward may follow, or that of the last alone

    def __init__(self, case: Any, params: Arrays, lane: Any, dtype: str) -> None:
        self.spec, self.options = case.spec, case.options
        self.layer = build(case.spec, case.options, Data(params, {}, {}, {}, case.sizes))

    def forward(self, inputs: Arrays, mode: Mode = PLAIN) -> Ran:
        found = _named(self.spec, self.layer.forward(*inputs.values()))
        wanted = (*self.spec.differentiable(), *self.layer.param_names)
        return Ran(found | _kept(self.spec, self.layer), dict(inputs), wanted)

    def backward(self, ran: Ran, cotangents: dict[str, Any]) -> dict[str, Any]:
        gradients = gradients_of(self.layer.backward(*cotangents.values()))
        found = dict(zip(self.spec.differentiable(), gradients, strict=True))
        return found | dict(zip(self.layer.param_names, self.layer.grads, strict=True))

    def generate(self, source: Any, start: int, steps: int) -> Any:
        return self.layer.generate(source, start, steps)

    @staticmethod
    def array(value: Any) -> np.ndarray[Any, Any]:
        return np.array(value)

    @staticmethod
    def detached(value: Any) -> Any:
        return value

    @staticmethod
    def apart(value: Any) -> Any:
        """A copy, laid out as the original."""
        return np.array(value, order="K")

    @staticmethod
    def given(array: np.ndarray[Any, Any], lane: Any, dtype: str) -> Any:
        return array

    @staticmethod
    def unshared(value: Any) -> Any:
        """The same numbers, which round as those of an array that stands for one argument alone."""
        return value.view(Unshared)

    @staticmethod
    def spoil(value: Any) -> None:
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value[...] = np.nan if value.dtype.kind == "f" else 0

    def own(self) -> dict[str, Any]:
        """The numbers that no call may change."""
        return dict(zip(self.layer.param_names, self.layer.params, strict=True))

    def shown(self, every: bool) -> dict[str, Any]:
        """What callers may read off the layer and its parts: all that is public, or what its entry names."""
        return shown_of(self.spec, dict(parts_of(self.layer)), every)

    @staticmethod
    def fill(arrays: Arrays, others: Arrays) -> None:
        """Writes other numbers into arrays, as their owner may."""
        for name, array in arrays.items():
            array[...] = others[name]

    def flags(self) -> dict[str, Any]:
        """What else no call may change, by what a reader calls it: options and modes."""
        return {name: getattr(self.layer, name) for name in (*self.spec.options, *self.spec.attributes)}

    def set_option(self, name: str, value: Any) -> None:
        """An option, or an attribute, that is set after the constructor has run."""
        setattr(self.layer, name, value)

    def state(self) -> dict[str, Any]:
        return {name: attrgetter(place)(self.layer) for name, place in _places(self.spec).items()}

    def begin_from(self, state: dict[str, Any]) -> None:
        for name, place in _places(self.spec).items():
            owner, _, attribute = place.rpartition(".")
            value = state[name]
            setattr(attrgetter(owner)(self.layer) if owner else self.layer, attribute,
                    None if value is None else np.array(value))

    def set_state(self, state: list[Any]) -> None:
        self.layer.set_state(*state)

    def reset(self) -> None:
        self.layer.reset_state()

    def write(self, params: Arrays) -> None:
        """Other numbers in the same arrays, as an optimizer leaves them."""
        for own, value in zip(self.layer.params, params.values(), strict=True):
            own[...] = value

    def load(self, params: Arrays) -> None:
        """Other arrays."""
        self.layer.bind(params.values())

    def cast(self, params: Arrays, dtype: str) -> None:
        self.layer.bind(params.values())

    def cast_state(self, state: dict[str, Any], dtype: str) -> dict[str, Any]:
        return {name: None if value is None else value.astype(dtype) for name, value in state.items()}

    def copied(self) -> "NumpyObject":
        return copy.deepcopy(self)


class TorchObject:
    """A module, made from the layer with the same parameters; arguments as ``NumpyObject``."""

    several = True

    def __init__(self, case: Any, params: Arrays, lane: Any, dtype: str) -> None:
        import torch

        self.spec, self.lane, self.dtype = case.spec, lane, dtype
        layer = build(case.spec, case.options, Data(params, {}, {}, {}, case.sizes))
        self.module = case.spec.port_class.from_reference(layer, device=lane.device, dtype=getattr(torch, dtype))
        self.modes = modes(case.spec)

    def forward(self, inputs: dict[str, Any], mode: Mode = PLAIN) -> Ran:
        given, leaves, slots = dict(inputs), {}, self.module.all_slots()
        graph = mode.name not in GRAPHLESS
        for name in self.spec.differentiable():
            if graph and name not in mode.left:
                leaves[name] = inputs[name].detach().requires_grad_()
                given[name] = leaves[name].clone() if mode.name == "inner" else leaves[name]
        # of parameters that share a tensor, all or none
        left = {slots[name].path for name in mode.left & slots.keys()}
        trained = [name for name in slots if graph and slots[name].path not in left]
        with self.in_mode(mode, left):
            outputs = _named(self.spec, self.module(*given.values()))
        return Ran(outputs | _kept(self.spec, self.module), leaves, (*leaves, *trained))

    @staticmethod
    def where_made(mode: Mode) -> Any:
        """Where the inputs of a call are made: those of inference in inference."""
        import torch

        return torch.inference_mode(mode.name == "inference")

    @staticmethod
    @contextlib.contextmanager
    def plain_kernels() -> Iterator[None]:
        """Torch's own kernels, which do the same with a graph and without: oneDNN's round otherwise without one."""
        import torch

        before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(before)

    @contextlib.contextmanager
    def in_mode(self, mode: Mode, left: Iterable[str] = ()) -> Iterator[None]:
        """The mode of a call, with the parameters frozen that are ``left`` out, by their paths."""
        import torch

        with contextlib.ExitStack() as stack:
            if mode.name in GRAPHLESS and mode.name != "inference":
                stack.enter_context(torch.no_grad())
            if mode.name == "inference":
                stack.enter_context(torch.inference_mode())
            if mode.name in EVALUATING:
                stack.callback(self.module.train, self.module.training)
                self.module.eval()
            for path in left:
                p = attrgetter(path)(self.module)
                stack.callback(p.requires_grad_, p.requires_grad)
                p.requires_grad_(False)
            yield

    def backward(self, ran: Ran, cotangents: dict[str, Any]) -> dict[str, Any]:
        import torch

        for leaf in (*ran.leaves.values(), *self.module.parameters()):
            leaf.grad = None
        named = [(ran.outputs[n], c.to(ran.outputs[n].dtype)) for n, c in cotangents.items()
                 if ran.outputs[n].requires_grad]
        if named:
            outputs, wanted = zip(*named, strict=True)
            torch.autograd.backward(outputs, wanted, retain_graph=True)
        found: dict[str, Any] = {n: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                                 for n, leaf in ran.leaves.items()}
        slots = self.module.all_slots()
        return found | {n: slots[n].read_grad(self.module) for n in ran.wanted if n in slots}

    def gradients(self, ran: Ran, cotangents: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """The gradients of some inputs by some outputs, of nothing else."""
        import torch

        named = [(ran.outputs[n], c.to(ran.outputs[n].dtype)) for n, c in cotangents.items()]
        if not named or not names:
            return {}
        outputs, wanted = zip(*named, strict=True)
        found = torch.autograd.grad(outputs, [ran.leaves[n] for n in names], wanted, retain_graph=True,
                                    materialize_grads=True)
        return dict(zip(names, found, strict=True))

    def generate(self, source: Any, start: int, steps: int) -> Any:
        return self.module.generate(source, start, steps)

    @staticmethod
    def array(value: Any) -> np.ndarray[Any, Any]:
        return np.array(value) if isinstance(value, np.ndarray) else np.array(as_array(value))

    @staticmethod
    def detached(value: Any) -> Any:
        return value.detach()

    @staticmethod
    def apart(value: Any) -> Any:
        """A copy, laid out as the original."""
        return value.detach().clone()

    @staticmethod
    def given(array: np.ndarray[Any, Any], lane: Any, dtype: str) -> Any:
        import torch

        tensor = torch.from_numpy(np.array(array)).to(lane.device)
        return in_layout(tensor.to(getattr(torch, dtype)) if array.dtype.kind == "f" else tensor, array)

    @staticmethod
    def unshared(value: Any) -> Any:
        return value

    @staticmethod
    def spoil(value: Any) -> None:
        if not isinstance(value, np.ndarray):
            value.detach().fill_(np.nan if value.is_floating_point() else 0)

    def own(self) -> dict[str, Any]:
        """The numbers that no call may change, buffers among them."""
        return dict(self.module.state_dict())

    def shown(self, every: bool) -> dict[str, Any]:
        """What callers may read off the module and its parts: all that is public, or what its entry names."""
        import torch

        return shown_of(self.spec, dict(self.module.named_modules()), every, (torch.nn.Parameter,))

    @staticmethod
    def fill(tensors: dict[str, Any], others: dict[str, Any]) -> None:
        """Writes other numbers into tensors, as their owner may."""
        for name, tensor in tensors.items():
            tensor.copy_(others[name])

    def flags(self) -> dict[str, Any]:
        """What else no call may change, by what a reader calls it: options, modes and what is trained."""
        found = {name: getattr(self.module, name) for name in self.spec.options}
        found |= {f"the mode of {name or 'the module'}": m.training for name, m in self.module.named_modules()}
        return found | {f"requires_grad of {name}": p.requires_grad for name, p in self.module.named_parameters()}

    def set_option(self, name: str, value: Any) -> None:
        """An option, or the mode, that is set after the constructor has run."""
        if name in self.spec.attributes:
            self.module.train(value)
        else:
            setattr(self.module, name, value)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self.module, name) for name in _places(self.spec)}

    def begin_from(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.module, name, None if value is None else value.detach().clone())

    def set_state(self, state: list[Any]) -> None:
        self.module.set_state(*state)

    def reset(self) -> None:
        self.module.reset_state()

    def write(self, params: Arrays) -> None:
        """Other numbers in the same tensors, as an optimizer leaves them."""
        import torch

        with torch.no_grad():
            for slot, value in zip(self.module.all_slots().values(), params.values(), strict=True):
                target = slot.of_packed(slot.of(self.module))
                target.copy_(slot.to_torch(torch.from_numpy(np.array(value)).to(target)))

    def load(self, params: Arrays) -> None:
        """Other numbers, from the reference."""
        self.module.load_reference_params(list(params.values()))

    def cast(self, params: Arrays, dtype: str) -> None:
        import torch

        self.module.to(getattr(torch, dtype))
        self.dtype = dtype

    def cast_state(self, state: dict[str, Any], dtype: str) -> dict[str, Any]:
        import torch

        return {name: None if value is None else value.to(getattr(torch, dtype)) for name, value in state.items()}

    def copied(self) -> "TorchObject":
        found = copy.copy(self)
        found.module = copy.deepcopy(self.module)
        return found


# evaluation; without a graph; both, as a model is served; gradients of inputs alone, of weights alone, of some of
# both; inputs inside a graph of the caller's
MODES = ("plain", "eval", "no_grad", "inference", "served", "frozen", "weights", "some", "inner")
EVALUATING, GRAPHLESS = ("eval", "served"), ("no_grad", "inference", "served")


def modes(spec: Any) -> tuple[str, ...]:
    """The modes in which a layer's module is called: what evaluation means to it, its attributes say."""
    return tuple(mode for mode in MODES if mode not in EVALUATING or not spec.attributes)


OBJECTS: dict[str, tuple[type[Any], type[Any]]] = {"textbook": (NumpyObject, TorchObject)}
