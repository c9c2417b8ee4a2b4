"""Causes common in the wild, each found and named in a layer written for it, whose right form is right."""

import numpy as np
import pytest

from parity.auditing import audit

RNG = np.random.default_rng(0)
X, IMAGES = RNG.standard_normal((4, 6)), RNG.standard_normal((2, 2, 5, 6))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Layer:
    """A forward and a backward with one mistake, or none."""

    def __init__(self, forward, backward):
        self.f, self.b = forward, backward

    def forward(self, *arrays):
        self.given, self.y = arrays, self.f(*arrays)
        return self.y

    def backward(self, dy):
        return self.b(dy, self.y, *self.given)


class Inline:
    """Attention weights whose softmax is written out."""

    diagonal = False

    def forward(self, x):
        self.x, s = x, 1.5 * x * x
        e = np.exp(s - s.max(axis=1, keepdims=True))
        self.a = e / e.sum(axis=1, keepdims=True)
        return self.a

    def backward(self, da):
        ds = self.a * (1 - self.a) * da if self.diagonal else self.a * (da - (self.a * da).sum(axis=1, keepdims=True))
        return 3.0 * self.x * ds


class FusedInline(Inline):
    def backward(self, da):
        return 3.0 * self.x * da


class Norm:
    """A norm of rows, whose eps its backward forgets."""

    eps = 1e-5

    def forward(self, x):
        self.away = x - x.mean(axis=1, keepdims=True)
        self.var = (self.away * self.away).mean(axis=1, keepdims=True)
        return self.away / np.sqrt(self.var + 1e-5)

    def backward(self, dy):
        std = np.sqrt(self.var + self.eps)
        n = self.away / std
        return (dy - dy.mean(axis=1, keepdims=True) - n * (dy * n).mean(axis=1, keepdims=True)) / std


class Windows:
    """Sums over windows of three, weighted, the next one two further."""

    add = True

    def forward(self, x):
        self.shape = x.shape
        return np.stack([x[:, j : j + 3] @ np.array([1.0, 2.0, 3.0]) for j in range(0, x.shape[1] - 2, 2)], axis=1)

    def backward(self, dy):
        dx = np.zeros(self.shape)
        for i in range(dy.shape[1]):
            part = dy[:, i : i + 1] * np.array([1.0, 2.0, 3.0])
            if self.add:
                dx[:, 2 * i : 2 * i + 3] += part
            else:
                dx[:, 2 * i : 2 * i + 3] = part
        return dx


class Convolution:
    """3 by 3 with a padding of one, which its backward crops at ``start``."""

    start, whole = 1, False
    W = RNG.standard_normal((3, 3))

    def forward(self, x):
        p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        h, w = x.shape[2:]
        return sum(self.W[i, j] * p[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3))

    def backward(self, dy):
        h, w = dy.shape[2:]
        dp = np.zeros((*dy.shape[:2], h + 2, w + 2))
        for i in range(3):
            for j in range(3):
                dp[:, :, i : i + h, j : j + w] += self.W[i, j] * dy
        return dp if self.whole else dp[:, :, self.start : self.start + h, self.start : self.start + w]


class Dropout:
    """Keeps what a fixed draw keeps, divided by its share."""

    mask, scale = True, True

    def forward(self, x):
        self.kept = np.random.default_rng(3).random(x.shape) > 0.4
        return x * self.kept / 0.6

    def backward(self, dy):
        return dy * (self.kept if self.mask else 1.0) / (0.6 if self.scale else 1.0)


class Pool:
    """The largest of each row; ``pick`` says which entry gets the gradient."""

    pick = staticmethod(np.argmax)

    def forward(self, x):
        self.x = x
        return x.max(axis=1)

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        dx[np.arange(len(dx)), self.pick(self.x, axis=1)] = dy
        return dx


def with_(kind, **attributes):
    return type(kind.__name__, (kind,), attributes)()


def cross_entropy(p, t):
    return -(t * np.log(p)).sum() / len(p)


P, T = softmax(X), np.eye(6)[[0, 3, 3, 5]]
SIGMOID, TANH, SQUARE = (lambda x: 1 / (1 + np.exp(-x))), np.tanh, (lambda x: x * x * x)

# name: right layer, wrong layer, inputs, kind, words
CAUSES = {
    "softmax's diagonal, written out": (Inline(), with_(Inline, diagonal=True), (X,), "jacobian", "diagonal alone"),
    "softmax's diagonal, by itself": (
        Layer(softmax, lambda dy, y, x: y * (dy - (y * dy).sum(-1, keepdims=True))),
        Layer(softmax, lambda dy, y, x: y * (1 - y) * dy), (X,), "jacobian", "diagonal alone"),
    "fused already": (Inline(), FusedInline(), (X,), "jacobian", "already fused"),
    "fused, of a cross entropy": (
        Layer(cross_entropy, lambda dy, y, p, t: (-dy * t / p / len(p), -dy * np.log(p) / len(p))),
        Layer(cross_entropy, lambda dy, y, p, t: (dy * (p - t) / len(p), -dy * np.log(p) / len(p))), (P, T), "fused",
        "already fused through softmax: input 0 - input 1"),
    "fused, and softmax again": (
        Layer(lambda x, t: cross_entropy(softmax(x), np.eye(6)[t]),
              lambda dy, y, x, t: dy * (softmax(x) - np.eye(6)[t]) / len(x)),
        Layer(lambda x, t: cross_entropy(softmax(x), np.eye(6)[t]),
              lambda dy, y, x, t: softmax(x) * ((d := dy * (softmax(x) - np.eye(6)[t]) / len(x))
                                                - (softmax(x) * d).sum(-1, keepdims=True))),
        (X, np.array([0, 3, 3, 5])), "fused", "once more"),
    "at the output": (Layer(SQUARE, lambda dy, y, x: 3 * x * x * dy), Layer(SQUARE, lambda dy, y, x: 3 * y * y * dy),
                      (X,), "jacobian", "at the output"),
    "at the input": (Layer(SIGMOID, lambda dy, y, x: y * (1 - y) * dy), Layer(SIGMOID, lambda dy, y, x:
                     x * (1 - x) * dy), (X,), "jacobian", "at the input"),
    "eps forgotten": (Norm(), with_(Norm, eps=0.0), (X,), "epsilon", "eps is forgotten"),
    "windows assigned": (Windows(), with_(Windows, add=False), (np.ones((2, 9)) * X[:2, :1],), "duplicates",
                         "assigned instead of added"),
    "padding": (Convolution(), with_(Convolution, start=0), (IMAGES,), "cropped",
                "shifted by 1 along axis 2, 1 along axis 3"),
    "padding kept": (Convolution(), with_(Convolution, whole=True), (IMAGES,), "cropped", "padding is not cropped"),
    "cotangent unused": (Layer(TANH, lambda dy, y, x: dy * (1 - y * y)), Layer(TANH, lambda dy, y, x: 1 - y * y), (X,),
                         "linear", "the cotangent is not used"),
    "mask left out": (Dropout(), with_(Dropout, mask=False), (X,), "jacobian", "the mask is left out"),
    "scale left out": (Dropout(), with_(Dropout, scale=False), (X,), "factor", "the scale is left out"),
    "both left out": (Dropout(), with_(Dropout, mask=False, scale=False), (X,), "jacobian", "the mask, and the scale"),
    "wrong argument": (Layer(lambda x: np.maximum(x, 0), lambda dy, y, x: dy * (x > 0)), Layer(
        lambda x: np.maximum(x, 0), lambda dy, y, x: dy * (x <= 0)), (X,), "branch", "wrong argument of a maximum"),
    "smallest of a pool": (Pool(), with_(Pool, pick=staticmethod(np.argmin)), (X,), "branch",
                           "wrong argument of a maximum"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_found_and_named(name):
    right, wrong, inputs, kind, words = CAUSES[name]
    report = audit(right, inputs=inputs, autograd=False)
    assert report.ok and {f.severity for f in report.findings} <= {"note"}, str(report)
    report = audit(wrong, inputs=inputs, autograd=False)
    found = [f for f in report.findings if f.check in ("gradient", "shape")]
    assert not report.ok and kind in {f.kind for f in found}, str(report)
    assert any(words in f.diagnosis for f in found if f.kind == kind), str(report)
