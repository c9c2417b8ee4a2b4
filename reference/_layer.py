"""What all layers share: the lists ``params``, ``grads``, ``param_names`` and the cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ._checks import CotangentError
from ._types import Array


class Layer:
    """A layer of the textbook protocol.

    Attributes:
        params: list of parameter arrays.
        grads: list of gradient arrays, same order and shapes, overwritten in place by ``backward``.
        param_names: names of the parameters, same order.
    """

    param_names: tuple[str, ...] = ()
    params: Any  # lists of arrays; those of a ``Composite`` are gathered from its children
    grads: Any
    _cache: list[Any] | None = None
    _basis: list[Any]

    def __init__(self, *params: Array) -> None:
        self.params, self.grads = [], []
        self.bind(params)

    def bind(self, params: Sequence[Array]) -> None:
        """Makes the given arrays the layer's own parameters, uncopied, with new zero gradients.

        The way to run a layer in another dtype: ``layer.bind([p.astype(dtype) for p in layer.params])``.

        Args:
            params: arrays in the order of ``param_names``.

        Raises:
            TypeError: a parameter is not a floating array.
            ValueError: their number or a shape is not the layer's.
        """
        params = list(params)
        name = type(self).__name__
        if len(params) != len(self.param_names):
            raise ValueError(f"{name}: {len(params)} parameters given, expected {len(self.param_names)}: "
                             f"{', '.join(self.param_names) or 'none'}")
        for i, (label, param) in enumerate(zip(self.param_names, params, strict=True)):
            if not isinstance(param, np.ndarray) or param.dtype.kind not in "fc":
                kind = getattr(param, "dtype", type(param).__name__)
                raise TypeError(f"{name}: {label} is {kind}, expected an array of floating dtype")
            if self.params and param.shape != self.params[i].shape:
                raise ValueError(f"{name}: {label} has shape {param.shape}, expected {self.params[i].shape}")
        self._adopt(params)

    def _adopt(self, params: Sequence[Array]) -> None:
        self.params = params
        self.grads = [np.zeros_like(p) for p in params]
        self._cache = None

    def _save(self, *values: Any) -> None:
        """Keeps what ``backward`` needs, as a new object, and what it builds on beside that.

        Arrays, alone and in tuples, are copied: whoever called may change what he gave, and what he gets, in place.
        """
        self._cache, self._basis = [_own(value) for value in values], self._now()

    def _saved(self) -> list[Any]:
        """What ``forward`` kept for ``backward``: a list.

        Raises:
            RuntimeError: before any forward, or where what would come out is the gradient of no one forward.
        """
        if self._cache is None:
            raise RuntimeError(f"{type(self).__name__}.backward: called before forward")
        if changed := self._changed():
            raise RuntimeError(f"{type(self).__name__}.backward: {changed} since forward, which has to run again")
        return self._cache

    def _now(self) -> list[Any]:
        return [p.copy() for p in self.params]

    def _changed(self) -> str:
        """What is not as the last ``forward`` left it, in words; empty where all is."""
        for label, before, now in zip(self.param_names, self._basis, self._now(), strict=False):
            if not np.array_equal(before, now, equal_nan=True):
                return f"{label} has changed"
        return ""

    def _check_cotangents(self, **pairs: tuple[Array | float, tuple[int, ...]]) -> None:
        """Holds each ``name=(cotangent, shape of its output)`` against the other."""
        for name, (cotangent, shape) in pairs.items():
            if np.shape(cotangent) != shape:
                raise CotangentError(f"{type(self).__name__}.backward: {name} has shape {np.shape(cotangent)}, "
                                     f"expected {shape}, the shape of the output")


class Composite(Layer):
    """A layer made of others; its lists are theirs, one after the other, under dotted names."""

    def __init__(self, **children: Any) -> None:
        for name, child in children.items():
            setattr(self, name, child)
        self._parts = tuple(children)
        self.param_names = tuple(
            f"{name}.{label}" for name, child in children.items() for label in child.param_names
        )

    def _children(self) -> list[Any]:
        return [getattr(self, name) for name in self._parts]

    @property
    def params(self) -> list[Array]:
        return [p for child in self._children() for p in child.params]

    @property
    def grads(self) -> list[Array]:
        return [g for child in self._children() for g in child.grads]

    def _adopt(self, params: Sequence[Array]) -> None:
        rest = iter(params)
        for child in self._children():
            child.bind([next(rest) for _ in child.params])

    def _now(self) -> list[Any]:
        return [child._cache for child in self._children()]

    def _changed(self) -> str:
        for label, child, cache in zip(self._parts, self._children(), self._basis, strict=False):
            if child._cache is not cache:
                return f"{label} was used by itself"
            if changed := child._changed():
                return f"{label}.{changed}"
        return ""


def _own(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_own, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def like(gradient: Array, array: Array) -> Array:
    """The gradient in the dtype of the array that it belongs to."""
    return gradient.astype(array.dtype, copy=False)


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float, dtype: DTypeLike) -> Array:
    """Normal values of standard deviation ``scale``: the textbook's initialisation."""
    return (scale * rng.standard_normal(shape)).astype(dtype)
