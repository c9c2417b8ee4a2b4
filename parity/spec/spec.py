"""What a catalogue entry says about a layer."""

import re
from dataclasses import dataclass, field

from ..ours import ours


@dataclass(frozen=True)
class Spec:
    """One layer of the catalogue: both classes, and everything needed to draw and run cases of it.

    Axis strings are those of the reference: a letter an axis, ``"4H"`` a multiple, ``...`` any
    leading axes, a first word ``int`` or ``bool`` for another kind of dtype than floating.

    Attributes:
        name: of the class on both sides.
        reference: the NumPy class.
        port: where the torch class is, ``"module:name"``; imported when first asked for.
        inputs: axis string of each argument of ``forward``, in order.
        outputs: axis string of each result of ``forward``.
        params: axis string of each parameter, in order; for models, none.
        sizes: for models, the axis letters of the constructor's size arguments.
        bounds: of each integer input, the axis letter below which its entries lie.
        optional: inputs that may be left out.
        labels: the integer input that are labels: where a model's loss ignores one, it may be given.
        one_hot: the integer input that may also come as one-hot rows.
        states: axis string of each state that ``set_state`` takes, in order, for stateful layers.
        kept: results kept aside as attributes.
        options: values of each constructor option among which a case draws.
        attributes: values of each attribute, set after construction, among which a case draws.
        ranges: for some axis letters, the sizes among which a case draws.
        time: the axis along which a stateful layer's sequence may be cut.
        patterns: edge patterns that matter to this layer, beside those of every layer.
        extreme: size of the values in the pattern ``extreme``.
        recurrent: parameters that multiply the state at every step.
        gates: letters of the gates packed along the last axis of the parameters, in order.
        drawn: inputs that another's layer may draw for itself, each with the output whose nonzero
            entries tell what was drawn.
        variants: other functions it is easily taken for: a class with the same constructor, by words.
        greedy: has ``generate`` and ``score``, and is compared by them too.
        program: how a case is run, a name in ``parity.sides.programs``.
    """

    name: str
    reference: object
    port: str
    inputs: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)
    sizes: str = ""
    bounds: dict = field(default_factory=dict)
    optional: tuple = ()
    labels: str = ""
    one_hot: str = ""
    states: dict = field(default_factory=dict)
    kept: tuple = ()
    options: dict = field(default_factory=dict)
    attributes: dict = field(default_factory=dict)
    ranges: dict = field(default_factory=dict)
    time: str = ""
    patterns: tuple = ()
    extreme: float = 1e4
    recurrent: tuple = ()
    gates: str = ""
    drawn: dict = field(default_factory=dict)
    variants: dict = field(default_factory=dict)
    greedy: bool = False
    program: str = "layer"

    @property
    def port_class(self):
        module, name = self.port.split(":")
        return getattr(ours(module), name)

    @property
    def letters(self):
        """All axis letters, in order of appearance."""
        texts = (*self.inputs.values(), *self.params.values(), self.sizes, *self.states.values())
        words = [word for text in texts for word in axes(text)[1]]
        return tuple(dict.fromkeys(word if word == "..." else word[-1] for word in words))

    def differentiable(self):
        """Names of the floating inputs."""
        return [name for name, text in self.inputs.items() if axes(text)[0] == "float"]

    def with_cotangents(self):
        """Names of the floating outputs: an integer or a boolean one has no cotangent."""
        return [name for name, text in self.outputs.items() if axes(text)[0] == "float"]

    def __reduce__(self):
        return _entry, (self.name,)  # by name: the classes may not pickle, and there is one of each


def _entry(name):
    from ..catalogue import CATALOGUE

    return CATALOGUE[name]


def axes(text):
    """Splits an axis string into its kind (``float``, ``int``, ``bool``) and its axes.

    Raises:
        ValueError: it has other axes than one letter each, with a number before it or without, after ``...`` or not.
    """
    words = text.split()
    kind = words.pop(0) if words and words[0] in ("float", "int", "bool") else "float"
    if not all(re.fullmatch(r"([1-9][0-9]*)?[A-Za-z]", word) for word in words[words[:1] == ["..."] :]):
        raise ValueError(f"axis string {text!r}: expected a kind (float, int, bool) or none, '...' or not, then one "
                         "letter an axis, each with a number before it or without")
    return kind, words


def shape(text, sizes):
    """The shape that an axis string means at given sizes; ``...`` is a tuple of sizes."""
    result = []
    for word in axes(text)[1]:
        if word == "...":
            result += sizes["..."]
        else:
            factor, letter = re.fullmatch(r"(\d*)(\w)", word).groups()
            result.append(sizes[letter] * int(factor or 1))
    return tuple(result)
