"""Training in lockstep: that it holds, that it is explained, and that it would be seen if it did not."""

import argparse
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import torch_port
from parity.errors import UsageError
from parity.judge.report import Report
from parity.training import lockstep as module
from parity.training.lockstep import LIMIT, Row, Run, lockstep
from reference.trainer import MODELS

SMALL = {"batch_size": 8, "hidden_size": 12, "wordvec_size": 6}


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("parity.training.lockstep, parity.training.convert, reference", "torch rich matplotlib safetensors"),
        ("torch_port", "reference"),
    ],
    ids=["parity", "torch_port"],
)
def test_imports_are_light(modules, heavy):
    code = f"import sys, {modules}; sys.exit(' '.join(set({heavy!r}.split()) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert run.stderr.strip() == ""


def test_float64_stays_within_its_limit_for_200_steps():
    report = lockstep(steps=200, **SMALL)
    assert report.ok
    (run,) = report.results
    assert [row.step for row in run.steps] == list(range(1, 201))
    assert 0 < max(row.worst for row in run.steps) <= LIMIT == 1e-12
    assert run.steps[-1].loss_reference < 0.8 * run.steps[0].loss_reference  # it did train
    assert str(report).startswith("ok: 200 steps in float64; at most, parameters are ")


def test_each_step_has_a_batch_of_its_own():
    losses = {row.loss_reference for row in lockstep(steps=4, lr=0.0, **SMALL).results[0].steps}
    assert len(losses) == 4


@pytest.mark.parametrize("name", MODELS)
def test_every_model_and_another_seed(name):
    report = lockstep(name, steps=10, seed=1, **SMALL)
    assert report.ok and report.results[0].settings["model"] == name


def test_float32_is_held_against_rounding_that_was_measured():
    report = lockstep(steps=40, dtype="float32", **SMALL)
    u = np.finfo(np.float32).eps / 2
    assert report.ok
    (run,) = report.results
    assert all(u / 4 < row.rounding < 1e4 * u and row.distance > u / 4 for row in run.steps)
    assert run.limits == [u**0.5] * 40
    assert "Why it grows: each side rounds in its own order" in str(report)
    assert f"is up to {max(row.rounding for row in run.steps):.1e} from itself in float64" in str(report)
    again = Run("attention")
    for number, row in enumerate(run.steps):
        again.take(row._replace(rounding=0.25) if number == 5 else row)
    assert again.limits == [u**0.5] * 5 + [2.0] * 35


class OtherAdam(torch.optim.Adam):
    """Torch's own: eps inside the bias correction, and 1e-8 of it."""


def no_clipping(parameters, max_norm):
    return torch.zeros(())


def late(steps):
    """An Adam that errs by 1e-9 of the learning rate in one step."""

    class Late(torch_port.Adam):
        def update(self, group, p, g):
            lr = group["lr"]
            group["lr"] = lr * (1 + 1e-9) if group["iter"] == steps else lr
            super().update(group, p, g)
            group["lr"] = lr

    return Late


@pytest.mark.parametrize(
    ("name", "fault", "step", "dtype"),
    [
        ("Adam", OtherAdam, 1, "float64"),
        ("Adam", OtherAdam, 1, "float32"),
        ("Adam", late(7), 8, "float64"),
        ("clip_grads", no_clipping, 1, "float64"),
        ("clip_grads", no_clipping, 1, "float32"),
    ],
)
def test_a_fault_is_seen_in_the_step_where_it_happens(monkeypatch, name, fault, step, dtype):
    monkeypatch.setattr(torch_port, name, fault)
    report = lockstep(steps=10, dtype=dtype, max_grad=0.1, **SMALL)
    assert not report.ok
    assert str(report).startswith("NOT IN LOCKSTEP: 10 steps")
    assert f"first beyond its limit of {report.results[0].limits[step - 1]:.1e}: step {step}, " in str(report)


def test_nothing_judged_is_no_pass():
    run = Run("attention", settings={"dtype": "float64"})
    report = Report(results=[run])
    assert not report.ok and report.exit_code == 1 and not run.to_json()["ok"]
    assert str(report) == "NOT IN LOCKSTEP: nothing was judged, no step was run"


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 1.5}, {"steps": True}, {"steps": math.inf},
                                     {"steps": math.nan}, {"seed": "0"}, {"seed": 0.5}, {"hidden_size": 2.0},
                                     {"lr": math.inf}, {"lr": math.nan}, {"lr": "1"}, {"max_grad": -1}], ids=str)
def test_numbers_that_mean_nothing_are_refused(options):
    with pytest.raises(UsageError, match=f"lockstep: {next(iter(options))} is "):
        lockstep(**{"steps": 1} | SMALL | options)


def test_what_is_not_finite_is_not_ok():
    run = Run("attention", settings={"dtype": "float64"})
    for row in (Row(1, 1.0, 1.0, 0.0, 0.0, "b", None), Row(2, math.nan, 1.0, math.inf, math.inf, "b", None)):
        run.take(row)
    assert not run.ok and "step 2" in str(Report(results=[run]))
    assert json.loads(json.dumps(run.to_json(), allow_nan=False))["rows"][1]["distance"] is None
    assert module._relative(np.array([1.0, np.nan]), np.ones(2)) == math.inf
    assert module._relative(np.ones(2), np.zeros(2)) == math.inf
    assert module._relative(np.zeros(2), np.zeros(2)) == 0
    assert module._relative(np.array([1.0, 5.0]), np.array([1.0, 4.0])) == 0.25


def command(*arguments):
    parser = argparse.ArgumentParser()
    module.arguments(parser)
    small = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    return module.run(parser.parse_args([*small, *map(str, arguments)]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_command_prints_a_row_a_step_and_writes_what_is_asked_for(tmp_path, capsys, dtype):
    files = tmp_path / "a.png", tmp_path / "a.json"
    assert command("--steps=5", f"--dtype={dtype}", "--plot", files[0], "--json", files[1]) == 0
    threads, header, *rows = capsys.readouterr().out.splitlines()
    assert threads == f"threads: {os.environ.get('OMP_NUM_THREADS', 1)}"
    assert header.split()[:3] == ["step", "loss", "reference"]
    assert ("rounding" in header) == (dtype == "float32")
    assert [int(row.split()[0]) for row in rows[:5]] == [1, 2, 3, 4, 5] and rows[5].startswith("ok: 5 steps")
    assert files[0].read_bytes().startswith(b"\x89PNG")
    written = json.loads(files[1].read_text())
    assert written["ok"] is True and written["steps"] == len(written["rows"]) == 5
    assert {"lr", "max_grad", "seed", "numpy", "torch"} < set(written)
    assert set(written["rows"][0]) == set(Row._fields)


def test_the_command_fails_where_the_sides_part(monkeypatch, capsys):
    monkeypatch.setattr(torch_port, "Adam", OtherAdam)
    assert command("--steps=2") == 1
    assert "NOT IN LOCKSTEP" in capsys.readouterr().out


def test_ctrl_c_ends_it_with_what_was_done(monkeypatch, capsys, tmp_path):
    step = module._Port.step

    def interrupted(self, x, t):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(x)
        return step(self, x, t)

    done = []
    monkeypatch.setattr(module._Port, "step", interrupted)
    assert command("--json", tmp_path / "a.json") == 130
    assert "ok: 3 steps in float64" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "a.json").read_text())["rows"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=bert"], "model is 'bert', expected one of attention, peeky, plain"),
        (["--dtype=float16"], "dtype is 'float16', expected one of float64, float32"),
        (["--steps=0"], "steps is 0, expected >= 1"),
        (["--seed=-1"], "seed is -1, expected >= 0"),
        (["--plot=nowhere/a.png"], "nowhere/a.png: cannot be written"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage(arguments, message, capsys):
    with pytest.raises(UsageError, match=message):
        command(*arguments)
    assert capsys.readouterr().out == ""
