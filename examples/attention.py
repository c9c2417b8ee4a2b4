"""PyTorch's attention kernels in bfloat16, against the same in plain operations, with and without a mask.

The reference is torch too. It runs in float64 for what is right, and a few times in bfloat16 with every operation
a little wrong, forward and backward: how far those runs stray is how far the kernel may be.
"""

import torch

from parity import Pair, check, mask


def naive(q, k, v, keep, causal):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if causal:
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if keep is not None:
        scores = scores.masked_fill(~keep, float("-inf"))
    # the kernel keeps the logsumexp alone, and makes the weights from it again in backward: so does this
    return torch.exp(scores - torch.logsumexp(scores, -1, keepdim=True)) @ v


def fused(q, k, v, keep, causal):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, None if causal else keep, is_causal=causal)


def some(rng, shape, sizes):
    """A mask that leaves every query at least one key."""
    keep = rng.random(shape) < 0.7
    keep[..., 0] = True
    return keep


attention = Pair(
    "attention",
    reference=naive,
    port=fused,
    inputs={"q": "N A T K", "k": "N A S K", "v": "N A S K", "keep": mask("N A T S", optional=True, draw=some)},
    options={"causal": (False, True)},
    # beyond this the logits' own rounding decides in bfloat16 who wins the softmax
    scales=(0.1, 1),
)

if __name__ == "__main__":
    print(check(attention, lane="cpu-bfloat16", cases=30))
