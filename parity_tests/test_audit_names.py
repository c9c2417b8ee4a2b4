"""What a forward is by its name: any convention is right, a plain mistake is told, another function only noted."""

import numpy as np
import pytest

from parity.auditing import audit_file, canonical
from parity.auditing.canonical import NEARLY, OTHER, RIGHT

RNG = np.random.default_rng(5)
X, W, B = RNG.standard_normal((4, 6)), RNG.standard_normal((6, 3)), RNG.standard_normal(3)
P, T = RNG.uniform(0.1, 0.9, (4, 6)), RNG.uniform(0.1, 0.9, (4, 6))
Y = np.array([1, 0, 5, 1])
Q, K, V = RNG.standard_normal((3, 2, 4, 3))
G, S = RNG.uniform(0.5, 1.5, 6), RNG.standard_normal(6)
IMAGE, KERNEL = RNG.standard_normal((2, 3, 5, 7)), RNG.standard_normal((4, 3, 3, 3))


def soft(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def norm(x, axis, ddof=0, eps=1e-5):
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True, ddof=ddof) + eps)


def scores(d):
    return Q @ K.swapaxes(1, 2) / d


def huber(delta, away):
    r = np.abs(P - T) * 4
    return np.where(r <= delta, r * r / 2, delta * (r - away * delta)).sum() / 4


# name: its arrays; what is right; what is wrong, and a word of how
NAMES = {
    "Sigmoid": ([X], [1 / (1 + np.exp(-X))], [(1 / (1 + np.exp(X)), "sign")]),
    "tanh_forward": ([X], [np.tanh(X)], [(-np.tanh(X), "sign")]),
    "ReLU": ([X], [np.maximum(X, 0)], [(np.minimum(X, 0), "negative"), (np.abs(X), "absolute")]),
    "LeakyReLU": ([X], [np.where(X > 0, X, a * X) for a in (0.01, 0.3)], []),
    "elu": ([X], [np.where(X > 0, X, a * np.expm1(X)) for a in (1, 0.3)], [(np.where(X > 0, X, 0.3 * np.exp(X) - 1),
                                                                          "outside")]),
    "GELU": ([X], [0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))],
             [(0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.44715 * X**3))), NEARLY)]),
    "Swish": ([X], [X / (1 + np.exp(-X)), X / (1 + np.exp(-1.7 * X))], []),
    "softmax": ([X], [soft(X), soft(X, 0)], [(np.exp(X), "not normalised")]),
    "Softmax": ([X[None]], [soft(X[None])], [(soft(X.reshape(1, -1)).reshape(1, 4, 6), "everything")]),
    "LayerNorm": ([X, G, S], [norm(X, 1) * G + S, norm(X, 1, eps=1e-6) * G + S],
                  [(norm(X, 1, 1) * G + S, "one less"), (norm(X, 1) + S, "scale"), (norm(X, 1) * G, "shift")]),
    "batchnorm_forward": ([X, G, S], [norm(X, 0) * G + S], [(norm(X, 0, 1) * G + S, "one less")]),
    "RMSNorm": ([X, G], [X * G / np.sqrt((X**2).mean(axis=1, keepdims=True) + 1e-6)],
                [(X * G / np.sqrt((X**2).sum(axis=1, keepdims=True) + 1e-6), "mean")]),
    "affine_forward": ([X, W, B], [X @ W + B], [(X @ W, "bias"), (X @ W - B, "subtracted")]),
    "Dense": ([X, W, B], [X @ W + B], []),
    "attention_forward": ([Q, K, V], [soft(scores(3**0.5)) @ V, soft(scores(1)) @ V],
                          [(soft(scores(3)) @ V, "square root"), (soft(scores(3**0.5), 1) @ V, "queries"),
                           (np.tril(soft(scores(3**0.5))) @ V, "mask")]),
    "mse_loss": ([P, T], [((P - T) ** 2).mean(), ((P - T) ** 2).sum() / 2, ((P - T) ** 2).sum() / 8],
                 [(((P + T) ** 2).mean(), "added")]),
    "HuberLoss": ([4 * P, 4 * T], [huber(1.0, 0.5), huber(0.5, 0.5)], [(huber(1.0, 1.0), "half of it"),
                                                                      (huber(1.0, 0.0), "nothing")]),
    "svm_loss": ([X, Y], [canonical._margins(X, Y).sum() / 4], [(canonical._margins(X, Y).sum() / 4 + 1, "by 1")]),
    "CrossEntropyLoss": ([X, Y], [-np.log(soft(X)[range(4), Y]).mean(), -np.log(soft(X)[range(4), Y]).sum()],
                         [(-np.log(soft(X)[range(4), Y]).sum() / 24, "classes"),
                          (np.log(soft(X)[range(4), Y]).mean(), "sign")]),
    "bce": ([P, T], [-(T * np.log(P) + (1 - T) * np.log(1 - P)).mean()], [(-(T * np.log(P)).mean(), "other class")]),
    "Conv2d": ([IMAGE, KERNEL], [next(canonical._convolution(IMAGE, KERNEL))],
               [(next(canonical._convolution(IMAGE, KERNEL[:, :, ::-1, ::-1])), "turned")]),
    "MaxPool": ([IMAGE], [next(canonical._pooling(np.max)(IMAGE))], [(next(canonical._pooling(np.min)(IMAGE)),
                                                                     "smallest")]),
    "Embedding": ([Y, W], [W[Y]], []),
    "rnn_step_forward": ([X, X[:, :3], W, W[:3], B], [np.tanh(X @ W + X[:, :3] @ W[:3] + B)],
                         [(X @ W + X[:, :3] @ W[:3] + B, "tanh"), (np.tanh(X @ W + B), "earlier")]),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_convention_is_right_and_a_plain_mistake_is_told(name):
    arrays, right, wrong = NAMES[name]
    for output in right:
        assert canonical.judged(name, arrays, output) == RIGHT
    for output, word in wrong:
        assert word in canonical.judged(name, arrays, output)
    assert canonical.judged(name, arrays, np.cos(17 * right[0])) in (OTHER, None)


@pytest.mark.parametrize("name", ["Highway", "SoftmaxTree", "Reluctant", "conv_cache", "tanhshrink_forward", "Model"])
def test_a_name_that_says_nothing_says_nothing(name):
    assert canonical.called(name) is None


@pytest.mark.parametrize("delta", [0.06, 0.37, 0.6, 5.0])
def test_a_threshold_that_nobody_guessed_is_no_mistake(delta):
    for scale in (1.0, 4.0):
        r = np.abs(scale * P - scale * T)
        loss = np.where(r <= delta, r * r / 2, delta * (r - delta / 2)).sum() / 4
        assert canonical.judged("HuberLoss", [scale * P, scale * T], loss) in (RIGHT, OTHER)


def test_a_dropout_scales_by_the_share_that_it_keeps():
    kept = np.arange(240).reshape(10, 24) % 10 >= 3
    x = RNG.standard_normal(kept.shape)
    assert canonical.judged("Dropout", [x], np.where(kept, x, 0) / 0.7) == RIGHT
    assert canonical.judged("Dropout", [x], x) == RIGHT
    assert "dropped" in canonical.judged("Dropout", [x], np.where(kept, x, 0) / 0.3)


def test_another_number_of_arrays_is_not_that_layer():
    assert canonical.judged("Dropout", [X, W, B], X) is None
    assert canonical.judged("LSTM", [X], X) is None
    assert canonical.judged("Dense", [X, W], np.maximum(X @ W, 0)) is None  # whose activation is its own business


LAYERNORM = '''
import numpy as np


class LayerNorm:
    def __init__(self, width, eps=1e-5):
        self.eps, self.gamma, self.beta = eps, np.ones(width), np.zeros(width)

    def forward(self, x):
        n = x.shape[1] - {less}
        self.c = x - x.mean(axis=1, keepdims=True)
        self.s = np.sqrt((self.c ** 2).sum(axis=1, keepdims=True) / n + self.eps)
        self.n = n
        return self.gamma * self.c / self.s + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.c / self.s).sum(axis=0), dy.sum(axis=0)
        d = dy * self.gamma / self.s
        d = d - self.c * (d * self.c).sum(axis=1, keepdims=True) / (self.n * self.s ** 2)
        return d - d.mean(axis=1, keepdims=True)
'''


@pytest.mark.parametrize("less", [0, 1])
def test_a_forward_that_its_name_denies_is_never_right_in_silence(tmp_path, less):
    path = tmp_path / "layers.py"
    path.write_text(LAYERNORM.format(less=less), encoding="utf-8")
    (result,) = audit_file(path, autograd=False).results
    said = {0: ("right", "yes", []), 1: ("forward differs from what its name says", "not what its name says", ["name"])}
    assert (result.verdict, result.answers["forward right"], [f.kind for f in result.findings]) == said[less]
    assert result.ok and result.answers["protocol kept"] == "yes" and result.judged.keys() == {"x", "gamma", "beta"}
    assert audit_file(path, autograd=False, strict=True).ok is (less == 0)
