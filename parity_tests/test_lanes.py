"""Lanes: precision switches, and honesty about what could not run."""

import dataclasses

import numpy as np
import pytest
import torch

from parity import check, engine
from parity.catalogue import CATALOGUE
from parity.errors import UsageError
from parity.judge import lanes
from parity.judge.lanes import LANES, Lane, select
from parity.promises import standard

SWITCHES = lanes._precision_switches()


def test_a_lane_sets_every_precision_switch_and_puts_the_users_back():
    matmul = torch.backends.cuda.matmul
    before = [switch.fp32_precision for switch in SWITCHES]
    matmul.fp32_precision = "tf32"
    try:
        with pytest.raises(KeyError), LANES["cuda-float32"].mode():
            assert [switch.fp32_precision for switch in SWITCHES] == ["ieee"] * len(SWITCHES)
            raise KeyError
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before[0]
    assert [switch.fp32_precision for switch in SWITCHES] == before


def test_a_tf32_lane_is_a_table_entry():
    with Lane("cuda-float32-tf32", "cuda", "float32", "float32", precision="tf32").mode():
        assert torch.backends.cudnn.rnn.fp32_precision == "tf32"


@pytest.mark.parametrize("lane", LANES.values(), ids=LANES)
def test_a_lane_runs_on_the_device_that_it_names(lane, monkeypatch):
    """A lane that silently ran elsewhere would prove nothing: without a GPU, a CUDA lane cannot run."""
    if lane.device == "cuda" and not torch.cuda.is_available():
        monkeypatch.setattr(Lane, "untested", lambda self: "")
        monkeypatch.setattr(Lane, "device_name", lambda self: "none")
        report = check("TimeLSTM", lane.name, cases=1)
        assert {f.check for f in report.findings} == {"raised"}
    else:
        seen = []
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda module, inputs, output: seen.append([t.device.type for t in inputs if isinstance(t, torch.Tensor)]))
        try:
            assert check("TimeLSTM", lane.name, cases=1).ok
        finally:
            hook.remove()
        assert seen and all(device == lane.device for devices in seen for device in devices)


def test_lanes_are_told_apart_by_device_dtype_and_roundoff():
    assert LANES["cpu-float32"].unit_roundoff == np.finfo(np.float32).eps / 2
    assert LANES["cuda-float64"].unit_roundoff == np.finfo(np.float64).eps / 2
    assert LANES["cpu-float32"].oracle == np.float64
    assert LANES["cpu-float64"].oracle == np.longdouble


def test_where_longdouble_is_no_wider_the_float64_lane_is_untested(monkeypatch):
    monkeypatch.setattr(Lane, "oracle", property(lambda self: np.dtype(np.float64)))
    assert "no wider" in LANES["cpu-float64"].untested()
    assert LANES["cpu-float32"].untested() == ""


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_lane_that_cannot_run_is_untested_with_the_reason_and_no_pass(no_gpu):
    report = check("Affine", "*", cases=1)
    rows = {row["lane"]: row for row in report.rows if row["lane"].startswith("cuda")}
    assert set(rows) == {name for name in LANES if name.startswith("cuda")}
    assert all(row["status"] == "untested" and row["cases"] == 0 and row["reason"] for row in rows.values())
    assert report.ok
    assert str(report).count("UNTESTED") == 2 * len(rows)  # in the table, and with the reason


def test_a_required_lane_that_cannot_run_is_a_failure(no_gpu):
    report = check("Affine", "*", cases=1, require=["cuda"])
    assert not report.ok
    assert {row["status"] for row in report.rows if row["lane"].startswith("cuda")} == {"fail"}


def test_nothing_run_is_a_failure_with_its_reason(no_gpu):
    report = check("Affine", "cuda-*", cases=1)
    assert report.cases == 0 and not report.ok
    assert str(report).endswith("nothing was judged: every lane is UNTESTED")


def test_a_glob_that_matches_nothing_says_what_there_is():
    with pytest.raises(UsageError, match="'gpu' matches none of cpu-float64, "):
        select(LANES, "gpu")


def test_lanes_of_one_dtype_share_the_yardstick(monkeypatch):
    twice = dataclasses.replace(LANES["cpu-float32"], name="other")
    calls = []
    real = engine.yardsticks
    monkeypatch.setattr(engine, "yardsticks", lambda *args: calls.append(args) or real(*args))
    first, second = engine.run_case(standard(CATALOGUE["Affine"]), [LANES["cpu-float32"], twice])
    assert len(calls) == 1 and first.shares == second.shares

