"""Finding out, by trial, how somebody's class or pair of functions is made and run: a ``Recipe`` that works.

Worlds of shapes, the rows of the table of protocols and the values of each argument are put together until a forward
runs on finite numbers, and its backward gives a gradient of the shape of every input. What comes nearest is kept: a
layer whose gradient has the wrong shape is run too, and the audit says so.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..spec.results import listed
from . import guess, protocols, ties
from .adapted import RATE, Adapted, Identity, Recipe, Recorder, Space, softmax, walk
from .guess import WORLDS, Value, World

SECONDS = 4.0  # that looking for a recipe may take
CHOICES = 48  # combinations of the arguments of one call
TRIALS = 1500  # of one class
OPTIONS = 4  # numbers that another value is tried of
ROUNDS = 4  # in which gradients' shapes are taken for those of their arrays
GRADIENTS = 3.5  # the score from which on gradients were given

CACHE = re.compile(r"^(\w*cache\w*|memory|mem|ctx|context|saved|store|tape|tmp|state|intermediates?|stash|aux|"
                   r"residuals?|bag|info)$")
RATES = re.compile(r"^(lr|learning_?rate|eta|step_?size)$")
FILES = re.compile(r"path|file|dir|folder|url|stream|descriptor|fd$", re.I)
COTANGENT = re.compile(r"^(d(?!ata|elta$|im|ep)|grad|g_|g$|up|top)", re.I)
DATA = re.compile(r"^(xs?|inputs?|inpt|in_?data|input_data|layer_input|a_prev|bottom|in_arr)$")
LOSS = re.compile(r"loss|cost|entropy|mse|mae|hinge|criterion|error|likelihood|nll|bce", re.I)
LOGS = re.compile(r"entropy|bce|nll|likelihood|\bce\b|log_?loss|crossent", re.I)
LOGITS = re.compile(r"softmax|logit|svm|hinge|sigmoid", re.I)


@dataclass
class Fit:
    """What a trial came to.

    Attributes:
        score: 0 not made, 1 made, 2 forward ran, 3 backward ran, 4 gave gradients, 5 one of the right shape for each
            array, of which one at least is of the data (else 4.5).
        why: what stopped it.
        recipe, inputs, layer, space, optimizer: what ran.
        functions: the functions it runs.
        kind: the class it makes.
        leftover: by expression, why an array that looks like a parameter is not judged.
    """

    score: float
    why: str = ""
    recipe: Recipe = field(default_factory=lambda: Recipe(""))
    inputs: dict[str, Any] = field(default_factory=dict)
    layer: Any = None
    space: dict[str, Any] = field(default_factory=dict)
    optimizer: Any = None
    functions: tuple[Any, ...] = ()
    kind: Any = None
    leftover: dict[str, str] = field(default_factory=dict)
    single: bool = False
    again: Callable[..., Fit] | None = None
    given: dict[str, str] = field(default_factory=dict)

    def variants(self) -> Iterator[tuple[str, Fit]]:
        """The same with another stride, padding, window or mode, where its forward still runs: in words, and the fit.
        """
        if self.again is None:
            return
        with _quiet():
            for change in _changes(self.given):
                found = self.again(change)
                if found.score >= 2:
                    yield ", ".join(f"{n}={v}" for n, v in change.items()), settle(found)
            if (flattened := self._flattened()) is not None:
                yield flattened

    def _flattened(self) -> tuple[str, Fit] | None:
        """The same with samples of two axes instead of one, where the forward says that it flattens them."""
        name = next((n for n in self.recipe.gradients if n in self.inputs), "")
        x: Any = self.inputs.get(name)
        if self.again is None or np.ndim(x) != 2 or x.shape[1] % 2:
            return None
        other = self.again({}, {name: x.reshape(len(x), 2, -1)})
        with contextlib.suppress(Exception):
            plain, more = (listed(fit.adapted().forward(*_copies(fit.inputs).values())) for fit in (self, other))
            if other.score >= 2 and np.ndim(plain[0]) and all(
                    np.shape(a) == np.shape(b) and np.allclose(a, b) for a, b in zip(plain, more, strict=True)):
                return f"{name} of shape {other.inputs[name].shape}", settle(other)
        return None

    def adapted(self) -> Adapted:
        """The object that the audit runs."""
        layer, optimizer = copy.deepcopy((self.layer, self.optimizer))
        return Adapted(self.recipe, layer, Space(self.space), optimizer, self.inputs, self.kind, self.functions)


def classes(module: Any) -> dict[str, Any]:
    """The classes that a module defines itself and that some row of the table knows, by name, in order."""
    return {name: c for name, c in vars(module).items()
            if inspect.isclass(c) and c.__module__ == module.__name__ and c.__name__ == name and methods_of(c)}


def methods_of(kind: Any) -> list[protocols.Methods]:
    """The rows whose two methods a class has."""
    return [m for m in protocols.rows(protocols.Methods)
            if (callable(getattr(kind, m.backward, None)) if m.backward else
                _gives_its_gradient(getattr(kind, m.forward, None))) and (
                any("__call__" in vars(c) for c in kind.__mro__) if m.forward == "__call__"
                else callable(getattr(kind, m.forward, None)))]


def functions(module: Any) -> dict[str, tuple[Any, Any, bool]]:
    """The pairs of functions that a module defines itself: by name of the forward, both, and whether the second is
    the derivative alone; for ``loss, dx = f(x, y)`` no second."""
    own = {name: f for name, f in vars(module).items()
           if inspect.isfunction(f) and f.__module__ == module.__name__}
    found: dict[str, tuple[Any, Any, bool]] = {}
    for name, g in own.items():
        for row in protocols.rows(protocols.Functions):
            match = re.match(row.backward, name)
            if not match:
                continue
            wanted = [match.expand(text).strip("_") for text in row.forward]
            stem = re.sub(r"_(naive|alt|vectorized|loop|fast|slow|im2col|strides|v\d|\d)$", "", name)
            again = re.match(row.backward, stem)
            wanted += [again.expand(text).strip("_") for text in row.forward] if again else []
            partner = next((own[w] for w in wanted if w in own and w != name), None)
            if partner is not None:
                title = partner.__name__ if partner.__name__ not in found else name
                found[title] = partner, g, row.derivative
                break
    used = {f.__name__ for pair in found.values() for f in pair[:2]}
    for name, f in own.items():
        if name not in used and _gives_its_gradient(f):
            found[name] = f, None, False
    return found


def _gives_its_gradient(function: Any) -> bool:
    """Whether it returns a loss and, beside it, something named like a gradient."""
    return any(len(names) > 1 and LOSS.search(names[0] + " " + function.__name__) is not None
               and all(re.match(r"(d[A-Za-z_]|grads?\b|grad_|gradients?)", n) for n in names[1:])
               for names in guess.returned_names(function))


def fit_class(kind: Any) -> Fit:
    """The best recipe of a class."""
    best = Fit(-1, "no forward and backward of any known name")
    if inspect.isabstract(kind):
        return Fit(0, "it is abstract: its subclasses are audited")
    rows = methods_of(kind)
    if any(not m.derivative for m in rows):
        rows = [m for m in rows if not m.derivative]
    with _quiet():
        best = _best(best, (trial for row in rows[:2]
                            for world in _worlds(kind.__name__ + " " + " ".join(_needed(getattr(kind, row.forward))))
                            for trial in _class_trials(kind, row, world)))
        if rows and best.score < 4:
            best = _best(best, _by_ties(kind.__init__, getattr(kind, rows[0].forward), kind.__name__,
                                        partial(_try_class, kind, rows[0])))
    return settle(best)


def fit_functions(forward: Any, backward: Any, derivative: bool) -> Fit:
    """The best recipe of a pair of functions, or of one that gives its gradient itself."""
    def run(call: Call) -> Fit:
        return _try_functions(forward, backward, derivative, call)

    with _quiet():
        best = _best(Fit(-1, "nothing to try"), (
            partial(run, call) for world in _worlds(forward.__name__ + " " + " ".join(_needed(forward)))
            for call in _calls(forward, world, forward.__name__, "")))
        if best.score < 4:
            best = _best(best, _by_ties(None, forward, forward.__name__, lambda made, call: run(call)))
    return settle(best)


def _best(best: Fit, trials: Iterable[Callable[[], Fit]]) -> Fit:
    """The best of some trials, the first where there are several, within limits of number and time."""
    until = time.monotonic() + SECONDS
    for trial in itertools.islice(trials, TRIALS):
        found = trial()
        if found.score > best.score:
            best = found
        if best.score == 5 or time.monotonic() > until:
            break
    return best


def _by_ties(constructor: Any, forward: Any, title: str, run: Callable[[Call, Call], Fit]
             ) -> Iterator[Callable[[], Fit]]:
    """Trials of shapes that the code's own refusals told."""
    own = [] if constructor in (None, object.__init__) else _needed(constructor)
    given, source = _needed(forward), guess.source_of(constructor) + guess.source_of(forward)
    literal = {n: guess.numbers(n, WORLDS[0])[0].text for n in [*own, *given]
               if guess.numbers(n, WORLDS[0]) and not guess.role_of(n) and not ties.LENGTHS.match(n)}
    label = _label(given, title)
    if set(own) & set(given) or any(guess.keys_of(n, source) or FILES.search(n)
                                                            for n in [*own, *given]):
        return
    one_letter = {n for n in literal if len(n) == 1}
    for arrays in dict.fromkeys((frozenset(one_letter), frozenset())):
        numbers = {n: t for n, t in literal.items() if n not in arrays}
        roles = {n: "labels" if n == label else ties.role(n, n in given, n in given[:1])
                 for n in [*own, *given] if n not in numbers}

        def attempt(shapes: ties.Shapes, numbers: dict[str, str] = numbers, roles: dict[str, str] = roles) -> Fit:
            calls = []
            for names in (own, given):
                there = {n: ties.array(n, roles[n], shapes[n]) for n in names if n in shapes}
                calls.append(Call({n: numbers.get(n, n) for n in names}, there,
                                  {n: "labels" if n == label else "data" for n in there}))
            return run(*calls)

        for shapes in ties.choices(roles, source):
            yield partial(_tied, shapes, attempt)


def _tied(shapes: ties.Shapes, attempt: Callable[[ties.Shapes], Fit]) -> Fit:
    """The fit that refusals lead to from some shapes, made as small as it can be."""
    for _ in range(ROUNDS):
        found, shapes = ties.follow(shapes, attempt)
        told = _as_gradients(found, shapes) if found.score == 4 else shapes
        if told == shapes:
            break
        shapes = told
    if found.score < 4.5:  # these shapes are nobody's: what they break is no fault
        found.score = min(found.score, 1)
        return found
    small = attempt(ties.smaller(shapes))
    return small if small.score == found.score else found


def _as_gradients(fit: Fit, shapes: ties.Shapes) -> ties.Shapes:
    """The shapes of a fit, a parameter's that of its gradient: a number for all, say, one entry."""
    shapes = dict(shapes)
    with contextlib.suppress(Exception):
        layer = fit.adapted()
        outputs = listed(layer.forward(*_copies(fit.inputs).values()))
        returned = layer.backward(*(np.ones(np.shape(o)) for o in outputs))
        gradients = dict(zip(fit.recipe.gradients, returned, strict=True)) | layer.kept
        for name, g in gradients.items():
            if name in shapes and name not in fit.recipe.gradients:
                shapes[name] = np.shape(g)
    return shapes


def planned(things: tuple[Any, ...], plan: dict[str, Any]) -> Fit:
    """The fit of a class, or of functions, of which an assignment says what they are given.

    Args:
        things: the class; or the forward function and, unless it gives its gradient itself, the backward one.
        plan: ``inputs``, ``arguments`` and ``make``, as ``assignment.Task`` describes them.
    """
    arrays = {n: guess.asked(n, a) for n, a in plan["inputs"].items()}
    roles = {n: "target" if isinstance(plan["inputs"][n], dict) and plan["inputs"][n].get("one_hot") else
             "labels" if a.dtype.kind == "i" else "data" for n, a in arrays.items()}
    texts = {n: n for n in arrays} | {n: repr(v) for n, v in plan["arguments"].items()}
    made = Call({f"={n}": f"{n}={v!r}" for n, v in plan["make"].items()}, {}, {})
    with _quiet():
        if not inspect.isclass(things[0]):
            order = [p.name for p in _parameters(things[0])]
            texts = dict(sorted(texts.items(), key=lambda t: order.index(t[0]) if t[0] in order else len(order)))
            return settle(_try_functions(things[0], things[1] if len(things) > 1 else None, False,
                                         Call(texts, arrays, roles)))
        rows = methods_of(things[0])
        if not rows:
            return Fit(-1, "it has no forward and backward of any known name")
        return settle(_try_class(things[0], rows[0], made, Call(texts, arrays, roles)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _worlds(name: str) -> list[World]:
    """The worlds, those that a name suggests first."""
    lowered = name.lower()
    return sorted(WORLDS, key=lambda w: not re.search(w.like, lowered))


# --- arguments ------------------------------------------------------------------------------------


def _parameters(function: Any) -> list[inspect.Parameter]:
    """The parameters of a call, without ``self``."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    if found and found[0].name in ("self", "cls"):
        found = found[1:]
    return [p for p in found if p.kind not in (p.VAR_KEYWORD,)]


def _needed(function: Any) -> list[str]:
    """Names of the arguments that have to be given."""
    return [p.name for p in _parameters(function) if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]


@dataclass
class Call:
    """One way to call: texts by name of the argument, arrays that they name, and their roles."""

    texts: dict[str, str]
    arrays: dict[str, Any]
    roles: dict[str, str]

    @property
    def given(self) -> str:
        return ", ".join(t if n.startswith("*") else f"{n}={t}" if n.startswith("=") else t
                         for n, t in self.texts.items())


def _product(names: list[str], choices: list[list[Value]]) -> Iterator[Call]:
    for values in itertools.islice(itertools.product(*choices), CHOICES):
        arrays: dict[str, Any] = {}
        roles: dict[str, str] = {}
        for value in values:
            if value.role == "dictionary":
                arrays |= value.array
                roles |= dict.fromkeys(value.array, "")
            elif value.array is not None:
                arrays[value.text] = value.array
                roles[value.text] = value.role
        yield Call({n: v.text for n, v in zip(names, values, strict=True)}, arrays, roles)


def _calls(function: Any, world: World, title: str, prefix: str) -> Iterator[Call]:
    """What a forward may be called with in a world."""
    parameters = _parameters(function)
    names = _needed(function)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not names:
        names = ["x"]
    source = guess.source_of(function)
    label = _label(names, title)
    kind = "normal"
    if label and (LOGS.search(title) or LOSS.search(title)) and not LOGITS.search(title):
        kind = "probabilities"
    choices = []
    for i, name in enumerate(names):
        found = guess.values(name, world, prefix, source) if name != label else list(
            guess.labels(name, world.x, prefix + name))
        plain = guess.data(name, world, prefix, kind if label else "normal")
        if name == label and re.search(r"mse|square|mae|huber|l1|l2|quadratic|regress|bce|binary", title, re.I):
            found = [v for v in found if v.role == "target" and np.shape(v.array) == world.x][::-1] + found
        role = guess.role_of(name)
        listed = re.search(rf"\bfor \w+ in {re.escape(name)}\b|\b{re.escape(name)}\[0\]\.shape", source)
        literals = guess.numbers(name, world)
        if guess.keys_of(name, source) or name == label or guess.TRAINING.match(name.lower()):
            pass
        elif i == 0 and role in ("", "labels", "scale", "state", "bias"):
            found = [plain] + [v for v in found if v.role == "labels"]
            found += [Value(name, np.random.default_rng(1).integers(0, 6, world.x[:-1] or (3,)), "ids")]
        elif i == 0 and role in ("weight", "ids") and len(names) > 1:
            pass
        elif i == 0:
            found = [plain, *found]
        elif role in ("", "labels", "mask"):
            found = [*literals, plain] if literals and not role and len(name) > 1 else [plain, *found, *literals]
        elif len(name) == 1:  # G may be a scale, and the number of groups
            found = [*found, *literals]
        if not found:
            found = [*literals, plain]
        if listed and i == 0:
            a, b = f"{name}_0", f"{name}_1"
            pair = {a: guess.normal(world.x, prefix + a), b: guess.normal(world.x, prefix + b)}
            found = [*found, Value(f"[{a}, {b}]", pair, "dictionary")]
        choices.append(found)
    yield from _product(names, choices)


def _label(names: list[str], title: str) -> str:
    """Which argument is the labels of a loss; empty for none."""
    explicit = [n for n in names if guess.role_of(n) == "labels" and n.lower() not in ("y", "ys")]
    if explicit:
        return explicit[-1] if len(names) > 1 else ""
    plain = [n for n in names if n.lower() in ("y", "ys")]
    return plain[0] if plain and len(names) > 1 and (
        LOSS.search(title) or any(re.match(r"(y_?(pred|hat|p)\w*|p|pred\w*|al|a|out\w*|scores|logits|probs)$", n, re.I)
                                  for n in names)) else ""


def _changes(given: dict[str, str]) -> Iterator[dict[str, str]]:
    """Other values for what is given, by name: texts of Python for texts of Python."""
    def named(pattern: str) -> dict[str, str]:
        return {n: v for n, v in given.items() if re.match(pattern, n, re.I)}

    strides, pads = named(r"strides?|s$"), named(r"pad\w*$")
    windows = named(r"pool_?(size|h\w*|w\w*|height|width)$|size$|kernel_?(size|shape)$|hf$|wf$")
    if strides and all(re.fullmatch(r"1|\(1, 1\)", v) for v in strides.values()):
        yield {n: v.replace("1", "2") for n, v in strides.items()}
    if pads and all(re.fullmatch(r"[012]", v) for v in pads.values()):
        for pad in {"0", "1"} - set(pads.values()):
            yield dict.fromkeys(pads, pad)
        if strides:
            yield {n: v.replace("1", "2") for n, v in strides.items()} | dict.fromkeys(pads, "1")
    if windows and strides:
        yield {n: re.sub(r"\d", "3", v) for n, v in windows.items()} | {
            n: re.sub(r"\d", "2", v) for n, v in strides.items()}
    options = {n: float(v) for n, v in given.items() if re.fullmatch(r"-?\d+\.\d*", v) and not RATES.match(n.lower())}
    options |= {n: float(v) for n, v in named(r"alpha|beta|gamma|slope|scale|temperature|tau|margin|\w*weight").items()
                if re.fullmatch(r"-?\d+", v)}
    for name, number in itertools.islice(options.items(), OPTIONS):  # at 1 and 0 a forgotten one does not show
        yield {name: repr(0.6 * number if number else 0.3)}
    for name, value in named(r"(is_?|use_?)?(causal|masked?|mask_future)$").items():
        if value == "False":
            yield {name: "True"}
    for name, value in named(r"mode$|method$|pool_type$").items():
        if value == "'max'":
            for other in ("'average'", "'avg'", "'mean'"):
                yield {name: other}


def _literals(texts: dict[str, str], function: Any) -> dict[str, str]:
    """What a call is given in literals by name, in dictionaries too, and what it is given by default."""
    found = {p.name: repr(p.default) for p in _parameters(function)
             if isinstance(p.default, (int, float, str, tuple))}
    for name, text in texts.items():
        if text.startswith("{"):
            found |= dict(re.findall(r"'(\w+)': ([^,{}]+|\([^)]*\))", text))
        elif not text.isidentifier():
            found[name] = text
    return found


def _changed(call: Call, change: dict[str, str], function: Any) -> Call:
    texts, keys = dict(call.texts), {p.name for p in _parameters(function)}
    for name, value in change.items():
        inside = next((n for n, t in texts.items() if t.startswith("{") and f"'{name}':" in t), "")
        if inside:
            texts[inside] = re.sub(rf"'{name}': [^,}}]+", f"'{name}': {value}", texts[inside])
        elif name in texts:
            texts[name] = value
        elif name in keys:
            texts[f"={name}"] = f"{name}={value}"
    return replace(call, texts=texts)


# --- classes --------------------------------------------------------------------------------------


def _class_trials(kind: Any, row: protocols.Methods, world: World) -> Iterator[Callable[[], Fit]]:
    for made in _constructors(kind, world):
        for call in _calls(getattr(kind, row.forward), world, kind.__name__ + row.forward, ""):
            yield partial(_try_class, kind, row, made, call)


def _constructors(kind: Any, world: World) -> Iterator[Call]:
    """What a constructor may be called with in a world."""
    if kind.__init__ is object.__init__:
        yield Call({}, {}, {})
        return
    parameters = _parameters(kind.__init__)
    names = _needed(kind.__init__)
    source = guess.source_of(kind.__init__)
    choices: list[list[Value]] = []
    options = [p.name for p in parameters if p.default is None and guess.RECORDERS.match(p.name.lower())]
    for name in names:
        role = guess.role_of(name)
        numbers = guess.numbers(name, world)
        arrays = guess.values(name, world, "p", source)
        if role in ("weight", "bias", "scale", "recurrent", "table") and name.lower() not in ("m",):
            # a name of one small letter may be a size; arrays are what W, b and gamma are
            found = [*arrays, *numbers]
        else:
            found = [*numbers, *[v for v in arrays if v.role not in ("state", "labels", "weight")]]
        if not found and not FILES.search(name):  # a number would be opened as a descriptor, perhaps ours
            found = [Value(repr(world.features)), Value("None")]
        choices.append(found or [Value("''")])
    for call in _product(names, choices):
        if options:
            yield replace(call, texts=call.texts | {f"={o}": f"{o}=optimizer" for o in options})
        yield call
    optional = [p.name for p in parameters if p.default is None and guess.numbers(p.name, world)
                and p.name not in options]
    if optional:  # left out they may be asked for later: an input shape, say
        for call in itertools.islice(_product(names, choices), 2):
            extra = {f"={o}": f"{o}={guess.numbers(o, world)[0].text}" for o in optional}
            yield replace(call, texts=call.texts | extra)


def _given(call: Call) -> str:
    return ", ".join(call.texts.values())


def _try_class(kind: Any, row: protocols.Methods, made: Call, call: Call) -> Fit:
    name = kind.__name__
    recipe = Recipe(name, f"{name}({_given(made)})", imports=(name,))
    optimizer = Recorder()
    made_by = kind.__init__
    space = {"np": np, name: kind, "softmax": softmax, "identity": Identity()}
    fit = Fit(0, recipe=recipe, inputs=call.arrays, space=space, optimizer=optimizer, kind=kind)
    local: dict[str, Any] = {"optimizer": optimizer, **made.arrays, **call.arrays}
    fit.given = _literals(made.texts, made_by) if made_by is not object.__init__ else {}
    fit.again = lambda change, arrays={}: _try_class(kind, row, _changed(made, change, made_by),
                                                     replace(call, arrays=call.arrays | arrays))
    try:
        np.random.seed(0)
        layer = local["layer"] = eval(recipe.make, space, dict(local, **_copies(made.arrays)))
        recipe.before = _prepare(layer, space, local, call)
    except Exception as error:
        fit.why = f"its constructor, as {recipe.make}, raised {_words(error)}"
        return fit
    fit.score, fit.layer = 1, layer
    method = "layer" if row.forward == "__call__" else f"layer.{row.forward}"
    recipe.forward = f"{method}({_given(call)})"
    recipe.reset = tuple(f"layer.{r.method}()" for r in protocols.rows(protocols.Reset)
                         if callable(getattr(layer, r.method, None)) and not _needed(getattr(layer, r.method))
                         and (r.method != "reset" or "grad" in guess.source_of(getattr(kind, r.method))))
    pristine = None
    with contextlib.suppress(Exception):  # what cannot be copied
        pristine = copy.deepcopy(layer)
    attributes = [r.attribute for r in protocols.rows(protocols.Result) if r.of == "forward"]
    try:
        _once(recipe, space, local, call.arrays)  # a layer that makes its parameters when it first sees data
        result = _once(recipe, space, local, call.arrays)
        if not row.backward:
            return _own_gradient(fit, result, local, call)
        found = _backwards(fit, result, local, call, getattr(layer, row.backward), f"layer.{row.backward}", attributes,
                           row.derivative)
    except Exception as error:
        fit.why = f"{recipe.forward} raised {_words(error)}"
        found = fit
    if found.score < 4 and found.score != 0 and pristine is not None and (found.score > 1 or recipe.reset):
        # one that can be run but once
        for reset in dict.fromkeys((recipe.reset, ())):
            single = replace(fit, score=1, layer=pristine, recipe=replace(recipe, reset=reset, once=True), single=True)
            local["layer"] = copy.deepcopy(pristine)
            with contextlib.suppress(Exception):
                result = _once(single.recipe, space, local, call.arrays)
                once = _backwards(single, result, local, call, getattr(local["layer"], row.backward),
                                  f"layer.{row.backward}", attributes, row.derivative)
                if once.score > 3:
                    once.recipe.words += (f"only a new object can be run: afterwards {found.why}",)
                    once.layer = pristine
                    return once
    return found


def _prepare(layer: Any, space: dict[str, Any], local: dict[str, Any], call: Call) -> tuple[str, ...]:
    """Calls what has to be called before a forward; gives the texts."""
    done = []
    for row in protocols.rows(protocols.Before):
        method = getattr(layer, row.method, None)
        if not callable(method):
            continue
        needed = _needed(method)
        x = next(iter(call.arrays), "x")
        for given in row.calls:
            given = re.sub(r"\bx\b", x, given)
            if bool(given) != bool(needed) and not (given == "optimizer" and _parameters(method)):
                continue
            text = f"layer.{row.method}({given})"
            with contextlib.suppress(Exception):
                eval(text, space, local)
                done.append(text)
                break
    return tuple(done)


def _copies(arrays: dict[str, Any]) -> dict[str, Any]:
    return {n: np.array(a) for n, a in arrays.items()}


def _once(recipe: Recipe, space: dict[str, Any], local: dict[str, Any], arrays: dict[str, Any]) -> Any:
    np.random.seed(0)
    local |= _copies(arrays)
    for text in recipe.reset:
        exec(text, space, local)
    return eval(recipe.forward, space, local)


# --- functions ------------------------------------------------------------------------------------


def _try_functions(forward: Any, backward: Any, derivative: bool, call: Call) -> Fit:
    name = forward.__name__
    recipe = Recipe(name, imports=(name,) if backward is None else (name, backward.__name__))
    space = {"np": np, name: forward, "softmax": softmax, "identity": Identity()}
    if backward is not None:
        space[backward.__name__] = backward
    fit = Fit(1, recipe=recipe, inputs=call.arrays, space=space, optimizer=Recorder(),
              functions=(forward,) if backward is None else (forward, backward))
    recipe.forward = f"{name}({_given(call)})"
    fit.given = _literals(call.texts, forward)
    fit.again = lambda change, arrays={}: _try_functions(
        forward, backward, derivative, _changed(replace(call, arrays=call.arrays | arrays), change, forward))
    local: dict[str, Any] = {"layer": None, "optimizer": fit.optimizer}
    try:
        result = _once(recipe, space, local, call.arrays)
    except Exception as error:
        fit.why = f"{recipe.forward} raised {_words(error)}"
        return fit
    if backward is None:
        return _own_gradient(fit, result, local, call)
    return _backwards(fit, result, local, call, backward, backward.__name__, [], derivative)


def _own_gradient(fit: Fit, result: Any, local: dict[str, Any], call: Call) -> Fit:
    """``loss, dx = f(x, y)``."""
    recipe = fit.recipe
    if not (isinstance(result, tuple) and len(result) > 1 and np.ndim(result[0]) == 0 and _finite(result[0])):
        fit.why = f"{recipe.forward} gave no loss with a gradient"
        return fit
    fit.score, recipe.outputs, recipe.scalar = 2, ("result[0]",), True
    local["result"] = result
    entries = [e for i in range(1, len(result)) for e in _entries(f"result[{i}]", result[i], "")]
    names = guess.returned_names(fit.functions[0]) if fit.functions else []
    entries = _named(entries, next((n for n in names if len(n) == len(result)), []), 1)
    found = _assign(fit, local, call, entries, floats_last=True)
    if found.layer is not None and found.score == 4 and recipe.grads and not recipe.gradients and all(
            np.shape(_safely(recipe.grads[n], found, local)) == np.shape(_safely(p, found, local))
            for n, p in recipe.params.items()):
        found.score = 5  # of a model nobody wants the gradient of the data
    return found


# --- what forward gave, and backward --------------------------------------------------------------


def _finite(a: Any) -> bool:
    try:
        a = np.asarray(a)
    except Exception:
        return False
    return a.dtype.kind == "f" and a.size > 0 and bool(np.isfinite(a).all())


def _backwards(fit: Fit, result: Any, local: dict[str, Any], call: Call, backward: Any, text: str,
               attributes: list[str], derivative: bool) -> Fit:
    """Tries the ways to call a backward after a forward that ran."""
    recipe, layer = fit.recipe, fit.layer
    local["result"] = result
    cached = any(CACHE.match(n.lower()) for n in _needed(backward))
    outputs = _outputs(result, layer, attributes, cached, call)
    if not outputs:
        fit.why = f"{recipe.forward} gave no finite floating array"
        return fit
    fit.score, best, unused = 2, fit, ""
    label = next((n for n, r in call.roles.items() if r in ("labels", "target")), "")
    for given, count, rate in _all_ways(backward, call, outputs, local, derivative, cached, label):
        trial = replace(fit, recipe=replace(recipe, outputs=tuple(outputs[:max(count, 1)])))
        given_dy = {f"dy{i}": np.random.default_rng(i).standard_normal(np.shape(_value(o, fit.space, local)))[()]
                    for i, o in enumerate(trial.recipe.outputs)}
        own = dict(local, **given_dy)
        if derivative and count == 0 and not label:
            trial.recipe.backward = f"dy0 * {text}({given})"
        else:
            trial.recipe.backward, trial.recipe.scalar = f"{text}({given})", count == 0
        best_here = _run_backward(trial, own, call, backward, rate)
        if given.endswith("=dy0") and best_here.score > 3 and _ignores(trial, own, call):
            unused = re.findall(r"(\w+)=dy0", given)[0]
            continue
        if best_here.score > best.score or (best.score == 2 and not best.recipe.backward):
            best = best_here
        if best.score == 5:
            break
    best.recipe.unused = unused
    return best


def _ignores(fit: Fit, local: dict[str, Any], call: Call) -> bool:
    """Whether twice the cotangent gives the same gradients."""
    found = []
    with contextlib.suppress(Exception):
        for scale in (1.0, 2.0):
            own = dict(local, layer=copy.deepcopy(fit.layer), dy0=scale * local["dy0"])
            own["result"] = _once(fit.recipe, fit.space, own, call.arrays)
            found.append([a for _, _, a in _entries("", eval(fit.recipe.backward, fit.space, own), "")])
    return len(found) == 2 and bool(found[0]) and all(map(np.array_equal, *found))


def _value(text: str, space: dict[str, Any], local: dict[str, Any]) -> Any:
    return eval(text, space, local)


def _outputs(result: Any, layer: Any, attributes: list[str], cached: bool, call: Call) -> list[str]:
    """Expressions of the outputs that have a gradient."""
    if result is None or (layer is not None and result is layer):
        kept = [f"layer.{a}" for a in attributes if _finite(getattr(layer, a, None))]
        return kept[:1]
    if isinstance(result, (tuple, list)):
        inside = [f"result[{i}]" for i, r in enumerate(result) if _finite(r)]
        if cached and len(inside) == len(result) and len(inside) > 1:
            inside.pop()
        return inside
    return ["result"] if _finite(result) else []


def _all_ways(backward: Any, call: Call, outputs: list[str], local: dict[str, Any], derivative: bool, cached: bool,
              label: str) -> Iterator[tuple[str, int, bool]]:
    """The same, first with the cotangents of further outputs, where they have a default."""
    further = [p.name for p in _parameters(backward)
               if p.default is not p.empty and not isinstance(p.default, (bool, str)) and COTANGENT.match(p.name)]
    if further and len(outputs) > 1:
        names = _needed(backward) + further
        yield from (way for way in _ways(backward, names, call, outputs, local, derivative, cached, label)
                    if way[1] == len(outputs))
    plain = list(_ways(backward, _needed(backward), call, outputs, local, derivative, cached, label))
    starts = [p.name for p in _parameters(backward) if p.default in (1, None) and not isinstance(p.default, bool)
              and (p.default == 1 or COTANGENT.match(p.name)) and p.kind is not p.VAR_POSITIONAL
              and not RATES.match(p.name.lower())]
    if starts and np.ndim(_value(outputs[0], {"np": np}, local)) == 0:  # a chain may go on behind a loss
        yield from ((", ".join(filter(None, (given, f"{starts[0]}=dy0"))), 1, rate) for given, count, rate in plain
                    if not count)
    yield from plain


def _ways(backward: Any, names: list[str], call: Call, outputs: list[str], local: dict[str, Any], derivative: bool,
          cached: bool, label: str) -> Iterator[tuple[str, int, bool]]:
    """Ways to call a backward: the arguments as text, how many are cotangents, whether one is a learning rate."""
    if any(p.kind is p.VAR_POSITIONAL for p in _parameters(backward)) and not names:
        names = ["dy"]
    if not names and not label and not derivative:
        optional = [p.name for p in _parameters(backward) if not isinstance(p.default, bool)]
        scalar = np.ndim(_value(outputs[0], {"np": np}, local)) == 0
        if optional and not scalar:
            names = optional[:1]
    result = local["result"]
    cache = "result[-1]" if isinstance(result, (tuple, list)) and len(result) > 1 else "result"
    x = next((n for n, r in call.roles.items() if r not in ("labels", "target")), next(iter(call.arrays), "x"))
    lowered = {n.lower(): n for n in call.arrays}
    choices: list[list[str]] = []
    open_names = [n for n in names if n not in call.texts]
    for name in names:
        low = name.lower().strip("_")
        if name in call.texts:
            choices.append([call.texts[name]])
        elif CACHE.match(low) and (cached and (cache == "result[-1]" or low != "state")):
            choices.append([cache, *([f"({', '.join(call.arrays)},)", *call.arrays] if cache == "result" else [])])
        elif RATES.match(low):
            choices.append([repr(RATE)])
        elif guess.TRAINING.match(low):
            choices.append(["True"])
        elif guess.RECORDERS.match(low):
            choices.append(["optimizer"])
        elif low.startswith("act"):
            choices.append(["identity"])
        elif guess.role_of(name) == "labels" and label:
            choices.append([label])
        elif derivative:
            choices.append([lowered.get(low, x)])
        elif label:
            choices.append(["dy", x] if COTANGENT.match(low) and not DATA.match(low) else [x, "dy"])
        elif DATA.match(low) and len(open_names) > 1:
            choices.append([x])
        elif len(open_names) > 1 and not re.match(r"(d|grad|delta|g|err|top|up|out|prev|next|acc)", low):
            choices.append(["dy", x, "result", cache])
        else:
            choices.append(["dy"])
    for chosen in itertools.islice(itertools.product(*choices), 12):
        count, texts = 0, []
        for text in chosen:
            texts.append(f"dy{count}" if text == "dy" else text)
            count += text == "dy"
        if count <= len(outputs):
            yield ", ".join(texts), count, any(RATES.match(n.lower()) for n in names)


def _run_backward(fit: Fit, local: dict[str, Any], call: Call, backward: Any, rate: bool) -> Fit:
    recipe, layer = fit.recipe, fit.layer
    if fit.single:
        layer = fit.layer = local["layer"] = copy.deepcopy(fit.layer)
    before = {e: (a, np.array(a)) for e, _, _, a in walk(layer, "layer") if isinstance(a, np.ndarray)}
    try:
        local["result"] = _once(recipe, fit.space, local, call.arrays)
        local["returned"] = eval(recipe.backward, fit.space, local)
    except Exception as error:
        fit.why = f"{recipe.backward} raised {_words(error)}"
        return fit
    fit.score = 3
    returned = local["returned"]
    if returned is None or returned is layer:
        attributes = [r.attribute for r in protocols.rows(protocols.Result) if r.of == "backward"]
        x = next(iter(call.arrays), "x")
        entries = []
        for a in (f"d{x}", f"grad_{x}", f"{x}_grad", *attributes):
            value = getattr(layer, a, None)
            if isinstance(value, np.ndarray) and np.shape(value) == np.shape(call.arrays.get(x, ())):
                entries = [(f"layer.{a}", a, value)]
                break
    else:
        entries = _entries("returned", returned, "")
        stacked = next((n for n, a in call.arrays.items() if isinstance(returned, list) and len(returned) > 1 and
                        np.shape(returned) == np.shape(a) and len(entries) == len(returned)), "")
        if stacked:  # a list of the gradients of its rows
            entries = [("np.stack(returned)", stacked, np.stack(returned))]
        wanted = next((n for n in guess.returned_names(backward)
                       if isinstance(returned, (tuple, list)) and len(n) == len(returned)), [])
        entries = _named(entries, wanted, 0)
    _parameters_of(fit, local, before, call, entries, rate)
    return _assign(fit, local, call, entries)


Entry = tuple[str, str, Any]


def _entries(text: str, value: Any, name: str) -> list[Entry]:
    """The arrays in what a backward returned: expression, name, value."""
    if isinstance(value, dict):
        return [e for k, v in value.items() for e in _entries(f"{text}[{k!r}]", v, str(k))]
    if isinstance(value, (tuple, list)) and not all(isinstance(v, (int, float)) for v in value):
        return [e for i, v in enumerate(value) for e in _entries(f"{text}[{i}]", v, name)]
    return [] if value is None else [(text, name, value)]


def _named(entries: list[Entry], names: list[str], start: int) -> list[Entry]:
    """Entries with the names that stand in the return statement."""
    found = []
    for text, name, value in entries:
        match = re.match(r"\w+\[(\d+)\]$", text)
        if not name and match and int(match.group(1)) < len(names):
            name = names[int(match.group(1))]
        found.append((text, name, value))
    return found


def _stem(name: str) -> str:
    """What a gradient's name says that it is the gradient of, in small letters."""
    low = name.lower()
    low = re.sub(r"^(dl_?d|dj_?d|grad(ient)?s?_?|d_|delta_?|d)(?=\w)", "", low, count=1)
    return re.sub(r"_?(grad(ient)?s?|update|deriv)$", "", low)


def _like(name: str, stems: dict[str, Entry]) -> Entry | None:
    """The entry whose name says that it is the gradient of an array of this name, where one alone does."""
    low = name.lower()
    if low in stems:
        return stems[low]
    bare = low.replace("_", "")
    fits = [e for stem, e in stems.items() if len(stem) > 2 and bare.endswith(stem.replace("_", ""))]
    return fits[0] if len(fits) == 1 else None


def _parameters_of(fit: Fit, local: dict[str, Any], before: dict[str, tuple[Any, Any]], call: Call,
                   entries: list[Entry], rate: bool) -> None:
    """Finds the parameters that a layer keeps, and the gradient of each."""
    recipe, layer = fit.recipe, fit.layer
    if layer is None:
        return
    own = list(walk(layer, "layer"))
    now = {e: a for e, _, _, a in own}
    params, grads = getattr(layer, "params", None), getattr(layer, "grads", None)
    if isinstance(params, list) and isinstance(grads, list) and len(params) == len(grads) and params and all(
            isinstance(p, np.ndarray) for p in params):
        names = _attribute_names(layer, params)
        recipe.params = {n: f"layer.params[{i}]" for i, n in enumerate(names)}
        recipe.grads = {n: f"layer.grads[{i}]" for i, n in enumerate(names)}
        recipe.textbook = not recipe.reset
        return
    forms = [r.form for r in protocols.rows(protocols.Beside)]
    holders = [(r.parameters, r.gradients) for r in protocols.rows(protocols.Holders)]
    taken: set[int] = set()
    inputs = [a for a in local.values() if isinstance(a, np.ndarray)]
    own = [entry for entry in own if not any(entry[1].endswith((f".{g}", f"[{g!r}]")) for _, g in holders)]
    for expression, holder, name, array in own:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.size or id(array) in taken:
            continue
        old = before.get(expression)
        named = name if _role(name) else holder.rpartition(".")[2]  # the z of W["z"]
        if old is None and fit.single and _role(named):
            fit.leftover.setdefault(expression.removeprefix("layer."), name)
        if old is None or any(np.may_share_memory(array, a) for a in inputs if a.dtype.kind == "f"):
            continue
        if any(name == form.format(n) and n != name for form in forms for n in (e[2] for e in own if e[1] == holder)):
            continue  # itself a gradient
        changed = array is not old[0] or not np.array_equal(array, old[1], equal_nan=True)
        if changed and not (array.shape == old[1].shape and guess.role_of(name) in (
                "weight", "bias", "scale", "recurrent", "table", "out weight", "out bias", "peephole")):
            continue
        gradient = _beside(expression, holder, name, now, forms, holders, layer)
        if gradient is None and (noted := fit.optimizer.of(array)) is not None and np.shape(noted):
            gradient = f"optimizer.of({expression})"
        if gradient is None and changed and not np.array_equal(array, old[1], equal_nan=True):
            key = _unique(name, expression, recipe.params)
            factor = RATE if rate else _rate_of(layer)
            gradient = f"(before[{key!r}] - {expression}) / {factor!r}"
        if gradient is None:
            if _role(named) and not changed:
                fit.leftover.setdefault(expression.removeprefix("layer."), name)
            continue
        key = _unique(name, expression, recipe.params)
        recipe.params[key], recipe.grads[key] = expression, gradient
        fit.leftover.pop(expression.removeprefix("layer."), None)
        taken.add(id(array))
        taken.add(id(now.get(gradient)))
    fit.leftover = {e: n for e, n in fit.leftover.items()
                    if not any(now.get(f"layer.{e}") is now.get(p) for p in recipe.params.values())}


def _role(name: str) -> bool:
    return guess.role_of(name) in ("weight", "bias", "scale", "recurrent", "table", "out weight", "out bias")


def _rate_of(layer: Any) -> float:
    for _, _, name, value in walk(layer, "layer"):  # its own, or that of the optimizer that it keeps
        if RATES.match(name.lower()) and isinstance(value, float):
            return value
    return 1.0


def _unique(name: str, expression: str, known: dict[str, str]) -> str:
    said = len(name) > 1 or not expression.endswith("]")  # the z of W["z"] does not say which
    key = name if name.isidentifier() and said and name not in ("data", "value", "val", "tensor") else re.sub(
        r"\W+", "_", expression.removeprefix("layer.")).strip("_")
    return key if key not in known else re.sub(r"\W+", "_", expression.removeprefix("layer.")).strip("_")


def _attribute_names(layer: Any, params: list[Any]) -> list[str]:
    """The attributes under which a layer's parameters also stand; ``params[i]`` elsewhere."""
    found: list[str] = []
    for i, p in enumerate(params):
        name = next((n for n, v in vars(layer).items() if v is p), f"params[{i}]")
        found.append(name if name not in found else f"params[{i}]")
    return found


def _beside(expression: str, holder: str, name: str, now: dict[str, Any], forms: list[str],
            holders: list[tuple[str, str]], layer: Any) -> str | None:
    """The expression of the gradient of a parameter, by name; None for none."""
    wanted = []
    key = expression[len(holder):]
    for form in forms:
        partner = form.format(name)
        wanted.append(f"{holder}.{partner}" if key.startswith(".") else f"{holder}[{partner!r}]")
        if form == "d{}" and name.endswith("s"):
            wanted.append(f"{holder}.{form.format(name[:-1])}")
    for parameters, gradients in holders:
        if key == f".{parameters}":
            wanted.append(f"{holder}.{gradients}")
        for mark in (f".{parameters}", f"[{parameters!r}]"):
            if holder.endswith(mark):
                other = holder[: -len(mark)] + mark.replace(parameters, gradients)
                wanted += [f"{other}{key}", *(f"{other}[{form.format(name)!r}]" for form in forms[:8])]
    outer, _, group = holder.rpartition(".")
    if outer and group.isidentifier():  # dW["z"] for W["z"]
        wanted += [f"{outer}.{form.format(group)}{key}" for form in forms]
    shape = np.shape(now[expression])
    pair = re.sub(r"\[0\]$", "[1]", expression)
    if re.search(r"\]\[0\]$", expression) and np.shape(now.get(pair, ())) == shape:  # a list of pairs
        wanted.append(pair)
    there = [w for w in wanted if w in now and w != expression]
    return next((w for w in there if np.shape(now[w]) == shape), there[0] if there else None)


def _assign(fit: Fit, local: dict[str, Any], call: Call, entries: list[Entry], floats_last: bool = False) -> Fit:
    """Which entry is the gradient of which input or parameter."""
    recipe = fit.recipe
    labelled = [n for n, r in call.roles.items() if r in ("labels", "target")]
    floats = [n for n, a in call.arrays.items() if np.asarray(a).dtype.kind == "f"]
    recipe.constant = tuple(n for n in floats if n in labelled)
    targets = [n for n in floats if n not in labelled]
    free = [e for e in entries if e[0] not in recipe.grads.values()]
    if fit.layer is not None and any("['" in e[0] for e in free):  # a dictionary of the parameters' gradients
        names = {n.lower() for _, _, n, _ in walk(fit.layer, "layer")} - {n.lower() for n in targets}
        keys = [e for e in free if _stem(e[1]) in names]
        _returned_parameters(fit, keys, local)
        free = [e for e in free if e[0] not in {k[0] for k in keys}]
    by_name = all(e[1] for e in free) and bool(free)
    stems = {_stem(e[1]): e for e in free}
    shapes = {n: np.shape(call.arrays[n]) for n in targets}
    positional = len(free) >= len(targets) and all(
        np.shape(e[2]) == shapes[n] for e, n in zip(free, targets, strict=False))
    found: dict[str, Entry] = {}
    crossed = by_name and sum(map(len, stems)) > 2 * len(stems)  # words, and not letters, say which is which
    keyed = any("['" in e[0] for e in free)
    matched = {n: e for n in targets if (e := _like(n, stems))} if by_name else {}
    crossed &= len(matched) == len(targets) == len({e[0] for e in matched.values()})
    if (keyed or crossed or not positional) and matched:
        found = matched
        if not keyed and len(free) > 1 and [e[0] for e in found.values()] != [e[0] for e in free[:len(found)]]:
            recipe.words += ("the gradients are returned in another order than the arguments",)
    rest = [e for e in free if e not in found.values()]
    for n in targets:
        if n not in found and rest and not (keyed and by_name and len(matched) > 0):
            fits = [e for e in rest if np.shape(e[2]) == shapes[n]]
            if len(rest) < sum(t not in found for t in targets) and not fits:
                continue
            found[n] = rest[0] if len(rest) >= sum(t not in found for t in targets) or not fits else fits[0]
            rest.remove(found[n])
    recipe.gradients = {n: found[n][0] for n in targets if n in found}
    if rest and fit.layer is not None:
        _returned_parameters(fit, rest, local)
    missing = [n for n in targets if n not in found]
    if not recipe.gradients and not recipe.grads:
        fit.why = f"{recipe.backward or recipe.forward} gave no gradient"
        return fit
    if missing and (recipe.gradients or recipe.grads) and len(targets) - len(missing) >= 0:
        # what has no gradient at all is no input that is differentiated: a mask, a temperature, a first data layer
        recipe.constant += tuple(missing)
        recipe.words += (f"no gradient is given for {', '.join(missing)}",)
    fit.score = 4 if "ids" not in call.roles.values() else 3.8  # numbers are likelier data than indices
    right = all(np.shape(found[n][2]) == shapes[n] for n in targets if n in found)
    right &= all(np.shape(_safely(g, fit, local)) == np.shape(_safely(p, fit, local))
                 for p, g in zip(recipe.params.values(), recipe.grads.values(), strict=True))
    if missing:
        fit.why = f"no gradient for {', '.join(missing)}"
    elif not right:
        fit.why = "a gradient has another shape than its array"
        if any(1 in shapes[n] and np.size(found[n][2]) > np.prod(shapes[n]) for n in targets
               if n in found and call.roles[n] == "data"):
            fit.score = 1  # one entry was stretched, in data of a shape that it was not written for
    else:
        fit.score = 5 if recipe.gradients else 4.5
    numbers = {n.lower(): n for n, text in call.texts.items() if re.fullmatch(r"-?[\d.]+", text)}
    if unseen := [numbers[_stem(e[1])] for e in rest if _stem(e[1]) in numbers and np.size(e[2])]:
        fit.leftover = fit.leftover | dict.fromkeys(unseen, "its gradient is returned, and it was given as a number")
        fit.score = min(fit.score, 4.7)
    return fit


def _safely(text: str, fit: Fit, local: dict[str, Any]) -> Any:
    try:
        return eval(text, fit.space, local | {"before": dict.fromkeys(fit.recipe.params, 0)})
    except Exception:
        return None


def _returned_parameters(fit: Fit, rest: list[Entry], local: dict[str, Any]) -> None:
    """``return dX, [dW, db]``: the gradients that were returned beside those of the inputs."""
    recipe = fit.recipe
    kept = {e: (n, a) for e, _, n, a in walk(fit.layer, "layer") if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    params = getattr(fit.layer, "params", None)
    listed = [f"layer.params[{i}]" for i in range(len(params))] if isinstance(params, list) else []
    for k, (text, name, value) in enumerate(rest):
        shape = np.shape(value)
        candidates = [e for e, (n, a) in kept.items() if e not in recipe.params.values()
                      and not any(a is v for v in local.values())]
        named = [e for e in candidates if kept[e][0].lower() == _stem(name) and name]
        order = [listed[k]] if k < len(listed) and listed[k] in candidates else []
        fits = [e for e in candidates if kept[e][1].shape == shape and _role(kept[e][0])]
        chosen = next(iter(named or order or fits), None)
        if chosen:
            key = _unique(kept[chosen][0], chosen, recipe.params)
            if re.fullmatch(r"\d+", kept[chosen][0]):
                key = f"params_{kept[chosen][0]}"
            recipe.params[key], recipe.grads[key] = chosen, text
            same = [e for e in list(fit.leftover) if kept.get(f"layer.{e}", (0, 0))[1] is kept[chosen][1]]
            for e in same:
                del fit.leftover[e]


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


# --- conventions that the numbers tell ------------------------------------------------------------


def settle(fit: Fit) -> Fit:
    """The same recipe under the convention that its numbers keep, where there is more than one: of a loss that gives
    a number a sample, the sum or the mean; of a derivative, by the argument or by the value."""
    if fit.score < GRADIENTS:
        return fit
    recipe, others = fit.recipe, []
    local = dict(fit.inputs, layer=copy.deepcopy(fit.layer), optimizer=fit.optimizer)
    x = next((n for n in fit.inputs if n in recipe.gradients), "")
    with _quiet():
        try:
            local["result"] = _once(recipe, fit.space, local, fit.inputs)
            before = [np.array(eval(o, fit.space, local)) for o in recipe.outputs]
            single = np.ndim(before[0]) == 0
            for n in recipe.constant:
                if _role(n) and _matters(fit, local, before, n):
                    fit.leftover[n] = n
        except Exception:
            return fit
        if recipe.scalar:
            first = recipe.outputs[0]
            if not single:
                recipe = fit.recipe = replace(recipe, outputs=(f"np.sum({first})",))
                others += [(replace(recipe, outputs=(f"np.sum({first}) / len({x})",)),
                            "its gradient is that of the mean over the samples"),
                           (replace(recipe, outputs=(f"np.mean({first})",)), "its gradient is that of the mean")]
            label = recipe.constant or [n for n, a in fit.inputs.items() if np.asarray(a).dtype.kind in "biu"]
            if x and label and np.ndim(fit.inputs[x]) == 2 and not LOGITS.search(recipe.name):
                forward, backward = (re.sub(rf"\b{x}\b", f"softmax({x})", t)
                                     for t in (recipe.forward, recipe.backward))
                others.append((replace(recipe, forward=forward, backward=backward),
                               "its gradient is that of the scores before a softmax"))
        elif recipe.backward.startswith("dy0 * ") and x:
            others.append((replace(recipe, backward=re.sub(rf"\b{x}\b", "result", recipe.backward)),
                           "its derivative is by the value of the function, not by its argument"))
        if others and not agrees(fit):
            for other, words in others:
                trial = replace(fit, recipe=replace(other, words=(*other.words, words)))
                if agrees(trial):
                    return trial
    return fit


def _matters(fit: Fit, local: dict[str, Any], before: list[Any], name: str) -> bool:
    """Whether an output changes with an array that has no gradient."""
    try:
        moved = fit.inputs | {name: np.asarray(fit.inputs[name]) * 1.25 + 0.125}
        own = dict(local, layer=copy.deepcopy(fit.layer))
        own["result"] = _once(fit.recipe, fit.space, own, moved)
        now = [np.array(eval(o, fit.space, own)) for o in fit.recipe.outputs]
        return not all(np.array_equal(a, b) for a, b in zip(before, now, strict=True))
    except Exception:
        return True


def agrees(fit: Fit) -> bool:
    """Whether a gradient is, roughly, the derivative of its forward along two directions."""
    try:
        layer = fit.adapted()
        names = list(fit.recipe.gradients)
        rng = np.random.default_rng(5)
        inputs = _copies(fit.inputs)
        np.random.seed(0)
        outputs = listed(layer.forward(*inputs.values()))
        cotangents = [np.ones(())[()] if fit.recipe.scalar else rng.standard_normal(np.shape(o))[()] for o in outputs]
        np.random.seed(1)
        gradients = dict(zip(names, layer.backward(*cotangents), strict=True))
        for _ in range(2):
            vectors = {n: rng.uniform(-1, 1, inputs[n].shape) for n in names}
            got = sum(float(np.sum(gradients[n] * v)) for n, v in vectors.items())
            ends: list[float] = []
            for sign in (1, -1):
                np.random.seed(0)
                moved = {n: a + sign * 1e-6 * vectors[n] if n in vectors else a for n, a in inputs.items()}
                ends.append(sum(float(np.sum(c * o)) for c, o in zip(
                    cotangents, listed(layer.forward(*moved.values())), strict=True)))
            slope = (ends[0] - ends[1]) / 2e-6
            size = sum(float(np.abs(gradients[n] * v).sum()) for n, v in vectors.items())
            if not abs(got - slope) <= 1e-4 * (size + abs(slope)) + 1e-9:
                return False
        return True
    except Exception:
        return False
