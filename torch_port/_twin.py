"""The twin protocol: weights, gradients and options to and from a NumPy layer.

A class declares, as tables, where each reference parameter lives and in which layout (``slots``),
how its sizes are read off the parameters (``sizes``), and which attributes come along
(``options``). A class made of others needs no slots: it has those of its parts, in their order.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray[Any, np.dtype[Any]]

# what NumPy has too; anything else (bfloat16) goes through float32, exactly
NUMPY = {torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True)
class Slot:
    """Where one reference parameter lives in a module, and how it is laid out there.

    Attributes:
        path: dotted name of the torch parameter.
        transposed: reference ``(in, out)``, torch ``(out, in)``.
        gates: of each gate block of the torch parameter, its place along the reference's last axis.
        second: dotted name of a second bias, a constant that adds to the first.
        part: of a torch parameter that packs several along its first axis, which one of how many.
    """

    path: str
    transposed: bool = False
    gates: tuple[int, ...] = (0,)
    second: str | None = None
    part: tuple[int, int] = (0, 1)

    def of(self, module: nn.Module) -> Tensor:
        """The torch parameter."""
        tensor: Tensor = attrgetter(self.path)(module)
        return tensor

    def leaf(self, module: nn.Module, where: str) -> Tensor:
        """The torch parameter, where it holds its values by itself.

        Raises:
            RuntimeError: it is computed from others, by a parametrization or by pruning.
        """
        owner, _, name = self.path.rpartition(".")
        tensor = module.get_submodule(owner)._parameters.get(name)
        if tensor is None:
            raise RuntimeError(f"{where}: {self.path} is computed from other parameters (a parametrization, weight "
                               "normalisation or pruning), expected a parameter; remove that before")
        return tensor

    def of_packed(self, packed: Tensor) -> Tensor:
        """This slot's part of the torch parameter, or of its gradient: a view."""
        index, count = self.part
        return packed.chunk(count)[index]

    def within(self, child: str) -> "Slot":
        """The same slot, seen from the parent of the module that is called ``child`` there."""
        second = None if self.second is None else f"{child}.{self.second}"
        return replace(self, path=f"{child}.{self.path}", second=second)

    def to_torch(self, value: Tensor) -> Tensor:
        """A tensor from the reference's layout to the module's."""
        blocks = (value.T if self.transposed else value).chunk(len(self.gates))
        return torch.cat([blocks[g] for g in self.gates])

    def to_reference(self, value: Tensor) -> Tensor:
        """A tensor from the module's layout to the reference's."""
        blocks = value.chunk(len(self.gates))
        value = torch.cat([blocks[self.gates.index(g)] for g in range(len(self.gates))])
        return value.T if self.transposed else value

    def read(self, module: nn.Module) -> Array:
        """The reference parameter."""
        value = self.of_packed(self.of(module))
        if self.second is not None:
            second = attrgetter(self.second)(module)
            value = torch.where(second == 0, value, value + second)  # -0.0 stays -0.0
        return to_numpy(self.to_reference(value))

    def read_grad(self, module: nn.Module) -> Array:
        """The gradient of the reference parameter, zeros where torch has none."""
        parameter = self.of(module)
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        return to_numpy(self.to_reference(self.of_packed(grad)))

    def write(self, module: nn.Module, value: Tensor) -> None:
        """Copies a reference parameter in."""
        with torch.no_grad():
            self.of_packed(self.of(module)).copy_(self.to_torch(value))
            if self.second is not None:
                attrgetter(self.second)(module).zero_()


class Twin(nn.Module):
    """An ``nn.Module`` with a NumPy twin of the textbook protocol."""

    slots: ClassVar[Mapping[str, Slot]] = {}
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ()  # (parameter, axis) of each size argument
    # attributes of the same dotted name on both sides; the constructor gets those that it takes
    options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_reference(
        cls,
        layer: Any,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """The twin of a NumPy layer: same weights, options, train flag and state.

        Args:
            layer: a layer of the textbook protocol.
            device: of the new module; None for torch's default.
            dtype: of the new module; None for that of the layer's parameters.

        Raises:
            TypeError: parameters that are not floating arrays, or of a dtype that torch lacks
                (``numpy.longdouble``) with no ``dtype`` given.
            ValueError: parameters that are not those of such a layer.
        """
        params = [np.asarray(p) for p in layer.params]
        if any(i >= len(params) or axis >= params[i].ndim for i, axis in cls.sizes):
            shapes = ", ".join(str(p.shape) for p in params)
            raise ValueError(f"{cls.__name__}.from_reference: cannot read the sizes off the "
                             f"parameters of {type(layer).__name__}, of shapes {shapes or 'none'}")
        factory: dict[str, Any] = {}
        if cls.sizes:
            factory = {"device": device, "dtype": dtype or _common_dtype(cls.__name__, params)}
        taken = inspect.signature(cls).parameters
        given = {name: getattr(layer, name) for name in cls.options
                 if name in taken and hasattr(layer, name)}
        module = cls(*(params[i].shape[axis] for i, axis in cls.sizes), **given, **factory)
        if not any(p.is_meta for p in module.parameters()) or torch.device(device or "cpu").type != "meta":
            module.load_reference_params(layer.params)
        module.take_options(layer)
        return module

    def take_options(self, layer: Any) -> None:
        """Copies options and train flag from a NumPy layer."""
        for path in self.options:
            owner, _, name = path.rpartition(".")
            setattr(self.get_submodule(owner), name, attrgetter(path)(layer))
        self.train(getattr(layer, "train_flg", True))

    def load_reference_params(self, params: Sequence[Array]) -> None:
        """Copies the parameters of a NumPy layer in, or, where one does not fit, none of them.

        Args:
            params: arrays in the reference's order and layout, of any floating dtype.

        Raises:
            RuntimeError: a parameter is parametrized, pruned or on the meta device.
            TypeError: a parameter is not a floating array.
            ValueError: their number or a shape is not the module's.
        """
        slots, where = self.all_slots(), f"{type(self).__name__}.load_reference_params"
        if len(params) != len(slots):
            raise ValueError(f"{where}: {len(params)} parameters given, expected {len(slots)}: "
                             f"{', '.join(slots) or 'none'}")
        values = []
        for (label, slot), param in zip(slots.items(), params, strict=True):
            if not isinstance(param, np.ndarray):
                raise TypeError(
                    f"{where}: {label} is a {type(param).__name__}, expected a numpy.ndarray"
                )
            if param.dtype.kind != "f":
                raise TypeError(
                    f"{where}: {label} has dtype {param.dtype}, expected a float dtype"
                )
            target = slot.leaf(self, where)
            if target.is_meta:
                raise RuntimeError(f"{where}: {slot.path} is on the meta device and cannot hold "
                                   "values, expected a device with memory: to_empty(device=...)")
            target = slot.of_packed(target)
            shape = tuple(target.T.shape if slot.transposed else target.shape)
            if param.shape != shape:
                raise ValueError(f"{where}: {label} has shape {param.shape}, expected {shape}")
            values.append(from_numpy(param, target.dtype))
        for slot, value in zip(slots.values(), values, strict=True):
            slot.write(self, value)

    def reference_params(self) -> list[Array]:
        """The parameters in the reference's order and layout, as new arrays.

        Returns:
            Arrays of the module's dtype; float32 for bfloat16.
        """
        return [slot.read(self) for slot in self.all_slots().values()]

    def reference_grads(self) -> list[Array]:
        """The gradients in the reference's order and layout, as new arrays.

        Returns:
            Arrays of the module's dtype; float32 for bfloat16. Zeros for a parameter that took no
            part in the backward.

        Raises:
            RuntimeError: no parameter has a gradient, or one is parametrized or pruned.
        """
        slots, where = self.all_slots().values(), f"{type(self).__name__}.reference_grads"
        if slots and all(slot.leaf(self, where).grad is None for slot in slots):
            raise RuntimeError(f"{where}: called before backward")
        return [slot.read_grad(self) for slot in slots]

    def all_slots(self) -> dict[str, Slot]:
        """Slots by reference name: the module's own, then its children's under dotted names."""
        slots = dict(self.slots)
        for child, module in self.named_children():
            if isinstance(module, Twin):
                for name, slot in module.all_slots().items():
                    slots[f"{child}.{name}"] = slot.within(child)
        return slots


def _common_dtype(name: str, params: Sequence[Array]) -> torch.dtype:
    found = np.result_type(*params)
    dtype: torch.dtype | None = getattr(torch, found.name, None)
    if dtype is None:
        raise TypeError(f"{name}.from_reference: torch has no {found}, expected dtype= to be given")
    return dtype


def from_numpy(array: Array, dtype: torch.dtype) -> Tensor:
    """A new tensor from an array of any dtype, layout and writability."""
    array = np.array(array, dtype=NUMPY.get(dtype, np.float32), order="C")
    return torch.from_numpy(array).to(dtype)


def to_numpy(tensor: Tensor) -> Array:
    """A new array, float32 where NumPy lacks the dtype."""
    tensor = tensor.detach().cpu()
    return np.array((tensor if tensor.dtype in NUMPY else tensor.float()).numpy(), order="C")


def textbook_init_(*tensors: Tensor) -> None:
    """Weights normal with standard deviation 1 / sqrt(fan-in), biases zero, in place."""
    with torch.no_grad():
        for tensor in tensors:
            if tensor.ndim == 1:
                tensor.zero_()
            else:
                tensor.normal_(std=tensor.shape[1] ** -0.5)
