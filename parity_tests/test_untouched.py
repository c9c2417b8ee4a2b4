"""Functions that take a layer or a model leave it as they found it: its numbers, modes, gradients, hooks, state."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.promises.common import arrays_of, standard, tensors, with_state
from parity.sides.textbook import build
from torch_port.trained import Card, TrainedModel

from .untouched import untouched

LAYERS = [spec for spec in CATALOGUE.values() if spec.side == "textbook"]


def _hook(*arguments):
    """Of its own, that can be pickled."""


def in_use(module):
    """A module in the middle of its life: parts in several modes, one parameter frozen, gradients of others, hooks."""
    for number, part in enumerate(module.modules()):
        part.train(number % 2 == 1)
        part.register_forward_hook(_hook)
        part.register_full_backward_hook(_hook)
    for number, p in enumerate(module.parameters()):
        p.grad = torch.full_like(p, 0.5) if number else None
        p.requires_grad_(number > 0)
    return module


def to_stock(module):
    try:
        torch_port.to_stock(module)
    except TypeError as error:
        assert "no module of torch's own" in str(error)


def saved(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file)


# of a module and a folder
READERS = {
    "repr": lambda module, folder: repr(module),
    "state_dict": lambda module, folder: module.state_dict(),
    "torch.save": lambda module, folder: saved(module),
    "load_state_dict of its own": lambda module, folder: module.load_state_dict(saved(module)),
    "reference_params": lambda module, folder: module.reference_params(),
    "load_reference_params of its own": lambda module, folder: module.load_reference_params(module.reference_params()),
    "copy": lambda module, folder: copy.deepcopy(module),
    "pickle": lambda module, folder: pickle.loads(pickle.dumps(module)),
    "save_params": lambda module, folder: torch_port.save_params(module, folder / "a.safetensors"),
    "save_params, .pkl": lambda module, folder: torch_port.save_params(module, folder / "a.pkl"),
    "load_params of its own": lambda module, folder: torch_port.load_params(module, folder / "a.safetensors"),
    "to_stock": lambda module, folder: to_stock(module),
}


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_what_reads_a_module_leaves_it_as_it_was(spec, tmp_path):
    case = standard(spec, **with_state(spec))
    layer = build(spec, case.options, data := arrays_of(case, "float32"))
    module = spec.port_class.from_reference(layer)
    module(*tensors(data.inputs))
    in_use(module)
    for name, read in READERS.items():
        with untouched(module, draws=name == "to_stock"):  # which makes another module
            read(module, tmp_path)
    if module.reference_params() and len(list(module.parameters())) > 1:
        with untouched(module):
            module.reference_grads()


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_what_calls_a_module_leaves_all_but_what_it_keeps(spec):
    case = standard(spec)
    data = arrays_of(case, "float32")
    module = in_use(spec.port_class.from_reference(build(spec, case.options, data)))
    given = tensors(data.inputs)
    source = given[list(data.inputs).index(spec.differentiable()[0])] if spec.differentiable() else given[0]
    with untouched(module, keeps=True):
        module(*given)
    for how in ({}, {"beam_width": 2, "scores": True}, {"end_id": 0}) if spec.greedy else ():
        with untouched(module, keeps=True):
            module.generate(source, 0, 3, **how)
    if hasattr(module, "sample"):
        with untouched(module, keeps=True):
            module.sample(source, 0, 3, generator=torch.Generator().manual_seed(0))
        with untouched(module, keeps=True):
            module.score(source, torch.zeros(len(source), 2, dtype=torch.int64))


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_what_reads_a_layer_of_the_reference_leaves_it_as_it_was(spec, tmp_path):
    case = standard(spec, **with_state(spec))
    layer = build(spec, case.options, data := arrays_of(case, "float32"))
    layer.forward(*data.inputs.values())
    with untouched(layer, draws=True):  # a module is made with weights of its own
        module = spec.port_class.from_reference(layer)
    for ending in ("safetensors", "pkl"):
        with untouched(layer):
            reference.save_params(layer, tmp_path / f"a.{ending}")
        torch_port.save_params(module, tmp_path / f"b.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    with untouched(layer):
        copy.deepcopy(layer), repr(layer)
    expected = layer.backward(*data.cotangents.values())
    with untouched(layer):
        reference.load_params(layer, tmp_path / "a.safetensors")
    found = layer.backward(*data.cotangents.values())
    assert all(a is b is None or np.array_equal(a, b) for a, b in
               zip(*(x if isinstance(x, tuple) else (x,) for x in (expected, found)), strict=True))


@pytest.mark.parametrize("kind", ["attention", "plain"])
def test_a_trained_model_answers_as_it_is(kind):
    card = Card(kind, 2, 3, "ab _", 4, 3, True)
    model = TrainedModel(in_use(card.build()), card)
    with untouched(model.model, keeps=True), untouched(model):
        first = model.answers(["ab", "b", "aabb"])
    for beam, questions in itertools.product((1, 2, 3), (["b"], ["ab", "b", "aabb"], [])):
        with untouched(model.model, keeps=True):
            model(questions, beam)
            if kind == "attention":
                model.look(questions, beam)
    assert model.answers(["ab", "b", "aabb"]) == first


def test_clipping_and_steps_leave_all_but_what_they_are_for():
    for kind in (torch_port.SGD, torch_port.Adam):
        module = in_use(torch_port.AttentionSeq2seq(5, 2, 3))
        optimizer = kind(module.parameters())
        with untouched(module):
            torch_port.clip_grads(module.parameters(), 1e9)
            optimizer.state_dict(), repr(optimizer), copy.deepcopy(optimizer)
        grads = [p.grad for p in module.parameters()]
        optimizer.step()
        assert all(p.grad is g for p, g in zip(module.parameters(), grads, strict=True))
        first, *rest = module.parameters()
        assert first.grad is None and not first.requires_grad and all((p.grad == 0.5).all() for p in rest)


CHANGES = {
    "mode": lambda module: module.train(not module.training),
    "gradient": lambda module: module.bias.grad.add_(1),
    "requires_grad": lambda module: module.weight.requires_grad_(not module.weight.requires_grad),
    "hook": lambda module: module.register_forward_hook(_hook),
    "number": lambda module: module.weight.data.add_(1),
    "tensor": lambda module: setattr(module, "bias", torch.nn.Parameter(module.bias.detach())),
    "draw": lambda module: torch.rand(1),
    "switch": lambda module: torch_port.index_checks(False),
    "draw of NumPy": lambda module: np.random.random(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(change):
    module = in_use(torch_port.Affine(2, 3))
    with torch_port.index_checks(True), pytest.raises(AssertionError, match="has changed"), untouched(module):
        CHANGES[change](module)
