"""Right pairs with kinks, ties, eps, large constants, integers and several outputs, as users write them: no alarm."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from parity import Pair, ids, mask

X, XY, XW = {"x": "N D"}, {"x": "N D", "y": "N D"}, {"x": "N D", "W": "D H"}
N = {"N": (1, 3, 5)}


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# --- NumPy functions without a backward ----------------------------------------------------------

relu = Pair("relu", lambda x: np.maximum(x, 0), F.relu, X)
relu_where = Pair("relu_where", lambda x: np.where(x > 0, x, 0), F.relu, X)
relu_product = Pair("relu_product", lambda x: x * (x > 0), F.relu, X)
leaky = Pair("leaky", lambda x: np.maximum(x, 0) + 0.2 * np.minimum(x, 0), lambda x: F.leaky_relu(x, 0.2), X)
relu6 = Pair("relu6", lambda x: np.clip(x, 0, 6), F.relu6, X)
hard_tanh = Pair("hard_tanh", lambda x: np.minimum(np.maximum(x, -1), 1), F.hardtanh, X)
hard_sigmoid = Pair("hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: (x / 6 + 0.5).clamp(0, 1), X)
soft_shrink = Pair("soft_shrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0), F.softshrink, X)
elu = Pair("elu", lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1), F.elu, X)
selu = Pair("selu", lambda x: 1.0507009873554805 * np.where(
    x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1)), F.selu, X)
l1 = Pair("l1", lambda x, y: np.abs(x - y).sum(), lambda x, y: F.l1_loss(x, y, reduction="sum"), XY)
huber = Pair("huber", lambda x, y: np.where(np.abs(x - y) < 1, 0.5 * (x - y) ** 2, np.abs(x - y) - 0.5).mean(),
             F.huber_loss, XY)
smooth_l1 = Pair("smooth_l1",
                 lambda x, y: np.where(np.abs(x - y) < 0.3, (x - y) ** 2 / 0.6, np.abs(x - y) - 0.15).sum(),
                 lambda x, y: F.smooth_l1_loss(x, y, beta=0.3, reduction="sum"), XY)
hinge = Pair("hinge", lambda x: np.maximum(1 - x, 0).sum(-1), lambda x: (1 - x).clamp(min=0).sum(-1), X)
triplet = Pair("triplet", lambda a, p, n: np.maximum(((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + 1, 0),
               lambda a, p, n: ((a - p).square().sum(-1) - (a - n).square().sum(-1) + 1).relu(),
               {"a": "N D", "p": "N D", "n": "N D"})
pinball = Pair("pinball", lambda x, y, q: np.maximum(q * (y - x), (q - 1) * (y - x)).mean(),
               lambda x, y, q: torch.where(y >= x, q * (y - x), (q - 1) * (y - x)).mean(), XY,
               options={"q": (0.1, 0.5, 0.9)})
mlp = Pair("mlp", lambda x, W, V: np.maximum(x @ W, 0) @ V, lambda x, W, V: F.relu(x @ W) @ V,
           XW | {"V": "H D"}, ranges=N)
squared_relu = Pair("squared_relu", lambda x, W: np.maximum(x @ W, 0) ** 2, lambda x, W: F.relu(x @ W).square(), XW,
                    ranges=N)
gated = Pair("gated", lambda x, W: np.abs(x @ W) * (x @ W > 0.25), lambda x, W: (x @ W).abs() * (x @ W > 0.25), XW,
             ranges=N)
max_pool = Pair("max_pool", lambda x: x.reshape(*x.shape[:-1], -1, 2).max(-1), lambda x: F.max_pool1d(x, 2),
                {"x": "N C 2L"}, ranges=N)
max_out = Pair("max_out", lambda x, W: (x @ W).max(-1), lambda x, W: (x @ W).amax(-1), XW, ranges=N)
span = Pair("span", lambda x: x.max(-1) - x.min(-1), lambda x: x.amax(-1) - x.amin(-1), X)
median = Pair("median", lambda x: np.sort(x, -1)[..., x.shape[-1] // 2],
              lambda x: x.sort(-1).values[..., x.shape[-1] // 2], X)
rms = Pair("rms", lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g,
           lambda x, g: F.rms_norm(x, x.shape[-1:], g, 1e-6), {"x": "N T D", "g": "D"}, ranges=N)
layer_norm = Pair("layer_norm", lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5),
                  lambda x: F.layer_norm(x, x.shape[-1:]), {"x": "N T D"}, ranges=N)
l2 = Pair("l2", lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-12),
          lambda x: x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12), X)
clipped_norm = Pair("clipped_norm", lambda x: x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), 1e-3),
                    lambda x: F.normalize(x, dim=-1, eps=1e-3), X, scales=(0.1, 1.0), patterns=())
biased = Pair("biased", lambda x: (x + 1000.0) * (x + 1000.0) / 1000.0 - 1000.0 - 2 * x,
              lambda x: (x + 1000.0).square() / 1000.0 - 1000.0 - 2 * x, X)
masked_softmax = Pair("masked_softmax", lambda x, m: _softmax(np.where(m, x, -1e9)),
                      lambda x, m: x.masked_fill(~m, -1e9).softmax(-1), X | {"m": mask("N D")})
cross_entropy = Pair("cross_entropy", lambda x, t: -np.log(_softmax(x)[np.arange(len(t)), t] + 1e-7).mean(),
                     lambda x, t: -(x.softmax(-1)[torch.arange(len(t)), t] + 1e-7).log().mean(),
                     {"x": "N V", "t": ids("N", below="V")}, ranges=N)
counted = Pair("counted",
               lambda x, t: np.eye(5)[t].astype(x.dtype).T @ x / np.maximum(np.bincount(t, minlength=5), 1)[:, None],
               lambda x, t: (x.new_zeros(5, x.shape[1]).index_add(0, t, x)
                             / t.bincount(minlength=5).clamp(min=1)[:, None]),
               {"x": "N D", "t": ids("N", below=5)}, ranges=N)
quantized = Pair("quantized", lambda x: x * x - np.floor(x * 4) / 4 * x, lambda x: x * x - (x * 4).floor() / 4 * x, X,
                 scales=(0.1, 1.0))  # at scale 1000 the steps of a numerical derivative would cross many jumps
gate = Pair("gate", lambda x: (_softmax(x).max(-1), x.argmax(-1)), lambda x: (x.softmax(-1).amax(-1), x.argmax(-1)), X,
            outputs=("p", "i"))
moments = Pair("moments", lambda x: (x.mean(-1), np.sqrt(x.var(-1) + 1e-8), np.abs(x).max(-1)),
               lambda x: (x.mean(-1), (x.var(-1, correction=0) + 1e-8).sqrt(), x.abs().amax(-1)), X)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- with a backward, and eager -------------------------------------------------------------------

relu_affine = Pair("relu_affine", lambda x, W: (np.maximum(x @ W, 0), (x, W, x @ W > 0)),
                   lambda x, W: F.relu(x @ W), XW, backward=lambda dy, c: ((dy * c[2]) @ c[1].T, c[0].T @ (dy * c[2])))
max_backward = Pair("max_backward", lambda x, W: ((x @ W).max(-1), (x, W, (x @ W).argmax(-1))),
                    lambda x, W: (x @ W).max(-1).values, XW, ranges=N, backward=lambda dy, c: (
                        dy[:, None] * c[1].T[c[2]],
                        c[0].T @ (dy[:, None] * np.eye(c[1].shape[1])[c[2]].astype(dy.dtype))))
eager_relu = Pair("eager_relu", lambda x, W: torch.relu((x[:, :, None] * W).sum(1)), lambda x, W: F.relu(x @ W), XW,
                  ranges=N)
eager_clamp = Pair("eager_clamp", lambda x, W: torch.minimum((x[:, :, None] * W).sum(1), torch.ones(())).clamp(min=-1),
                   lambda x, W: F.hardtanh(x @ W), XW, ranges=N, reference_kind="torch", patterns=())
eager_max = Pair("eager_max", lambda x, W: (x[:, :, None] * W).sum(1).max(-1).values,
                 lambda x, W: (x @ W).max(-1).values, XW, ranges=N, reference_kind="torch")
eager_floor = Pair("eager_floor", lambda x, W: (x[:, :, None] * W).sum(1) - (x[:, :, None] * W).sum(1).floor(),
                   lambda x, W: (x @ W) - (x @ W).floor(), XW, ranges=N, reference_kind="torch")
eager_topped = Pair("eager_topped", lambda x: torch.exp(x - x.amax(-1, keepdim=True).detach()), lambda x: (
    x - x.max(-1, keepdim=True).values.detach()).exp(), X, reference_kind="torch", patterns=())
eager_cosine = Pair("eager_cosine", lambda x, y: (x * y).sum(-1) / torch.sqrt((x * x).sum(-1) * (y * y).sum(-1) + 1e-3),
                    lambda x, y: torch.einsum("nd,nd->n", x, y) * torch.rsqrt(
                        x.square().sum(-1) * y.square().sum(-1) + 1e-3), XY)
NARROW = {"biased", "masked_softmax", "l2", "moments"}  # their constants are too large, or too small, for float16
PAIRS = [replace(value, ranges=value.ranges | N) for value in vars().values() if isinstance(value, Pair)]
