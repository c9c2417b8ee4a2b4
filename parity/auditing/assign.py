"""Which array is the gradient of which input or parameter."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from . import guess, protocols
from .adapted import RATE, walk
from .calls import RATES, Call
from .trial import Fit

Entry = tuple[str, str, Any]
FORMS = [r.form for r in protocols.rows(protocols.Beside)]
HOLDERS = [(r.parameters, r.gradients) for r in protocols.rows(protocols.Holders)]


def entries_of(text: str, value: Any, name: str) -> list[Entry]:
    """The arrays in what a backward returned: expression, name, value."""
    if isinstance(value, dict):
        return [e for k, v in value.items() for e in entries_of(f"{text}[{k!r}]", v, str(k))]
    if isinstance(value, (tuple, list)) and not all(isinstance(v, (int, float)) for v in value):
        return [e for i, v in enumerate(value) for e in entries_of(f"{text}[{i}]", v, name)]
    return [] if value is None else [(text, name, value)]


def with_names(entries: list[Entry], names: list[str]) -> list[Entry]:
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


def find_parameters(fit: Fit, local: dict[str, Any], before: dict[str, tuple[Any, Any]], rate: bool) -> None:
    """Finds the parameters that a layer keeps, and the gradient of each."""
    recipe, layer = fit.recipe, fit.layer
    if layer is None:
        return
    params, grads = getattr(layer, "params", None), getattr(layer, "grads", None)
    if isinstance(params, list) and isinstance(grads, list) and len(params) == len(grads) and params and all(
            isinstance(p, np.ndarray) for p in params):
        names = _attribute_names(layer, params)
        recipe.params = {n: f"layer.params[{i}]" for i, n in enumerate(names)}
        recipe.grads = {n: f"layer.grads[{i}]" for i, n in enumerate(names)}
        recipe.textbook = not recipe.reset
        return
    own = _numbers(fit)
    now = {e: a for e, _, _, a in own}
    taken: set[int] = set()
    inputs = [a for a in local.values() if isinstance(a, np.ndarray)]
    own = [entry for entry in own if not any(entry[1].endswith((f".{g}", f"[{g!r}]")) for _, g in HOLDERS)]
    for expression, holder, name, array in own:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.size or id(array) in taken:
            continue
        old = before.get(expression)
        named = name if has_role(name) else holder.rpartition(".")[2]  # the z of W["z"]
        if np.ndim(array) == 0 and old is None:
            old = array, np.array(array)
        if old is None and fit.single and has_role(named):
            fit.leftover.setdefault(expression.removeprefix("layer."), name)
        if old is None or any(np.may_share_memory(array, a) for a in inputs if a.dtype.kind == "f"):
            continue
        if any(name == form.format(n) and n != name for form in FORMS for n in (e[2] for e in own if e[1] == holder)):
            continue  # itself a gradient
        changed = array is not old[0] or not np.array_equal(array, old[1], equal_nan=True)
        if changed and not (array.shape == old[1].shape and guess.role_of(name) in (
                "weight", "bias", "scale", "recurrent", "table", "out weight", "out bias", "peephole")):
            continue
        gradient = _beside(expression, holder, name, now)
        if gradient is None and (noted := fit.optimizer.of(array)) is not None and np.shape(noted):
            gradient = f"optimizer.of({expression})"
        if gradient is None and changed and not np.array_equal(array, old[1], equal_nan=True):
            key = _unique(name, expression, recipe.params)
            factor = RATE if rate else _rate_of(layer)
            gradient = f"(before[{key!r}] - {expression}) / {factor!r}"
        if gradient is None:
            if has_role(named) and not changed:
                fit.leftover.setdefault(expression.removeprefix("layer."), name)
            continue
        key = _unique(name, expression, recipe.params)
        recipe.params[key], recipe.grads[key] = expression, gradient
        fit.leftover.pop(expression.removeprefix("layer."), None)
        taken.add(id(array))
        taken.add(id(now.get(gradient)))
    fit.leftover = {e: n for e, n in fit.leftover.items()
                    if not any(now.get(f"layer.{e}") is now.get(p) for p in recipe.params.values())}


def _numbers(fit: Fit) -> list[tuple[str, str, str, Any]]:
    """What an object keeps, parameters that are plain numbers made arrays: a number with one of its gradient's name."""
    own, found = list(walk(fit.layer, "layer")), []
    numbers = {e: a for e, _, _, a in own if isinstance(a, float)}
    for expression, holder, name, value in own:
        if expression in numbers and _beside(expression, holder, name, numbers) and not any(
                name == form.format(other) for form in FORMS for _, h, other, _ in own if h == holder):
            text = f"{expression} = np.array({expression})"
            exec(text, fit.space, {"layer": fit.layer})
            fit.recipe.before += (text,)
            value = eval(expression, fit.space, {"layer": fit.layer})
        found.append((expression, holder, name, value))
    return found


def has_role(name: str) -> bool:
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


def _beside(expression: str, holder: str, name: str, now: dict[str, Any]) -> str | None:
    """The expression of the gradient of a parameter, by name; None for none."""
    wanted = []
    key = expression[len(holder):]
    for form in FORMS:
        partner = form.format(name)
        wanted.append(f"{holder}.{partner}" if key.startswith(".") else f"{holder}[{partner!r}]")
        if form == "d{}" and name.endswith("s"):
            wanted.append(f"{holder}.{form.format(name[:-1])}")
    for parameters, gradients in HOLDERS:
        if key == f".{parameters}":
            wanted.append(f"{holder}.{gradients}")
        for mark in (f".{parameters}", f"[{parameters!r}]"):
            if holder.endswith(mark):
                other = holder[: -len(mark)] + mark.replace(parameters, gradients)
                wanted += [f"{other}{key}", *(f"{other}[{form.format(name)!r}]" for form in FORMS[:8])]
    outer, _, group = holder.rpartition(".")
    if outer and group.isidentifier():  # dW["z"] for W["z"]
        wanted += [f"{outer}.{form.format(group)}{key}" for form in FORMS]
    shape = np.shape(now[expression])
    pair = re.sub(r"\[0\]$", "[1]", expression)
    if re.search(r"\]\[0\]$", expression) and np.shape(now.get(pair, ())) == shape:  # a list of pairs
        wanted.append(pair)
    there = [w for w in wanted if w in now and w != expression]
    return next((w for w in there if np.shape(now[w]) == shape), there[0] if there else None)


def assigned(fit: Fit, local: dict[str, Any], call: Call, entries: list[Entry]) -> Fit:
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
    right &= all(np.shape(value_or_none(g, fit, local)) == np.shape(value_or_none(p, fit, local))
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


def value_or_none(text: str, fit: Fit, local: dict[str, Any]) -> Any:
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
        fits = [e for e in candidates if kept[e][1].shape == shape and has_role(kept[e][0])]
        chosen = next(iter(named or order or fits), None)
        if chosen:
            key = _unique(kept[chosen][0], chosen, recipe.params)
            if re.fullmatch(r"\d+", kept[chosen][0]):
                key = f"params_{kept[chosen][0]}"
            recipe.params[key], recipe.grads[key] = chosen, text
            same = [e for e in list(fit.leftover) if kept.get(f"layer.{e}", (0, 0))[1] is kept[chosen][1]]
            for e in same:
                del fit.leftover[e]
