"""The reference against closed forms, against itself by complex step, and where the textbook is weak.

Bounds count roundings: ``n`` roundings move a result by at most about ``n u`` of the sizes that went
into it, ``u`` the unit roundoff of its dtype. Where the arithmetic is exact, so is the test.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import reference
from parity.cases.case import choices
from parity.catalogue import CATALOGUE
from parity.promises import SIZES, standard
from parity.sides import run_reference
from reference._functions import sigmoid

N, T, U, V, D, H = (SIZES[letter] for letter in "NTUVDH")
LAYERS = [spec for spec in CATALOGUE.values() if spec.side == "textbook"]
MODELS = [spec for spec in CATALOGUE.values() if spec.greedy]
CELLS = {"RNN": 1, "LSTM": 4, "GRU": 3}  # gates
WIDER = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps
needs_longdouble = pytest.mark.skipif(not WIDER, reason="longdouble is no wider than float64 on this platform")


def name_of(spec):
    return spec.name


def rng(seed=0):
    return np.random.default_rng(seed)


def assert_close(found, expected, roundings, size=1.0):
    """Equal up to so many roundings of numbers of that size, in the coarser of the two dtypes."""
    u = max(np.finfo(a.dtype).eps / 2 for a in map(np.asarray, (found, expected)))
    assert np.shape(found) == np.shape(expected)
    error = np.abs(found - expected)
    assert (error <= roundings * u * size).all(), f"off by {np.max(error / (u * size)):.3g} u, allowed {roundings}"


# --- every layer: backward is the derivative of forward -----------------------------------------------------


def option_cases():
    """Every layer with every combination of options that means something."""
    for spec in LAYERS:
        values = {name: found or (0,) for name, found in choices(spec).items()}
        for chosen in itertools.product(*values.values()):
            options = dict(zip(values, chosen, strict=True))
            if options.get("stateful") or not options.get("given"):
                text = ",".join(f"{name}={int(v) if isinstance(v, bool) else v}" for name, v in options.items())
                yield pytest.param(spec, options, id=f"{spec.name}-{text}" if text else spec.name)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("longdouble", marks=needs_longdouble)])
@pytest.mark.parametrize(("spec", "options"), list(option_cases()))
def test_complex_step_gives_what_backward_gives(spec, options, dtype):
    case = standard(spec, **options)
    data = case.data(lambda a: a.astype(dtype))
    found = run_reference(case, data)
    real, complex_ = np.dtype(dtype).type, np.result_type(dtype, np.complex64).type
    wide = data.map(lambda a: a.astype(complex_))
    h = real(2) ** -100  # so small that its square vanishes beside any real part
    # a number passes at most T + U steps, in each of them a product of D + H terms
    roundings = (T + U) * (D + H)
    for group in ("params", "inputs", "states"):
        for name, array in getattr(data, group).items():
            if array.dtype.kind != "f":
                continue
            direction = rng().standard_normal(array.shape)
            moved = getattr(wide, group) | {name: array + complex_(1j) * h * direction}
            outputs = run_reference(case, replace(wide, **{group: moved}))
            slope = sum((outputs[output] * c).sum() for output, c in data.cotangents.items()).imag / h
            terms = found[f"grad.{name}{'0' if group == 'states' else ''}"] * direction
            assert_close(slope, terms.sum(), roundings, np.abs(terms).sum())


@needs_longdouble
@pytest.mark.parametrize("spec", LAYERS, ids=name_of)
def test_longdouble_keeps_its_digits(spec):
    case = standard(spec)
    for name, quantity in run_reference(case, case.data(lambda a: a.astype(np.longdouble) / 3)).items():
        assert quantity.dtype.kind == "i" or (quantity != quantity.astype(np.float64)).any(), name


# --- softmax and sigmoid ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)], ids=str)
def test_softmax_normalises_the_last_of_any_number_of_axes(lead):
    x = rng().standard_normal((*lead, V))
    weights = [np.exp(row) / sum(np.exp(row)) for row in x.reshape(-1, V)]
    assert_close(reference.Softmax().forward(x), np.reshape(weights, x.shape), 4 * V)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax_of_large_logits_is_exact(dtype):
    x = np.array([[[1e4, -1e4, 0], [1e4, 1e4, -1e4]], [[-1e4, -1e4, -1e4], [0, 0, 0]]], dtype)
    layer = reference.Softmax()
    third = 1 / np.array(3, dtype)
    expected = np.array([[[1, 0, 0], [0.5, 0.5, 0]], [[third] * 3] * 2], dtype)
    assert np.array_equal(layer.forward(x), expected)
    assert np.array_equal(layer.backward(np.eye(3, dtype=dtype)[[[0, 0], [0, 0]]])[0],
                          np.array([[0, 0, 0], [0.25, -0.25, 0]], dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_is_exact_in_both_tails(dtype):
    edge = -np.log(np.finfo(dtype).tiny)  # beyond it exp(-x) loses digits to underflow
    x = np.linspace(-edge, edge, 2001, dtype=dtype)
    z = np.exp(-np.abs(x.astype(np.longdouble)))
    expected = np.where(x >= 0, 1, z) / (1 + z)
    # NumPy's exp is good to 2.6 units in the last place, 5.2 roundings; a sum, a quotient, the oracle's
    assert_close(sigmoid(x), expected.astype(dtype), 8, expected)
    assert np.array_equal(sigmoid(np.array([-1e4, 1e4, -np.inf, np.inf], dtype)), [0, 1, 0, 1])


def test_sigmoid_of_complex_numbers_has_its_derivative():
    x, h = np.array([-300, -30, -1, -1e-9, 0, 1e-9, 1, 30, 300.0]), 2.0**-100
    slope = sigmoid(x + 1j * h).imag / h
    z = np.exp(-np.abs(x))
    assert_close(slope, z / (1 + z) ** 2, 16, z)


# --- losses -------------------------------------------------------------------------------------------------


def loss_of(name, logits, labels):
    """Loss and gradient of rows, through either layer."""
    axes = (np.newaxis,) if name == "TimeSoftmaxWithLoss" else ()
    layer = getattr(reference, name)()
    return layer.forward(logits[axes], labels[axes]), layer.backward().reshape(logits.shape)


LOSSES = ["SoftmaxWithLoss", "TimeSoftmaxWithLoss"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", [40, 1e4])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_a_hopeless_row_is_its_gap(name, gap, dtype):
    """The textbook's log(p + 1e-7) says 16.1; log(1 + exp(-40)) is below one rounding of 40."""
    loss, dx = loss_of(name, np.array([[0, gap], [gap, 0]], dtype), np.array([0, 1]))
    assert loss == gap
    assert_close(dx, np.array([[-0.5, 0.5], [0.5, -0.5]], dtype), 1)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_mean_of_minus_log_softmax(name):
    x, t = rng().standard_normal((4, V)), np.array([0, 3, 3, 4])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    loss, dx = loss_of(name, x, t)
    assert_close(loss, -np.log(p[range(4), t]).mean(), 4 * V, np.abs(x).max())
    assert_close(dx, (p - np.eye(V)[t]) / 4, 4 * V)


@pytest.mark.parametrize("dtype", [int, bool, np.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_labels_mean_the_same(name, dtype):
    x, t = rng().standard_normal((4, V)), np.array([0, 3, 3, 4])
    (loss, dx), (expected, gradient) = (loss_of(name, x, labels) for labels in (np.eye(V, dtype=dtype)[t], t))
    assert loss == expected
    assert np.array_equal(dx, gradient)


@pytest.mark.parametrize("ignore", [-1, 3])
def test_ignored_labels_are_left_out_before_the_logarithm(ignore):
    xs, ts = rng().standard_normal((N, T, V)), np.array([[0, ignore, 4], [ignore, 1, 2]])
    counts = ts != ignore
    xs[~counts] = [[np.nan] * V, [np.inf] * V]
    layer, rows = reference.TimeSoftmaxWithLoss(ignore_label=ignore), reference.SoftmaxWithLoss()
    assert layer.forward(xs, ts) == rows.forward(xs[counts], ts[counts])
    dxs = layer.backward(2.0)
    assert np.array_equal(dxs[counts], rows.backward(2.0))
    assert not dxs[~counts].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "shape", "labels"), [
    ("SoftmaxWithLoss", (0, V), np.zeros(0, int)),
    ("TimeSoftmaxWithLoss", (0, T, V), np.zeros((0, T), int)),
    ("TimeSoftmaxWithLoss", (N, T, V), np.full((N, T), -1)),
], ids=["no-rows", "no-sequences", "all-ignored"])
def test_a_loss_over_nothing_is_zero(name, shape, labels, dtype):
    layer = getattr(reference, name)()
    loss = layer.forward(np.ones(shape, dtype), labels)
    dx = layer.backward()
    assert (loss, loss.dtype) == (0, dtype)
    assert (dx.shape, dx.dtype, dx.any()) == (shape, dtype, False)


# --- recurrent layers ---------------------------------------------------------------------------------------


def cell_by_formula(name, x, h, c, Wx, Wh, b):
    """One step of one sample, straight from the definitions; gates as in the design."""
    def gate(function, k, h=h):
        k = slice(k * H, (k + 1) * H)
        return function(x @ Wx[:, k] + h @ Wh[:, k] + b[k])

    def logistic(a):
        return 1 / (1 + np.exp(-a))

    if name == "RNN":
        return gate(np.tanh, 0), c
    if name == "GRU":
        z, r = gate(logistic, 0), gate(logistic, 1)
        return (1 - z) * h + z * gate(np.tanh, 2, r * h), c
    c = gate(logistic, 0) * c + gate(logistic, 2) * gate(np.tanh, 1)
    return gate(logistic, 3) * np.tanh(c), c


def cell_arrays(gates, seed=0):
    return [rng(seed).standard_normal(shape) for shape in ((D, gates * H), (H, gates * H), (gates * H,))]


@pytest.mark.parametrize("name", CELLS)
def test_cells_follow_their_formula(name):
    params = cell_arrays(CELLS[name])
    xs, h, c = (rng(s).standard_normal(shape) for s, shape in enumerate(((N, T, D), (N, H), (N, H)), 1))
    states = (h, c)[: 1 + (name == "LSTM")]
    layer = getattr(reference, f"Time{name}")(*params, stateful=True)
    layer.set_state(*states)
    hs = layer.forward(xs)
    step = getattr(reference, name)(*params).forward(xs[:, 0], *states)
    # T steps of gates with slopes of at most 1, each after a sum of D + H + 1 products of size 1 to 4
    bound = 4 * T * (D + H + 1)
    for n in range(N):
        state = h[n], c[n]
        for t in range(T):
            state = cell_by_formula(name, xs[n, t], *state, *params)
            assert_close(hs[n, t], state[0], bound)
            if t == 0:
                assert_close(np.array(step if name == "LSTM" else (step,))[:, n], state[: len(states)], bound, 4)
        assert_close(layer.h[n], state[0], bound)


def test_time_bilstm_is_two_directions_the_forward_one_first():
    first, second = cell_arrays(4, 0), cell_arrays(4, 1)
    xs = rng(2).standard_normal((N, T, D))
    hs = reference.TimeBiLSTM(*first, *second).forward(xs)
    assert np.array_equal(hs[..., :H], reference.TimeLSTM(*first).forward(xs))
    assert np.array_equal(hs[..., H:], reference.TimeLSTM(*second).forward(xs[:, ::-1])[:, ::-1])


@pytest.mark.parametrize("name", CELLS)
def test_a_stateful_sequence_cut_in_two(name):
    """The forward is that of the whole; the gradients of each part are its own, from a given state."""
    params, xs = cell_arrays(CELLS[name]), rng(1).standard_normal((N, T + 1, D))
    kind = getattr(reference, f"Time{name}")
    layer, whole, alone = kind(*params, stateful=True), kind(*params), kind(*params, stateful=True)
    parts = [layer.forward(xs[:, :2])]
    state = [getattr(layer, s).copy() for s in ("h", "c")[: 1 + (name == "LSTM")]]
    parts.append(layer.forward(xs[:, 2:]))
    bound = 4 * (T + 1) * (D + H + 1)  # a product of other rows may add up in another order
    assert_close(np.concatenate(parts, axis=1), whole.forward(xs), bound)
    alone.set_state(*state)
    assert np.array_equal(alone.forward(xs[:, 2:]), parts[1])
    dhs = rng(2).standard_normal(parts[1].shape)
    assert np.array_equal(layer.backward(dhs), alone.backward(dhs))
    for a, b in zip((*layer.grads, layer.dh), (*alone.grads, alone.dh), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_only_a_stateful_layer_keeps_its_state_until_it_is_reset(name):
    params = cell_arrays(CELLS.get(name[4:], 4)) * (2 if name == "TimeBiLSTM" else 1)
    xs = rng(1).standard_normal((N, T, D))
    layer, forgetful = (getattr(reference, name)(*params, stateful=stateful) for stateful in (True, False))
    first, again = layer.forward(xs), layer.forward(xs)
    assert not np.array_equal(first, again)
    layer.reset_state()
    assert np.array_equal(first, layer.forward(xs))
    assert np.array_equal(first, forgetful.forward(xs))
    assert np.array_equal(first, forgetful.forward(xs))


def test_set_state_without_a_cell_starts_from_a_zero_cell():
    params, xs, h = cell_arrays(4), rng(1).standard_normal((N, T, D)), rng(2).standard_normal((N, H))
    layer = reference.TimeLSTM(*params, stateful=True)
    layer.forward(xs)  # leaves a cell behind
    layer.set_state(h)
    found = layer.forward(xs)
    layer.set_state(h, np.zeros((N, H)))
    assert np.array_equal(found, layer.forward(xs))


@pytest.mark.parametrize(("state", "error", "words"), [
    ((np.zeros((N, H)),) * 3, TypeError, "3 states given, expected at most 2: h, c"),
    ((np.zeros((N + 1, H)),), ValueError, rf"\({N}, {H}\)|\({N + 1}, {H}\)"),
    ((np.zeros((N, H)), np.zeros((N, H + 1))), ValueError, rf"\({N}, {H + 1}\)"),
], ids=["too-many", "batch", "cell"])
def test_a_state_that_does_not_fit_is_refused(state, error, words):
    layer = reference.TimeLSTM(*cell_arrays(4), stateful=True)
    with pytest.raises(error, match=words):
        layer.set_state(*state)
        layer.forward(np.zeros((N, T, D)))


# --- attention ----------------------------------------------------------------------------------------------


def test_attention_is_the_unscaled_dot_product():
    """By hand: scores log 3 and 0, weights 3/4 and 1/4."""
    log3, hs, h, dc = np.log(3), np.eye(2)[None], np.array([[np.log(3), 0]]), np.array([[1.0, 0]])
    layer = reference.Attention()
    # a handful of roundings each: exp, sum, quotient, products
    assert_close(layer.forward(hs, h), np.array([[3 / 4, 1 / 4]]), 8)
    assert_close(layer.attention_weight, np.array([[3 / 4, 1 / 4]]), 8)
    dhs, dh = layer.backward(dc)
    assert_close(dh, np.array([[3 / 16, -3 / 16]]), 16)
    assert_close(dhs, np.array([[[3 / 4 + 3 / 16 * log3, 0], [1 / 4 - 3 / 16 * log3, 0]]]), 16)


def test_time_attention_is_attention_of_every_decoder_state():
    hs_enc, hs_dec, dcs = (rng(s).standard_normal((N, length, H)) for s, length in enumerate((T, U, U)))
    mask = np.array([[True, False, True], [True, True, True]])
    layer = reference.TimeAttention()
    cs = layer.forward(hs_enc, hs_dec, mask)
    dhs_enc, dhs_dec = layer.backward(dcs)
    assert [a.shape for a in layer.attention_weights] == [(N, T)] * U
    total, size = 0, np.abs(hs_enc).max() ** 2 * H * U  # of scores, and of what adds up over them
    for u in range(U):
        one = reference.Attention()
        assert_close(cs[:, u], one.forward(hs_enc, hs_dec[:, u], mask), T + H, size)
        assert_close(layer.attention_weights[u], one.attention_weight, T + H, size)
        dhs, dh = one.backward(dcs[:, u])
        assert_close(dhs_dec[:, u], dh, T + H, size)
        total = total + dhs
    assert_close(dhs_enc, total, U * (T + H), size)


MASKED = {"AttentionWeight": (H,), "Attention": (H,), "TimeAttention": (U, H)}


@pytest.mark.parametrize("name", MASKED)
def test_a_row_with_nothing_valid_has_zero_weights_and_gradients(name):
    hs, h = 1e4 * rng(0).standard_normal((N, T, H)), rng(1).standard_normal((N, *MASKED[name]))
    layer = getattr(reference, name)()
    out = layer.forward(hs, h, np.array([[False] * T, [True] * T]))
    gradients = layer.backward(np.ones_like(out))
    for array in (out, *gradients):
        assert np.isfinite(array).all()
        assert not array[0].any()
    assert out[1].any()


@pytest.mark.parametrize("name", MASKED)
def test_masked_positions_are_as_if_they_were_not_there(name):
    hs, h = rng(0).standard_normal((1, T, H)), rng(1).standard_normal((1, *MASKED[name]))
    valid = np.array([True, False, True])
    hs[:, ~valid] *= 1e4
    masked, short = getattr(reference, name)(), getattr(reference, name)()
    out, expected = masked.forward(hs, h, valid[None]), short.forward(hs[:, valid], h)
    dout = rng(2).standard_normal(out.shape)
    cotangent = dout
    if name == "AttentionWeight":
        cotangent = dout[:, valid]
        dout[:, ~valid] = np.nan
    (dhs, dh), (dhs_short, dh_short) = masked.backward(dout), short.backward(cotangent)
    if name == "AttentionWeight":
        assert not out[:, ~valid].any()
        out = out[:, valid]
    # the same sums of T terms with zeros between, after scores of H products; the loud ones do not count
    size = H * np.abs(hs[:, valid]).max() * np.abs(h).max() * np.abs(cotangent).max()
    assert_close(out, expected, U * (T + H), size)
    assert_close(dh, dh_short, U * (T + H), size * np.abs(hs[:, valid]).max())
    assert_close(dhs[:, valid], dhs_short, U * (T + H), size * np.abs(h).max())
    assert not dhs[:, ~valid].any()


# --- dropout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_rest(ratio):
    xs = rng().uniform(1, 2, (10, 20, 50))
    layer = reference.TimeDropout(ratio, rng=rng(1))
    ys = layer.forward(xs)
    kept = ys != 0
    # 5 standard deviations of a binomial share: one false alarm in 2 million draws
    assert abs(kept.mean() - (1 - ratio)) <= 5 * np.sqrt(ratio * (1 - ratio) / xs.size)
    assert_close(ys[kept], xs[kept] / (1 - ratio), 4, ys[kept])
    assert np.array_equal(layer.backward(xs), ys)  # the same mask and scale
    assert np.array_equal(layer.forward(xs), ys) == (ratio == 0)  # a new mask each time


def test_dropout_does_nothing_outside_training():
    layer, xs = reference.TimeDropout(0.5), rng().standard_normal((N, T, D))
    layer.train_flg = False
    assert np.array_equal(layer.forward(xs, np.zeros(xs.shape, bool)), xs)
    assert np.array_equal(layer.backward(xs), xs)


def test_dropout_takes_a_mask_and_a_generator():
    xs, mask = np.ones((N, T, D)), rng().random((N, T, D)) < 0.5
    assert np.array_equal(reference.TimeDropout(0.75).forward(xs, mask), 4.0 * mask)
    first, second = (reference.TimeDropout(0.5, rng=rng(3)).forward(xs) for _ in range(2))
    assert np.array_equal(first, second)


# --- models -------------------------------------------------------------------------------------------------


def model(name, scale=None, seed=0, **arguments):
    """A model of the standard sizes; with ``scale``, all its parameters drawn that large."""
    made = getattr(reference, name)(V, D, H, rng=rng(seed), **({"dtype": np.float64} | arguments))
    if scale:
        made.bind([scale * rng(seed + i).standard_normal(p.shape) for i, p in enumerate(made.params)])
    return made


def states_from_zero_cell(params, xs, h):
    """``hs`` of an LSTM from ``h`` and a zero cell, one sample and step at a time."""
    hs = np.empty((*xs.shape[:2], H))
    for n in range(len(xs)):
        state = h[n], np.zeros(H)
        for u in range(xs.shape[1]):
            state = cell_by_formula("LSTM", xs[n, u], *state, *params)
            hs[n, u] = state[0]
    return hs


def scores_by_formula(name, params, ids, enc_hs):
    """The decoders' definitions: what stands beside the LSTM's input and output comes first."""
    embed, Wx, Wh, b, W, b_out = params
    h, words = enc_hs[:, -1], embed[ids]
    peek = np.stack([h] * ids.shape[1], axis=1)
    inputs = np.concatenate((peek, words), axis=2) if name == "PeekyDecoder" else words
    hs = states_from_zero_cell((Wx, Wh, b), inputs, h)
    a = np.exp(np.einsum("nuh,nth->nut", hs, enc_hs))
    context = np.einsum("nut,nth->nuh", a / a.sum(axis=2, keepdims=True), enc_hs)
    beside = {"Decoder": (), "PeekyDecoder": (peek,), "AttentionDecoder": (context,)}[name]
    return sum(part @ W[k * H : (k + 1) * H] for k, part in enumerate((*beside, hs))) + b_out


@pytest.mark.parametrize("name", ["Decoder", "PeekyDecoder", "AttentionDecoder"])
def test_decoders_follow_their_formula(name):
    decoder, ids, enc_hs = model(name, scale=0.5), rng(1).integers(0, V, (N, U)), rng(2).uniform(-1, 1, (N, T, H))
    source = enc_hs if name == "AttentionDecoder" else enc_hs[:, -1]
    decoder.forward(ids, source)  # leaves a state behind, which the next call must not see
    # U steps of D + 2H products, a context over T, a score of 2H products, all of size 1 or less
    bound = U * (D + 2 * H) + T + 2 * H
    assert_close(decoder.forward(ids, source), scores_by_formula(name, decoder.params, ids, enc_hs), bound)


def test_encoders_give_the_last_state_and_all_states():
    ids = rng().integers(0, V, (N, T))
    last, all_ = model("Encoder", scale=1.0), model("AttentionEncoder", scale=1.0)
    hs = reference.TimeLSTM(*last.params[1:]).forward(last.params[0][ids])
    assert np.array_equal(all_.forward(ids), hs)
    assert np.array_equal(last.forward(ids), hs[:, -1])


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_a_model_reads_the_answer_but_its_last_id_and_is_asked_for_all_but_the_first(spec):
    seq2seq, xs, ts = model(spec.name), rng(0).integers(0, V, (N, T)), rng(1).integers(0, V, (N, U))
    expected = reference.TimeSoftmaxWithLoss().forward(seq2seq.score(xs, ts[:, :-1]), ts[:, 1:])
    assert seq2seq.forward(xs, ts) == expected
    with pytest.raises(ValueError, match="at least 2 columns"):
        seq2seq.forward(xs, ts[:, :1])


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_parameters_stand_in_the_order_of_the_textbook(spec):
    """Dotted names; embedding, Wx, Wh, b of the encoder, the same of the decoder, then the affine map's."""
    lstm = ["embed.W", "lstm.Wx", "lstm.Wh", "lstm.b"]
    seq2seq = model(spec.name)
    assert list(seq2seq.param_names) == [f"encoder.{n}" for n in lstm] + [
        f"decoder.{n}" for n in (*lstm, "affine.W", "affine.b")]
    wide = {"Seq2seq": (D, H), "PeekySeq2seq": (H + D, 2 * H), "AttentionSeq2seq": (D, 2 * H)}[spec.name]
    assert [p.shape for p in seq2seq.params] == [
        (V, D), (D, 4 * H), (H, 4 * H), (4 * H,),
        (V, D), (wide[0], 4 * H), (H, 4 * H), (4 * H,), (wide[1], V), (V,)]
    for name, param, grad in zip(seq2seq.param_names, seq2seq.params, seq2seq.grads, strict=True):
        part, layer, label = name.split(".")
        owner = getattr(getattr(seq2seq, part), layer)
        where = owner.param_names.index(label)
        assert owner.params[where] is param
        assert owner.grads[where] is grad


@pytest.mark.parametrize("spec", [spec for spec in LAYERS if spec.size_arguments], ids=name_of)
def test_models_are_float32_and_follow_their_generator(spec):
    first, same, other = (spec.reference(V, D, H, rng=rng(seed)) for seed in (0, 0, 1))
    assert {p.dtype for p in first.params} == {np.dtype(np.float32)}
    assert all(np.array_equal(a, b) for a, b in zip(first.params, same.params, strict=True))
    assert not np.array_equal(first.params[0], other.params[0])
    assert not np.array_equal(*(spec.reference(V, D, H).params[0] for _ in range(2)))  # no generator, no repetition
    assert {p.dtype for p in spec.reference(V, D, H, dtype=np.longdouble).params} == {np.dtype(np.longdouble)}


def test_initial_weights_are_those_of_the_textbook():
    seq2seq = reference.AttentionSeq2seq(50, 20, 30, rng=rng())
    for name, param in zip(seq2seq.param_names, seq2seq.params, strict=True):
        scale = 0.01 if name.endswith("embed.W") else 0 if param.ndim == 1 else len(param) ** -0.5
        # 5 standard deviations of a root mean square
        assert abs(np.sqrt((param * param).mean()) - scale) <= 5 * scale / np.sqrt(2 * param.size), name


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: reference.Seq2seq(0, D, H), ValueError, "vocab_size is 0, expected >= 1"),
    (lambda: reference.Decoder(V, D, 2.5), TypeError, "hidden_size is 2.5, expected an integer"),
    (lambda: reference.TimeDropout(1.0), ValueError, "dropout_ratio is 1.0, expected 0 <= ratio < 1"),
    (lambda: reference.TimeDropout(-0.1), ValueError, "dropout_ratio is -0.1"),
    (lambda: reference.Affine(np.zeros((D, H)), np.zeros(H + 1)), ValueError, rf"b has shape \({H + 1},\)"),
    (lambda: reference.LSTM(*cell_arrays(3)), ValueError, rf"Wh has shape \({H}, {3 * H}\)"),
    (lambda: reference.Embedding([[0.0]]), TypeError, "W is list"),
    (lambda: reference.TimeEmbedding(np.zeros((V, D), int)), TypeError, "W is int64"),
], ids=["size-0", "size-2.5", "ratio-1", "ratio-negative", "bias", "gates", "list", "integers"])
def test_constructors_refuse_what_makes_no_layer(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_bind_adopts_the_given_arrays():
    seq2seq, ids = model("AttentionSeq2seq", dtype=np.float32), np.zeros((N, T), int)
    seq2seq.forward(ids, ids)
    arrays = [p.astype(np.float64) for p in seq2seq.params]
    seq2seq.bind(arrays)
    assert all(p is a for p, a in zip(seq2seq.params, arrays, strict=True))
    assert seq2seq.decoder.lstm.params[1] is arrays[6]
    assert seq2seq.forward(ids, ids).dtype == np.float64
    seq2seq.backward()
    assert all(g.dtype == np.float64 and g.any() for g in seq2seq.grads)


@pytest.mark.parametrize(("change", "error", "words"), [
    (lambda ps: ps[:-1], ValueError, "9 parameters given, expected 10: encoder.embed.W"),
    (lambda ps: [*ps[:-1], ps[-1][1:]], ValueError, rf"decoder.affine.b has shape \({V - 1},\), expected \({V},\)"),
    (lambda ps: [*ps[:-1], ps[-1].astype(int)], TypeError, "decoder.affine.b is int64"),
    (lambda ps: [*ps[:-1], ps[-1].tolist()], TypeError, "decoder.affine.b is list"),
], ids=["count", "shape", "integers", "list"])
def test_bind_refuses_and_changes_nothing(change, error, words):
    seq2seq = model("AttentionSeq2seq")
    before = list(seq2seq.params)
    with pytest.raises(error, match=words):
        seq2seq.bind(change([p + 1 for p in before]))
    assert all(a is b for a, b in zip(seq2seq.params, before, strict=True))
    assert seq2seq.encoder.embed.params[0] is before[0]


# --- generate -----------------------------------------------------------------------------------------------


def masks(spec, rows):
    return [rng(2).random((rows, T)) < 0.5] if spec.optional else []


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_takes_the_argmax_of_the_score_at_every_step(spec):
    seq2seq, xs, mask = model(spec.name, scale=2.0, seed=1), rng(1).integers(0, V, (20, T)), masks(spec, 20)
    ids = seq2seq.generate(xs, 1, 20, *mask)
    fed = np.concatenate((np.full((20, 1), 1), ids[:, :-1]), axis=1)
    assert np.array_equal(ids, seq2seq.score(xs, fed, *mask).argmax(axis=2))
    assert len(set(ids.flat)) > 2  # or the test would be too easy
    assert ids.dtype.kind == "i"
    assert np.array_equal(ids, seq2seq.generate(xs, 1, 20, *mask))  # nothing is left from the first time


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_takes_the_first_among_equals(spec):
    seq2seq = model(spec.name, scale=1.0)
    seq2seq.params[-2][...] = 0
    seq2seq.params[-1][...] = [0, 1, 2, 1, 2]
    assert (seq2seq.generate(np.zeros((N, T), int), 0, 6) == 2).all()


@pytest.mark.parametrize(("rows", "size"), [(0, 4), (N, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_of_any_size(spec, rows, size):
    assert model(spec.name).generate(np.zeros((rows, T), int), 0, size).shape == (rows, size)


@pytest.mark.parametrize(("start", "size", "error", "words"), [
    (V, 3, IndexError, f"start_id contains index {V}"),
    (-1, 3, IndexError, "start_id contains index -1"),
    (0, -1, ValueError, "sample_size is -1, expected >= 0"),
])
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_generate_refuses(spec, start, size, error, words):
    with pytest.raises(error, match=words):
        model(spec.name).generate(np.zeros((N, T), int), start, size)


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_backward_after_generate_asks_for_a_forward(spec):
    """``generate`` runs the same layers: a backward now would be of the last generated step."""
    seq2seq, ids = model(spec.name), np.zeros((N, T), int)
    seq2seq.forward(ids, ids)
    seq2seq.generate(ids, 0, 2)
    for backward in (seq2seq.backward, lambda: seq2seq.decoder.backward(np.zeros((N, T - 1, V)))):
        with pytest.raises(RuntimeError, match="used by itself since forward"):
            backward()


def test_attention_weights_are_on_offer():
    seq2seq, xs, ts = model("AttentionSeq2seq"), np.zeros((N, T), int), np.zeros((N, U), int)
    seq2seq.forward(xs, ts)
    weights = np.stack(seq2seq.attention_weights)
    assert weights.shape == (U - 1, N, T)
    assert_close(weights.sum(axis=2), np.ones((U - 1, N)), 2 * T)


# --- optimizers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0])
def test_adam_by_its_sums(scale):
    """m_t and v_t as the weighted sums that the recurrences stand for; 1e-7 matters at the smallest scale."""
    lr, b1, b2, steps = 0.1, 0.9, 0.99, 6
    start = rng().standard_normal(3)
    gradients = scale * rng(1).standard_normal((steps, 3))
    p, optimizer, expected = start.copy(), reference.Adam(lr, b1, b2), start.copy()
    for t in range(1, steps + 1):
        optimizer.update([p], [gradients[t - 1]])
        powers = np.arange(t)[::-1, None]
        m = ((1 - b1) * b1**powers * gradients[:t]).sum(axis=0)
        v = ((1 - b2) * b2**powers * gradients[:t] ** 2).sum(axis=0)
        expected -= lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + 1e-7)
        # a step of size lr or so takes some 10 roundings; 1 - b2^t loses the two digits of 1 / (1 - b2) = 100
        assert_close(p, expected, 10 * steps * 100, lr)


def test_sgd_steps_down_the_gradient():
    p, q = np.array([1.0, 2.0]), np.array([[4.0]])
    reference.SGD(lr=0.5).update([p, q], [np.array([2.0, -2.0]), np.array([[1.0]])])
    assert p.tolist() == [0, 3]
    assert q.tolist() == [[3.5]]


@pytest.mark.parametrize("optimizer", [reference.SGD(), reference.Adam()], ids=["SGD", "Adam"])
def test_optimizers_keep_float32(optimizer):
    p, g = np.ones(3, np.float32), np.ones(3, np.float32)
    optimizer.update([p], [g])
    assert p.dtype == np.float32
    assert (p < 1).all()
    assert (g == 1).all()


@pytest.mark.parametrize(("max_norm", "rate"), [(10, 1), (5.1, 1), (5, 5 / (5 + 1e-6)), (1, 1 / (5 + 1e-6))])
def test_clip_grads_scales_by_the_norm_of_all_together(max_norm, rate):
    grads = [np.array([3.0, 0]), np.array([[-4.0]])]
    assert reference.clip_grads(grads, max_norm) == 5
    assert np.array_equal(np.hstack([g.ravel() for g in grads]), np.array([3, 0, -4]) * rate)


def test_time_bilstm_may_be_made_stateful_afterwards():
    rng = np.random.default_rng(0)
    layer = reference.TimeBiLSTM(*(rng.standard_normal(s) for s in ((2, 12), (3, 12), 12) * 2))
    xs = rng.standard_normal((1, 2, 2))
    layer.stateful = True
    first = layer.forward(xs)
    assert layer.stateful and not np.array_equal(first, layer.forward(xs))
    layer.stateful = False
    assert not layer.stateful and np.array_equal(first, layer.forward(xs))


@pytest.mark.parametrize("name", ["TimeRNN", "TimeLSTM", "TimeGRU", "TimeBiLSTM"])
def test_a_kept_state_takes_the_dtype_of_bound_parameters(name):
    width = {"TimeRNN": 3, "TimeGRU": 9}.get(name, 12)
    shapes = ((2, width), (3, width), width) * (2 if name == "TimeBiLSTM" else 1)
    layer = getattr(reference, name)(*(np.ones(s) for s in shapes), stateful=True)
    xs = np.ones((1, 2, 2), np.float32)
    layer.forward(xs)
    layer.bind([p.astype(np.float32) for p in layer.params])
    assert layer.forward(xs).dtype == np.float32


@pytest.mark.parametrize("kind", [reference.SGD, reference.Adam])
@pytest.mark.parametrize("wrong", [[(3,)], [(3,), (2,), (2,)], [(3,), (1,)]], ids=["fewer", "more", "shape"])
def test_optimizers_refuse_lists_that_do_not_fit_before_anything_moves(kind, wrong):
    optimizer, params = kind(), [np.ones(3), np.ones(2)]
    right, other = ([np.ones(s) for s in shapes] for shapes in ([(3,), (2,)], wrong))
    for _ in range(2):  # before the first step and after it
        before, counted = [p.copy() for p in params], vars(optimizer).get("iter")
        with pytest.raises(ValueError, match=r"update: grads has shapes .*, expected \[\(3,\), \(2,\)\]"):
            optimizer.update(params, other)
        assert all(map(np.array_equal, before, params)) and vars(optimizer).get("iter") == counted
        optimizer.update(params, right)
    if kind is reference.Adam:
        before = [m.copy() for m in optimizer.m]
        with pytest.raises(ValueError, match=r"update: m has shapes"):
            optimizer.update(other, other)
        assert optimizer.iter == 2 and all(map(np.array_equal, before, optimizer.m))


def test_a_fit_that_raises_leaves_the_learning_rate():
    ids = np.random.default_rng(0).integers(1, 5, (10, 3))
    optimizer, bad = reference.SGD(0.5), ids.copy()
    bad[-1, -1] = 77
    trainer = reference.Trainer(reference.Seq2seq(5, 2, 3), optimizer, 1)
    with pytest.raises(IndexError):
        trainer.fit(ids, bad, 3, 1, decay=True, show_progress=False)
    assert trainer.losses and optimizer.lr == 0.5


@pytest.mark.parametrize("size", [1e19, 1e38], ids=["a loss", "a norm"])
def test_a_fit_that_diverges_says_so_and_takes_no_such_step(size):
    class Model:
        params = [np.ones(8, np.float32)]
        grads = [np.full(8, size, np.float32) if size > 1e20 else np.ones(8, np.float32)]
        backward = staticmethod(lambda: None)

        def forward(self, x, t):
            self.grads[0][...] = size * 3
            return np.nan if size < 1e20 else 1.0

    ids, model = np.ones((2, 3), int), Model()
    with pytest.raises(FloatingPointError, match=r"step 1 has a loss of .* norm (inf|0)"):
        reference.Trainer(model, reference.SGD()).fit(ids, ids, 1, 2, 1.0 if size > 1e20 else None, show_progress=False)
    assert (model.params[0] == 1).all()


@pytest.mark.parametrize("spec", [s for s in CATALOGUE.values() if choices(s)], ids=name_of)
def test_options_may_be_scalars_of_numpy(spec):
    """Which are strong: float64 beside an array of float32 gives float64."""
    case = standard(spec)
    data = case.data(lambda a: a.astype("float32"))
    options = {n: np.array(v)[()] if isinstance(v, (bool, int, float)) else v for n, v in case.options.items()}
    found, expected = (run_reference(c, data) for c in (replace(case, options=options), case))
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name


def test_a_mean_loss_of_many_rows_does_not_overflow_in_half_precision():
    x, t = np.zeros((30_000, 16), np.float16), np.zeros(30_000, int)
    for loss in (reference.SoftmaxWithLoss().forward(x, t),
                 reference.TimeSoftmaxWithLoss().forward(x[None], t[None])):
        assert loss.dtype == np.float16 and loss == np.float16(np.log(16))


def test_a_loss_of_no_label_is_zero_without_a_sign():
    loss = reference.TimeSoftmaxWithLoss(0).forward(np.ones((1, 2, 3)), np.zeros((1, 2), int))
    assert loss == 0 and not np.signbit(loss)
