"""One array for several arguments: what follows is what copies of it give."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..cases.case import Case, Data, admitted, derived
from ..spec.axes import axes, shape
from ..spec.results import Arrays, as_tuple
from ..spec.spec import Spec
from .common import PORT, Side, arrays_of, standard, twin

TERMS = 64 * 1000  # roundings of sums in another order, over T, U, D and H
LARGE = (1025, 257)  # sizes past which something may begin, one axis at a time; the first whose work is not too much
WORK = 1 << 26  # multiplications of a case


def check_one_for_several(side: Side, spec: Spec) -> None:
    """An array given for two or three arguments gives what copies give: each its cotangent; in torch their sum.

    So do one cotangent of several outputs, and one array for several parameters.
    """
    for case, names in _alike(spec):
        data = arrays_of(case)
        for name in names:
            data.inputs[name] = data.inputs[names[0]]
        data = replace(data, cotangents=_shared(data.cotangents), params=data.params if names else
                       _shared(data.params))
        copies = [{name: a.copy() for name, a in group.items()} for group in (data.params, data.inputs,
                                                                              data.cotangents)]
        expected = side.quantities(case, *copies)
        one = _of_one(case, data) if side.name == PORT.name else \
            side.quantities(case, data.params, data.inputs, data.cotangents)
        for name, found in one.items():
            inner = name.removeprefix("grad.")
            parts = [expected[name]]
            if side.name == PORT.name and name != inner and inner in names:
                parts = [expected[f"grad.{other}"] for other in names]
            size = max(1.0, *(float(np.abs(part).max()) for part in parts))
            # of one array with itself NumPy, too, takes another product
            assert np.abs(found - sum(parts)).max() <= 2.0**-53 * TERMS * size, \
                f"{' and '.join(names) or 'those of a shape'} are one array, and {name} is not what copies of it give"


def _shared(group: Arrays) -> Arrays:
    """Arrays of one shape become one."""
    first: dict[tuple[int, ...], Any] = {}
    return {name: first.setdefault(a.shape, a) for name, a in group.items()}


def _alike(spec: Spec) -> Iterator[tuple[Case, tuple[str, ...]]]:
    """Cases in which some inputs have one shape and may be one array, and the names of those; of large sizes too.

    Without names, cases in which some parameters, or some cotangents, have one shape.
    """
    usual = standard(spec)
    yield from (*_of_one_shape(usual), *_of_several(usual))
    seen: list[tuple[dict[str, Any], tuple[str, ...]]] = []  # axes of one array grow together
    for letter in spec.letters:
        if letter == "...":
            continue
        held = set()
        for size in LARGE:
            case = replace(usual, sizes=derived(spec, usual.sizes | {letter: size}, usual.options))
            of_one_shape = list(_of_one_shape(case))
            for found, names in (*of_one_shape, *_of_several(case)):
                # as many as may be one array: fewer of them are held at the usual sizes
                most = not any(set(names) < set(others) for _, others in of_one_shape) or not names
                if most and names not in held and found.work <= WORK:
                    held.add(names)
                    if (found.sizes, names) not in seen:
                        seen.append((found.sizes, names))
                        yield found, names


def _of_several(case: Case) -> Iterator[tuple[Case, tuple[str, ...]]]:
    spec = case.spec
    params = list(spec.parameter_shapes(case.sizes | case.options).values())
    outputs = [shape(spec.outputs[name], case.sizes) for name in spec.with_cotangents()]
    several = any(len(set(shapes)) < len(shapes) for shapes in (params, outputs))
    if several and admitted(spec, case.sizes, case.options):
        yield case, ()


def _of_one_shape(case: Case) -> Iterator[tuple[Case, tuple[str, ...]]]:
    spec = case.spec
    texts = {name: axes(spec.inputs[name]) for name in _given(case)}
    for count in (2, 3):
        for names in itertools.combinations(texts, count):
            (kind, letters), *others = (texts[name] for name in names)
            fit = all(k == kind and len(words) == len(letters) for k, words in others) and kind != "bool"
            if not fit or "..." in letters or len({spec.bounds.get(name) for name in names}) > 1:
                continue
            sizes = dict(case.sizes)
            for _, words in others:
                for word, first in zip(words, letters, strict=True):
                    sizes[first] = sizes[word] = max(sizes[first], sizes[word])
            sizes = derived(spec, sizes, case.options)
            if len({shape(spec.inputs[name], sizes) for name in names}) == 1 and admitted(spec, sizes, case.options):
                yield replace(case, sizes=sizes), names


def _given(case: Case) -> list[str]:
    return [name for name, text in case.spec.inputs.items() if not text.optional or case.options["masked"]]


def _of_one(case: Case, data: Data) -> Arrays:
    """Outputs and gradients of the port by name, where one array is one tensor."""
    import torch

    module = twin(case.spec, case.options, data)
    tensors: dict[int, Any] = {}
    for array in data.inputs.values():
        tensors[id(array)] = torch.from_numpy(np.array(array)).requires_grad_(array.dtype.kind == "f")
    given = {name: tensors[id(array)] for name, array in data.inputs.items()}
    outputs = dict(zip(case.spec.outputs, as_tuple(module(*given.values())), strict=True))
    cotangents = {id(c): torch.from_numpy(np.array(c)) for c in data.cotangents.values()}
    torch.autograd.backward([outputs[name] for name in data.cotangents],
                            [cotangents[id(c)] for c in data.cotangents.values()])
    found = {name: output.detach().numpy() for name, output in outputs.items()}
    found |= {f"grad.{name}": given[name].grad.numpy() for name in case.spec.differentiable()}
    return found | {f"grad.{name}": g for name, g in zip(data.params, module.reference_grads() if data.params else (),
                                                         strict=True)}
