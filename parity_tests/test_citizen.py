"""The port among PyTorch's own tools: what they do to a module it survives, or refuses by name.

Copies, hooks, autocast, optimizers and second derivatives stand in ``test_port``.
"""

import copy
import io
import json
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

import torch_port
from parity.catalogue import CATALOGUE
from parity.promises import SIZES, standard
from parity.sides.textbook import build
from parity_tests.test_port import floating, ids, name_of, outputs_of, same, seq2seq, twin

N, T, U, V, D, H = (SIZES[letter] for letter in "NTUVDH")
LAYERS = [spec for spec in CATALOGUE.values() if spec.side == "textbook"]
MODELS = [spec for spec in LAYERS if spec.greedy]
WITH_PARAMETERS = [spec for spec in LAYERS if spec.params or spec.size_arguments]
STATEFUL = ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"]
U64 = 2.0**-53


def close(first, second, terms):
    """Two lists of float64 tensors: sums of so many terms in another order."""
    return all((a - b).abs().max() <= terms * U64 * max(1.0, float(b.detach().abs().max()))
               for a, b in zip(first, second, strict=True) if a.numel())


# --- weights that are not plain parameters ------------------------------------------------------------------


def weight_norm(module, name):
    parametrizations.weight_norm(module, name)


def pruned(module, name):
    prune.l1_unstructured(module, name, amount=0.5)


def hooked_weight_norm(module, name):
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(module, name)


@pytest.mark.parametrize("through", [weight_norm, pruned, hooked_weight_norm], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("name", "owner", "weight"), [
    ("Affine", "", "weight"), ("TimeEmbedding", "", "weight"), ("TimeGRU", "cell", "weight_hh"),
    ("AttentionSeq2seq", "decoder.affine", "weight"),
])
def test_weights_that_are_computed_are_not_loaded_silently(name, owner, weight, through):
    module, *_ = twin(CATALOGUE[name])
    params = [p + 1 for p in module.reference_params()]
    through(module.get_submodule(owner), weight)
    before = copy.deepcopy(module.state_dict())
    path = f"{owner}.{weight}".lstrip(".")
    for call in (lambda: module.load_reference_params(params), module.reference_grads):
        with pytest.raises(RuntimeError, match=rf"{name}\.\w+: {path} is computed from other parameters"):
            call()
    assert same(module.state_dict().values(), before.values())


def test_a_parametrized_module_trains_and_is_plain_again_afterwards():
    module, inputs, cotangents = twin(CATALOGUE["TimeGRU"])
    expected = outputs_of(module, inputs)
    parametrizations.weight_norm(module.cell, "weight_hh")
    assert close(outputs_of(module, inputs), expected, 64 * T * (D + H))
    torch.autograd.backward(outputs_of(module, inputs), cotangents)
    assert all(p.grad.any() for p in module.parameters())
    parametrize.remove_parametrizations(module.cell, "weight_hh")
    module.load_reference_params([p + 1 for p in module.reference_params()])


# --- activation checkpointing -------------------------------------------------------------------------------


def leaves_of(module, inputs):
    return [*(i for i in inputs if i.requires_grad), *module.parameters()]


@pytest.mark.parametrize("reentrant", [False, True], ids=["hooks", "reentrant"])
@pytest.mark.parametrize("spec", LAYERS, ids=name_of)
def test_gradients_under_checkpointing_are_those_without(spec, reentrant):
    module, inputs, cotangents = twin(spec)
    inputs = [i.requires_grad_(i.is_floating_point()) for i in inputs]
    leaves = leaves_of(module, inputs)
    if not leaves or (reentrant and not any(i.requires_grad for i in inputs)):
        return  # nothing to differentiate, or, by torch's own documentation, no gradient of reentrant checkpoints
    torch.autograd.backward(floating(module(*inputs)), cotangents)
    expected = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    outputs = checkpoint(module, *inputs, use_reentrant=reentrant)
    torch.autograd.backward(floating(outputs), cotangents)
    assert same([leaf.grad for leaf in leaves], expected)


@pytest.mark.parametrize("reentrant", [False, True], ids=["hooks", "reentrant"])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_layer_refuses_to_be_recomputed(name, reentrant):
    module, (xs,), _ = twin(CATALOGUE[name], stateful=True)
    xs.requires_grad_()
    out = checkpoint(module, xs, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match=rf"{name}.forward: runs within a backward"):
        out.sum().backward()
    state = tuple(torch.ones(N, H, dtype=torch.float64) for _ in module.states)
    checkpoint(lambda x: module(x, state=state)[0], xs, use_reentrant=reentrant).sum().backward()
    found, xs.grad = xs.grad, None
    module(xs, state=state)[0].sum().backward()
    assert torch.equal(xs.grad, found)


# --- indices without values, and how often a device is waited for -------------------------------------------


INDEXED = [spec for spec in LAYERS if spec.bounds]


@pytest.mark.parametrize("spec", INDEXED, ids=name_of)
def test_index_checks_are_no_obstacle_to_tracing(spec):
    from torch._subclasses import FakeTensorMode

    module, inputs, _ = twin(spec)
    expected = outputs_of(module, inputs)
    traced = make_fx(lambda *given: outputs_of(module, given))(*inputs)
    assert same(traced(*inputs), expected)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(i) for i in inputs]
        assert [o.shape for o in outputs_of(module, fake)] == [o.shape for o in expected]


@pytest.mark.parametrize("spec", INDEXED, ids=name_of)
def test_indices_are_checked_under_vmap(spec):
    module, inputs, _ = twin(spec)
    indices = [i for i, name in enumerate(spec.inputs) if name in spec.bounds]
    batched = [torch.stack([i, i]) for i in inputs]
    found = vmap(lambda *given: outputs_of(module, given))(*batched)
    for o, expected in zip(found, outputs_of(module, inputs), strict=True):
        assert close([o[0], o[1]], [expected.detach()] * 2, 64 * (T + U) * (D + H))
    for i in indices:
        wrong = list(batched)
        wrong[i] = wrong[i].clone()
        wrong[i].flatten()[0] = wrong[i].view(-1)[0] = V + 2
        with pytest.raises(IndexError, match=f"contains index {V + 2}"):
            vmap(lambda *given: outputs_of(module, given))(*wrong)


class Waits(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the times that the host would wait for a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default,
                               torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("spec", LAYERS, ids=name_of)
def test_a_forward_waits_for_the_device_once_at_most(spec, checked):
    module, inputs, _ = twin(spec)
    with torch_port.index_checks(checked), Waits() as waits:
        outputs_of(module, inputs)
    assert waits.count == (checked and bool(spec.bounds))


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_waits_once_at_most(spec):
    with Waits() as waits:
        seq2seq(spec.name).generate(ids(N, T), 1, 6)
    assert waits.count == 1


# --- optimizers ---------------------------------------------------------------------------------------------

OPTIMIZERS = [torch_port.SGD, torch_port.Adam]


@pytest.mark.parametrize("name", ["weight_decay", "momentum", "maximize", "nesterov", "amsgrad", "betas", "eps",
                                  "fused"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_an_optimizer_does_not_take_is_refused_by_name(kind, name):
    p = torch.zeros(2, requires_grad=True)
    for call in (lambda: kind([p], **{name: 0.5}), lambda: kind([{"params": [p], name: 0.5}])):
        with pytest.raises(TypeError, match=rf"^{kind.__name__}: takes no {name}, because .* torch.optim"):
            call()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_values_of_a_group_are_checked_too(kind):
    p = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="lr is -1"):
        kind([{"params": [p], "lr": -1}])
    if kind is torch_port.Adam:
        with pytest.raises(ValueError, match="beta2 is 1, expected 0 <= beta2 < 1"):
            kind([{"params": [p], "beta2": 1}])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_goes_on_from_its_saved_state_bit_for_bit(kind):
    """Model, optimizer and schedule, through a file that is read without trust."""

    def parts(seed):
        model = seq2seq(seed=seed, dtype=torch.float32)
        optimizer = kind(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8, cycle_momentum=False)
        return model, optimizer, schedule

    def steps(model, optimizer, schedule, which):
        for k in which:
            optimizer.zero_grad()
            model(ids(N, T, seed=k), ids(N, U, seed=k + 50)).backward()
            torch_port.clip_grads(model.parameters(), 0.5)
            optimizer.step()
            schedule.step()

    whole, cut, resumed = parts(0), parts(0), parts(1)
    steps(*whole, range(6))
    steps(*cut, range(3))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in cut], file)
    file.seek(0)
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    steps(*resumed, range(3, 6))
    assert same(resumed[0].state_dict().values(), whole[0].state_dict().values())


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"weight_decay": 0.1, "amsgrad": True}],
                         ids=str)
def test_optimizers_of_torch_train_a_model(options):
    model, start = seq2seq(dtype=torch.float32), seq2seq(dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, **options)
    losses = []
    for _ in range(8):
        optimizer.zero_grad(set_to_none=True)
        losses.append(model(ids(N, T), ids(N, U, seed=1)))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))


def test_a_scaled_loss_gives_the_same_step_and_skips_one_that_overflows():
    model, other = seq2seq(dtype=torch.float32), seq2seq(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    for each, scaled in ((model, True), (other, False)):
        optimizer, loss = torch_port.SGD(each.parameters(), lr=0.5), each(ids(N, T), ids(N, U, seed=1))
        if scaled:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
    assert same(model.state_dict().values(), other.state_dict().values())  # a power of two scales exactly
    optimizer = torch_port.SGD(model.parameters(), lr=0.5)
    scaler.scale(model(ids(N, T), ids(N, U)) * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    assert same(model.state_dict().values(), other.state_dict().values())
    assert scaler.get_scale() == 2.0**9


# --- torch.func, higher derivatives, sharing ----------------------------------------------------------------


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_gradients_of_each_sample_add_up_to_the_batch(spec):
    model, xs, ts = seq2seq(spec.name), ids(N, T), ids(N, U, seed=1)
    params = dict(model.named_parameters())

    def loss(params, x, t):
        return functional_call(model, params, (x[None], t[None]))

    each = vmap(grad(loss), in_dims=(None, 0, 0))(params, xs, ts)
    model(xs, ts).backward()
    assert close([each[name].mean(0) for name in params], [p.grad for p in params.values()],
                 64 * N * (T + U) * (D + H))


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_a_tied_weight_has_the_sum_of_both_gradients(spec):
    model, xs, ts = seq2seq(spec.name), ids(N, T), ids(N, U, seed=1)
    with torch.no_grad():
        model.decoder.embed.weight.copy_(model.encoder.embed.weight)
    model(xs, ts).backward()
    expected = model.encoder.embed.weight.grad + model.decoder.embed.weight.grad
    model.zero_grad()
    model.decoder.embed.weight = model.encoder.embed.weight
    model(xs, ts).backward()
    assert close([model.encoder.embed.weight.grad], [expected], 4 * N * (T + U))
    assert len(list(model.parameters())) == 9
    made = copy.deepcopy(model)
    assert made.decoder.embed.weight is made.encoder.embed.weight is not model.encoder.embed.weight
    params = [p + 1 for p in model.reference_params()]
    model.load_reference_params(params)
    assert torch.equal(model.encoder.embed.weight, torch.from_numpy(params[0]))


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_a_penalty_on_gradients_has_a_gradient(spec):
    """Double backward through a whole model, against differences along one direction."""
    model, xs, ts = seq2seq(spec.name), ids(N, T), ids(N, U, seed=1)
    params = list(model.parameters())

    def penalty():
        return sum((g * g).sum() for g in torch.autograd.grad(model(xs, ts), params, create_graph=True))

    gradient = torch.autograd.grad(penalty(), params)
    direction = [torch.randn_like(p) for p in params]
    step, values = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p.add_(sign * step * d)
        values.append(penalty().item())
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p.sub_(sign * step * d)
    expected = (values[0] - values[1]) / (2 * step)
    found = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)).item()
    # the difference's own errors: rounding over the step, and the third derivative times its square
    assert abs(found - expected) <= 1e-5 * max(abs(found), abs(values[0]))


# --- an accelerator without one -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerator():
    """What ``parity_tests.accelerator`` finds, in a process of its own."""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-m", "parity_tests.accelerator"], capture_output=True,
                         timeout=120, check=True)
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", torch_port.__all__)
def test_nothing_leaves_the_device_or_waits_for_it(accelerator, name):
    assert not accelerator["found"][name]
    assert "item" in accelerator["planted"][name] or "DataDependent" in accelerator["planted"][name]


def test_what_would_leave_the_device_or_wait_for_it_is_found(accelerator):
    assert len(accelerator["faults"]) == 6
    assert all(accelerator["faults"].values())


# --- generation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"end_id": 2}, {"beam_width": 3}, {"beam_width": 4, "end_id": 0},
                                 {"beam_width": 2, "end_id": 1, "length_penalty": 0.0}], ids=str)
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_answers_and_scores_are_those_of_the_reference(spec, how):
    for seed in range(6):
        case = standard(spec, seed, masked=bool(seed % 2))
        data = case.data(lambda a: a)
        layer = build(spec, case.options, data)
        xs, _, *mask = data.inputs.values()
        found, scores = spec.port_class.from_reference(layer).generate(
            *map(torch.from_numpy, [xs]), 1, 8, *map(torch.from_numpy, mask), scores=True, **how)
        expected, wanted = layer.generate(xs, 1, 8, *mask, scores=True, **how)
        assert found.tolist() == expected.tolist()
        assert close([scores], [torch.from_numpy(wanted)], 64 * 8 * (D + H))


def frequencies(drawn):
    return torch.bincount(drawn.flatten(), minlength=V) / drawn.numel()


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 3), (1.0, 1), (1e-3, None)])
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_samples_follow_the_softmax(spec, temperature, top_k):
    model, rows = seq2seq(spec.name), 5_000
    xs, start = ids(1, T).expand(rows, T), torch.ones(1, 1, dtype=torch.int64)
    logits = model.score(xs[:1], start)[0, 0].detach()
    if top_k:
        logits = logits.masked_fill(logits < logits.sort().values[-top_k], -torch.inf)
    expected = torch.softmax(logits / temperature, 0)
    found = frequencies(model.sample(xs, 1, 1, temperature=temperature, top_k=top_k,
                                     generator=torch.Generator().manual_seed(0)))
    # 5 standard deviations of a binomial share
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / rows).sqrt() + 1e-12).all()


def test_samples_follow_their_generator_and_end():
    model, xs = seq2seq(), ids(50, T)
    before = torch.get_rng_state()
    first, same_, other = (model.sample(xs, 1, 9, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, same_)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    drawn, scores = model.sample(xs, 1, 9, end_id=2, generator=torch.Generator().manual_seed(0), scores=True)
    over = (drawn == 2).cumsum(1) > 0
    assert (drawn[over] == 2).all()
    fed = torch.cat((torch.ones(50, 1, dtype=torch.int64), drawn[:, :-1]), 1)
    logp = model.score(xs, fed).log_softmax(2).gather(2, drawn[:, :, None])[:, :, 0]
    counted = (over.cumsum(1) <= 1)
    assert close([scores], [(logp * counted).sum(1) / counted.sum(1)], 64 * 9 * (D + H))
    assert model.sample(xs[:0], 1, 3).shape == (0, 3)


@pytest.mark.parametrize(("how", "words"), [
    ({"temperature": 0.0}, "temperature is 0.0, expected > 0"), ({"temperature": -1.0}, "temperature is -1.0"),
    ({"temperature": float("nan")}, "temperature is nan"), ({"temperature": float("inf")}, "temperature is inf"),
    ({"top_k": 0}, "top_k is 0, expected >= 1"),
], ids=str)
def test_sampling_refuses(how, words):
    with pytest.raises(ValueError, match=rf"AttentionSeq2seq.sample: {words}"):
        seq2seq().sample(ids(N, T), 0, 2, **how)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_decoding_stops_when_all_answers_have_ended(beam_width):
    model, steps = seq2seq(), []
    with torch.no_grad():
        model.decoder.affine.bias[2] = 1e6
    model.decoder.lstm.register_forward_hook(lambda *_: steps.append(1))
    found = model.generate(ids(N, T), 0, 50, end_id=2, beam_width=beam_width)
    assert len(steps) < 5
    assert (found == 2).all()
    assert found.shape == (N, 50)


# --- torch.compile --------------------------------------------------------------------------------------------

PARTS_OF_MODELS = {"Encoder", "Decoder", "PeekyDecoder", "AttentionEncoder", "AttentionDecoder", "Seq2seq",
                   "PeekySeq2seq"}
WHOLE = [spec for spec in LAYERS if spec.name not in PARTS_OF_MODELS]  # the model with attention has them all


def rows(inputs, spec, number):
    """The inputs with so many samples; leading axes of any number stay."""
    return [i.repeat_interleave(number, 0).clone() for i in inputs]


def outputs_and_gradients(module, given):
    """For a random cotangent that is the same each time."""
    given = [i.detach().requires_grad_(i.is_floating_point()) for i in given]
    outputs, generator = floating(module(*given)), torch.Generator().manual_seed(0)
    leaves = leaves_of(module, given)
    if not leaves:
        return list(outputs)
    cotangents = [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs]
    return [*outputs, *torch.autograd.grad(outputs, leaves, cotangents)]


def held_when_compiled(spec, backend):
    module, inputs, _ = twin(spec, **({"masked": True} if spec.optional else {}))
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True, error_on_recompile=True):
        compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
        for number in (4, 5, 1):  # batches of other sizes than every other axis, which would count as the same
            given = rows(inputs, spec, number)
            assert close(outputs_and_gradients(compiled, given), outputs_and_gradients(module, given),
                         64 * number * (T + U) * (D + H))


@pytest.mark.parametrize("spec", WHOLE, ids=name_of)
def test_a_whole_graph_and_its_gradients_are_compiled_once_for_all_batch_sizes(spec):
    """Dynamo has to be allowed torch's recurrent modules: without ``allow_rnn`` it refuses them by name."""
    held_when_compiled(spec, "aot_eager")


def test_a_compiled_lstm_trains_on_data_in_float32():
    """Where torch would take another kernel, whose weights no compiler but ``eager`` can differentiate."""
    module, xs = torch_port.TimeLSTM(D, H), torch.ones(N, T, D)
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        torch.compile(module, fullgraph=True, backend="aot_eager")(xs).sum().backward()
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    module(xs).sum().backward()
    for p, gradient in zip(module.parameters(), found, strict=True):
        # sums of fewer than 64 T (D + H) terms in another order
        assert (p.grad - gradient).abs().max() <= 64 * T * (D + H) * 2.0**-24 * p.grad.abs().max()


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # within torch
@pytest.mark.parametrize("name", ["WeightSum"])
def test_inductor_compiles_them_too(name):
    """The others: ``python -m parity_tests.compiled``."""
    held_when_compiled(CATALOGUE[name], "inductor")


def test_recurrent_modules_are_refused_by_dynamo_unless_allowed():
    """A torch that does not refuse them makes this fail: then the sentence above goes."""
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="does not support RNN, GRU, or LSTM"):
        torch.compile(torch_port.TimeLSTM(D, H), fullgraph=True, backend="eager")(torch.ones(N, T, D))
