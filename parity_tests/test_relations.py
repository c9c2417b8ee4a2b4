"""What a layer gives for a grown or reordered case follows from the case itself; faults from a size on are found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity import check
from parity.cases.case import generator
from parity.catalogue import CATALOGUE
from parity.engine import run_case
from parity.judge.budget import measure
from parity.judge.lanes import LANES
from parity.promises import relations
from parity.promises.common import standard
from reference import attention_seq2seq

LANE = LANES["cpu-float64"]


def held(case, letter, name):
    """What is found of one relation of a case."""
    yardstick = measure(case, LANE)
    related = relations.RELATIONS[name](case, yardstick.data, letter, generator(case.id))
    assert related is not None
    return list(relations.held(case, LANE, yardstick, related))


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=list(CATALOGUE))
def test_right_layers_keep_their_relations(spec):
    if not spec.relations:
        assert spec.name == "clip_grads"
        return
    case = standard(spec)
    yardstick = measure(case, LANE)
    seen = set()
    for letter, name in relations.relations(case):
        related = relations.RELATIONS[name](case, yardstick.data, letter, generator(case.id))
        if related is not None:
            assert not list(relations.held(case, LANE, yardstick, related)), related.words
            seen.add(name)
    assert seen


def from_size_on(size, spoil):
    """A forward that spoils what it returns where the batch has so many rows."""
    def broken(forward):
        def call(self, x, *rest, **how):
            y = forward(self, x, *rest, **how)
            return spoil(y) if len(x) >= size else y

        return call

    return broken


def lost_remainder(y):
    """Rows past the last whole block of 64."""
    return torch.cat((y[: len(y) // 64 * 64], torch.zeros_like(y[len(y) // 64 * 64 :])))


@pytest.mark.parametrize("name", ["Affine", "Softmax", "TimeEmbedding", "WeightSum", "LSTM"])
def test_rows_lost_from_a_size_on_are_found(name, monkeypatch):
    module = getattr(torch_port, name)
    broken = from_size_on(256, lambda y: tuple(map(lost_remainder, y)) if isinstance(y, tuple) else lost_remainder(y))
    monkeypatch.setattr(module, "forward", broken(module.forward))
    monkeypatch.setattr(relations, "GROWN", (257,))
    letter = "..." if name == "Softmax" else "N"
    found = held(standard(CATALOGUE[name]), letter, "tiled")
    assert found and {apart.side for apart in found} == {"port"}


def test_a_gradient_that_forgets_rows_from_a_size_on_is_found(monkeypatch):
    """Of the reference: the outputs are right, and so is what the case itself gives."""
    right = reference.Affine.backward

    def broken(self, dy):
        dx = right(self, dy)
        if len(dy) > 64:
            x = self._saved()[0]
            self.grads[0][...] = np.matmul(x[:64].T, dy[:64])
        return dx

    monkeypatch.setattr(reference.Affine, "backward", broken)
    monkeypatch.setattr(relations, "GROWN", (130,))
    found = held(standard(CATALOGUE["Affine"]), "N", "tiled")
    assert {(apart.side, apart.quantity) for apart in found} == {("reference", "grad.W")}


def test_rows_that_see_each_other_are_found(monkeypatch):
    right = torch_port.LayerNorm.forward

    def broken(self, x):
        y = right(self, x)
        return y + 1e-6 * y.roll(1, 0) if y.ndim > 1 and len(y) > 100 else y

    monkeypatch.setattr(torch_port.LayerNorm, "forward", broken)
    monkeypatch.setattr(relations, "GROWN", (130,))
    quantities = {apart.quantity for apart in held(standard(CATALOGUE["LayerNorm"]), "...", "among")}
    assert {"y", "grad.x"} <= quantities


@pytest.mark.parametrize("name", ["TimeLSTM", "TimeGRU", "TimeRNN"])
def test_a_long_sequence_on_another_path_is_found(name, monkeypatch):
    """Past 64 steps the graph ends at every step."""
    module = getattr(torch_port, name)
    right = module.forward

    def broken(self, xs, *rest, **how):
        if xs.shape[1] <= 64:
            return right(self, xs, *rest, **how)
        before, self.stateful = self.stateful, True
        if not before:
            self.reset_state()
        try:
            return torch.cat([right(self, x, *rest, **how) for x in xs.split(1, 1)], 1)
        finally:
            self.stateful = before

    monkeypatch.setattr(module, "forward", broken)
    monkeypatch.setattr(relations, "GROWN", (65,))
    found = held(standard(CATALOGUE[name]), "T", "causal")
    assert found and all(apart.side == "port" and apart.quantity.startswith("grad.") for apart in found)


@pytest.mark.parametrize("kept", [True, False], ids=["detached", "reset"])
def test_a_state_lost_every_64_steps_is_found_where_the_case_itself_is_longer(kept, monkeypatch):
    """The beginning of a sequence does not tell of it."""
    right = torch_port.TimeLSTM.forward

    def broken(self, xs, *rest, **how):
        if xs.shape[1] <= 64:
            return right(self, xs, *rest, **how)
        found = []
        for part in xs.split(64, 1):
            if found and kept:
                self.h, self.c = self.h.detach(), self.c.detach()
            elif found:
                self.reset_state()
            found.append(right(self, part, *rest, **how))
        return torch.cat(found, 1)

    monkeypatch.setattr(torch_port.TimeLSTM, "forward", broken)
    case = standard(CATALOGUE["TimeLSTM"], stateful=True)
    case = replace(case, sizes={"N": 1, "T": 66, "D": 2, "H": 2})
    (outcome,) = run_case(case, [LANE])
    assert {f.verdict for f in outcome.findings} <= {"port", ""} and outcome.findings
    assert ("hs" in {f.quantity for f in outcome.findings}) is not kept


def test_units_that_are_not_alike_and_a_mask_that_leaks_are_found(monkeypatch):
    right = torch_port.Attention.forward

    def broken(self, hs, h, mask=None, **how):
        if mask is not None and hs.shape[1] > 32:
            mask = mask.clone()
            mask[:, -1] = True
        return right(self, hs, h, mask, **how)

    monkeypatch.setattr(torch_port.Attention, "forward", broken)
    case = standard(CATALOGUE["Attention"])
    monkeypatch.setattr(relations, "GROWN", (65,))
    assert {apart.side for apart in held(case, "T", "masked")} == {"port"}
    monkeypatch.undo()
    right = reference.Affine.forward
    monkeypatch.setattr(reference.Affine, "forward", lambda self, x: right(self, x) + np.arange(self.params[1].size))
    case = standard(CATALOGUE["Affine"])
    assert {apart.side for apart in held(case, "H", "symmetric")} >= {"reference"}


def test_a_check_tells_of_them(monkeypatch):
    broken = from_size_on(256, lost_remainder)
    monkeypatch.setattr(torch_port.Affine, "forward", broken(torch_port.Affine.forward))
    monkeypatch.setattr(relations, "GROWN", (257,))
    monkeypatch.setattr(relations, "SHARE", 1)
    report = check("Affine", "cpu-float*", cases=60)
    found = [f for f in report.findings if f.check == "relation"]
    assert found and {f.verdict for f in found} == {"port"} and "along N" in str(found[0].diagnosis)


def test_a_place_under_a_mask_that_is_held_in_8_bits_is_found(monkeypatch):
    right = attention_seq2seq.last_valid

    def broken(hs, mask):
        rows, last = right(hs, mask)
        return rows, last if mask is None else last.astype(np.int8)

    monkeypatch.setattr(attention_seq2seq, "last_valid", broken)
    monkeypatch.setattr(relations, "GROWN", (257,))
    found = held(standard(CATALOGUE["AttentionDecoder"]), "T", "masked")
    assert found and {apart.side for apart in found} == {"reference"}
