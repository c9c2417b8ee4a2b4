"""Training on both sides, and the command ``parity-train``."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import reference
import torch_port
from reference.batches import batches
from reference.trainer import MODELS, Trainer, eval_seq2seq
from torch_port import train

FILES = ["attention.png", "curve.png", "log.jsonl", "model.safetensors"]
SMALL = ["--hidden-size", "16", "--batch-size", "32", "--epochs", "1"]


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """A small file of dates."""
    path = tmp_path_factory.mktemp("data") / "dates.txt"
    reference.write_dates(path, 300)
    return path


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """A task that is learnt in seconds: two letters in, the same out."""
    rng = np.random.default_rng(0)
    lines = ["".join(pair) for pair in rng.choice(list("abcdefgh"), (1500, 2))]
    path = tmp_path_factory.mktemp("data") / "echo.txt"
    path.write_text("".join(f"{text}_{text}\n" for text in lines), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command; gives exit code, both outputs and the folder it wrote to."""

    def run(*arguments, out="out"):
        code = train.main([*map(str, arguments), "--out", str(tmp_path / out)])
        return types.SimpleNamespace(code=code, folder=tmp_path / out, **capsys.readouterr()._asdict())

    return run


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_batches_are_all_rows_once_in_an_order_of_the_seed():
    order = batches(10, 4, np.random.default_rng(0))
    assert [len(rows) for rows in order] == [4, 4, 2]
    assert sorted(np.concatenate(order)) == list(range(10))
    again, rng = batches(10, 4, np.random.default_rng(0)), np.random.default_rng(0)
    assert all(np.array_equal(a, b) for a, b in zip(order, again, strict=True))
    assert not np.array_equal(np.concatenate(batches(10, 4, rng)), np.concatenate(batches(10, 4, rng)))
    assert batches(0, 4, rng) == []
    for size, batch_size in ((10, 0), (-1, 4)):
        with pytest.raises(ValueError, match="expected >="):
            batches(size, batch_size, rng)


@pytest.mark.parametrize("decay", [True, False], ids=["decay", "constant"])
def test_both_sides_train_on_the_same_batches(dates, run, decay):
    (x, t), _, vocabulary = reference.load_data(dates)
    result = run("--data", dates, *SMALL, "--epochs", 2, "--seed", 3, "--max-grad", 0.1, "--lr", 0.004,
                 "--no-plots", *([] if decay else ["--no-decay"]))
    assert result.code == 0
    weights = {}
    for seed in (3, 4):
        model = reference.AttentionSeq2seq(len(vocabulary.char_to_id), 16, 16, rng=np.random.default_rng(3))
        trainer = Trainer(model, reference.Adam(0.004), rng=seed)
        settings = {"batch_size": 32, "max_grad": 0.1, "decay": decay, "show_progress": False}
        for _ in range(1 if decay else 2):  # the textbook's loop calls it once an epoch
            trainer.fit(x[:, ::-1], t, 2 if decay else 1, **settings)
        assert trainer.optimizer.lr == 0.004
        weights[seed] = [p.copy() for p in model.params]
    reference.load_params(model, result.folder / "model.safetensors")

    def distance(params):
        return max(abs(a - b).max() for a, b in zip(params, model.params, strict=True))

    assert distance(weights[3]) < 1e-5 < 1e-3 < distance(weights[4])
    assert len(trainer.losses) == 2 * 9
    assert trainer.losses[-1] < trainer.losses[0]


def test_trainer_clips_and_counts_epochs_and_checks_rows():
    calls = []

    class Model:
        params, grads = [np.zeros(2)], [np.zeros(2)]

        def forward(self, x, t):
            calls.append(len(x))
            return 1.0

        def backward(self):
            self.grads[0][...] = 30, 40

    x = np.zeros((5, 3), dtype=int)
    for max_grad, expected in ((None, -50 * 0.01), (5.0, -5 * 0.01)):
        model = Model()
        model.params = [np.zeros(2)]
        Trainer(model, reference.SGD(), rng=0).fit(x, x, 1, 5, max_grad, show_progress=False)
        assert np.hypot(*model.params[0]) == pytest.approx(-expected, rel=1e-6)
    Trainer(Model(), reference.SGD()).fit(x, x, max_epoch=3, batch_size=2, show_progress=False)
    assert calls == [5, 5] + [2, 2, 1] * 3
    with pytest.raises(ValueError, match=r"t has shape \(4, 3\), expected 5 rows as in x \(5, 3\)"):
        Trainer(Model(), reference.SGD()).fit(x, x[:4], 1, 2)


class Parrot:
    """Answers with its question, but says 1 where that begins with 0."""

    def generate(self, xs, start_id, sample_size):
        assert start_id == 7 and len(xs) <= 4
        ids = xs[:, :sample_size].copy()
        ids[:, 0] = np.where(ids[:, 0] == 0, 1, ids[:, 0])
        return ids


def test_eval_seq2seq_counts_exact_matches_as_the_textbook_does(capsys):
    x = np.array([[i % 5, 2, 3] for i in range(10)])
    t = np.insert(x, 0, 7, axis=1)
    assert eval_seq2seq(Parrot(), x, t, batch_size=4) == 8
    assert [eval_seq2seq(Parrot(), x[[i]], t[[i]]) for i in range(3)] == [0, 1, 1]
    assert eval_seq2seq(Parrot(), x[:0], t[:0]) == 0
    assert capsys.readouterr().out == ""
    letters = dict(enumerate("abcdefg_"))
    eval_seq2seq(Parrot(), x[:2], t[:2], letters, True, True)
    assert capsys.readouterr().out == "Q dca\nT acd\n☒ bcd\n---\nQ dcb\nT bcd\n☑ bcd\n---\n"


def test_progress_shows_loss_speed_and_time_left(capsys):
    model = reference.Seq2seq(3, 2, 2)
    x = np.zeros((4, 3), dtype=int)
    Trainer(model, reference.SGD()).fit(x, x, 2, 2)
    out = capsys.readouterr().out
    assert "epoch 1/2" in out and "epoch 2/2" in out and "2/2 loss 1." in out
    assert re.search(r" [1-9][\d,]* tokens/s 0:00:00", out)


def test_the_command_learns_and_writes_everything(echo, run):
    result = run("--data", echo, "--hidden-size", 32, "--batch-size", 32, "--epochs", 4, "--lr", 0.01)
    assert result.code == 0 and result.err == ""
    assert sorted(os.listdir(result.folder)) == FILES
    for name in FILES[:2]:
        png = (result.folder / name).read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 5_000
    start, *records = log(result.folder)
    assert start["event"] == "start" and start["arguments"]["lr"] == 0.01 and start["training"] == 1350
    steps, epochs = ([r for r in records if r["event"] == event] for event in ("step", "epoch"))
    assert [r["epoch"] for r in epochs] == [1, 2, 3, 4] and steps[-1]["step"] == 4 * 43
    assert steps[-1]["loss"] < 0.1 < steps[0]["loss"]
    assert result.out.count("Q ") == 4 * train.SAMPLES and "☑" in result.out and "☒" in result.out
    assert f"{epochs[-1]['accuracy']:.2%} of 150 exactly right, no pair is unseen" in result.out
    # the reference, with the weights of the file, gives as many right answers
    _, (x, t), vocabulary = reference.load_data(echo)
    assert start["vocabulary"] == "".join(vocabulary.char_to_id)
    model = reference.AttentionSeq2seq(len(vocabulary.char_to_id), 16, 32)
    reference.load_params(model, result.folder / "model.safetensors")
    right = eval_seq2seq(model, x[:, ::-1], t)
    assert right / len(x) == epochs[-1]["accuracy"] > 0.95


def test_the_same_seed_gives_the_same_files(dates, run):
    a, b, c = (run("--data", dates, *SMALL, "--seed", seed, out=out).folder
               for out, seed in (("a", 1), ("b", 1), ("c", 2)))
    for name in ("model.safetensors", "curve.png", "attention.png"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert (a / "model.safetensors").read_bytes() != (c / "model.safetensors").read_bytes()


def test_dates_are_made_where_no_file_is_given(run, monkeypatch):
    monkeypatch.setattr(train, "write_dates", lambda path: reference.write_dates(path, 300))
    result = run(*SMALL, "--no-plots", "plain")
    assert result.code == 0
    assert sorted(os.listdir(result.folder)) == ["dates.txt", "log.jsonl", "model.safetensors"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("option", ["--init=torch", "--no-reverse", "--dtype=bfloat16", "--lr=0.01"])
def test_models_and_options_run_and_matter(dates, run, name, option):
    plain = run(name, "--data", dates, *SMALL, "--no-plots", out="plain")
    result = run(name, "--data", dates, *SMALL, "--no-plots", option)
    assert result.code == 0
    a, b = ((r.folder / "model.safetensors").read_bytes() for r in (plain, result))
    assert a != b
    assert isinstance(log(result.folder)[-1]["accuracy"], float)


def test_initial_weights():
    twin = train.build("attention", (50, 16, 64), "textbook", 5)
    model = reference.AttentionSeq2seq(50, 16, 64, rng=np.random.default_rng(5))
    assert all(np.array_equal(a, b) for a, b in zip(twin.reference_params(), model.params, strict=True))
    stock = train.build("attention", (50, 16, 64), "torch", 5)
    again = train.build("attention", (50, 16, 64), "torch", 5)
    assert all(torch.equal(a, b) for a, b in zip(stock.parameters(), again.parameters(), strict=True))
    assert 0.9 < stock.encoder.embed.weight.std() < 1.1
    lstm, affine = stock.decoder.lstm.rnn, stock.decoder.affine
    for weight, bound in ((lstm.weight_ih_l0, 64**-0.5), (affine.weight, 128**-0.5)):
        assert 0.95 * bound < weight.abs().max() <= bound
    assert not lstm.bias_hh_l0.any()
    assert 64**-0.5 < lstm.bias_ih_l0.abs().max() <= 2 * 64**-0.5  # the sum of two


def test_unseen_pairs_are_those_that_training_has_not():
    rng = np.random.default_rng(0)
    sets = [(rng.integers(0, 3, (n, 2)), rng.integers(0, 2, (n, 2))) for n in (20, 30)]
    known = {(*q, *a) for q, a in zip(*(ids.tolist() for ids in sets[0]), strict=True)}
    expected = [(*q, *a) not in known for q, a in zip(*(ids.tolist() for ids in sets[1]), strict=True)]
    assert 0 < sum(expected) < 30
    assert train.unseen(*sets).tolist() == expected


@pytest.mark.parametrize(("last", "events"), [(5, []), (14, ["step", "epoch"])], ids=["early", "later"])
def test_ctrl_c_keeps_what_was_done(dates, run, monkeypatch, last, events):
    steps = []

    def clip_grads(*arguments):
        steps.append(arguments)
        if len(steps) == last:
            raise KeyboardInterrupt
        return torch_port.clip_grads(*arguments)

    monkeypatch.setattr(train, "clip_grads", clip_grads)
    result = run("--data", dates, *SMALL, "--epochs", 3)
    assert result.code == 130 and result.err == ""
    assert sorted(os.listdir(result.folder)) == FILES
    start, *rest = log(result.folder)
    assert [r["event"] for r in rest] == [*events, "interrupted"]
    model = reference.AttentionSeq2seq(len(start["vocabulary"]), 16, 16, rng=np.random.default_rng(0))
    before = [p.copy() for p in model.params]
    reference.load_params(model, result.folder / "model.safetensors")
    assert all((a != b).any() for a, b in zip(before, model.params, strict=True))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process alone")
def test_ctrl_c_ends_the_process(dates, tmp_path):
    # a shell that runs the tests in the background makes them ignore the signal, and their children too
    code = """if True:
        import signal, sys, torch_port.train
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(torch_port.train.main())"""
    command = [sys.executable, "-c", code, "--data", dates, "--out", tmp_path / "out", *SMALL, "--no-plots",
               "--epochs", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 1:"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == ""
    assert log(tmp_path / "out")[-1]["event"] == "interrupted"


def test_a_loss_that_is_not_finite_ends_it_and_spares_the_weights(dates, run):
    good = run("--data", dates, *SMALL, "--no-plots")
    kept = (good.folder / "model.safetensors").read_bytes()
    bad = run("--data", dates, *SMALL, "--lr", 1e38)
    assert bad.code == 1 and bad.err.startswith("parity-train: loss ") and "try a smaller --lr" in bad.err
    assert (bad.folder / "model.safetensors").read_bytes() == kept
    assert [r["event"] for r in log(bad.folder)] == ["start"]


def file_of(text):
    def write(tmp_path):
        path = tmp_path / "data.txt"
        path.write_bytes(text)
        return ["--data", str(path)]

    return write


WRONG = {  # arguments, or a function of a folder that gives them; what the line has to say
    "model": (["transformer"], "invalid choice: 'transformer'"),
    "option": (["--hidden", "x"], "argument --hidden-size: invalid int value: 'x'"),
    "unknown": (["--foo"], "unrecognized arguments: --foo"),
    "zero": (["--batch-size", "0"], "argument --batch-size: '0', expected >= 1"),
    "rate": (["--lr", "-1"], "argument --lr: '-1', expected > 0"),
    "infinite": (["--max-grad", "inf"], "argument --max-grad: 'inf', expected > 0"),
    "no file": (["--data", "nowhere.txt"], "No such file or directory: 'nowhere.txt'"),
    "a folder": (lambda folder: ["--data", str(folder)], "Is a directory"),
    "no underscore": (file_of(b"12\n"), "line 1: no '_' in '12'"),
    "few lines": (file_of(b"1_2\n" * 9), "9 lines, expected at least 10"),
    "no answer": (file_of(b"1_\n" * 20), "1 + 0 characters beside '_', expected at least 1 + 1"),
    "no text": (file_of(b"\xff_1\n" * 20), "not UTF-8"),
    "tensorboard": (["--tensorboard"], "--tensorboard needs tensorboard: python -m pip install tensorboard"),
    "matplotlib": ([], "--plots needs matplotlib: python -m pip install matplotlib (or give --no-plots)"),
    "cuda": (["--device", "cuda"], "--device cuda: torch finds no CUDA device here"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line(case, run, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == case else find(name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(train.Run, "train", lambda self: pytest.fail("it began to train"))
    arguments, message = WRONG[case]
    result = run(*(arguments(tmp_path) if callable(arguments) else arguments))
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("parity-train: ") and result.err.count("\n") == 1
    assert message in result.err


def test_tensorboard_gets_loss_and_accuracy(dates, run, monkeypatch):
    points = []

    class SummaryWriter:
        def __init__(self, folder):
            self.add_scalar = lambda *point: points.append(point)
            self.close = lambda: points.append(folder)

    monkeypatch.setattr(train, "require", lambda *arguments: None)
    stub = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    result = run("--data", dates, *SMALL, "--no-plots", "--tensorboard")
    assert [point[0] for point in points[:-1]] == ["step/loss", "epoch/accuracy", "epoch/accuracy_unseen"]
    assert points[-1] == str(result.folder)


def test_accuracy_is_exact_match_overall_and_on_unseen_pairs(dates, run, monkeypatch, tmp_path):
    lines = dates.read_text(encoding="utf-8").splitlines(keepends=True)
    some_twice = tmp_path / "dates.txt"
    some_twice.write_text("".join(lines[:200] + lines[:100]), encoding="utf-8")

    def answer(generate, x, t):
        guess = t[:, 1:].copy()
        guess[::3, -1] = (guess[::3, -1] + 1) % 5  # one letter of each third answer
        return guess

    monkeypatch.setattr(train, "answer", answer)
    epoch = log(run("--data", some_twice, *SMALL, "--no-plots").folder)[-1]
    unseen = train.unseen(*reference.load_data(some_twice)[:2])
    assert 0 < unseen.sum() < 30
    right = np.arange(30) % 3 != 0
    assert epoch["accuracy"] == right.mean() == 2 / 3
    assert epoch["accuracy_unseen"] == right[unseen].mean()


@pytest.mark.parametrize("reverse", [True, False])
def test_heat_maps_stand_as_the_question_is_read(dates, tmp_path, monkeypatch, reverse):
    def look_at_the_first_id(x, t_in):
        weights = torch.zeros(x.shape)
        weights[:, 0] = 1
        model.attention_weights = [weights] * t_in.shape[1]

    drawn = []
    monkeypatch.setattr(train, "attention_maps", drawn.extend)
    arguments = ["--data", str(dates), "--out", str(tmp_path), "--reverse" if reverse else "--no-reverse"]
    job = train.Run(train.parser().parse_args(arguments))
    job.model = model = types.SimpleNamespace(score=look_at_the_first_id)
    job.heat_maps()
    _, (x, t), vocabulary = reference.load_data(dates)
    for (question, true, weights), ids, answer in zip(drawn, x, t, strict=False):
        assert question == "".join(vocabulary.id_to_char[i] for i in ids)
        assert true == "".join(vocabulary.id_to_char[i] for i in answer[1:])
        assert weights.shape == (len(true), len(question))
        assert (weights.argmax(axis=1) == (len(question) - 1 if reverse else 0)).all()
    assert len(drawn) == train.MAPS


def test_heat_maps_show_characters_on_both_axes(monkeypatch):
    figures = []
    monkeypatch.setattr(train, "png", lambda figure: figures.append(figure) or b"")
    weights = np.eye(2, 3)
    texts = [("abc", "xy"), ("abd", "xz"), ("abe", "yz")]
    train.attention_maps([(*pair, weights) for pair in texts])
    axes = figures[0].axes
    for ax, pair in zip(axes, texts, strict=False):
        labels = ax.get_xticklabels(), ax.get_yticklabels()
        assert tuple("".join(label.get_text() for label in side) for side in labels) == pair
        assert ax.yaxis_inverted()  # the answer reads downwards
    assert [len(ax.collections) for ax in axes] == [1, 1, 1, 0]
    assert np.array_equal(axes[0].collections[0].get_array().reshape(2, 3), weights)
