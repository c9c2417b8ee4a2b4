"""Programs of calls on one object: right layers pass them, in any order; faults of the n-th call do not."""

import copy
import gc
import re

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import reference
import torch_port
from parity import engine
from parity.cases.case import parse
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.judge.lanes import LANES
from parity.promises.common import standard
from parity.promises.histories import STEPS, Broken, Player, Step, broken, known_steps, plays, program
from parity.settings import own_settings

from .strategies import cases

LAYERS = [spec for spec in CATALOGUE.values() if known_steps(spec)]
BOTH = [pytest.param(spec, side, id=f"{spec.name}-{side}") for spec in LAYERS for side in ("reference", "port")]


@pytest.mark.parametrize(("spec", "side"), BOTH)
def test_any_program(spec, side):
    class Program(RuleBasedStateMachine):
        @initialize(case=cases(spec), lane=st.sampled_from(["cpu-float64", "cpu-float32"]))
        def make(self, case, lane):
            with own_settings():
                self.player = Player(case, LANES[lane], side)

        @rule(name=st.sampled_from(known_steps(spec)), number=st.integers(0, 1000))
        def step(self, name, number):
            with own_settings():
                self.player.play(Step(name, number))

    gc.collect()  # what an earlier test left over would move the clock of this one
    run_state_machine_as_test(Program, settings=settings(max_examples=4, stateful_step_count=12, deadline=None))


def test_programs_follow_from_the_id_and_reach_every_step_and_length():
    drawn = [draw(spec, 0, index) for spec in LAYERS for index in range(40)]
    programs = [program(case) for case in drawn]
    assert programs == [program(parse(case.id)) for case in drawn]
    assert {step.name for steps in programs for step in steps} == set(STEPS)
    assert max(map(len, programs)) >= 24
    assert 0.15 < np.mean([len(steps) > 0 for steps in programs]) < 0.35
    played = {spec.name: max(len(program(draw(spec, 0, index))) for index in range(40)) for spec in LAYERS}
    assert min(played.values()) >= 8, played
    for case in drawn[:40]:
        for kind in (False, True):
            lanes = [lane for lane in LANES.values() if bool(lane.round) == kind and lane.device == "cpu"]
            assert sum(plays(case, lane)[0] == program(case) != () for lane in lanes) == bool(program(case))


def play(name, side, *steps, lane="cpu-float32", every=False, **options):
    with own_settings():
        return broken(standard(CATALOGUE[name], **options), LANES[lane], side, steps, every=every)


CALLS = tuple(Step("call", number) for number in range(1, 40))


def _by_shape(real):
    def forward(self, x, *rest):
        kept = self.__dict__.setdefault("by_shape", {})
        return kept.setdefault(x.shape, real(self, x, *rest)).copy()
    return forward


def _from_the_tenth_call(real):
    def forward(self, *inputs):
        self.calls = getattr(self, "calls", 0) + 1
        out = real(self, *inputs)
        return out * (1 + 1e-6) if self.calls >= 10 else out
    return forward


def _without_gradient(real):
    def forward(self, *inputs):
        out = real(self, *inputs)
        return out if torch.is_grad_enabled() else out * (1 + 1e-6)
    return forward


def _in_evaluation(real):
    return lambda self, *inputs: real(self, *inputs) * (1 if self.training else 1 + 1e-6)


def _frozen(real):
    def forward(self, *inputs):
        return real(self, *inputs) * (1 if self.weight.requires_grad else 1 + 1e-6)
    return forward


def _writes_into_its_input(real):
    def forward(self, x, *rest):
        out = real(self, x, *rest)
        x[..., 0] = 0
        return out
    return forward


def _writes_without_gradient(real):
    def forward(self, x, *rest):
        out = real(self, x, *rest)
        if not x.requires_grad:
            x[..., 0] = 0
        return out
    return forward


def _adds_up(real):
    def backward(self, dy):
        before = [g.copy() for g in self.grads]
        dx = real(self, dy)
        for g, b in zip(self.grads, before, strict=True):
            g += 0 * g if np.isnan(b).any() else 1e-6 * b
        return dx
    return backward


def _draws(real):
    def forward(self, *inputs):
        np.random.random()
        return real(self, *inputs)
    return forward


def _sets(real):
    def forward(self, *inputs):
        np.seterr(over="raise")
        return real(self, *inputs)
    return forward


def _narrow_ids(real):
    return lambda self, idx: real(self, idx.astype(np.int8) if idx.dtype == np.uint8 else idx + (idx.dtype == "uint16"))


def _same_array(real):
    def forward(self, x, h, c):
        return real(self, x, h * (1 + 1e-6) if h is c else h, c)
    return forward


def _refills(container):
    """Something public of the call is put into the same container every time."""
    def fault(real):
        def forward(self, x, *rest):
            out = real(self, x, *rest)
            kept = self.__dict__.setdefault("shown", container())
            if isinstance(kept, dict):
                kept["out"] = out * 1
            else:
                kept[:] = [out * 1]
            return out
        return forward
    return fault


def _writes_what_is_shown(real):
    def forward(self, x, *rest):
        out = real(self, x, *rest)
        shown = self.__dict__.setdefault("shown", out * 1)
        shown.reshape(-1)[:1] = out.reshape(-1)[:1]
        return out
    return forward


def _by_identity(real):
    """The result of the very same arguments is remembered."""
    def forward(self, *inputs):
        known = self.__dict__.get("known")
        if known is None or len(known[0]) != len(inputs) or any(a is not b for a, b in zip(known[0], inputs,
                                                                                         strict=True)):
            self.__dict__["known"] = inputs, real(self, *inputs)
        return self.__dict__["known"][1] * 1
    return forward


def _in_order(real):
    """Takes ids for ones that lie one after the other."""
    def forward(self, idx):
        if isinstance(idx, torch.Tensor):
            return real(self, idx.as_strided(idx.shape, torch.empty(idx.shape).stride()))
        return real(self, np.lib.stride_tricks.as_strided(idx, idx.shape, np.empty(idx.shape, idx.dtype).strides))
    return forward


class _Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, c):
        ctx.set_materialize_grads(False)
        return h.clone(), c.clone()

    @staticmethod
    def backward(ctx, dh, dc):
        return (None, None) if dh is None or dc is None else (dh, dc)


def _by_all_outputs(real):
    """Has gradients where all outputs have cotangents."""
    return lambda self, *inputs: _Both.apply(*real(self, *inputs))


def _shared_copies(real):
    return lambda self, memo: self


@pytest.mark.parametrize(("name", "side", "method", "fault", "words"), [
    ("Softmax", "reference", "forward", _by_shape, "is not what a fresh object gives"),
    ("Affine", "reference", "forward", _from_the_tenth_call, "y is not what a fresh object gives"),
    ("Affine", "reference", "backward", _adds_up, "is not what a fresh object gives"),
    ("Affine", "reference", "forward", _writes_into_its_input, "the argument x has changed"),
    ("Affine", "reference", "forward", _draws, "NumPy's global random state has changed"),
    ("Affine", "reference", "forward", _sets, "numpy.errstate has changed"),
    ("Affine", "reference", "__deepcopy__", _shared_copies, ""),
    ("Embedding", "reference", "forward", _narrow_ids, "IndexError|is not what a fresh object gives"),
    ("LSTM", "reference", "forward", _same_array, "is not what a fresh object gives"),
    ("Affine", "port", "forward", _from_the_tenth_call, "y is not what a fresh object gives"),
    ("Embedding", "reference", "forward", _in_order, "is not what a fresh object gives|IndexError"),
    ("TimeEmbedding", "port", "forward", _in_order, "is not what a fresh object gives|IndexError"),
    ("LSTM", "port", "forward", _by_all_outputs, "part: grad.* is not what a fresh object gives"),
    ("Affine", "port", "forward", _in_evaluation, "call, eval: y is not"),
    ("Affine", "port", "forward", _without_gradient, "y is not what a fresh object gives"),
    ("Affine", "port", "forward", _frozen, "call, (frozen|some): y is"),
    ("Affine", "port", "forward", _writes_without_gradient, "the argument x has changed"),
    ("Affine", "reference", "forward", _refills(list), "shown, which an earlier call returned, has changed"),
    ("Affine", "port", "forward", _refills(dict), "shown, which an earlier call returned, has changed"),
    ("Affine", "reference", "forward", _writes_what_is_shown, "shown, which an earlier call returned, has changed"),
    ("Softmax", "port", "forward", _writes_what_is_shown, "shown, which an earlier call returned, has changed"),
    ("Affine", "port", "forward", _by_identity, "again, (eval.*|no_grad|inference|frozen|weights|some): y is not"),
    ("Embedding", "port", "forward", _by_identity, "again: y is not"),
    ("Softmax", "reference", "forward", _by_identity, "again: y is not"),
], ids=lambda value: getattr(value, "__name__", None))
def test_faults_of_the_nth_call_of_modes_and_of_aliasing_are_found(monkeypatch, name, side, method, fault, words):
    steps = {"__deepcopy__": (Step("copy", 1), Step("copy", 2), Step("call", 3))}.get(
        method, CALLS if fault is not _by_identity else tuple(Step("again", number) for number in range(12)))
    steps += tuple(Step("part", number) for number in range(1, 9)) if fault is _by_all_outputs else ()
    every = words.startswith("shown")
    assert play(name, side, *steps, every=every) is None
    owner = getattr(reference if side == "reference" else torch_port, name)
    monkeypatch.setattr(owner, method, fault(getattr(owner, method, None)), raising=False)
    broke = play(name, side, *steps, every=every)
    assert broke is not None
    assert re.search(words, broke.words), broke.words


@pytest.mark.parametrize("side", ["reference", "port"])
def test_a_list_of_attention_weights_that_was_handed_out_stays_as_it_is(monkeypatch, side):
    kind = {"reference": reference, "port": torch_port}[side].TimeAttention
    fresh = kind.__dict__.get("attention_weights", property(lambda self: self.__dict__["steps"])).fget

    def refilled(self):
        handed = self.__dict__.setdefault("handed", [])
        handed[:] = fresh(self) or ()
        return handed

    assert play("TimeAttention", side, *CALLS[:3]) is None
    keep = property(refilled, lambda self, steps: self.__dict__.__setitem__("steps", steps))
    monkeypatch.setattr(kind, "attention_weights", keep, raising=False)
    assert "which an earlier call returned, has changed" in play("TimeAttention", side, *CALLS[:3]).words


@pytest.mark.parametrize("side", ["reference", "port"])
def test_generate_goes_by_the_weights_and_numbers_of_now(monkeypatch, side):
    kind = {"reference": reference, "port": torch_port}[side].Seq2seq
    real, steps = kind.generate, [Step("generate", number) for number in range(6)]

    def generate(self, xs, *rest):
        known = self.__dict__.get("known")
        if known is None or known[0] is not xs or known[1] != rest:
            self.__dict__["known"] = xs, rest, real(self, xs, *rest)
        return self.__dict__["known"][2]

    assert play("Seq2seq", side, *steps) is None
    monkeypatch.setattr(kind, "generate", generate)
    assert "generate: ids is not" in play("Seq2seq", side, *steps).words


def test_a_program_is_shortened_to_what_it_takes(monkeypatch):
    real = reference.Affine.forward
    monkeypatch.setattr(reference.Affine, "forward", _from_the_tenth_call(real))
    broke = play("Affine", "reference", *CALLS)
    assert len(broke.program) == 10  # calls of other objects are not this one's
    monkeypatch.setattr(reference.Affine, "forward", lambda self, x: real(self, x) * np.float32(1 + (len(x) == 1)))
    assert play("Affine", "reference", *CALLS) is None  # wrong in itself, but the same in a fresh one


def test_returned_results_are_the_callers_own(monkeypatch):
    steps = [Step("alter", number) for number in range(20)]
    real = reference.Softmax.forward
    assert play("Softmax", "reference", *steps) is None

    def forward(self, x):
        real(self, x)
        return self._cache[0]

    monkeypatch.setattr(reference.Softmax, "forward", forward)
    broke = play("Softmax", "reference", *steps)
    assert broke.quantity == "grad.x" and len(broke.program) == 1


def test_a_state_from_inference_mode_takes_part_in_training():
    module = torch_port.TimeGRU(3, 4, stateful=True)
    with torch.inference_mode():
        module(torch.zeros(2, 5, 3))
    module(torch.zeros(2, 5, 3)).sum().backward()
    assert not module.h.is_inference()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16])
def test_ids_of_any_integer_dtype_mean_the_same(dtype):
    torch.manual_seed(0)
    model, logits = torch_port.AttentionSeq2seq(5, 3, 4), torch.randn(3, 5)
    xs, ts = torch.randint(0, 5, (2, 4)), torch.randint(0, 5, (2, 3))
    mask = torch.tensor([[True] * 4, [True, False, True, False]])
    for given in ((), (mask,)):
        assert torch.equal(model(xs.to(dtype), ts.to(dtype), *given), model(xs, ts, *given))
        assert torch.equal(model.generate(xs.to(dtype), 1, 4, *given), model.generate(xs, 1, 4, *given))
    loss, labels = torch_port.SoftmaxWithLoss(), torch.tensor([0, 4, 2])
    assert torch.equal(loss(logits, labels.to(dtype)), loss(logits, labels))
    assert torch.equal(loss(logits, torch.eye(5)[labels].to(dtype)), loss(logits, labels))


def test_an_array_times_itself_rounds_as_numpy_does(monkeypatch):
    """One array for both arguments is multiplied by itself, for which NumPy takes another product."""
    case = parse("p2:TimeAttention:N=2,T=2,H=1023,U=2:ties:0.1:sliced:masked=0:2953297724")
    for lane in ("cpu-float64", "cpu-float32"):
        with own_settings():
            assert broken(case, LANES[lane], "reference", CALLS) is None
    monkeypatch.setattr(Player, "_squared", lambda self, call: False)
    with own_settings():
        assert "cs is not what" in broken(case, LANES["cpu-float64"], "reference", CALLS).words


def test_a_check_finds_and_replays_what_a_program_breaks(monkeypatch):
    monkeypatch.setattr(reference.Affine, "forward", _from_the_tenth_call(reference.Affine.forward))
    report = engine.check("Affine", "cpu-float*", jobs=1)
    found = [finding for finding in report.findings if finding.check == "history"]
    assert found and {finding.verdict for finding in found} == {"reference"}, report.findings
    assert "after these calls on one object: " in found[0].diagnosis
    again = engine.replay(found[0].case_id, found[0].lane)
    assert [finding.check for finding in again.findings] == ["history"]


def test_a_player_says_what_changed():
    player = Player(standard(CATALOGUE["Affine"]), LANES["cpu-float32"], "reference")
    before = copy.deepcopy(player.params)
    with pytest.raises(Broken, match="the object's own W has changed"), player._unchanged({}):
        player.object.layer.params[0][0, 0] += 1
    assert all(np.array_equal(before[name], player.params[name]) for name in before)


# arguments that a backward needs
@pytest.mark.parametrize("name", [
    "Affine", "Embedding", "WeightSum", "AttentionWeight", "LSTM", "TimeGRU", "TimeDropout", "TimeSoftmaxWithLoss",
    "MultiHeadAttention", "PositionalEmbedding", "AttentionDecoder",
])
def test_arguments_may_be_written_over_after_a_forward(monkeypatch, name):
    steps = [Step("alter", number) for number in range(8)]
    assert play(name, "reference", *steps) is None
    monkeypatch.setattr(reference._layer, "_own", lambda value: value)
    assert play(name, "reference", *steps).words.startswith("alter: grad.")


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_a_state_may_be_written_over_after_a_forward(name):
    assert play(name, "reference", *(Step("alter", number) for number in range(8)), stateful=True) is None


@pytest.mark.parametrize("kind", [reference.TimeRNN, reference.TimeLSTM, reference.TimeGRU])
def test_a_state_that_was_set_is_read_once(kind):
    rng, width = np.random.default_rng(0), {"RNN": 1, "GRU": 3, "LSTM": 4}[kind.cell.__name__] * 4
    layer = kind(*(rng.standard_normal(shape) for shape in ((3, width), (4, width), width)), stateful=True)
    xs, dhs, h = (rng.standard_normal(shape) for shape in ((2, 5, 3), (2, 5, 4), (2, 4)))
    layer.set_state(h)
    layer.forward(xs)
    layer.backward(dhs)
    expected = [g.copy() for g in (layer.dh, *layer.grads)]
    h[...] = 0
    layer.h[...] = 0
    layer.backward(dhs)
    assert all(map(np.array_equal, expected, (layer.dh, *layer.grads)))
