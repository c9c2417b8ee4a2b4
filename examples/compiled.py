"""``torch.compile`` of a function against itself: what the compiler makes of it must be the same function."""

import shutil

import torch

from parity import Pair, check


def gated_residual(x, h, W, g):
    """One step of a gated residual stream, normalized."""
    y = x + torch.sigmoid(x @ W) * torch.tanh(h)
    return y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-5) * g


# inductor generates C++, and needs a compiler; aot_eager traces forward and backward as it does, and generates nothing
backend = "inductor" if shutil.which("g++") or shutil.which("clang++") else "aot_eager"
compiled = torch.compile(gated_residual, backend=backend, dynamic=True)

residual = Pair(
    "gated_residual",
    reference=gated_residual,
    # memory layouts would each be compiled anew: here, only what comes of the values is asked
    port=lambda *arrays: compiled(*(a.contiguous() for a in arrays)),
    inputs={"x": "N D", "h": "N D", "W": "D D", "g": "D"},
    scales=(0.1, 1),
    ranges={"N": (2, 5), "D": (4, 17)},  # so would sizes of 0 and 1
)

if __name__ == "__main__":
    print(check(residual, lane="cpu-float32", cases=10))
