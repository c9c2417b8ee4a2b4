"""How people write layers: every row of the table of protocols, and what the audit makes of it."""

import linecache
import subprocess
import sys
import types

import numpy as np
import pytest

from parity.auditing import answers, assert_gradients, audit, audit_file, fit, guess, protocols
from parity.auditing.adapted import Recipe
from parity.auditing.settle import agrees
from parity.errors import UsageError
from parity.judge.finding import Finding
from parity_tests.audit_styles import HEAD, LAYERS


@pytest.fixture
def module():
    """Makes a module of a source, with its lines where ``inspect`` finds them."""
    made = []

    def make(source):
        name = f"somebodys_{len(made)}"
        file, source = f"{name}.py", "import numpy as np\n" + source
        found = types.ModuleType(name)
        found.__file__ = file
        sys.modules[name] = found
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        made.append((name, file))
        exec(compile(source, file, "exec"), found.__dict__)
        return found

    yield make
    for name, file in made:
        sys.modules.pop(name, None)
        linecache.cache.pop(file, None)


def fits(module):
    """The fits of everything in a module, by name; a class of parameters has no forward."""
    found = {name: fit.fit_class(c) for name, c in fit.classes(module).items()}
    return found | {name: fit.fit_functions(*pair) for name, pair in fit.functions(module).items()}


@pytest.mark.parametrize("kind", [protocols.Methods, protocols.Functions, protocols.Beside, protocols.Holders,
                                  protocols.Before, protocols.Reset, protocols.Result])
def test_every_row_of_the_table_is_recognised_by_its_example(kind, module):
    for row in protocols.rows(kind):
        (found,) = fits(module(row.example)).values()
        assert found.score == 5 and agrees(found) and not found.leftover, (row.name, found.why)
        weights = "weights" in row.example or "W" in row.example
        assert bool(found.recipe.grads) == weights, row.name


@pytest.mark.parametrize("kind", [protocols.Methods, protocols.Functions, protocols.Beside, protocols.Holders,
                                  protocols.Before, protocols.Reset, protocols.Result])
def test_a_row_whose_gradient_is_wrong_is_found(kind, module):
    """The first and last row of each kind, with a gradient three times too large."""
    for row in (protocols.rows(kind)[0], protocols.rows(kind)[-1]):
        for right, wrong in (("self.x.T @", "3 * self.x.T @"), ("self.inputs.T @", "3 * self.inputs.T @"),
                             ("x.T @ dout", "3 * x.T @ dout"), ("np.cos(x)", "3 * np.cos(x)"),
                             ("return prediction - target", "return 3 * (prediction - target)")):
            if right in row.example:
                (found,) = fits(module(row.example.replace(right, wrong))).values()
                layer = found.adapted()
                report = audit(layer, inputs=dict(found.inputs), autograd=False)
                assert "it is 3 times what it should be" in str(report), row.name


FILE = '''
import numpy as np


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


def norm_forward(x, gamma, beta, bn_param):
    mode, eps = bn_param["mode"], bn_param.get("eps", 1e-5)
    assert mode == "train"
    mean, var = x.mean(axis=0), x.var(axis=0)
    xhat = (x - mean) / np.sqrt(var + eps)
    return gamma * xhat + beta, (xhat, var + eps, gamma)


def norm_backward(dout, cache):
    xhat, var, gamma = cache
    d = dout * gamma
    dx = (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / np.sqrt(var)
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


def softmax_loss(x, y):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    loss = -np.mean(np.log(p[rows, y]))
    p[rows, y] -= 1
    dx = p / len(x)
    return loss, dx
'''


def test_pairs_of_functions_of_a_file(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text(FILE)
    report = audit_file(file, autograd=False)
    assert report.ok, report
    assert {r.name: sorted(r.judged) for r in report.results} == {
        "affine_forward": ["b", "w", "x"], "norm_forward": ["beta", "gamma", "x"], "softmax_loss": ["x"]}
    assert all("confirmed on" in str(r.remarks) for r in report.results)
    file.write_text(FILE.replace("(dout * xhat).sum", "2 * (dout * xhat).sum"))
    report = audit_file(file, autograd=False)
    assert {r.name: r.ok for r in report.results} == {
        "affine_forward": True, "norm_forward": False, "softmax_loss": True}, report


def test_what_could_not_be_tried_says_how_it_could(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text("class Odd:\n    def __init__(self, path):\n        self.text = open(path)\n\n"
                    "    def forward(self, x):\n        return x\n\n    def backward(self, dy):\n        return dy\n")
    report = audit_file(file, autograd=False)
    assert report.exit_code == 2 and "from Python: audit(Odd(…), inputs=(…,))" in str(report), report


def test_a_parameter_without_gradient_is_no_right(tmp_path):
    file = tmp_path / "layers.py"
    source = protocols.rows(protocols.Beside)[0].example
    file.write_text("import numpy as np\n" + source.replace("self.dW = ", "extra = "))
    report = audit_file(file, autograd=False)
    assert report.exit_code == 1 and "not judged: W" in str(report), report


def test_a_recipe_is_read_strictly():
    plain = Recipe("Layer", gradients={"x": "returned"}).to_plain()
    assert Recipe.from_plain(plain) == Recipe("Layer", gradients={"x": "returned"})
    for name, value in (("name", 3), ("gradients", {"x": 1}), ("outputs", "result"), ("scalar", 1), ("more", "")):
        with pytest.raises(ValueError, match="recipe"):
            Recipe.from_plain(plain | {name: value})


def test_sizes_of_a_world_differ():
    for world in guess.WORLDS:
        sizes = [n for n in world.x if n > 1]
        assert len(set(sizes)) == len(sizes), world.name


def test_keys_of_a_dictionary_are_read_from_the_source():
    source = "mode = p['mode']; eps = p.get('eps', 1e-5); p['running'] = 1\nif p[\"stride\"] == 2: pass"
    assert guess.keys_of("p", source) == {"mode": True, "eps": False, "stride": True}


def test_values_follow_from_their_key():
    assert np.array_equal(guess.normal((2, 3), "x"), guess.normal((2, 3), "x"))
    assert not np.array_equal(guess.normal((2, 3), "x"), guess.normal((2, 3), "w"))


POOLING = """
import numpy as np


class MaxPool:
    def __init__(self, size=2, stride=1, pad=0):
        self.size, self.stride, self.pad = size, stride, pad

    def forward(self, x):
        self.x = np.pad(x, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        rows, columns = ((n - self.size) // self.stride + 1 for n in self.x.shape[2:])
        y = np.zeros((*x.shape[:2], rows, columns))
        for i, j in np.ndindex(rows, columns):
            y[:, :, i, j] = self.window(self.x, i, j).max(axis=(2, 3))
        return y

    def window(self, x, i, j):
        i, j = i * self.stride, j * self.stride
        return x[:, :, i : i + self.size, j : j + self.size]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        for i, j in np.ndindex(dy.shape[2:]):
            window = self.window(self.x, i, j)
            mark = window == window.max(axis=(2, 3), keepdims=True)
            self.window(dx, i, j)[...] += mark * dy[:, :, i, j][:, :, None, None]
        end = -self.pad or None
        return dx[:, :, self.pad : end, self.pad : end]
"""

POOLING_FAULTS = {  # what only another stride, padding or window than the usual one shows
    "overlapping windows": ("[...] += mark", "[...] = mark"),
    "stride": ("i, j = i * self.stride, j * self.stride\n        return x",
               "i, j = (i * self.stride, j * self.stride) if x is self.x else (i, j)\n        return x"),
    "padding": ("end = -self.pad or None\n        return dx[:, :, self.pad : end, self.pad : end]",
                "return dx[:, :, : dx.shape[2] - 2 * self.pad, : dx.shape[3] - 2 * self.pad]"),
    "padding that raises": ("return dx[:, :, self.pad", "assert not self.pad\n        return dx[:, :, self.pad"),
}


@pytest.mark.parametrize("name", ["right", *POOLING_FAULTS])
def test_another_stride_padding_and_window_are_tried(tmp_path, name):
    file = tmp_path / "layers.py"
    right, wrong = POOLING_FAULTS.get(name, ("", ""))
    assert right in POOLING
    file.write_text(POOLING.replace(right, wrong) if right else POOLING)
    (result,) = audit_file(file, autograd=False).results
    assert result.ok == (name == "right"), result
    if name == "right":
        assert {f"right with {w}" for w in ("stride=2", "pad=1", "stride=2, pad=1")} <= set(result.remarks)


def test_a_script_shows_the_finding_of_a_recipe(tmp_path):
    """Of functions, of a class whose parameters come with its first forward, and of another padding than the usual."""
    file = tmp_path / "layers.py"
    lazy = protocols.rows(protocols.Before)[0].example.replace("self.x.T @ dy", "2 * self.x.T @ dy")
    right, wrong = POOLING_FAULTS["padding"]
    for source, words in ((FILE.replace("(dout * xhat)", "(2 * dout * xhat)", 1), "norm_forward(x, gamma, beta"),
                          ("import numpy as np\n" + lazy, "layer.set_input_shape(x.shape[1:])"),
                          (POOLING.replace(right, wrong), "MaxPool(pad=1)")):
        file.write_text(source)
        report = audit_file(file, autograd=False)
        text = report.script()
        assert words in text, report
        (tmp_path / "finding.py").write_text(text)
        run = subprocess.run([sys.executable, tmp_path / "finding.py"], capture_output=True, text=True, timeout=60)
        assert run.returncode == 1 and "AssertionError" in run.stderr, run


class Dense:
    """Two sizes, parameters and gradients as attributes."""

    def __init__(self, n_in, n_out):
        self.W, self.b = np.random.randn(n_in, n_out), np.random.randn(n_out)

    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.W + self.b)

    def backward(self, dy):
        dz = dy * (1 - np.tanh(self.x @ self.W + self.b) ** 2)
        self.dW, self.db = self.x.T @ dz, dz.sum(axis=0)
        return dz @ self.W.T


class Halved(Dense):
    """What comes in float32 is rounded to float16 on the way back."""

    def backward(self, dy):
        return super().backward(dy.astype(np.float16).astype(dy.dtype) if dy.dtype == np.float32 else dy)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_in_one_line(seed, dtype):
    assert_gradients(Dense, seed=seed, dtype=dtype, autograd=False)


def test_float32_has_its_own_budget():
    assert_gradients(Halved, autograd=False)
    with pytest.raises(AssertionError, match="further from its own value in float64 than rounding explains"):
        assert_gradients(Halved, dtype="float32", autograd=False)
    with pytest.raises(UsageError, match="dtype is 'float16'"):
        audit(Dense, dtype="float16")


def test_seeds_draw_other_inputs_and_parameters():
    given = [audit(Dense, seed=seed, autograd=False).results[0].given for seed in (0, 1, 1)]
    for group in ("inputs", "params"):
        a, b, c = (next(iter(getattr(g, group).values())) for g in given)
        assert not np.array_equal(a, b) and np.array_equal(b, c)


NAMED = """
import numpy as np


class Sigmoid:
    def forward(self, x):
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dy):
        return dy * self.y * (1 - self.y)


def softmax_forward(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def softmax_backward(dout, cache):
    return cache * (dout - (dout * cache).sum(axis=-1, keepdims=True))


def spiral_forward(x):
    return x * np.sin(x), x


def spiral_backward(dout, cache):
    return dout * (np.sin(cache) + cache * np.cos(cache))
"""


def test_a_forward_is_held_against_what_its_name_says(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text(NAMED)
    said = {r.name: (r.verdict, r.answers["forward right"]) for r in audit_file(file, autograd=False).results}
    assert said == {"Sigmoid": ("right", "yes"), "softmax_forward": ("right", "yes"),
                    "spiral_forward": ("right", "no twin")}
    for old, new in (("1 / (1 + np.exp(-x))", "1 / (1 + np.exp(x))"), ("dy * self.y", "-dy * self.y"),
                     ("np.exp(x - x.max", "np.exp(2 * x - 2 * x.max"), ("return cache", "return 2 * cache")):
        assert old in NAMED
        file.write_text(file.read_text().replace(old, new))
    found = {r.name: (r.verdict, r.answers["forward right"]) for r in audit_file(file, autograd=False).results}
    assert found == said | {"Sigmoid": ("forward differs from what its name says", "not what its name says"),
                            "softmax_forward": ("right", "another function")}


CANONICAL = ("book_convolution", "conv_naive", "channels_last_conv", "maxpool_param", "average_pool", "layernorm",
             "book_batchnorm", "columns_linear", "cmu_mse", "nnfs_softmax")


def test_convolutions_pooling_and_norms_have_a_canonical_forward(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text(HEAD + "\n\n".join(LAYERS[name][0] for name in CANONICAL))
    said = {r.name: r.answers["forward right"] for r in audit_file(file, autograd=False).results}
    assert len(said) == len(CANONICAL) and set(said.values()) == {"yes"}, said


# the modules that run are hidden from an import, and found all the same
THE_RUNNING_ONES = """
import gc
import types

checks, fit = (next(m for m in gc.get_objects() if isinstance(m, types.ModuleType) and m.__name__ == name)
               for name in ("parity.auditing.checks", "parity.auditing.fit"))
"""

TAMPERS = {
    "the examination finds nothing": "checks.Examination.values = lambda self, m, thorough: self.result.judged.update("
                                     "dict.fromkeys(m.got, 0.0))",
    "findings are not sent": "checks.Examination.add = lambda self, finding: None\n"
                             "checks.Examination._shapes = lambda self, m: set()\n"
                             "checks.Examination._judged = lambda self, n, s: self.result.judged.__setitem__(n, 0.0)",
    "it is called another recipe": "old = fit.fit_class\n"
                                   "def fit_class(kind):\n    found = old(kind)\n    found.recipe.grads.clear()\n"
                                   "    found.recipe.params.clear()\n    return found\nfit.fit_class = fit_class",
}


@pytest.mark.parametrize("name", TAMPERS)
def test_a_file_that_changes_the_audit_is_not_right_without_a_twin_either(tmp_path, name):
    source = protocols.rows(protocols.Beside)[0].example
    wrong = source.replace("return dy @ self.W.T", "return 3 * dy @ self.W.T").replace("self.x.T @", "3 * self.x.T @")
    assert wrong.count("3 *") == 2
    file = tmp_path / "layers.py"
    tamper = f"{THE_RUNNING_ONES}\n{TAMPERS[name]}"
    file.write_text(f"import numpy as np\n{tamper}\n{wrong}")
    report = audit_file(file, autograd=False)
    assert not report.ok and report.exit_code in (1, 2), report


def test_every_field_of_a_finding_is_told_and_no_command():
    """A field that ``Finding`` gets and the audit's wire does not know would end every audit that finds something."""
    plain = Finding("gradient", verdict=answers.BACKWARD).to_plain()
    assert answers.from_plain(plain).check == "gradient"
    with pytest.raises(ValueError, match="command"):
        answers.from_plain(plain | {"again": "rm -r ."})
