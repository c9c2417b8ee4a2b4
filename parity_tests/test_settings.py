"""The caller's settings: none of them changes a result, and all of them stand again afterwards."""

import contextlib
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from parity import check, engine, replay
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.judge.lanes import LANES, select
from parity.promises import standard
from parity.training.lockstep import lockstep

# short cases of these: products, gates, a mask, a state, generated weights
CASES = [(draw(CATALOGUE[name], 0, index, lane.admits, lane.deal).id, lane.name)
         for name in ("TimeDropout", "TimeLSTM") for lane in select(LANES, "cpu-*") for index in (0, 3, 6)]


@contextlib.contextmanager
def put(setter, getter, value):
    before = getter()
    setter(value)
    try:
        yield
    finally:
        setter(before)


def as_errors():
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("error")
    return stack


# the caller's setting, made for a while, and what must read the same after a run as before it
SETTINGS = {
    "NumPy raises": (lambda: np.errstate(all="raise"), np.geterr),
    "gradients disabled": (torch.no_grad, torch.is_grad_enabled),
    "inference mode": (torch.inference_mode, torch.is_inference_mode_enabled),
    "anomaly mode": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "autocast": (lambda: torch.autocast("cpu", dtype=torch.bfloat16), lambda: torch.is_autocast_enabled("cpu")),
    "default dtype float64": (lambda: put(torch.set_default_dtype, torch.get_default_dtype, torch.float64),
                              torch.get_default_dtype),
    "default dtype float16": (lambda: put(torch.set_default_dtype, torch.get_default_dtype, torch.float16),
                              torch.get_default_dtype),
    "default device": (lambda: put(torch.set_default_device, lambda: None, "meta"), torch.get_default_device),
    "deterministic": (lambda: put(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled, True),
                      torch.are_deterministic_algorithms_enabled),
    "warnings are errors": (as_errors, lambda: [f[0] for f in warnings.filters]),
    "seeded elsewhere": (lambda: put(np.random.seed, lambda: 0, 5), lambda: None),
}


def states():
    """Every random state of the caller's, as text."""
    return str((random.getstate(), [str(part) for part in np.random.get_state()], torch.get_rng_state().tolist()))


def results(report):
    return [(row["layer"], row["lane"], row["quantity"], row["worst"], row["status"]) for row in report.rows]


@pytest.fixture(scope="module")
def plain():
    return results(check(only=CASES))


@pytest.mark.parametrize("name", SETTINGS, ids=[name.replace(" ", "-") for name in SETTINGS])
def test_the_callers_settings_change_nothing_and_stand_again(name, plain, monkeypatch):
    make, read = SETTINGS[name]
    case_id = standard(CATALOGUE["AttentionSeq2seq"]).id
    with make():
        before = read(), states()
        report = check(only=CASES)
        assert report.ok, report
        assert results(report) == plain
        assert (read(), states()) == before
        again = replay(case_id, "cpu-*")
        assert again.ok, again
        assert (read(), states()) == before
        monkeypatch.setattr(engine, "outcomes", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replay(case_id, "cpu-*")
        assert (read(), states()) == before


@pytest.mark.parametrize("name", ["NumPy raises", "gradients disabled", "autocast", "default dtype float64"])
def test_training_in_step_is_inside_its_own_settings(name):
    make, read = SETTINGS[name]
    with make():
        before = read(), states()
        assert lockstep(steps=2, hidden_size=4, batch_size=2).ok
        assert (read(), states()) == before


def test_the_verdict_is_inside_its_own_settings(monkeypatch):
    real = engine.run_port
    monkeypatch.setattr(engine, "run_port", lambda *args: (q := real(*args)) | {"grad.Wh": q["grad.Wh"] * 1.01})
    case_id = standard(CATALOGUE["TimeLSTM"]).id
    said = [(f.quantity, f.verdict, f.diagnosis) for f in replay(case_id, "cpu-float32").findings]
    with np.errstate(all="raise"), torch.no_grad():
        assert [(f.quantity, f.verdict, f.diagnosis) for f in replay(case_id, "cpu-float32").findings] == said


def test_a_run_does_not_import_torchs_compiler():
    """It takes seconds, and setting what stands already is enough to import it."""
    code = ("import sys; from parity import check; assert check('Affine', 'cpu-float32', cases=1); "
            "assert not {'torch._dynamo', 'torch._inductor'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
