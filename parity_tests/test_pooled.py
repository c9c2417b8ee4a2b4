"""Errors that single elements forgive: of a tensor as a whole, and over the cases of a run."""

import shlex
from textwrap import dedent

import numpy as np
import pytest
import torch.nn.functional as F

from parity import Pair, check
from parity.cli import main
from parity.engine import Outcome
from parity.judge.pooled import BIAS, CLIP, LEAST, Pool, Sum, _heavy, gauge, leaning, whole

U = 2.0**-24


def linear(change):
    return Pair("linear", lambda x, W: (x[:, :, None] * W).sum(1), lambda x, W: change(x @ W),
                {"x": "N D", "W": "D H"}, reference_kind="torch")


def silu(change):
    return Pair("silu", lambda x: x / (1 + np.exp(-x)), lambda x: change(F.silu(x)), {"x": "N D"}, scales=(0.1, 1.0))


WRONG = {
    "an approximation off by 3e-7": (lambda y: y * (1 + 3e-7), "cpu-float32"),
    "a factor of 1.005": (lambda y: y * 1.005, "cpu-bfloat16"),
    "a factor of 1.001": (lambda y: y * 1.001, "cpu-float16"),
}


@pytest.mark.parametrize("kind", [linear, silu], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("change, lane", WRONG.values(), ids=WRONG)
def test_what_leans_to_one_side_is_found(kind, change, lane):
    """In 60 cases; 250 of a single operation in half precision."""
    report = check(kind(change), lane, cases=250 if kind is silu and lane == "cpu-bfloat16" else 60)
    found = [f for f in report.findings if f.check == "leaning"] or report.findings
    assert found and {f.layer for f in found} == {kind.__name__} and {f.lane for f in found} == {lane}


@pytest.mark.parametrize("kind", [linear, silu], ids=lambda kind: kind.__name__)
def test_right_code_leans_nowhere(kind):
    pool = Pool()
    report = check(kind(lambda y: y), "cpu-*", cases=40, seen=pool.add)
    assert report.ok and not pool.leaning()
    assert max(total.score for total in pool.sums.values()) < 2 < pool.limit


def test_a_finding_names_its_slope_and_its_command_shows_it_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(dedent("""
        import torch
        from parity import Pair

        half = Pair("half", lambda x: x * torch.sigmoid(x), lambda x: 1.005 * torch.nn.functional.silu(x), {"x": "N D"},
                    scales=(1.0,))
    """))
    report = check("*", "cpu-bfloat16", catalogue="mine.py", cases=100)
    (finding, *_) = [f for f in report.findings if f.quantity == "y"]
    assert finding.check == "leaning" and finding.verdict == "port" and finding.to_json()["replay"] == finding.again
    command, *arguments = shlex.split(finding.replay)
    assert command == "parity" and arguments[0] == "check" and arguments[-2:] == ["--seed", "0"]
    assert main([*arguments, "--jobs", "1"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert finding.diagnosis in shown and "its errors lean to one side, by 0.0" in shown and finding.replay in shown


def test_what_a_case_tells_is_not_told_again():
    report = check(linear(lambda y: y * 1.1), "cpu-float32", cases=20)
    assert {f.check for f in report.findings} == {"port"}


def test_the_size_of_a_tensors_errors_is_held_to_that_of_its_copies():
    rng = np.random.default_rng(0)
    right = rng.uniform(1, 2, (40, 50))
    copies = [right + U * rng.standard_normal(right.shape) for _ in range(6)]
    measured = gauge(right, copies, U, 1e-38)
    most = CLIP / _heavy(6)
    honest, wrong = (right + size * U * rng.standard_normal(right.shape) for size in (1, 7))
    assert whole(measured, honest, right) < 0.5 < 1 < whole(measured, wrong, right)
    slopes = [leaning(measured, value, right, U)[0] for value in (honest, right * (1 + 3 * U), right * (1 - 3 * U))]
    assert [found[0] for found in slopes] == [0, most, -most]
    assert slopes[1][1] == pytest.approx(3 * U)


@pytest.mark.parametrize("copies", [2, 6])
def test_cases_of_few_copies_count_as_much_as_they_know(copies):
    rng = np.random.default_rng(0)
    spreads = np.sqrt(np.mean(rng.standard_normal((copies, 200_000)) ** 2, axis=0))
    beyond = np.clip(rng.standard_normal(200_000) / spreads, -CLIP, CLIP) / _heavy(copies)
    assert np.std(beyond) == pytest.approx(1, abs=0.01)


def test_copies_that_agree_by_luck_on_one_number_leave_room_for_its_neighbours():
    """A loss near 2: the six copies gave the number next to what is right, honest code the one after it."""
    right = np.array(1.9755396586611724)
    near, next_to_it = np.float32(right), np.nextafter(np.float32(right), np.float32(3))
    found = gauge(right, [near] * 6, U, 0.0)
    assert whole(found, next_to_it, right) < 1 < whole(found, np.float32(right + 5 * U * right), right)
    tensor = np.full(1000, right)
    assert whole(gauge(tensor, [tensor.astype(np.float32)] * 6, U, 0.0), np.full(1000, next_to_it), tensor) > 1


def test_what_is_not_finite_or_not_known_is_left_out():
    right = np.array([1.0, np.inf, 2.0, np.nan, 3.0])
    copies = [right * (1 + k * U) for k in (1, -1, 2)] + [np.array([1, 2, np.nan, 4, 3.0])]
    measured = gauge(right, copies, U, 1e-38)
    assert (measured.weights > 0).tolist() == [True, False, False, False, True]
    assert np.isfinite(whole(measured, right + 1, right)) and np.isfinite(leaning(measured, right + 1, right, U)).all()
    assert gauge(np.zeros(3), [np.zeros(3)] * 6, U, 1e-38) is None
    assert gauge(np.zeros((0, 3)), [np.zeros((0, 3))] * 6, U, 1e-38) is None


def test_honest_rounding_may_lean_a_quarter_of_a_roundoff():
    right = np.linspace(1, 2, 100_000)
    measured = gauge(right, [right * (1 + U * np.cos(k + np.arange(len(right)))) for k in range(6)], U, 1e-38)
    assert leaning(measured, right * (1 + 0.99 * BIAS * U), right, U)[0][0] == 0
    assert leaning(measured, right * (1 + 2 * BIAS * U), right, U)[0][0] > 0.9 / _heavy(6)


def test_few_cases_tell_nothing_and_many_tests_ask_for_more():
    few, many, pool = Sum(), Sum(), Pool()
    for _ in range(LEAST - 1):
        few.add(CLIP, U, U)
    for _ in range(LEAST):
        many.add(CLIP, 2 * U, U)
    assert few.score == 0 and many.score > 8 and many.mean == pytest.approx(2 * U)
    pool.sums = {("a",) * 4 + (k,): Sum() for k in range(10)}
    tight = pool.limit
    pool.sums |= {("b",) * 4 + (k,): Sum() for k in range(10_000)}
    assert 3.5 < tight < pool.limit < 6


def test_sums_are_of_one_layer_lane_quantity_and_side():
    pool = Pool()
    for index in range(LEAST):
        for layer, away in (("A", 1), ("B", (-1) ** index)):
            pool.add(Outcome(f"{index}", layer, "cpu-float32",
                             leaning={("y", "port"): ((CLIP * away, U, U), (0.0, 0.0, U))}))
    assert [key for key, _ in pool.leaning().items()] == [("A", "cpu-float32", "y", "port", "slope")]
