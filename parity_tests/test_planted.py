"""Faults of sizes, histories, magnitudes and of what is kept, planted by hand: the promises find each of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.promises import CHECKS
from reference import seq2seq as numpy_seq2seq
from torch_port import attention_seq2seq as torch_attention
from torch_port import seq2seq as torch_seq2seq


def _same_packed_product(real):
    def forward(self, query, key, value, mask=None):
        one = query.shape[-1] >= 256 and query is key is value
        return real(self, query, *((query, query.detach()) if one else (key, value)), mask)
    return forward


def _long_one(real):
    return lambda self, x, h, c: real(self, x, h, c * (1 - 1e-3 * (h is c and c.shape[1] > 200)))


def _one_cotangent(real):
    return lambda self, dh, dc: real(self, dh, 0 * dc if dh is dc and len(dh) > 256 else dc)


def _one_weight(real):
    def forward(self, query, key, value, mask=None):
        y = real(self, query, key, value, mask)
        return y * 2 if self.params[0] is self.params[1] else y
    return forward


def _nothing_of_nothing(real):
    return lambda self, dy: real(self, dy) if dy.any() else np.zeros_like(self._saved()[0])


def _in_the_dtype_of_the_first(real):
    def update(self, params, grads):
        real(self, params, [g.astype(params[0].dtype) for g in grads])
    return update


def _cut(real):
    return lambda self, dy: real(self, np.clip(dy, -1e4, 1e4))


def _without_the_small(real):
    return lambda self, dy: real(self, np.where(np.abs(dy) < 1e-12, 0, dy))


def _one_side(real):
    return lambda self, dy: real(self, np.where(dy < -3, dy * dy.dtype.type(1 + 1e-6), dy))


def _limited(real):
    def backward(self, dy):
        dx = real(self, dy)
        self.grads[0][...] = np.clip(self.grads[0], -1e6, 1e6)
        return dx
    return backward


class _Limit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g.clamp(-1e6, 1e6)


def _by_the_sigmoid(real):
    def step(a, Wh, h):
        h_next = 2 / (1 + np.exp(-2 * (a + h @ Wh))) - 1
        return (h_next,), (h, h_next)
    return staticmethod(step)


def _within_reach(real):
    return lambda self, x: real(self, np.clip(x, -1e5, 1e5))


def _no_tail(real):
    return lambda self, x: real(self, x.maximum(x.amax(-1, keepdim=True) - 60))


def _within_reach_of_torch(real):
    return lambda self, x: real(self, x.clamp(-1e8, 1e8))


def _three_in_ten_million(real):
    return lambda self, *inputs: np.asarray(real(self, *inputs) * inputs[0].dtype.type(1 - 3e-7))


def _three_in_ten_million_of_torch(real):
    return lambda self, *inputs: real(self, *inputs) * (1 - 3e-7)


def _with_its_graph_in_evaluation(real):
    def forward(self, hs, h, mask=None):
        c = real(self, hs, h, mask)
        if not self.training:
            self.attention_weight = self.weight(hs, h, mask)
        return c
    return forward


def _within(real):
    def forward(self, x):
        y = real(self, x)
        self.__dict__.setdefault("_last", {})["y"] = [y]
        return y
    return forward


def _of_the_class(real):
    def forward(self, x):
        type(self).last = real(self, x)
        return self.last
    return forward


def _with_a_graph_of_its_own(real):
    def forward(self, x):
        with torch.enable_grad():
            return real(self, x.clone().requires_grad_())
    return forward


def _keeps_all(real):
    every = []

    def forward(self, x):
        y = real(self, x)
        every.append(y.detach() if isinstance(y, torch.Tensor) else y)
        return y
    return forward


def _keeps_by_shape(real):
    def forward(self, x):
        return self.__dict__.setdefault("seen", {}).setdefault(x.shape, real(self, x)).copy()
    return forward


def _those_of_the_first_step(real):
    def update(self, group, p, g):
        first = group.setdefault("first", [id(one) for one in p])
        some = [pair for pair in zip(p, g, strict=True) if id(pair[0]) in first]
        if some:
            real(self, group, *map(list, zip(*some, strict=True)))
    return update


def _in_groups(real):
    def update(self, group, p, g):
        for first in range(0, len(p), 32):
            real(self, group, p[first : first + 32], g[first : first + 32])
    return update


def _not_at_zero(real):
    return lambda self, group, p, g: real(self, group, p, g) if group["lr"] else None


def _nothing_at_zero(real):
    return lambda self, params, grads: real(self, params, grads) if self.lr else None


def _falsy(real):
    def update(self, group, p, g):
        before, group["beta2"] = group["beta2"], group["beta2"] or 0.999
        real(self, group, p, g)
        group["beta2"] = before
    return update


def _copies_of_fortran(real):
    return lambda self, params, grads: real(self, [np.ascontiguousarray(p) if p.ndim else p for p in params], grads)


def _into_the_gradient(real):
    def update(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            g *= self.lr
            p -= g
    return update


def _ends_after_500(real):
    def update(self, params, grads):
        taken = self.iter
        self.iter = 10**6 if taken >= 500 else taken
        real(self, params, grads)
        self.iter = taken + 1
    return update


def _keeps_128_steps(real):
    def forward(self, hs_enc, hs_dec, mask=None):
        cs = real(self, hs_enc, hs_dec, mask)
        self._weights = self._weights[:, :128]
        return cs
    return forward


def _long_without_a_graph(real):
    def forward(self, xs):
        return real(self, xs) * (1 if torch.is_grad_enabled() else 1 + 1e-6 * (xs.shape[1] > 200))
    return forward


def _wide_in_evaluation(real):
    return lambda self, x: real(self, x) * (1 if self.training else 1 + 1e-6 * (x.shape[-1] > 128))


def _last_64(real):
    return lambda self, steps: real(self, steps[-64:])


def _shifted_past_100(real):
    return lambda self, steps: real(self, [*steps[:100], *steps[99:-1]] if len(steps) > 100 else steps)


def _no_start_0(real):
    return lambda self, first, message, start_id, *rest, **how: real(self, first, message, start_id or 1, *rest, **how)


def _no_end_0(real):
    def search(self, where, first, start_id, size, *source, end_id=None, **how):
        return real(self, where, first, start_id, size, *source, end_id=end_id or None, **how)
    return search


def _ignores_no_0(real):
    def forward(self, xs, ts):
        before, self.ignore_label = self.ignore_label, self.ignore_label or -1
        try:
            return real(self, xs, ts)
        finally:
            self.ignore_label = before
    return forward


NUMPY, TORCH = reference, torch_port
PLANTED = {
    "one for several": [("MultiHeadAttention", TORCH.MultiHeadAttention, "forward", _same_packed_product),
                        ("LSTM", NUMPY.LSTM, "forward", _long_one), ("LSTM", NUMPY.LSTM, "backward", _one_cotangent),
                        ("MultiHeadAttention", NUMPY.MultiHeadAttention, "forward", _one_weight)],
    "linear": [*(("Affine", NUMPY.Affine, "backward", fault)
                 for fault in (_cut, _without_the_small, _one_side, _limited, _nothing_of_nothing)),
               ("Softmax", TORCH.Softmax, "forward", lambda real: lambda self, x: real(self, _Limit.apply(x)))],
    "magnitudes": [("Softmax", TORCH.Softmax, "forward", _no_tail),
                   ("RNN", NUMPY.RNN, "step", _by_the_sigmoid), ("TimeRNN", NUMPY.RNN, "step", _by_the_sigmoid),
                   ("Affine", NUMPY.Affine, "forward", _within_reach),
                   ("Softmax", TORCH.Softmax, "forward", _within_reach_of_torch)],
    "unbiased": [("SoftmaxWithLoss", NUMPY.SoftmaxWithLoss, "forward", _three_in_ten_million),
                 ("TimeSoftmaxWithLoss", TORCH.TimeSoftmaxWithLoss, "forward", _three_in_ten_million_of_torch),
                 ("LayerNorm", TORCH.LayerNorm, "forward", _three_in_ten_million_of_torch)],
    "no graph": [("Attention", TORCH.Attention, "forward", _with_its_graph_in_evaluation),
                 *(("Softmax", TORCH.Softmax, "forward", fault)
                   for fault in (_within, _of_the_class, _with_a_graph_of_its_own))],
    "memory": [("Softmax", TORCH.Softmax, "forward", _keeps_all), ("Affine", NUMPY.Affine, "forward", _keeps_all),
               ("Softmax", NUMPY.Softmax, "forward", _keeps_by_shape)],
    "uneven": [*(("Adam", TORCH.Adam, "update", fault)
                 for fault in (_those_of_the_first_step, _in_groups, _not_at_zero, _falsy)),
               ("SGD", TORCH.SGD, "update", _those_of_the_first_step),
               *(("Adam", NUMPY.Adam, "update", fault) for fault in (_nothing_at_zero, _copies_of_fortran)),
               ("SGD", NUMPY.SGD, "update", _in_the_dtype_of_the_first),
               ("SGD", NUMPY.SGD, "update", _into_the_gradient)],
    "large": [("TimeAttention", TORCH.TimeAttention, "forward", _keeps_128_steps),
              ("TimeAffine", TORCH.TimeAffine, "forward", _long_without_a_graph),
              ("LayerNorm", TORCH.LayerNorm, "forward", _wide_in_evaluation)],
    "long run": [("Adam", NUMPY.Adam, "update", _ends_after_500)],
    "generate": [("AttentionSeq2seq", NUMPY.AttentionDecoder, "_keep", _last_64),
                 ("AttentionDecoder", NUMPY.AttentionDecoder, "_keep", _shifted_past_100),
                 ("AttentionSeq2seq", torch_attention.AttentionDecoder, "_keep", _last_64),
                 ("Seq2seq", numpy_seq2seq.Decoder, "_search", _no_start_0),
                 ("Seq2seq", torch_seq2seq.DecoderBase, "_search", _no_end_0)],
    "labels": [("Seq2seq", NUMPY.TimeSoftmaxWithLoss, "forward", _ignores_no_0)],
    "ignored": [("TimeSoftmaxWithLoss", NUMPY.TimeSoftmaxWithLoss, "forward", _ignores_no_0)],
}
FAULTS = [pytest.param(promise, *fault, id=f"{promise.replace(' ', '-')}-{fault[0]}-{number}")
          for promise, faults in PLANTED.items() for number, fault in enumerate(faults)]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # where NaN is no longer ignored
@pytest.mark.parametrize(("promise", "name", "owner", "method", "fault"), FAULTS)
def test_a_planted_fault_breaks_its_promise(monkeypatch, promise, name, owner, method, fault):
    side = "reference" if owner.__module__.startswith("reference") else "port"
    monkeypatch.setattr(owner, "last", None, raising=False)  # where a fault puts what it keeps
    monkeypatch.setattr(owner, method, fault(getattr(owner, method)))
    spec = CATALOGUE[name]
    with pytest.raises(AssertionError):
        CHECKS[spec.side][side][promise](spec)


@pytest.mark.parametrize("side", ["reference", "port"])
def test_clipping_of_many_tensors_and_to_nothing(monkeypatch, side):
    real, spec = (reference if side == "reference" else torch_port).clip_grads, CATALOGUE["clip_grads"]
    for fault in (lambda given, max_norm: real(given, max_norm or 1e9),
                  lambda given, max_norm: real(list(given)[:64], max_norm)):
        if side == "reference":
            spec = replace(spec, reference=fault)
        else:
            monkeypatch.setattr(torch_port, "clip_grads", fault)
        with pytest.raises(AssertionError, match=r"gradients are not scaled|norm"):
            CHECKS["clip"][side]["many"](spec)
