"""Comparison, verdicts and reports: what is wrong must not pass, in any form."""

import importlib
import itertools
import json

import numpy as np
import pytest
import torch

from parity import Pair, check, engine, replay
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.judge import budget
from parity.judge.budget import Yardstick, allowance, measure, yardsticks
from parity.judge.compare import compare, decided, shares
from parity.judge.lanes import LANES
from parity.judge.noise import Noise
from parity.promises import standard

LANE = LANES["cpu-float32"]
INF, NAN = np.inf, np.nan
EAGER = Pair("eager", reference=lambda x: torch.softmax(x, -1), port=lambda x: torch.exp(torch.log_softmax(x, -1)),
             inputs={"x": "N D"})


@pytest.mark.parametrize(("value", "oracle", "share"), [
    (1.0, 1.0, 0), (1.5, 1.0, 1), (2.0, 1.0, 2), (NAN, NAN, 0), (INF, INF, 0), (-INF, -INF, 0),
    (NAN, 1.0, INF), (1.0, NAN, INF), (INF, 1.0, INF), (INF, -INF, INF), (NAN, INF, INF), (0.0, -0.0, 0),
])
def test_shares(value, oracle, share):
    assert shares(np.array([value]), np.array([oracle]), np.array([0.5])) == share


@pytest.mark.parametrize("lane", ["cpu-float64", "cpu-float16"])
@pytest.mark.parametrize("name", ["AttentionSeq2seq", "GRU", "eager"])
def test_more_copies_never_make_a_budget_narrower(name, lane):
    spec = EAGER if name == "eager" else CATALOGUE[name]
    few, all_ = yardsticks(draw(spec, 0, 0), LANES[lane])
    assert (few.copies, all_.copies) == (budget.FEW, budget.COPIES)
    assert all((few.budget[name] <= all_.budget[name]).all() for name in few.budget)
    assert any((few.budget[name] < all_.budget[name]).any() for name in few.budget)
    measured = measure(draw(spec, 0, 0), LANES[lane])
    assert all(np.array_equal(all_.budget[name], measured.budget[name]) for name in few.budget)
    assert all(np.array_equal(all_.oracle[name], few.oracle[name], equal_nan=True) for name in few.oracle)


def test_what_few_copies_leave_open_all_of_them_decide(monkeypatch):
    case = draw(CATALOGUE["GRU"], 0, 0)
    first = engine.run_case(case, [LANE])[0].shares
    monkeypatch.setattr(engine, "CLEAR", 0.0)
    unclear = engine.run_case(case, [LANE])[0].shares
    yardstick = measure(case, LANE)
    sides = yardstick.reference, engine.run_port(case, yardstick.data, LANE)
    assert unclear == {n: max(float(compare(yardstick, q)[n].max()) for q in sides) for n in yardstick.oracle}
    assert any(first[name] > unclear[name] for name in first)


def test_a_port_that_is_wrong_once_in_a_while_is_not_asked_again_until_it_is_right():
    calls = itertools.count()
    pair = Pair("now_and_then", reference=np.tanh, port=lambda x: torch.tanh(x) * (1 + 0.1 * (next(calls) == 0)),
                inputs={"x": "N D"}, backward=lambda cotangent, x: cotangent / np.cosh(x) ** 2)
    (outcome,) = engine.run_case(draw(pair, 0, 0), [LANE])
    assert outcome.findings and outcome.findings[0].verdict == "port"


def test_a_missing_an_unexpected_and_a_misshapen_quantity_are_refused():
    yardstick = Yardstick(None, {"y": np.ones(2)}, {}, {"y": np.ones(2)})
    y = np.ones(2)
    for wrong, says in (({}, "expected"), ({"y": y, "z": y}, "z"), ({"y": np.ones(3)}, r"shape \(3,\)")):
        with pytest.raises(ValueError, match=says):
            compare(yardstick, wrong)


def test_greedy_choices_are_decided_until_the_first_doubt():
    score = np.array([[[9.0, 0, 0], [1.0, 1.0, 0], [0, 9.0, 0]]])
    assert decided(score, np.full(score.shape, 0.1)).tolist() == [[True, False, False]]
    assert decided(score, np.full(score.shape, 5.0)).tolist() == [[False, False, False]]


def test_ids_that_differ_fail_only_where_decided():
    score = np.array([[[9.0, 0], [1.0, 1.0], [0, 9.0]]])
    oracle = {"score": score, "ids": np.array([[0, 0, 1]])}
    yardstick = Yardstick(None, oracle, {}, {"score": np.full(score.shape, 0.1)})
    after = compare(yardstick, {"score": score, "ids": np.array([[0, 1, 0]])})
    before = compare(yardstick, {"score": score, "ids": np.array([[1, 0, 1]])})
    assert not after["ids"].any() and before["ids"].tolist() == [[INF, 0, 0]]


def test_the_budget_is_the_widest_copy_times_the_factor():
    oracle = np.array([1.0, 2.0])
    found = allowance(oracle, [oracle + [1e-6, 0], oracle - [2e-6, 1e-6]], LANE)
    u = LANE.unit_roundoff
    assert np.allclose(found, 8 * (np.array([2e-6, 1e-6]) + u * oracle + LANE.underflow), rtol=1e-9)
    floor = allowance(oracle, [oracle + [2e-6, 0]], LANE)
    assert np.isclose(floor[1], 8 * (2e-6 / np.sqrt(2) / 4 + 2 * u))
    overflowed = allowance(oracle, [np.array([1.0, INF]), oracle + [2e-6, 0]], LANE)
    assert np.array_equal(overflowed, floor)  # no copy's overflow makes room for anything


PLANTS = {
    "one element": lambda q: _at_largest(q, 1 + 1e-3),
    "all of it": lambda q: q * (1 + 1e-3),
    "sign": lambda q: -q,
    "zero": lambda q: q * 0,
    "NaN": lambda q: _at_largest(q, NAN),
}


def _at_largest(q, factor):
    q = np.array(q)
    q[np.unravel_index(np.abs(q).argmax(), q.shape)] *= factor
    return q


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize("module, side", [(budget, "run_reference"), (engine, "run_port")], ids=["reference", "port"])
@pytest.mark.parametrize("layer", ["Affine", "TimeLSTM", "AttentionSeq2seq"])
def test_a_planted_error_in_any_quantity_of_any_side_is_found(layer, module, side, plant, monkeypatch):
    case = standard(CATALOGUE[layer])
    real = getattr(module, side)
    names = [n for n, q in measure(case, LANE).oracle.items() if q.dtype.kind == "f"]
    for name in names:
        def planted(*args, name=name):
            found = real(*args)
            # neither in the oracle nor in the copies, which are the budget's
            actual = side == "run_port" or (Noise.current and not Noise.current.unit_roundoff)
            return found | {name: plant(found[name]).view(type(found[name]))} if actual else found

        monkeypatch.setattr(module, side, planted)
        (outcome,) = engine.run_case(case, [LANE])
        assert name in [finding.quantity for finding in outcome.findings]


def test_wrong_ids_are_found(monkeypatch):
    real = engine.run_port
    monkeypatch.setattr(engine, "run_port", lambda *args: (q := real(*args)) | {"ids": (q["ids"] + 1) % 5})
    (outcome,) = engine.run_case(standard(CATALOGUE["Seq2seq"]), [LANE])
    assert [f.quantity for f in outcome.findings] == ["ids"]


def test_a_side_that_raises_is_a_finding_that_says_where(monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(engine, "run_port", broken)
    report = replay(standard(CATALOGUE["Affine"]).id, "cpu-float32")
    assert not report.ok
    assert [f.check for f in report.findings] == ["raised"]
    assert "boom" in str(report) and "test_compare.py" in str(report)


def test_a_report_says_what_failed_and_how_to_see_it_again(monkeypatch):
    real = engine.run_port
    monkeypatch.setattr(engine, "run_port", lambda *args: (q := real(*args)) | {"grad.W": q["grad.W"] * 1.01})
    report = check("Affine", "cpu-*", cases=5)
    assert not report.ok
    failed = [row for row in report.rows if row["status"] == "fail"]
    assert {row["quantity"] for row in failed} == {"grad.W"}
    assert {row["lane"] for row in failed} >= {"cpu-float64", "cpu-float32"}
    finding = report.findings[0]
    assert finding.check == "port"
    assert finding.port == pytest.approx(1.01 * finding.reference, rel=1e-6)
    assert finding.reference == pytest.approx(finding.oracle, rel=1e-6)
    assert f"port {finding.port:.9g}, reference {finding.reference:.9g}" in str(report)
    assert report.to_json()["findings"][0]["values"] == {"port": finding.port, "reference": finding.reference,
                                                         "oracle": finding.oracle}
    assert finding.replay in str(report)
    assert not replay(finding.case_id, finding.lane).ok
    json.loads(json.dumps(report.to_json(), allow_nan=False))
    namespace = {}
    exec(finding.script(), namespace)


def test_rows_of_right_layers():
    report = check("Att*Weight", "cpu-float[36]*", cases=3, seed=5)
    assert report.ok and report.cases == 6
    assert {row["quantity"] for row in report.rows} == {"a", "grad.hs", "grad.h"}
    for row in report.rows:
        assert row["status"] == "ok" and row["cases"] == 3 and 0 <= row["worst"] < 1
        dealt = {draw(CATALOGUE["AttentionWeight"], 5, i, deal=LANES[row["lane"]].deal).id for i in range(3)}
        assert row["case_id"] in dealt


@pytest.mark.parametrize(("target", "attribute", "change", "culprit"), [
    ("reference.WeightSum", "backward", lambda out: (out[0], out[1] * 1.01), "reference backward"),
    ("reference.WeightSum", "forward", lambda out: out * 1.01, "reference forward"),
    ("torch_port.WeightSum", "forward", lambda out: out * 1.01, "undecided"),
    ("torch_port.WeightSum", "forward", lambda out: out + (out - out.detach()), "port"),
])
def test_three_witnesses_name_the_culprit(target, attribute, change, culprit, monkeypatch):
    package, name = target.split(".")
    owner = getattr(importlib.import_module(package), name)
    real = getattr(owner, attribute)
    monkeypatch.setattr(owner, attribute, lambda self, *args: change(real(self, *args)))
    report = replay(standard(CATALOGUE["WeightSum"]).id, "cpu-float32")
    assert not report.ok
    assert {f.verdict for f in report.findings} == {culprit}
    assert culprit in str(report)


def test_where_the_witnesses_agree_nobody_is_accused(monkeypatch):
    monkeypatch.setattr(engine, "compare", lambda y, q, **k: {n: s + 2 for n, s in compare(y, q, **k).items()})
    report = replay(standard(CATALOGUE["TimeGRU"]).id, "cpu-float32")
    assert {f.verdict for f in report.findings if f.quantity.startswith("grad.")} == {"nobody"}
