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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..spec.results import listed
from . import guess, protocols, ties
from .adapted import Identity, Recipe, Recorder, softmax
from .backwards import try_backwards, try_own_gradient
from .calls import (
    FILES,
    LOSS,
    Call,
    calls_of,
    constructors,
    given_text,
    label_of,
    literals_of,
    needed_of,
    signature_of,
    with_change,
)
from .guess import WORLDS, World
from .settle import as_read, settle, unsettled
from .trial import Fit, copies_of, in_silence, run_once, words_of

SECONDS = 4.0  # that looking for a recipe may take
TRIALS = 1500  # of one class
ROUNDS = 4  # in which gradients' shapes are taken for those of their arrays


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
    with in_silence():
        best = _best(best, (trial for row in rows[:2]
                            for world in _worlds(kind.__name__ + " " + " ".join(needed_of(getattr(kind, row.forward))))
                            for trial in _class_trials(kind, row, world)))
        if rows and best.score < 4:
            best = _best(best, _by_ties(kind.__init__, getattr(kind, rows[0].forward), kind.__name__,
                                        partial(_try_class, kind, rows[0])))
    return unsettled(settle(as_read(best)))


def fit_functions(forward: Any, backward: Any, derivative: bool) -> Fit:
    """The best recipe of a pair of functions, or of one that gives its gradient itself."""
    def run(call: Call) -> Fit:
        return _try_functions(forward, backward, derivative, call)

    with in_silence():
        best = _best(Fit(-1, "nothing to try"), (
            partial(run, call) for world in _worlds(forward.__name__ + " " + " ".join(needed_of(forward)))
            for call in calls_of(forward, world, forward.__name__)))
        if best.score < 4:
            best = _best(best, _by_ties(None, forward, forward.__name__, lambda made, call: run(call)))
    return settle(as_read(best))


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
    own = [] if constructor in (None, object.__init__) else needed_of(constructor)
    given, source = needed_of(forward), guess.source_of(constructor) + guess.source_of(forward)
    literal = {n: guess.numbers(n, WORLDS[0])[0].text for n in [*own, *given]
               if guess.numbers(n, WORLDS[0]) and not guess.role_of(n) and not ties.LENGTHS.match(n)}
    label = label_of(given, title)
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
        outputs = listed(layer.forward(*copies_of(fit.inputs).values()))
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
    with in_silence():
        if not inspect.isclass(things[0]):
            order = [p.name for p in signature_of(things[0])]
            texts = dict(sorted(texts.items(), key=lambda t: order.index(t[0]) if t[0] in order else len(order)))
            return settle(_try_functions(things[0], things[1] if len(things) > 1 else None, False,
                                         Call(texts, arrays, roles)))
        rows = methods_of(things[0])
        if not rows:
            return Fit(-1, "it has no forward and backward of any known name")
        return settle(_try_class(things[0], rows[0], made, Call(texts, arrays, roles)))


def _worlds(name: str) -> list[World]:
    """The worlds, those that a name suggests first."""
    lowered = name.lower()
    return sorted(WORLDS, key=lambda w: not re.search(w.like, lowered))


def _class_trials(kind: Any, row: protocols.Methods, world: World) -> Iterator[Callable[[], Fit]]:
    for made in constructors(kind, world):
        for call in calls_of(getattr(kind, row.forward), world, kind.__name__ + row.forward):
            yield partial(_try_class, kind, row, made, call)


def _try_class(kind: Any, row: protocols.Methods, made: Call, call: Call) -> Fit:
    name = kind.__name__
    recipe = Recipe(name, f"{name}({given_text(made)})", imports=(name,))
    optimizer = Recorder()
    made_by = kind.__init__
    space = {"np": np, name: kind, "softmax": softmax, "identity": Identity()}
    fit = Fit(0, recipe=recipe, inputs=call.arrays, space=space, optimizer=optimizer, kind=kind)
    local: dict[str, Any] = {"optimizer": optimizer, **made.arrays, **call.arrays}
    fit.given = literals_of(made.texts, made_by) if made_by is not object.__init__ else {}
    fit.again = lambda change, arrays={}: _try_class(kind, row, with_change(made, change, made_by),
                                                     replace(call, arrays=call.arrays | arrays))
    try:
        np.random.seed(0)
        layer = local["layer"] = eval(recipe.make, space, dict(local, **copies_of(made.arrays)))
        recipe.before = _prepare(layer, space, local, call)
    except Exception as error:
        fit.why = f"its constructor, as {recipe.make}, raised {words_of(error)}"
        return fit
    fit.score, fit.layer = 1, layer
    method = "layer" if row.forward == "__call__" else f"layer.{row.forward}"
    recipe.forward = f"{method}({given_text(call)})"
    recipe.reset = tuple(f"layer.{r.method}()" for r in protocols.rows(protocols.Reset)
                         if callable(getattr(layer, r.method, None)) and not needed_of(getattr(layer, r.method))
                         and (r.method != "reset" or "grad" in guess.source_of(getattr(kind, r.method))))
    pristine = None
    with contextlib.suppress(Exception):  # what cannot be copied
        pristine = copy.deepcopy(layer)
    attributes = [r.attribute for r in protocols.rows(protocols.Result) if r.of == "forward"]
    try:
        run_once(recipe, space, local, call.arrays)  # a layer that makes its parameters when it first sees data
        result = run_once(recipe, space, local, call.arrays)
        if not row.backward:
            return try_own_gradient(fit, result, local, call)
        found = try_backwards(fit, result, local, call, getattr(layer, row.backward), f"layer.{row.backward}",
                              attributes, row.derivative)
    except Exception as error:
        fit.why = f"{recipe.forward} raised {words_of(error)}"
        found = fit
    if found.score < 4 and found.score != 0 and pristine is not None and (found.score > 1 or recipe.reset):
        # one that can be run but once
        for reset in dict.fromkeys((recipe.reset, ())):
            single = replace(fit, score=1, layer=pristine, recipe=replace(recipe, reset=reset, once=True), single=True)
            local["layer"] = copy.deepcopy(pristine)
            with contextlib.suppress(Exception):
                result = run_once(single.recipe, space, local, call.arrays)
                once = try_backwards(single, result, local, call, getattr(local["layer"], row.backward),
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
        needed = needed_of(method)
        x = next(iter(call.arrays), "x")
        for given in row.calls:
            given = re.sub(r"\bx\b", x, given)
            if bool(given) != bool(needed) and not (given == "optimizer" and signature_of(method)):
                continue
            text = f"layer.{row.method}({given})"
            with contextlib.suppress(Exception):
                eval(text, space, local)
                done.append(text)
                break
    return tuple(done)


def _try_functions(forward: Any, backward: Any, derivative: bool, call: Call) -> Fit:
    name = forward.__name__
    recipe = Recipe(name, imports=(name,) if backward is None else (name, backward.__name__))
    space = {"np": np, name: forward, "softmax": softmax, "identity": Identity()}
    if backward is not None:
        space[backward.__name__] = backward
    fit = Fit(1, recipe=recipe, inputs=call.arrays, space=space, optimizer=Recorder(),
              functions=(forward,) if backward is None else (forward, backward))
    recipe.forward = f"{name}({given_text(call)})"
    fit.given = literals_of(call.texts, forward)
    fit.again = lambda change, arrays={}: _try_functions(
        forward, backward, derivative, with_change(replace(call, arrays=call.arrays | arrays), change, forward))
    local: dict[str, Any] = {"layer": None, "optimizer": fit.optimizer}
    try:
        result = run_once(recipe, space, local, call.arrays)
    except Exception as error:
        fit.why = f"{recipe.forward} raised {words_of(error)}"
        return fit
    if backward is None:
        return try_own_gradient(fit, result, local, call)
    return try_backwards(fit, result, local, call, backward, backward.__name__, [], derivative)
