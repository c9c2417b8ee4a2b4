"""Faults of optimizers that begin late, far out, or with many tensors: none passes the promises about long runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.promises import CHECKS
from parity.spec.span import span


def late(real, step):
    def update(self, params, grads):
        self.taken = getattr(self, "taken", 0) + 1
        real(self, params, grads if self.taken != step else [g * np.float32(1.001) for g in grads])
    return update


def steep(real):
    def update(self, params, grads):
        before, self.lr = self.lr, min(self.lr, 1.0)
        real(self, params, grads)
        self.lr = before
    return update


def slow(real):
    def update(self, params, grads):
        before, self.beta2 = self.beta2, min(self.beta2, 0.9995)
        real(self, params, grads)
        self.beta2 = before
    return update


def large(real):
    return lambda self, params, grads: real(self, params, [g if g.size < 5000 else g.astype(np.float32).astype(g.dtype)
                                                           for g in grads])


def eight(real):
    return lambda self, params, grads: real(self, params[:8], grads[:8])


def clipped(real):
    return lambda self, params, grads: real(self, params, [np.clip(g, -1e5, 1e5) for g in grads])


def small(real):
    return lambda self, params, grads: real(self, params, [g * (abs(g) >= 1e-7) for g in grads])


def late_port(real):
    def update(self, group, p, g):
        group["taken"] = group.get("taken", 0) + 1
        real(self, group, p, g if group["taken"] < 9_990 else [x * 1.01 for x in g])
    return update


def large_port(real):
    return lambda self, group, p, g: real(self, group, p, [x if x.numel() < 5000 else x.float().to(x.dtype) for x in g])


def held(name, side):
    for check in ("long run", "closed form"):
        CHECKS[CATALOGUE[name].side][side][check](CATALOGUE[name])


@pytest.mark.parametrize(("name", "fault"), [
    *(("Adam", fault) for fault in (lambda real: late(real, 250), lambda real: late(real, 999), steep, slow, large,
                                    eight, clipped, small)),
    *(("SGD", fault) for fault in (lambda real: late(real, 800), steep, eight, clipped)),
], ids=[*(f"Adam-{n}" for n in ("250", "999", "steep", "slow", "large", "eight", "clipped", "small")),
        *(f"SGD-{n}" for n in ("800", "steep", "eight", "clipped"))])
def test_late_and_far_faults_of_the_reference_are_found(monkeypatch, name, fault):
    owner = getattr(reference, name)
    monkeypatch.setattr(owner, "update", fault(owner.update))
    with pytest.raises((AssertionError, ValueError)):
        held(name, "reference")


@pytest.mark.parametrize("fault", [late_port, large_port], ids=["late", "large"])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_late_and_far_faults_of_the_port_are_found(monkeypatch, name, fault):
    owner = getattr(torch_port, name)
    monkeypatch.setattr(owner, "update", fault(owner.update))
    with pytest.raises(AssertionError, match="step"):
        held(name, "port")


def test_clipping_that_forgets_a_tensor_is_found(monkeypatch):
    real, spec = reference.clip_grads, CATALOGUE["clip_grads"]
    checks = CHECKS[spec.side]
    with pytest.raises(AssertionError, match="norm"):
        checks["reference"]["many"](replace(spec, reference=lambda grads, max_norm: real(grads[:11], max_norm)))
    monkeypatch.setattr(torch_port, "clip_grads",
                        lambda params, max_norm: torch.nn.utils.clip_grad_norm_(params[:10], max_norm))
    with pytest.raises(AssertionError, match="norm"):
        checks["port"]["many"](spec)


def test_a_span_draws_reads_and_refuses():
    rng = np.random.default_rng(0)
    ratio, label = span(0.5, 0.0, 0.9), span(-1, 3, low=-8, high=8)
    assert (ratio[0], ratio.low, ratio.high, ratio.whole, label.whole) == (0.5, 0.0, 0.9, False, True)
    drawn = [ratio.draw(rng) for _ in range(400)]
    assert {0.0, 0.5, 0.9} < set(drawn) and len(set(drawn)) > 100 and all(0 <= value <= 0.9 for value in drawn)
    assert all(ratio.read(str(value)) == value for value in drawn)
    assert {label.draw(rng) for _ in range(400)} == set(range(-8, 9))
    tiny = [span(0.1, low=1e-6, high=10.0, log=True).draw(rng) for _ in range(400)]
    assert sum(value < 1e-3 for value in tiny) > 20 < sum(value > 0.1 for value in tiny)
    for values, text, words in ((ratio, "1.5", "is '1.5', expected a number from 0 to 0.9"), (ratio, "x", "is 'x'"),
                                (ratio, "nan", "is 'nan'"), (label, "1.0", "expected a whole number from -8 to 8")):
        with pytest.raises(ValueError, match=words):
            values.read(text)
    assert span(-1, -100, low=-1, high=1).read("-100") == -100  # named, though it is beyond the bounds
