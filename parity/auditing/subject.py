"""Somebody's layer, made and run in any dtype: a class, an object, or two plain functions."""

import copy
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.case import Case, Shape
from ..judge.noise import Noisy
from ..spec.axes import axes
from ..spec.results import Arrays, Gradients, listed
from ..spec.spec import Spec
from .stand_ins import complex_buffers, namespaces

Cast = Callable[[NDArray[Any]], Any]  # what stands for an array that a layer is given
DRAWN = 97  # numbers of a module's own generators that lie between a forward and its backward


@dataclass
class Sample:
    """What a layer is given once.

    Attributes:
        id: text that names it; for a layer of the catalogue, a case id.
        params, inputs, states: dict from name to array, float64 or not floating.
        cotangents: dict by output name; drawn from the seed where the outputs have another shape.
        options: of the constructor or set as attributes.
        sizes: size of each axis letter.
        warm: inputs of an earlier call of a stateful layer; empty for none.
        words: what is special about it, "with N = 1"; empty for nothing.
        case: the ``parity.cases.case.Case``; None for inputs that somebody gave.
        seed: of what is drawn.
    """

    id: str
    params: Arrays
    inputs: Arrays
    states: Arrays = field(default_factory=dict)
    cotangents: Arrays = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    warm: Arrays = field(default_factory=dict)
    words: str = ""
    case: Case | None = None
    seed: int = 0

    @property
    def drawn(self) -> Case:
        """The case, of a layer of the catalogue."""
        assert self.case is not None
        return self.case

    def point(self) -> Arrays:
        """Everything that is given, by the name of its gradient."""
        return self.params | self.states | self.inputs

    def fresh(self) -> list[NDArray[Any]]:
        """Copies of the inputs, in their memory layout."""
        return [a.copy(order="K") if a.dtype.kind != "O" else a for a in self.inputs.values()]

    def mapped(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> "Sample":
        """The same with a function applied to every floating array."""
        def of(group: Arrays) -> Arrays:
            return {name: function(a) if a.dtype.kind == "f" else a for name, a in group.items()}

        return replace(self, params=of(self.params), inputs=of(self.inputs), states=of(self.states),
                       warm=of(self.warm), cotangents=of(self.cotangents))


class FunctionLayer:
    """Two plain functions as a layer of the textbook protocol.

    ``forward(*inputs, *params)`` gives outputs and, last, a cache; ``backward(*cotangents, cache)``
    gives the gradients in the order of the arguments of ``forward``; integer ones may be left out.
    """

    title = ""
    param_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any],
                 params: Iterable[NDArray[Any]]) -> None:
        self.functions = forward, backward
        self.params = list(params)
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, *inputs: Any) -> Any:
        found = self.functions[0](*inputs, *self.params)
        if not isinstance(found, tuple) or len(found) < 2:
            raise TypeError("forward gave one result, expected its output and a cache for backward: `return y, cache`")
        *outputs, self.cache = found
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def backward(self, *cotangents: Any) -> tuple[Any, ...]:
        found = listed(self.functions[1](*cotangents, self.cache))
        split = len(found) - len(self.params)
        if split < 0:
            raise ValueError(f"backward gave {len(found)} gradients for {len(self.params)} params")
        for i, value in enumerate(found[split:]):
            if np.shape(value) == self.grads[i].shape:
                self.grads[i][...] = value
            else:  # never broadcast: the audit reports its shape
                self.grads[i] = np.array(value)
        return found[:split]


class Subject:
    """What is audited.

    Args:
        target: a class, or an object with ``forward`` and ``backward``.
        spec: of its twin; None where there is none.
    """

    base: Sample  # that was examined first

    def __init__(self, target: Any, spec: Spec | None = None) -> None:
        self.target, self.spec = target, spec
        self.is_class = inspect.isclass(target)
        self.name = target.__name__ if self.is_class else type(target).__name__
        self.kind = target if self.is_class else type(target)
        self.order: list[int] | None = None
        self.discrete: list[bool] = []  # of each output, whether it is: integers, booleans
        self.reshaped: dict[str, tuple[Shape, Shape]] = {}  # by gradient, the shape that it came in, and its own
        self.models: dict[Any, Any] = {}
        functions = getattr(target, "functions", ())
        written = getattr(target, "kind", None) or self.kind  # behind what stands for it
        self.namespaces = namespaces(written, functions)
        self.generators = [(g, _state(g)) for thing in (written, *functions) for g in _generators(thing)]
        self.accepted = arguments(getattr(self.kind, "forward", None), 1)
        # a loss that starts the chain itself
        self.without_cotangent = getattr(
            target, "without_cotangent", arguments(getattr(self.kind, "backward", None), 1) == [])

    @property
    def entry(self) -> Spec:
        """The catalogue entry of its twin, where it has one."""
        assert self.spec is not None
        return self.spec

    def takes(self) -> list[str]:
        """Names of the inputs of the spec that ``forward`` accepts."""
        spec, names = self.entry, list(self.entry.inputs)
        if self.accepted is None:
            return names
        # what may be left out is passed only to an argument of that name, not to whatever stands there
        needed = [n for n in names if n not in spec.optional and n not in spec.drawn]
        return needed[: len(self.accepted)] + [n for n in names if n not in needed and n in self.accepted]

    def misfit(self) -> str:
        """Why it is not the twin whose name it has, by the number of its arguments; empty where it may be."""
        if not callable(getattr(self.kind, "forward", None)) or not callable(getattr(self.kind, "backward", None)):
            return "it has no forward and backward"
        spec = self.entry
        needed = [n for n in spec.inputs if n not in spec.optional and n not in spec.drawn]
        wanted = [("forward", self.kind.forward, needed)]
        if self.is_class:
            sizes = axes(spec.size_arguments)[1] if spec.size_arguments else list(spec.params)
            wanted.append(("its constructor", self.kind.__init__, sizes))
        for what, function, names in wanted:
            taken = arguments(function, 1)
            least = sum(n not in spec.options for n in arguments(function, 1, needed=True) or [])
            if taken is not None and not least <= max(len(names), len(spec.inputs) * (what == "forward")):
                return f"{what} asks for {least} arguments, its twin's for {len(names)}: {', '.join(names) or 'none'}"
            if taken is not None and len(taken) < len(names):
                return f"{what} takes {len(taken)} arguments, its twin's {len(names)}: {', '.join(names)}"
        return ""

    def unmade(self, sample: Sample) -> str:
        """Why a class cannot be made with its twin's parameters; empty where it can."""
        if not self.is_class:
            return ""
        try:
            self.places(self.make(sample), sample)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def takes_states(self, count: int) -> bool:
        """Whether it has a ``set_state`` for that many states."""
        if not hasattr(self.kind, "set_state"):
            return False
        names = arguments(self.kind.set_state, 1)
        return names is None or len(names) >= count

    def constructor(self) -> list[str] | None:
        """Names of the arguments of the constructor; None for any."""
        return arguments(self.kind.__init__, 1) if self.is_class else []

    def has_option(self, name: str) -> bool:
        """Whether an option can be set, by constructor or as an attribute."""
        names = self.constructor()
        return names is None or name in names or hasattr(self._example, name)

    @property
    def _example(self) -> Any:
        return self.target if not self.is_class else self.__dict__.get("example", self.kind)

    def steady(self, again: bool = False) -> None:
        """Puts all randomness back to where it was; ``again``: to where a forward may have left it, so that a mask
        drawn a second time is another one."""
        np.random.seed(int(again))
        random.seed(int(again))
        for generator, state in self.generators:
            _set_state(generator, state)
            if again:
                generator.random(DRAWN)

    def make(self, sample: Sample, cast: Cast = np.asarray) -> Any:
        """A fresh layer with the sample's parameters, options, state and earlier call."""
        self.steady()
        params = [cast(np.array(p)) for p in sample.params.values()]
        if self.is_class:
            names = self.constructor()
            options = {k: v for k, v in sample.options.items() if names is None or k in names}
            if self.spec is not None and self.spec.size_arguments:
                sizes = tuple(sample.sizes[x] for x in axes(self.spec.size_arguments)[1])
                layer = adopt(self._model(sizes, options), params)
            else:
                layer = self.kind(*params, **options)
            self.example = layer
        else:
            layer = adopt(self.target, params)
        for name, value in sample.options.items():
            if hasattr(layer, name):
                setattr(layer, name, value)
        if sample.warm:
            layer.forward(*_cast(sample.warm.values(), cast))
        if sample.states:
            layer.set_state(*_cast(sample.states.values(), cast))
        return layer

    def _model(self, sizes: tuple[int, ...], options: dict[str, Any]) -> Any:
        """A model of these sizes, made once: its own random parameters never count."""
        key = sizes, tuple(options.items())
        if key not in self.models:
            self.models[key] = self.kind(*sizes, **options)
        return self.models[key]

    def places(self, layer: Any, sample: Sample) -> list[int]:
        """Where each parameter of the sample stands in ``layer.params``.

        Raises:
            ValueError: one is not there.
        """
        own = list(getattr(layer, "params", []))
        if self.order is None or len(self.order) != len(sample.params):
            if len(own) != len(sample.params):
                raise ValueError(f"params has {len(own)} arrays, expected {len(sample.params)}: "
                                 f"{', '.join(sample.params)}")
            order: list[int] = []
            for name, value in sample.params.items():
                same = [i for i, p in enumerate(own) if i not in order and np.shape(p) == value.shape
                        and np.allclose(p, value, 1e-5, 1e-6)]
                if not same:
                    raise ValueError(f"params has no array equal to {name} {value.shape}, as it was given")
                order.append(same[0])
            self.order = order
        return self.order

    def forward(self, layer: Any, inputs: Iterable[Any]) -> tuple[NDArray[Any], ...]:
        """The outputs as a tuple of arrays."""
        self.steady()
        outputs = tuple(np.asanyarray(o) for o in listed(layer.forward(*inputs)))
        self.discrete = [o.dtype.kind in "biu" for o in outputs]
        return outputs

    def backward(self, layer: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        """What ``backward`` returned, as a tuple, trailing None left out; what is discrete has no cotangent."""
        self.steady(again=True)
        if not all(self.discrete):
            cotangents = [c for i, c in enumerate(cotangents) if not any(self.discrete[i : i + 1])]
        found = layer.backward() if self.without_cotangent else layer.backward(*cotangents)
        return () if found is None else listed(found)


class Function:
    """A subject's forward as a function of named arrays of any dtype; what ``Differentiator`` wants."""

    def __init__(self, subject: Subject, sample: Sample) -> None:
        self.subject, self.sample = subject, sample
        self.layers: dict[Any, Any] = {}

    def __call__(self, arrays: Arrays) -> tuple[NDArray[Any], ...]:
        usual: tuple[np.dtype[Any], type[NDArray[Any]]] = np.dtype(float), np.ndarray
        dtype, kind = next(((a.dtype, type(a)) for a in arrays.values() if a.dtype.kind in "fc"), usual)
        if dtype.kind == "c":
            with complex_buffers(self.subject.namespaces):
                return self._call(arrays, dtype, kind)
        return self._call(arrays, dtype, kind)

    def _call(self, arrays: Arrays, dtype: np.dtype[Any], kind: type[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        subject = self.subject
        kept = self.layers.get((dtype, kind))
        layer: Any = kept
        if kept is None or kept is False:
            layer = subject.make(self.sample, lambda a: a.astype(dtype).view(kind) if a.dtype.kind == "f" else a)
        own = list(getattr(layer, "params", []))
        for i, name in zip(subject.places(layer, self.sample), self.sample.params, strict=True):
            own[i][...] = arrays[name]
        if self.sample.states:
            layer.set_state(*(arrays[n] for n in self.sample.states))
        outputs = subject.forward(layer, [arrays[n].copy() for n in self.sample.inputs])
        if kept is None:  # where a second call on the same object gives the same, the object is used again
            outputs = tuple(o.copy() for o in outputs)
            if self.sample.states:
                layer.set_state(*(arrays[n] for n in self.sample.states))
            again = subject.forward(layer, [arrays[n].copy() for n in self.sample.inputs])
            same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(outputs, again, strict=True))
            self.layers[dtype, kind] = layer if same else False
        return outputs


def gradients(subject: Subject, sample: Sample, layer: Any, returned: Sequence[Any]) -> Gradients:
    """The gradients by name, what ``backward`` returned first, then those in ``grads``, then of states.

    Raises:
        ValueError: ``backward`` returned another number of gradients than there are inputs.
    """
    constant = getattr(layer, "constant", ())
    floating = [n for n, a in sample.inputs.items() if a.dtype.kind == "f" and n not in constant]
    returned = list(returned)
    if len(returned) == len(sample.inputs) != len(floating):
        returned = [g for g, a in zip(returned, sample.inputs.values(), strict=True) if a.dtype.kind == "f"]
    while len(returned) > len(floating) and returned[-1] is None:
        returned.pop()
    if len(returned) != len(floating):
        raise ValueError(f"backward returned {len(returned)} gradient{'s' * (len(returned) != 1)}, expected "
                         f"{len(floating)}: {', '.join(floating) or 'none'}")
    found: Gradients = dict(zip(floating, returned, strict=True))
    grads = list(getattr(layer, "grads", []))
    if sample.params:
        places = subject.places(layer, sample)
        if len(grads) != len(sample.params):
            raise ValueError(f"grads has {len(grads)} arrays, expected {len(sample.params)}, one for each of params")
        found |= {n: grads[i] for i, n in zip(places, sample.params, strict=True)}
    for name in sample.states:
        if getattr(layer, f"d{name}", None) is not None:
            found[name] = getattr(layer, f"d{name}")
    point, subject.reshaped = sample.point(), {}
    for name, g in found.items():
        found[name] = g = None if g is None else np.asanyarray(g)
        if g is not None and g.shape != (wanted := point[name].shape) and same_order(g.shape, wanted):
            subject.reshaped[name] = g.shape, wanted
            found[name] = g.reshape(wanted)
    return found


def same_order(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes are of the same entries in the same order: axes of one entry aside, one joins neighbouring
    axes of the other."""
    ends, others = ([int(n) for n in np.cumprod([n for n in shape if n != 1])] for shape in (a, b))
    return ends[-1:] == others[-1:] and (set(ends) <= set(others) or set(others) <= set(ends))


def quantities(subject: Subject, sample: Sample, cotangents: Sequence[Any] | None = None,
               cast: Cast = np.asarray) -> tuple[tuple[NDArray[Any], ...], Gradients]:
    """Outputs (a tuple) and gradients (a dict) of one call of forward and backward."""
    layer = subject.make(sample, cast)
    outputs = tuple(np.array(o) for o in subject.forward(layer, _cast(sample.inputs.values(), cast)))
    if cotangents is None:
        cotangents = draw_cotangents(subject, sample, outputs)
    returned = subject.backward(layer, _cast(cotangents, cast))
    found = gradients(subject, sample, layer, returned)
    return outputs, {n: None if g is None else np.array(g) for n, g in found.items()}


def draw_cotangents(subject: Subject, sample: Sample, outputs: Iterable[NDArray[Any]]) -> list[Any]:
    """Random signed cotangents of the outputs' shapes, the case's own where they fit; zero for what is discrete."""
    names = list(subject.spec.outputs) if subject.spec is not None else []
    rng = np.random.default_rng([sample.seed, 7])
    found: list[Any] = []
    for i, o in enumerate(outputs):
        own = sample.cotangents.get(names[i]) if i < len(names) else None
        drawn = np.ones(o.shape) if subject.without_cotangent else rng.standard_normal(o.shape)
        fits = own is not None and own.shape == o.shape and not subject.without_cotangent
        found.append(np.array(own if fits else drawn * (o.dtype.kind not in "biu"))[()])
    return found


def copies(cotangents: Iterable[Any]) -> list[Any]:
    """Copies of cotangents; a number stays one."""
    return [np.array(c)[()] for c in cotangents]


def noisy(array: NDArray[Any]) -> NDArray[Any]:
    """The array as one whose operations err."""
    return np.array(array).view(Noisy) if np.asarray(array).dtype.kind == "f" else array


def adopt(layer: Any, params: Sequence[NDArray[Any]]) -> Any:
    """A deep copy of a layer in which new arrays stand wherever its parameters stood, views included.

    Raises:
        ValueError: another number of parameters, or other shapes.
    """
    own = list(getattr(layer, "params", []))
    if [np.shape(p) for p in own] != [p.shape for p in params]:
        raise ValueError(f"params has shapes {[np.shape(p) for p in own]}, expected {[p.shape for p in params]}")
    memo: dict[int, Any] = {}
    grads = list(getattr(layer, "buffers", getattr(layer, "grads", [])))
    for old, new in zip(own, params, strict=True):
        memo[id(old)] = new
    for old, new in zip(grads, params, strict=False):
        if isinstance(old, np.ndarray) and old.shape == new.shape:
            memo[id(old)] = np.zeros_like(new, subok=False)
    for view in kept_arrays(layer).values():
        for old, new in zip(own, params, strict=True):
            if id(view) not in memo and view.base is not None and view.base is old and old.flags.c_contiguous and (
                    view.dtype == old.dtype):
                offset = view.__array_interface__["data"][0] - old.__array_interface__["data"][0]
                strides = tuple(s // old.itemsize * new.itemsize for s in view.strides)
                memo[id(view)] = np.ndarray(view.shape, new.dtype, new, offset // old.itemsize * new.itemsize, strides)
    return copy.deepcopy(layer, memo)


def _cast(arrays: Iterable[NDArray[Any]], cast: Cast) -> list[Any]:
    return [cast(np.array(a))[()] if np.ndim(a) == 0 else cast(np.array(a)) for a in arrays]


def left_out(before: Arrays, after: Arrays, known: Iterable[Any]) -> dict[str, str]:
    """Arrays that look like a parameter with its gradient, and are not among those that are judged.

    Args:
        before, after: what ``kept_arrays`` gave of one layer, before a forward and after the backward.
        known: the arrays that are judged.

    Returns:
        dict from the name of the parameter to that of its gradient.
    """
    found: dict[str, str] = {}
    judged = [a for a in known if isinstance(a, np.ndarray)]
    for path, array in before.items():
        place, _, name = path.rpartition(".")
        holder, _, role = place.rpartition(".")
        partners = [f"{place}.{form.format(name)}" for form in GRADIENTS]
        if role in PARAMETERS:  # a dictionary or a list of parameters beside one of gradients
            partners += [f"{holder}.{other}.{form}" for other in HOLDERS for form in (name, f"d{name}")]
        partner = next((p for p in partners if p in after and np.shape(after[p]) == array.shape), None)
        same = after.get(path) is array
        if partner and same and not any(np.may_share_memory(array, a) for a in judged):
            found[path.lstrip(".")] = partner.lstrip(".")
    return found


GRADIENTS = ("d{}", "d_{}", "grad_{}", "{}_grad", "{}_gradient", "{}_update", "D{}")
PARAMETERS = ("params", "parameters", "weights", "layers", "p")
HOLDERS = ("grads", "gradients", "grad", "dparams", "derivatives", "g")


def kept_arrays(thing: Any, path: str = "", depth: int = 4, seen: tuple[int, ...] = ()) -> Arrays:
    """Floating arrays that an object keeps, by path: attributes, dictionaries, lists, objects inside."""
    if isinstance(thing, np.ndarray):
        return {path: thing} if thing.dtype.kind == "f" and thing.size else {}
    if not depth or id(thing) in seen or inspect.isclass(thing) or inspect.ismodule(thing):
        return {}
    if isinstance(thing, dict):
        inside: dict[Any, Any] = thing
    elif isinstance(thing, (list, tuple)):
        inside = dict(enumerate(thing))
    else:
        inside = getattr(thing, "__dict__", {})
    found: Arrays = {}
    for name, value in list(inside.items()):
        found |= kept_arrays(value, f"{path}.{name}", depth - 1, (*seen, id(thing)))
    return found


def arguments(function: Any, skip: int, needed: bool = False) -> list[str] | None:
    """Names of the positional arguments after the first ``skip``, of those without default only; None for any."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and not (needed and p.default is not p.empty)]


def _generators(kind: Any) -> list[np.random.Generator | np.random.RandomState]:
    """Generators of random numbers in the module that defines a class."""
    values = vars(sys.modules.get(kind.__module__, object())).values() if kind.__module__ in sys.modules else ()
    return [v for v in list(values) if isinstance(v, (np.random.Generator, np.random.RandomState))]


def _state(generator: np.random.Generator | np.random.RandomState) -> Any:
    if isinstance(generator, np.random.Generator):
        return copy.deepcopy(generator.bit_generator.state)
    return generator.get_state()


def _set_state(generator: np.random.Generator | np.random.RandomState, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = copy.deepcopy(state)
    else:
        generator.set_state(state)
