"""A case: which arrays a layer is given, as pure data with a text of its own."""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn, Self
from urllib.parse import quote

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from ..errors import UsageError
from ..spec.arrays import Array
from ..spec.axes import axes, shape
from ..spec.catalogue import default
from ..spec.results import Arrays
from ..spec.span import Span
from ..spec.spec import Spec

Shape = tuple[int, ...]
Sizes = dict[str, Any]  # of an axis letter a number, of ``...`` a tuple of them
Options = dict[str, Any]
Values = NDArray[Any]

FORMAT = "p2"  # grows when the same text would mean other arrays; a golden case in the tests tells

SCALES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)

# what an id may ask for: far past what is drawn, and less than what fills a machine or takes an hour
MOST_SCALE = 1e6  # and at least its inverse
MOST_SIZE = 1 << 17
MOST_LEADING = 8  # axes that ``...`` stands for
MOST_SEED = 1 << 64
MOST_TEXT = 1000  # characters
MOST_BYTES = 256 << 20  # of a case's arrays in float64; an oracle and the copies hold some twenty times as much
MOST_WORK = 1 << 34  # multiplications and additions of one forward
STEP = 1 << 16  # what a time step costs beside its arithmetic, in multiplications: Python's share


def _normal(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return rng.standard_normal(shape)


def _uniform(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return rng.uniform(-1, 1, shape)


def _wide(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return rng.choice((-1, 1), shape) * 10 ** rng.uniform(-3, 1, shape)


def _ties(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return rng.integers(-2, 3, shape) / 2


def _sparse(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return rng.standard_normal(shape) * (rng.random(shape) < 0.3)


def _equal(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return np.broadcast_to(rng.standard_normal((*shape[:-1], 1) if shape else ()), shape).copy()


def _extreme(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return rng.choice((-1, 0, 1), shape) * spec.extreme + rng.standard_normal(shape)


def _saturated(rng: Generator, shape: Shape, spec: Spec) -> Values:
    return 30 * rng.standard_normal(shape)


def _nonfinite(rng: Generator, shape: Shape, spec: Spec) -> Values:
    values = rng.standard_normal(shape)
    return np.where(rng.random(shape) < 0.1, rng.choice((np.nan, np.inf, -np.inf), shape), values)


PATTERNS: dict[str, Callable[[Generator, Shape, Spec], Values]] = {
    "normal": _normal,
    "uniform": _uniform,
    "wide": _wide,
    "ties": _ties,
    "sparse": _sparse,
    "equal": _equal,
    "extreme": _extreme,
    "saturated": _saturated,
    "duplicates": _normal,
    "ignored": _normal,
    "nonfinite": _nonfinite,
}
GENERAL = ("normal", "uniform", "wide", "ties", "sparse", "equal")
UNSCALED = {"extreme", "saturated", "nonfinite"}  # patterns with a scale of their own
DEGENERATE = {"equal", "extreme", "saturated", "ignored", "nonfinite"}


def _plain(a: Values) -> Values:
    return a.copy()


def _fortran(a: Values) -> Values:
    return a.copy(order="F")


def _sliced(a: Values) -> Values:
    if a.ndim == 0:
        return a
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _reversed(a: Values) -> Values:
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def _expanded(a: Values) -> Values:
    """The first entry along the first axis, for all of them."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a


LAYOUTS = {"C": _plain, "F": _fortran, "sliced": _sliced, "reversed": _reversed}
MIXED = "mixed"  # every array in one of these by itself
EXPANDED = "expanded"  # inputs and cotangents along their first axis, with stride 0; their values change with it
ARRANGED = (*LAYOUTS, MIXED, EXPANDED)  # what a case may say


def generator(text: str, digits: int = 16) -> Generator:
    """Random numbers that follow from a text, on any machine, by ``digits`` bytes of its hash."""
    digest = hashlib.blake2s(text.encode(), digest_size=digits).digest()
    return Generator(PCG64(int.from_bytes(digest, "little")))


@dataclass(frozen=True)
class Data:
    """The arrays of a case, in one dtype, by name.

    Attributes:
        params, inputs, states, cotangents: dict from name to array; a left out input is missing.
        sizes: size of each axis letter.
    """

    params: Arrays
    inputs: Arrays
    states: Arrays
    cotangents: Arrays
    sizes: Sizes = field(default_factory=dict)

    def map(self, function: Callable[[Values], Values]) -> "Data":
        """The same with the function applied to every floating array."""
        def of(group: Arrays) -> Arrays:
            return {name: function(a) if a.dtype.kind == "f" else a for name, a in group.items()}

        return Data(of(self.params), of(self.inputs), of(self.states), of(self.cotangents), self.sizes)

    def frozen(self) -> Self:
        """The same arrays, read-only: no side may change what the next one is given."""
        for group in (self.params, self.inputs, self.states, self.cotangents):
            for array in filter(np.ndim, group.values()):
                array.flags.writeable = False
        return self


@dataclass(frozen=True)
class Case:
    """One case of one layer.

    Attributes:
        spec: the layer.
        sizes: size of each axis letter; of ``...``, a tuple.
        pattern: name of a value pattern.
        scale: factor on inputs, states and parameters; cotangents have scale 1.
        layout: memory layout of the arrays.
        options: of the constructor, and ``cut``, ``given``, ``masked``, ``one_hot``.
        seed: of the values.
    """

    spec: Spec
    sizes: Sizes
    pattern: str
    scale: float
    layout: str
    options: Options
    seed: int

    @cached_property  # every array asks for it
    def id(self) -> str:
        """The text from which ``parse`` makes the same case, and the arrays follow."""
        sizes = ",".join(f"{'lead' if k == '...' else k}={_size_text(self.sizes[k])}" for k in self.spec.letters)
        options = ",".join(f"{k}={_option_text(self.options[k])}" for k in choices(self.spec))
        return ":".join((FORMAT, self.spec.name, sizes, self.pattern, f"{self.scale:g}", self.layout, options,
                         str(self.seed)))

    def __str__(self) -> str:
        return self.id

    @property
    def filled(self) -> bool:
        """Whether no axis is of size 0: whether there is something to judge."""
        return all(self.sizes.get("...", ())) and all(n for letter, n in self.sizes.items() if letter != "...")

    @property
    def entries(self) -> int:
        """Number of entries of its arrays and of the widest intermediate result, estimated from the sizes alone."""
        spec, n = self.spec, self.sizes
        texts = (*spec.inputs.values(), *spec.outputs.values(), *spec.states.values())
        own = {word[-1] for text in (spec.size_arguments, *spec.params.values()) for word in axes(text)[1]}
        every = math.prod(n[letter] for letter in spec.letters if letter not in own and letter != "...")
        every *= math.prod(n.get("...", ()))
        widest = max((s[-1] for s in self._parameter_shapes() if s), default=1)
        return int(sum(math.prod(shape(text, n)) for text in texts) + self._weights + every + self._rows * widest)

    @property
    def work(self) -> int:
        """Multiplications of one forward, about: of its products, of its arrays, and of Python's steps through time."""
        steps = sum(int(self.sizes.get(axis, 0)) for axis in "TU")
        return self._rows * self._weights + 16 * self.entries + STEP * steps

    @property
    def _weights(self) -> int:
        return sum(map(math.prod, self._parameter_shapes()))

    @property
    def _rows(self) -> int:
        """Rows that meet the parameters: the entries of the inputs, without the axes that the parameters have."""
        own = {word[-1] for text in (self.spec.size_arguments, *self.spec.params.values()) for word in axes(text)[1]}
        return sum(math.prod(shape(" ".join(w for w in axes(text)[1] if w[-1] not in own), self.sizes))
                   for text in self.spec.inputs.values() if axes(text)[0] != "bool")

    def _parameter_shapes(self) -> list[Shape]:
        """Estimated for a model, whose every axis is taken for a linear function of its sizes; exact for a layer."""
        spec, n = self.spec, self.sizes
        if not spec.size_arguments:
            return list(spec.parameter_shapes(n | self.options).values())
        letters = axes(spec.size_arguments)[1]
        small = dict.fromkeys(letters, 2)
        base = spec.parameter_shapes(small)
        more = [spec.parameter_shapes(small | {letter: 3}) for letter in letters]
        return [tuple(b + sum((grown[name][axis] - b) * (n[letter] - 2) for grown, letter in
                              zip(more, letters, strict=True)) for axis, b in enumerate(s))
                for name, s in base.items()]

    @property
    def degenerate(self) -> bool:
        """Whether some gradient may honestly vanish here, or the true one look like another."""
        sizes = [s for letter, s in self.sizes.items() if letter != "..."] + list(self.sizes.get("...", ()))
        alike = self.pattern in DEGENERATE or self.layout == EXPANDED
        return alike or not 0.1 <= self.scale <= 1 or any(s < 2 for s in sizes)

    def uncut(self) -> "Case":
        """The same options, the sequence in one piece."""
        return replace(self, options=self.options | {"cut": 0})

    def data(self, narrow: Callable[[Values], Values]) -> Data:
        """The arrays.

        Args:
            narrow: function that rounds a float64 array to what the lane can represent.
        """
        data = self.bare()
        cotangents = {name: self.cotangent(name, s) for name, s in self.spec.cotangent_shapes(self, data).items()}
        found = replace(data, cotangents=cotangents).map(lambda a: narrow(np.asarray(a)))
        laid = {group: {name: self._laid(group, name, a) for name, a in getattr(found, group).items()}
                for group in ("params", "inputs", "states", "cotangents")}
        return Data(**laid, sizes=found.sizes)

    def _laid(self, group: str, name: str, array: Values) -> Values:
        """An array in its memory layout."""
        if array.dtype.kind != "f":
            return array
        if self.layout == EXPANDED:
            return _expanded(array) if group in ("inputs", "cotangents") else array.copy()
        layout = self.layout
        if layout == MIXED:
            layout = tuple(LAYOUTS)[int(self._rng(f"layout {group} {name}").integers(len(LAYOUTS)))]
        return LAYOUTS[layout](array)

    def bare(self) -> Data:
        """The arrays without cotangents, which the outputs shape, in float64 and in C order."""
        spec = self.spec
        return Data(
            {name: self._parameter(name, s) for name, s in spec.parameter_shapes(self.sizes | self.options).items()},
            self.given(),
            {name: self._values(name, shape(text, self.sizes)) for name, text in spec.states.items()
             if self.options.get("given")},
            {},
            self.sizes,
        )

    def given(self) -> Arrays:
        """The inputs by name, float64 or not floating; without those that are left out."""
        return {name: self._input(name, text) for name, text in self.spec.inputs.items()
                if name not in self.spec.optional or self.options["masked"]}

    def cotangent(self, name: str, shape: Shape) -> Values:
        """The cotangent of an output: random and signed, for all-ones would not tell a softmax's gradient from zero."""
        return self._rng(f"cotangent {name}").standard_normal(shape)

    def _rng(self, name: str) -> Generator:
        return generator(f"{self.id} {name}")

    def _values(self, name: str, shape: Shape) -> Values:
        values = PATTERNS[self.pattern](self._rng(name), shape, self.spec)
        return values if self.pattern in UNSCALED else self.scale * values

    def _parameter(self, name: str, shape: Shape) -> Values:
        if self.pattern == "nonfinite" or self.pattern == "extreme":
            return self._rng(name).standard_normal(shape)
        values = self._values(name, shape)
        return _tamed(values) if name in self.spec.recurrent else values

    def _own(self, name: str, draw: Callable[..., Any], kind: str, dims: Shape) -> Values:
        """The values of an input by its own generator."""
        found = _asked(self.spec, f"draw of the input {name}", draw, self._rng(name), dims,
                       self.sizes | self.options)
        array = np.asarray(found)
        if array.shape != dims or array.dtype.kind not in {"float": "fiu", "int": "iu", "bool": "b"}[kind]:
            what = f"{array.dtype} of shape {array.shape}" if array.dtype.kind in "fiubc" else repr(found)[:80]
            raise UsageError(f"{self.spec.name}: draw of the input {name} gives {what}, expected {kind} of shape "
                             f"{dims}")
        return array.astype({"float": np.float64, "int": np.int64, "bool": bool}[kind])

    def _input(self, name: str, text: Array) -> Values:
        kind, dims = axes(text)[0], shape(text, self.sizes)
        rng = self._rng(name)
        if text.draw is not None:
            return self._own(name, text.draw, kind, dims)
        if kind == "float":
            return self._values(name, dims)
        if kind == "bool":
            return rng.random(dims) < 0.7 if rng.random() < 0.8 else np.zeros(dims, bool)
        upper = self.sizes[text.below] if isinstance(text.below, str) else text.below
        ids = rng.integers(0, upper, dims)
        if self.pattern == "duplicates":
            ids = np.where(rng.random(dims) < 0.8, rng.integers(0, upper), ids)
        one_hot = text.one_hot and self.options["one_hot"]
        if text.ignored and not one_hot:
            share = 1 if self.pattern == "ignored" else 0.3
            ids = np.where(rng.random(dims) < share, self.options[text.ignored], ids)
        return (ids[..., None] == np.arange(upper)).astype(np.int64) if one_hot else ids


def _tamed(weights: Values) -> Values:
    """The weights, scaled down where applied again and again they would make chaos, in which no budget means anything.

    The spectral radius of a random square matrix is the root mean square of its entries times the square root of its
    size; above 1, what comes out hangs on the last digit of what goes in.
    """
    radius = np.sqrt(np.mean(weights**2) * len(weights)) if weights.size else 0.0
    return weights / radius if radius > 1 else weights


def _size_text(size: int | Shape) -> str:
    return ("x".join(map(str, size)) or "-") if isinstance(size, tuple) else str(size)


def _option_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return quote(str(value), safe="+")  # no text of an option may look like the id around it


def least(spec: Spec, letter: str) -> int:
    """The smallest size that an axis of this layer may have."""
    return min(spec.ranges.get(letter, (0,) if letter == "N" else (1,)))


def patterns(spec: Spec) -> tuple[str, ...]:
    """Names of the value patterns that a case of this layer may have."""
    return tuple(dict.fromkeys((*GENERAL, *spec.patterns, *(("duplicates",) if spec.bounds else ()))))


def permitted(spec: Spec, name: str, sizes: Sizes, pattern: str, options: Options) -> Sequence[Any]:
    """The values that one option of a case may have beside its sizes, its pattern and the options before it."""
    values = choices(spec)[name]
    if name == "cut":
        return range(sizes[spec.time]) if options.get("stateful") and sizes[spec.time] > 1 else range(1)
    if (name == "given" and not options.get("stateful")) or (name == "one_hot" and pattern == "ignored"):
        return (False,)
    return values


def choices(spec: Spec) -> dict[str, Sequence[Any]]:
    """What each option of a case of this layer may be, by name."""
    found: dict[str, Sequence[Any]] = {**spec.options, **spec.attributes}
    if spec.time:
        found |= {"cut": ()}  # what the sizes leave room for, see ``permitted``
    if spec.states:
        found |= {"given": (False, True)}
    if spec.optional:
        found |= {"masked": (False, True)}
    if spec.one_hot:
        found |= {"one_hot": (False, True)}
    return found


def admitted(spec: Spec, sizes: Sizes, options: Options) -> bool:
    """Whether a layer takes these sizes and options together."""
    return spec.where is None or bool(_asked(spec, "where", spec.where, sizes | options))


def _asked(spec: Spec, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a spec's gives.

    Raises:
        UsageError: it raises.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise UsageError(f"{spec.name}: {what} raises {type(error).__name__}: {error}") from error


def derived(spec: Spec, sizes: Sizes, options: Options) -> Sizes:
    """The sizes, and those that follow from them.

    Raises:
        UsageError: a function of them gives no size.
    """
    found = dict(sizes)
    for letter, function in spec.sizes.items():
        value = _asked(spec, f"sizes[{letter!r}]", function, found | options)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"{spec.name}: sizes[{letter!r}] gives {value!r} for {found | options}, expected a size")
        found[letter] = value
    return found


def fitting(spec: Spec, options: Options, usual: Sizes, given: Sizes | None = None) -> Sizes | None:
    """Sizes that a case of a layer with these options may have, all different but for those given; None for none.

    Args:
        usual: sizes by axis letter with which to begin; any other letter begins with 2.
        given: sizes of some letters, of those that follow from others too.

    Raises:
        UsageError: no size of an axis that follows from others.
    """
    fixed = given or {}
    letters = [letter for letter in spec.letters if letter != "..."]
    most = max([12, *(size for letter, size in fixed.items() if letter in spec.sizes)])

    def values(letter: str) -> list[int]:
        """Those among which a case draws, and, where others' sizes are given that follow from it, any."""
        if letter in fixed:
            return [fixed[letter]]
        found = list(dict.fromkeys((usual.get(letter, 2), *range(2, most + 1), 1)))
        drawn = [size for size in found if size in spec.ranges.get(letter, found) and size > 1]
        return drawn + [size for size in found if most > 12 and size not in drawn and size >= least(spec, letter)]

    for chosen in itertools.product(*map(values, letters)):
        free = [size for letter, size in zip(letters, chosen, strict=True) if letter not in fixed]
        if len(set(free)) == len(free):
            sizes = derived(spec, dict(zip(letters, chosen, strict=True)), options)
            if "..." in spec.letters:
                sizes["..."] = fixed.get("...", usual["..."])
            met = all(sizes.get(letter, size) == size for letter, size in fixed.items())
            if met and admitted(spec, sizes, options):
                return sizes
    return None


def parse(text: str, catalogue: Mapping[str, Spec] | None = None) -> Case:
    """The case that a text names.

    Args:
        text: an id as ``Case.id`` writes it, to the letter.
        catalogue: of the specs that it may name; None for ours.

    Raises:
        UsageError: not a case id, of another format version, a case that this layer cannot have or that is too
            large, or an id in another spelling; says what is wrong.
    """
    def refuse(why: object) -> NoReturn:
        why = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(why))  # it may quote what came
        raise UsageError(f"case id {str(text)[:MOST_TEXT]!r}: {why}")

    if not isinstance(text, str) or len(text) > MOST_TEXT:
        refuse(f"expected text of at most {MOST_TEXT} characters")
    fields = text.split(":")
    if len(fields) != 8:
        refuse("expected 8 fields between colons")
    version, name, lengths, pattern, scale, layout, chosen, seed = fields
    if version != FORMAT:
        refuse(f"has format {version}, this version reads {FORMAT}")
    catalogue = default() if catalogue is None else catalogue
    spec = catalogue.get(name)
    if spec is None:
        refuse(f"unknown layer {name!r}, known are {', '.join(catalogue)}")
    for what, value, known in (("pattern", pattern, patterns(spec)), ("layout", layout, ARRANGED)):
        if value not in known:
            refuse(f"unknown {what} {value!r}, {name} knows {', '.join(known)}")
    try:
        sizes = _parse_sizes(spec, lengths)
        options = _parse_options(spec, chosen, sizes, pattern)
        sizes = derived(spec, sizes, options)
        if not admitted(spec, sizes, options):
            refuse(f"{name} does not admit {sizes | options}")
        case = Case(spec, sizes, pattern, _parse_scale(scale, pattern), layout, options,
                    _whole("the seed", seed, 0, MOST_SEED - 1))
    except ValueError as error:
        refuse(error)
    if case.id != text:
        refuse(f"is spelled {case.id!r}")
    for what, amount, most, unit in (("memory", 8 * case.entries, MOST_BYTES, "bytes"),
                                     ("work", case.work, MOST_WORK, "multiplications")):
        if amount > most:
            refuse(f"too large: its {what} is about {amount:,} {unit}, at most {most:,} may be asked for")
    return case


def _pairs(what: str, text: str, names: Iterable[str]) -> dict[str, str]:
    """Values by name from ``name=value,...``, each of the names once and in their order."""
    pairs = [pair.partition("=")[::2] for pair in text.split(",")] if text else []
    if [name for name, _ in pairs] != list(names):
        raise ValueError(f"expected {what} {', '.join(names) or 'none'}, in this order, got "
                         f"{', '.join(name for name, _ in pairs) or 'none'}")
    return dict(pairs)


def _parse_sizes(spec: Spec, text: str) -> Sizes:
    found: Sizes = {}
    for name, value in _pairs("sizes of", text, ["lead" if s == "..." else s for s in spec.letters]).items():
        if name == "lead":
            parts = value.split("x") if value != "-" else []
            if len(parts) > MOST_LEADING:
                raise ValueError(f"size lead is {value}, expected at most {MOST_LEADING} axes")
            found["..."] = tuple(_whole("size lead", part, 0, MOST_SIZE) for part in parts)
        else:
            found[name] = _whole(f"size {name}", value, least(spec, name), MOST_SIZE)
    return found


def _parse_scale(text: str, pattern: str) -> float:
    scale = float(text)
    low, high = (1, 1) if pattern in UNSCALED else (1 / MOST_SCALE, MOST_SCALE)
    if not low <= scale <= high:
        raise ValueError(f"the scale is {text}, expected " + (f"1 with the pattern {pattern}" if low == high else
                                                              f"{low:g} <= scale <= {high:g}"))
    return scale


def _parse_options(spec: Spec, text: str, sizes: Sizes, pattern: str) -> Options:
    found: Options = {}
    for name, value in _pairs("options", text, choices(spec)).items():
        values = permitted(spec, name, sizes, pattern, found)
        if isinstance(values, range):
            found[name] = _whole(name, value, values[0], values[-1])
            continue
        if isinstance(values, Span):
            try:
                found[name] = values.read(value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
            continue
        known = {_option_text(v): v for v in values}
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected here {' or '.join(known)}")
        found[name] = known[value]
    return found


def _whole(what: str, text: str, low: int, high: int) -> int:
    """The whole number that a text spells, in any spelling: whether it is the right one, the whole id tells."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{what} is {text!r}, expected a whole number") from None
    if not low <= number <= high:
        raise ValueError(f"{what} is {text}, expected >= {low} and <= {high}")
    return number
