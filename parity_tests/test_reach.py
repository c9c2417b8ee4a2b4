"""Reach: what the cases of a run were is measured, shown, and held against what is declared."""

import json

import pytest

from parity import check
from parity.cases import drawing
from parity.cases.case import ARRANGED, SCALES, patterns
from parity.cases.drawing import CASES, DEALS, crossings, draw
from parity.cases.reach import BETWEEN, Reach, declared
from parity.catalogue import CATALOGUE
from parity.cli import main
from parity.judge.lanes import LANES
from parity.promises import histories
from parity.sides.objects import modes

FOUR = [LANES[f"cpu-{dtype}"] for dtype in ("float64", "float32", "bfloat16", "float16")]


def reached(spec, seed, lanes=FOUR):
    """How far a default run in some lanes looks."""
    reach = Reach(spec)
    for lane in lanes:
        for index in range(CASES):
            reach.add(draw(spec, seed, index, lane.admits, lane.deal), lane)
    return reach


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)
def test_the_cases_of_a_default_run_miss_nothing(spec):
    assert sorted(lane.deal for lane in FOUR) == list(range(DEALS))
    reach = reached(spec, 1)
    assert reach.missed == [] and reach.cases == DEALS * CASES
    assert reached(spec, 1, FOUR[:1]).missed


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["Adam", "TimeGRU", "TimeDropout", "MultiHeadAttention", "PositionalEmbedding"])
def test_nor_do_those_of_another_seed(name, seed):
    assert reached(CATALOGUE[name], seed).missed == []


def test_what_is_declared_is_all_that_a_layer_knows():
    for spec in CATALOGUE.values():
        wanted = declared(spec)
        assert wanted.layouts == set(ARRANGED) and wanted.scales == set(SCALES)
        assert wanted.patterns >= {"normal", "uniform", "wide", "ties", "sparse", "equal", *spec.patterns}
        assert wanted.patterns <= set(patterns(spec)) and len(wanted.dtypes) == DEALS - len(spec.untold)
        assert "N" not in spec.letters or wanted.sizes["N"] >= {0, 1} or spec.where
        if histories.known_steps(spec):
            assert wanted.steps == set(histories.known_steps(spec)) and wanted.calls == max(histories.LENGTHS)
            assert wanted.modes == set(modes(spec))
        for name, values in (spec.options | spec.attributes).items():
            assert wanted.options[name] >= set(values)
    assert declared(CATALOGUE["LayerNorm"]).options["eps"] == {1e-6, 1e-5, 1e-3, 0.5, 10.0, BETWEEN}
    assert declared(CATALOGUE["TimeLSTM"]).options == {"stateful": {False, True}, "cut": {0, BETWEEN},
                                                       "given": {False, True}}


KNOWN = histories.known_steps
# what of the drawing is broken, and how; a layer that has it; what is missed then
BROKEN = {
    "layouts": ({"cases.drawing.LAID": ("C", "mixed"), "cases.drawing.ARRANGED": ("C",)}, "Affine",
                {"the layout F", "the layout sliced", "the layout reversed"}),
    "patterns": ({"cases.drawing.usual_patterns": lambda spec: ("normal", "wide"), "cases.drawing.ODD": ("equal",)},
                 "Affine", {"the pattern sparse", "the pattern ties", "the pattern uniform"}),
    "scales": ({"cases.drawing.oddities": lambda spec: [{"layout": "expanded"}], "cases.drawing.SCALES": (0.1, 1.0)},
               "clip_grads", {"the scale 0.001", "the scale 0.01", "the scale 10", "the scale 100", "the scale 1000"}),
    "no rows": ({"cases.drawing.oddities": lambda spec: [{"layout": "expanded"}], "cases.drawing.BATCHES": (2,)},
                "Affine", {"N 0", "N 1"}),
    "options": ({"cases.drawing.cards": lambda values: (values[0],)}, "LayerNorm",
                {"eps 0.001", "eps 0.5", "eps 1e-06", "eps 10.0", "eps a number between"}),
    "steps": ({"promises.histories.known_steps": lambda spec: [n for n in KNOWN(spec) if n != "own"]}, "Affine",
              {"the step own"}),
    "modes": ({"promises.histories.modes": lambda spec: [mode for mode in modes(spec) if mode != "inner"]}, "Affine",
              {"the mode inner"}),
    "programs": ({"promises.histories.LENGTHS": (0, 0, 4)}, "Affine", {"24 calls on one object"}),
}


@pytest.mark.parametrize("what", BROKEN, ids=[what.replace(" ", "-") for what in BROKEN])
def test_what_the_drawing_leaves_out_is_named(what, monkeypatch):
    changes, layer, missing = BROKEN[what]
    wanted = declared(CATALOGUE[layer])
    monkeypatch.setattr("parity.cases.reach.declared", lambda spec: wanted)
    assert reached(CATALOGUE[layer], 0).missed == []
    for name, value in changes.items():
        monkeypatch.setattr(f"parity.{name}", value)
    assert {*reached(CATALOGUE[layer], 0).missed} >= missing


def test_a_whole_run_that_falls_short_fails_and_a_smaller_one_says_what_it_left_out(monkeypatch):
    report = check("clip_grads", "cpu-*")
    assert report.ok and report.whole
    assert report.reach["clip_grads"].crossed("H") == [8, 16, 32, 64, 128, 256, 512, 1024]
    few = check("clip_grads", "cpu-float32", cases=3)
    assert few.ok and not few.whole and few.reach["clip_grads"].missed
    monkeypatch.setattr(drawing, "walked", lambda spec: ({"H": 8},))
    short = check("clip_grads", "cpu-*")
    assert not short.ok and any("the cases of clip_grads never had " in reason for reason in short.reasons)
    monkeypatch.undo()
    monkeypatch.setattr(drawing, "LAID", ("C", "F", "mixed"))
    monkeypatch.setattr(drawing, "ARRANGED", ("C",))
    short = check("clip_grads", "cpu-*")
    assert any(reason.endswith("never had the layout reversed, the layout sliced") for reason in short.reasons)


def test_reach_is_printed_and_written(tmp_path, capsys):
    file = tmp_path / "check.json"
    assert main(["check", "--layer", "Affine", "--lane", "cpu-float32", "--cases", "6", "--reach", "--jobs", "1",
                 "--json", str(file)]) == 0
    (reach,) = json.loads(file.read_text())["reach"]
    assert reach["layer"] == "Affine" and reach["cases"] == 6 and reach["dtypes"] == ["float32"]
    assert reach["largest"]["N"] >= 128 and reach["missed"]
    assert "not reached" in capsys.readouterr().out
    assert {size for sizes in crossings(CATALOGUE["Affine"]) for size in sizes.values()} >= {1023, 1024, 1025}
