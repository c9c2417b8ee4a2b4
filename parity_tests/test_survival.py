"""A training run that is stopped, killed, or finds its checkpoint spoilt."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import reference
from torch_port import train
from torch_port.training.checkpoint import unpack
from torch_port.training.process import Stop

from . import survival
from .forks import WAIT, Forks

ENDLESS = ["--epochs", "100000", "--no-decay", "--hidden-size", "16", "--batch-size", "32", "--no-plots"]
SHORT = ["--epochs", "2", "--hidden-size", "16", "--batch-size", "32", "--no-plots", "--checkpoint-every", "4"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork, and sends no signal to one process alone")


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "dates.txt"
    reference.write_dates(path, 200)
    return path


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("output")) as forks:
        yield forks


@pytest.fixture(scope="module")
def done(dates, tmp_path_factory):
    """A run that came to its end."""
    folder = tmp_path_factory.mktemp("done") / "run"
    assert train.main([*SHORT, "--data", str(dates), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def stopped(dates, tmp_path, monkeypatch, capsys):
    """The same run, stopped in its second epoch."""
    from torch_port.training import run

    clip, calls = run.clip_grads, []

    def clip_grads(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return clip(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run, "clip_grads", clip_grads)
        assert train.main([*SHORT, "--data", str(dates), "--out", str(tmp_path / "run")]) == 128 + signal.SIGTERM
    capsys.readouterr()
    return tmp_path / "run"


# --- checkpoints ------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_ends_as_one_that_was_not(stopped, done, capsys):
    saved = unpack(stopped / "last.pt")
    assert (saved["epoch"], saved["batch"], saved["step"]) == (2, 2, 8) and len(saved["losses"]) == 2
    assert train.main(["--resume", str(stopped)]) == 0
    assert "continued after 8 of 12 steps" in capsys.readouterr().out
    assert survival.same(survival.state(stopped), survival.state(done))
    assert not survival.same(saved["model"], unpack(done / "last.pt")["model"])
    events = [[line for line in (folder / "log.jsonl").read_text().splitlines()
               if '"step"' in line.split(",")[0]] for folder in (stopped, done)]
    assert events[0] == events[1] and len(events[0]) == 2


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not():
    path = Path(survival.__file__)
    code = f"import sys; sys.path.insert(0, {str(path.parents[1])!r}); from parity_tests.survival import main; main()"
    command = [sys.executable, "-c", code, "--kills", "5", "--seed", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, cwd=path.parent)
    assert result.returncode == 0, result.stderr
    assert "kills: 5, runs: 1, different: 0" in result.stdout


def test_the_comparison_sees_a_single_bit():
    a = {"model": {"w": torch.tensor([1.0, 2.0])}, "losses": [0.5], "step": 3}
    b = {"model": {"w": torch.tensor([1.0, 2.0000002])}, "losses": [0.5], "step": 3}
    assert survival.same(a, dict(a)) and not survival.same(a, b)
    assert not survival.same(a, a | {"losses": [0.5, 0.5]}) and not survival.same(a, a | {"step": 4})


def test_the_moments_of_adam_and_the_order_of_the_batches_are_part_of_it(stopped, done):
    """Each part of a checkpoint is needed: with it left as at the beginning, the run ends elsewhere."""
    fresh = {"optimizer": None, "batch": 0, "shuffle": None}
    for name in fresh:
        saved = torch.load(stopped / "last.pt", weights_only=True)
        if name == "optimizer":
            for state in saved[name]["state"].values():
                state["m"].zero_()
        elif name == "shuffle":
            saved[name] = other_shuffle(saved[name])
        else:
            saved[name] = fresh[name]
        folder = stopped.parent / name
        folder.mkdir()
        torch.save(saved, folder / "last.pt")
        assert train.main(["--resume", str(folder)]) == 0
        assert not survival.same(survival.state(folder)[0], survival.state(done)[0]), name


def other_shuffle(text):
    import numpy as np

    from torch_port.training.checkpoint import shuffle_state

    other = shuffle_state(np.random.default_rng(99))
    assert other != text
    return other


def test_any_checkpoint_can_be_continued_elsewhere_and_a_finished_run_has_nothing_left(stopped, done, tmp_path):
    (stopped / "last.pt").rename(stopped / "some.pt")
    other = tmp_path / "other"

    def as_the_other(folder):
        """The same weights and moments; which epoch was the best is judged anew in a new folder."""
        (weights, last, _), (expected, end, _) = survival.state(folder), survival.state(done)
        return weights == expected and all(survival.same(last[name], end[name]) for name in ("model", "optimizer"))

    for checkpoint in (stopped / "some.pt", other / "best.pt", stopped / "some.pt"):
        assert train.main(["--resume", str(checkpoint), "--out", str(other)]) == 0
        assert as_the_other(other)
    best = unpack(other / "best.pt")
    assert best["best"]["epoch"] == best["epoch"] - 1


@pytest.mark.parametrize("options", [["--epochs", "3"], ["--lr", "0.1"], ["plain"], ["--no-reverse"], ["--seed", "1"],
                                     ["--hidden-size", "17"], ["--init", "textbook"], ["--dtype", "bfloat16"]], ids=str)
def test_a_changed_hyperparameter_is_refused(stopped, capsys, options):
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    assert train.main(["--resume", str(stopped), *options]) == 2
    err = capsys.readouterr().err
    name = options[0].lstrip("-").replace("no-", "")
    assert err.count("\n") == 1 and name in err and f"the run of {stopped / 'last.pt'} has" in err
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


def test_what_changes_no_arithmetic_may_change(stopped, done):
    assert train.main(["--resume", str(stopped), "--checkpoint-every", "1", "--lr", "0.002", "--plots"]) == 0
    assert survival.same(survival.state(stopped), survival.state(done))
    assert (stopped / "curve.png").exists()


def test_without_decay_a_run_may_be_made_longer(dates, tmp_path):
    for folder, epochs in (("a", 1), ("b", 2)):
        assert train.main([*SHORT, "--no-decay", "--data", str(dates), "--out", str(tmp_path / folder), "--epochs",
                           str(epochs)]) == 0
    assert train.main(["--resume", str(tmp_path / "a"), "--epochs", "2"]) == 0
    assert survival.same(survival.state(tmp_path / "a"), survival.state(tmp_path / "b"))


def test_other_data_are_refused_and_moved_data_are_not(stopped, dates, tmp_path, capsys):
    other = tmp_path / "other.txt"
    reference.write_dates(other, 200, seed=1)
    assert train.main(["--resume", str(stopped), "--data", str(other)]) == 2
    assert f"{other}: not the data that the run began with" in capsys.readouterr().err
    other.write_bytes(dates.read_bytes())
    assert train.main(["--resume", str(stopped), "--data", str(other)]) == 0


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def spoilt(kind, path):
    """Makes a good checkpoint a bad one."""
    data, state = path.read_bytes(), torch.load(path, weights_only=True)
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "foreign":
        torch.save({"model": state["model"]}, path)
    elif kind == "text":
        path.write_text("dear diary")
    elif kind == "evil":
        torch.save(state | {"step": Evil()}, path)
    elif kind == "field":
        torch.save(state | {"epoch": "one"}, path)
    elif kind == "setting":
        torch.save(state | {"settings": state["settings"] | {"hidden_size": -3}}, path)
    elif kind == "shape":
        state["model"] = {name: value[:1] for name, value in state["model"].items()}
        torch.save(state, path)
    elif kind == "shuffle":
        torch.save(state | {"shuffle": "{}"}, path)


@pytest.mark.parametrize(("kind", "words"), [
    ("truncated", "not a whole checkpoint, "), ("empty", "not a whole checkpoint, 0 bytes"),
    ("foreign", "not a checkpoint of parity-train: format None"), ("text", "not a whole checkpoint, 10 bytes"),
    ("evil", "not a whole checkpoint, "), ("field", "not a checkpoint of this version: epoch not as expected"),
    ("setting", "argument --hidden-size: '-3', expected >= 1"), ("shape", "does not fit its own settings"),
    ("shuffle", "does not fit its own settings"),
])
def test_a_spoilt_checkpoint_is_refused_and_left(stopped, kind, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spoilt(kind, stopped / "last.pt")
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    assert train.main(["--resume", str(stopped)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("parity-train: ") and words in err
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before
    assert not (tmp_path / "evil").exists()


def test_half_files_of_a_killed_process_are_cleared_away(stopped):
    half, other = stopped / f".tmp-{'0' * 32}", stopped / ".tmp-mine"
    half.touch()
    other.touch()
    assert train.main(["--resume", str(stopped)]) == 0
    assert not half.exists() and other.exists()


# --- signals ----------------------------------------------------------------------------------------------


def stepping(process):
    """Waits until the process has done an epoch."""
    return process.until(lambda: "epoch 1:" in process.out)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_signal_saves_a_checkpoint_and_says_how_to_continue(forks, dates, tmp_path, number):
    number = getattr(signal, number)
    process = stepping(forks.start(*ENDLESS, "--data", dates, "--out", tmp_path / "a b"))
    process.send(number)
    process.wait()
    assert process.code == 128 + number and process.err == ""
    said = process.out.splitlines()[-1]
    step = int(re.match(r"paused after step ([\d,]+); ", said)[1].replace(",", ""))
    assert said.endswith(f"; continue with: parity-train --resume '{tmp_path / 'a b'}'")
    assert unpack(tmp_path / "a b" / "last.pt")["step"] == step
    assert not list((tmp_path / "a b").glob(".tmp-*"))
    again = forks.start("--resume", tmp_path / "a b")
    again.until(lambda: f"continued after {step:,} of" in again.out and " loss " in again.out)
    again.send(number)
    assert again.wait().code == 128 + number


@pytest.mark.parametrize("pause", [0, 0.002, 0.02])
def test_two_signals_end_it_at_once_and_the_last_checkpoint_stands(forks, dates, tmp_path, pause):
    import time

    process = stepping(forks.start(*ENDLESS, "--data", dates, "--out", tmp_path / "out", "--checkpoint-every", 1))
    process.send(signal.SIGINT)
    time.sleep(pause)
    process.send(signal.SIGINT)
    process.wait()
    assert process.code == 130 and "Traceback" not in process.err + process.out
    assert f"continue with: parity-train --resume {tmp_path / 'out'}" in process.err + process.out
    unpack(tmp_path / "out" / "last.pt")
    assert not list((tmp_path / "out").glob(".tmp-*"))


@pytest.mark.parametrize(("number", "wait"), [(signal.SIGINT, 0.3), (signal.SIGTERM, 0.0)])
def test_a_signal_while_torch_is_being_loaded_ends_it_in_silence(number, wait, tmp_path):
    import time

    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from torch_port import train; parse = train.parse;"
            "train.parse = lambda argv: print('here', flush=True) or parse(argv); sys.exit(train.main())")
    with subprocess.Popen([sys.executable, "-c", code, "--out", tmp_path / "out"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        time.sleep(wait)
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert not (tmp_path / "out").exists()


def test_a_signal_while_it_sets_up_leaves_nothing(dates, tmp_path, monkeypatch, capsys):
    from torch_port.training import run

    def card(self):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal was not heard")

    monkeypatch.setattr(run.Run, "_card", card)
    assert train.main([*SHORT, "--data", str(dates), "--out", str(tmp_path / "out")]) == 130
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().err == ""


def test_a_signal_during_evaluation_loses_no_epoch(dates, done, tmp_path, monkeypatch):
    from torch_port.training import run

    answer = run.Run._answer

    def signalled(self, x):
        os.kill(os.getpid(), signal.SIGINT)
        return answer(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "_answer", signalled)
        patch.setattr(run, "TOGETHER", 5)
        assert train.main([*SHORT, "--data", str(dates), "--out", str(tmp_path / "out")]) == 130
    saved = unpack(tmp_path / "out" / "last.pt")
    assert (saved["epoch"], saved["batch"]) == (1, 6)
    assert train.main(["--resume", str(tmp_path / "out")]) == 0
    assert survival.same(survival.state(tmp_path / "out"), survival.state(done))


def test_the_callers_handlers_stand_again_and_what_was_ignored_stays_so(dates, tmp_path, monkeypatch):
    from torch_port.training import run

    seen = []
    monkeypatch.setattr(run.Run, "train", lambda self: seen.append(
        [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]))
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(signal, "default_int_handler", before)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert train.main([*SHORT, "--data", str(dates), "--out", str(tmp_path / "out")]) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN == seen[0][1]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGINT) == before != seen[0][0]


def test_stop_is_an_interrupt():
    assert issubclass(Stop, KeyboardInterrupt)  # so that nothing that catches Exception keeps it


# --- the screen -------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_is_a_pause_without_a_word_on_the_screen(forks, dates, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    process = forks.start(*ENDLESS, "--data", dates, "--out", tmp_path / "out", out=pipe)
    process.until(lambda: (tmp_path / "out" / "best.pt").exists())
    os.close(reader)
    process.wait()
    assert process.code == 128 + 13
    assert re.fullmatch(r"parity-train: paused after step [\d,]+; continue with: parity-train --resume "
                        + re.escape(str(tmp_path / "out")) + "\n", process.err)
    assert train.main(["--resume", str(tmp_path / "out"), "--epochs", "1"]) in (0, 2)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_full_disk_under_the_output_loses_nothing(forks, dates, done, tmp_path):
    process = forks.start(*SHORT, "--data", dates, "--out", tmp_path / "out", out="/dev/full").wait()
    assert process.code == 0 and process.err.count("\n") == 1 and "No space left on device" in process.err
    assert survival.same(survival.state(tmp_path / "out"), survival.state(done))


def test_an_encoding_without_the_marks_loses_nothing(forks, dates, done, tmp_path):
    process = forks.start(*SHORT, "--data", dates, "--out", tmp_path / "out", encoding="cp1252").wait()
    assert process.code == 0 and process.err == "" and "  - " in process.out
    assert "☒" not in process.out
    assert survival.same(survival.state(tmp_path / "out"), survival.state(done))
