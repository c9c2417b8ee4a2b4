"""Weights in files: ``.safetensors``, and the textbook's ``.pkl``, read without trusting it.

A ``.safetensors`` file holds the parameters under their dotted names, bit for bit. A ``.pkl`` file is
the textbook's: a pickled list of float16 arrays, in the order of the parameters. A pickle is a program;
this reader lets it name three things, and gives it stand-ins for them that can do nothing but
describe a plain array, so that neither foreign code nor NumPy's own unpickling ever runs.
"""

import io
import math
import os
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._types import Array, Path
from .data import write_atomically

SLACK = 2**16  # bytes of a file beside the numbers: names, shapes, opcodes
WIDEST = 8  # bytes of the widest number in either format


def save_params(model: Any, path: Path) -> None:
    """Writes the parameters of a layer or model, atomically.

    Args:
        model: anything with ``params`` and ``param_names``.
        path: file to write; its ending, ``.safetensors`` or ``.pkl``, is the format. A ``.pkl`` file keeps
            float16, as the textbook's does.

    Raises:
        OSError: the file cannot be written.
        ValueError: another ending, a dtype that the format has not, or a value beyond float16 for ``.pkl``.
    """
    write_params(path, dict(zip(model.param_names, model.params, strict=True)))


def load_params(model: Any, path: Path) -> None:
    """Reads the parameters of a layer or model, into the arrays it has; all of them or, on error, none.

    Args:
        model: anything with ``params`` and ``param_names``.
        path: file to read; its ending, ``.safetensors`` or ``.pkl``, is the format.

    Raises:
        OSError: the file cannot be read.
        ValueError: another ending, a file that is not what its ending says, names, number or shapes of
            other parameters, or values that the dtype of a parameter would round.
    """
    expected = dict(zip(model.param_names, model.params, strict=True))
    for param, value in zip(model.params, read_params(path, expected), strict=True):
        param[...] = value


def write_params(path: Path, params: Mapping[str, Array]) -> None:
    """Writes named arrays; see ``save_params``.

    Args:
        path: file to write.
        params: dict from name to floating array, in the order of the parameters.
    """
    write, _ = format_of(path)
    try:
        data = write(params)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    write_atomically(path, data)


def read_params(path: Path, expected: Mapping[str, Array]) -> Any:
    """Reads the arrays of a file and holds them against what is needed; see ``load_params``.

    Args:
        path: file to read.
        expected: dict from name to an array of the shape and dtype needed, in the order of the parameters.

    Returns:
        list of arrays in that order, of these shapes and dtypes.
    """
    most = SLACK + WIDEST * sum(array.size for array in expected.values())
    size = os.path.getsize(path)
    if size > most:
        raise ValueError(f"{path}: {size} bytes, expected at most {most} for {_list(expected)}")
    found = read_arrays(path)
    if isinstance(found, list):
        if len(found) != len(expected):
            raise ValueError(f"{path}: {len(found)} arrays, expected {len(expected)}: {_list(expected)}")
        found = dict(zip(expected, found, strict=True))
    missing = {name: array for name, array in expected.items() if name not in found}
    unknown = {name: array for name, array in found.items() if name not in expected}
    if missing or unknown:
        raise ValueError(f"{path}: expected {_list(expected)}; missing: {_list(missing) or 'none'}; "
                         f"unknown: {_list(unknown) or 'none'}")
    return [_fitted(path, name, found[name], array) for name, array in expected.items()]


def read_arrays(path: Path) -> Any:
    """The arrays of a file as they stand there: a dict by name (``.safetensors``) or a list (``.pkl``).

    Raises:
        OSError: the file cannot be read.
        ValueError: another ending, or a file that is not what its ending says.
    """
    _, read = format_of(path)
    with open(path, "rb") as file:
        data = file.read()
    try:
        return read(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def format_of(path: Path) -> Any:
    ending = os.path.splitext(path)[1]
    if ending not in FORMATS:
        raise ValueError(f"{path}: ends in {ending!r}, expected one of {', '.join(FORMATS)}")
    return FORMATS[ending]


def _list(arrays: Any) -> Any:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items())


def _fitted(path: Path, name: str, found: Array, expected: Array) -> Array:
    if found.shape != expected.shape:
        raise ValueError(f"{path}: {name} has shape {found.shape}, expected {expected.shape}")
    with np.errstate(over="ignore"):
        value = found.astype(expected.dtype)
    if not np.array_equal(value.astype(found.dtype), found, equal_nan=True):
        raise ValueError(f"{path}: {name} holds {found.dtype} values that {expected.dtype}, the dtype of the "
                         "parameter, would round; load them into a model of that dtype")
    return value


def _write_safetensors(params: Mapping[str, Array]) -> bytes:
    import safetensors.numpy

    try:
        return safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in params.items()})
    except safetensors.SafetensorError as error:
        raise ValueError(f"not for .safetensors: {error}") from None


def _read_safetensors(data: bytes) -> Any:
    import safetensors.numpy

    try:
        return safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"not a .safetensors file: {error}") from None
    except KeyError as error:
        raise ValueError(f"holds tensors of dtype {error}, which NumPy has not") from None


def _write_pickle(params: Mapping[str, Array]) -> bytes:
    halves = []
    for name, array in params.items():
        with np.errstate(over="ignore"):
            halves.append(array.astype(np.float16))
        if np.isinf(halves[-1][np.isfinite(array)]).any():
            raise ValueError(f"{name} goes to {abs(array).max()}, .pkl is float16 and goes to 65504")
    return pickle.dumps(halves, protocol=4)


def _read_pickle(data: bytes) -> Any:
    try:
        end = 0
        argument: Any  # what opcodes have beside them, and where in bytes they stand
        position: Any
        for opcode, argument, position in pickletools.genops(data):
            # The memo is a table: without this, one opcode could ask for gigabytes of it.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
                raise ValueError(f"memo index {argument} in {len(data)} bytes")
            end = position + 1
        if end < len(data):
            raise ValueError(f"{len(data)} bytes, expected {end}: something follows the end of the pickle")
        arrays = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken or hostile pickle can fail in any way
        raise ValueError(f"not a pickled list of plain NumPy arrays: {error}") from None
    if not isinstance(arrays, list):
        raise ValueError(f"holds a {type(arrays).__name__}, expected a list of arrays")
    for i, array in enumerate(arrays):
        if not isinstance(array, _Array) or array.value is None:
            raise ValueError(f"element {i} of the list is no array")
    return [array.value for array in arrays]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return GLOBALS[module, name]
        except KeyError:
            allowed = ", ".join(f"{m}.{n}" for m, n in GLOBALS)
            raise pickle.UnpicklingError(f"{module}.{name} is refused, allowed are {allowed}") from None


class _Function:
    """A callable that a pickle cannot alter."""

    __slots__ = ("call",)

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state for a function")


class _Dtype:
    """Stands for ``numpy.dtype(code, False, True)`` and its state."""

    __slots__ = ("code", "value")

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in ("f2", "f4", "f8"):
            raise pickle.UnpicklingError(f"an array of dtype {code!r}, expected f2, f4 or f8")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">"):
            raise pickle.UnpicklingError(f"a dtype of byte order {state[1]!r}")
        self.value = np.dtype(state[1] + self.code)


class _Array:
    """Stands for ``_reconstruct(ndarray, (0,), b"b")`` and its state."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError(f"an array of {kind} made of a {type(data).__name__}")
        dtype = kind.value
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(data)} bytes for an array of shape {shape} and dtype "
                                         f"{dtype}, expected {math.prod(shape) * dtype.itemsize}")
        self.value = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


GLOBALS = {
    ("numpy", "ndarray"): object(),
    ("numpy", "dtype"): _Function(_Dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Function(_Array),
    ("numpy._core.multiarray", "_reconstruct"): _Function(_Array),
}
FORMATS = {".safetensors": (_write_safetensors, _read_safetensors), ".pkl": (_write_pickle, _read_pickle)}
