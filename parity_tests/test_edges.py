"""Files of arrays of any shape, layout and byte order; options at zero; what one call may not remember for the next."""

import itertools
import pickle

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.promises.common import arrays_of, standard, tensors, with_state
from parity.sides.textbook import build
from reference.weights import read_arrays, read_params, write_params
from torch_port.trained import Card, TrainedModel
from torch_port.training import data
from torch_port.training import run as training

from .test_untouched import in_use
from .untouched import untouched

# --- arrays in files ----------------------------------------------------------------------------------------

DTYPES = ("float16", "float32", "float64")
SHAPES = ((), (1,), (5,), (0,), (0, 3), (3, 0), (1, 1), (4, 3), (2, 3, 4))
LAID = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "of every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "backwards": lambda a: a[(slice(None, None, -1),) * a.ndim].copy()[(slice(None, None, -1),) * a.ndim]
    if a.ndim else a,
    "of one row": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    "of other bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a: np.frombuffer(a.tobytes() or b"", a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"." + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


def numbers(shape, dtype):
    """Values of a dtype, all of its edges among the first."""
    info = np.finfo(dtype)
    edges = [-0.0, info.max, -info.smallest_subnormal, info.smallest_normal, np.inf, np.nan, 1 + info.eps]
    a = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    a = np.array(a, order="C")
    flat = a.reshape(-1)
    flat[: len(edges)] = edges[: len(flat)]
    return a


def same(found, expected, dtype):
    """The same numbers, to the bit, whatever the order of their bytes."""
    return found.dtype.name == dtype and found.shape == expected.shape and \
        found.astype(dtype).tobytes() == expected.astype(dtype).tobytes()


@pytest.mark.parametrize("laid", LAID)
def test_arrays_are_written_and_read_as_they_are(tmp_path, laid):
    for dtype in DTYPES:
        arrays = {f"{number}.{shape}": LAID[laid](numbers(shape, dtype)) for number, shape in enumerate(SHAPES)}
        before = {name: (id(a), a.tobytes(), a.strides, a.dtype) for name, a in arrays.items()}
        write_params(tmp_path / "a.safetensors", arrays)
        narrow = {name: np.where(np.abs(a) > 60_000, a.dtype.type(1), a) for name, a in arrays.items()}
        narrow = {name: LAID[laid](np.asarray(a, dtype)) for name, a in narrow.items()}
        write_params(tmp_path / "a.pkl", narrow)
        assert {name: (id(a), a.tobytes(), a.strides, a.dtype) for name, a in arrays.items()} == before
        exact, halves = read_arrays(tmp_path / "a.safetensors"), read_arrays(tmp_path / "a.pkl")
        for (name, a), half in zip(arrays.items(), halves, strict=True):
            assert same(exact[name], a, dtype), f"{name} of {dtype}"
            assert same(half, narrow[name], "float16"), f"{name} of {dtype} in .pkl"
        for into in DTYPES[DTYPES.index(dtype) :]:
            for path, values in (("a.safetensors", arrays), ("a.pkl", narrow)):
                exactly = values if path.endswith("safetensors") else \
                    {name: a.astype(np.float16) for name, a in values.items()}
                expected = {name: LAID[laid](np.zeros(a.shape, into)) for name, a in values.items()}
                found = read_params(tmp_path / path, expected)
                assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, exactly.values(), strict=True))
                assert all(a.dtype == b.dtype for a, b in zip(found, expected.values(), strict=True))


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("laid", LAID)
def test_pickles_of_others_are_read_as_they_are(tmp_path, laid, protocol):
    for dtype in DTYPES:
        arrays = [LAID[laid](numbers(shape, dtype)) for shape in SHAPES]
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol=protocol))
        assert all(same(found, a, dtype) for found, a in zip(read_arrays(tmp_path / "a.pkl"), arrays, strict=True))


LAYERS = [spec for spec in CATALOGUE.values() if spec.side == "textbook" and (spec.params or spec.size_arguments)]


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_a_refused_file_changes_nothing(tmp_path, spec):
    case = standard(spec, **with_state(spec))
    layer = build(spec, case.options, given := arrays_of(case, "float32"))
    layer.forward(*given.inputs.values())
    module = spec.port_class.from_reference(layer)
    module(*tensors(given.inputs))
    in_use(module)
    params = dict(zip(layer.param_names, [p + 1 for p in layer.params], strict=True))
    *_, last = params
    wide = params[last].astype(np.float64)
    wide.flat[-1] += 2.0**-40
    for number, wrong in enumerate(({last: wide}, {last: params[last][..., None]}, {f"{last}x": params[last]},
                                    {last: params[last][..., :-1]})):
        path = tmp_path / f"{number}.safetensors"
        write_params(path, params | wrong)
        for load, into in ((reference.load_params, layer), (torch_port.load_params, module)):
            with untouched(into), pytest.raises(ValueError, match=f"{number}.safetensors: "):
                load(into, path)
    for wrong in ([*params.values()][:-1], [*params.values(), params[last]], [p[..., None] for p in params.values()]):
        with untouched(module), pytest.raises(ValueError, match="load_reference_params"):
            module.load_reference_params(wrong)


# --- zero is a value ----------------------------------------------------------------------------------------


def test_a_seed_of_zero_is_a_seed(tmp_path):
    rng = np.random.default_rng(0)
    x, t = rng.integers(0, 5, (20, 3)), rng.integers(0, 5, (20, 3))
    losses = {}
    for seed in (0, np.random.default_rng(0), 1, None, None):
        model = reference.Seq2seq(5, 2, 3, rng=np.random.default_rng(7))
        trainer = reference.Trainer(model, reference.SGD(0.5), rng=seed)
        losses.setdefault(str(seed)[:9], []).append(trainer.fit(x, t, 2, 3, show_progress=False).losses)
    assert losses["0"] == losses["Generator"] and losses["0"] != losses["1"]
    assert losses["None"][0] != losses["None"][1] != losses["0"][0]
    for init, sides in itertools.product(("torch", "textbook"), (1, 2)):
        made = []
        for seed in (0, 0, 1):
            torch.manual_seed(sides)  # whatever the caller's is
            made.append(training.build("attention", (5, 2, 3), init, seed).state_dict())
        equal = [all(map(torch.equal, made[0].values(), other.values())) for other in made[1:]]
        assert equal == [True, False], f"{init}: weights of seed 0, again, and of seed 1"
    for seed in (0, 5):
        model = training.build("attention", (5, 2, 3), "torch", seed)
        torch.manual_seed(seed)
        first = torch_port.to_stock(model.encoder.embed)
        first.reset_parameters()
        assert torch.equal(model.encoder.embed.weight, first.weight), f"--seed {seed} is another seed"
    assert reference.data.date_lines(9, 0) == reference.data.date_lines(9) != reference.data.date_lines(9, 1)


def test_learning_rates_and_epochs_of_zero_are_none():
    x, t = (np.random.default_rng(seed).integers(0, 5, (8, 3)) for seed in (0, 1))
    for make, how in ((lambda: reference.SGD(0.0), {}), (lambda: reference.Adam(0.0), {"decay": True}),
                      (lambda: reference.SGD(0.5), {"max_epoch": 0}), (lambda: reference.SGD(0.5), {"max_grad": 0.0})):
        model = reference.Seq2seq(5, 2, 3, rng=np.random.default_rng(0))
        before, optimizer = [p.copy() for p in model.params], make()
        lr = optimizer.lr
        trainer = reference.Trainer(model, optimizer, 0).fit(x, t, **{"max_epoch": 2, **how}, show_progress=False)
        assert all(map(np.array_equal, before, model.params)) and optimizer.lr == lr
        assert bool(trainer.losses) == (how.get("max_epoch") != 0)


# --- one call after another ---------------------------------------------------------------------------------


def unsure(kind, questions):
    """A model whose answers change with the beam, and its card."""
    card = Card(kind, 4, 5, "abc_ ", 4, 5, True)
    for seed in range(100):
        torch.manual_seed(seed)
        model = card.build()
        for p in model.parameters():
            torch.nn.init.normal_(p)
        answers = TrainedModel(model, card)
        if answers(questions) != answers(questions, 4):
            return model, card
    raise AssertionError("all are sure")


@pytest.mark.parametrize("kind", ["attention", "peeky", "plain"])
def test_an_answer_is_that_of_its_beam_and_of_the_weights_of_now(kind):
    questions = ["ab", "cab", "ab", "b", "ccba", "a"]
    model, card = unsure(kind, questions)
    kept = TrainedModel(model, card)
    greedy = kept.answers(questions)
    for beam in (1, 4, 1, 2, 4, 3, 1):
        found = kept.answers(questions, beam)
        assert found == TrainedModel(model, card).answers(questions, beam)
        assert [a.text for a in found] == kept(questions, beam)
        assert found[0] == found[2]
        if kind == "attention":
            assert [said.rstrip() for _, said, _ in kept.look(questions, beam)] == [a.text for a in found]
    with torch.no_grad():
        next(model.parameters()).neg_()
    assert kept.answers(questions) == TrainedModel(model, card).answers(questions) != greedy


def test_pairs_that_share_a_question_are_pairs_of_their_own(tmp_path):
    """Answers to one question, some of them in training: each counts by itself, in training and in validation."""
    lines = [f"{q}_{a}" for q in "ab" for a in "0123456789"] * 2
    (tmp_path / "pairs").write_text("\n".join(lines))
    found = data.load(str(tmp_path / "pairs"), False)
    rows = [list(zip(*(map(tuple, ids.tolist()) for ids in pairs), strict=True)) for pairs in (found.train, found.test)]
    assert sorted(rows[0] + rows[1]) == sorted((*rows[0], *rows[1])) and len(rows[0]) + len(rows[1]) == 40
    assert found.unseen.tolist() == [row not in rows[0] for row in rows[1]]
    letters = found.characters
    assert sorted("".join(letters[i] for i in (*q, *a)) for q, a in rows[0] + rows[1]) == sorted(lines)
    (tmp_path / "pairs").write_text("\n".join(lines[:20]))  # each once
    found = data.load(str(tmp_path / "pairs"), False)
    assert found.unseen.all() and {tuple(q) for q in found.test[0].tolist()} <= {tuple(q) for q in
                                                                               found.train[0].tolist()}
