"""What a derivative would be with one step of it done wrongly.

A forward is run with complex steps inside an array type that sees every operation. At one place of
the code, a *site*, the imaginary part, which carries the derivative, is changed: left out, counted
twice, kept for the last of the loop's turns only, sent through another derivative of the function.
Where that gives what a wrong backward gave, along several directions and in several cases, it says
what the backward does and at which line of the forward.

No rule of differentiation is needed: any NumPy code that keeps complex numbers can be asked.
"""

import contextlib
import functools
import linecache
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.results import Arrays
from .stand_ins import Names, replaced, stand_ins
from .subject import Sample, Subject

Place = tuple[tuple[str, int, int, str], ...]  # calls from the entry down: file, line, instruction and name of each
Site = tuple[Place, str, int | str]  # where, the operation's name, and its operand or what else is changed of it
Seen = dict[Site, int]  # sites, and how often each is passed

OURS = str(Path(__file__).resolve().parents[1]) + os.sep  # no cause is ever here
NUMPY = str(Path(np.__file__).resolve().parent)
SOFTMAX = {"softmax", "_softmax"}  # by name, or e / e.sum(): its local derivative is that of the exponent
UNARY = {np.tanh, np.exp, np.log, np.log1p, np.expm1, np.sqrt, np.square, np.sin, np.cos, np.arctan, np.sinh, np.cosh}

# factor on the derivative that enters an operation through one operand, by turn i of n
EDGES: dict[str, tuple[str, Callable[[int, int], float]]] = {
    "dropped": ("is left out", lambda i, n: 0),
    "doubled": ("is counted twice", lambda i, n: 2),
    "sign": ("has the wrong sign", lambda i, n: -1),
    "last-step": ("is counted for the last time step only", lambda i, n: i == n - 1),
    "first-step": ("is counted for the first time step only", lambda i, n: i == 0),
    "without-last": ("is left out for the last time step", lambda i, n: i < n - 1),
    "without-first": ("is left out for the first time step", lambda i, n: i > 0),
}
GUARDING = {np.add, np.maximum, np.clip}
LOGS = {np.log, np.log2, np.log10}
REDUCED = {np.add: "sum", np.maximum: "max", np.minimum: "min", np.multiply: "prod"}
TINY = 1e-3  # so small a constant beside a traced array is a guard, against a logarithm of zero say
GUARD = {"guard": "a small constant changes the forward, and the backward does not know of it",
         "forward": "a small constant changes the forward"}
LOSER = ("is given to the smaller one", {"maximum", "max"})
BARE = {
    "bare": ("is taken without the other factor", {"multiply"}),
    "transposed": ("is taken with the matrix transposed", {"matmul", "dot"}),
    "turned": ("is taken with the product transposed", {"matmul", "dot"}),
}
SAMPLES = {"samples": ("is averaged over the samples too", {"sum"})}  # of a mean over other axes
LOOPED = {"last-step", "first-step", "without-last", "without-first"}

# the derivative of a function y = f(x) of one argument, replaced: tangent of y from x, y and that of x
LOCAL: dict[str, tuple[str, Callable[[Any, Any, Any], Any] | None]] = {
    "1": ("is missing: it is taken as 1", lambda x, y, d: d),
    "y": ("is taken as y", lambda x, y, d: y * d),
    "y(1-y)": ("is taken as y (1 - y)", lambda x, y, d: y * (1 - y) * d),
    "1-y": ("is taken as 1 - y", lambda x, y, d: (1 - y) * d),
    "1-yy": ("is taken as 1 - y ** 2", lambda x, y, d: (1 - y * y) * d),
    "yy": ("is taken as y ** 2", lambda x, y, d: y * y * d),
    "1-xx": ("is taken as 1 - x ** 2, of the argument instead of the value", lambda x, y, d: (1 - x * x) * d),
    "x(1-x)": ("is taken as x (1 - x), of the argument instead of the value", lambda x, y, d: x * (1 - x) * d),
    "twice": ("is applied twice", None),
    "at y": ("is taken at the value instead of the argument", None),
    "unweighted": ("leaves out the factor y in front", lambda x, y, d: d - (y * d).sum(axis=-1, keepdims=True)),
    "axis": ("sums over the wrong axis", lambda x, y, d: y * (d - (y * d).sum(axis=0, keepdims=True))),
}


class Refused(Exception):
    """Somebody's code raised where we ran it in another way than it was written for."""


@contextlib.contextmanager
def somebodys_code() -> Iterator[None]:
    """Turns whatever the code inside raises into ``Refused``, so that our own mistakes stay visible."""
    try:
        yield
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


class Surgery:
    """The change that is being tried, and the sites seen on the way.

    Attributes:
        still: whether a maximum counts as a constant, as in the shift of a softmax, where it cancels.
    """

    still = False

    def __init__(self, site: Site | None = None, kind: str = "", turns: Seen | None = None) -> None:
        self.site, self.kind = site, kind
        self.turns = turns or {}
        self.seen: Seen = {}
        self.entry: types.CodeType | None = None
        self.held: Any = None
        self.guards: list[tuple[Site, Any]] = []
        self.logged: set[Site] = set()

    def turn(self, site: Site) -> int:
        self.seen[site] = self.seen.get(site, 0) + 1
        return self.seen[site] - 1


_current: Surgery | None = None


class Traced(np.ndarray[Any, np.dtype[Any]]):
    """A complex array every operation of which is a site."""

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        place = _place()
        name = ufunc.__name__ if method == "__call__" else REDUCED.get(ufunc, f"{ufunc.__name__}.{method}")
        raw = _altered(place, name, inputs)
        if ufunc in GUARDING:
            raw = _guarded((place, ufunc.__name__, "guard"), raw)
        if method == "at":
            return ufunc.at(*raw)
        if out is not None:
            kwargs["out"] = tuple(_plain(o) for o in out)
        if isinstance(kwargs.get("where"), Traced):
            kwargs["where"] = _plain(kwargs["where"])
        if ufunc in LOGS and _current is not None:
            _current.logged |= {site for site, a in _current.guards if np.may_share_memory(a, raw[0])}
        result = getattr(ufunc, method)(*raw, **kwargs)
        if ufunc in GUARDING and _current is not None and (place, ufunc.__name__, "guard") in _current.seen:
            _current.guards.append(((place, ufunc.__name__, "guard"), result))
        if out is not None:
            return out[0] if len(out) == 1 else out
        if _current is not None and _current.kind in SAMPLES and _current.site == (place, name, 0) and np.ndim(result):
            result = result.real + 1j * np.broadcast_to(result.imag.mean(axis=0), result.shape)
        if ufunc is np.maximum and method == "reduce" and _current is not None and _current.still:
            result = result.real + 0j
        if method == "__call__" and ufunc in (np.multiply, np.matmul):
            result = _bare(place, ufunc.__name__, raw, result)
        if ufunc is np.maximum:
            result = _lost(place, name, method, raw, kwargs, result)
        if ufunc in UNARY and method == "__call__":
            result = _local((place, ufunc.__name__, "local"), raw[0], result, ufunc)
        if ufunc is np.true_divide and method == "__call__" and _normalises(*raw):
            with np.errstate(all="ignore"):  # the exponent, up to a constant, and its derivative
                exponent = np.log(raw[0].real) + 1j * (raw[0].imag / raw[0].real)
            result = _local((place, "softmax", "local"), exponent, result)
        return _wrap(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in (np.var, np.std) and isinstance(args[0], Traced):
            return getattr(args[0], func.__name__)(*args[1:], **kwargs)
        if func is np.linalg.norm and isinstance(args[0], Traced) and len(args) == 1 and "ord" not in kwargs:
            return np.sqrt(np.square(args[0]).sum(**kwargs))  # analytic, which NumPy's is not
        args = list(args)
        flat: list[Any] = []

        def collect(x: Any) -> Any:
            if isinstance(x, (tuple, list)):
                return type(x)(collect(y) for y in x)
            if isinstance(x, Traced):
                flat.append(x)
                return _Slot(len(flat) - 1)
            return x

        def fill(x: Any) -> Any:
            if isinstance(x, (tuple, list)):
                return type(x)(fill(y) for y in x)
            return raw[x.index] if isinstance(x, _Slot) else x

        args = [collect(a) for a in args]
        kwargs = {k: collect(v) for k, v in kwargs.items()}
        place = _place()
        raw = _altered(place, func.__name__, flat)
        result = func(*[fill(a) for a in args], **{k: fill(v) for k, v in kwargs.items()})
        if func is np.dot and len(raw) == 2:
            result = _bare(place, "dot", raw, result)
        if func in (np.add.at, np.copyto, np.put_along_axis):
            return result
        return tuple(map(_wrap, result)) if isinstance(result, (tuple, list)) else _wrap(result)

    def __getitem__(self, index: Any) -> Any:
        result = super().__getitem__(index if not isinstance(index, Traced) else _plain(index))
        if _current is not None and self.dtype.kind == "c":
            site = (_place(), "index", 0)
            turn = _current.turn(site)
            if site == _current.site:
                return _wrap(_scaled(_plain(np.asarray(result)), turn))
        return _wrap(result)

    def __setitem__(self, index: Any, value: Any) -> None:
        if _current is not None and isinstance(value, np.ndarray) and value.dtype.kind == "c":
            site = (_place(), "store", 0)
            turn = _current.turn(site)
            if site == _current.site:
                value = _scaled(_plain(value), turn)
        super().__setitem__(index, _plain(value))

    def dot(self, other: Any, out: Any = None) -> Any:
        return np.dot(self, other)

    # NumPy's stubs have overloads of these two
    def var(self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,  # type: ignore[override]
            keepdims: Any = False) -> Any:
        """As NumPy's, but analytic: NumPy's takes the squared modulus of complex numbers."""
        away = self - self.mean(axis=axis, keepdims=True)
        count = self.size if axis is None else np.prod([self.shape[a] for a in np.atleast_1d(axis)])
        return (away * away).sum(axis=axis, keepdims=keepdims) / (count - ddof)

    def std(self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,  # type: ignore[override]
            keepdims: Any = False) -> Any:
        return np.sqrt(self.var(axis, dtype, out, ddof, keepdims))


class _Slot:
    def __init__(self, index: int) -> None:
        self.index = index


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Traced) else x


def _wrap(x: Any) -> Any:
    return np.asarray(x).view(Traced) if isinstance(x, (np.ndarray, np.complexfloating)) else x


def _altered(place: Place, name: str, operands: Iterable[Any], keep: bool = False) -> list[Any]:
    """The operands as plain arrays (or as they are, to ``keep``), the one that is operated on changed."""
    raw = []
    for k, x in enumerate(operands):
        plain = _plain(x)
        if _current is not None and isinstance(x, (Traced, np.complexfloating)) and plain.dtype.kind == "c":
            site = (place, name, k)
            turn = _current.turn(site)
            if site == _current.site:
                plain = _scaled(plain, turn)
                x = plain.view(Traced) if isinstance(plain, np.ndarray) else plain
        raw.append(x if keep else plain)
    return raw


def _guarded(site: Site, operands: list[Any]) -> list[Any]:
    """The operands, a tiny constant among them taken as zero where that is being tried."""
    tiny = [k for k, x in enumerate(operands) if np.ndim(x) == 0 and np.isrealobj(x) and 0 < abs(float(x)) <= TINY]
    if _current is None or not tiny:
        return operands
    _current.turn(site)
    return [0.0 if k in tiny and site == _current.site else x for k, x in enumerate(operands)]


def _scaled(x: Any, turn: int) -> Any:
    assert _current is not None and _current.site is not None
    if _current.kind in BARE:
        _current.held = x
        return x.real + 0j  # what passes instead is added to the result
    if _current.kind not in EDGES:
        return x
    factor = float(EDGES[_current.kind][1](turn, _current.turns.get(_current.site, 1)))
    return x.real + 1j * (factor * x.imag)


def _bare(place: Place, name: str, operands: Sequence[Any], result: Any) -> Any:
    """The result of a product, one operand's derivative passed on without the other or with it transposed."""
    site = _current.site if _current is not None else None
    if _current is None or site is None or _current.kind not in BARE or _current.held is None or (
            site[:2] != (place, name) or not isinstance(site[2], int)):
        return result
    own, other = _current.held.imag, operands[1 - site[2]].real
    _current.held = None
    if _current.kind == "bare":
        return result + 1j * np.broadcast_to(own, np.shape(result)) if np.ndim(own) else result
    if _current.kind == "turned":
        product = own @ other if site[2] == 0 else other @ own
        square = np.ndim(product) > 1 and product.shape[-1] == product.shape[-2]
        return result + 1j * np.swapaxes(product, -1, -2) if square else result
    if other.ndim != 2 or other.shape[0] != other.shape[1]:
        return result
    return result + 1j * (own @ other.T if site[2] == 0 else other.T @ own)


def _lost(place: Place, name: str, method: str, operands: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
    """The result of a maximum, the derivative of the smaller argument passed on where that is being tried."""
    if _current is None or _current.site != (place, name, "loser") or result.dtype.kind != "c":
        if _current is not None and np.iscomplexobj(result):
            _current.turn((place, name, "loser"))
        return result
    if method == "reduce":
        axis = kwargs.get("axis", 0)
        axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
        if axis is not None and not isinstance(axis, int):
            return result
        a = operands[0] if axis is not None else operands[0].ravel()
        least = np.expand_dims(np.argmin(a.real, axis=axis or 0), axis or 0)
        lost = np.take_along_axis(a, least, axis or 0).imag.reshape(np.shape(result))
    else:
        first, second = np.broadcast_arrays(*operands)
        lost = np.where(first.real >= second.real, second.imag, first.imag)
    return result.real + 1j * lost


def _normalises(above: Any, below: Any) -> bool:
    """Whether a division is that of a softmax: of positive numbers by their sums along the last axis."""
    return (isinstance(above, np.ndarray) and isinstance(below, np.ndarray) and above.dtype.kind == "c"
            and above.ndim > 0 and below.shape in ((*above.shape[:-1], 1), above.shape) and bool((above.real > 0).all())
            and np.allclose(np.broadcast_to(below.real, above.shape), above.real.sum(axis=-1, keepdims=True), 1e-9))


def _local(site: Site, x: Any, y: Any, function: Any = None) -> Any:
    """The result of a function of one argument, its derivative replaced where that is being tried."""
    if _current is None or not isinstance(x, np.ndarray) or np.shape(y) != x.shape or x.dtype.kind != "c":
        return y
    _current.turn(site)
    if site != _current.site or _current.kind not in LOCAL:
        return y
    x, y = _plain(x), _plain(np.asarray(y))
    if _current.kind == "at y":
        if function is None:
            return y
        with np.errstate(all="ignore"):
            return y.real + 1j * (function(y.real + 1e-30j).imag / 1e-30 * x.imag)
    if _current.kind == "twice":
        with np.errstate(all="ignore"):
            ratio = np.where(x.imag != 0, y.imag / np.where(x.imag == 0, 1, x.imag), 0)
        return y.real + 1j * (ratio * y.imag)
    tangent = LOCAL[_current.kind][1]
    assert tangent is not None  # the two without one stand above
    return y.real + 1j * tangent(x.real, y.real, x.imag)


def _place() -> Place:
    """Where in the code this operation stands: the calls from the entry down, each with its position."""
    if _current is None:
        return ()
    frame: types.FrameType | None = sys._getframe(2)
    found = []
    while frame is not None and frame.f_code is not _current.entry:
        name = frame.f_code.co_filename
        if not name.startswith((OURS, NUMPY)):
            found.append((name, frame.f_lineno, frame.f_lasti, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(found)


def _helper(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if args and isinstance(args[0], Traced) and isinstance(result, np.ndarray):
            return _wrap(_local((_place(), function.__name__, "local"), args[0], result))
        return result

    return call


def _method(kind: type, function: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's forward, whose arguments are sites: the state that goes from step to step, say."""
    @functools.wraps(function)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        place = _place()
        if place:
            args = tuple(_altered(place, f"{kind.__name__}.forward", args, keep=True))
        return function(self, *args, **kwargs)

    return forward


@contextlib.contextmanager
def _methods(spaces: Iterable[Names]) -> Iterator[None]:
    """Within it, the arguments of the layers that a layer is made of are sites."""
    kinds: set[Any] = {v for space in spaces for v in space.values()
             if isinstance(v, type) and isinstance(vars(v).get("forward"), types.FunctionType)}
    before = {kind: vars(kind)["forward"] for kind in kinds}
    for kind, function in before.items():
        kind.forward = _method(kind, function)
    try:
        yield
    finally:
        for kind, function in before.items():
            kind.forward = function


_traced = stand_ins(lambda a: a.view(Traced))
_helpers: dict[Any, Any] = {}


def _watched(value: Any) -> Any:
    """What stands for a value while it is traced: NumPy, its creators and plain functions."""
    if isinstance(value, types.FunctionType) and not value.__code__.co_filename.startswith(NUMPY):
        if value not in _helpers:
            _helpers[value] = _helper(value)
        return _helpers[value]
    return _traced(value)


class Tracer:
    """The derivatives of one sample along directions, under any change.

    Args:
        subject: whose forward is traced.
        sample: what it is given.
        cotangents: of the outputs.
    """

    def __init__(self, subject: Subject, sample: Sample, cotangents: Sequence[Any]) -> None:
        self.subject, self.sample, self.cotangents = subject, sample, cotangents
        self.still = False
        self.logged: set[Site] = set()

    def hold(self, expected: Arrays) -> None:
        """Makes sure that, with no change, these gradients come out.

        Raises:
            Refused: the code does not keep the traced numbers.
        """
        rng = np.random.default_rng(23)
        probe = {name: rng.uniform(-1, 1, a.shape) for name, a in expected.items()}
        right = sum(float(np.sum(a * probe[name])) for name, a in expected.items())
        size = sum(float(np.abs(a).sum()) for a in expected.values())
        for self.still in (True, False):
            if abs(self.run(Surgery(), probe) - right) <= 1e-4 * (size + 1e-300):
                break
        else:
            raise Refused("the forward does not keep the traced numbers")

    def sites(self) -> Seen:
        """The sites of the forward, and how often each is passed."""
        surgery = Surgery()
        self.outputs(surgery, {})
        named = {site for site in surgery.seen if site[2] == "guard" and site[0] and "log" in _text(*site[0][0][:2])}
        self.logged = surgery.logged | named
        return surgery.seen

    def run(self, surgery: Surgery, vectors: Arrays) -> float:
        """The derivative along a direction with a change in force."""
        return float(sum((c * np.asarray(o).imag).sum() for c, o in
                         zip(self.cotangents, self.outputs(surgery, vectors), strict=True)) / 1e-30)

    @somebodys_code()
    def outputs(self, surgery: Surgery, vectors: Arrays | None = None) -> tuple[NDArray[Any], ...]:
        """The outputs with a change in force, the derivative in their imaginary part."""
        global _current
        vectors = vectors or {}
        sample = self.sample

        def cast(a: NDArray[Any]) -> NDArray[Any]:
            return a.astype(np.complex128).view(Traced) if a.dtype.kind == "f" else a

        surgery.entry, surgery.still = Tracer._call.__code__, self.still
        with warnings.catch_warnings(), np.errstate(all="ignore"), _methods(self.subject.namespaces), \
                replaced(self.subject.namespaces, _watched):
            warnings.simplefilter("ignore")
            layer = self.subject.make(sample, cast)
            own = list(getattr(layer, "params", []))
            for i, name in zip(self.subject.places(layer, sample), sample.params, strict=True):
                if name in vectors:
                    np.asarray(own[i]).imag[...] = 1e-30 * vectors[name]
            arrays = {n: cast(np.array(a)) for n, a in (sample.inputs | sample.states).items()}
            for name, v in vectors.items():
                if name in arrays:
                    np.asarray(arrays[name]).imag[...] = 1e-30 * v
            if sample.states:
                layer.set_state(*(arrays[n] for n in sample.states))
            _current = surgery
            try:
                return self._call(layer, [arrays[n] for n in sample.inputs])
            finally:
                _current = None

    def _call(self, layer: Any, inputs: Iterable[Any]) -> tuple[NDArray[Any], ...]:
        return self.subject.forward(layer, inputs)


def _text(file: str, line: int) -> str:
    return linecache.getline(file, line).strip()


def describe(site: Site, kind: str, canonical: bool = False) -> str:
    """In words, what a change at a site means, and where: in the canonical layer, or the user's own code."""
    place, name, operand = site
    file, line, *_ = next((p for p in place if p[3] not in ("sigmoid", "softmax")), place[0]) if place else ("", 0)
    text = _text(file, line)
    where = f", in the canonical layer's `{text}`" if canonical else f", at line {line}" + f": `{text}`" * bool(text)
    if operand == "guard":
        return f"{GUARD[kind]}{where}"
    if operand == "loser":
        return f"the path through {name} {LOSER[0]}{where}"
    if operand == "local":
        return f"the derivative of {name} {LOCAL[kind][0]}{where}"
    if name in ("index", "store"):
        return f"the path through an element taken or stored {EDGES[kind][0]}{where}"
    assert isinstance(operand, int)
    if name.endswith(".forward"):
        return f"the path through argument {operand + 1} of {name} {EDGES[kind][0]}{where}"
    if name in REDUCED.values():
        return f"the path through {name} {(EDGES | SAMPLES)[kind][0]}{where}"
    return f"the path through operand {operand + 1} of {name} {(EDGES | BARE)[kind][0]}{where}"


def candidates(seen: Seen) -> Iterator[tuple[Site, str]]:
    """All changes worth trying in somebody's code, those of whole functions first."""
    seen = {site: turns for site, turns in seen.items() if site[0]}
    for site in seen:
        if site[2] == "guard":
            yield site, "guard"
    for site in seen:
        if site[2] == "local":
            for kind in LOCAL:
                yield site, kind
    yield from ((site, "loser") for site in seen if site[2] == "loser")
    edges = {site: turns for site, turns in seen.items() if site[2] not in ("local", "guard", "loser")}
    for coarse in (True, False):
        for site, turns in edges.items():
            if site[1].endswith(".forward") is not coarse:
                continue
            for kind in EDGES:
                if turns > 1 or kind not in LOOPED:
                    yield site, kind
            for kind, (_, names) in (BARE | SAMPLES).items():
                if site[1] in names:
                    yield site, kind
