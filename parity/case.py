"""A case: which arrays a layer is given, as pure data with a text of its own."""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .catalogue import CATALOGUE
from .errors import UsageError
from .spec import axes, shape

FORMAT = "p1"  # grows when the same text would mean other arrays; a golden case in the tests tells

SCALES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)
SIZES = (1, 2, 3, 4, 5, 7)
BATCHES = (0, 1, 1, 2, 3, 5, 8)
LARGE = (16, 17, 33)  # past the widths at which vector kernels change their path
LONG = 24  # time steps of a long sequence
CHAOTIC = 20  # time steps past which recurrent weights are scaled down, or no budget means anything


def _normal(rng, shape, spec):
    return rng.standard_normal(shape)


def _uniform(rng, shape, spec):
    return rng.uniform(-1, 1, shape)


def _wide(rng, shape, spec):
    return rng.choice((-1, 1), shape) * 10 ** rng.uniform(-3, 1, shape)


def _ties(rng, shape, spec):
    return rng.integers(-2, 3, shape) / 2


def _sparse(rng, shape, spec):
    return rng.standard_normal(shape) * (rng.random(shape) < 0.3)


def _equal(rng, shape, spec):
    return np.broadcast_to(rng.standard_normal((*shape[:-1], 1) if shape else ()), shape).copy()


def _extreme(rng, shape, spec):
    return rng.choice((-1, 0, 1), shape) * spec.extreme + rng.standard_normal(shape)


def _saturated(rng, shape, spec):
    return 30 * rng.standard_normal(shape)


def _nonfinite(rng, shape, spec):
    values = rng.standard_normal(shape)
    return np.where(rng.random(shape) < 0.1, rng.choice((np.nan, np.inf, -np.inf), shape), values)


PATTERNS = {
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


def _plain(a):
    return a.copy()


def _fortran(a):
    return a.copy(order="F")


def _sliced(a):
    if a.ndim == 0:
        return a
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _reversed(a):
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


LAYOUTS = {"C": _plain, "F": _fortran, "sliced": _sliced, "reversed": _reversed}


@dataclass(frozen=True)
class Data:
    """The arrays of a case, in one dtype, by name.

    Attributes:
        params, inputs, states, cotangents: dict from name to array; a left out input is missing.
    """

    params: dict
    inputs: dict
    states: dict
    cotangents: dict

    def map(self, function):
        """The same with the function applied to every floating array."""
        return Data(*(
            {name: function(a) if a.dtype.kind == "f" else a for name, a in group.items()}
            for group in (self.params, self.inputs, self.states, self.cotangents)
        ))

    def frozen(self):
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

    spec: object
    sizes: dict
    pattern: str
    scale: float
    layout: str
    options: dict
    seed: int

    @property
    def id(self):
        """The text from which ``parse`` makes the same case, and the arrays follow."""
        sizes = ",".join(f"{'lead' if k == '...' else k}={_size_text(v)}" for k, v in self.sizes.items())
        options = ",".join(f"{k}={int(v) if isinstance(v, bool) else v}" for k, v in self.options.items())
        return ":".join((FORMAT, self.spec.name, sizes, self.pattern, f"{self.scale:g}", self.layout, options,
                         str(self.seed)))

    @property
    def degenerate(self):
        """Whether some gradient may honestly vanish here, or the true one look like another."""
        sizes = [s for letter, s in self.sizes.items() if letter != "..."] + list(self.sizes.get("...", ()))
        return self.pattern in DEGENERATE or not 0.1 <= self.scale <= 1 or any(s < 2 for s in sizes)

    def uncut(self):
        """The same options, the sequence in one piece."""
        return replace(self, options=self.options | {"cut": 0})

    def data(self, narrow):
        """The arrays.

        Args:
            narrow: function that rounds a float64 array to what the lane can represent.
        """
        spec, n = self.spec, self.sizes
        params = parameter_shapes(spec, tuple(n.get(letter) for letter in axes(spec.sizes)[1]) if spec.sizes
                                  else tuple(shape(text, n) for text in spec.params.values()))
        inputs = {name: self._input(name, text) for name, text in spec.inputs.items()
                  if name not in spec.optional or self.options["masked"]}
        states = spec.states if self.options.get("given") else {}
        data = Data(
            {name: self._parameter(name, s) for name, s in params.items()},
            inputs,
            {name: self._values(name, shape(text, n)) for name, text in states.items()},
            {name: self._rng(f"cotangent {name}").standard_normal(shape(text, n))
             for name, text in spec.outputs.items()},
        )
        return data.map(lambda a: LAYOUTS[self.layout](narrow(np.asarray(a))))

    def _rng(self, name):
        digest = hashlib.blake2s(f"{self.id} {name}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))

    def _values(self, name, shape):
        values = PATTERNS[self.pattern](self._rng(name), shape, self.spec)
        return values if self.pattern in UNSCALED else self.scale * values

    def _parameter(self, name, shape):
        if self.pattern == "nonfinite" or self.pattern == "extreme":
            return self._rng(name).standard_normal(shape)
        values = self._values(name, shape)
        if name in self.spec.recurrent and max(self.sizes.get("T", 0), self.sizes.get("U", 0)) > CHAOTIC:
            values = values * min(1, 1 / self.scale) / np.sqrt(shape[0])
        return values

    def _input(self, name, text):
        kind, dims = axes(text)[0], shape(text, self.sizes)
        rng = self._rng(name)
        if kind == "float":
            return self._values(name, dims)
        if kind == "bool":
            return rng.random(dims) < 0.7 if rng.random() < 0.8 else np.zeros(dims, bool)
        upper = self.sizes[self.spec.bounds[name]]
        ids = rng.integers(0, upper, dims)
        if self.pattern == "duplicates":
            ids = np.where(rng.random(dims) < 0.8, rng.integers(0, upper), ids)
        if "ignore_label" in self.options and not self.options["one_hot"]:
            share = 1 if self.pattern == "ignored" else 0.3
            ids = np.where(rng.random(dims) < share, self.options["ignore_label"], ids)
        return np.eye(upper, dtype=np.int64)[ids] if self.spec.one_hot == name and self.options["one_hot"] else ids


@lru_cache(maxsize=4096)
def _model_shapes(name, sizes):
    model = CATALOGUE[name].reference(*sizes, rng=np.random.default_rng(0))
    return {label: p.shape for label, p in zip(model.param_names, model.params, strict=True)}


def parameter_shapes(spec, sizes):
    """Shape of each parameter by name: of a model of these sizes, or the shapes themselves."""
    return _model_shapes(spec.name, sizes) if spec.sizes else dict(zip(spec.params, sizes, strict=True))


def _size_text(size):
    return ("x".join(map(str, size)) or "-") if isinstance(size, tuple) else str(size)


def choices(spec):
    """What each option of a case of this layer may be, by name."""
    found = dict(spec.options) | spec.attributes
    if spec.time:
        found |= {"cut": None}
    if spec.states:
        found |= {"given": (False, True)}
    if spec.optional:
        found |= {"masked": (False, True)}
    if spec.one_hot:
        found |= {"one_hot": (False, True)}
    return found


def draw(spec, seed, index):
    """The ``index``-th case of a layer under a seed."""
    digest = hashlib.blake2s(f"{seed} {spec.name} {index}".encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))

    def pick(values):
        return values[rng.integers(len(values))]

    sizes = {}
    for letter in spec.letters:
        if letter == "...":
            sizes[letter] = tuple(pick((0, 1, 2, 3)) for _ in range(pick((0, 1, 2, 3))))
        elif letter == "N":
            sizes[letter] = pick(BATCHES)
        else:
            large = (LONG,) if letter in "TU" and spec.recurrent else LARGE
            sizes[letter] = pick(large if rng.random() < 0.04 else spec.ranges.get(letter, SIZES))
    pattern = pick(("normal",) * 4 + GENERAL + spec.patterns)
    scale = 1.0 if pattern in UNSCALED else pick(SCALES)
    options = {}
    for name, values in choices(spec).items():
        if name == "cut":
            values = range(sizes[spec.time]) if options.get("stateful") and sizes[spec.time] > 1 else (0,)
        if name == "given" and not options.get("stateful"):
            values = (False,)
        if name == "one_hot" and pattern == "ignored":
            values = (False,)
        options[name] = pick(values)
    return Case(spec, sizes, pattern, scale, pick(tuple(LAYOUTS)), options, int(rng.integers(1 << 32)))


def parse(text):
    """The case that a text names.

    Raises:
        UsageError: not a case id, or of another format version; says what is wrong.
    """
    try:
        version, name, sizes, pattern, scale, layout, options, seed = text.split(":")
    except ValueError:
        raise UsageError(f"case id {text!r}: expected 8 fields between colons") from None
    if version != FORMAT:
        raise UsageError(f"case id {text!r}: has format {version}, this version reads {FORMAT}")
    spec = CATALOGUE.get(name)
    for what, value, known in (("layer", name, CATALOGUE), ("pattern", pattern, PATTERNS), ("layout", layout, LAYOUTS)):
        if value not in known:
            raise UsageError(f"case id {text!r}: unknown {what} {value!r}, known are {', '.join(known)}")
    try:
        sizes = dict(pair.split("=") for pair in sizes.split(",") if pair)
        sizes = {"..." if k == "lead" else k: _parse_size(k, v) for k, v in sizes.items()}
        options = dict(pair.split("=") for pair in options.split(",") if pair)
        known = choices(spec)
        options = {k: _parse_option(v, (known[k] or (0,))[0]) for k, v in options.items()}
        case = Case(spec, sizes, pattern, float(scale), layout, options, int(seed))
    except (ValueError, KeyError) as error:
        raise UsageError(f"case id {text!r}: {error}") from None
    if set(sizes) != set(spec.letters) or set(options) != set(known):
        raise UsageError(f"case id {text!r}: expected sizes of {', '.join(spec.letters)} and options "
                         f"{', '.join(known) or 'none'}")
    return case


def _parse_size(letter, text):
    if letter == "lead":
        return tuple(int(s) for s in text.split("x")) if text != "-" else ()
    if int(text) < 0:
        raise ValueError(f"size {letter} is {text}, expected >= 0")
    return int(text)


def _parse_option(text, example):
    if isinstance(example, bool):
        return bool(int(text))
    return type(example)(text)
