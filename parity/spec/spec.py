"""What a catalogue entry says about a layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..ours import ours
from .arrays import Array, array
from .axes import axes, letters, shape


@dataclass(frozen=True, eq=False)
class Spec:
    """One layer of the catalogue: both sides, and everything needed to draw and run cases of it.

    Arrays are described by axis strings (a letter an axis, ``"4H"`` a multiple, ``...`` any leading
    axes) or, where more is known, by ``ids(...)``, ``mask(...)`` and ``floats(...)``.

    Attributes:
        name: of the class on both sides.
        reference: the NumPy class.
        port: where the torch class is, ``"module:name"``; imported when first asked for.
        inputs: each argument of ``forward``, in order.
        outputs: each result of ``forward``; an integer one has no cotangent and must be the same.
        params: each parameter, in order; for models, none.
        size_arguments: for models, the axis letters of the constructor's size arguments.
        sizes: functions of a dict of sizes and options by name, for axis letters whose size follows from others'.
        ranges: for some axis letters, the sizes among which a case draws: these alone, or, of a ``range``, those in it.
        where: function of that dict; sizes and options for which it is false are drawn again.
        scales: of the values, among which a case draws; None for all.
        labels: integer inputs that are labels, each with the dotted attribute that holds the one that is ignored.
        states: each state that ``set_state`` takes, in order, for stateful layers.
        kept: results kept aside as attributes.
        options: values of each constructor option among which a case draws.
        attributes: values of each attribute, set after construction, among which a case draws.
        time: the axis along which a stateful layer's sequence may be cut.
        patterns: edge patterns that matter to this layer, beside those of every layer.
        extreme: size of the values in the pattern ``extreme``.
        recurrent: parameters that multiply the state at every step, or one another.
        steps: axis letters along which the reference takes one step after the other in Python; None for T and U
            where something is recurrent.
        gates: letters of the gates packed along the last axis of the parameters, in order.
        variants: other functions it is easily taken for: a class with the same constructor, by words.
        relations: by axis letter, names in ``promises.relations``: how results of a case grown along it, or in another
            order, follow from the case's.
        greedy: has ``generate`` and ``score``, and is compared by them too.
        untold: by a lane's dtype, why nothing can be told of the layer in it, in one sentence.
        side: how a case is run, a name in ``parity.sides``.
        path: of the file that it was read from; "" where it lives in memory alone, None for our own layers.
    """

    name: str
    reference: Any
    port: Any
    inputs: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    params: dict[str, Array] = field(default_factory=dict)
    size_arguments: str = ""
    sizes: dict[str, Callable[[dict[str, Any]], int]] = field(default_factory=dict)
    ranges: dict[str, tuple[int, ...]] = field(default_factory=dict)
    where: Callable[[dict[str, Any]], bool] | None = None
    scales: tuple[float, ...] | None = None
    states: dict[str, Array] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    options: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    attributes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    time: str = ""
    patterns: tuple[str, ...] = ()
    extreme: float = 1e4
    recurrent: tuple[str, ...] = ()
    steps: str | None = None
    gates: str = ""
    variants: dict[str, Any] = field(default_factory=dict)
    relations: dict[str, str] = field(default_factory=dict)
    greedy: bool = False
    untold: dict[str, str] = field(default_factory=dict)
    side: str = "textbook"
    path: str | None = None

    def __post_init__(self) -> None:
        for kind in ("inputs", "outputs", "params", "states"):
            group = {name: array(text) for name, text in getattr(self, kind).items()}
            object.__setattr__(self, kind, group)  # frozen for others, not yet for itself
        for name, text in self.inputs.items():
            if axes(text)[0] == "int" and text.below == "" and text.draw is None:
                raise ValueError(f"{self.name}: input {name!r} is {str(text)!r}, expected ids(..., below=...)")
        bound = {*self.letters, *self.sizes, *self.size_arguments.split()}
        for name, text in self.outputs.items():
            unbound = [letter for letter in letters([text]) if letter not in bound]
            if unbound:
                raise ValueError(f"{self.name}: output {name!r} has the axis {unbound[0]!r}, which no input has")

    @property
    def port_class(self) -> Any:
        module, name = self.port.split(":")
        return getattr(ours(module), name)

    @property
    def letters(self) -> tuple[str, ...]:
        """All axis letters whose sizes are drawn, in order of appearance."""
        found = letters((*self.inputs.values(), *self.params.values(), self.size_arguments, *self.states.values(),
                         *(a.below for a in self.inputs.values() if isinstance(a.below, str)), *self.ranges))
        return tuple(letter for letter in found if letter not in self.sizes)

    @property
    def bounds(self) -> dict[str, Any]:
        """Of each integer input, the axis letter or the number below which its entries lie."""
        return {name: a.below for name, a in self.inputs.items() if a.below != ""}

    @property
    def optional(self) -> tuple[str, ...]:
        """Inputs that may be left out."""
        return tuple(name for name, a in self.inputs.items() if a.optional)

    @property
    def one_hot(self) -> str:
        """The integer input that may also come as one-hot rows; empty for none."""
        return next((name for name, a in self.inputs.items() if a.one_hot), "")

    @property
    def drawn(self) -> dict[str, str]:
        """Inputs that another's layer may draw for itself, each with the output that tells what was drawn."""
        return {name: a.drawn for name, a in self.inputs.items() if a.drawn}

    @property
    def loops(self) -> str:
        """Axis letters along which time passes in Python."""
        return self.steps if self.steps is not None else "TU" if self.recurrent else ""

    def differentiable(self) -> list[str]:
        """Names of the floating inputs whose gradient is wanted."""
        return [name for name, text in self.inputs.items() if axes(text)[0] == "float" and not text.constant]

    def with_cotangents(self) -> list[str]:
        """Names of the floating outputs: an integer or a boolean one has no cotangent."""
        return [name for name, text in self.outputs.items() if axes(text)[0] == "float" and not text.constant]

    def parameter_shapes(self, sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name at given sizes of the axes, or of the size arguments."""
        if not self.size_arguments:
            return {name: shape(text, sizes) for name, text in self.params.items()}
        return _model_shapes(self, tuple(sizes[letter] for letter in axes(self.size_arguments)[1]))

    def cotangent_shapes(self, case: Any, data: Any) -> dict[str, tuple[int, ...]]:
        """Shape of each output that has a cotangent, for a case with the data drawn so far."""
        return {name: shape(self.outputs[name], case.sizes) for name in self.with_cotangents()}

    def __reduce__(self) -> Any:
        return _entry, (self.name,)  # by name: the classes may not pickle, and there is one of each


@lru_cache(maxsize=4096)
def _model_shapes(spec: Spec, sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    model = spec.reference(*sizes, rng=np.random.default_rng(0))
    return {label: p.shape for label, p in zip(model.param_names, model.params, strict=True)}


def _entry(name: str) -> Any:
    from .catalogue import default

    return default()[name]
