"""No fault hides in the values that a constructor gives: scales of one, biases of zero, weights all alike."""

import re

import pytest

from parity.auditing import protocols
from parity.auditing.answers import STUB, UNJUDGED
from parity.judge.finding import ERROR, NOTE, WARNING

from .audit_styles import judge

KEPT = [row for row in protocols.PROTOCOLS if re.search(r"np\.random\.randn\([^)]*\)", row.example)]


def forgetting(row):
    """The example of a row whose parameters are made of ones, and the same with a backward that forgets them."""
    source = re.sub(r"np\.random\.randn\(([^)]*)\)", r"np.ones((\1))", row.example)
    wrong = re.sub(r"(return|self\.\w+ =) (dy|dvalues) @ (.*)\.T\n", r"\1 \2 @ np.ones_like(\3).T\n", source)
    return source, wrong.replace("2 * X.T @ d", "2 * X.T @ (d - X @ W + X @ np.ones_like(W))")


@pytest.mark.parametrize("row", KEPT[::12], ids=lambda row: row.name.replace(" ", "-"))
def test_every_protocol_sees_a_parameter_that_backward_forgets(row):
    source, wrong = forgetting(row)
    assert wrong != source
    right, found = judge(source), judge(wrong)
    assert right.ok and right.judged, "\n".join(right.lines())
    assert any(f.check == "gradient" for f in found.errors), "\n".join(found.lines())


# a norm, a bias within a function, nested layers, a slope: what stands in place of (a) is forgotten in (b)
FORGETS = {
    "scale": ('''
class Norm:
    def __init__(self, width):
        self.gamma, self.beta = np.ones(width), np.zeros(width)

    def forward(self, x):
        self.s = np.sqrt(x.var(axis=1, keepdims=True) + 1e-3)
        self.n = (x - x.mean(axis=1, keepdims=True)) / self.s
        return self.gamma * self.n + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.n).sum(axis=0), dy.sum(axis=0)
        d = dy * self.gamma
        return (d - d.mean(axis=1, keepdims=True) - self.n * (d * self.n).mean(axis=1, keepdims=True)) / self.s
''', "dy * self.gamma", "dy"),
    "bias": ('''
class Gate:
    def __init__(self, n_in, n_out):
        self.params = {"W": np.random.randn(n_in, n_out), "b": np.zeros(n_out)}

    def forward(self, x):
        self.x, self.y = x, np.tanh(x @ self.params["W"] + self.params["b"])
        return self.y

    def backward(self, dy):
        d = dy * (1 - np.tanh(self.x @ self.params["W"] + self.params["b"]) ** 2)
        self.grads = {"W": self.x.T @ d, "b": d.sum(axis=0)}
        return d @ self.params["W"].T
''', '''self.params["W"] + self.params["b"]) ** 2''', '''self.params["W"]) ** 2'''),
    "nested": ('''
class Scale:
    def __init__(self, width):
        self.g = np.ones(width)

    def forward(self, x):
        self.x = x
        return x * self.g

    def backward(self, dy):
        self.dg = (dy * self.x).sum(axis=0)
        return dy * self.g


class Twice:
    def __init__(self, width):
        self.layers = [Scale(width), Scale(width)]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in self.layers[::-1]:
            dy = layer.backward(dy)
        return dy
''', "return dy * self.g", "return dy"),
    "one slope": ('''
class Slopes:
    def __init__(self, width):
        self.alpha = np.full(width, 0.25)

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        self.dalpha = (dy * np.minimum(self.x, 0)).sum(axis=0)
        return np.where(self.x > 0, dy, self.alpha * dy)
''', "self.alpha * dy", "self.alpha[0] * dy"),
}


@pytest.mark.parametrize("name", FORGETS)
@pytest.mark.parametrize("seed", [0, 3])
def test_what_a_constructor_sets_to_one_or_zero_is_not_forgotten(name, seed):
    source, right, wrong = FORGETS[name]
    before, _, after = source.rpartition(right)
    assert judge(source, seed).ok
    assert any(f.check == "gradient" for f in judge(before + wrong + after, seed).errors)


TIED = '''
class Tied:
    def __init__(self, n_in, n_out):
        self.W = 0.01 * np.random.randn(n_in, n_out)
        self.W_T = self.W.T.copy()

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W_T
'''


def test_a_copy_that_does_not_follow_its_parameter_is_told():
    result = judge(TIED)
    assert result.ok, "\n".join(result.lines())
    assert any("W in W_T" in remark for remark in result.remarks)
    assert not judge(TIED.replace("dy @ self.W_T", "2 * dy @ self.W_T")).ok


LOSS = '''
class CrossEntropyLoss:
    def forward(self, logits, targets):
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.p, self.t = e / e.sum(axis=1, keepdims=True), targets
        return -np.sum(targets * np.log(self.p)) / len(logits)

    def backward(self, {argument}):
        return (self.p - self.t) / len(self.p) * {used}
'''


@pytest.mark.parametrize("argument", ["dout", "dout=1", "dout=1.0", "grad_output=1"])
def test_a_cotangent_that_a_loss_takes_is_used(argument):
    name, _, default = argument.partition("=")
    right, result = (judge(LOSS.format(argument=argument, used=used)) for used in (name, "1"))
    assert right.ok and not [f for f in right.findings if f.severity != NOTE]
    (found,) = (f for f in result.findings if f.severity != NOTE)
    assert "not used" in found.diagnosis and result.judged.keys() == {"logits"}
    if default:  # the book's own loss takes one and leaves it at 1
        assert found.kind == "unused-cotangent" and found.severity == WARNING
        assert result.answers["protocol kept"] == "no"
    else:
        assert found.kind == "linear" and found.severity == ERROR


SHAPES = '''
class Layer:
    def __init__(self, n_in, n_out):
        self.W, self.b = np.random.randn(n_in, n_out), np.zeros({b})

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, {db}
        return dy @ self.W.T
'''


@pytest.mark.parametrize(("b", "db"), [("n_out", "dy.sum(axis=0, keepdims=True)"), ("(1, n_out)", "dy.sum(axis=0)")])
def test_the_right_numbers_in_the_shape_of_the_book_are_a_matter_of_manners(b, db):
    result = judge(SHAPES.format(b=b, db=db))
    assert result.ok and [f.kind for f in result.findings] == ["shape"] and result.answers["protocol kept"] == "no"
    assert "b" in result.judged
    assert any(f.check == "gradient" for f in judge(SHAPES.format(b=b, db="2 * " + db)).errors)


def test_a_gradient_of_other_entries_is_no_matter_of_manners():
    assert not judge(SHAPES.format(b="n_out", db="dy").replace("self.x.T @ dy", "dy.T @ self.x")).ok


def test_a_gradient_that_backward_never_writes_is_not_implemented():
    source = SHAPES.format(b="n_out", db="dy.sum(axis=0)")
    start = source.replace("np.zeros(n_out)", "np.zeros(n_out)\n        self.db = np.zeros(n_out)")
    assert judge(start).ok
    (found,) = judge(start.replace(", self.db = self.x.T @ dy, dy.sum(axis=0)", " = self.x.T @ dy")).errors
    assert found.verdict == STUB and found.quantity == "grad.b"
    (found,) = judge(start.replace("dy.sum(axis=0)", "0 * self.b")).errors
    assert found.check == "gradient"  # written, and wrong


UNWRITTEN = """
class UpSample:
    def forward(self, x):
        self.shape = x.shape
        return np.repeat(x, 2, axis=1)

    def backward(self, dy):
        {body}
"""


@pytest.mark.parametrize("body", ["pass", "return None", "raise NotImplementedError", "dx = np.zeros(self.shape)"])
def test_a_backward_that_nobody_wrote_is_not_implemented(body):
    result = judge(UNWRITTEN.format(body=body))
    assert [f.verdict for f in result.errors] == [STUB] and result.verdict == STUB
    assert result.answers["implemented"] == "no" and result.answers["could be run"] == "yes"


def test_a_gradient_left_where_nobody_looks_is_not_judged():
    result = judge(UNWRITTEN.format(body="self.somewhere = dy[:, ::2] + dy[:, 1::2]"))
    assert result.verdict == UNJUDGED and not result.findings
    assert judge(UNWRITTEN.format(body="return dy[:, ::2] + dy[:, 1::2]")).ok


NUMBER = """
class Slope:
    def __init__(self, alpha=0.25):
        {start}

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, {alpha} * x)

    def backward(self, dy):
        {grad} {adds} np.sum(dy * np.minimum(self.x, 0))
        return np.where(self.x > 0, dy, {alpha} * dy)
"""
NUMBERS = {
    "attributes": ("self.alpha, self.dalpha = alpha, 0.0", "self.alpha", "self.dalpha", "="),
    "dictionaries": ('self.params, self.grads = {"alpha": alpha}, {"alpha": 0.0}', 'self.params["alpha"]',
                     'self.grads["alpha"]', "="),
    "that add up": ("self.alpha, self.grad_alpha = alpha, 0.0", "self.alpha", "self.grad_alpha", "+="),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_parameter_that_is_a_plain_number_is_judged(kind):
    start, alpha, grad, adds = NUMBERS[kind]
    source = NUMBER.format(start=start, alpha=alpha, grad=grad, adds=adds)
    right, found = judge(source), judge(source.replace("np.sum(dy", "3 * np.sum(dy"))
    assert right.ok and any("alpha" in name for name in right.judged), "\n".join(right.lines())
    assert any("alpha" in f.quantity for f in found.errors)


RUNNING = """
class Fixed:
    def __init__(self, width):
        self.running_mean, self.running_var, self.gamma = np.zeros(width), np.ones(width), np.ones(width)
        self.velocity = np.zeros(width)

    def forward(self, x):
        self.n = (x - self.running_mean) / np.sqrt(self.running_var)
        return self.gamma * self.n

    def backward(self, dy):
        self.dgamma = (dy * self.n).sum(axis=0)
        return dy * self.gamma / np.sqrt(self.running_var)
"""


@pytest.mark.parametrize("forgotten", [" / np.sqrt(self.running_var)\n", "n).sum"])
def test_statistics_of_zeros_and_ones_are_drawn_too(forgotten):
    assert judge(RUNNING).ok
    before, _, after = RUNNING.rpartition(forgotten)
    wrong = before + {"n).sum": "n + self.running_mean / 7).sum"}.get(forgotten, "\n") + after
    assert any(f.check == "gradient" for f in judge(wrong).errors)
