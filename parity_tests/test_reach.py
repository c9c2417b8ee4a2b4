"""Reach: what the cases of a run were is measured, shown, and held against what is declared."""

import json

import pytest

from parity import check
from parity.cases import drawing
from parity.cases.drawing import CASES, DEALS, crossings, draw
from parity.cases.reach import Reach
from parity.catalogue import CATALOGUE
from parity.cli import main
from parity.judge.lanes import LANES


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)
def test_the_cases_of_a_default_run_miss_nothing(spec):
    lanes = [LANES[f"cpu-{dtype}"] for dtype in ("float64", "float32", "bfloat16", "float16")]
    assert sorted(lane.deal for lane in lanes) == list(range(DEALS))
    reach = Reach(spec)
    for lane in lanes:
        for index in range(CASES):
            reach.add(draw(spec, 1, index, lane.admits, lane.deal), lane)
    assert reach.missed == [] and reach.cases == DEALS * CASES
    half = Reach(spec)
    for index in range(CASES):
        half.add(draw(spec, 1, index, lanes[0].admits, lanes[0].deal), lanes[0])
    assert half.missed


def test_a_whole_run_that_falls_short_fails_and_a_smaller_one_says_what_it_left_out(monkeypatch):
    report = check("clip_grads", "cpu-*")
    assert report.ok and report.whole
    assert report.reach["clip_grads"].crossed("H") == [8, 16, 32, 64, 128, 256, 512, 1024]
    few = check("clip_grads", "cpu-float32", cases=3)
    assert few.ok and not few.whole and few.reach["clip_grads"].missed
    monkeypatch.setattr(drawing, "walked", lambda spec: ({"H": 8},))
    short = check("clip_grads", "cpu-*")
    assert not short.ok and any("the cases of clip_grads never had " in reason for reason in short.reasons)


def test_reach_is_printed_and_written(tmp_path, capsys):
    file = tmp_path / "check.json"
    assert main(["check", "--layer", "Affine", "--lane", "cpu-float32", "--cases", "6", "--reach", "--jobs", "1",
                 "--json", str(file)]) == 0
    (reach,) = json.loads(file.read_text())["reach"]
    assert reach["layer"] == "Affine" and reach["cases"] == 6 and reach["dtypes"] == ["float32"]
    assert reach["largest"]["N"] >= 128 and reach["missed"]
    assert "not reached" in capsys.readouterr().out
    assert {size for sizes in crossings(CATALOGUE["Affine"]) for size in sizes.values()} >= {1023, 1024, 1025}
