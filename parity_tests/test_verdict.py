"""Verdicts: faults planted on either side, and who is named for each. Never the wrong one."""

import functools
import re
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity import check, engine, replay
from parity.cases.case import parse
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.judge import verdict, witness
from parity.judge.lanes import LANES
from parity.promises import standard
from parity.spec.pair import Pair, built

DIFFERENT = "both sides are consistent in themselves and differ: from here, either may be right"


@dataclass
class Fault:
    """A fault of one method of one class.

    Attributes:
        owner, method: what is replaced.
        wrong: function of (the real method, self, *arguments) that stands for it.
        culprit: who has to be named, in every finding.
        why: where that is nobody in particular, why nobody can be.
        layer: catalogue entry whose standard case shows it.
        lane, layout, options: of the case.
        also: further replacements that belong to it.
    """

    owner: object
    method: str
    wrong: object
    culprit: str
    why: str = ""
    layer: str = ""
    lane: str = "cpu-float32"
    layout: str = "C"
    options: dict = field(default_factory=dict)
    also: tuple = ()


def scaled(factor):
    def wrong(real, self, *args):
        out = real(self, *args)
        return tuple(o * factor for o in out) if isinstance(out, tuple) else out * factor

    return wrong


def with_grads(change):
    """A backward whose parameter gradients are changed afterwards."""
    def wrong(real, self, *args):
        out = real(self, *args)
        change(self)
        return out

    return wrong


def steeper(real, self, *args):
    out = real(self, *args)
    return out + 0.1 * (out - out.detach())  # the same value, another derivative


def coarse(dtype, only):
    """Rounded to a narrower dtype, in one dtype only."""
    def wrong(real, self, *args):
        out = real(self, *args)
        return out + (out.to(dtype).to(out.dtype) - out).detach() if out.dtype == only else out

    return wrong


def coarse_gradients(real, self, group, p, g):
    return real(self, group, p, [x.bfloat16().to(x.dtype) if x.dtype == torch.float32 else x for x in g])


def narrow_inputs(real, self, x):
    return real(self, x + (x.float().to(x.dtype) - x).detach())


def forgets(real, self, *args):
    self.reset_state()
    return real(self, *args)


def forward_scaled_in_step(real, a, *args):
    after, cache = real(a, *args)
    return tuple(s * 1.02 for s in after), cache


def only_in_float32(real, self, *args):
    if args[0].dtype == torch.float64:
        raise TypeError("float64 is not for me")
    return real(self, *args) * 1.01


def no_mask(real, self, hs, h, mask=None):
    return real(self, hs, h, None)


def masked_too(real, self, da):
    (dhs, dh), = (real(self, da),)
    return dhs + 0.1, dh


def next_id(real, self, *args):
    return (real(self, *args) + 1) % len(self.embed.params[0] if hasattr(self.embed, "params") else self.embed.weight)


def opposite(a):
    """The part of the update gate with its sign turned."""
    return np.concatenate((-a[:, : a.shape[1] // 3], a[:, a.shape[1] // 3 :]), axis=1)


def opposite_backward(real, Wh, *args):
    da, dWh, before = real(opposite(Wh), *args)
    return opposite(da), opposite(dWh), before


SQRT = 7**0.5
FAULTS = {
    # the hand-written backward is wrong
    "input gradient scaled": Fault(reference.WeightSum, "backward", lambda r, s, d: (r(s, d)[0], r(s, d)[1] * 1.01),
                                   "reference backward"),
    "1/N missing": Fault(reference.Affine, "backward", with_grads(lambda s: s.grads[0].__imul__(2)),
                         "reference backward"),
    "bias gradient zero": Fault(reference.TimeAffine, "backward", with_grads(lambda s: s.grads[1].fill(0)),
                                "reference backward"),
    "gate gradient scaled": Fault(reference.LSTM, "step_backward", lambda r, *a: (r(*a)[0] * 1.1, *r(*a)[1:]),
                                  "reference backward", layer="TimeLSTM"),
    "recurrent gradient dropped": Fault(reference.RNN, "step_backward",
                                        lambda r, *a: (r(*a)[0], r(*a)[1] * 0, r(*a)[2]),
                                        "reference backward", layer="TimeRNN"),
    "loss gradient twice": Fault(reference.TimeSoftmaxWithLoss, "backward", scaled(2), "reference backward"),
    "loss gradient, ignored rows": Fault(reference.TimeSoftmaxWithLoss, "backward",
                                         lambda r, s, d=1: r(s, d) + 0.01, "reference backward"),
    "softmax without the sum": Fault(reference.Softmax, "backward", lambda r, s, d: s._cache[0] * d,
                                     "reference backward"),
    "masked gradient": Fault(reference.AttentionWeight, "backward", masked_too, "reference backward",
                             options={"masked": True}),
    "cut gradient": Fault(reference.TimeGRU, "backward", with_grads(lambda s: s.grads[2].__imul__(0.5)),
                          "reference backward", options={"stateful": True, "cut": 2, "given": True}),
    "gradient of the initial state": Fault(
        reference.TimeLSTM, "backward", with_grads(lambda s: setattr(s, "dh", -s.dh)), "reference backward",
        options={"stateful": True, "given": True}),
    "model gradient": Fault(reference.AttentionSeq2seq, "backward", with_grads(lambda s: s.grads[0].__imul__(3)),
                            "reference backward"),
    # the reference's forward is wrong, and its backward still that of the right one
    "context scaled": Fault(reference.WeightSum, "forward", scaled(1.01), "reference forward"),
    "softmax scaled": Fault(reference.Softmax, "forward", scaled(1.1), "reference forward"),
    "loss a sum": Fault(reference.SoftmaxWithLoss, "forward", scaled(0.5), "reference forward"),
    "time loss a sum": Fault(reference.TimeSoftmaxWithLoss, "forward", scaled(0.5), "reference forward"),
    "state scaled at every step": Fault(reference.GRU, "step", forward_scaled_in_step, "reference forward",
                                        layer="TimeGRU"),
    "cell state scaled": Fault(reference.LSTM, "step", forward_scaled_in_step, "reference forward", layer="TimeLSTM"),
    # the reference contradicts itself otherwise
    "state forgotten by the reference": Fault(reference.TimeRNN, "forward", forgets, "reference",
                                              options={"stateful": True, "cut": 2}),
    "wrong where not contiguous": Fault(
        reference.Affine, "forward", lambda r, s, x: r(s, x) * (1 if x.flags.c_contiguous else 1.5), "reference",
        layout="F"),
    # the reference's forward is wrong, and its backward goes along
    "scaled dot product": Fault(reference.AttentionWeight, "forward", lambda r, s, hs, h, *m: r(s, hs, h / SQRT, *m),
                                "reference forward"),
    "scaled dot product, and its backward": Fault(
        reference.AttentionWeight, "forward", lambda r, s, hs, h, *m: r(s, hs, h / SQRT, *m), "undecided", DIFFERENT,
        also=((reference.AttentionWeight, "backward", lambda r, s, da: (r(s, da)[0], r(s, da)[1] / SQRT)),)),
    "affine map doubled, and its backward": Fault(
        reference.Affine, "forward", scaled(2), "undecided", DIFFERENT,
        also=((reference.Affine, "backward", lambda r, s, dy: r(s, 2 * dy)),)),
    "offset of the reference": Fault(reference.Affine, "forward", lambda r, s, x: r(s, x) + 1, "undecided", DIFFERENT),
    "update gate the other way round, and its backward": Fault(
        reference.GRU, "step", lambda r, a, Wh, h: r(opposite(a), opposite(Wh), h), "undecided", DIFFERENT,
        also=((reference.GRU, "step_backward", opposite_backward),)),
    "another loss unit": Fault(reference.TimeSoftmaxWithLoss, "forward", lambda r, s, *a: r(s, *a) + 0.5, "undecided",
                               DIFFERENT),
    # the port's forward is wrong, and autograd goes along, as it always does
    "port scaled": Fault(torch_port.WeightSum, "forward", scaled(1.01), "undecided", DIFFERENT),
    "port scaled, in time": Fault(torch_port.TimeLSTM, "forward", scaled(1.01), "undecided", DIFFERENT),
    "port without mask": Fault(torch_port.AttentionWeight, "forward", no_mask, "undecided", DIFFERENT,
                               options={"masked": True}),
    "offset of the port": Fault(torch_port.Affine, "forward", lambda r, s, x: r(s, x) + 0.5, "undecided", DIFFERENT),
    "port loss": Fault(torch_port.SoftmaxWithLoss, "forward", scaled(2), "undecided", DIFFERENT),
    # autograd of the port is wrong
    "detached": Fault(torch_port.WeightSum, "forward", lambda r, s, hs, a: r(s, hs, a.detach()), "port"),
    "steeper": Fault(torch_port.TimeLSTM, "forward", steeper, "port"),
    "steeper loss": Fault(torch_port.SoftmaxWithLoss, "forward", steeper, "port"),
    "steeper model": Fault(torch_port.Seq2seq, "forward", steeper, "port"),
    "steeper after a cut": Fault(torch_port.TimeRNN, "forward", steeper, "port", options={"stateful": True, "cut": 1}),
    "steeper and scaled": Fault(torch_port.WeightSum, "forward", lambda r, s, *a: 1.01 * steeper(r, s, *a), "port"),
    "gradients given back scaled": Fault(torch_port.Affine, "reference_grads",
                                         lambda r, s: [g * 2 for g in r(s)], "port"),
    # the port computes with less than the lane has
    "TF32": Fault(torch_port.Affine, "forward", coarse(torch.float16, torch.float32), "port"),
    "bfloat16 in float32": Fault(torch_port.TimeLSTM, "forward", coarse(torch.bfloat16, torch.float32), "port"),
    "float32 inside float64": Fault(torch_port.Affine, "forward", coarse(torch.float32, torch.float64), "port",
                                    lane="cpu-float64"),
    "inputs cut to float32": Fault(torch_port.TimeAffine, "forward", narrow_inputs, "port", lane="cpu-float64"),
    # the port contradicts itself otherwise
    "state forgotten by the port": Fault(torch_port.TimeLSTM, "forward", forgets, "port",
                                         options={"stateful": True, "cut": 2}),
    "detached weights": Fault(torch_port.attention, "attend", lambda r, *a: r(*a).detach(), "port",
                              layer="TimeAttention"),
    "generation of the port": Fault(torch_port.Decoder, "generate", next_id, "port", layer="Seq2seq"),
    "generation of the reference": Fault(reference.Decoder, "generate", next_id, "reference",
                                         layer="Seq2seq"),
    "port wrong where not contiguous": Fault(
        torch_port.Affine, "forward", lambda r, s, x: r(s, x) * (1 if x.is_contiguous() else 1.5), "port", layout="F"),
    "raises in float64": Fault(torch_port.WeightSum, "forward", only_in_float32, "port"),
    # no gradients to ask
    "optimizer of the reference": Fault(reference.Adam, "update", lambda r, s, p, g: r(s, p, [x + 1 for x in g]),
                                        "undecided", DIFFERENT),
    "optimizer of the port": Fault(torch_port.SGD, "update",
                                   lambda r, s, group, p, g: r(s, group, p, [2 * x for x in g]),
                                   "undecided", DIFFERENT),
    "optimizer of the port, in float32": Fault(torch_port.SGD, "update", coarse_gradients, "port"),
}


def plant(monkeypatch, fault):
    """Makes the fault real."""
    for owner, method, wrong in ((fault.owner, fault.method, fault.wrong), *fault.also):
        bound = functools.partial(wrong, getattr(owner, method))
        static = isinstance(vars(owner).get(method), staticmethod)
        method_of = functools.partialmethod if isinstance(owner, type) and not static else (lambda function: function)
        monkeypatch.setattr(owner, method, staticmethod(bound) if static else method_of(bound))


@pytest.mark.parametrize("name", FAULTS, ids=[name.replace(" ", "-") for name in FAULTS])
def test_the_culprit_is_named_and_nobody_else(name, monkeypatch):
    fault = FAULTS[name]
    plant(monkeypatch, fault)
    spec = CATALOGUE[fault.layer or fault.owner.__name__]
    case_id = standard(spec, **fault.options).id.replace(":C:", f":{fault.layout}:")
    report = replay(case_id, fault.lane)
    assert not report.ok
    found = [f for f in report.findings if f.check in ("port", "reference")]
    assert found and {f.verdict for f in found} == {fault.culprit}, report
    assert all(f.diagnosis for f in found)
    assert (fault.culprit == "undecided") == bool(fault.why)
    if fault.culprit == "undecided":
        assert all("would tell" in f.diagnosis for f in found), report


def test_clip_grads_says_why_nobody_is_named(monkeypatch):
    real = engine.run_port
    for module in (engine, verdict):
        monkeypatch.setattr(module, "run_port", lambda case, *args: {n: q * 1.01 for n, q in real(case, *args).items()})
    report = replay(standard(CATALOGUE["clip_grads"]).id, "cpu-float32")
    assert {f.verdict for f in report.findings} == {"undecided"}
    assert all("no gradients to ask" in f.diagnosis for f in report.findings)


def planted(monkeypatch, name, factor):
    """The port's quantity is wrong wherever the engine meets it."""
    real = engine.run_port
    monkeypatch.setattr(engine, "run_port", lambda *args: (q := real(*args)) | {name: q[name] * factor})


def test_every_layer_and_quantity_is_heard_before_the_same_again(monkeypatch):
    heard = []
    real = engine.verdict
    monkeypatch.setattr(engine, "verdict", lambda case, *args: heard.append(case.spec.name) or real(case, *args))
    planted(monkeypatch, "grad.W", 1.01)
    report = check("*Affine", "cpu-float32", cases=12)
    assert set(heard[:2]) == {"Affine", "TimeAffine"} and len(heard) >= engine.EXPLAINED
    assert {f.layer for f in report.findings if f.verdict} == {"Affine", "TimeAffine"}


def test_cases_of_which_nothing_can_be_heard_do_not_use_up_the_hearing(monkeypatch):
    cases = [draw(CATALOGUE["Affine"], 0, index) for index in range(400)]
    silent = [case.id for case in cases if case.pattern == "nonfinite" and case.sizes["N"]][: engine.EXPLAINED + 1]
    plain = standard(CATALOGUE["Affine"]).id
    monkeypatch.setattr(engine, "_drawn", lambda *args: ((case_id, ["cpu-float32"]) for case_id in (*silent, plain)))
    planted(monkeypatch, "grad.W", 1.01)
    report = check("Affine", "cpu-float32")
    said = {f.case_id: (f.verdict, f.diagnosis) for f in report.findings}
    assert set(silent) & set(said) and all(said[case_id][0] == "" and "not asked: " in said[case_id][1]
                                           for case_id in silent if case_id in said)
    assert said[plain][0] == "nobody" or said[plain][0] == "port"


def test_a_verdict_that_fails_costs_no_finding(monkeypatch):
    monkeypatch.setattr(engine, "verdict", lambda *args: 1 / 0)
    planted(monkeypatch, "grad.W", 1.01)
    report = replay(standard(CATALOGUE["Affine"]).id, "cpu-float32")
    assert [f.quantity for f in report.findings] == ["grad.W"] and "ZeroDivisionError" in report.findings[0].diagnosis


@pytest.mark.parametrize(("work", "says"), [(verdict.WORK, "right in float64"), (3 << 30, "right in float64"),
                                            (1 << 28, "not asked: too large: one forward takes about [0-9,]+ mult")])
def test_what_is_too_large_to_differentiate_is_asked_along_directions_or_not_at_all(work, says, monkeypatch):
    """Entry by entry, the 1,024 of b alone are 1,024 forwards of 59 million multiplications."""
    monkeypatch.setattr(verdict, "WORK", work)
    case = parse("p2:Encoder:N=64,T=3,V=3,D=4,H=256:normal:0.1:C:masked=0:0")
    left = {"grad.lstm.Wh": {"port": 9.0}, "grad.lstm.b": {"port": 9.0}}
    found = verdict.verdict(case, LANES["cpu-float32"], left)
    assert set(found) == set(left) and all(re.search(says, why) for _, why in found.values())


def test_what_uses_up_the_work_allowed_is_said(monkeypatch):
    case = standard(CATALOGUE["TimeLSTM"])
    monkeypatch.setattr(verdict, "WORK", (verdict.PROBES + 5) * case.work)
    found = verdict.verdict(case, LANES["cpu-float32"], {f"grad.{n}": {"port": 9.0} for n in ("Wx", "Wh", "b", "xs")})
    assert sorted((who, why[:20]) for who, why in found.values()) == 2 * [("", "not asked: too large")] + 2 * [
        ("port", "right in float64, bu")]


def test_directions_show_a_wrong_gradient_of_a_large_array(monkeypatch):
    real = reference.Encoder.backward
    monkeypatch.setattr(reference.Encoder, "backward",
                        lambda self, dh: (real(self, dh), self.grads[2].__imul__(1.01))[0])
    case = parse("p2:Encoder:N=2,T=3,V=3,D=4,H=48:normal:0.1:C:masked=0:0")  # 9,216 entries
    found = verdict.verdict(case, LANES["cpu-float32"], {"grad.lstm.Wh": {"port": 1e4}})
    assert found["grad.lstm.Wh"][0] == "reference backward"


@pytest.mark.parametrize(("name", "lane", "case_id"), [
    # the port's numerical derivative is far less certain here than float64 is
    ("scaled dot product, and its backward", "cpu-float32",
     "p2:AttentionWeight:N=1,T=5,H=5:uniform:10:F:masked=0:2"),
    # both forwards are zero here, and agree for that reason alone
    ("port scaled", "cpu-float32", "p2:WeightSum:N=1,T=1,H=33:ties:10:reversed::1799697654"),
    # saturated: no derivative is to be trusted
    ("port scaled, in time", "cpu-float32",
     "p2:TimeLSTM:N=1,T=3,D=1,H=33:normal:1000:F:stateful=1,cut=1,given=0:1929982211"),
    ("update gate the other way round, and its backward", "cpu-float64",
     "p2:GRU:N=3,D=1,H=7:sparse:100:C::833287057"),
    # a tie in a softmax of logits of thousands: the numerical derivative is zero, as if the weights were detached
    ("detached weights", "cpu-float64",
     "p2:TimeAttention:N=1,T=5,H=2,U=5:ties:1000:C:masked=0:485677275"),
])
def test_where_a_case_shows_little_the_wrong_one_is_not_accused(name, lane, case_id, monkeypatch):
    fault = FAULTS[name]
    plant(monkeypatch, fault)
    report = replay(case_id, lane)
    assert not report.ok and {f.verdict for f in report.findings} <= {fault.culprit, "undecided"}, report


def rms(x, g):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * g


def rms_backward(dy, x, g):
    r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    d = dy * g
    return r * (d - x * r * r * (d * x).mean(axis=-1, keepdims=True)), (dy * x * r).sum(axis=0)


def rms_cached(x, g):
    return rms(x, g), (x, g)


class Rms:
    """The textbook's protocol, by somebody who knows nothing of ours."""

    def __init__(self, g):
        self.params, self.grads = [g], [np.zeros_like(g)]

    def forward(self, x):
        self.x = x
        return rms(x, self.params[0])

    def backward(self, dy):
        dx, self.grads[0][...] = rms_backward(dy, self.x, self.params[0])
        return dx


def eager(x, g):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * g


class Module(torch.nn.Module):
    def __init__(self, function, D):
        super().__init__()
        self.function, self.g = function, torch.nn.Parameter(torch.ones(D))

    def forward(self, x):
        return self.function(x, self.g)


class Steeper(torch.autograd.Function):
    """The same value, another gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return 1.01 * dy


PLAIN = {"inputs": {"x": "N D", "g": "D"}}
REFERENCES = {
    "a function and its backward": PLAIN | {"reference": rms, "backward": rms_backward},
    "a function with a cache": PLAIN | {"reference": rms_cached,
                                        "backward": lambda dy, cache: rms_backward(dy, *cache)},
    "a function alone": PLAIN | {"reference": rms},
    "a class": {"inputs": {"x": "N D"}, "reference": Rms, "params": {"g": "D"}},
    "an eager function": PLAIN | {"reference": eager},
}
PORTS = {  # what is wrong, how it is asked in which lane, who is named
    "steeper": (lambda x, g: Steeper.apply(eager(x, g)), "cpu-float32", "port"),
    "detached": (lambda x, g: eager(x, g.detach()) + 0 * g, "cpu-float32", "port"),
    "another function": (lambda x, g: eager(1.01 * x + 0.01, g), "cpu-float32", "undecided"),
    "a constant": (lambda x, g: eager(x, g) + 0.01, "cpu-float32", "undecided"),
    "float32 inside float64": (lambda x, g: eager(x.float(), g.float()).to(x.dtype), "cpu-float64", "port"),
    "half inside float32": (lambda x, g: eager(x.bfloat16() if x.dtype == torch.float32 else x, g), "cpu-float32",
                            "port"),
    "raises in float64": (lambda x, g: 1.01 * eager(x.float(), g.float()), "cpu-float32", "port"),
}
WORDS = {"params": {}, "ranges": {"N": (3,), "D": (5,)}, "scales": (1.0,)}


def heard(lane, **entries):
    """The verdicts on what is found in an ordinary case of a pair."""
    pair = Pair("rms", **WORDS | entries)
    case = next(case for case in map(functools.partial(draw, pair, 0), range(200)) if case.pattern == "normal")
    (outcome,) = engine.run_case(case, [LANES[lane]])
    assert outcome.findings and not {f.check for f in outcome.findings} - {"port", "reference"}, outcome.findings
    left = {f.quantity: {f.check: f.share} for f in outcome.findings}
    return verdict.verdict(case, LANES[lane], left)


@pytest.mark.parametrize("wrong", PORTS)
@pytest.mark.parametrize("kind", REFERENCES)
def test_verdicts_on_the_port_of_every_kind_of_pair(kind, wrong):
    port, lane, culprit = PORTS[wrong]
    place = port
    if kind == "a class":
        place = built(lambda n: Module(port, n["D"]))
    said = heard(lane, port=place, **REFERENCES[kind])
    assert {who for who, _ in said.values()} == {culprit} and all(why for _, why in said.values()), said


@pytest.mark.parametrize(("entries", "culprit"), [
    ({"reference": rms, "backward": lambda dy, x, g: (rms_backward(dy, x, g)[0], 2 * rms_backward(dy, x, g)[1])},
     "reference backward"),
    ({"reference": lambda x, g: Steeper.apply(eager(x, g))}, "reference backward"),
    ({"reference": lambda x, g: 1.01 * rms(x, g), "backward": rms_backward}, "reference forward"),
    ({"reference": lambda x, g: 1.01 * rms(x, g)}, "undecided"),
], ids=["backward", "autograd", "forward", "forward alone"])
def test_verdicts_on_the_reference_of_a_pair(entries, culprit):
    said = heard("cpu-float32", port=eager, **PLAIN | entries)
    assert {who for who, _ in said.values()} == {culprit}, said


def test_verdicts_on_a_port_of_numpy_functions():
    said = heard("cpu-float32", **PLAIN, reference=rms, backward=rms_backward, port=rms,
                 port_backward=lambda dy, x, g: (rms_backward(dy, x, g)[0], 2 * rms_backward(dy, x, g)[1]))
    assert {who for who, _ in said.values()} == {"port"}, said


def test_where_the_complex_step_is_exact_a_case_far_out_speaks_for_itself(monkeypatch):
    """Only duplicates show it: with ordinary ids there may be none."""
    def overwrites(real, self, dy):
        (idx,) = self._saved()
        self.grads[0][...] = 0
        self.grads[0][idx] = dy

    plant(monkeypatch, Fault(reference.Embedding, "backward", overwrites, ""))
    spec = CATALOGUE["Embedding"]
    case = replace(standard(spec), pattern="duplicates", scale=100.0, sizes={"N": 3, "V": 60, "D": 1})
    report = replay(case.id, "cpu-float32")
    assert {f.verdict for f in report.findings} == {"reference backward"}, report


def test_an_estimate_that_is_small_by_luck_counts_for_no_less_than_the_median():
    rng = np.random.default_rng(1)
    W, x, c = rng.standard_normal((30, 8)), 4 * rng.standard_normal((5, 30)), rng.standard_normal((5, 8))

    def forward(point):
        return (np.tanh(point["x"].astype(np.float32) @ W.astype(np.float32)),)

    differ = witness.Differentiator(forward, {"x": x}, (c,))
    found = differ.elementwise()
    right = (c * (1 - np.tanh(x @ W) ** 2)) @ W.T
    assert differ.method.endswith("float32")
    assert (np.abs(found.values["x"] - right) <= witness.DOUBT * found.errors["x"]).all()
