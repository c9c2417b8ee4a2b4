"""What is measured of the budget: false alarms, planted errors, sums of growing length."""

import json
import re

import pytest

from parity.cases.case import parse
from parity.catalogue import CATALOGUE
from parity.cli import main
from parity.judge import budget, noise
from parity.judge.lanes import LANES
from parity.trust import growth


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_calibrate_finds_planted_errors_and_no_false_alarm(capsys):
    assert main(["calibrate", "--cases", "1", "--jobs", "1", "--json", "c.json"]) == 0
    with open("c.json") as file:
        found = json.load(file)
    told = {lane: sum(LANES[lane].torch_dtype not in spec.untold for spec in CATALOGUE.values())
            for lane in found["lanes"]}
    assert found["cases"] == sum(told.values()) and not found["alarms"]
    assert found["rules"]["parity"]["found, all patterns"] > 0.5
    assert list(found["lanes"]) == ["cpu-float64", "cpu-float32", "cpu-bfloat16", "cpu-float16"]
    for lane, row in found["lanes"].items():
        seen = row["found"]
        assert row["cases"] == told[lane] and row["false alarms"] == 0 and 0 < row["largest share"] < 1
        assert seen["0.1 %"] <= seen["1 %"] <= seen["10 %"] <= seen["50 %"]
        assert seen["10 % in all"] > (0.1 if lane == "cpu-bfloat16" else 0.7)
    assert found["lanes"]["cpu-float64"]["found"]["0.1 %"] > 0.7
    assert found["lanes"]["cpu-bfloat16"]["found"]["1 %"] < 0.5, "16 roundoffs are 6 %"


def test_calibrate_shows_the_alarms_of_a_budget_too_small_and_their_lanes(capsys, monkeypatch):
    monkeypatch.setattr(budget, "FACTOR", 0.1)
    assert main(["calibrate", "--layer", "Affine", "--cases", "40", "--jobs", "1"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: 40 cases; " in shown
    alarms = re.findall(r"parity replay '(.+)' --lane (.+)", shown)
    assert len({lane for _, lane in alarms}) == 4
    for case_id, lane in alarms:
        assert LANES[lane].admits(parse(case_id))


def test_growth_sees_a_budget_that_does_not_grow_with_the_length_of_a_sum(capsys, monkeypatch):
    monkeypatch.setattr(growth, "LENGTHS", (4, 4096))
    monkeypatch.setattr(growth, "GROWING", (("Affine", "D"),))
    monkeypatch.setattr(growth, "REAL", (("Attention", {"N": 2, "T": 3, "H": 4}),))
    largest = []
    for block in (noise.BLOCK, 1 << 20):
        monkeypatch.setattr(noise, "BLOCK", block)
        main(["calibrate", "--growth", "--cases", "6", "--jobs", "1", "--json", "g.json"])
        with open("g.json") as file:
            found = json.load(file)["growth"]
        assert [(row["layer"], row["length"]) for row in found] == [
            ("Affine D", 4), ("Affine D", 4096), ("Attention N=2 T=3 H=4", None)]
        largest.append(found[1]["cpu-float32"])
        shown = capsys.readouterr().out
        assert f"{largest[-1]:.0%}" in shown and "72 cases" in shown
    assert largest[0] < 0.4 and largest[1] > 2 * largest[0], largest
