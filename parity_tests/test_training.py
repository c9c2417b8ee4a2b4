"""Training on both sides, and the command ``parity-train``."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
import tomllib
import types

import numpy as np
import pytest
import torch
import torch._dynamo

import reference
import torch_port
from reference.batches import batches
from reference.trainer import MODELS, Trainer, eval_seq2seq, progress
from torch_port import train
from torch_port.training import data, pictures, settings
from torch_port.training import run as training
from torch_port.training.process import Screen, printable

from . import figures

FILES = ["attention.png", "best.pt", "curve.png", "last.pt", "log.jsonl", "model.json", "model.safetensors",
         "settings.toml"]
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
                 "--init", "textbook", "--no-plots", *([] if decay else ["--no-decay"]))
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


def test_without_a_terminal_progress_is_lines(capsys):
    model = reference.Seq2seq(3, 2, 2)
    x = np.zeros((40, 3), dtype=int)
    Trainer(model, reference.SGD()).fit(x, x, 2, 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 10 and "\x1b" not in "".join(lines)
    assert re.fullmatch(r"epoch 1/2  2/20  loss 1\.\d{4}  [1-9][\d,]* tokens/s  0:00:00 left", lines[0])
    assert lines[-1].startswith("epoch 2/2  20/20  loss ")


def test_progress_goes_on_while_the_clock_stands_still(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    said = []
    with progress("epoch", 10, say=said.append) as advance:
        for _ in range(10):
            advance(3, 0.5)
    assert len(said) == 10 and said[-1].startswith("epoch  10/10  loss 0.5000  ")


def test_on_a_terminal_progress_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    x = np.zeros((4, 3), dtype=int)
    Trainer(reference.Seq2seq(3, 2, 2), reference.SGD()).fit(x, x, 1, 2)
    out = capsys.readouterr().out
    assert "━" in out and "2/2" in out and "tokens/s" in out and " left" not in out


def test_the_command_learns_and_writes_everything(echo, run):
    result = run("--data", echo, "--hidden-size", 32, "--batch-size", 32, "--epochs", 4, "--lr", 0.01)
    assert result.code == 0 and result.err == ""
    assert sorted(os.listdir(result.folder)) == FILES
    assert result.out.splitlines()[-1] == "written: " + ", ".join(str(result.folder / name) for name in FILES)
    for name in ("attention.png", "curve.png"):
        png = (result.folder / name).read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 5_000
    start, *records = log(result.folder)
    assert start["event"] == "start" and start["settings"]["lr"] == 0.01 and start["training"] == 1350
    steps, epochs = ([r for r in records if r["event"] == event] for event in ("step", "epoch"))
    assert [r["epoch"] for r in epochs] == [1, 2, 3, 4] and steps[-1]["step"] == 4 * 43
    assert steps[-1]["loss"] < 0.1 < steps[0]["loss"]
    assert result.out.count("Q ") == 4 * training.SAMPLES and "☑" in result.out
    assert f"{epochs[-1]['accuracy']:.2%} of 150 exactly right, no pair is unseen" in result.out
    # the reference, with the weights of the file, gives as many right answers
    _, (x, t), vocabulary = reference.load_data(echo)
    assert start["vocabulary"] == "".join(vocabulary.char_to_id)
    model = reference.AttentionSeq2seq(len(vocabulary.char_to_id), 16, 32)
    reference.load_params(model, result.folder / "model.safetensors")
    right = eval_seq2seq(model, x[:, ::-1], t)
    assert right / len(x) == max(r["accuracy"] for r in epochs) > 0.95


def test_threads_are_chosen_and_said(dates, run, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    before = torch.get_num_threads()
    assert "cpu, 1 thread\n" in run("--data", dates, *SMALL, "--no-plots").out
    run("--data", dates, *SMALL, "--no-plots", "--threads", 2, out="two")
    assert chosen == [1, before, 2, before]  # what the caller had stands again


def test_the_same_seed_gives_the_same_files(dates, run):
    a, b, c = (run("--data", dates, *SMALL, "--seed", seed, out=out).folder
               for out, seed in (("a", 1), ("b", 1), ("c", 2)))
    for name in ("model.safetensors", "curve.png", "attention.png", "model.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert (a / "model.safetensors").read_bytes() != (c / "model.safetensors").read_bytes()


def test_dates_are_made_where_no_file_is_given(run, monkeypatch):
    monkeypatch.setattr(data, "date_lines", lambda: reference.data.date_lines(300))
    result = run(*SMALL, "--no-plots", "plain")
    assert result.code == 0
    assert sorted(os.listdir(result.folder)) == [name for name in FILES if not name.endswith(".png")]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("option", ["--init=textbook", "--no-reverse", "--dtype=bfloat16", "--lr=0.01"])
def test_models_and_options_run_and_matter(dates, run, name, option):
    plain = run(name, "--data", dates, *SMALL, "--no-plots", out="plain")
    result = run(name, "--data", dates, *SMALL, "--no-plots", option)
    assert result.code == 0
    a, b = ((r.folder / "model.safetensors").read_bytes() for r in (plain, result))
    assert a != b
    assert isinstance(log(result.folder)[-1]["accuracy"], float)


def test_initial_weights():
    assert settings.Settings().init == "torch"
    twin = training.build("attention", (50, 16, 64), "textbook", 5)
    model = reference.AttentionSeq2seq(50, 16, 64, rng=np.random.default_rng(5))
    assert all(np.array_equal(a, b) for a, b in zip(twin.reference_params(), model.params, strict=True))
    stock = training.build("attention", (50, 16, 64), "torch", 5)
    again = training.build("attention", (50, 16, 64), "torch", 5)
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
    assert data.unseen(*sets).tolist() == expected


def test_lines_need_not_be_filled_up_and_a_byte_order_mark_is_none_of_the_text(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [("".join(rng.choice(list("abc"), n)), "x" * n) for n in rng.integers(1, 6, 40)]
    files = {"ragged": b"".join(f"{q}_{a}\n".encode() for q, a in pairs),
             "marked": b"\xef\xbb\xbf" + b"".join(f"{q}_{a}\r\n".encode() for q, a in pairs),
             "filled": b"".join(f"{q:<5}_{a:<5}\n".encode() for q, a in pairs)}
    found = {}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text)
        found[name] = data.load(str(tmp_path / name), True)
    assert found["ragged"].digest == found["marked"].digest == found["filled"].digest
    assert found["ragged"].train[0].shape == (36, 5) and "\ufeff" not in found["marked"].characters


# --- how it ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e38, 30.0], ids=["not finite", "enormous"])
def test_a_loss_that_goes_the_wrong_way_ends_it_and_spares_what_was_saved(dates, run, lr):
    result = run("--data", dates, *SMALL, "--no-plots", "--lr", lr, "--max-grad", 1e30, "--epochs", 20)
    assert result.code == 1
    assert re.search(r"^parity-train: loss [\w.+]+ by step \d+, where guessing costs 4\.\d\d; try a smaller --lr",
                     result.err)
    assert [r["event"] for r in log(result.folder)] == ["start"]
    untouched = training.build("attention", (len(log(result.folder)[0]["vocabulary"]), 16, 16), "torch", 0)
    saved = torch_port.load_model(result.folder).model
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), untouched.parameters(), strict=True))


def test_patience_stops_it_when_validation_gets_no_better(dates, run, monkeypatch):
    right = iter([3, 5, 5, 4, 9, 9, 9])

    def answer(self, x):
        guess = self.data.test[1][:, 1:].copy()
        guess[next(right):, -1] ^= 1
        return guess

    monkeypatch.setattr(training.Run, "_answer", answer)
    result = run("--data", dates, *SMALL, "--epochs", 9, "--no-plots", "--patience", 2)
    assert result.code == 0
    assert "stopped: no better than in epoch 2 for 2 epochs (--patience)" in result.out
    assert [r["accuracy"] for r in log(result.folder) if r["event"] == "epoch"] == [0.1, 5 / 30, 5 / 30, 4 / 30]
    best, last = (torch.load(result.folder / name, weights_only=True) for name in ("best.pt", "last.pt"))
    assert best["epoch"] == 4 and last["epoch"] == 5  # the later of equals, and the end
    kept = torch_port.load_model(result.folder).model.state_dict()
    assert all(torch.equal(value, best["model"][name]) for name, value in kept.items())


OURS = {"README", "attention.png", "best.pt", "model.json", "model.safetensors", "log.jsonl", "settings.toml",
        "curve.png", "last.pt"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_nothing_of_others_is_overwritten(dates, run, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    result = run("--data", dates, *SMALL, "--no-plots")
    assert (tmp_path / "out" / name).read_text() == "mine"
    if name == "README":
        assert result.code == 0 and name not in result.out
    else:
        assert result.code == 2 and os.listdir(tmp_path / "out") == [name]
        assert f"out has {name} already: " in result.err and "another --out" in result.err
        assert ("--resume" in result.err) == (name == "last.pt")


def test_an_existing_run_is_refused_or_continued(dates, run):
    first = run("--data", dates, *SMALL, "--no-plots")
    before = {name: (first.folder / name).read_bytes() for name in os.listdir(first.folder)}
    second = run("--data", dates, *SMALL, "--no-plots", "--seed", 1)
    assert second.code == 2 and f"continue with --resume {first.folder}" in second.err
    assert {name: (first.folder / name).read_bytes() for name in os.listdir(first.folder)} == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no lock of a folder")
def test_two_processes_do_not_train_in_one_folder(dates, run, tmp_path):
    (tmp_path / "out").mkdir()
    with training.locked(tmp_path / "out"):
        result = run("--data", dates, *SMALL)
    assert result.code == 2 and "out: another process is training there" in result.err


def test_a_folder_that_is_none_is_refused_before_the_first_step(dates, run, tmp_path):
    (tmp_path / "file").touch()
    result = run("--data", dates, *SMALL, out="file")
    assert result.code == 2 and result.err.count("\n") == 1 and "file" in result.err


@pytest.mark.parametrize("name", ["last.pt", "settings.toml", "model.safetensors", "log.jsonl"])
def test_a_folder_that_cannot_be_written_is_found_before_the_first_step_and_left_as_it_was(
        dates, run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(training.Run, "train", lambda self: pytest.fail("it began to train"))
    full(monkeypatch, name)
    result = run("--data", dates, *SMALL)
    assert result.code == 2 and result.err.startswith("parity-train: ") and "No space left on device" in result.err
    assert name in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def full(monkeypatch, name, after=0):
    """A disk that is full when the file of that name is written, the first few times apart."""
    real, left = os.replace, [after]

    def replace(source, target):
        if os.path.basename(target) == name:
            if not left[0]:
                raise OSError(28, "No space left on device", source)
            left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_a_disk_that_fills_up_ends_it_with_the_last_checkpoint_whole(dates, run, monkeypatch):
    full(monkeypatch, "last.pt", after=3)
    result = run("--data", dates, *SMALL, "--no-plots", "--checkpoint-every", 2)
    assert result.code == 1 and result.err.count("\n") == 1 and "No space left on device" in result.err
    assert f"continue with: parity-train --resume {result.folder}" in result.err
    assert torch.load(result.folder / "last.pt", weights_only=True)["step"] == 4
    assert not list(result.folder.glob(".tmp-*"))
    monkeypatch.undo()
    assert run("--resume", result.folder).code == 0


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "☑☒"), ("cp1252", "+-"), ("ascii", "+-"), (None, "☑☒")])
def test_a_screen_without_the_marks_gets_others(encoding, marks):
    assert printable("☑☒", encoding) == marks
    assert printable("día ☑", "ascii") == "d?a +"


class Broken(io.TextIOBase):
    encoding = "utf-8"

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error


def test_what_cannot_be_printed_loses_nothing(dates, run, monkeypatch, capsys):
    plain = run("--data", dates, *SMALL, "--no-plots", out="plain")
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    result = run("--data", dates, *SMALL, "--no-plots")
    assert result.code == 0
    assert result.err == ("parity-train: standard output: No space left on device; what is printed is lost from here "
                          "on\n")
    a, b = ((r.folder / "model.safetensors").read_bytes() for r in (plain, result))
    assert a == b


def test_a_closed_pipe_is_a_pause(dates, run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(32, "Broken pipe")))
    result = run("--data", dates, *SMALL, "--no-plots")
    assert result.code == 128 + 13
    assert result.err == f"parity-train: paused after step 1; continue with: parity-train --resume {result.folder}\n"
    monkeypatch.undo()
    assert run("--resume", result.folder).code == 0


def test_an_epoch_is_saved_before_it_can_be_lost_on_the_screen(dates, run, monkeypatch):
    say = Screen.say

    def close(self, text, end="\n"):
        if text.startswith("epoch 1:"):
            monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(32, "Broken pipe")))
        say(self, text, end)

    monkeypatch.setattr(Screen, "say", close)
    result = run("--data", dates, *SMALL, "--no-plots", "--epochs", 2)
    assert result.code == 128 + 13
    assert torch.load(result.folder / "best.pt", weights_only=True)["epoch"] == 2
    assert [r["event"] for r in log(result.folder)] == ["start", "step", "epoch", "paused"]


def test_what_is_too_large_is_said_in_one_line(dates, run):
    result = run("--data", dates, "--hidden-size", 10**9)
    assert result.code == 1 and result.err.count("\n") == 1
    assert result.err.startswith("parity-train: this is too large here: ") and not result.folder.exists()


# --- settings ---------------------------------------------------------------------------------------------


def file_of(text):
    def write(tmp_path):
        path = tmp_path / "data.txt"
        path.write_bytes(text)
        return ["--data", str(path)]

    return write


def config_of(text):
    def write(tmp_path):
        path = tmp_path / "config.toml"
        path.write_bytes(text)
        return ["--config", str(path)]

    return write


WRONG = {  # arguments, or a function of a folder that gives them; what the line has to say
    "model": (["transformer"], "invalid choice: 'transformer'"),
    "option": (["--hidden", "x"], "argument --hidden-size: invalid int value: 'x'"),
    "unknown": (["--foo"], "unrecognized arguments: --foo"),
    "zero": (["--batch-size", "0"], "argument --batch-size: '0', expected >= 1"),
    "threads": (["--threads", "0"], "argument --threads: '0', expected >= 1"),
    "rate": (["--lr", "-1"], "argument --lr: '-1', expected > 0"),
    "infinite": (["--max-grad", "inf"], "argument --max-grad: 'inf', expected > 0"),
    "no file": (["--data", "nowhere.txt"], "No such file or directory: '" + os.path.abspath("nowhere.txt")),
    "a folder": (lambda folder: ["--data", str(folder)], "Is a directory"),
    "no underscore": (file_of(b"12\n"), "line 1: no '_' in '12'"),
    "few lines": (file_of(b"1_2\n" * 9), "9 lines, expected at least 10"),
    "no answer": (file_of(b"1_\n" * 20), "1 + 0 characters beside '_', expected at least 1 + 1"),
    "no text": (file_of(b"\xff_1\n" * 20), "not UTF-8"),
    "tensorboard": (["--tensorboard"], "--tensorboard needs tensorboard: python -m pip install tensorboard"),
    "matplotlib": ([], "--plots needs matplotlib: python -m pip install matplotlib (or give --no-plots)"),
    "cuda": (["--device", "cuda"], "--device cuda: torch finds no CUDA device here"),
    "config": (["--config", "nowhere.toml"], "No such file or directory: 'nowhere.toml'"),
    "not toml": (config_of(b"lr: 3"), "config.toml: not TOML: "),
    "setting": (config_of(b"learning-rate = 3"), "config.toml: unknown setting 'learning-rate', expected one of "),
    "value": (config_of(b"lr = -1"), "config.toml: argument --lr: '-1', expected > 0"),
    "kind": (config_of(b"epochs = true"), "config.toml: epochs is True, expected a value as on the command line"),
    "switch": (config_of(b'plots = "no"'), "config.toml: argument --plots/--no-plots: ignored explicit argument 'no'"),
    "list": (config_of(b"lr = [1]"), "config.toml: lr is [1], expected a value as on the command line"),
    "resume": (["--resume", "nowhere"], "No such file or directory: 'nowhere'"),
    "no run": (lambda folder: ["--resume", str(folder)], "last.pt'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line(case, run, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == case else find(name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(training.Run, "train", lambda self: pytest.fail("it began to train"))
    arguments, message = WRONG[case]
    result = run(*(arguments(tmp_path) if callable(arguments) else arguments))
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("parity-train: ") and result.err.count("\n") == 1
    assert message in result.err
    assert not result.folder.exists()


def test_help_names_every_setting_and_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        train.main(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in settings.NAMES:
        assert name == "model" or f"--{name.replace('_', '-')}" in text, name
    for default in ("attention", 0.002, 128, "torch", "reverse", "no-tensorboard"):
        assert f"(default: {default})" in text


def test_settings_come_from_a_file_the_command_line_wins_and_both_are_written_back(dates, run, tmp_path):
    config = tmp_path / "some.toml"
    config.write_text(f'model = "plain"\ndata = "{dates}"\nhidden-size = 16\nbatch_size = 32\nepochs = 3\n'
                      "decay = false\nplots = false\nlr = 1e-3\n")
    result = run("--config", config, "--epochs", 1)
    assert result.code == 0
    written = tomllib.loads((result.folder / "settings.toml").read_text(encoding="utf-8"))
    assert {key.replace("-", "_") for key in written} == set(settings.NAMES)
    expected = {"model": "plain", "data": str(dates), "hidden-size": 16, "batch-size": 32, "epochs": 1,
                "decay": False, "plots": False, "lr": 0.001, "seed": 0, "out": str(result.folder)}
    assert {key: written[key] for key in expected} == expected
    again = run("--config", result.folder / "settings.toml", out="again")
    a, b = ((r.folder / "model.safetensors").read_bytes() for r in (result, again))
    assert again.code == 0 and a == b


def test_settings_survive_toml_whatever_they_hold():
    odd = settings.Settings(data='C:\\a "b"\n\x7f\x01 ☑ 😀', lr=1e-320, max_grad=1e300)
    found = tomllib.loads(odd.toml())
    assert found["data"] == odd.data and found["lr"] == odd.lr and found["max-grad"] == odd.max_grad


def test_tensorboard_gets_loss_and_accuracy(dates, run, monkeypatch):
    points = []

    class SummaryWriter:
        def __init__(self, folder):
            self.add_scalar = lambda *point: points.append(point)
            self.close = lambda: points.append(folder)

    monkeypatch.setattr(training, "require", lambda *arguments: None)
    stub = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    result = run("--data", dates, *SMALL, "--no-plots", "--tensorboard")
    assert [point[0] for point in points[:-1]] == ["step/loss", "epoch/accuracy", "epoch/accuracy_unseen"]
    assert points[-1] == str(result.folder)


def test_accuracy_is_exact_match_overall_and_on_unseen_pairs(dates, run, monkeypatch, tmp_path):
    lines = dates.read_text(encoding="utf-8").splitlines(keepends=True)
    some_twice = tmp_path / "dates.txt"
    some_twice.write_text("".join(lines[:200] + lines[:100]), encoding="utf-8")

    def answer(self, x):
        guess = self.data.test[1][:, 1:].copy()
        guess[::3, -1] = (guess[::3, -1] + 1) % 5  # one letter of each third answer
        return guess

    monkeypatch.setattr(training.Run, "_answer", answer)
    epoch = log(run("--data", some_twice, *SMALL, "--no-plots").folder)[-1]
    unseen = data.unseen(*reference.load_data(some_twice)[:2])
    assert 0 < unseen.sum() < 30
    right = np.arange(30) % 3 != 0
    assert epoch["accuracy"] == right.mean() == 2 / 3
    assert epoch["accuracy_unseen"] == right[unseen].mean()


@pytest.mark.parametrize("reverse", ["--reverse", "--no-reverse"])
def test_heat_maps_are_of_the_best_model_and_labelled_with_its_own_answers(dates, run, monkeypatch, reverse):
    drawn = []
    maps = pictures.attention_maps
    monkeypatch.setattr(pictures, "attention_maps", lambda examples: drawn.extend(examples) or maps(examples))
    result = run("--data", dates, *SMALL, reverse)
    assert result.code == 0
    _, (x, t), vocabulary = reference.load_data(dates)
    model = torch_port.load_model(result.folder)
    questions = ["".join(vocabulary.id_to_char[i] for i in ids) for ids in x[: training.MAPS]]
    assert [question for question, _, _ in drawn] == questions
    said = [answer.rstrip() for _, answer, _ in drawn]
    assert said == model(questions)
    assert all(s != "".join(vocabulary.id_to_char[i] for i in ids[1:]) for s, ids in zip(said, t, strict=False))
    step = -1 if reverse == "--reverse" else 1
    for (_, answer, weights), ids in zip(drawn, x, strict=False):
        # the weights are those of the answer that labels them
        ts_in = torch.tensor([[vocabulary.char_to_id[c] for c in "_" + answer[:-1]]])
        model.model.score(torch.tensor(ids[None, ::step].copy()), ts_in)
        expected = torch.stack(list(model.model.attention_weights), dim=1)[0].detach().numpy()[:, ::step]
        assert weights == pytest.approx(expected, abs=1e-5)  # one at a time rounds otherwise than four together
        assert weights.shape == (len(answer), len(questions[0]))


def test_heat_maps_show_characters_on_both_axes(monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "png", lambda figure: figures.append(figure) or b"")
    weights = np.eye(2, 3)
    texts = [("abc", "xy"), ("abd", "xz"), ("abe", "yz")]
    pictures.attention_maps([(*pair, weights) for pair in texts])
    axes = figures[0].axes
    for ax, pair in zip(axes, texts, strict=False):
        labels = ax.get_xticklabels(), ax.get_yticklabels()
        assert tuple("".join(label.get_text() for label in side) for side in labels) == pair
        assert ax.yaxis_inverted()  # the answer reads downwards
    assert [len(ax.collections) for ax in axes] == [1, 1, 1, 0]
    assert np.array_equal(axes[0].collections[0].get_array().reshape(2, 3), weights)


# --- the optimizer in a loop that is compiled ---------------------------------------------------------------


@pytest.mark.parametrize("rate", [float, lambda lr: torch.tensor(lr, dtype=torch.float64)], ids=["float", "tensor"])
@pytest.mark.parametrize("optimizer", [torch_port.Adam, torch_port.SGD])
def test_a_compiled_step_is_not_compiled_anew_for_every_learning_rate(optimizer, rate):
    def run(compiled):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(3)) for _ in range(2)]
        stepper = optimizer(params, lr=rate(0.01))
        schedule = torch.optim.lr_scheduler.LambdaLR(stepper, lambda epoch: 1 - epoch / 6)
        step = torch.compile(stepper.step, backend=count) if compiled else stepper.step
        for _ in range(6):
            for p in params:
                p.grad = torch.randn(3)
            step()
            schedule.step()
        return params

    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    aot_eager = torch._dynamo.lookup_backend("aot_eager")
    torch.compiler.reset()
    found, expected = run(True), run(False)
    assert len(graphs) <= 3  # to make the moments, to use them, and for any number of steps
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# --- the README's figures, in small -------------------------------------------------------------------------


def test_the_figures_of_training_are_made_by_a_command(monkeypatch, capsys):
    monkeypatch.setattr(figures, "LEARNING", ((name, 1, options) for name, _, options in figures.LEARNING[1:2]))
    for figure, form in (("learning", r"\| `--init torch --epochs 3` \| 0 \|( \d+\.\d\d % \|){3} \|$"),
                         ("seconds", r"one epoch, .*: port \d+\.\d, NumPy \d+\.\d$")):
        figures.main([figure, "--pairs", "200", "--hidden-size", "4"])
        assert re.match(form, capsys.readouterr().out.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux shows them")
def test_numpy_starts_as_many_threads_as_it_is_told():
    code = "import os, numpy; a = numpy.ones((600, 600)); a @ a; print(len(os.listdir('/proc/self/task')))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
                         env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.stdout.strip() == "1"
