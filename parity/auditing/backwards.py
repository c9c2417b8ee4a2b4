"""The ways to call a backward, tried after a forward that ran."""

from __future__ import annotations

import contextlib
import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from . import guess, protocols
from .adapted import RATE, walk
from .assign import assigned, entries_of, find_parameters, value_or_none, with_names
from .calls import RATES, SEEDS, Call, needed_of, signature_of
from .trial import Fit, is_finite, run_once, words_of

CACHE = re.compile(r"^(\w*cache\w*|memory|mem|ctx|context|saved|store|tape|tmp|state|intermediates?|stash|aux|"
                   r"residuals?|bag|info)$")
COTANGENT = re.compile(r"^(d(?!ata|elta$|im|ep)|grad|g_|g$|up|top)", re.I)
DATA = re.compile(r"^(xs?|inputs?|inpt|in_?data|input_data|layer_input|a_prev|bottom|in_arr)$")


def try_own_gradient(fit: Fit, result: Any, local: dict[str, Any], call: Call) -> Fit:
    """``loss, dx = f(x, y)``."""
    recipe = fit.recipe
    if not (isinstance(result, tuple) and len(result) > 1 and np.ndim(result[0]) == 0 and is_finite(result[0])):
        fit.why = f"{recipe.forward} gave no loss with a gradient"
        return fit
    fit.score, recipe.outputs, recipe.scalar = 2, ("result[0]",), True
    local["result"] = result
    entries = [e for i in range(1, len(result)) for e in entries_of(f"result[{i}]", result[i], "")]
    names = guess.returned_names(fit.functions[0]) if fit.functions else []
    entries = with_names(entries, next((n for n in names if len(n) == len(result)), []))
    found = assigned(fit, local, call, entries)
    if found.layer is not None and found.score == 4 and recipe.grads and not recipe.gradients and all(
            np.shape(value_or_none(recipe.grads[n], found, local)) == np.shape(value_or_none(p, found, local))
            for n, p in recipe.params.items()):
        found.score = 5  # of a model nobody wants the gradient of the data
    return found


def try_backwards(fit: Fit, result: Any, local: dict[str, Any], call: Call, backward: Any, text: str,
               attributes: list[str], derivative: bool) -> Fit:
    """Tries the ways to call a backward after a forward that ran."""
    recipe, layer = fit.recipe, fit.layer
    local["result"] = result
    cached = any(CACHE.match(n.lower()) for n in needed_of(backward))
    outputs = _outputs(result, layer, attributes, cached)
    if not outputs:
        fit.why = f"{recipe.forward} gave no finite floating array"
        return fit
    fit.score, best, unused = 2, fit, ""
    label = next((n for n, r in call.roles.items() if r in ("labels", "target")), "")
    shared = _shared(backward, call)
    for given, count, rate in _all_ways(backward, call, outputs, local, derivative, cached, label):
        trial = replace(fit, recipe=replace(recipe, outputs=tuple(outputs[:max(count, 1)])))
        given_dy = {f"dy{i}": np.random.default_rng(i).standard_normal(np.shape(_value(o, fit.space, local)))[()]
                    for i, o in enumerate(trial.recipe.outputs)}
        own = dict(local, **given_dy)
        if derivative and count == 0 and not label:
            trial.recipe.backward = f"dy0 * {text}({', '.join(filter(None, (given, *shared)))})"
        else:
            trial.recipe.backward = f"{text}({', '.join(filter(None, (given, *shared)))})"
            trial.recipe.scalar = count == 0
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


def _shared(backward: Any, call: Call) -> list[str]:
    """The options that a forward was given and its backward has too, by name: a mode of pooling, say."""
    takes = {p.name for p in signature_of(backward) if p.default is not p.empty}
    texts = {n.lstrip("="): t.removeprefix(f"{n[1:]}=") if n.startswith("=") else t for n, t in call.texts.items()}
    return [f"{n}={t}" for n, t in texts.items()
            if n in takes and n not in call.arrays and not SEEDS.match(n) and not t.isidentifier()]


def _ignores(fit: Fit, local: dict[str, Any], call: Call) -> bool:
    """Whether twice the cotangent gives the same gradients."""
    found = []
    with contextlib.suppress(Exception):
        for scale in (1.0, 2.0):
            own = dict(local, layer=copy.deepcopy(fit.layer), dy0=scale * local["dy0"])
            own["result"] = run_once(fit.recipe, fit.space, own, call.arrays)
            found.append([a for _, _, a in entries_of("", eval(fit.recipe.backward, fit.space, own), "")])
    return len(found) == 2 and bool(found[0]) and all(map(np.array_equal, *found))


def _value(text: str, space: dict[str, Any], local: dict[str, Any]) -> Any:
    return eval(text, space, local)


def _outputs(result: Any, layer: Any, attributes: list[str], cached: bool) -> list[str]:
    """Expressions of the outputs that have a gradient."""
    if result is None or (layer is not None and result is layer):
        kept = [f"layer.{a}" for a in attributes if is_finite(getattr(layer, a, None))]
        return kept[:1]
    if isinstance(result, (tuple, list)):
        inside = [f"result[{i}]" for i, r in enumerate(result) if is_finite(r)]
        if cached and len(inside) == len(result) and len(inside) > 1:
            inside.pop()
        return inside
    return ["result"] if is_finite(result) else []


def _all_ways(backward: Any, call: Call, outputs: list[str], local: dict[str, Any], derivative: bool, cached: bool,
              label: str) -> Iterator[tuple[str, int, bool]]:
    """The same, first with the cotangents of further outputs, where they have a default."""
    further = [p.name for p in signature_of(backward)
               if p.default is not p.empty and not isinstance(p.default, (bool, str)) and COTANGENT.match(p.name)]
    if further and len(outputs) > 1:
        names = needed_of(backward) + further
        yield from (way for way in _ways(backward, names, call, outputs, local, derivative, cached, label)
                    if way[1] == len(outputs))
    plain = list(_ways(backward, needed_of(backward), call, outputs, local, derivative, cached, label))
    starts = [p.name for p in signature_of(backward) if p.default in (1, None) and not isinstance(p.default, bool)
              and (p.default == 1 or COTANGENT.match(p.name)) and p.kind is not p.VAR_POSITIONAL
              and not RATES.match(p.name.lower())]
    if starts and np.ndim(_value(outputs[0], {"np": np}, local)) == 0:  # a chain may go on behind a loss
        yield from ((", ".join(filter(None, (given, f"{starts[0]}=dy0"))), 1, rate) for given, count, rate in plain
                    if not count)
    yield from plain


def _ways(backward: Any, names: list[str], call: Call, outputs: list[str], local: dict[str, Any], derivative: bool,
          cached: bool, label: str) -> Iterator[tuple[str, int, bool]]:
    """Ways to call a backward: the arguments as text, how many are cotangents, whether one is a learning rate."""
    if any(p.kind is p.VAR_POSITIONAL for p in signature_of(backward)) and not names:
        names = ["dy"]
    if not names and not label and not derivative:
        optional = [p.name for p in signature_of(backward) if not isinstance(p.default, bool)]
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
        local["result"] = run_once(recipe, fit.space, local, call.arrays)
        kept = {e: (a, np.array(a)) for e, _, _, a in walk(layer, "layer")}
        local["returned"] = eval(recipe.backward, fit.space, local)
    except Exception as error:
        fit.stub = "raises NotImplementedError" if isinstance(error, NotImplementedError) else ""
        fit.why = f"{recipe.backward} raised {words_of(error)}"
        return fit
    fit.score = 3
    returned = local["returned"]
    now = {e: a for e, _, _, a in walk(layer, "layer")}
    if returned is None and not fit.optimizer.noted and now.keys() == kept.keys() and all(
            now[e] is a and np.array_equal(a, was, equal_nan=True) for e, (a, was) in kept.items()):
        fit.stub = "returns None"
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
        entries = entries_of("returned", returned, "")
        stacked = next((n for n, a in call.arrays.items() if isinstance(returned, list) and len(returned) > 1 and
                        np.shape(returned) == np.shape(a) and len(entries) == len(returned)), "")
        if stacked:  # a list of the gradients of its rows
            entries = [("np.stack(returned)", stacked, np.stack(returned))]
        wanted = next((n for n in guess.returned_names(backward)
                       if isinstance(returned, (tuple, list)) and len(n) == len(returned)), [])
        entries = with_names(entries, wanted)
    find_parameters(fit, local, before, rate)
    return assigned(fit, local, call, entries)
