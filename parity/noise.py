"""Monte Carlo arithmetic: NumPy code run with every operation a little wrong.

An array of type ``Noisy`` multiplies the result of every floating operation, and each operand of a
matrix product or sum, by ``1 + 2u d`` with ``d`` uniform in [-1, 1] and ``u`` the unit roundoff of
the arithmetic that is imitated. How far such copies of a computation stray from the exact one is
how far an honest computation in that arithmetic may stray.

Source: Parker, Monte Carlo Arithmetic, 1997; Denis, de Oliveira Castro and Petit, Verificarlo, 2016.
"""

import contextlib
import hashlib

import numpy as np

PRODUCTS = {np.einsum, np.dot, np.inner, np.outer, np.tensordot, np.vdot, np.linalg.multi_dot}
_ERRORS = np.random.Generator(np.random.PCG64(20261120)).uniform(-2, 2, 1 << 16)
_factors: dict = {}


def factors(unit_roundoff, dtype):
    """The pool of factors 1 + 2u d in a dtype, made once."""
    key = unit_roundoff, dtype
    if key not in _factors:
        _factors[key] = (1 + unit_roundoff * _ERRORS).astype(dtype)
    return _factors[key]


class Noise:
    """A stream of relative errors of at most 2u, and the rounding of a format foreign to NumPy.

    Args:
        unit_roundoff: u of the arithmetic imitated.
        seed: text from which the stream follows.
        underflow: results below this size become zero, as in arithmetic without subnormals.
        round: function of an array that rounds it to the format; None where the dtype itself does.
    """

    current = None

    def __init__(self, unit_roundoff, seed, underflow=0.0, round=None):
        self.unit_roundoff = unit_roundoff
        self.position = int.from_bytes(hashlib.blake2s(seed.encode(), digest_size=4).digest(), "little")
        self.underflow = underflow
        self.round = round

    def __call__(self, x):
        """The array, each entry off by its own relative error, in its own dtype."""
        pool = factors(self.unit_roundoff, x.real.dtype)
        size = x.size
        start = self.position % len(pool)
        self.position += size + 1  # the odd one keeps repeated shapes out of step with the pool
        factor = pool[start : start + size]
        if len(factor) < size:
            factor = np.resize(np.concatenate((factor, pool)), size)
        x = np.asarray(x * factor.reshape(x.shape))
        if self.underflow:
            x[np.abs(x) < self.underflow] = 0
        return x if self.round is None else self.round(x)


@contextlib.contextmanager
def noise(unit_roundoff, seed, **options):
    """Within it, ``Noisy`` arrays err as ``Noise`` of the same arguments says."""
    before, Noise.current = Noise.current, Noise(unit_roundoff, seed, **options)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        Noise.current = before


class Noisy(np.ndarray):
    """An ndarray whose operations err by the current ``noise``, and not at all outside one."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        raw = [x.view(np.ndarray) if type(x) is Noisy else x for x in inputs]
        if method == "at":
            return ufunc.at(*raw[:-1], _perturbed(raw[-1]))
        if ufunc is np.matmul or (ufunc is np.add and method != "__call__"):
            raw = [_perturbed(x) for x in raw]
        if isinstance(kwargs.get("where"), Noisy):
            kwargs["where"] = _plain(kwargs["where"])
        if out is not None:
            kwargs["out"] = tuple(_plain(o) for o in out)
        result = getattr(ufunc, method)(*raw, **kwargs)
        if out is None:
            return _map(lambda r: _noisy(_perturbed(r)), result)
        for target in kwargs["out"]:
            target[...] = _perturbed(target)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func, types, args, kwargs):
        if func in PRODUCTS:
            args, kwargs = _map(lambda x: _perturbed(_plain(x)), (args, kwargs))
            return _map(lambda r: _noisy(_perturbed(r)), func(*args, **kwargs))
        return _map(_noisy, super().__array_function__(func, types, args, kwargs))

    def dot(self, other, out=None):
        return np.dot(self, other, out)


def _plain(x):
    return x.view(np.ndarray) if isinstance(x, Noisy) else x


def _floating(x):
    return isinstance(x, (np.ndarray, np.inexact)) and x.dtype.kind in "fc"


def _perturbed(x):
    return Noise.current(np.asarray(x)) if Noise.current and _floating(x) else x


def _noisy(x):
    return np.asarray(x).view(Noisy) if _floating(x) and not isinstance(x, Noisy) else x


def _map(function, x):
    """The function over an array or over nested tuples, lists and dicts of them."""
    if isinstance(x, (tuple, list)) and not hasattr(x, "_fields"):
        return type(x)(_map(function, y) for y in x)
    if isinstance(x, dict):
        return {key: _map(function, y) for key, y in x.items()}
    return function(x)
