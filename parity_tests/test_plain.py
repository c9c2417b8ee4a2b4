"""Data, weights and training held against plain recomputations: each says again, in few words, what it should be."""

import copy
import io
import itertools
import json
import pickle

import numpy as np
import pytest
import safetensors.numpy
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.promises.common import arrays_of, standard
from parity.sides.textbook import build
from reference.batches import batches
from reference.data import MONTHS, WEEKDAYS, date_lines, encode_lines, load_data, write_atomically, write_dates
from reference.trainer import Trainer, answer, eval_seq2seq
from torch_port import train
from torch_port.predict import lines_of
from torch_port.training import data
from torch_port.training import run as training

AROUND = [2**k + d for k in range(3, 14) for d in (-1, 0, 1)]  # sizes past each of which something may begin
ENDS = {"newline": "\n", "return-newline": "\r\n", "return": "\r"}


# --- the data set -------------------------------------------------------------------------------------------


def encoded(lines, seed, pad=None):
    """What ``encode_lines`` gives: ids of questions and answers, how many of them are for training, and the letters."""
    pairs = [(line.split("_", 1)[0], "_" + line.split("_", 1)[1]) for line in lines]
    if pad is not None:
        widest = [max(len(pair[i]) for pair in pairs) for i in (0, 1)]
        pairs = [tuple(text + pad * (width - len(text)) for text, width in zip(pair, widest, strict=True))
                 for pair in pairs]
    letters = []
    known = set()
    for text in itertools.chain.from_iterable(pairs):
        for letter in text:
            if letter not in known:
                known.add(letter)
                letters.append(letter)
    place = {letter: i for i, letter in enumerate(letters)}
    rows = list(range(len(lines)))
    if seed is not None:
        np.random.RandomState(seed).shuffle(rows)
    ids = [[[place[c] for c in pairs[row][i]] for row in rows] for i in (0, 1)]
    return ids, len(rows) - len(rows) // 10, letters


def is_encoded(found, lines, seed, pad=None):
    (x, t), (x_test, t_test), vocabulary = found
    (questions, answers), split, letters = encoded(lines, seed, pad)
    assert {a.dtype.name for a in (x, t, x_test, t_test)} == {"int64"}
    assert x.tolist() == questions[:split] and x_test.tolist() == questions[split:]
    assert t.tolist() == answers[:split] and t_test.tolist() == answers[split:]
    assert list(vocabulary.char_to_id.items()) == [(c, i) for i, c in enumerate(letters)]
    assert list(vocabulary.id_to_char.items()) == list(enumerate(letters))


@pytest.mark.parametrize("seed", [1984, None, 0])
def test_sets_of_all_sizes_are_encoded_as_said(seed):
    rng = np.random.default_rng(0)
    every = ["".join(rng.choice(list("abcdefghij "), 4)) + "_" + "".join(rng.choice(list("0123_"), 3))
             for _ in range(max(AROUND))]
    before = np.random.get_state()[1].tobytes()
    for size in (1, 2, 9, 10, 11, 19, 20, 99, 100, 101, 999, 1000, 1001, *AROUND):
        is_encoded(encode_lines(every[:size], seed), every[:size], seed)
    assert np.random.get_state()[1].tobytes() == before


def test_as_many_characters_as_there_are_keep_their_ids():
    letters = [chr(c) for c in range(0x20, 0x11_0000) if chr(c) != "_" and not 0xD800 <= c <= 0xDFFF][:70_000]
    lines = ["".join(letters[i : i + 7]) + "_" + "".join(letters[i + 7 : i + 10]) for i in range(0, 70_000, 10)]
    found = encode_lines(lines, 3)
    is_encoded(found, lines, 3)
    assert max(found[2].id_to_char) == 70_000  # and the one that begins an answer


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_a_file_means_the_same_whatever_ends_its_lines(tmp_path, end, last, mark):
    lines = [f"{a}\u2028{b}\x0b{c}_{c}\x85{b}\x1c" for a in "aäß𝄞" for b in "xyz" for c in "0123456789" * 40]
    text = ENDS[end].join(lines) + (ENDS[end] if last else "")
    (tmp_path / "pairs").write_bytes(mark + text.encode())
    is_encoded(load_data(tmp_path / "pairs"), lines, 1984)
    is_encoded(load_data(str(tmp_path / "pairs"), None), lines, None)
    assert data.load(str(tmp_path / "pairs"), False).characters == "".join(encoded(lines, None)[2])


@pytest.mark.parametrize("pad", [" ", "x", "*"])
def test_shorter_ones_are_filled_up_at_their_end(pad):
    rng = np.random.default_rng(1)
    lines = ["x" * int(rng.integers(0, 9)) + "_" + "y" * int(rng.integers(0, 4)) for _ in range(300)]
    is_encoded(encode_lines(lines, 5, pad), lines, 5, pad)


def test_a_file_is_read_anew_each_time_and_what_was_read_is_the_callers_own(tmp_path):
    (tmp_path / "pairs").write_text("ab_1\ncd_2\n" * 10)
    first = load_data(tmp_path / "pairs")
    again = load_data(tmp_path / "pairs")
    for arrays in zip((*first[0], *first[1]), (*again[0], *again[1]), strict=True):
        arrays[0][...] = 77
        assert 77 not in arrays[1]
    assert 77 not in load_data(tmp_path / "pairs")[0][0]
    (tmp_path / "pairs").write_text("ef_3\ngh_4\n" * 10)  # of the same size
    assert "e" in load_data(tmp_path / "pairs")[2].char_to_id


def test_dates_of_all_sizes_are_the_draws_of_their_seed(tmp_path):
    for size, seed in ((1, 0), (2, 7), (255, 1), (256, 1), (257, 1), (1025, 2), (4097, 3), (66_000, 4)):
        rng = np.random.default_rng(seed)
        days = rng.integers(0, 17_532, size)
        styles, cases = (rng.integers(0, 4, size) for _ in range(2))
        lines = []
        for number, style, case in zip(days.tolist(), styles.tolist(), cases.tolist(), strict=True):
            day = np.datetime64("1970-01-01") + number
            year, month, date = map(int, str(day).split("-"))
            name, weekday = MONTHS[month - 1], WEEKDAYS[(number + 3) % 7]  # 1970 began on a Thursday
            text = [f"{month}/{date}/{str(year)[2:]}", f"{name[:3]} {date}, {year}", f"{name} {date}, {year}",
                    f"{weekday}, {name} {date}, {year}"][style]
            text = [text, text, text.lower(), text.upper()][case]
            lines.append(text + " " * (29 - len(text)) + "_" + str(day))
        assert date_lines(size, seed) == lines
    write_dates(tmp_path / "dates", 66_000, 4)
    assert (tmp_path / "dates").read_bytes() == ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65_537, 3_000_000])
def test_bytes_are_written_as_they_are(tmp_path, size):
    content = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8).tobytes() + b"\r\n\x1a\n"
    for path in (tmp_path / "file", str(tmp_path / "other")):
        for text in (content, content[::-1]):
            write_atomically(path, text)
            with open(path, "rb") as file:
                assert file.read() == text


# --- batches, the trainer, evaluation -----------------------------------------------------------------------


def test_batches_of_all_sizes_are_one_permutation_cut():
    for size in (0, 1, 2, 3, 10, *AROUND, 2**16 - 1, 2**16, 2**16 + 1):
        for batch_size in (1, 7, 32, 128, max(size, 1), size + 1) if size < 3000 else (32, 1000, size):
            rng, plain = np.random.default_rng(size), np.random.default_rng(size)
            order = plain.permutation(size)
            found = batches(size, batch_size, rng)
            assert {rows.dtype.name for rows in found} <= {"int64"}
            assert [len(rows) for rows in found[:-1]] == [batch_size] * (len(found) - 1)
            assert np.array_equal(np.concatenate(found) if found else [], order)
            assert rng.random() == plain.random()


class Quadratic:
    """loss = mean over the rows of (row of W - t)^2 in float64; ids choose the rows."""

    def __init__(self):
        self.params, self.grads = [np.linspace(-1, 1, 5000), np.ones(3)], [np.zeros(5000), np.zeros(3)]

    def forward(self, x, t):
        self.x, self.t = x[:, 0], t[:, 0]
        self.apart = self.params[0][self.x] - self.t
        return np.mean(self.apart**2) + np.sum(self.params[1] ** 2)

    def backward(self):
        self.grads[0][...] = 0
        np.add.at(self.grads[0], self.x, 2 * self.apart / len(self.x))
        self.grads[1][...] = 2 * self.params[1]


@pytest.mark.parametrize("decay", [True, False], ids=["decay", "constant"])
@pytest.mark.parametrize("max_grad", [None, 0.0, 0.75, 1e9])
def test_the_trainer_is_a_plain_loop(decay, max_grad):
    for rows, batch_size, epochs in ((1, 1, 3), (5, 2, 4), (7, 7, 2), (6, 9, 3), (257, 16, 3), (1025, 8, 2),
                                     (40, 32, 0), (0, 4, 2)):
        for make in (lambda: reference.SGD(0.05), lambda: reference.Adam(0.01)):
            rng = np.random.default_rng(rows)
            x, t = rng.integers(0, 5000, (rows, 3)), rng.integers(-3, 4, (rows, 2))
            before = x.copy(), t.copy()
            trainer = Trainer(Quadratic(), make(), rng=3)
            plain, model, optimizer, losses = np.random.default_rng(3), Quadratic(), make(), []
            for _ in range(2):  # the order moves on from fit to fit
                lr, step = optimizer.lr, 0
                steps = epochs * -(-rows // batch_size)
                for _ in range(epochs):
                    order = plain.permutation(rows)
                    for first in range(0, rows, batch_size):
                        some = order[first : first + batch_size]
                        losses.append(float(model.forward(x[some], t[some])))
                        model.backward()
                        if max_grad is not None:
                            norm = np.sqrt(sum((g * g).sum() for g in model.grads))
                            for g in model.grads:
                                g *= min(1, max_grad / (norm + 1e-6))
                        optimizer.lr = lr * (1 - step / steps) if decay else lr
                        optimizer.update(model.params, model.grads)
                        step += 1
                optimizer.lr = lr
                given = trainer.fit(x, t, epochs, batch_size, max_grad, decay=decay, show_progress=False)
                assert given is trainer and trainer.optimizer.lr == lr
                assert trainer.losses == losses and {type(loss) for loss in trainer.losses} <= {float}
                assert all(map(np.array_equal, trainer.model.params, model.params))
            assert np.array_equal(before[0], x) and np.array_equal(before[1], t)


def test_the_textbooks_defaults_of_the_trainer():
    x, seen = np.zeros((70, 2), dtype=int), []

    class Model(Quadratic):
        def forward(self, x, t):
            seen.append(len(x))
            return super().forward(x, t)

    Trainer(Model(), reference.SGD()).fit(x, x, show_progress=False)
    assert seen == [32, 32, 6] * 10


class Told:
    """Answers from a table, by the first id of a question; at most so many at a time."""

    def __init__(self, table, most):
        self.table, self.most, self.seen = table, most, []

    def generate(self, xs, start_id, sample_size):
        self.seen.append(len(xs))
        assert start_id == 7 and len(xs) <= self.most
        return self.table[xs[:, 0], :sample_size]


def test_evaluation_counts_every_row_once_in_chunks_of_any_size(capsys):
    rng = np.random.default_rng(0)
    for rows, chunk in ((0, 4), (1, 1), (1, 4), (4, 4), (5, 4), (7, 4), (999, None), (1000, None), (1001, None),
                        (2003, None), (2003, 250), (130, 128)):
        table = rng.integers(0, 9, (rows, 5))
        correct = np.concatenate((np.full((rows, 1), 7), table), axis=1)
        question = np.arange(rows)[:, None].repeat(3, axis=1)
        for wrong in ([], [0], [rows - 1], [*range(0, rows, 2)], [*range(rows - rows % (chunk or 1000), rows)]):
            places = [row for row in wrong if 0 <= row < rows]
            given = correct.copy()
            for row, column in zip(places, itertools.cycle((1, 5, 3)), strict=False):
                given[row, column] += 1  # the first, the last, one between
            how = {} if chunk is None else {"batch_size": chunk}
            model = Told(table, chunk or 1000)
            right = eval_seq2seq(model, question, given, **how)
            assert right == rows - len(places) and type(right) is int
            assert sum(model.seen) == rows and len(model.seen) == -(-rows // (chunk or 1000))
            assert np.array_equal(answer(model.generate, question, given, **how), table)
    eval_seq2seq(Told(table, 1000), question[:23], correct[:23], dict(enumerate("abcdefghij" * 13)), True, batch_size=5)
    assert capsys.readouterr().out.count("---\n") == 23


# --- weights ------------------------------------------------------------------------------------------------

WITH_PARAMETERS = [spec for spec in CATALOGUE.values()
                   if spec.side == "textbook" and (spec.params or spec.size_arguments)]
ORDERS = {"C": np.ascontiguousarray, "F": np.asfortranarray, "sliced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
          "reversed": lambda a: a[::-1].copy()[::-1], "swapped": lambda a: a.astype(a.dtype.newbyteorder())}


def layer_of(spec, dtype, seed=0):
    case = standard(spec, seed)
    return build(spec, case.options, arrays_of(case, dtype))


@pytest.mark.parametrize("spec", WITH_PARAMETERS, ids=lambda spec: spec.name)
def test_every_layer_is_saved_in_its_own_dtype_and_any_memory_order(tmp_path, spec):
    for dtype, (order, laid) in itertools.product(("float16", "float32", "float64"), ORDERS.items()):
        layer = layer_of(spec, dtype)
        layer.bind([laid(p) for p in layer.params])
        path = tmp_path / f"{order}-{dtype}.safetensors"
        reference.save_params(layer, path)
        file = safetensors.numpy.load_file(path)
        assert {a.dtype.name for a in file.values()} == {dtype}
        assert file.keys() == set(layer.param_names)
        assert all(np.array_equal(file[n], p) for n, p in zip(layer.param_names, layer.params, strict=True))
        other = layer_of(spec, dtype, seed=1)
        other.bind([ORDERS["F"](p) for p in other.params])
        own = list(other.params)
        reference.load_params(other, path)
        assert all(a is b for a, b in zip(own, other.params, strict=True))
        assert all(map(np.array_equal, other.params, layer.params))
        twin = spec.port_class.from_reference(layer_of(spec, dtype, seed=1))
        torch_port.load_params(twin, path)
        assert all(a.dtype == dtype and np.array_equal(a, p) for a, p in
                   zip(twin.reference_params(), layer.params, strict=True))
        for p in twin.parameters():
            p.data = p.data.T.contiguous().T if p.ndim == 2 else torch.stack((p.data, p.data), 1)[:, 0]
        torch_port.save_params(twin, tmp_path / "twin.safetensors")
        again = safetensors.numpy.load_file(tmp_path / "twin.safetensors")
        assert again.keys() == file.keys()
        assert all(again[n].dtype == dtype and np.array_equal(again[n], file[n]) for n in file)


@pytest.mark.parametrize("side", ["reference", "port"])
def test_what_a_narrower_dtype_would_round_is_noticed(tmp_path, side):
    spec = CATALOGUE["Affine"]
    for wide, narrow in (("float64", "float32"), ("float32", "float16"), ("float64", "float16")):
        source, target = layer_of(spec, wide), layer_of(spec, narrow, seed=1)
        module = spec.port_class.from_reference(target)
        into = target if side == "reference" else module
        load = reference.load_params if side == "reference" else torch_port.load_params
        for scale, fits in ((1.0, False), (0.0, True)):
            source.bind([np.round(8 * p) / 8 if fits else p * scale for p in layer_of(spec, wide).params])
            reference.save_params(source, tmp_path / "w.safetensors")
            before = [p.copy() for p in (target.params if side == "reference" else module.reference_params())]
            if fits:
                load(into, tmp_path / "w.safetensors")
            else:
                with pytest.raises(ValueError, match=f"holds {wide} values that {narrow}"):
                    load(into, tmp_path / "w.safetensors")
            after = target.params if side == "reference" else module.reference_params()
            assert all(map(np.array_equal, after, source.params if fits else before))
        one = layer_of(spec, wide)
        for p in one.params:
            p[...] = np.round(8 * p) / 8
        one.params[-1].flat[-1] = 1 + np.finfo(wide).eps  # a single number, the last
        reference.save_params(one, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match="would round"):
            load(into, tmp_path / "w.safetensors")


def test_the_textbooks_pickle_is_a_list_of_rounded_halves(tmp_path):
    model = reference.AttentionSeq2seq(70, 20, 40, dtype=np.float64, rng=np.random.default_rng(0))
    model.bind([ORDERS["F"](p) for p in model.params])
    model.params[0].flat[:3] = -0.0, 65504.0, 6e-8
    for save, what in ((reference.save_params, model), (torch_port.save_params,
                                                        torch_port.AttentionSeq2seq.from_reference(model))):
        save(what, tmp_path / "w.pkl")
        with open(tmp_path / "w.pkl", "rb") as file:
            found = pickle.load(file)  # written here a moment ago
        assert [a.dtype.name for a in found] == ["float16"] * len(model.params)
        assert all(a.tobytes() == p.astype(np.float16).tobytes() for a, p in zip(found, model.params, strict=True))
    other = reference.AttentionSeq2seq(70, 20, 40, rng=np.random.default_rng(1))
    reference.load_params(other, tmp_path / "w.pkl")
    assert all(np.array_equal(a, p.astype(np.float16).astype(np.float32))
               for a, p in zip(other.params, model.params, strict=True))
    reference.save_params(other, tmp_path / "w.safetensors")
    other.params[0][0, 0] += 1
    reference.save_params(other, tmp_path / "w.safetensors")  # over the former
    again = reference.AttentionSeq2seq(70, 20, 40, rng=np.random.default_rng(1))
    reference.load_params(again, tmp_path / "w.safetensors")
    assert all(map(np.array_equal, again.params, other.params))


# --- parity-train -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    """2,710 pairs of two lengths, of which 271 are kept: more than are decoded together, and a remainder."""
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list("abcd"), n)) + "_" + "dcba"[: 1 + n % 3] for n in rng.integers(2, 5, 2710)]
    path = tmp_path_factory.mktemp("data") / "ragged.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("options", "init", "decay", "reverse"), [
    ([], "torch", True, True),
    (["--init=textbook", "--no-decay", "--no-reverse"], "textbook", False, False),
], ids=["usual", "other"])
def test_a_training_run_is_a_plain_loop(ragged, tmp_path, monkeypatch, capsys, options, init, decay, reverse):
    epochs, size, lr, most = 3, 64, 0.01, 0.5
    rates = []
    step = torch_port.Adam.step
    monkeypatch.setattr(torch_port.Adam, "step",
                        lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a))
    assert train.main(["--data", str(ragged), "--out", str(tmp_path / "out"), "--hidden-size=8", "--wordvec-size=4",
                       f"--batch-size={size}", f"--epochs={epochs}", f"--lr={lr}", f"--max-grad={most}", "--seed=5",
                       "--no-plots", *options]) == 0
    capsys.readouterr()
    monkeypatch.undo()
    (ids, answers), split, letters = encoded(ragged.read_text().split("\n")[:-1], 1984, " ")
    x, t = (torch.tensor(a) for a in (ids, answers))
    x = x.flip(1) if reverse else x
    torch.set_num_threads(1)
    model = training.build("attention", (len(letters), 4, 8), init, 5)
    optimizer, rng = torch_port.Adam(model.parameters(), lr=lr), np.random.default_rng(5)
    expected, points, accuracy, scores = [], [], [], []
    steps = epochs * -(-split // size)
    for _ in range(epochs):
        order, losses = rng.permutation(split), []
        for number, first in enumerate(range(0, split, size), 1):
            rows = torch.from_numpy(order[first : first + size])
            expected.append(lr * (1 - len(expected) / steps) if decay else lr)
            optimizer.param_groups[0]["lr"] = expected[-1]
            loss = model(x[rows], t[rows])
            optimizer.zero_grad()
            loss.backward()
            torch_port.clip_grads(model.parameters(), most)
            optimizer.step()
            losses.append(loss.item())
            if number % 20 == 0 or first + size >= split:
                points.append((len(expected), np.mean(losses)))
                losses = []
        with torch.no_grad():
            guess = model.generate(x[split:], int(t[0, 0]), t.shape[1] - 1)
        accuracy.append((guess == t[split:, 1:]).all(1).float().mean().item())
        scores.append(copy.deepcopy(model.state_dict()))
    assert rates == expected
    records = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["accuracy"] for r in records if r["event"] == "epoch"] == pytest.approx(accuracy, abs=1e-6)
    said = [(r["step"], r["loss"]) for r in records if r["event"] == "step"]
    assert [step for step, _ in said] == [step for step, _ in points]
    # a mean of 20 numbers of float32, in another order
    assert [loss for _, loss in said] == pytest.approx([loss for _, loss in points], rel=2e-6)
    last = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    best = max(range(epochs), key=lambda e: (accuracy[e], e))
    for found, wanted in ((last["model"], scores[-1]), (torch_port.load_model(tmp_path / "out").model.state_dict(),
                                                        scores[best])):
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)  # bit for bit


def test_answers_come_in_the_order_of_the_questions_however_many(ragged):
    torch.manual_seed(0)
    letters = "".join(encoded(ragged.read_text().split("\n")[:-1], None, " ")[2])
    card = torch_port.trained.Card("attention", 4, 8, letters, 3, 4, True)
    model = torch_port.trained.TrainedModel(torch_port.AttentionSeq2seq(len(letters), 4, 8), card)
    for p in model.model.parameters():
        torch.nn.init.normal_(p)
    rng = np.random.default_rng(0)
    questions = ["".join(rng.choice(list("abcd"), n)) for n in rng.integers(1, 6, 600)]  # of three lengths, when filled
    together = model.answers(questions)
    for place in (0, 1, 249, 250, 251, 499, 500, 501, 598, 599):
        (alone,) = model.answers([questions[place]])
        assert together[place].text == alone.text and together[place].score == pytest.approx(alone.score, rel=1e-4)
    looks = model.look(questions)
    assert [read.rstrip(" ") for read, _, _ in looks] == questions
    assert [said.rstrip(" ") for _, said, _ in looks] == [answer.text for answer in together]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_lines_are_those_of_the_file_wherever_it_is_cut(end, last):
    class Slow(io.BytesIO):
        """A file that gives as many bytes at a time as it likes."""

        def __init__(self, content, most):
            super().__init__(content)
            self.most = most

        def read1(self, size=-1):
            return super().read(min(size, self.most))

    mark = b"\xef\xbb\xbf"
    for most, before, wide in ((1, mark, 9), (2, mark, 9), (3, mark, 9), (2, b"", 9), (1 << 16, mark, 1 << 16),
                               (1 << 16, b"", 1 << 16), (1 << 20, mark, 1 << 16)):
        texts = [b"a" * n for n in (3, 0, 1, wide - 3, 2, wide + 5000, 0, 5)]
        content = before + end.join(texts) + (end if last else b"")
        found = [line for some in lines_of(Slow(content, most)) for line in some]
        assert found == texts, most
