"""Counting false alarms."""

import json
from pathlib import Path

import parity
from parity.cli import main
from parity.judge import budget
from parity.trust.flake import false_alarms


def test_right_code_raises_no_alarm_under_any_seed():
    seen = []
    total = false_alarms(3, layer="Affine", cases=4, seed=5, progress=seen.append)
    lanes = len(total.worst)
    assert (total.runs, total.cases, total.alarms, total.failed) == (3, 3 * 4 * lanes, 0, 0)
    assert total.ok and 0 < total.bound < 1 and seen == [1, 2, 3]
    seeds = {total.worst[lane][1] for lane in total.worst}
    assert all(case_id.startswith("p") for case_id in seeds)


def test_alarms_are_counted_by_case(monkeypatch):
    monkeypatch.setattr(budget, "FACTOR", 1e-3)
    total = false_alarms(2, layer="Affine", lane="cpu-float32", cases=3)
    assert not total.ok and total.failed == 2
    assert 0 < total.alarms <= total.cases < total.alarms + 6
    assert len(total.findings) >= total.alarms


def test_the_command_writes_its_figures(tmp_path, capsys):
    file = tmp_path / "flake.json"
    assert main(["flake", "--runs", "2", "--cases", "2", "--layer", "Softmax", "--lane", "cpu-*", "--jobs", "1",
                 "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["ok"] and figures["runs"] == 2 and figures["alarms"] == 0
    assert f"0 false alarms in {figures['cases']} cases" in capsys.readouterr().out


FUNCTIONS = Path(parity.__file__).parent / "trust" / "functions.py"


def test_pairs_in_a_file_are_counted_by_lane(tmp_path, capsys):
    file = tmp_path / "flake.json"
    assert main(["flake", str(FUNCTIONS), "--runs", "2", "--cases", "2", "--layer", "*_numpy", "--lane", "cpu-*",
                 "--jobs", "1", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["lanes"] == {f"cpu-{dtype}": {"cases": 2 * 2 * 4, "alarms": 0} for dtype in
                                ("float64", "float32", "bfloat16", "float16")}
    shown = capsys.readouterr().out
    assert "cpu-bfloat16: 0 false alarms in 16 cases, at most " in shown and "0 false alarms in 64 cases" in shown


def test_errors_planted_in_pairs_are_counted_by_lane(tmp_path, capsys):
    file = tmp_path / "calibrate.json"
    assert main(["calibrate", str(FUNCTIONS), "--cases", "32", "--layer", "*_numpy", "--jobs", "1", "--json",
                 str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["cases"] == 32 and not figures["alarms"] and set(figures["layers"]) == {
        "rms_norm_numpy", "silu_numpy", "softmax_numpy", "linear_numpy"}
    assert figures["lanes"]["cpu-float32"]["found"]["0.1 %"] > 0.75 > figures["lanes"]["cpu-bfloat16"]["found"]["1 %"]
