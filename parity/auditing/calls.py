"""What a constructor or a forward may be called with, by the names of its arguments."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import guess
from .guess import Value, World

CHOICES = 48  # combinations of the arguments of one call
OPTIONS = 4  # numbers that another value is tried of
WEIGHTS = ("weight", "recurrent", "table", "scale")
SEEDS = re.compile(r"^(seed|random_?(state|seed))$", re.I)
WINDOW = re.compile(r"^((pool|kernel|filter|window|k|f|p|w)\w*?_?(h|w|height|width)|hh|ww|hf|wf|[hw]_?filter)$", re.I)
RATES = re.compile(r"^(lr|learning_?rate|eta|step_?size)$")
FILES = re.compile(r"path|file|dir|folder|url|stream|descriptor|fd$", re.I)
LOSS = re.compile(r"loss|cost|entropy|mse|mae|hinge|criterion|error|likelihood|nll|bce", re.I)
LOGS = re.compile(r"entropy|bce|nll|likelihood|\bce\b|log_?loss|crossent", re.I)
LOGITS = re.compile(r"softmax|logit|svm|hinge|sigmoid", re.I)


@dataclass
class Call:
    """One way to call: texts by name of the argument, arrays that they name, and their roles."""

    texts: dict[str, str]
    arrays: dict[str, Any]
    roles: dict[str, str]


def signature_of(function: Any) -> list[inspect.Parameter]:
    """The parameters of a call, without ``self``."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    if found and found[0].name in ("self", "cls"):
        found = found[1:]
    return [p for p in found if p.kind not in (p.VAR_KEYWORD,)]


def needed_of(function: Any) -> list[str]:
    """Names of the arguments that have to be given."""
    return [p.name for p in signature_of(function) if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]


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


def calls_of(function: Any, world: World, title: str) -> Iterator[Call]:
    """What a forward may be called with in a world."""
    parameters = signature_of(function)
    names = needed_of(function)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not names:
        names = ["x"]
    source = guess.source_of(function)
    label = label_of(names, title)
    kind = "normal"
    if label and (LOGS.search(title) or LOSS.search(title)) and not LOGITS.search(title):
        kind = "probabilities"
    choices = []
    for i, name in enumerate(names):
        found = guess.values(name, world, "", source) if name != label else list(guess.labels(name, world.x, name))
        plain = guess.data(name, world, kind if label else "normal")
        if name == label and re.search(r"mse|square|mae|huber|l1|l2|quadratic|regress|bce|binary", title, re.I):
            found = [v for v in found if v.role == "target" and np.shape(v.array) == world.x][::-1] + found
        role = guess.role_of(name)
        if role == "bias" and i and not any(guess.role_of(n) in WEIGHTS for n in names):
            role, found = "", []  # of a and b, as of x1 and x2
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
            pair = {n: guess.normal(world.x, n) for n in (a, b)}
            found = [*found, Value(f"[{a}, {b}]", pair, "dictionary")]
        choices.append(found)
    seeds = _seeds(parameters)
    yield from (replace(call, texts=call.texts | seeds) for call in _product(names, choices))


def constructors(kind: Any, world: World) -> Iterator[Call]:
    """What a constructor may be called with in a world."""
    if kind.__init__ is object.__init__:
        yield Call({}, {}, {})
        return
    parameters = signature_of(kind.__init__)
    names = needed_of(kind.__init__)
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
    seeds = _seeds(parameters)
    for call in _product(names, choices):
        call = replace(call, texts=call.texts | seeds)
        if options:
            yield replace(call, texts=call.texts | {f"={o}": f"{o}=optimizer" for o in options})
        yield call
    optional = [p.name for p in parameters if p.default is None and guess.numbers(p.name, world)
                and p.name not in options]
    if optional:  # left out they may be asked for later: an input shape, say
        for call in itertools.islice(_product(names, choices), 2):
            extra = {f"={o}": f"{o}={guess.numbers(o, world)[0].text}" for o in optional}
            yield replace(call, texts=call.texts | extra)


def _seeds(parameters: list[inspect.Parameter]) -> dict[str, str]:
    """A seed for what draws without one: nothing can be said of a forward that gives something else each time."""
    return {f"={p.name}": f"{p.name}=0" for p in parameters if p.default is None and SEEDS.match(p.name)}


def label_of(names: list[str], title: str) -> str:
    """Which argument is the labels of a loss; empty for none."""
    explicit = [n for n in names if guess.role_of(n) == "labels" and n.lower() not in ("y", "ys")]
    if explicit:
        return explicit[-1] if len(names) > 1 else ""
    plain = [n for n in names if n.lower() in ("y", "ys")]
    return plain[0] if plain and len(names) > 1 and (
        LOSS.search(title) or any(re.match(r"(y_?(pred|hat|p)\w*|p|pred\w*|al|a|out\w*|scores|logits|probs)$", n, re.I)
                                  for n in names)) else ""


def given_text(call: Call) -> str:
    return ", ".join(call.texts.values())


def other_options(given: dict[str, str], source: str) -> Iterator[dict[str, str]]:
    """Other values for what is given, by name, to code of that source: texts of Python for texts of Python."""
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
    sides = [n for n, v in given.items() if WINDOW.match(n) and re.fullmatch(r"\d", v)]
    if len(sides) == 2 and given[sides[0]] == given[sides[1]]:  # one that is not square
        yield {sides[1]: str(int(given[sides[1]]) + 1)}
    for name, value in windows.items():
        if (square := re.fullmatch(r"\((\d), \1\)", value)) is not None:
            yield {name: f"({square[1]}, {int(square[1]) + 1})"}
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
            modes = ("average", "avg", "mean")  # what it does not name is any other than max, if that
            for other in [m for m in modes if re.search(rf"['\"]{m}['\"]", source)] or modes[:1]:
                yield {name: repr(other)}


def literals_of(texts: dict[str, str], function: Any) -> dict[str, str]:
    """What a call is given in literals by name, in dictionaries too, and what it is given by default."""
    found = {p.name: repr(p.default) for p in signature_of(function)
             if isinstance(p.default, (int, float, str, tuple))}
    for name, text in texts.items():
        if text.startswith("{"):
            found |= dict(re.findall(r"'(\w+)': ([^,{}]+|\([^)]*\))", text))
        elif not text.isidentifier():
            found[name] = text
    return found


def with_change(call: Call, change: dict[str, str], function: Any) -> Call:
    texts, keys = dict(call.texts), {p.name for p in signature_of(function)}
    for name, value in change.items():
        inside = next((n for n, t in texts.items() if t.startswith("{") and f"'{name}':" in t), "")
        if inside:
            texts[inside] = re.sub(rf"'{name}': [^,}}]+", f"'{name}': {value}", texts[inside])
        elif name in texts:
            texts[name] = value
        elif name in keys:
            texts[f"={name}"] = f"{name}={value}"
    return replace(call, texts=texts)
