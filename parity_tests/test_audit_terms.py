"""What a wrong gradient differs by, told without knowing the layer: each in a layer whose right form is right."""

import pytest

from .audit_styles import judge

FUNCTION = """
import math


def layer_forward({arguments}):
    {value}
    return out, ({arguments},)


def layer_backward(dout, cache):
    {arguments}, = cache
    {gradient}
"""

# arguments; forward; backward; what stands there wrongly in place of what; kind and word of the diagnosis
CASES = {
    "branch by the cotangent": (
        "x", "out = np.where(x > 0, x, 0.2 * x)", "return np.where(x > 0, dout, 0.2 * dout)",
        "np.where(x > 0", "np.where(dout > 0", "branch", "incoming gradient"),
    "total for every entry": (
        "x, gamma", "out = x * gamma", "return dout * gamma, (dout * x).sum(axis=0)",
        "(dout * x).sum(axis=0)", "(dout * x).sum() * np.ones_like(gamma)", "axis", "every entry"),
    "gates stacked in another order": (
        "x, W", "a = x @ W; out = np.hstack([np.tanh(a[:, :1]), np.sin(a[:, 1:2]), np.cos(a[:, 2:])])",
        "a = x @ W; d = np.hstack([1 - np.tanh(a[:, :1]) ** 2, np.cos(a[:, 1:2]), -np.sin(a[:, 2:])]) * dout; "
        "return d @ W.T, x.T @ d", "x.T @ d", "x.T @ d[:, [1, 0, 2]]", "order", "blocks"),
    "sign lost": (
        "x", "out = np.abs(x) ** 3", "return dout * 3 * x * np.abs(x)",
        "dout * 3 * x * np.abs(x)", "np.abs(dout * 3 * x * x)", "sign", "positive"),
    "half of a product rule": (
        "x", "out = 0.5 * x * (1 + np.vectorize(math.erf)(x))",
        "return dout * (0.5 * (1 + np.vectorize(math.erf)(x)) + x * np.exp(-x * x) / np.sqrt(np.pi))",
        "+ x * np.exp(-x * x) / np.sqrt(np.pi)", "", "jacobian", "product rule"),
    "skip past a mask": (
        "x", "out = np.maximum(x + np.tanh(x), 0)",
        "d = dout * (x > 0); return d + d * (1 - np.tanh(x) ** 2)",
        "return d + d", "return dout + d", "jacobian", "mask"),
    "another mask": (
        "x", "out = x * (np.arange(x.size).reshape(x.shape) % 3 > 0) * 1.5",
        "return dout * (np.arange(x.size).reshape(x.shape) % 3 > 0) * 1.5", "% 3 > 0", "% 3 < 2", "branch", "mask"),
    "matrix transposed in einsum": (
        "x1, x2, W", "out = np.einsum('ni,kij,nj->nk', x1, W, x2)",
        "return (np.einsum('nk,kij,nj->ni', dout, W, x2), np.einsum('nk,kij,ni->nj', dout, W, x1), "
        "np.einsum('nk,ni,nj->kij', dout, x1, x2))",
        "'nk,kij,ni->nj'", "'nk,kji,ni->nj'", "transposed", "last two axes"),
    "sum for a mean": (
        "x", "out = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 0.1)",
        "s = np.sqrt((x * x).mean(axis=1, keepdims=True) + 0.1); "
        "return dout / s - x * (dout * x).mean(axis=1, keepdims=True) / s ** 3",
        "(dout * x).mean(", "(dout * x).sum(", "weight", "6 is axis 1"),
    "factor of an inner power": (
        "x", "out = np.tanh(x + 0.1 * x ** 3)",
        "return dout * (1 - np.tanh(x + 0.1 * x ** 3) ** 2) * (1 + 0.3 * x * x)",
        "0.3 * x * x", "0.1 * x * x", "weight", "0.333333"),
    "norm as a constant": (
        "x", "out = x / np.linalg.norm(x, axis=1, keepdims=True)",
        "n = np.linalg.norm(x, axis=1, keepdims=True); y = x / n; "
        "return (dout - y * (dout * y).sum(axis=1, keepdims=True)) / n",
        "- y * (dout * y).sum(axis=1, keepdims=True)", "", "dropped", "square"),
    "scores transposed": (
        "x", "S = x @ x.T; out = np.tanh(S) @ x",
        "S = np.tanh(x @ x.T); d = (dout @ x.T) * (1 - S * S); return S.T @ dout + d @ x + d.T @ x",
        "+ d.T @ x", "+ d @ x", "transposed", "product transposed"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_told(name):
    arguments, value, gradient, old, new, kind, word = CASES[name]
    source = FUNCTION.format(arguments=arguments, value=value, gradient=gradient)
    right = judge(source)
    assert right.ok, "\n".join(right.lines())
    before, _, after = source.rpartition(old)
    found = judge(before + new + after).errors
    assert [(f.kind, word in f.diagnosis) for f in found] == [(kind, True)], [f.diagnosis for f in found]


SCALAR = """
class Swish:
    def __init__(self):
        self.beta, self.dbeta = np.array([1.5]), np.zeros(1)

    def forward(self, x):
        self.x, self.s = x, 1 / (1 + np.exp(-self.beta * x))
        return x * self.s

    def backward(self, dy):
        d = self.s * (1 - self.s)
        self.dbeta[...] = (dy * self.x ** 2 * d).sum()
        return dy * (self.s + self.beta * self.x * d)
"""


def test_one_number_is_explained_by_no_constant():
    (found,) = judge(SCALAR.replace("self.x ** 2 * d).sum()", "np.cos(self.x) * d).sum()")).errors
    assert "constant" not in found.diagnosis and "times" not in found.diagnosis
    assert judge(SCALAR).ok


def test_what_divides_by_nothing_explains_nothing():
    """Targets of both signs, whose sums are nearly zero, are no probabilities."""
    source = """
class Pull:
    def forward(self, x, t):
        self.x, self.t = x, t
        return np.sum(np.abs(x - t) ** 1.5)

    def backward(self):
        return 1.5 * np.sqrt(np.abs(self.x - self.t))
"""
    assert judge(source.replace("np.sqrt(", "np.sign(self.x - self.t) * np.sqrt(")).ok
    assert all(f.kind != "fused" for f in judge(source).errors)
