"""A test module of one's own: ``pytest examples/test_gelu.py``.

The port is torch's GELU in one kernel; the reference is the definition, in torch's plain operations.
"""

import pytest
import torch

from parity import Pair, assert_parity, check


def reference(x, approximate):
    if approximate == "tanh":
        return x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    return x * (1 + torch.erf(x / 2**0.5)) / 2


gelu = Pair(
    "gelu",
    reference=reference,
    port=lambda x, approximate: torch.nn.functional.gelu(x, approximate=approximate),
    inputs={"x": "... D"},
    options={"approximate": ("none", "tanh")},
    scales=(0.1, 1),
)


@pytest.mark.parametrize("lane", ["cpu-float64", "cpu-float32", "cpu-bfloat16", "cpu-float16"])
def test_gelu(lane):
    assert_parity(gelu, lane=lane, cases=20)


@pytest.mark.parametrize("case", gelu.cases(5, seed=1), ids=str)
def test_a_case(case):
    """A case a test: one that fails has its id in its name, and ``parity replay`` takes it."""
    report = gelu.run(case, lane="cpu-float32")
    assert report.ok, report


if __name__ == "__main__":
    print(check(gelu, lane="cpu-*", cases=20))
