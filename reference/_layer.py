"""What all layers share: the lists ``params``, ``grads``, ``param_names`` and the cache."""

import numpy as np

from ._checks import CotangentError


class Layer:
    """A layer of the textbook protocol.

    Attributes:
        params: list of parameter arrays.
        grads: list of gradient arrays, same order and shapes, overwritten in place by ``backward``.
        param_names: names of the parameters, same order.
    """

    param_names: tuple[str, ...] = ()

    def __init__(self, *params):
        self.params = []
        self.grads = []
        self._cache = None
        self.bind(params)

    def bind(self, params):
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

    def _adopt(self, params):
        self.params = params
        self.grads = [np.zeros_like(p) for p in params]

    def _saved(self):
        """What ``forward`` kept for ``backward``; RuntimeError before any forward."""
        if self._cache is None:
            raise RuntimeError(f"{type(self).__name__}.backward: called before forward")
        return self._cache

    def _check_cotangents(self, **pairs):
        """Holds each ``name=(cotangent, shape of its output)`` against the other."""
        for name, (cotangent, shape) in pairs.items():
            if np.shape(cotangent) != shape:
                raise CotangentError(f"{type(self).__name__}.backward: {name} has shape {np.shape(cotangent)}, "
                                     f"expected {shape}, the shape of the output")


class Composite(Layer):
    """A layer made of others; its lists are theirs, one after the other, under dotted names."""

    def __init__(self, **children):
        for name, child in children.items():
            setattr(self, name, child)
        self._children = children
        self.param_names = tuple(
            f"{name}.{label}" for name, child in children.items() for label in child.param_names
        )
        super().__init__(*(p for child in children.values() for p in child.params))

    def _adopt(self, params):
        params = list(params)
        self.params, self.grads = [], []
        for child in self._children.values():
            own, params = params[: len(child.params)], params[len(child.params) :]
            if own and any(a is not b for a, b in zip(own, child.params, strict=True)):
                child.bind(own)
            self.params += child.params
            self.grads += child.grads


def like(gradient, array):
    """The gradient in the dtype of the array that it belongs to."""
    return gradient.astype(array.dtype, copy=False)


def normal(rng, shape, scale, dtype):
    """Normal values of standard deviation ``scale``: the textbook's initialisation."""
    return (scale * rng.standard_normal(shape)).astype(dtype)
