"""Faults in what a layer makes of its options, its mode and how its arguments lie in memory: the promises find them."""

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.judge.lanes import LANES
from parity.promises import CHECKS, standard
from parity.promises.histories import Step, broken
from parity.settings import own_settings


def play(name, side, step):
    spec = CATALOGUE[name]
    case = standard(spec, **{option: values[1] for option, values in spec.options.items()})
    with own_settings():
        # as our own layers promise it: a stranger's backward may ask for the option of now
        return broken(case, LANES["cpu-float32"], side, tuple(Step(step, n) for n in range(30)), every=step == "option")


def _by_the_mode_of_now(real):
    return lambda self, dys: real(self, dys) if self.train_flg else dys * 1


def _as_it_was_made(real):
    def forward(self, xs):
        now, self.stateful = self.stateful, vars(self).setdefault("first", self.stateful)
        try:
            return real(self, xs)
        finally:
            self.stateful = now
    return forward


def _of_some_heads(real):
    def backward(self, dy):
        return tuple(g * np.float32(1 + (self.heads == 1)) for g in real(self, dy))
    return backward


def _sets_an_option(real):
    def forward(self, x):
        self.eps = 1e-5
        return real(self, x)
    return forward


def _one_result(real):
    def forward(self, x):
        y = real(self, x)
        if self.training or torch.is_grad_enabled():
            return y
        kept = vars(self).setdefault("kept", {}).setdefault((y.shape, y.dtype), y)
        return kept.copy_(y)
    return forward


def _ends_in_training(real):
    def generate(self, *arguments, **how):
        found = real(self, *arguments, **how)
        self.train()
        return found
    return generate


@pytest.mark.parametrize(("name", "side", "method", "fault", "step", "words"), [
    ("TimeDropout", "reference", "backward", _by_the_mode_of_now, "option", "option: grad.xs is not"),
    ("TimeRNN", "reference", "forward", _as_it_was_made, "option", "option: hs is not"),
    ("TimeLSTM", "port", "forward", _as_it_was_made, "option", "hs is not what a fresh object gives"),
    ("MultiHeadAttention", "reference", "backward", _of_some_heads, "option", "option: grad.query is not"),
    ("LayerNorm", "port", "forward", _sets_an_option, "option", "option: eps has changed"),
    ("Affine", "port", "forward", _one_result, "call", "which an earlier call returned, has changed"),
    ("Seq2seq", "port", "generate", _ends_in_training, "generate", "generate: the mode of the module has changed"),
], ids=lambda value: getattr(value, "__name__", None))
def test_options_and_modes_hold(monkeypatch, name, side, method, fault, step, words):
    assert play(name, side, step) is None
    owner = getattr(reference if side == "reference" else torch_port, name)
    monkeypatch.setattr(owner, method, fault(getattr(owner, method)))
    assert words in play(name, side, step).words


def _one_way(real):
    def forward(self, hs_enc, hs_dec, mask=None):
        return real(self, hs_enc, hs_dec.detach() if hs_dec is hs_enc else hs_dec, mask)
    return forward


def _sums(real):
    def forward(self, query, key, value, mask=None):
        self.one = key is value
        return real(self, query, key, value, mask)
    return forward


def test_one_array_for_several_arguments(monkeypatch):
    promise = "one for several"
    check = CHECKS["textbook"]["port"][promise]
    monkeypatch.setattr(torch_port.TimeAttention, "forward", _one_way(torch_port.TimeAttention.forward))
    with pytest.raises(AssertionError, match=r"grad\.hs_enc is not what copies of it give"):
        check(CATALOGUE["TimeAttention"])
    owner, check = reference.MultiHeadAttention, CHECKS["textbook"]["reference"][promise]
    backward = owner.backward
    monkeypatch.setattr(owner, "forward", _sums(owner.forward))
    check(CATALOGUE["MultiHeadAttention"])

    def summed(self, dy):
        dquery, dkey, dvalue = backward(self, dy)
        return (dquery, dkey + dvalue, dkey + dvalue) if self.one else (dquery, dkey, dvalue)

    monkeypatch.setattr(owner, "backward", summed)
    with pytest.raises(AssertionError, match=r"grad\.(key|value) is not what copies of it give"):
        check(CATALOGUE["MultiHeadAttention"])


def _flat(self, params, grads):
    for p, g in zip(params, grads, strict=True):
        flat = p.reshape(-1)
        flat -= self.lr * g.reshape(-1)


def _contiguous(self, group, p, g, real=torch_port.SGD.update):
    real(self, group, [one.contiguous() for one in p], g)


@pytest.mark.parametrize(("side", "update"), [("reference", _flat), ("port", _contiguous)])
def test_parameters_in_any_layout_move(monkeypatch, side, update):
    check = CHECKS["optimizer"][side]["layouts"]
    monkeypatch.setattr(reference.SGD if side == "reference" else torch_port.SGD, "update", update)
    with pytest.raises(AssertionError, match="W is"):
        check(CATALOGUE["SGD"])


@pytest.mark.parametrize(("name", "least", "most"), [("LayerNorm", 1e-9, np.inf), ("LayerNorm", 0, 100.0)])
def test_options_mean_the_same_far_beyond_those_of_cases(monkeypatch, name, least, most):
    check, owner = CHECKS["textbook"]["port"]["far options"], reference.LayerNorm
    real = owner.forward

    def forward(self, x):
        self.eps = min(max(self.eps, least), most)
        return real(self, x)

    monkeypatch.setattr(owner, "forward", forward)
    with pytest.raises(AssertionError, match="at eps = "):
        check(CATALOGUE[name])
