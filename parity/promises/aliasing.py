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
WORK = 1 << 27  # multiplications of a case


def check_one_for_several(side: Side, spec: Spec) -> None:
    """An array given for two or three arguments gives what copies give: each its cotangent; in torch their sum."""
    for case, names in _alike(spec):
        data = arrays_of(case)
        data.inputs.update(dict.fromkeys(names, data.inputs[names[0]]))
        copies = data.inputs | {name: data.inputs[name].copy() for name in names}
        expected = side.quantities(case, data.params, copies, data.cotangents)
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
                f"{' and '.join(names)} are one array, and {name} is not what copies of it give"


def _alike(spec: Spec) -> Iterator[tuple[Case, tuple[str, ...]]]:
    """Cases in which some inputs have one shape and may be one array, and the names of those; of large sizes too."""
    usual = standard(spec)
    large = [replace(usual, sizes=derived(spec, usual.sizes | {letter: size}, usual.options))
             for letter in spec.letters if letter != "..." for size in LARGE]
    seen = set()
    for case in (usual, *large):
        for found, names in _of_one_shape(case):
            grown = tuple(letter for letter in spec.letters if case.sizes[letter] != usual.sizes[letter])
            if case is usual or ((grown, names) not in seen and found.work <= WORK):
                seen.add((grown, names))
                yield found, names


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
    torch.autograd.backward([outputs[name] for name in data.cotangents],
                            [torch.from_numpy(np.array(c)) for c in data.cotangents.values()])
    found = {name: output.detach().numpy() for name, output in outputs.items()}
    found |= {f"grad.{name}": given[name].grad.numpy() for name in case.spec.differentiable()}
    return found | {f"grad.{name}": g for name, g in zip(data.params, module.reference_grads() if data.params else (),
                                                         strict=True)}
