"""The audit's judgement: one budget for all, no right without something judged, no fault blamed on rounding."""

import math

import numpy as np
import pytest

from parity.auditing import audit
from parity.auditing.rounding import blind, rounded
from parity.judge.lanes import LANES

X = np.random.default_rng(0).standard_normal((4, 6))


def audited(layer, *inputs, seed=0):
    (result,) = audit(layer, inputs=inputs or (X,), seed=seed, autograd=False).results
    return result


def pooling(mark, times=1.0):
    """Max pooling over rows, whose backward marks the largest entries by ``mark(x, largest)``."""

    class Pool:
        def forward(self, x):
            self.x, self.y = x, x.max(axis=1)
            return self.y

        def backward(self, dy):
            return times * mark(self.x, self.y) * dy[:, None]

    return Pool()


def windows(times=1.0, add=True):
    """Max pooling over windows of three that overlap."""

    class Windows:
        def forward(self, x):
            self.x = x
            return np.stack([x[:, j : j + 3].max(axis=1) for j in range(x.shape[1] - 2)], axis=1)

        def backward(self, dy):
            dx = np.zeros_like(self.x)
            for n, j in np.ndindex(dy.shape):
                k = j + int(np.argmax(self.x[n, j : j + 3]))
                dx[n, k] = times * dy[n, j] + (dx[n, k] if add else 0)
            return dx

    return Windows()


MARKS = {
    "equality": lambda x, y: x == x.max(axis=1, keepdims=True),
    "kept": lambda x, y: x == y[:, None],
    "at least": lambda x, y: np.where(x * 2.0 / 2.0 >= y[:, None], 1.0, 0.0),
    "argmax": lambda x, y: np.eye(x.shape[1])[x.argmax(axis=1)],
    "sorted": lambda x, y: x == np.sort(x, axis=1)[:, -1:],
    "plain floats": lambda x, y: np.array([[float(v) == max(map(float, row)) for v in row] for row in x]),
}


@pytest.mark.parametrize("mark", MARKS)
def test_max_pooling_right_and_three_times_too_large(mark):
    right, wrong = audited(pooling(MARKS[mark])), audited(pooling(MARKS[mark], 3.0))
    assert right.verdict == "right" and right.judged["x"] <= 1 and not right.findings
    assert not wrong.ok and wrong.judged["x"] > 1e6
    (finding,) = [f for f in wrong.findings if f.severity == "error"]
    assert finding.kind == "factor"


def test_overlapping_windows_that_assign_are_found():
    assert audited(windows()).verdict == "right"
    assert not audited(windows(3.0)).ok
    assert not audited(windows(add=False)).ok


class Cancelling:
    """A gradient that is right by luck: its factor is the rounding of what cancels, made larger."""

    def forward(self, x):
        self.x = x
        return 1.0 * x

    def backward(self, dy):
        return dy * (1 + 1e14 * (self.x * 4.0 / 4.0 - self.x))


def test_a_budget_as_large_as_the_gradient_judges_nothing_and_says_so():
    report = audit(Cancelling(), inputs=(X,), autograd=False)
    (result,) = report.results
    assert not report.ok and result.verdict == "not judged" and list(result.unjudged) == ["x"] and not result.judged
    assert "not judged: x, its budget is as large as itself" in str(report)
    assert report.to_json()["results"][0]["unjudged"]


def test_what_is_blind():
    lane, measured = LANES["cpu-float64"], type("Measured", (), {"got": {}, "cotangents": [np.ones(3)]})
    ones = np.ones(3)
    assert blind(ones, 0.02 * ones, measured, lane) and not blind(ones, 0.002 * ones, measured, lane)
    assert not blind(1e-17 * ones, 1e-15 * ones, measured, lane)  # zero in theory: judged as that
    assert blind(1e-6 * ones, 1e-5 * ones, measured, lane)  # not to be told from noise that is no rounding
    assert not blind(np.zeros(3), 1e-300 * ones, measured, lane)


class AttentionWeight:
    """With a bias of the keys, whose gradient is zero in theory."""

    added = 0.0

    def __init__(self):
        rng = np.random.default_rng(1)
        self.params = [rng.standard_normal((3, 3)), rng.standard_normal(3)]
        self.grads = [np.zeros((3, 3)), np.zeros(3)]

    def forward(self, x, q):
        W, b = self.params
        self.x, self.q, self.k = x, q, x @ W + b
        s = np.einsum("ntd,nd->nt", self.k, q)
        e = np.exp(s - s.max(axis=1, keepdims=True))
        self.a = e / e.sum(axis=1, keepdims=True)
        return self.a

    def backward(self, da):
        ds = self.a * (da - (self.a * da).sum(axis=1, keepdims=True))
        dk = ds[:, :, None] * self.q[:, None]
        self.grads[0][...] = np.einsum("ntd,nte->de", self.x, dk)
        self.grads[1][...] = dk.sum(axis=(0, 1)) + self.added
        return dk @ self.params[0].T, np.einsum("nt,ntd->nd", ds, self.k)


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_that_is_zero_in_theory_is_held_to_the_budget(seed):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 3))
    result = audited(AttentionWeight(), *inputs, seed=seed)
    assert result.verdict == "right" and result.judged["params[1]"] <= 1, result
    wrong = type("Wrong", (AttentionWeight,), {"added": 1e-9})
    assert not audited(wrong(), *inputs, seed=seed).ok


class Relu:
    """In plain floats: neither complex numbers nor noise survive."""

    def forward(self, x):
        self.x = x
        return np.array([[max(0.0, float(v)) for v in row] for row in x])

    def backward(self, dy):
        return dy * (self.x > 0)


class Cut(Relu):
    def backward(self, dy):
        return super().backward(dy).astype(np.float32).astype(np.float64)


class Mean(Relu):
    def forward(self, x):
        return np.array([[math.fsum(row[j : j + 2]) / 2 for j in range(0, len(row), 2)] for row in x])

    def backward(self, dy):
        return np.repeat(dy, 2, axis=1) / 2


@pytest.mark.parametrize("kind", [Relu, Mean])
@pytest.mark.parametrize("seed", range(4))
def test_float64_without_complex_step_is_not_called_float32(kind, seed):
    result = audited(kind(), np.random.default_rng(seed).standard_normal((4, 6)), seed=seed)
    assert result.verdict == "right" and not result.findings, result


def test_a_kink_within_the_steps_of_the_derivative_is_no_fault():
    result = audited(Relu(), np.array([[0.01, -0.003, 1.0], [1e-4, -2e-5, 2.0]]))
    assert result.verdict == "right", result


def test_float32_is_told_by_its_grid():
    (finding,) = audited(Cut()).findings
    assert (finding.kind, finding.severity) == ("float32", "warning")
    third = np.array([1 / 3, 0.5])
    assert rounded(third.astype(np.float32)) and not rounded(third) and not rounded(np.array([0.5, 2.0, 0.0]))


# --- what was not looked at -----------------------------------------------------------------------

W = np.random.default_rng(1).standard_normal((6, 3))


class Affine:
    """Its parameter and gradient are attributes, seven times too large."""

    def __init__(self):
        self.W, self.dW = W.copy(), None

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = 7 * self.x.T @ dy
        return dy @ self.W.T


class InDictionaries(Affine):
    def __init__(self):
        self.parameters, self.gradients = {"W": W.copy()}, {}

    def forward(self, x):
        self.x = x
        return x @ self.parameters["W"]

    def backward(self, dy):
        self.gradients["W"] = 7 * self.x.T @ dy
        return dy @ self.parameters["W"].T


class Nested:
    def __init__(self):
        self.inner, self.params, self.grads = [Affine()], [], []

    def forward(self, x):
        return self.inner[0].forward(x)

    def backward(self, dy):
        return self.inner[0].backward(dy)


class InLists(Affine):
    """One of two layers is forgotten in params."""

    def __init__(self):
        self.W, self.params, self.grads = W.copy(), [], []
        self.one = self.Part()

    class Part:
        def __init__(self):
            self.params, self.grads = [W.copy()], [0 * W]

    def forward(self, x):
        self.x = x
        return x @ self.one.params[0]

    def backward(self, dy):
        self.one.grads[0][...] = 7 * self.x.T @ dy
        return dy @ self.one.params[0].T


@pytest.mark.parametrize(("kind", "name"), [(Affine, "W"), (InDictionaries, "parameters.W"), (Nested, "inner.0.W"),
                                            (InLists, "one.params.0")])
def test_parameters_that_nobody_looked_at_are_named_and_not_right(kind, name):
    report = audit(kind(), inputs=(X,), autograd=False)
    (result,) = report.results
    assert not report.ok and result.verdict == "not judged" and list(result.unjudged) == [name], report
    assert result.judged["x"] <= 1 and "looks like a parameter" in str(report)


class Buffers:
    """What is kept for later, the state and its gradient included, is no parameter."""

    def __init__(self):
        self.scale, self.h, self.dh, self.params, self.grads = np.ones(6), None, None, [W.copy()], [0 * W]
        self.W, self.dW = self.params[0], self.grads[0]

    def forward(self, x):
        self.x, self.h = x * self.scale, x[:, 0]
        return self.x @ self.W

    def backward(self, dy):
        self.dW[...] = self.x.T @ dy
        self.dx = dy @ self.W.T
        self.dh = self.dx[:, 0]
        return self.dx * self.scale


def test_buffers_states_and_other_names_of_params_are_no_parameters():
    result = audited(Buffers())
    assert result.verdict == "right" and set(result.judged) == {"x", "params[0]"}, result


# --- no false alarm -------------------------------------------------------------------------------


class ChangesItsCotangent:
    def forward(self, x):
        self.x = x
        return np.tanh(x)

    def backward(self, dy):
        dy *= 1 - np.tanh(self.x) ** 2
        return dy


class ChangesItsInput:
    def forward(self, x):
        x *= 2.0
        self.x = x
        return np.tanh(x).sum(axis=0)

    def backward(self, dy):
        return 2.0 * dy * (1 - np.tanh(self.x) ** 2)


@pytest.mark.parametrize("kind", [ChangesItsCotangent, ChangesItsInput])
def test_a_change_in_place_is_one_finding(kind):
    result = audited(kind())
    assert [f.check for f in result.findings] == ["in place"] and not any("kink" in text for text in result.remarks)


def test_kinks_alone_are_nothing_judged():
    class Steep:
        def forward(self, x):
            return np.abs(x)

        def backward(self, dy):
            return 3 * dy

    result = audited(Steep(), np.zeros((2, 3)))
    assert result.verdict == "not judged" and result.unjudged == {"x": "every entry of it is at a kink or tie"}


def test_a_gradient_that_is_not_finite_is_called_so():
    class Log:
        def forward(self, x):
            self.x = x
            return np.log1p(x**2)

        def backward(self, dy):
            return dy * 2 * self.x / (1 + self.x**2) + 0 * np.log(self.x)

    (finding,) = audited(Log()).errors
    assert finding.kind == "overflow" and "it is nan" in finding.diagnosis, finding


def linear(times):
    """Rows times a matrix, whose gradient is off by a factor."""

    class Linear:
        def __init__(self):
            self.params, self.grads = [np.random.default_rng(1).standard_normal((50, 50))], [np.zeros((50, 50))]

        def forward(self, x):
            self.x = x
            return x @ self.params[0]

        def backward(self, dy):
            self.grads[0][...] = times * self.x.T @ dy
            return dy @ self.params[0].T

    return Linear()


@pytest.mark.parametrize(("times", "kind"), [(2.0, ""), (0.0, "dropped")])
def test_what_explains_a_gradient_of_many_entries_stumbles_over_none_it_does_not_know(times, kind):
    result = audited(linear(times), np.random.default_rng(0).standard_normal((3, 50)))
    (finding,) = result.errors
    assert finding.kind == kind and not any("could not be tried" in text for text in result.remarks), result.remarks


def test_a_factor_is_found_though_twice_the_rows_are_too_many_to_differentiate():
    class Mean:
        def forward(self, x):
            self.x = x
            return np.mean(np.tanh(x) ** 2)

        def backward(self, dy):
            y = np.tanh(self.x)
            return dy * 2 * y * (1 - y**2)

    result = audited(Mean(), np.random.default_rng(0).standard_normal((30, 50)))
    (finding,) = result.errors
    assert finding.kind == "factor" and not any("could not be tried" in text for text in result.remarks), result


def test_a_parameter_as_long_as_the_batch_is_not_resized():
    def forward(x, b):
        return np.tanh(x + b), (x, b)

    def backward(dy, cache):
        x, b = cache
        dx = dy * (1 - np.tanh(x + b) ** 2)
        return dx, dx.sum(axis=0)

    rng = np.random.default_rng(0)
    report = audit(forward=forward, backward=backward, inputs=(rng.standard_normal((3, 3)), rng.standard_normal(3)))
    assert report.ok and not report.findings and "not asked" not in str(report), report


class Embedding:
    """Has a name of ours, and is made by size."""

    def __init__(self, vocabulary, size):
        self.params, self.grads = [np.ones((vocabulary, size))], [np.zeros((vocabulary, size))]

    def forward(self, ids):
        self.ids = ids
        return self.params[0][ids]

    def backward(self, dy):
        np.add.at(self.grads[0], self.ids, dy)


def test_a_class_that_only_shares_a_name_is_not_that_twin():
    (result,) = audit(Embedding, autograd=False).results
    assert not result.twin and result.judged.keys() == {"params[0]"} and {f.kind for f in result.findings} == {
        "accumulated"}
    assert audit(Embedding, like="Embedding", autograd=False).exit_code == 1
