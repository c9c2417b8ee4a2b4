"""A fused RMSNorm and SwiGLU with a gradient written by hand, against four lines of NumPy.

The NumPy side has no backward: its gradients are the numerical derivative of these lines. How far the kernel may
be from them is computed from the rounding of its own operations; nowhere is a tolerance given.
"""

import numpy as np
import torch

from parity import Pair, check

EPS = 1e-6


def reference(x, g, W, V):
    n = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * g
    a = n @ W
    return a / (1 + np.exp(-a)) * (n @ V)


class FusedSwiGLU(torch.autograd.Function):
    """Keeps x and the reciprocal norm alone, and computes the rest again in backward, as a fused kernel does."""

    @staticmethod
    def forward(ctx, x, g, W, V):
        r = torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS)
        ctx.save_for_backward(x, r, g, W, V)
        n = x * r * g
        return torch.nn.functional.silu(n @ W) * (n @ V)

    @staticmethod
    def backward(ctx, dy):
        x, r, g, W, V = ctx.saved_tensors
        h = x * r
        n = h * g
        a, b = n @ W, n @ V
        s = torch.sigmoid(a)
        da, db = dy * b * s * (1 + a * (1 - s)), dy * a * s
        dn = da @ W.T + db @ V.T
        dh = dn * g
        dx = r * (dh - h * (dh * h).mean(-1, keepdim=True))
        return dx, (dn * h).sum((0, 1)), (n.mT @ da).sum(0), (n.mT @ db).sum(0)


swiglu = Pair(
    "fused_swiglu",
    reference=reference,
    port=FusedSwiGLU.apply,
    inputs={"x": "N T D", "g": "D", "W": "D H", "V": "D H"},
    scales=(0.1, 1),
)

if __name__ == "__main__":
    print(check(swiglu, lane="cpu-*", cases=10))
