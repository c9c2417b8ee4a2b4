"""Ports that are JAX functions: compiled together with their gradient, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .functions import name_outputs

if TYPE_CHECKING:
    from ..cases.case import Data
    from ..judge.lanes import Lane
    from ..spec.pair import Pair
    from ..spec.results import Arrays


def run(spec: Pair, options: dict[str, Any], data: Data, lane: Lane) -> Arrays:
    """The quantities of a JAX function in a lane.

    The inputs come by position, what a reference keeps as parameters and the options by name; options
    are constants of the compiled code. 64-bit types are enabled for float64 alone, and only for this run.

    Args:
        spec: the ``Pair``; its port is a function that ``jax.jit`` can trace.
        options: of the case.
        data: of the case; NumPy arrays.
        lane: of the CPU.

    Raises:
        ValueError: an output is no array, or has another dtype than the inputs or another shape than the reference's.
    """
    import jax

    dtype = jax.numpy.dtype(lane.torch_dtype)
    arrays = {**data.params, **data.inputs}
    places = {name: (*spec.places.get(name, (name,)), None, None)[:3] for name in arrays}
    leaves: dict[str, NDArray[Any]] = {}
    constants: dict[str, NDArray[Any]] = {}
    wanted = {*spec.differentiable(), *data.params}
    for name, array in arrays.items():
        array, forth = np.asarray(array), places[name][1]
        if array.dtype.kind == "f":
            group = leaves if name in wanted else constants
            group[name] = np.asarray(array if forth is None else forth(array)).astype(dtype)
        else:
            constants[name] = array
    cotangents = {name: np.asarray(c).astype(dtype) for name, c in data.cotangents.items()}
    differentiated = _differentiated(spec, tuple((name, places[name][0]) for name in data.params),
                                     tuple((name, options[name]) for name in spec.options), dtype)
    with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        outputs, gradients = differentiated(leaves, constants, cotangents)
    found = {name: _as_array(y) for name, y in outputs.items()}
    for name, gradient in gradients.items():
        back = places[name][2] or (lambda g: g)
        found[f"grad.{name}"] = np.asarray(back(_as_array(gradient)))
    return found


@lru_cache(maxsize=64)
def _differentiated(spec: Pair, params: tuple[tuple[str, str], ...], options: tuple[tuple[str, Any], ...],
                    dtype: Any) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """The port and its gradient as one compiled function: JAX keeps it for the next case of the same sizes.

    Args:
        spec: the ``Pair``.
        params: pairs of a parameter's name and the port's for it.
        options: pairs of an option's name and its value.
        dtype: of the floating arrays.
    """
    import jax
    import jax.numpy as jnp

    def differentiated(leaves: dict[str, Any], constants: dict[str, Any],
                       cotangents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        def forward(leaves: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
            given = leaves | constants
            named = {place: given[name] for name, place in params}
            found = spec.port(*(given.get(name) for name in spec.inputs), **named, **dict(options))
            outputs = name_outputs(spec, tuple(found) if isinstance(found, (tuple, list)) else (found,))
            for name, y in outputs.items():
                _refuse(name, y, dtype, cotangents)
            wanted = {name: jnp.asarray(y) for name, y in outputs.items() if name in cotangents}
            return wanted, {name: y for name, y in outputs.items() if name not in wanted}

        wanted, back, others = jax.vjp(forward, leaves, has_aux=True)
        return wanted | others, back(cotangents)[0]

    compiled: Callable[..., tuple[dict[str, Any], dict[str, Any]]] = jax.jit(differentiated)
    return compiled


def _refuse(name: str, y: Any, dtype: Any, cotangents: Mapping[str, Any]) -> None:
    import jax

    if not isinstance(y, (jax.Array, np.ndarray)):
        raise ValueError(f"output {name} is a {type(y).__name__}, expected an array")
    if name in cotangents and y.dtype != dtype:
        raise ValueError(f"output {name} has dtype {y.dtype}, expected {dtype}, that of the inputs")
    if name in cotangents and y.shape != cotangents[name].shape:
        raise ValueError(f"output {name} has shape {y.shape}, expected {cotangents[name].shape}")


def _as_array(y: Any) -> NDArray[Any]:
    """A JAX array as NumPy's; bfloat16, which NumPy has not, as float32."""
    y = np.asarray(y)
    return y.astype(np.float32) if y.dtype == "bfloat16" else np.array(y)
