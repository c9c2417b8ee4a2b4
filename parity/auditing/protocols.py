"""One table of how people write layers: how a forward and a backward are called, and where gradients stand.

Every row is a few texts of Python and an example, which the tests run; a new convention is a new row. ``recognise``
(``fit``) puts rows together until the code runs, and the result, a ``Recipe`` of Python texts, is what the audit runs
and what a script that shows a finding prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

P = TypeVar("P")


@dataclass(frozen=True)
class Protocol:
    """A row: a name in words, and a source that is written so, with a right gradient."""

    name: str
    example: str


@dataclass(frozen=True)
class Methods(Protocol):
    """Two methods of a class. ``derivative``: the second is the derivative itself and takes no cotangent; empty: the
    first gives a loss and its gradients."""

    forward: str
    backward: str
    derivative: bool = False


@dataclass(frozen=True)
class Functions(Protocol):
    """Two functions: a pattern of the second's name, and the first's, by what it matched (``re`` templates)."""

    backward: str
    forward: tuple[str, ...]
    derivative: bool = False


@dataclass(frozen=True)
class Before(Protocol):
    """A method to call on a new object before its forward."""

    method: str
    calls: tuple[str, ...]


@dataclass(frozen=True)
class Reset(Protocol):
    """A method that forgets earlier gradients; where it is, gradients may add up."""

    method: str


@dataclass(frozen=True)
class Beside(Protocol):
    """A gradient beside its parameter, as an attribute or a key: ``form`` of the parameter's name."""

    form: str


@dataclass(frozen=True)
class Holders(Protocol):
    """A dictionary or list of gradients beside one of parameters."""

    parameters: str
    gradients: str


@dataclass(frozen=True)
class Result(Protocol):
    """An attribute in which ``forward`` leaves its output, or ``backward`` the gradient of its input."""

    attribute: str
    of: str = "forward"


LINEAR = """
class Linear:
    def __init__(self, n_in, n_out):
        self.{W} = np.random.randn(n_in, n_out)

    def {forward}(self, x):
        self.x = x
        return x @ self.{W}

    def {backward}(self, dy):
        self.{dW} = self.x.T @ dy
        return dy @ self.{W}.T
"""


def _linear(forward: str = "forward", backward: str = "backward", W: str = "W", dW: str = "dW") -> str:
    return LINEAR.format(forward=forward, backward=backward, W=W, dW=dW)


MODEL = """
class Model:
    def __init__(self, n_in, n_out):
        self.params = {{"W": np.random.randn(n_in, n_out)}}

    def {method}(self, X, y):
        W, grads = self.params["W"], {{}}
        d = X @ W - np.eye(W.shape[1])[y]
        loss = np.sum(d ** 2)
        grads["W"] = 2 * X.T @ d
        return loss, grads
"""

TANH = """
class Tanh:
    def {forward}(self, x):
        return np.tanh(x)

    def {backward}(self, x):
        return 1 - np.tanh(x) ** 2
"""

SQUARES = """
class Squares:
    def {forward}(self, prediction, target):
        return 0.5 * np.sum((prediction - target) ** 2)

    def {backward}(self, prediction, target):
        return prediction - target
"""

PAIR = """
def {forward}(x, w, b):
    return x @ w + b, (x, w)


def {backward}(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)
"""

SINE = """
def {forward}(x):
    return np.sin(x)


def {backward}(x):
    return np.cos(x)
"""

KEPT = """
class Linear:
    def __init__(self, n_in, n_out):
        self.weights = np.random.randn(n_in, n_out)

    def forward(self, inputs):
        self.inputs = inputs
        self.{out} = inputs @ self.weights

    def backward(self, dvalues):
        self.dweights = self.inputs.T @ dvalues
        self.{into} = dvalues @ self.weights.T
"""

LAZY = """
class Linear:
    def __init__(self, units):
        self.units = units

    def {method}(self, {arguments}):
        self.W = np.random.randn({size}, self.units)

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T
"""

ADDING = """
class Linear:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out)
        self.dW = np.zeros((n_in, n_out))

    def {method}(self):
        self.dW[...] = 0

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW += self.x.T @ dy
        return dy @ self.W.T
"""

HELD = """
class Linear:
    def __init__(self, n_in, n_out):
        self.{parameters} = {{"W": np.random.randn(n_in, n_out)}}
        self.{gradients} = {{}}

    def forward(self, x):
        self.x = x
        return x @ self.{parameters}["W"]

    def backward(self, dy):
        self.{gradients}["W"] = self.x.T @ dy
        return dy @ self.{parameters}["W"].T
"""


def _methods() -> list[Protocol]:
    plain = (("forward", "backward"), ("forward_pass", "backward_pass"),
             ("forward_propagation", "backward_propagation"), ("forward_prop", "backward_prop"),
             ("forward_propagate", "backward_propagate"), ("fprop", "bprop"), ("fwd", "bwd"),
             ("forward", "backprop"), ("forward", "backpropagate"), ("feedforward", "backprop"),
             ("feed_forward", "back_prop"), ("feed_forward", "back_propagate"), ("__call__", "backward"),
             ("__call__", "backprop"), ("call", "backward"), ("apply", "backward"), ("run", "backward"),
             ("activate", "backward"), ("compute", "backward"))
    rows: list[Protocol] = [Methods(f"{f} and {b}", _linear(f, b), f, b) for f, b in plain]
    derived = (("fn", "grad"), ("__call__", "gradient"), ("__call__", "grad"), ("__call__", "derivative"),
               ("__call__", "prime"), ("forward", "derivative"), ("forward", "gradient"), ("forward", "grad"),
               ("forward", "prime"), ("f", "df"), ("function", "derivative"), ("func", "derivative"),
               ("activate", "derivative"), ("activation", "derivative"), ("compute", "derivative"),
               ("call", "derivative"), ("apply", "derivative"), ("value", "derivative"), ("value", "grad"),
               ("evaluate", "gradient"))
    rows += [Methods(f"{f} and its derivative {b}", TANH.format(forward=f, backward=b), f, b, True)
             for f, b in derived]
    losses = (("loss", "grad"), ("loss", "gradient"), ("loss", "backward"), ("loss", "derivative"), ("loss", "prime"),
              ("loss", "delta"), ("cost", "gradient"), ("cost", "grad"), ("cost", "derivative"),
              ("calculate", "backward"), ("calc_loss", "calc_gradient"))
    rows += [Methods(f"{method} with its gradients", MODEL.format(method=method), method, "", True)
             for method in ("loss", "compute_loss", "loss_and_grad", "cost")]
    return [*rows, *(Methods(f"{f} and {b} of a loss", SQUARES.format(forward=f, backward=b), f, b, True)
                     for f, b in losses)]


def _functions() -> list[Protocol]:
    def row(words: str, forward: str, backward: str, pattern: str, *found: str, derivative: bool = False) -> Functions:
        source = (SINE if derivative else PAIR).format(forward=forward, backward=backward)
        return Functions(words, source, pattern, found, derivative)

    return [
        row("foo_forward and foo_backward", "affine_forward", "affine_backward",
            r"^(\w*?)_?backward_?(\w*)$", r"\1_forward_\2", r"\1_forward", r"forward_\2", r"\1forward", r"\1_\2", r"\1",
            r"\2"),
        row("foo_fwd and foo_bwd", "affine_fwd", "affine_bwd", r"^(\w*?)_?bwd_?(\w*)$", r"\1_fwd_\2", r"\1_fwd",
            r"fwd_\2", r"\1", r"\2"),
        row("foo_fprop and foo_bprop", "affine_fprop", "affine_bprop", r"^(\w*?)_?bprop_?(\w*)$", r"\1_fprop_\2",
            r"\1_fprop", r"fprop_\2"),
        row("forward_prop and back_prop", "forward_propagation", "backward_propagation",
            r"^back(?:ward)?_?prop(\w*)$", r"forward_prop\1", r"forward_propagation", r"forward"),
        row("foo and foo_backprop", "affine", "affine_backprop", r"^(\w+)_back(?:prop)?$", r"\1", r"\1_forward"),
        row("foo and foo_derivative", "sine", "sine_derivative",
            r"^(\w+?)_?(?:derivative|deriv|prime|gradient|grad|der)$", r"\1", r"\1_forward", derivative=True),
        row("foo and d_foo", "sine", "d_sine", r"^(?:d|d_|grad_|derivative_|deriv_|derivative_of_)(\w+)$", r"\1",
            derivative=True),
    ]


def _gradients() -> list[Protocol]:
    def beside(form: str, name: str = "W") -> Protocol:
        return Beside(f"the gradient of {name} in {form.format(name)}", _linear(W=name, dW=form.format(name)), form)

    rows = [beside(form) for form in (
        "d{}", "d_{}", "grad_{}", "{}_grad", "grad{}", "dL_d{}", "dLd{}", "dJ_d{}", "dJd{}", "delta_{}", "delta{}",
        "D{}", "g{}", "nabla_{}", "grads_{}", "{}_grads", "{}_gradient", "gradient_{}", "{}grad", "{}_deriv",
        "derivative_{}", "partial_{}", "{}_der", "dE_d{}", "d{}s")]
    rows += [beside("{}_update", "weights"), beside("{}_gradients", "weights"), beside("{}_delta", "weights")]
    values = """
class Parameter:
    def __init__(self, value):
        self.{value}, self.grad = value, np.zeros_like(value)


class Linear:
    def __init__(self, n_in, n_out):
        self.W = Parameter(np.random.randn(n_in, n_out))

    def forward(self, x):
        self.x = x
        return x @ self.W.{value}

    def backward(self, dy):
        self.W.grad = self.x.T @ dy
        return dy @ self.W.{value}.T
"""
    rows += [Holders(f"an object with {v} and grad", values.replace("{value}", v), v, "grad")
             for v in ("data", "value", "val", "w", "tensor")]
    held = (("params", "grads"), ("parameters", "gradients"), ("params", "gradients"), ("parameters", "grads"),
            ("weights", "gradients"), ("weights", "grads"), ("_params", "_grads"), ("params", "dparams"),
            ("_parameters", "_gradients"), ("params", "derivatives"), ("_params", "_gradients"),
            ("_params", "_param_grads"), ("params", "param_grads"), ("params", "d"))
    return rows + [Holders(f"{p} and {g}", HELD.format(parameters=p, gradients=g), p, g) for p, g in held]


PROTOCOLS: tuple[Protocol, ...] = (
    *_methods(),
    *_functions(),
    *_gradients(),
    *(Before(f"{method} before the first forward", LAZY.format(method=method, arguments=arguments, size=size), method,
             calls)
      for method, arguments, size, calls in (
          ("set_input_shape", "shape", "shape[0]", ("x.shape[1:]", "x.shape")),
          ("build", "shape", "shape[-1]", ("x.shape", "x.shape[1:]", "x.shape[-1]")),
          ("initialize", "n_in", "n_in", ("optimizer", "", "x.shape[-1]", "x.shape", "x.shape[1:]")),
          ("init_weights", "n_in", "n_in", ("", "x.shape[-1]")),
          ("init_params", "n_in", "n_in", ("", "x.shape[-1]", "x.shape")),
          ("init_parameters", "n_in", "n_in", ("", "x.shape[-1]")),
          ("initialize_parameters", "n_in", "n_in", ("", "x.shape[-1]")),
          ("initialize_weights", "n_in", "n_in", ("", "x.shape[-1]")),
          ("setup", "n_in", "n_in", ("", "x.shape[-1]", "x.shape[1:]", "x.shape")),
          ("set_optimizer", "optimizer", "6", ("optimizer",)))),
    *(Reset(f"{method} before gradients are gathered", ADDING.format(method=method), method)
      for method in ("zero_grad", "flush_gradients", "zero_grads", "reset_gradients", "zero_gradients", "clear_grads",
                     "zeroGradParameters", "clear_gradients", "reset_grads", "cleargrads", "reset_grad", "reset")),
    *(Result(f"the output in {out}", KEPT.format(out=out, into="dinputs"), out)
      for out in ("output", "outputs", "out", "y", "a", "A", "z", "Z", "activations", "activation_output", "result")),
    *(Result(f"the gradient of the input in {into}", KEPT.format(out="output", into=into), into, "backward")
      for into in ("dinputs", "dinput", "dx", "dX", "grad_input", "input_grad", "gradInput", "dA_prev", "din",
                   "input_gradient", "grad_inputs", "delta", "grad_x", "x_grad", "grad")),
)


def rows(kind: type[P]) -> list[P]:
    """The rows of one kind, in order."""
    return [p for p in PROTOCOLS if isinstance(p, kind)]
