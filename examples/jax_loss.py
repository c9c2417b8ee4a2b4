"""A JAX function against a NumPy layer with a backward written by hand: cross entropy with smoothed labels.

Both give the loss and, without a gradient, how many answers are right.
"""

import numpy as np

from parity import Pair, check, ids


def reference(scores, t, smoothing):
    shifted = scores - scores.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    target = (1 - smoothing) * np.eye(scores.shape[-1])[t] + smoothing / scores.shape[-1]
    return -(target * log_p).sum(-1).mean(), (scores.argmax(-1) == t).sum(), (log_p, target)


def backward(dloss, cache):
    log_p, target = cache
    return dloss * (np.exp(log_p) - target) / len(target)


def port(scores, t, smoothing):
    import jax
    import jax.numpy as jnp

    target = jax.nn.one_hot(t, scores.shape[-1], dtype=scores.dtype)
    target = (1 - smoothing) * target + smoothing / scores.shape[-1]
    loss = -(target * jax.nn.log_softmax(scores)).sum(-1).mean()
    return loss, jnp.sum(scores.argmax(-1) == t)


loss = Pair(
    "jax_loss",
    reference=reference,
    backward=backward,
    port=port,
    port_kind="jax",
    inputs={"scores": "N V", "t": ids("N", below="V")},
    outputs=("loss", "right"),
    options={"smoothing": (0.0, 0.1)},
    # JAX compiles anew for each size and option: few of them, and it is quick
    ranges={"N": (4,), "V": (3, 9)},
    scales=(0.1, 1, 10),
)

if __name__ == "__main__":
    print(check(loss, lane="cpu-*", cases=20))
