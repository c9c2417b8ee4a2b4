"""The port as an ordinary PyTorch package: copies, dtypes, devices, hooks, optimizers, second derivatives.

That its numbers are the reference's is the matrix's business; here a module is held against itself,
against stock torch and against closed forms, most of it exactly.
"""

import copy
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import reference
import torch_port
from parity.cases.case import choices
from parity.catalogue import CATALOGUE
from parity.promises import SIZES, standard
from parity.sides.textbook import build
from torch_port._checks import check_index

N, T, U, V, D, H = (SIZES[letter] for letter in "NTUVDH")
LAYERS = [spec for spec in CATALOGUE.values() if spec.side == "textbook"]
WITH_PARAMETERS = [spec for spec in LAYERS if spec.params or spec.size_arguments]
MODELS = [spec for spec in LAYERS if spec.greedy]
ONE_BIAS = ["RNN", "LSTM", "TimeRNN", "TimeLSTM", "TimeBiLSTM"]


@pytest.fixture(autouse=True)
def same_draws():
    """Dropout, initial weights and masks are the same in every run and order of the tests."""
    torch.manual_seed(0)


def name_of(spec):
    return spec.name


def everything_on(spec):
    """The last choice of every option: stateful, masked, one-hot."""
    return {name: values[-1] for name, values in choices(spec).items() if values}


def twin(spec, dtype=torch.float64, seed=0, **options):
    """A module from the reference, its inputs as tensors, and a cotangent of each output."""
    case = standard(spec, seed=seed, **options)
    data = case.data(lambda a: a)
    module = spec.port_class.from_reference(build(spec, case.options, data), dtype=dtype)
    if data.states:
        module.set_state(*(torch.from_numpy(a).to(dtype) for a in data.states.values()))

    def tensor(a):
        t = torch.from_numpy(a)
        return t.to(dtype) if t.is_floating_point() else t

    return module, *([tensor(a) for a in group.values()] for group in (data.inputs, data.cotangents))


def outputs_of(module, inputs):
    outputs = module(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def floating(outputs):
    """Those outputs that have a cotangent, as a tuple: integers have none."""
    return tuple(o for o in (outputs if isinstance(outputs, tuple) else (outputs,)) if o.is_floating_point())


def gradients_of(module, inputs, cotangents):
    """Of the floating inputs and of the parameters, in their order."""
    inputs = [i.detach().requires_grad_(i.is_floating_point()) for i in inputs]
    leaves = [*(i for i in inputs if i.requires_grad), *module.parameters()]
    return torch.autograd.grad(floating(module(*inputs)), leaves, cotangents)


def same(first, second):
    """Two lists of tensors, equal bit for bit, in dtype and in shape."""
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True))


def seq2seq(name="AttentionSeq2seq", dtype=torch.float64, seed=0):
    """A model whose parameters are all of size 1, so that it has something to say."""
    module = getattr(torch_port, name)(V, D, H, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(generator=generator)
    return module


def ids(*shape, seed=0):
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


# --- copies -------------------------------------------------------------------------------------------------


def through_pickle(module):
    return pickle.loads(pickle.dumps(module))


def through_torch_save(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def emptied(module):
    """The same kind of module without its numbers: on the meta device, then empty storage."""
    return copy.deepcopy(module).to("meta").to_empty(device="cpu")


def through_state_dict(module):
    made = emptied(module)
    for p in (*made.parameters(), *made.buffers()):
        nn.init.constant_(p, torch.nan)
    made.load_state_dict(module.state_dict(), strict=True)
    return made


def through_wider_dtype(module):
    return copy.deepcopy(module).to(torch.float64).to(torch.float32)


COPIES = [copy.deepcopy, through_pickle, through_torch_save, through_state_dict, through_wider_dtype]


@pytest.mark.parametrize("through", COPIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("spec", LAYERS, ids=name_of)
def test_a_copy_says_the_same_and_shares_nothing(spec, through):
    module, inputs, cotangents = twin(spec, torch.float32)
    made = through(module)
    assert type(made) is type(module)
    assert same(outputs_of(made, inputs), expected := outputs_of(module, inputs))
    assert same(gradients_of(made, inputs, cotangents), gradients_of(module, inputs, cotangents))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(1)
    assert same(outputs_of(module, inputs), expected)
    if spec in WITH_PARAMETERS:  # and the fused kernels read the copy's weights, not those it came from
        assert not same(outputs_of(made, inputs), expected)


@pytest.mark.parametrize("through", [copy.deepcopy, through_pickle, through_wider_dtype], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_a_copy_takes_the_state_along(name, through):
    module, (xs,), _ = twin(CATALOGUE[name], torch.float32, stateful=True)
    module(xs)
    made = through(module)
    # strides of the state may change, and with them the order of its sums of D + H products
    assert (made(xs) - module(xs)).abs().max() <= T * (D + H) * 2.0**-24


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_a_module_with_a_state_that_requires_grad_is_copied_without_its_history(name):
    module, (xs,), _ = twin(CATALOGUE[name], stateful=True)
    module.set_state(*(torch.ones(N, H, dtype=torch.float64, requires_grad=True) * 2 for _ in module.states))
    assert same([copy.deepcopy(module)(xs)], [module(xs)])


@pytest.mark.parametrize("spec", WITH_PARAMETERS, ids=name_of)
def test_functional_call_uses_the_given_parameters(spec):
    module, inputs, _ = twin(spec)
    other, *_ = twin(spec, seed=1)
    before = outputs_of(module, inputs)
    found = functional_call(module, dict(other.named_parameters()), tuple(inputs))
    assert same(found if isinstance(found, tuple) else (found,), outputs_of(other, inputs))
    assert same(outputs_of(module, inputs), before)


@pytest.mark.parametrize("spec", LAYERS, ids=name_of)
def test_meta_tensors_give_shapes_without_numbers(spec):
    module, inputs, _ = twin(spec, **everything_on(spec))
    expected = [o.shape for o in outputs_of(module, inputs)]
    found = outputs_of(module.to("meta"), [i.to("meta") for i in inputs])
    assert [o.shape for o in found] == expected
    assert {o.device.type for o in found} == {"meta"}


@pytest.mark.parametrize(("stock", "name"), [
    (nn.LSTM(D, H, batch_first=True), "TimeLSTM"),
    (nn.RNN(D, H, batch_first=True), "TimeRNN"),
    (nn.LSTM(D, H, batch_first=True, bidirectional=True), "TimeBiLSTM"),
    (nn.LSTMCell(D, H), "LSTM"),
    (nn.RNNCell(D, H), "RNN"),
], ids=["LSTM", "RNN", "LSTM-both-ways", "LSTMCell", "RNNCell"])
def test_the_state_dict_of_a_stock_module_loads(stock, name):
    """Both biases come along; towards the reference they are one."""
    module, again = (getattr(torch_port, name)(D, H) for _ in range(2))
    (inner,) = module.children()
    inner.load_state_dict(stock.state_dict(), strict=True)
    again.load_state_dict(module.state_dict())  # a second bias that the next line has to clear
    again.load_reference_params(module.reference_params())
    states = [] if name.startswith("Time") else [torch.zeros(N, H)] * (1 + (name == "LSTM"))
    inputs = [torch.ones(N, *() if states else (T,), D), *states]
    expected, (found, *_), (added, *_) = stock(inputs[0]), outputs_of(module, inputs), outputs_of(again, inputs)
    assert torch.equal(found, expected[0] if isinstance(expected, tuple) else expected)
    # one bias or two: sums of D + H + 2 products in another order, at each of T steps
    assert (added - found).abs().max() <= T * (D + H + 2) * 2.0**-24


# --- one bias -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_BIAS)
def test_two_biases_of_torch_are_one_that_is_trained(name):
    module, inputs, cotangents = twin(CATALOGUE[name])
    torch.autograd.backward(outputs_of(module, inputs), cotangents)
    before, grads = module.reference_params(), module.reference_grads()
    # the norm counts every number once: sums of as many squares, in two orders
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters()]).item()
    expected = np.sqrt(sum((g * g).sum() for g in grads))
    assert abs(norm - expected) <= sum(g.size for g in grads) * 2.0**-53 * expected
    torch.optim.SGD(module.parameters(), lr=0.5).step()
    for old, g, new in zip(before, grads, module.reference_params(), strict=True):
        assert np.array_equal(new, old - 0.5 * g)  # exact: halving rounds nothing, a difference once


@pytest.mark.parametrize("name", ONE_BIAS)
def test_reset_parameters_draws_the_textbook_weights(name):
    module = getattr(torch_port, name)(40, 50)
    module.load_state_dict({k: torch.full_like(v, 7.0) for k, v in module.state_dict().items()})
    for child in module.children():
        child.reset_parameters()
    for p in module.reference_params():
        scale = 0 if p.ndim == 1 else len(p) ** -0.5
        root_mean_square = np.sqrt((p * p).mean())
        assert abs(root_mean_square - scale) <= 5 * scale / np.sqrt(2 * p.size)  # 5 standard deviations of it


# --- to and from the reference ------------------------------------------------------------------------------


def test_options_and_state_come_along():
    params = [np.full(shape, 0.5) for shape in ((D, 4 * H), (H, 4 * H), (4 * H,))]
    layer = reference.TimeLSTM(*params, stateful=True)
    xs = np.random.default_rng(0).standard_normal((N, T, D))
    hs = layer.forward(xs)
    module = torch_port.TimeLSTM.from_reference(layer)
    assert module.stateful
    assert np.array_equal(module.h.numpy(), hs[:, -1])
    assert np.array_equal(module.c.numpy(), layer.c)
    both = reference.TimeBiLSTM(*params, *params, stateful=True)
    both.forward(xs)
    module = torch_port.TimeBiLSTM.from_reference(both)
    assert np.array_equal(module.h1.numpy(), both.forward_lstm.h)
    assert np.array_equal(module.c2.numpy(), both.backward_lstm.c)
    assert np.array_equal(module.h2.numpy(), both.backward_lstm.h)
    layer.reset_state()
    assert torch_port.TimeLSTM.from_reference(layer).h is None
    loss = reference.TimeSoftmaxWithLoss(ignore_label=3)
    assert torch_port.TimeSoftmaxWithLoss.from_reference(loss).ignore_label == 3
    model = reference.Seq2seq(V, D, H)
    model.loss.ignore_label = 2
    assert torch_port.Seq2seq.from_reference(model).loss.ignore_label == 2


@pytest.mark.parametrize("train_flg", [True, False])
def test_the_train_flag_comes_along_and_switches_dropout(train_flg):
    layer = reference.TimeDropout(0.25)
    layer.train_flg = train_flg
    module, ones = torch_port.TimeDropout.from_reference(layer), torch.ones(50, 40, 30)
    assert (module.training, module.dropout_ratio) == (train_flg, 0.25)
    assert torch.equal(module.eval()(ones), ones)
    kept = module.train()(ones)
    assert torch.equal(kept.unique(), torch.tensor([0, 4 / 3]))
    # 5 standard deviations of a binomial share
    assert abs((kept == 0).double().mean() - 0.25) <= 5 * (0.25 * 0.75 / kept.numel()) ** 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("spec", WITH_PARAMETERS, ids=name_of)
def test_from_reference_takes_a_dtype(spec, dtype):
    case = standard(spec)
    layer = build(spec, case.options, case.data(lambda a: a.astype(np.longdouble)))
    module = spec.port_class.from_reference(layer, dtype=getattr(torch, dtype))
    assert {p.dtype for p in module.parameters()} == {getattr(torch, dtype)}
    for p, back in zip(layer.params, module.reference_params(), strict=True):
        expected = p.astype("float32" if dtype == "bfloat16" else dtype)
        if dtype == "bfloat16":
            expected = torch.from_numpy(expected).bfloat16().float().numpy()
        assert back.dtype == expected.dtype
        assert np.array_equal(back, expected)
    if np.dtype(np.longdouble) != np.float64:
        with pytest.raises(TypeError, match="torch has no"):
            spec.port_class.from_reference(layer)


@pytest.mark.parametrize(("change", "error", "words"), [
    (lambda ps: ps[:-1], ValueError, "9 parameters given, expected 10: encoder.embed.W"),
    (lambda ps: [*ps, ps[-1]], ValueError, "11 parameters given, expected 10"),
    (lambda ps: [*ps[:-1], ps[-1][1:]], ValueError, rf"decoder.affine.b has shape \({V - 1},\), expected \({V},\)"),
    (lambda ps: [*ps[:-2], ps[-2].T, ps[-1]], ValueError, "decoder.affine.W has shape"),
    (lambda ps: [*ps[:-1], ps[-1].astype(int)], TypeError, "decoder.affine.b has dtype int64"),
    (lambda ps: [*ps[:-1], ps[-1].tolist()], TypeError, "decoder.affine.b is a list"),
], ids=["one-less", "one-more", "shape", "transposed", "integers", "list"])
def test_parameters_that_do_not_fit_are_refused_and_nothing_changes(change, error, words):
    module = seq2seq()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(error, match=words):
        module.load_reference_params(change([p + 1 for p in module.reference_params()]))
    assert same(module.state_dict().values(), before.values())


def test_a_layer_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="cannot read the sizes off the parameters of Softmax, of shapes none"):
        torch_port.Affine.from_reference(reference.Softmax())
    with pytest.raises(ValueError, match="2 parameters given, expected 3"):
        torch_port.RNN.from_reference(reference.Affine(np.zeros((D, H)), np.zeros((H,))[None].repeat(H, 0)[0]))


def test_options_that_a_constructor_needs_are_given_to_it():
    class Scaled(torch_port.Affine):
        options = ("scale", "shift")

        def __init__(self, in_features, out_features, scale, **factory):
            super().__init__(in_features, out_features, **factory)
            self.scale, self.drawn_for = scale, scale

    layer = reference.Affine(np.ones((D, H)), np.zeros(H))
    layer.scale, layer.shift = 3.0, None
    module = Scaled.from_reference(layer)
    assert (module.scale, module.drawn_for, module.shift) == (3.0, 3.0, None)


def test_reference_grads_are_zero_where_nothing_took_part_and_missing_before_a_backward():
    model = seq2seq(dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="before backward"):
        model.reference_grads()
    model.encoder(ids(N, T)).sum().backward()
    grads = model.reference_grads()
    assert [g.any() for g in grads] == [True] * 4 + [False] * 6
    assert {g.dtype.name for g in grads} == {"float32"}
    model.zero_grad()
    with pytest.raises(RuntimeError, match="before backward"):
        model.reference_grads()


# --- a module among modules ---------------------------------------------------------------------------------


def test_train_and_eval_reach_every_part():
    model = seq2seq()
    assert not any(m.training for m in model.eval().modules())
    assert all(m.training for m in model.train().modules())


PARTS = [(spec.name, part) for spec in MODELS for part, _ in spec.port_class(V, D, H).named_modules()]


@pytest.mark.parametrize(("name", "part"), [pytest.param(name, part, id=f"{name}.{part}") for name, part in PARTS])
def test_hooks_fire(name, part):
    model, fired = seq2seq(name), []
    # ids have no gradient to hook
    floating = part in {"encoder.lstm", "decoder.lstm", "decoder.attention", "decoder.affine", "loss"}
    model.get_submodule(part).register_forward_hook(lambda *_: fired.append("forward"))
    if floating:
        model.get_submodule(part).register_full_backward_hook(lambda *_: fired.append("backward"))
    model(ids(N, T), ids(N, U)).backward()
    assert fired == ["forward"] + ["backward"] * floating


def test_attention_weights_are_on_offer_without_their_graph():
    hs, h, model = torch.ones(N, T, H, requires_grad=True), torch.ones(N, U, H), seq2seq()
    one, all_ = torch_port.Attention(), torch_port.TimeAttention()
    assert one.attention_weight is all_.attention_weights is model.attention_weights is None
    one(hs, h[:, 0])
    all_(hs, h)
    model(ids(N, T), ids(N, U + 1))
    for weights in ([one.attention_weight] * U, all_.attention_weights, model.attention_weights):
        assert [(w.shape, w.requires_grad) for w in weights] == [((N, T), False)] * U
    assert torch.equal(one.attention_weight, all_.attention_weights[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", LAYERS, ids=name_of)
def test_autocast_takes_either_dtype_and_keeps_that_of_the_parameters_in_gradients(spec, dtype):
    module, inputs, _ = twin(spec, torch.float32, **everything_on(spec))
    inputs = [i.to(getattr(torch, dtype)) if i.is_floating_point() else i for i in inputs]
    leaves = [i.requires_grad_() for i in inputs if i.is_floating_point()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = outputs_of(module, inputs)
    torch.autograd.backward([o.float().sum() for o in floating(outputs)])
    for p in (*leaves, *module.parameters()):
        assert p.grad.dtype == p.dtype
        assert p.grad.isfinite().all()
    assert {p.dtype for p in module.parameters()} <= {torch.float32}


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_autocast_of_a_model_stays_near_float32(spec):
    module, inputs, _ = twin(spec, torch.float32)
    expected = module(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(*inputs)
        low = module.score(inputs[0], inputs[1][:, :-1])
    assert (loss.dtype, low.dtype) == (torch.float32, torch.bfloat16)
    # every state and logit is rounded to bfloat16, u = 2^-9, at T + U steps, after weights of size sqrt(H)
    assert abs(loss - expected) <= (T + U) * H**0.5 * 2.0**-9 * low.abs().max()
    assert loss != expected


def test_distributed_data_parallel_of_one_process():
    model, xs, ts = seq2seq(), ids(N, T), ids(N, U, seed=1)
    model(xs, ts).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        nn.parallel.DistributedDataParallel(model)(xs, ts).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert same([p.grad for p in model.parameters()], expected)


SECOND = ["Softmax", "RNN", "LSTM", "GRU", "TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM", "SoftmaxWithLoss",
          "TimeSoftmaxWithLoss", "AttentionWeight", "Attention", "TimeAttention", "AttentionDecoder"]


@pytest.mark.parametrize(("spec", "masked"), [
    pytest.param(CATALOGUE[name], masked, id=f"{name}{'-masked' * masked}")
    for name in SECOND for masked in (False, True) if CATALOGUE[name].optional or not masked])
def test_second_derivatives(spec, masked):
    """Against differences, with torch's own tolerances; a row with nothing valid among those masked."""
    module, inputs, _ = twin(spec, masked=masked)
    if masked:
        inputs[-1] = torch.tensor([[False] * T, [True, False, True]])
    where = [k for k, i in enumerate(inputs) if i.is_floating_point()]

    def function(*leaves):
        return module(*(leaves[where.index(k)] if k in where else i for k, i in enumerate(inputs)))

    leaves = [inputs[k].requires_grad_() for k in where]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("name", ["AttentionWeight", "Attention", "TimeAttention"])
def test_a_row_with_nothing_valid_has_no_influence_in_any_derivative(name):
    module, (hs, h, _), _ = twin(CATALOGUE[name], masked=True)
    hs.requires_grad_()
    with torch.autograd.set_detect_anomaly(True):  # no NaN on the way, either
        out = module(hs, h, torch.tensor([[False] * T, [True] * T]))
        (first,) = torch.autograd.grad(out.square().sum(), hs, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), hs)
    for tensor in (out, first, second):
        assert not tensor[0].any()
        assert tensor[1].isfinite().all()
        assert tensor[1].any()


@pytest.mark.parametrize("make", [
    lambda: (torch_port.SoftmaxWithLoss(), torch.ones(0, V), torch.ones(0, dtype=torch.int64)),
    lambda: (torch_port.TimeSoftmaxWithLoss(), torch.ones(0, T, V), torch.ones(0, T, dtype=torch.int64)),
    lambda: (torch_port.TimeSoftmaxWithLoss(), torch.full((N, T, V), torch.nan), torch.full((N, T), -1)),
], ids=["no-rows", "no-sequences", "all-ignored"])
def test_a_loss_over_nothing_is_zero(make):
    layer, logits, labels = make()
    loss = layer(logits.requires_grad_(), labels)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


# --- state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_only_a_stateful_module_keeps_its_state_detached_until_it_is_reset(name):
    module, (xs,), _ = twin(CATALOGUE[name], stateful=True)
    first, second = module(xs), module(xs)
    assert not torch.equal(first, second)
    assert not any(getattr(module, state).requires_grad for state in module.states)
    assert "h" not in "".join(key.rpartition(".")[2][:1] for key in module.state_dict())
    module.reset_state()
    assert torch.equal(module(xs), first)
    module.stateful = False
    assert same([module(xs), module(xs)], [first, first])


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_a_state_follows_the_module_and_must_fit(name):
    module, (xs,), _ = twin(CATALOGUE[name], stateful=True)
    module(xs)
    module.float()
    assert {getattr(module, state).dtype for state in module.states} == {torch.float32}
    with pytest.raises(ValueError, match=rf"has shape \({N}, {H}\), expected \(N, H\) = \(1, {H}\)"):
        module(xs[:1].float())
    with pytest.raises(TypeError, match="states given, expected at most"):
        module.set_state(*(None for _ in module.states), None)


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_gradients_flow_into_a_given_state(name):
    module, (xs,), _ = twin(CATALOGUE[name], stateful=True)
    states = [torch.zeros(N, H, dtype=torch.float64, requires_grad=True) for _ in module.states]
    module.set_state(*states)
    module(xs).sum().backward()
    assert all(state.grad.any() for state in states)


# --- indices ------------------------------------------------------------------------------------------------


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on an accelerator."""

    device = torch.device("cuda")


WRONG = torch.tensor([[0, V]])


def refused(index):
    try:
        check_index("here", {"xs": index}, V)
    except IndexError as error:
        return f"expected 0 <= index < V = {V}" in str(error)
    return False


def test_indices_are_checked_where_there_are_any():
    assert refused(WRONG)
    assert not refused(WRONG.to("meta"))
    for index in (WRONG, -1 - WRONG):
        with pytest.raises(IndexError, match=r"TimeEmbedding.forward: xs contains index"):
            torch_port.TimeEmbedding(V, D)(index)
        with torch_port.index_checks(False), pytest.raises(IndexError, match="index out of range in self"):
            torch_port.TimeEmbedding(V, D)(index)  # torch's own words, on the CPU


def test_indices_elsewhere_are_checked_while_the_switch_is_on():
    assert_switched(WRONG)
    assert_switched(WRONG.as_subclass(Elsewhere))


def assert_switched(elsewhere):
    assert refused(elsewhere)
    with torch_port.index_checks(False):
        assert not refused(elsewhere)
        with torch_port.index_checks(True):
            assert refused(elsewhere)
        assert not refused(elsewhere)
        found = []
        thread = threading.Thread(target=lambda: found.append(refused(elsewhere)))
        thread.start()
        thread.join()
        assert found == [True]  # another thread has a switch of its own
    assert refused(elsewhere)
    torch_port.index_checks(False)  # a plain call lasts
    assert not refused(elsewhere)
    torch_port.index_checks(True)
    assert refused(elsewhere)


def test_the_switch_is_restored_after_an_error():
    with pytest.raises(KeyError), torch_port.index_checks(False):
        raise KeyError
    assert refused(WRONG.as_subclass(Elsewhere))


# --- generate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_takes_the_argmax_of_the_score_at_every_step(spec):
    model, xs = seq2seq(spec.name), ids(20, T)
    mask = [torch.rand(20, T) < 0.5] if spec.optional else []
    found = model.generate(xs, 1, 20, *mask)
    fed = torch.cat((torch.ones(20, 1, dtype=torch.int64), found[:, :-1]), dim=1)
    assert torch.equal(found, model.score(xs, fed, *mask).argmax(dim=2))
    assert len(found.unique()) > 1  # or the test would be too easy


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_takes_the_first_among_equals(spec):
    model = seq2seq(spec.name)
    with torch.no_grad():
        model.decoder.affine.weight.zero_()
        model.decoder.affine.bias.copy_(torch.tensor([0.0, 1, 2, 1, 2]))
    assert (model.generate(ids(N, T), 0, 6) == 2).all()


@pytest.mark.parametrize(("rows", "size"), [(0, 4), (N, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_of_any_size(spec, rows, size):
    found = seq2seq(spec.name).generate(ids(rows, T), 0, size)
    assert (found.shape, found.dtype) == ((rows, size), torch.int64)


@pytest.mark.parametrize(("start", "size", "error", "words"), [
    (V, 3, IndexError, f"start_id contains index {V}"),
    (-1, 3, IndexError, "start_id contains index -1"),
    (0, -1, ValueError, "sample_size is -1, expected >= 0"),
])
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_refuses(spec, start, size, error, words):
    with pytest.raises(error, match=words):
        seq2seq(spec.name).generate(ids(N, T), start, size)


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_leaves_mode_gradients_and_switches_alone(spec):
    model, xs, ts = seq2seq(spec.name), ids(N, T), ids(N, U)
    model.decoder.eval()  # a mixture, to be found again
    loss = model(xs, ts)
    modes = [m.training for m in model.modules()]
    model.generate(xs, 0, 3)
    assert [m.training for m in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert refused(WRONG.as_subclass(Elsewhere))
    loss.backward()  # the graph from before is whole
    assert all(p.grad is not None for p in model.parameters())


# --- optimizers ---------------------------------------------------------------------------------------------

OPTIMIZERS = [torch_port.SGD, torch_port.Adam]


def parameters():
    return [torch.ones(3, requires_grad=True), torch.full((2, 2), 2.0, requires_grad=True)]


def descend(optimizer, params, steps, start=0):
    """Steps along gradients that change from step to step."""
    for k in range(start, start + steps):
        for p in params:
            p.grad = torch.sin(p.detach() + k)
        optimizer.step()


def moved(params):
    return [not torch.equal(p, q) for p, q in zip(params, parameters(), strict=True)]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_continues_from_a_state_dict(kind):
    params, copies = parameters(), parameters()
    optimizer = kind(params, lr=0.1)
    descend(optimizer, params, 3)
    with torch.no_grad():
        for p, q in zip(params, copies, strict=True):
            q.copy_(p)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = kind(copies, lr=7.0)
    other.load_state_dict(torch.load(file))
    descend(optimizer, params, 3, start=3)
    descend(other, copies, 3, start=3)
    assert same(params, copies)
    assert {t.dtype for state in optimizer.state.values() for t in state.values()} <= {torch.float32}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_copied_optimizer_moves_its_own_parameters(kind):
    params = parameters()
    descend(optimizer := kind(params), params, 2)
    other = copy.deepcopy(optimizer)
    before = [p.detach().clone() for p in params]
    descend(other, other.param_groups[0]["params"], 1, start=2)
    assert same(params, before)
    descend(optimizer, params, 1, start=2)
    assert same(params, other.param_groups[0]["params"])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_scheduler_changes_the_rate(kind):
    params, copies = parameters(), parameters()
    optimizer, other = kind(params, lr=0.1), kind(copies, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for k in range(3):
        descend(optimizer, params, 1, start=k)
        scheduler.step()
        other.param_groups[0]["lr"] = 0.1 * 0.5**k
        descend(other, copies, 1, start=k)
    assert same(params, copies)
    scaled = [not torch.equal(a, b) for a, b in zip(params, ran(kind, 3), strict=True)]
    assert all(scaled)


def ran(kind, steps):
    params = parameters()
    descend(kind(params, lr=0.1), params, steps)
    return params


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_groups_have_rates_of_their_own(kind):
    params = parameters()
    optimizer = kind([{"params": params[:1]}, {"params": params[1:], "lr": 0.0}], lr=0.1)
    descend(optimizer, params, 2)
    assert moved(params) == [True, False]
    assert torch.equal(params[0], ran(kind, 2)[0])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_parameter_without_gradient_stays(kind):
    params = parameters()
    params[0].grad = torch.ones(3)
    kind(params).step()
    assert moved(params) == [True, False]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_closure_is_called_with_gradients_enabled(kind):
    params = parameters()
    optimizer = kind(params)

    def closure():
        optimizer.zero_grad()
        loss = sum((p * p).sum() for p in params)
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3 + 4 * 4
    assert moved(params) == [True, True]
    assert kind(parameters()).step() is None


@pytest.mark.parametrize(("kind", "arguments", "words"), [
    (torch_port.SGD, {"lr": -1.0}, "SGD: lr is -1.0, expected >= 0"),
    (torch_port.Adam, {"lr": -1.0}, "Adam: lr is -1.0, expected >= 0"),
    (torch_port.Adam, {"beta1": 1.0}, "Adam: beta1 is 1.0"),
    (torch_port.Adam, {"beta2": -0.1}, "Adam: beta2 is -0.1"),
], ids=["SGD-lr", "Adam-lr", "beta1", "beta2"])
def test_optimizers_refuse(kind, arguments, words):
    with pytest.raises(ValueError, match=words):
        kind(parameters(), **arguments)


@pytest.mark.parametrize(("max_norm", "rate"), [(10, 1), (5.1, 1), (5, 5 / (5 + 1e-6)), (1, 1 / (5 + 1e-6))])
@pytest.mark.parametrize("form", [list, iter], ids=["list", "iterator"])
def test_clip_grads_scales_by_the_norm_of_all_together(max_norm, rate, form):
    params = [torch.zeros(2, requires_grad=True, dtype=torch.float64) for _ in range(3)]
    params[0].grad, params[2].grad = torch.tensor([3.0, 0]).double(), torch.tensor([0, -4.0]).double()
    norm = torch_port.clip_grads(form(params), max_norm)
    assert norm == 5
    assert params[1].grad is None
    assert same([params[0].grad, params[2].grad], [torch.tensor([3.0, 0]).double() * rate,
                                                   torch.tensor([0, -4.0]).double() * rate])


def test_clip_grads_takes_one_tensor_and_none():
    p = torch.zeros(1, requires_grad=True)
    assert torch_port.clip_grads(p, 1.0) == 0
    p.grad = torch.tensor([4.0])
    assert torch_port.clip_grads(p, 1.0) == 4
    assert p.grad < 1


@pytest.mark.parametrize("masked", [False, True])
def test_multi_head_attention_has_the_parameters_of_torchs(masked):
    """``nn.MultiheadAttention`` takes its ``state_dict`` as it is, and computes the same with it."""
    spec = next(s for s in LAYERS if "in_proj_weight" in {slot.path for slot in s.port_class.slots.values()})
    module, (query, key, value, *mask), _ = twin(spec, heads=3, masked=masked)
    for m in mask:
        m[:, 0] = True  # torch's is NaN where nothing is valid
    stock = nn.MultiheadAttention(query.shape[-1], 3, bias=False, batch_first=True, dtype=torch.float64)
    stock.load_state_dict(module.state_dict())
    found, weights = stock(query, key, value, key_padding_mask=~mask[0] if masked else None, average_attn_weights=False)
    # two sums over D, one over T, between them a softmax, all in other orders
    assert torch.allclose(module(query, key, value, *mask), found, rtol=0, atol=2.0**-53 * 64 * 15 * 3 * 15)
    assert torch.allclose(module.attention_weights, weights, rtol=0, atol=2.0**-53 * 64 * 15)


def test_a_packed_parameter_takes_one_part_alone():
    spec = next(s for s in LAYERS if "in_proj_weight" in {slot.path for slot in s.port_class.slots.values()})
    module, *_ = twin(spec, heads=3)
    query, key, value, out = module.reference_params()
    module.load_reference_params([query, 2 * key, value, out])
    D = len(query)
    assert np.array_equal(module.in_proj_weight.detach().numpy(), np.concatenate([query.T, 2 * key.T, value.T]))
    module.in_proj_weight.grad = torch.arange(3.0 * D * D, dtype=torch.float64).reshape(3 * D, D)
    grads = module.reference_grads()
    assert [g[0, 0] for g in grads] == [0, D * D, 2 * D * D, 0] and grads[1][0, 1] == D * D + D


@pytest.mark.parametrize(("dtype", "size"), [("float16", 300), ("float16", 6e4), ("float16", 1e-4), ("float32", 1e25),
                                             ("float32", 3e38), ("float32", 1e-30), ("float64", 1e200)])
@pytest.mark.parametrize("side", ["reference", "port"])
def test_clip_grads_overflows_nowhere(side, dtype, size):
    g = np.full(4, size, dtype)
    if side == "reference":
        norm = reference.clip_grads([g], 1.0)
    else:
        p = torch.zeros(4, dtype=getattr(torch, dtype), requires_grad=True)
        p.grad = torch.from_numpy(g)
        norm = torch_port.clip_grads(p, 1.0).numpy()
    with np.errstate(over="ignore"):
        assert norm == pytest.approx(np.float64(2 * size).astype(dtype), rel=2e-3)
    assert np.allclose(g.astype(float), 0.5 if size > 1 else size, rtol=1e-3)


def test_clip_grads_changes_no_bit_of_the_plain_formula():
    rng = np.random.default_rng(0)
    for _ in range(50):
        grads = [(10 ** rng.uniform(-6, 6) * rng.standard_normal(s)).astype("f") for s in ((30, 7), (7,), (1,))]
        limit = 10 ** rng.uniform(-5, 5)
        plain = np.sqrt(sum((g * g).sum() for g in grads))
        params = [torch.zeros(g.shape, requires_grad=True) for g in grads]
        torchs = [torch.zeros(g.shape, requires_grad=True) for g in grads]
        for g, p, q in zip(grads, params, torchs, strict=True):
            p.grad, q.grad = torch.tensor(g), torch.tensor(g)
        rate = limit / (plain + 1e-6)
        expected = [g * rate if rate < 1 else g.copy() for g in grads]
        assert reference.clip_grads(grads, limit) == plain and all(map(np.array_equal, grads, expected))
        assert torch_port.clip_grads(params, limit) == torch.nn.utils.clip_grad_norm_(torchs, limit)
        assert all(torch.equal(p.grad, q.grad) for p, q in zip(params, torchs, strict=True))


@pytest.mark.parametrize(("ratio", "training"), [(0.5, False), (0.0, True), (0.0, False)])
def test_dropout_that_does_nothing_gives_an_array_of_its_own(ratio, training):
    xs = torch.ones(1, 2, 3)
    ys = torch_port.TimeDropout(ratio).train(training)(xs)
    assert torch.equal(ys, xs) and ys.data_ptr() != xs.data_ptr()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_lengths_of_any_integer_dtype_mean_the_same(dtype):
    model, ids = torch_port.AttentionSeq2seq(5, 2, 3), torch.ones(2, 4, dtype=torch.int64)
    lengths = torch.tensor([2, 4])
    assert torch.equal(model(ids, ids, lengths=lengths.to(dtype)), model(ids, ids, lengths=lengths))
    with pytest.raises(ValueError, match="lengths contains 9"):
        model(ids, ids, lengths=torch.tensor([2, 9]).to(dtype))


@pytest.mark.parametrize("batch, steps", [(0, 6), (2, 0)])
def test_attention_weights_are_those_of_the_last_generate(batch, steps):
    model = reference.AttentionSeq2seq(5, 2, 3, rng=np.random.default_rng(0))
    port = torch_port.AttentionSeq2seq.from_reference(model)
    ids = np.ones((2, 4), int)
    model.forward(ids, ids)
    port(torch.from_numpy(ids), torch.from_numpy(ids))
    model.generate(ids[:batch], 0, steps)
    port.generate(torch.from_numpy(ids[:batch]), 0, steps)
    assert len(model.attention_weights) == len(port.attention_weights) == steps


def test_a_name_that_was_replaced_stays_so(monkeypatch):
    monkeypatch.setattr(torch_port, "Adam", "mine")
    assert "Adam" in dir(torch_port) and not hasattr(torch_port, "no_such_name")
    assert torch_port.Adam == "mine"
