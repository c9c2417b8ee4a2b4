"""Counting false alarms."""

import json

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
