"""What an object keeps from call to call: no graph, and no more than it did after the first ones."""

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..cases.case import Case, admitted, derived
from ..judge.lanes import LANES
from ..sides.objects import GRAPHLESS, OBJECTS, Mode
from ..spec.spec import Spec
from .common import PORT, Side, arrays_of, standard, with_state

SPANS, ROUNDS = 3, 4  # of how many calls, of which the last leaves what all have
LEAST = 160  # bytes of an array at least; NumPy holds on to less than that for arrays of sizes that are new


def _object(side: Side, case: Case) -> Any:
    lane = LANES["cpu-float32"]
    return OBJECTS[case.spec.side][side.name == PORT.name](case, arrays_of(case, "float32").params, lane, "float32")


def _given(one: Any, case: Case) -> list[dict[str, Any]]:
    """Inputs and cotangents of a case, as an object takes them."""
    data = arrays_of(case, "float32")
    return [{name: one.given(a, LANES["cpu-float32"], "float32") for name, a in group.items()}
            for group in (data.inputs, data.cotangents)]


def _call(one: Any, given: list[dict[str, Any]], mode: Mode) -> Any:
    """A forward of an object, its backward and what it generates."""
    inputs, cotangents = given
    ran = one.forward(inputs, mode)
    if ran.wanted:
        one.backward(ran, cotangents)
    if one.spec.greedy:
        one.generate(next(iter(inputs.values())), 1, 3)
    return ran


def check_memory(side: Side, spec: Spec) -> None:
    """Calls of all sizes and values leave behind what the first ones left: memory does not grow."""
    case = standard(spec, **with_state(spec))
    one, several = _object(side, case), [case, *(_of_size(case, n) for n in range(1, SPANS * ROUNDS + 1))]
    usual, *others = [_given(one, of) for of in several]
    modes = [Mode(name) for name in ("plain", "served") if name in one.modes]

    def kept(rounds: list[Any]) -> float:
        for given in (*rounds, usual):
            for mode in modes:
                if with_state(spec):
                    one.reset()
                _call(one, given, mode)
        gc.collect()
        return _alive(side)

    gc.freeze()  # what there is already is not looked through again and again
    tracemalloc.start()
    try:
        alive = [kept(others[first : first + ROUNDS]) for first in range(0, len(others), ROUNDS)]
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    # the interpreter, too, learns by and by what it is to run; what a call leaves behind every call does
    more = min(after - before for before, after in pairwise(alive))
    assert more < ROUNDS, f"after {ROUNDS} more calls, of other sizes, some {more:.0f} more arrays are kept"


def _alive(side: Side) -> float:
    """How many arrays there are, more than at some time before: of NumPy, which does not say, by their memory."""
    if side.name != PORT.name:
        return tracemalloc.get_traced_memory()[0] / LEAST
    import torch

    return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())


def _of_size(case: Case, size: int) -> Case:
    """The case with so many rows, where it may have them."""
    letter, value = ("...", (size, 3)) if "..." in case.sizes else ("N", size)
    sizes = derived(case.spec, case.sizes | {letter: value}, case.options)
    return replace(case, sizes=sizes if admitted(case.spec, sizes, case.options) else case.sizes, seed=size)


def check_no_graph(spec: Spec) -> None:
    """In no mode does a module, or its package, hold on to the graph of a call; without a graph there is none."""
    for options in ({}, {"masked": True} if spec.optional else with_state(spec)):
        case = standard(spec, **options)
        one = _object(PORT, case)
        for name in one.modes:
            ran = _call(one, _given(one, case), Mode(name))
            if name in GRAPHLESS:
                found = [quantity for quantity, tensor in ran.outputs.items() if tensor.requires_grad]
                assert not found, f"{name}: {found} have a graph"
            for path, tensor in _held(one.module):
                assert not tensor.requires_grad, f"after a forward ({name}), {path} holds on to its graph"
            one.module.zero_grad()


def _held(module: Any) -> Iterator[tuple[str, Any]]:
    """All tensors beside the parameters that a module, its parts, its classes or its package hold, by their paths."""
    owners = dict(module.named_modules())
    known = {id(p) for p in module.parameters()}
    package = module.__module__.partition(".")[0]
    roots = [(f"{path}.{name}".lstrip("."), value) for path, owner in owners.items()
             for name, value in {**_properties(owner), **vars(type(owner)), **vars(owner)}.items()]
    roots += [(f"{name}.{key}", value) for name, part in tuple(sys.modules.items())
              if name.partition(".")[0] == package for key, value in tuple(vars(part).items())]
    while roots:
        path, value = roots.pop()
        if id(value) in known or isinstance(value, type):
            continue
        known.add(id(value))
        if hasattr(value, "requires_grad") and hasattr(value, "grad_fn"):
            yield path, value
        elif isinstance(value, (list, tuple, set, frozenset)):
            roots += [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]
        elif isinstance(value, dict):
            roots += [(f"{path}[{key!r}]", inner) for key, inner in value.items()]


def _properties(owner: Any) -> dict[str, Any]:
    return {name: getattr(owner, name, None) for name in dir(type(owner))
            if isinstance(getattr(type(owner), name, None), property)}
