"""The examples: each runs as it stands, is short, and would find a mistake in its port."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from parity import check

EXAMPLES = Path(__file__).parents[1] / "examples"
HAS_JAX = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
MOST = 60  # lines
LIMIT = 300  # seconds until a run counts as hung

# a mistake that somebody could make in each: what is replaced, by what, and a lane that sees it
MISTAKES = {
    "attention": ("q, k, v, None if causal", "q, k, 1.1 * v, None if causal", "cpu-bfloat16"),
    "compiled": ("(a.contiguous() for a in arrays)", "(a.mul(1 + 1e-4) for a in arrays)", "cpu-float32"),
    "fused_swiglu": ("(1 + a * (1 - s))", "(1 + a)", "cpu-float32"),
    "jax_loss": ("jax.nn.log_softmax(scores)", "jnp.log(jax.nn.softmax(scores) + 1e-7)", "cpu-float64"),
    "test_gelu": ("approximate=approximate", 'approximate="tanh"', "cpu-float32"),
}


OTHERS = ("numpy_ml_names",)  # no pair: what another command reads


def names(marked=("jax_loss",)):
    return [pytest.param(name, marks=HAS_JAX) if name in marked else name for name in MISTAKES]


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=LIMIT, cwd=EXAMPLES)


def test_each_example_is_known_here_and_short():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted([*MISTAKES, *OTHERS])
    assert {path.stem: n for path in EXAMPLES.glob("*.py") if (n := len(path.read_text().splitlines())) > MOST} == {}


@pytest.mark.parametrize("name", names())
def test_an_example_runs_as_it_stands(name):
    found = run(f"{name}.py")
    assert found.returncode == 0, found.stderr
    assert "\nall within budget" in found.stdout, found.stdout


def test_the_test_module_is_one():
    found = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gelu.py")
    assert found.returncode == 0, found.stdout
    assert "9 passed" in found.stdout


@pytest.mark.parametrize("name", names())
def test_an_example_finds_a_mistake(name, tmp_path):
    right, wrong, lane = MISTAKES[name]
    text = (EXAMPLES / f"{name}.py").read_text()
    assert text.count(right) == 1
    copy = tmp_path / f"{name}.py"
    copy.write_text(text.replace("torch.compile(gated_residual, backend=backend, dynamic=True)", "gated_residual")
                    .replace(right, wrong))
    report = check(catalogue=str(copy), lane=lane, cases=2)
    assert {finding.check for finding in report.findings} == {"port"}, report
