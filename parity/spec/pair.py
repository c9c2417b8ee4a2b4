"""Any two things that should compute the same function: a reference that is believed, and its port."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError, whole
from .axes import axes, letters
from .spec import Spec

KINDS = ("numpy", "torch", "jax")
NOT_OURS = ("states", "kept", "attributes", "time", "size_arguments", "labels", "greedy")
TAKEN = {"cut", "given", "masked", "one_hot"}  # options that a case may have of itself


@dataclass(frozen=True)
class Built:
    """A module that is made anew for each case; see ``built``."""

    make: Callable[[dict[str, Any]], Any]


def built(make: Callable[[dict[str, Any]], Any]) -> Built:
    """A module made for each case, as reference or port of a ``Pair``.

    Args:
        make: function of a dict from axis letters and options to their values, that gives an ``nn.Module``.

    Raises:
        UsageError: it is no function.
    """
    if not callable(make):
        raise UsageError(f"built: make is {make!r}, expected a function of a dict of sizes and options")
    return Built(make)


@dataclass(frozen=True, eq=False)
class Pair(Spec):
    """A reference, its port, and what both are given.

    Attributes:
        reference: a NumPy function, alone or with ``backward``; a NumPy class or object with ``forward`` and
            ``backward``; a torch function or ``nn.Module`` made of plain operations.
        port: a torch function, ``nn.Module``, ``autograd.Function``, compiled or scripted function; a NumPy
            function with ``port_backward``; a JAX function with ``port_kind="jax"``.
        inputs: axis strings, or ``ids(...)``, ``mask(...)``, ``floats(...)``, of the arguments of both, in order.
        outputs: a dict from names to axis strings, or the names alone; by default ``y``, or ``y0``, ``y1``, ...
        params: axis strings of the arrays that a class is constructed with; and where the port keeps a parameter,
            or an input, of the reference: its name there, or ``(name, to_port, to_reference)`` with two functions
            of an array where the layouts differ; of a class, both: ``(axes, name)`` or with the functions. The same
            name needs no entry. A port that is a function is given the parameters by name. The shapes of a module's
            own parameters fix the sizes of the axis letters.
        backward: the reference's backward: ``(*cotangents, cache)`` where ``reference`` returns its outputs and,
            last, a cache; else ``(*cotangents, *inputs)``. It gives the gradients of the inputs, in order.
        port_backward: the same for a port of NumPy functions.
        reference_kind, port_kind: ``numpy``, ``torch`` or ``jax``; found out where it is not said.

    The other attributes are those of ``Spec``; options are handed to both sides by name.

    Raises:
        UsageError: what cannot be a pair, in one line.
    """

    backward: Callable[..., Any] | None = None
    port_backward: Callable[..., Any] | None = None
    reference_kind: str | None = None
    port_kind: str | None = None
    path: str | None = field(default="", kw_only=True)
    side: str = "functions"
    places: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._refuse()
        given: dict[str, Any] = dict(self.params)  # not yet what a Spec has there
        places, params = dict(self.places), {}  # a copy of a pair brings its own
        for name, value in given.items():
            value = value if isinstance(value, tuple) else (value,)
            if name not in self.inputs and (len(value) == 1 or isinstance(value[1], str)) and _axis_string(value[0]):
                params[name], *value = value
            if value:
                places[name] = self._place(name, tuple(value))
        named = self.outputs if isinstance(self.outputs, dict) else {}
        names = (self.outputs,) if isinstance(self.outputs, str) else tuple(self.outputs) or self.names
        kind = self.port_kind or ("numpy" if self.port_backward else "torch")
        for key, value in {"places": places, "params": params, "names": names, "outputs": named,
                           "port_kind": kind}.items():
            object.__setattr__(self, key, value)
        try:
            super().__post_init__()
            self._bound()
        except ValueError as error:
            said = str(error).removeprefix(f"{self.name}: ")
            raise UsageError(f"Pair {self.name}: {said}") from None
        object.__setattr__(self, "ranges", self.ranges | self._fixed())

    def _refuse(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.+-]+", self.name):
            raise UsageError(f"Pair: name is {self.name!r}, expected letters, digits and any of _ . + -")
        for what in ("reference", "port"):
            value = getattr(self, what)
            if isinstance(value, type) and any(map(_is_base, value.__mro__)):
                raise UsageError(f"Pair {self.name}: {what} is the class {value.__name__}, expected a module, or "
                                 f"built(lambda n: {value.__name__}(...)) for one made for each case")
            if not callable(value) and not isinstance(value, Built) and not hasattr(value, "forward"):
                raise UsageError(f"Pair {self.name}: {what} is {value!r}, expected a function, a class or a module")
        for what in ("reference_kind", "port_kind"):
            if getattr(self, what) not in (None, *KINDS):
                raise UsageError(f"Pair {self.name}: {what} is {getattr(self, what)!r}, expected "
                                 f"{', '.join(KINDS)} or None")
        for what in ("inputs", "params", "options", "sizes", "ranges"):
            if not isinstance(getattr(self, what), dict):
                raise UsageError(f"Pair {self.name}: {what} is {getattr(self, what)!r}, expected a dict")
        if not self.inputs:
            raise UsageError(f"Pair {self.name}: inputs is empty, expected a dict from names to axis strings")
        for letter, sizes in self.ranges.items():
            if letter != "..." and not (isinstance(letter, str) and re.fullmatch("[A-Za-z]", letter)):
                raise UsageError(f"Pair {self.name}: ranges has the key {letter!r}, expected an axis letter")
            if not isinstance(sizes, (tuple, list, range)) or not sizes or not all(
                    isinstance(s, int) and s >= 0 for s in sizes):
                raise UsageError(f"Pair {self.name}: ranges[{letter!r}] is {sizes!r}, expected a tuple of sizes")
        for option, values in self.options.items():
            self._refuse_option(option, values)
        if not isinstance(self.outputs, (str, tuple, list, dict)) or not all(isinstance(n, str) for n in self.outputs):
            raise UsageError(f"Pair {self.name}: outputs is {self.outputs!r}, expected a name, a tuple of names, or a "
                             "dict from names to axis strings")
        for what, group in (("inputs", self.inputs), ("params", self.params), ("outputs", self.outputs)):
            wrong = [n for n in group if not isinstance(n, str) or not re.fullmatch(r"[\w.]+", n)]
            if wrong and not isinstance(group, str):
                raise UsageError(f"Pair {self.name}: {what} has the name {wrong[0]!r}, expected letters, digits, _ "
                                 "and .")
        for what in NOT_OURS:
            if getattr(self, what):
                raise UsageError(f"Pair {self.name}: {what} is {getattr(self, what)!r}, which only textbook layers "
                                 "have; a state is an input, and an output")
        for what in ("patterns", "recurrent"):
            if not isinstance(getattr(self, what), tuple):
                raise UsageError(f"Pair {self.name}: {what} is {getattr(self, what)!r}, expected a tuple of names")
        from ..cases.case import PATTERNS

        unknown = [name for name in self.patterns if name not in PATTERNS]
        if unknown:
            raise UsageError(f"Pair {self.name}: patterns has {unknown[0]!r}, known are {', '.join(PATTERNS)}")
        for what in ("backward", "port_backward", "where"):
            if getattr(self, what) is not None and not callable(getattr(self, what)):
                raise UsageError(f"Pair {self.name}: {what} is {getattr(self, what)!r}, expected a function")
        for letter, function in self.sizes.items():
            if not callable(function) or not isinstance(letter, str) or not re.fullmatch("[A-Za-z]", letter):
                raise UsageError(f"Pair {self.name}: sizes[{letter!r}] is {function!r}, expected a function of a dict "
                                 "of sizes and options, by an axis letter")
        if self.scales is not None and not (isinstance(self.scales, (tuple, list)) and self.scales and all(
                isinstance(s, (int, float)) and 1e-6 <= s <= 1e6 for s in self.scales)):
            raise UsageError(f"Pair {self.name}: scales is {self.scales!r}, expected a tuple of numbers from 1e-6 to "
                             "1e6")
        for what, backward in (("reference", self.backward), ("port", self.port_backward)):
            if backward is not None and hasattr(getattr(self, what), "backward"):
                raise UsageError(f"Pair {self.name}: the {what} has a backward of its own, and another is given")
        if self.port_kind == "numpy" and self.port_backward is None:
            raise UsageError(f"Pair {self.name}: a port of NumPy functions needs port_backward=")
        if self.port_kind not in (None, "numpy") and self.port_backward is not None:
            raise UsageError(f"Pair {self.name}: port_backward is given, and port_kind is {self.port_kind!r}")

    def _refuse_option(self, option: str, values: Any) -> None:
        if not isinstance(values, (tuple, list)) or not values:
            raise UsageError(f"Pair {self.name}: options[{option!r}] is {values!r}, expected a tuple of values")
        if not isinstance(option, str) or not option.isidentifier() or option in TAKEN or option in self.inputs:
            raise UsageError(f"Pair {self.name}: an option is called {option!r}, expected another name, that no "
                             "input has")
        wrong = next((v for v in values if not isinstance(v, (str, bool, int, float, type(None)))), None)
        if wrong is not None:
            raise UsageError(f"Pair {self.name}: options[{option!r}] holds {wrong!r}, expected text, numbers, True, "
                             "False and None: a case says them in its id")
        if len({str(int(v)) if isinstance(v, bool) else str(v) for v in values}) < len(values):
            raise UsageError(f"Pair {self.name}: options[{option!r}] is {values!r}, of which two read the same in an "
                             "id")

    def _place(self, name: str, value: tuple[Any, ...]) -> tuple[Any, ...]:
        right = isinstance(value[0], str) and len(value) in (1, 3) and all(f is None or callable(f) for f in value[1:])
        if not right:
            raise UsageError(f"Pair {self.name}: params[{name!r}] is {self.params[name]!r}, expected the name of the "
                             "port's parameter, or (name, to_port, to_reference) with two functions of an array")
        return value

    def _bound(self) -> None:
        """Refuses what names nothing."""
        known = {*self.letters, *self.sizes}
        axed = {*letters((*self.inputs.values(), *self.params.values())), *(a.below for a in self.inputs.values())}
        unused = [letter for letter in self.ranges if letter not in axed]
        if unused and not self.sizes and self.where is None and not isinstance(self.port, Built):
            raise UsageError(f"ranges[{unused[0]!r}]: nothing has that axis")
        clash = [name for name in self.options if name in known]
        if clash:
            raise UsageError(f"options[{clash[0]!r}]: an axis letter has that name")
        dynamic = is_module(self.reference) or isinstance(self.reference, Built)
        unknown = [name for name in self.places if name not in self.inputs and name not in self.params and not dynamic]
        if unknown:
            raise UsageError(f"params[{unknown[0]!r}]: the reference has no such input or parameter; its inputs are "
                             f"{', '.join(self.inputs)}")

    def _fixed(self) -> dict[str, tuple[int, ...]]:
        """The sizes of axis letters that the shapes of a module's, or an object's, own parameters fix."""
        found: dict[str, tuple[int, ...]] = {}
        for side in (self.reference, self.port):
            for name, text in {**self.inputs, **self.params}.items():
                place, _, back = (*(self.places.get(name, (name,)) if side is self.port else (name,)), None, None)[:3]
                array = own_parameter(side, place, list(self.params))
                if array is None:
                    continue
                have = np.shape(array if back is None else back(array))
                words = axes(text)[1]
                if len(words) != len(have) or "..." in words:
                    raise UsageError(f"Pair {self.name}: {name} is {str(text)!r}, the parameter {place} has shape "
                                     f"{have}")
                for word, size in zip(words, have, strict=True):
                    factor, letter = int(word[:-1] or 1), word[-1]
                    if letter in self.sizes:
                        continue
                    asked = found.get(letter, self.ranges.get(letter))
                    if size % factor or (asked is not None and size // factor not in asked):
                        raise UsageError(f"Pair {self.name}: {name} is {str(text)!r}, the parameter {place} has shape "
                                         f"{have}, and {letter} is {asked}")
                    found[letter] = (size // factor,)
        return found

    @property
    def textbook(self) -> bool:
        """Whether the reference is a class or an object with ``forward`` and ``backward`` of the textbook protocol."""
        return hasattr(self.reference, "forward") and hasattr(self.reference, "backward") and self.backward is None

    def parameter_shapes(self, sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        from ..sides.functions import parameters

        return super().parameter_shapes(sizes) | parameters(self, sizes)

    def cotangent_shapes(self, case: Any, data: Any) -> dict[str, tuple[int, ...]]:
        from ..sides.functions import output_shapes

        return super().cotangent_shapes(case, data) if self.outputs else output_shapes(self, case.options, data)

    def cases(self, count: int, seed: int = 0, lane: str | None = None) -> list[Any]:
        """The first cases under a seed that have something to judge, for ``pytest.mark.parametrize``.

        Args:
            count, seed: whole numbers.
            lane: glob over the lanes that must all admit them; half precisions take narrower cases. None for any.

        Raises:
            UsageError: a wrong argument, or there are no such cases.
        """
        from ..cases.drawing import draw
        from ..judge.lanes import LANES, select

        count, seed = whole("cases", count, 1), whole("seed", seed, 0)
        lanes = [] if lane is None else select(LANES, lane)

        def admits(case: Any) -> bool:
            return case.filled and all(lane.admits(case) for lane in lanes)

        return [draw(self, seed, index, admits) for index in range(count)]

    def run(self, case: Any, lane: str = "*") -> Any:
        """The ``Report`` of one case, given as a ``Case`` or as its id, in the lanes of a glob."""
        from ..engine import replay

        return replay(str(case), lane, pairs=self)

    def __reduce__(self) -> Any:
        from .catalogue import Catalogue

        return _entry, (Catalogue([self], self.path or None), self.name)


def _entry(catalogue: Any, name: str) -> Any:
    return catalogue[name]


def is_module(side: Any) -> bool:
    """Whether a side is an ``nn.Module``; torch is not imported to find out."""
    return any(map(_is_base, type(side).__mro__))


def _is_base(cls: type) -> bool:
    return (cls.__module__, cls.__name__) == ("torch.nn.modules.module", "Module")


def own_parameter(side: Any, name: str, names: list[str]) -> Any:
    """A parameter of a module, or of a layer object whose parameters have these names, as NumPy; None for none."""
    if is_module(side):
        found = {clean(n): p for n, p in side.named_parameters()}.get(name)
        return None if found is None else np.zeros(tuple(found.shape))
    if isinstance(side, type) or name not in names or not isinstance(getattr(side, "params", None), list):
        return None
    return side.params[names.index(name)] if len(side.params) == len(names) else None


def clean(name: str) -> str:
    """The name of a module's parameter without what ``torch.compile`` puts before it."""
    return name.replace("_orig_mod.", "")


def _axis_string(value: Any) -> bool:
    try:
        axes(value)
    except (ValueError, AttributeError):
        return False
    return True


def style(backward: Callable[..., Any], results: Sequence[Any], inputs: int) -> str:
    """How a backward is called: ``cache`` (cotangents and a cache) or ``inputs`` (cotangents and inputs).

    Args:
        backward: the function.
        results: of the forward, a cache last among them; only floating ones have cotangents.
        inputs: number of inputs of the forward.

    Raises:
        UsageError: it takes neither.
    """
    try:
        taken = [p for p in inspect.signature(backward).parameters.values() if p.kind in (p.POSITIONAL_ONLY,
                                                                                          p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        taken = []
    most = len(taken)
    least = sum(p.default is p.empty for p in taken)
    cached = 1 + sum(map(_floating, results[:-1]))
    plain = sum(map(_floating, results)) + inputs
    if len(results) > 1 and least <= cached <= most:
        return "cache"
    if least <= plain <= most or not taken:
        return "inputs"
    raise UsageError(f"backward takes {most} arguments, expected {cached} (cotangents and the cache that forward "
                     f"returned last) or {plain} (cotangents and inputs); integer outputs have no cotangent")


def _floating(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "f" if isinstance(value, float) else "") == "f"
