"""Any two things that should compute the same function: a reference that is believed, and its port."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError, whole
from .axes import axes
from .spec import Spec

KINDS = ("numpy", "torch", "jax")


@dataclass(frozen=True)
class Built:
    """A module that is made anew for each case; see ``built``."""

    make: Callable[[dict[str, Any]], Any]


def built(make: Callable[[dict[str, Any]], Any]) -> Built:
    """A module made for each case, as reference or port of a ``Pair``.

    Args:
        make: function of a dict from axis letters and options to their values, that gives an ``nn.Module``.
    """
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
            of an array where the layouts differ. The same name needs no entry.
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
        places, params = dict(self.places), {}  # a copy of a pair brings its own
        for name, value in self.params.items():
            if name in self.inputs or isinstance(value, tuple) or not _axis_string(value):
                places[name] = value if isinstance(value, tuple) else (value,)
            else:
                params[name] = value
        named = self.outputs if isinstance(self.outputs, dict) else {}
        names = (self.outputs,) if isinstance(self.outputs, str) else tuple(self.outputs) or self.names
        kind = self.port_kind or ("numpy" if self.port_backward else "torch")
        for key, value in {"places": places, "params": params, "names": names, "outputs": named,
                           "port_kind": kind}.items():
            object.__setattr__(self, key, value)
        try:
            super().__post_init__()
        except ValueError as error:
            raise UsageError(f"Pair {error}" if str(error).startswith(self.name) else f"Pair {self.name}: {error}") \
                from None

    def _refuse(self) -> None:
        named = isinstance(self.name, str) and self.name and self.name.isprintable()
        if not named or set(self.name) & set(":,= '"):
            raise UsageError(f"Pair: name is {self.name!r}, expected text without spaces, colons, commas and quotes")
        for what in ("reference", "port"):
            value = getattr(self, what)
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
            if not isinstance(sizes, (tuple, list, range)) or not sizes or not all(
                    isinstance(s, int) and s >= 0 for s in sizes):
                raise UsageError(f"Pair {self.name}: ranges[{letter!r}] is {sizes!r}, expected a tuple of sizes")
        for option, values in self.options.items():
            if not isinstance(values, (tuple, list)) or not values:
                raise UsageError(f"Pair {self.name}: options[{option!r}] is {values!r}, expected a tuple of values")

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
        from ..cases.case import draw
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
