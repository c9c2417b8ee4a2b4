"""The vacuity gate: what a case could not notice is counted, and too much of it is a failure."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from parity import check
from parity.catalogue import CATALOGUE
from parity.judge import budget
from parity.judge.budget import measure
from parity.judge.lanes import LANES
from parity.judge.report import Report
from parity.promises import standard
from parity.trust.bounds import lower, upper
from parity.trust.vacuity import MOST, WRONG, Vision, blind

LANE = LANES["cpu-float32"]
AFFINE = CATALOGUE["Affine"]


def sight(case, oracle=lambda gradient: gradient):
    """What is not noticed where the gradients are changed."""
    yardstick = measure(case, LANE)
    changed = replace(yardstick, oracle={name: oracle(value) if name.startswith("grad.") else value
                                         for name, value in yardstick.oracle.items()})
    found = blind(case, LANE, changed)
    return found if found is None else {kind for kind, _ in found}


def test_an_ordinary_case_sees_everything():
    assert sight(standard(AFFINE)) == set()


@pytest.mark.parametrize(("size", "unseen"), [(0.005, set()), (0.5, {"scaled"}), (1e9, set(WRONG))])
def test_a_budget_that_is_too_wide_hides_some_mistakes_first(size, unseen):
    case = standard(AFFINE)
    yardstick = measure(case, LANE)
    flat = {n: np.full_like(b, size * np.abs(yardstick.oracle[n]).max()) if n.startswith("grad.") else b
            for n, b in yardstick.budget.items()}
    assert {kind for kind, _ in blind(case, LANE, replace(yardstick, budget=flat))} == unseen


def test_a_gradient_that_is_zero_is_seen_as_nothing():
    assert sight(standard(AFFINE), oracle=np.zeros_like) == {"zero", "scaled"}


def test_equal_numbers_cannot_be_permuted():
    assert sight(standard(AFFINE), oracle=np.ones_like) == set()


def test_a_small_array_of_which_sparseness_leaves_nothing_is_counted_apart():
    seen = {}
    for seed in range(40):
        case = replace(standard(AFFINE), pattern="sparse", sizes={"N": 3, "D": 2, "H": 2}, seed=seed)
        data = case.data(LANE.narrow)
        left = all(a.any() for a in (*data.inputs.values(), *data.params.values()))
        seen.setdefault(left, set()).add(sight(case) is None)
    assert seen == {True: {False}, False: {True}}


@pytest.mark.parametrize("change", [{"pattern": "nonfinite"}, {"scale": 1e3}, {"scale": 1e-3},
                                    {"sizes": {"N": 1, "D": 6, "H": 7}}, {"sizes": {"N": 0, "D": 6, "H": 7}}],
                         ids=["pattern", "large", "small", "one", "none"])
def test_degenerate_cases_are_counted_apart(change):
    assert sight(replace(standard(AFFINE), **change)) is None


def test_a_case_in_which_nothing_is_valid_is_counted_apart():
    case = standard(CATALOGUE["Attention"], masked=True)
    yardstick = measure(case, LANE)
    yardstick.data.inputs["mask"] = np.zeros_like(yardstick.data.inputs["mask"])
    assert blind(case, LANE, yardstick) is None


def test_lanes_of_less_precision_are_not_held_to_it():
    assert blind(standard(AFFINE), replace(LANE, torch_dtype="bfloat16"), measure(standard(AFFINE), LANE)) is None


@pytest.mark.parametrize(("dull", "ordinary", "ok"), [(0, 0, True), (1, 1, True), (2, 2, False), (1, 6, True),
                                                      (4, 15, False), (5, 100, True), (11, 100, False)])
def test_the_gate_closes_where_chance_does_not_explain_it(dull, ordinary, ok):
    vision = Vision()
    for i in range(ordinary):
        vision.add(str(i), (("zero", "grad.x"),) if i < dull else ())
    assert (vision.ordinary, vision.blind, vision.ok) == (ordinary, dull, ok)


def test_a_report_counts_and_shows_what_was_not_seen():
    report = check("Affine", "cpu-float32", cases=80)
    (row,) = report.to_json()["vacuity"]
    assert row["ordinary"] > 0 and row["blind"] == 0 and row["ordinary"] + row["apart"] == 80
    assert f"every case was held to its budget; {row['ordinary']} ordinary ones were also asked" in str(report)
    assert "wrong gradient from the right one: 0 could not\n" in str(report)
    assert f"(the other {row['apart']} were not asked: " in str(report)


@pytest.mark.parametrize("factor", [80, 800, 1e12])
def test_a_blind_report_is_no_pass(monkeypatch, factor):
    monkeypatch.setattr(budget, "FACTOR", factor)
    report = check("Affine", "cpu-float32", cases=80)
    assert not report.findings and not report.ok
    assert "VACUOUS: Affine in cpu-float32" in str(report) and f"at most {MOST:.0%}" in str(report)


@pytest.mark.parametrize("found", [("zero", "scaled"), ("scaled", "zero")])
def test_the_reasons_stand_in_one_order(found):
    report = Report(0, ["Affine"], [LANE.name], {}, [], cases=1)
    for kind in found:
        report.result("Affine", LANE.name).vision.add("id", ((kind, "grad.x"),))
    assert "(scaled 1, zero 1)" in str(report)


def test_bounds_are_those_of_clopper_and_pearson():
    # none in n: 1 - 0.05^(1/n), about 3/n; one in ten: the tables' 0.0051 and 0.3942
    assert upper(0, 100_000) == pytest.approx(1 - 0.05**1e-5, rel=1e-9)
    assert (lower(1, 10), upper(1, 10)) == pytest.approx((0.0051162, 0.3941633), rel=1e-4)
    assert (lower(0, 10), upper(10, 10), upper(0, 0)) == (0, 1, 1)
    assert lower(1, 1) == pytest.approx(0.05)


@pytest.mark.parametrize(("hits", "trials"), [(1, 1), (1, 2), (2, 3), (30, 60), (1, 300), (299, 300), (250, 500)])
def test_bounds_are_right_to_the_last_digits(hits, trials):
    def exactly(most, p):
        """Probability of at most so many hits, in whole numbers."""
        a, b = p.as_integer_ratio()
        ways = sum(math.comb(trials, k) * a**k * (b - a) ** (trials - k) for k in range(most + 1))
        return Fraction(ways, b**trials)

    for bound, most, at in ((lower, hits - 1, Fraction(95, 100)), (upper, hits, Fraction(5, 100))):
        p = bound(hits, trials)
        if p < 1:
            assert exactly(most, p * (1 - 1e-12)) > at > exactly(most, min(p * (1 + 1e-12), 1.0))


def test_bounds_of_many_trials_add_only_the_terms_that_count(monkeypatch):
    lengths = []
    fsum = math.fsum
    monkeypatch.setattr(math, "fsum", lambda terms: lengths.append(len(terms)) or fsum(terms))
    p = lower(50_000, 100_800)
    assert sum(lengths) < 100 * 2000  # of up to 50,000 terms in each of 60 steps
    every = [math.lgamma(100_801) - math.lgamma(k + 1) - math.lgamma(100_801 - k) + k * math.log(p)
             + (100_800 - k) * math.log1p(-p) for k in range(50_000)]
    assert fsum(map(math.exp, every)) == pytest.approx(0.95, abs=1e-9)
