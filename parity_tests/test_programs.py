"""What a catalogue entry may hold beyond what ours need: integer outputs, options that both constructors need."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from parity import engine
from parity.cases.case import parse
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.judge.lanes import LANES
from parity.promises import standard
from reference._layer import Layer
from torch_port._twin import Slot, Twin


class Scored(Layer):
    """y = factor x W, and the place of the largest entry of each row; a note that does nothing."""

    param_names = ("W",)

    def __init__(self, W, factor, note):
        super().__init__(W)
        self.factor, self.note = factor, note

    def forward(self, x):
        y = self.factor * np.matmul(x, self.params[0])
        self._save(x)
        return y.argmax(axis=-1), y

    def backward(self, dy):
        (x,) = self._saved()
        self.grads[0][...] = self.factor * np.matmul(x.T, dy)
        return self.factor * np.matmul(dy, self.params[0].T)


class ScoredTwin(Twin):
    """Its twin, which cannot be made without its options."""

    slots = {"W": Slot("weight")}
    sizes = ((0, 0), (0, 1))
    options = ("factor", "note")

    def __init__(self, rows, columns, factor, note, *, device=None, dtype=None):
        super().__init__()
        self.factor, self.note = factor, note
        self.weight = torch.nn.Parameter(torch.zeros(rows, columns, device=device, dtype=dtype))

    def forward(self, x):
        y = self.factor * (x @ self.weight)
        return y.argmax(-1), y


@pytest.fixture
def scored(monkeypatch):
    spec = replace(CATALOGUE["Affine"], name="Scored", reference=Scored, port="here:ScoredTwin",
                   params={"W": "D H"}, outputs={"best": "int N", "y": "N H"},
                   options={"factor": (0.5, 3.0), "note": (None, "a:b")}, patterns=())
    monkeypatch.setitem(CATALOGUE._specs, "Scored", spec)
    monkeypatch.setitem(sys.modules, "here", SimpleNamespace(ScoredTwin=ScoredTwin))
    return spec


def test_integer_outputs_and_options_that_constructors_need(scored):
    seen = set()
    for index in range(40):
        case = draw(scored, 0, index)
        if case.pattern in ("ties", "sparse", "equal"):  # of equals, an honest rounding chooses
            continue
        assert parse(case.id) == case
        seen |= set(case.options.items())
        for outcome in engine.run_case(case, [LANES["cpu-float32"], LANES["cpu-float64"]]):
            assert not outcome.findings, outcome.findings[0]
            assert set(outcome.shares) == {"best", "y", "grad.x", "grad.W"}
    assert seen == {("factor", 0.5), ("factor", 3.0), ("note", None), ("note", "a:b")}


def test_an_integer_output_is_compared_exactly(scored, monkeypatch):
    real = ScoredTwin.forward
    monkeypatch.setattr(ScoredTwin, "forward", lambda self, x: (real(self, x)[0] + 1, real(self, x)[1]))
    report = engine.replay(standard(scored).id, "cpu-float32")
    assert [(f.quantity, f.verdict, f.port - f.reference) for f in report.findings] == [("best", "undecided", 1)]


def test_a_wrong_gradient_beside_an_integer_output_is_heard(scored, monkeypatch):
    real = Scored.backward
    monkeypatch.setattr(Scored, "backward", lambda self, dy: real(self, dy) * 1.01)
    report = engine.replay(standard(scored).id, "cpu-float32")
    assert [(f.quantity, f.verdict) for f in report.findings] == [("grad.x", "reference backward")]
