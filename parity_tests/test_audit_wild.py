"""Layers as people write them, each kind with a fault: what is right is not called wrong, what is wrong is found."""

import numpy as np
import pytest

from parity.auditing import audit_file, ties
from parity.judge.finding import NOTE

# a class that shares a name with ours, and keeps its parameters in dictionaries by letter
LSTM = '''
class LSTM:
    def __init__(self, n_in, n_out, seed=5):
        rng = np.random.default_rng(seed)
        self.V = {k: rng.normal(0, 0.4, (n_in + n_out, n_out)) for k in "ago"}
        self.b = {k: np.zeros(n_out) for k in "ago"}

    def forward(self, x, h0):
        h, self.steps = h0, []
        for t in range(x.shape[1]):
            xh = np.concatenate([x[:, t], h], axis=1)
            a, g, o = (np.tanh(xh @ self.V[k] + self.b[k]) for k in "ago")
            self.steps.append((xh, h, a, g, o))
            h = a * g + o * h
        return h

    def backward(self, dh):
        self.dV = {k: np.zeros_like(v) for k, v in self.V.items()}
        self.db = {k: np.zeros_like(v) for k, v in self.b.items()}
        size, dx = dh.shape[1], []
        for xh, h, a, g, o in self.steps[::-1]:
            dxh = 0
            for k, y, d in (("a", a, dh * g), ("g", g, dh * a), ("o", o, dh * h)):
                d = d * (1 - y * y)
                self.dV[k] += xh.T @ d
                self.db[k] += d.sum(axis=0)
                dxh = dxh + d @ self.V[k].T
            dx.append(dxh[:, :-size])
            dh = dh * o + dxh[:, -size:]
        return np.stack(dx[::-1], axis=1), dh
'''
# a twin's name, one argument more than the twin has parameters
LAYERNORM = '''
class LayerNorm:
    def __init__(self, width, eps=1e-4):
        self.eps, self.params = eps, {"gamma": np.ones(width), "beta": np.zeros(width)}
        self.grads = {}

    def forward(self, x):
        self.s = np.sqrt(x.var(axis=-1, keepdims=True) + self.eps)
        self.n = (x - x.mean(axis=-1, keepdims=True)) / self.s
        return self.n * self.params["gamma"] + self.params["beta"]

    def backward(self, dy):
        axes = tuple(range(dy.ndim - 1))
        self.grads = {"gamma": (dy * self.n).sum(axis=axes), "beta": dy.sum(axis=axes)}
        d = dy * self.params["gamma"]
        return (d - d.mean(axis=-1, keepdims=True) - self.n * (d * self.n).mean(axis=-1, keepdims=True)) / self.s
'''
# the twin's function of rows, but no other number of axes
SOFTMAX = '''
class Softmax:
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        return self.y

    def backward(self, dy):
        return np.stack([(np.diag(p) - np.outer(p, p)).dot(d) for p, d in zip(self.y, dy)])
'''
# a second output, whose cotangent may be left out
PENALISED = '''
class Noisy:
    def forward(self, mean, spread, draw):
        self.kept = mean, spread, draw
        return mean + np.exp(spread) * draw, np.sum(mean ** 2 + spread ** 2)

    def backward(self, dy, dpenalty=0.5):
        mean, spread, draw = self.kept
        return dy + 2 * dpenalty * mean, dy * draw * np.exp(spread) + 2 * dpenalty * spread
'''
# a guard against zero that backward leaves out
GUARDED = '''
def unit_forward(x, eps=1e-8):
    size = np.sqrt((x * x).sum(axis=1, keepdims=True)) + eps
    return x / size, (x, size)


def unit_backward(dy, cache):
    x, size = cache
    y = x / size
    return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / size
'''
# a layer that updates itself, by an optimizer of its own unless it is given one
UPDATED = '''
class Descent:
    def __init__(self, lr=0.03):
        self.lr = lr

    def update(self, w, dw):
        return w - self.lr * dw


class Linear:
    def __init__(self, n_in, n_out, optimizer=None):
        self.W = np.random.default_rng(3).normal(size=(n_in, n_out))
        self.optimizer = optimizer or Descent()

    def forward_pass(self, x):
        self.x = x
        return x @ self.W

    def backward_pass(self, dy):
        dx = dy @ self.W.T
        self.W = self.optimizer.update(self.W, self.x.T @ dy)
        return dx
'''
OWN = UPDATED.replace(", optimizer=None", "").replace("optimizer or ", "")
# a mask from the global generator, and from one of the module
MASKED = '''
class Dropped:
    def forward(self, x):
        self.mask = np.random.rand(*x.shape) > 0.4
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask
'''
MODULE = "RNG = np.random.default_rng(4)\n\n" + MASKED.replace("np.random.rand(*x.shape)", "RNG.random(x.shape)")

# shapes that no idea of the data has: they follow from one another
SCORES = '''
class Scores:
    def __init__(self, A, B, v):
        self.params, self.grads = {"A": A, "B": B, "v": v}, {}

    def forward(self, q, keys):
        p = self.params
        self.kept = q, keys, np.tanh((q @ p["A"])[:, None] + keys @ p["B"])
        return self.kept[2] @ p["v"]

    def backward(self, ds):
        q, keys, e = self.kept
        d = ds[:, :, None] * self.params["v"] * (1 - e * e)
        self.grads = {"v": np.einsum("nt,nta->a", ds, e), "A": q.T @ d.sum(axis=1),
                      "B": np.einsum("ntd,nta->da", keys, d)}
        return d.sum(axis=1) @ self.params["A"].T, d @ self.params["B"].T
'''
CROSSED = '''
def crossed_forward(left, right, W):
    return np.einsum("ni,ijk,nk->nj", left, W, right), (left, right, W)


def crossed_backward(dy, cache):
    left, right, W = cache
    return (np.einsum("nj,ijk,nk->ni", dy, W, right), np.einsum("nj,ijk,ni->nk", dy, W, left),
            np.einsum("nj,ni,nk->ijk", dy, left, right))
'''
PER_CHANNEL = '''
def per_channel_forward(x, w):
    N, L, C = x.shape
    return sum(x[:, k : L - len(w) + k + 1] * w[k] for k in range(len(w))), (x, w)


def per_channel_backward(dy, cache):
    x, w = cache
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for k in range(len(w)):
        dx[:, k : k + dy.shape[1]] += dy * w[k]
        dw[k] = (dy * x[:, k : k + dy.shape[1]]).sum(axis=(0, 1))
    return dx, dw
'''
VALID = '''
class Total:
    def forward(self, h, lengths):
        N, T, D = h.shape
        self.on = (np.arange(T) < lengths[:, None])[:, :, None] * np.ones(D)
        return (h * self.on).sum(axis=1)

    def backward(self, dy):
        return self.on * dy[:, None]
'''
OFFSET = '''
class Offset:
    def __init__(self, c, U):
        self.c, self.U = c, U

    def forward(self, X):
        self.X = X
        return self.c + ((X @ self.U) ** 2).sum(axis=1)

    def backward(self, dy):
        d = 2 * dy[:, None] * (self.X @ self.U)
        self.dc, self.dU = np.array([dy.sum()]), self.X.T @ d
        return d @ self.U.T
'''
CHANNELS = '''
class Weighed:
    def __init__(self, M):
        self.M = M

    def forward(self, x):
        self.x, self.mean = x, x.mean(axis=(2, 3))
        self.t = np.tanh(self.mean @ self.M)
        return x * self.t[:, :, None, None]

    def backward(self, dy):
        d = (dy * self.x).sum(axis=(2, 3)) * (1 - self.t ** 2)
        self.dM = self.mean.T @ d
        return dy * self.t[:, :, None, None] + (d @ self.M.T)[:, :, None, None] / np.prod(self.x.shape[2:])
'''
# what shows only at another value of an option, and with samples that are flattened
OPTION = '''
class Steep:
    def __init__(self, gain=1.0):
        self.gain = gain

    def forward(self, x):
        self.y = np.tanh(self.gain * x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y ** 2) * self.gain
'''
FLAT = '''
def dense_forward(x, w):
    return x.reshape(len(x), -1) @ w, (x, w)


def dense_backward(dy, cache):
    x, w = cache
    return (dy @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dy
'''

# a scale that runs as a number too, and a capital that is one
GROUPS = '''
def standard_forward(x, gamma, beta, G):
    xg = x.reshape(len(x), G, -1)
    s = np.sqrt(xg.var(axis=2, keepdims=True) + 1e-3)
    n = ((xg - xg.mean(axis=2, keepdims=True)) / s).reshape(x.shape)
    return gamma * n + beta, (n, s, gamma, G)


def standard_backward(dy, cache):
    n, s, gamma, G = cache
    shape = len(dy), G, -1
    d, ng = (dy * gamma).reshape(shape), n.reshape(shape)
    dx = (d - d.mean(axis=2, keepdims=True) - ng * (d * ng).mean(axis=2, keepdims=True)) / s
    dgamma, dbeta = ((a).sum(axis=(0, 2, 3), keepdims=True) for a in (dy * n, dy))
    return dx.reshape(dy.shape), dgamma, dbeta
'''

# a model that gives its loss and a dictionary of gradients, which no backward goes with
MODEL = '''
class Net:
    def __init__(self, n_in, n_hidden, n_classes, reg=0.0):
        rng = np.random.default_rng(6)
        self.params = {"W1": rng.normal(size=(n_in, n_hidden)), "W2": rng.normal(size=(n_hidden, n_classes))}
        self.reg = reg

    def loss(self, X, y):
        W1, W2 = self.params["W1"], self.params["W2"]
        h = np.tanh(X @ W1)
        d = h @ W2 - np.eye(W2.shape[1])[y]
        loss = np.sum(d ** 2) / 2 + self.reg * np.sum(W1 ** 2)
        grads = {"W2": h.T @ d}
        grads["W1"] = X.T @ (d @ W2.T * (1 - h * h)) + 2 * self.reg * W1
        return loss, grads
'''
# a loss whose labels tie to nothing that a world has
CHAIN = '''
def chain_nll(scores, moves, tags):
    steps = np.arange(len(tags))
    total = np.log(np.exp(scores[:, :, None] + moves).sum())
    d = np.exp(scores[:, :, None] + moves - total)
    d_scores, d_moves = d.sum(axis=2), d.sum(axis=0)
    d_scores[steps, tags] -= 1
    return total - scores[steps, tags].sum(), d_scores, d_moves
'''
# an option of the forward that its backward has to be told too
REDUCED = '''
def reduce_forward(x, mode="max"):
    return x.max(axis=1) if mode == "max" else x.mean(axis=1), x


def reduce_backward(dy, cache, mode="max"):
    x = cache
    if mode == "max":
        return dy[:, None] * (x == x.max(axis=1, keepdims=True))
    elif mode == "average":
        return np.repeat(dy[:, None] / x.shape[1], x.shape[1], axis=1)
'''
# a window whose sides are two arguments
WINDOW = '''
class MeanWindow:
    def __init__(self, pool_h, pool_w):
        self.h, self.w = pool_h, pool_w

    def forward(self, x):
        self.shape = x.shape
        view = np.lib.stride_tricks.sliding_window_view(x, (self.h, self.w), axis=(2, 3))
        return view.sum(axis=(4, 5)) / (self.h * self.w)

    def backward(self, dy):
        dx = np.zeros(self.shape)
        for i in range(self.h):
            for j in range(self.w):
                dx[:, :, i : i + dy.shape[2], j : j + dy.shape[3]] += dy
        return dx / (self.h * self.w)
'''
# two rows of numbers by the names of a factor and a bias
PRODUCT = '''
class RowProduct:
    def forward(self, a, b):
        self.given = a, b
        return (a * b).sum(1)

    def backward(self, dy):
        a, b = self.given
        return dy[:, None] * b, dy[:, None] * a
'''
# of one argument two columns are read, and no more
POINTS = '''
def place_forward(values, grid):
    u, v = grid[..., 0], grid[..., 1]
    return values[:, 0] * u * v, (values, u, v, grid.shape[:-1])


def place_backward(dout, cache):
    values, u, v, shape = cache
    dvalues, dgrid = np.zeros_like(values), np.zeros(shape + (2,))
    dvalues[:, 0] = dout * u * v
    dgrid[..., 0] = dout * values[:, 0] * v
    dgrid[..., 1] = dout * values[:, 0] * u
    return dvalues, dgrid
'''
# noise that a seed repeats
NOISY = '''
class Jitter:
    def __init__(self, random_state=None):
        self.random_state = random_state

    def forward(self, x, spread):
        self.e = np.random.RandomState(self.random_state).normal(size=x.shape)
        return x + spread * self.e

    def backward(self, dy):
        return dy, dy * self.e
'''

# source, its right and wrong text, the gradient that is then wrong, all gradients that are judged
KINDS = {
    "a twin's name alone": (LSTM, "dh = dh * o + dxh", "dh = dxh", "h0", "V_a V_g V_o b_a b_g b_o h0 x"),
    "a twin's name and an option": (LAYERNORM, "- d.mean(axis=-1, keepdims=True)", "", "x", "beta gamma x"),
    "rows alone": (SOFTMAX, "np.outer(p, p)", "0", "x", "x"),
    "a cotangent with a default": (PENALISED, "2 * dpenalty * mean", "dpenalty * mean", "mean", "mean spread"),
    "a guard left out": (GUARDED, "(dy * y)", "dy", "x", "x"),
    "its own update": (UPDATED, "dx = dy @ self.W.T\n", "dx = 0 * self.x\n", "x", "W x"),
    "its own update by its own optimizer": (OWN, "self.x.T @ dy", "3 * self.x.T @ dy", "W", "W x"),
    "a mask drawn": (MASKED, "dy * self.mask", "dy * (np.random.rand(*dy.shape) > 0.4)", "x", "x"),
    "scores of keys": (SCORES, "d.sum(axis=1) @ self.params", "d.mean(axis=1) @ self.params", "q",
                       "keys params_A params_B params_v q"),
    "three axes": (CROSSED, "ijk,ni->nk\", dy, W, left", "ijk,nk->nk\", dy, W, right", "right", "W left right"),
    "a channel each": (PER_CHANNEL, "+= dy * w[k]", "+= dy * w[-1 - k]", "x", "w x"),
    "numbers of valid steps": (VALID, "return self.on * dy[:, None]", "return 0 * self.on + dy[:, None]", "h", "h"),
    "one entry for all": (OFFSET, "d = 2 * dy", "d = dy", "U", "U X c"),
    "a weight of channels": (CHANNELS, " / np.prod(self.x.shape[2:])", "", "x", "M x"),
    "an option that is 1": (OPTION, "self.y ** 2) * self.gain", "self.y ** 2)", "x", "x"),
    "samples that are flattened": (FLAT, ".reshape(x.shape), x", ", x", "x", "w x"),
    "a scale that may be a number": (GROUPS, "in (dy * n, dy)", "in (2 * dy * n, dy)", "gamma", "beta gamma x"),
    "a loss with a dictionary": (MODEL, "2 * self.reg * W1", "self.reg * W1", "W1", "W1 W2"),
    "labels of a chain": (CHAIN, "d.sum(axis=0)", "d.mean(axis=0)", "moves", "moves scores"),
    "an option of both": (REDUCED, "dy[:, None] / x.shape[1]", "dy[:, None]", "x", "x"),
    "a window that is not square": (WINDOW, "dx / (self.h * self.w)", "dx / self.h ** 2", "x", "x"),
    "names of a factor and a bias": (PRODUCT, "dy[:, None] * a", "dy[:, None] * b", "b", "a b"),
    "columns that are read": (POINTS, "1] = dout * values[:, 0] * u", "1] = dout * u", "grid", "grid values"),
    "a seed to be given": (NOISY, "dy * self.e", "dy * abs(self.e)", "spread", "spread x"),
    "a mask drawn by the module": (MODULE, "dy * self.mask", "dy * (RNG.random(dy.shape) > 0.4)", "x", "x"),
}


def audited(tmp_path, source, seed=0):
    """The result of the last layer of a source."""
    file = tmp_path / "layers.py"
    file.write_text("import numpy as np\n" + source)
    return audit_file(file, autograd=False, seed=seed).results[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_right_is_right_and_wrong_is_found(tmp_path, kind):
    source, right, wrong, name, judged = KINDS[kind]
    assert source.count(right) == 1
    result = audited(tmp_path, source)
    assert result.ok and not result.skipped, "\n".join(result.lines())
    assert " ".join(sorted(result.judged)) == judged
    result = audited(tmp_path, source.replace(right, wrong))
    told = {f.quantity for f in result.findings if f.severity != NOTE}  # a shape that is not the data's: a warning
    assert f"grad.{name}" in told, "\n".join(result.lines())


def test_weights_used_after_their_own_update_are_found(tmp_path):
    late = UPDATED.replace("        dx = dy @ self.W.T\n", "").replace("return dx", "return dy @ self.W.T")
    assert {f.quantity for f in audited(tmp_path, late).errors} == {"grad.x"}


def test_what_float32_could_not_tell_is_a_warning(tmp_path):
    result = audited(tmp_path, GUARDED)
    assert [(f.kind, f.severity) for f in result.findings] == [("approximate", "warning")]
    result = audited(tmp_path, GUARDED.replace("1e-8", "1e-4"))
    assert not result.ok and result.errors[0].kind != "approximate"


@pytest.mark.parametrize("refused", [
    lambda: np.ones((3, 5)) @ np.ones((7, 2)), lambda: np.ones((3, 5)).dot(np.ones((7, 2))),
    lambda: np.ones((3, 1, 5)) + np.ones((4, 7)), lambda: np.ones((2, 5)) + np.ones(7),
    lambda: np.einsum("ij,jk->ik", np.ones((3, 5)), np.ones((7, 2))),
    lambda: np.concatenate([np.ones((2, 5)), np.ones((3, 7))]), lambda: np.zeros((4, 5)).__setitem__(0, np.ones(7)),
], ids=["matmul", "dot", "broadcast", "broadcast a vector", "einsum", "concatenate", "assign"])
def test_a_refusal_of_numpy_names_the_sizes_that_differ(refused):
    with pytest.raises(ValueError) as told:
        refused()
    assert {frozenset(pair) for pair in ties.clashes(str(told.value))} == {frozenset((5, 7))}


def test_shapes_follow_from_refusals_and_are_made_small():
    class Refused:
        score = 1

        def __init__(self, shapes):
            (_, m), (n, _) = shapes.values()
            self.why = f"size {n} is different from {m}" if m != n else ""

    _, shapes = ties.follow({"x": (4, 8), "W": (3, 5)}, Refused)
    assert shapes == {"x": (4, 3), "W": (3, 5)}
    assert ties.smaller(shapes) == {"x": (3, 2), "W": (2, 4)}
