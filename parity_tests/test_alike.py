"""Rounding is a function: what is alike errs alike, and such errors do not even out over a long sum."""

from functools import reduce

import numpy as np
import pytest
import torch

from parity import Pair, floats
from parity.cases.case import Case
from parity.judge.budget import measure
from parity.judge.compare import compare, worst
from parity.judge.lanes import LANES
from parity.judge.noise import Noisy, noise, recording
from parity.sides import run_port

U = 2.0**-24
LENGTH = 4096


def share(pair, lane):
    """The largest share of the budget that the port uses."""
    largest = 0.0
    for seed in range(3):
        case = Case(pair, {"N": LENGTH, "D": 6}, "normal", 1.0, "C", {}, seed)
        yardstick = measure(case, LANES[lane])
        shares = compare(yardstick, run_port(case, yardstick.data, LANES[lane]))
        largest = max(largest, *(worst(one)[0] for one in shares.values()))
    return largest


def nearly(rng, shape, sizes):
    return 1 / 3 + 1e-5 * rng.standard_normal(shape)


def one_by_one(x):
    return reduce(torch.add, x.detach().unbind(0)) + x.sum(0) - x.sum(0).detach()


SUMS = {
    "sum": lambda x: x.sum(0), "mean": lambda x: np.mean(x, 0) * len(x), "matmul": lambda x: np.ones_like(x[:, 0]) @ x,
    "einsum": lambda x: np.einsum("nd,n->d", x, np.ones_like(x[:, 0])),
    "dot": lambda x: np.dot(x.T, np.ones_like(x[:, 0])),
}


def scattered(x):
    total = np.zeros_like(x, shape=(1, x.shape[1]))
    np.add.at(total, np.zeros(len(x), int), x)
    return total[0]


@pytest.mark.parametrize("lane", ["cpu-float64", "cpu-float32"])
@pytest.mark.parametrize("total", [*SUMS.values(), scattered], ids=[*SUMS, "add.at"])
def test_a_long_sum_of_what_is_nearly_equal_may_lean(total, lane):
    pair = Pair("sum", total, one_by_one, {"x": floats("N D", draw=nearly)},
                backward=lambda dy, x: np.broadcast_to(dy, x.shape).copy())
    assert share(pair, lane) < 0.6


@pytest.mark.parametrize("total", [lambda x: torch.sum(x, 0), lambda x: x.new_ones(len(x)) @ x], ids=["sum", "mv"])
def test_and_so_may_one_in_torch(total):
    assert share(Pair("sum", total, one_by_one, {"x": floats("N D", draw=nearly)}), "cpu-float32") < 0.6


def rows(rng, shape, sizes):
    """Two different rows, again and again."""
    return np.resize(1 + 1e-3 * rng.standard_normal((2, shape[1])), shape)


def signs(x):
    return np.resize([1.0, -1.0], len(x)).astype(str(x.dtype).removeprefix("torch."))


@pytest.mark.parametrize("lane", ["cpu-float64", "cpu-float32"])
def test_rows_that_are_repeated_err_alike(lane):
    def reference(x):
        y = x
        for _ in range(6):
            y = y * 1.1 - 0.1
        return np.matmul(signs(y), y)

    def port(x):
        y = x
        for _ in range(6):
            y = (y - 0.1 / 1.1) * 1.1
        return torch.from_numpy(signs(y)) @ y

    def backward(dy, x):
        return np.multiply.outer(signs(x), dy) * 1.1**6

    pair = Pair("rows", reference, port, {"x": floats("N D", draw=rows)}, backward=backward)
    assert share(pair, lane) < 0.6


def total(x, ties):
    with noise(U, "test", ties=ties):
        return float(np.asarray(x.view(Noisy).sum(), np.float64) / x.astype(np.float64).sum() - 1) / U


@pytest.mark.parametrize("spread, least, most", [(0.0, 30, 3 * LENGTH), (1e-6, 30, 3 * LENGTH), (0.5, 0, 80)])
def test_a_sum_errs_by_as_many_terms_as_are_alike(spread, least, most):
    x = (1 + spread * np.random.default_rng(0).standard_normal(LENGTH)).astype(np.float32)
    with recording() as ties:
        x.view(Noisy).sum()
    assert least <= np.median([abs(total(x, ties)) for _ in range(9)]) <= most


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_entries_that_are_equal_err_equally_by_half(dtype):
    x = np.full(LENGTH, 0.7, dtype)
    with recording() as ties:
        x.view(Noisy).sum()
    u = np.finfo(dtype).eps / 2
    leaning = []
    for number in range(20):
        with noise(u, str(number), ties=ties):
            errors = np.asarray(x.view(Noisy) * 1) / 0.7 - 1
        leaning.append(errors.mean() / u)
        assert errors.std() > u / 2
    assert np.std(leaning) > 0.5
