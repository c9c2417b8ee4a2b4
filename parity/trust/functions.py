"""Public functions of torch against naive forms of them: right pairs, on which no judgement may depend on luck.

The naive forms are eager torch, but for a few in NumPy; the ports are what torch computes fused.
``parity flake parity/trust/functions.py`` counts the alarms.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from parity.spec.arrays import floats, ids, mask
from parity.spec.axes import letters
from parity.spec.pair import Pair, built

BATCH, WIDTH, SIDE = (1, 2, 3, 5), (2, 3, 5, 8, 17, 33, 64), (4, 5, 7, 8)
SCALES = (0.1, 0.3, 1.0)  # half precision has no more room, and attention's kernels keep the logsumexp alone
RANGES = {"N": BATCH, "T": (2, 3, 5, 8, 17), "D": WIDTH, "H": WIDTH, "C": (2, 4, 6), "A": SIDE, "B": SIDE, "V": WIDTH}


def _pair(name: str, reference: Any, port: Any, inputs: dict[str, Any], **rest: Any) -> Pair:
    used = {*letters(inputs.values()), *(getattr(text, "below", "") for text in inputs.values())}
    ranges = {letter: sizes for letter, sizes in RANGES.items() if letter in used} | rest.pop("ranges", {})
    return Pair(name, reference, port, inputs, ranges=ranges, scales=SCALES,
                patterns=rest.pop("patterns", ()), **rest)


# --- norms ---------------------------------------------------------------------------------------

def _standard(x: Tensor, dims: int | tuple[int, ...], eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)


def group_norm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    n, c, *sides = x.shape
    y = _standard(x.reshape(n, 2, c // 2, *sides), (2, 3, 4)).reshape(x.shape)
    return y * g[:, None, None] + b[:, None, None]


def _length(x: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return size.clamp_min(HALF)  # its gradient at zero is zero


def _away_from_zero(rng: np.random.Generator, dims: tuple[int, ...], sizes: dict[str, Any]) -> NDArray[Any]:
    return np.asarray(rng.uniform(0.5, 1.5, dims) * rng.choice((-1, 1), dims))


def _between(rng: np.random.Generator, dims: tuple[int, ...], sizes: dict[str, Any]) -> NDArray[Any]:
    return rng.uniform(-1.1, 1.1, dims)


NORM = {"x": "N T D", "g": "D", "b": "D"}
IMAGE = {"x": "N C A B", "g": "C", "b": "C"}
HALF = 0.05  # an eps that float16 can hold with its reciprocal's cube

layer_norm = _pair("layer_norm", lambda x, g, b: _standard(x, -1, HALF) * g + b,
                   lambda x, g, b: F.layer_norm(x, x.shape[-1:], g, b, HALF), NORM)
rms_norm = _pair("rms_norm", lambda x, g: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + HALF) * g,
                 lambda x, g: F.rms_norm(x, x.shape[-1:], g, HALF), {"x": "N T D", "g": "D"})
rms_norm_numpy = _pair("rms_norm_numpy", lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + HALF) * g,
                       lambda x, g: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + HALF) * g,
                       {"x": "N T D", "g": "D"})
group_norm_ = _pair("group_norm", group_norm, lambda x, g, b: F.group_norm(x, 2, g, b), IMAGE,
                    ranges={"C": (4, 6)})
instance_norm = _pair("instance_norm", lambda x, g, b: _standard(x, (2, 3), HALF) * g[:, None, None] + b[:, None, None],
                      lambda x, g, b: F.instance_norm(x, weight=g, bias=b, eps=HALF), IMAGE)
batch_norm = _pair("batch_norm", lambda x, g, b: _standard(x, (0, 2, 3), HALF) * g[:, None, None] + b[:, None, None],
                   lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=HALF), IMAGE)
normalize = _pair("normalize", lambda x: x / _length(x), lambda x: F.normalize(x, dim=-1, eps=HALF), {"x": "N D"})
cosine = _pair("cosine_similarity", lambda x, y: ((x / _length(x)) * (y / _length(y))).sum(-1),
               F.cosine_similarity, dict.fromkeys("xy", floats("N D", draw=_away_from_zero)))

# --- activations ---------------------------------------------------------------------------------

X = {"x": "N D"}
gelu = _pair("gelu", lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), F.gelu, X)
gelu_tanh = _pair("gelu_tanh",
                  lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
                  lambda x: F.gelu(x, approximate="tanh"), X)
silu = _pair("silu", lambda x: x / (1 + torch.exp(-x)), F.silu, X)
silu_numpy = _pair("silu_numpy", lambda x: x / (1 + np.exp(-x)), F.silu, X)
mish = _pair("mish", lambda x: x * torch.tanh(torch.log1p(torch.exp(x))), F.mish, X)
softplus = _pair("softplus", lambda x: torch.log1p(torch.exp(x)), F.softplus, X)
logsigmoid = _pair("logsigmoid", lambda x: -torch.log1p(torch.exp(-x)), F.logsigmoid, X)
elu = _pair("elu", lambda x: torch.where(x > 0, x, torch.exp(x) - 1), F.elu, X)
glu = _pair("glu", lambda x: x[:, : x.shape[1] // 2] / (1 + torch.exp(-x[:, x.shape[1] // 2 :])),
            lambda x: F.glu(x, -1), {"x": "N 2D"})
leaky = _pair("leaky_relu", lambda x: torch.where(x > 0, x, 0.01 * x), F.leaky_relu, X)
softmax = _pair("softmax", lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True), lambda x: x.softmax(-1),
                {"x": "N T D"})
softmax_numpy = _pair("softmax_numpy", lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True), lambda x: x.softmax(-1),
                      X)
log_softmax = _pair("log_softmax", lambda x: x - torch.log(torch.exp(x).sum(-1, keepdim=True)),
                    lambda x: x.log_softmax(-1), X)
logsumexp = _pair("logsumexp", lambda x: torch.log(torch.exp(x).sum(-1)), lambda x: x.logsumexp(-1), X)

# --- losses --------------------------------------------------------------------------------------

LABELLED = {"x": "N V", "t": ids("N", below="V")}


def _picked(x: Tensor, t: Tensor) -> Any:
    return x.gather(1, t[:, None])[:, 0]


cross_entropy = _pair("cross_entropy", lambda x, t: (torch.log(torch.exp(x).sum(-1)) - _picked(x, t)).mean(),
                      F.cross_entropy, LABELLED)
smoothed = _pair("cross_entropy_smoothed",
                 lambda x, t: (torch.log(torch.exp(x).sum(-1)) - 0.9 * _picked(x, t) - 0.1 * x.mean(-1)).mean(),
                 lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), LABELLED)
nll = _pair("nll_loss", lambda x, t: -_picked(x, t).mean(), F.nll_loss, LABELLED)
mse = _pair("mse_loss", lambda x, y: ((x - y) * (x - y)).mean(), F.mse_loss, {"x": "N D", "y": "N D"})
huber = _pair("smooth_l1_loss", lambda x, y: torch.where((x - y).abs() < 1, 0.5 * (x - y) * (x - y),
                                                         (x - y).abs() - 0.5).mean(),
              F.smooth_l1_loss, {"x": "N D", "y": "N D"})
bce = _pair("binary_cross_entropy_with_logits", lambda x, y: (torch.log1p(torch.exp(x)) - x * y).mean(),
            F.binary_cross_entropy_with_logits, {"x": "N D", "y": "N D"})
kl = _pair("kl_div", lambda x, y: (torch.exp(y) * (y - x)).sum() / x.shape[0],
           lambda x, y: F.kl_div(x, y, reduction="batchmean", log_target=True), {"x": "N D", "y": "N D"})

# --- attention -----------------------------------------------------------------------------------

QKV = {"q": "N C T D", "k": "N C S D", "v": "N C S D"}
HEADS = {"C": (1, 2), "D": (4, 8, 16), "S": (2, 3, 8, 17), "N": (1, 2)}


def attention(q: Tensor, k: Tensor, v: Tensor, shut: Tensor | None = None) -> Tensor:
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    s = s if shut is None else s.masked_fill(shut, -math.inf)
    return torch.exp(s - s.logsumexp(-1, keepdim=True)) @ v


def _future(q: Tensor, k: Tensor) -> Tensor:
    return torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)


def _first_open(rng: np.random.Generator, shape: tuple[int, ...], sizes: dict[str, Any]) -> NDArray[Any]:
    found = rng.random(shape) < 0.7
    found[..., 0] = True
    return found


sdpa = _pair("attention", attention, F.scaled_dot_product_attention, QKV, ranges=HEADS)
sdpa_causal = _pair("attention_causal", lambda q, k, v: attention(q, k, v, _future(q, k)),
                    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), QKV, ranges=HEADS)
sdpa_masked = _pair("attention_masked", lambda q, k, v, m: attention(q, k, v, ~m),
                    lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
                    QKV | {"m": mask("T S", draw=_first_open)}, ranges=HEADS)

# --- products, convolutions, pooling -------------------------------------------------------------

linear = _pair("linear", lambda x, W, b: (x[:, None] * W).sum(-1) + b, F.linear, {"x": "N D", "W": "H D", "b": "H"})
linear_numpy = _pair("linear_numpy", lambda x, W, b: x @ W.T + b, F.linear, {"x": "N D", "W": "H D", "b": "H"})
bilinear = _pair("bilinear", lambda x, W, y: torch.stack([((x @ w) * y).sum(-1) for w in W], -1),
                 lambda x, W, y: F.bilinear(x, y, W), {"x": "N D", "W": "C D H", "y": "N H"},
                 ranges={"D": (2, 3, 8), "H": (2, 5)})
einsum = _pair("einsum", lambda x, y: (x[:, :, :, None] * y[:, None]).sum(2),
               lambda x, y: torch.einsum("ntd,ndh->nth", x, y), {"x": "N T D", "y": "N D H"})


def _patches(x: Tensor, rows: int, columns: int) -> Tensor:
    a, b = x.shape[2:]
    return torch.stack([x[:, :, i : a - rows + 1 + i, j : b - columns + 1 + j] for i in range(rows)
                        for j in range(columns)], 2)


conv1d = _pair("conv1d", lambda x, w: torch.stack([
    sum((x[:, :, i : x.shape[2] - 2 + i] * w[o, :, i, None]).sum(1) for i in range(3)) for o in range(len(w))], 1),
    F.conv1d, {"x": "N C A", "w": "O C K"}, ranges={"O": (2, 3), "K": (3,)})
conv2d = _pair("conv2d", lambda x, w: torch.einsum("nckab,ock->noab", _patches(x, 3, 3), w.flatten(2)), F.conv2d,
               {"x": "N C A B", "w": "O C K K"}, ranges={"O": (2, 3), "K": (3,)})
avg_pool = _pair("avg_pool2d", lambda x: _patches(x, 2, 2).mean(2), lambda x: F.avg_pool2d(x, 2, 1), {"x": "N C A B"})
max_pool = _pair("max_pool2d", lambda x: _patches(x, 2, 2).max(2).values, lambda x: F.max_pool2d(x, 2, 1),
                 {"x": "N C A B"})
embedding = _pair("embedding", lambda i, W: torch.nn.functional.one_hot(i, len(W)).to(W.dtype) @ W, F.embedding,
                  {"i": ids("N T", below="V"), "W": "V D"})
embedding_bag = _pair("embedding_bag", lambda i, W: W[i].mean(1), F.embedding_bag,
                      {"i": ids("N T", below="V"), "W": "V D"})

# --- scans, samplers -----------------------------------------------------------------------------


def _scan(step: Any, x: Tensor) -> Any:
    found = [x[:, 0]]
    for t in range(1, x.shape[1]):
        found.append(step(found[-1], x[:, t]))
    return torch.stack(found, 1)


cumsum = _pair("cumsum", lambda x: _scan(torch.add, x), lambda x: x.cumsum(1), {"x": "N T D"})
cumprod = _pair("cumprod", lambda x: _scan(torch.mul, x), lambda x: x.cumprod(1),
                # torch's backward divides by x: beside zero it loses what the products themselves keep
                {"x": floats("N T D", draw=_away_from_zero)}, ranges={"T": (2, 3, 5)})
logcumsumexp = _pair("logcumsumexp", lambda x: torch.log(torch.exp(x).cumsum(1)), lambda x: x.logcumsumexp(1),
                     {"x": "N T D"})
variance = _pair("var", lambda x: ((x - x.mean(-1, keepdims=True)) ** 2).sum(-1) / (x.shape[-1] - 1),
                 lambda x: x.var(-1), X, backward=lambda dy, x:  # autograd's own is more accurate than the formula
                 2 / (x.shape[-1] - 1) * dy[:, None] * (x - x.mean(-1, keepdims=True)))


def _weights(size: int, target: int) -> Tensor:
    """The matrix of linear interpolation, half pixels at the edges (align_corners=False)."""
    place = ((torch.arange(target, dtype=torch.float64) + 0.5) * size / target - 0.5).clamp(0, size - 1)
    return (1 - (place[:, None] - torch.arange(size)).abs()).clamp(min=0)


def interpolate(x: Tensor) -> Tensor:
    rows, columns = (_weights(s, 2 * s).to(x.dtype) for s in x.shape[2:])
    return torch.einsum("ia,ncab,jb->ncij", rows, x, columns)


def grid_sample(x: Tensor, g: Tensor) -> Tensor:
    """Bilinear, zeros outside, align_corners=True."""
    a, b = x.shape[2:]
    column, row = (g[..., 0] + 1) * (b - 1) / 2, (g[..., 1] + 1) * (a - 1) / 2
    found = x.new_zeros(())
    for i in (0, 1):
        for j in (0, 1):
            r, c = row.detach().floor() + i, column.detach().floor() + j
            weight = (1 - (row - r).abs()) * (1 - (column - c).abs())
            inside = (r >= 0) & (r < a) & (c >= 0) & (c < b)
            r, c = r.clamp(0, a - 1).long(), c.clamp(0, b - 1).long()
            picked = torch.stack([x[n][:, r[n], c[n]] for n in range(len(x))])
            found = found + torch.where(inside, weight, 0)[:, None] * picked
    return found


interpolate_ = _pair("interpolate", interpolate, lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
                     {"x": "N C A B"})
grid_sample_ = _pair("grid_sample", grid_sample, lambda x, g: F.grid_sample(x, g, align_corners=True),
                     # between the pixels: at one the gradient jumps
                     {"x": "N C A B", "g": floats("N S R L", draw=_between)},
                     ranges={"S": (2, 3), "R": (2, 4), "L": (2,)})

# --- recurrent kernels ---------------------------------------------------------------------------


def rnn(x: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h, found = x.new_zeros(x.shape[1], len(Wh)), []
    for row in x:
        h = torch.tanh(row @ Wx.T + b + h @ Wh.T + c)
        found.append(h)
    return torch.stack(found)


def lstm(x: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h = s = x.new_zeros(x.shape[1], Wh.shape[1])
    found = []
    for row in x:
        i, f, g, o = (row @ Wx.T + b + h @ Wh.T + c).chunk(4, -1)
        s = s * torch.sigmoid(f) + torch.tanh(g) * torch.sigmoid(i)
        h = torch.tanh(s) * torch.sigmoid(o)
        found.append(h)
    return torch.stack(found)


def gru(x: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h, found = x.new_zeros(x.shape[1], Wh.shape[1]), []
    for row in x:
        (r, z, n), (hr, hz, hn) = (row @ Wx.T + b).chunk(3, -1), (h @ Wh.T + c).chunk(3, -1)
        z = torch.sigmoid(z + hz)
        h = (1 - z) * torch.tanh(n + hn * torch.sigmoid(r + hr)) + z * h
        found.append(h)
    return torch.stack(found)


class First(torch.nn.Module):
    """A recurrent module's outputs, without its last state."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.module(x)[0]
        return found


def _recurrent(name: str, reference: Any, kind: Callable[[int, int], torch.nn.Module], gates: str) -> Pair:
    places = {"Wx": "module.weight_ih_l0", "Wh": "module.weight_hh_l0", "b": "module.bias_ih_l0",
              "c": "module.bias_hh_l0"}
    axes = {"x": "T N D", "Wx": f"{gates}H D", "Wh": f"{gates}H H", "b": f"{gates}H", "c": f"{gates}H"}
    return _pair(name, reference, built(lambda n: First(kind(n["D"], n["H"]))), axes, params=places,
                 ranges={"T": (2, 3, 5), "D": (2, 3, 8), "H": (2, 3, 8)})


rnn_ = _recurrent("rnn", rnn, torch.nn.RNN, "")
lstm_ = _recurrent("lstm", lstm, torch.nn.LSTM, "4")
gru_ = _recurrent("gru", gru, torch.nn.GRU, "3")
