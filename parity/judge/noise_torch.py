"""Monte Carlo arithmetic in torch: eager code run with every operation a little wrong, forward and backward.

What ``noise`` does to NumPy, a dispatch mode does to torch, below autograd, on any device and dtype:
results of arithmetic are multiplied by ``1 + 2u d``, and so is each floating operand of an operation
that contracts or is made of several (softmax, norms, losses, convolutions); sums are taken in blocks
whose partial sums err. Views, copies, comparisons and selections are exact. Half precisions
accumulate in float32, as their kernels do, and round at the end.

Source: Parker, Monte Carlo Arithmetic, 1997.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .noise import Turns, blocks, shuffled

Op = Any  # an overload of one of torch's operations
HALF = torch.float16, torch.bfloat16
FLOATING = *HALF, torch.float32, torch.float64
SUBNORMAL = 2.0**-24  # spacing of the smallest numbers of float16


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


EXACT = _names("""
clone contiguous copy cat stack hstack vstack split_with_sizes_copy gather take index index_select masked_select where
masked_fill masked_scatter scatter slice_scatter select_scatter diagonal_scatter as_strided_scatter repeat
repeat_interleave roll flip rot90 tril triu constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle im2col
slice_backward select_backward diagonal_backward embedding fill zero lift_fresh lift detach resize set _unsafe_view
index_fill index_copy empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones
ones_like new_ones full full_like new_full arange eye linspace scalar_tensor tril_indices triu_indices one_hot
max min amax amin aminmax maximum minimum fmax fmin sort topk kthvalue median nanmedian mode argmax argmin argsort
cummax cummin clamp clamp_min clamp_max relu relu6 hardtanh threshold threshold_backward hardtanh_backward
max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d
sgn sign neg abs positive floor ceil round trunc frac fmod copysign nextafter heaviside frexp isnan isinf isfinite
nan_to_num logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor eq ne lt le
gt ge equal nonzero unique_consecutive _unique2 bincount histc searchsorted bucketize all any count_nonzero
_local_scalar_dense is_nonzero rand rand_like randn randn_like randint randint_like randperm uniform normal
bernoulli multinomial exponential isin sym_size real imag view_as_real view_as_complex ones_like conj_physical
""")

ELEMENTARY = _names("""
add sub rsub mul div reciprocal sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh
cosh tanh sigmoid erf erfc pow square hypot
""")

WHOLE = _names("add sub rsub mul")  # exact on whole numbers, such as indices: what one is truncated to must not change

# made of several operations: each operand errs as well as the result
COMPOSITE = _names("""
_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data native_layer_norm native_layer_norm_backward
native_batch_norm native_batch_norm_backward _native_batch_norm_legit _native_batch_norm_legit_functional
_native_batch_norm_legit_no_training native_group_norm native_group_norm_backward _fused_rms_norm
_fused_rms_norm_backward nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward mse_loss
mse_loss_backward smooth_l1_loss smooth_l1_loss_backward huber_loss huber_loss_backward binary_cross_entropy
binary_cross_entropy_backward binary_cross_entropy_with_logits convolution convolution_backward
mkldnn_convolution avg_pool1d avg_pool2d avg_pool2d_backward avg_pool3d avg_pool3d_backward _adaptive_avg_pool2d
_adaptive_avg_pool2d_backward max_pool2d_with_indices_backward embedding_dense_backward _embedding_bag
_embedding_bag_forward_only _embedding_bag_backward _embedding_bag_dense_backward index_put _unsafe_index_put
index_add scatter_add scatter_reduce col2im unfold_backward logsumexp var var_mean std std_mean norm linalg_vector_norm
prod cumprod logcumsumexp _cdist_forward _cdist_backward grid_sampler_2d grid_sampler_2d_backward
upsample_bilinear2d upsample_bilinear2d_backward upsample_nearest2d_backward upsample_bicubic2d
upsample_bicubic2d_backward upsample_linear1d upsample_linear1d_backward native_dropout native_dropout_backward
_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention_for_cpu_backward
gelu gelu_backward silu silu_backward mish mish_backward elu elu_backward celu hardsigmoid hardsigmoid_backward
hardswish hardswish_backward softshrink softshrink_backward hardshrink hardshrink_backward log_sigmoid_forward
log_sigmoid_backward sigmoid_backward tanh_backward leaky_relu leaky_relu_backward _prelu_kernel
_prelu_kernel_backward softplus addcmul addcdiv lerp xlogy linalg_cross _euclidean_dist _weight_norm_interface
linalg_cholesky_ex cholesky_solve linalg_solve_triangular triangular_solve _linalg_det _linalg_slogdet
linalg_lu_factor_ex
constant_pad_nd_backward reflection_pad1d_backward reflection_pad2d_backward replication_pad1d_backward
replication_pad2d_backward trace linalg_inv_ex linalg_solve_ex _linalg_solve_ex softplus_backward glu glu_backward
""")


@lru_cache(maxsize=8)
def _pool(dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(20261120)
    return (4 * torch.rand(1 << 16, generator=generator, dtype=torch.float64) - 2).to(device, dtype)


def unit_roundoff(dtype: torch.dtype) -> float:
    """u of a floating dtype of torch."""
    return torch.finfo(dtype).eps / 2


class TorchNoise(TorchDispatchMode):
    """Within it, torch's operations err.

    Args:
        seed: text from which the errors follow; None for none.
        turns: ``noise.Turns`` to record decisions into, or whose decisions to turn; None for neither.
        underflow, lean: as in ``noise.Noise``.

    Attributes:
        unknown: names of the operations met that no table here knows; they are taken for composite.
    """

    def __init__(self, seed: str | None, turns: Turns | None = None, underflow: float = 0.0, lean: int = 0) -> None:
        super().__init__()
        self.lean = lean
        self.turns, self.underflow, self.exact, seed = turns, underflow, seed is None, seed or ""
        self.position = int.from_bytes(hashlib.blake2s(seed.encode(), digest_size=4).digest(), "little")
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, func: Op, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        name = name[:-1] if name.endswith("_") and func._schema.is_mutable else name
        written = _written(func, args, kwargs)
        if name in ("_to_copy", "copy") and not self.exact:
            return self._cast(func, args, kwargs, written)
        if name in DECISIONS and self.turns is not None and not written and not kwargs:
            return DECISIONS[name](self.turns, func, *args)
        if name in EXACT or self.exact or _is_view(func):
            return func(*args, **kwargs)
        if name in CONTRACTIONS and not written:
            found = CONTRACTIONS[name](self, func, *args, **kwargs)
            if found is not NotImplemented:
                return found
        if name not in ELEMENTARY:
            if name not in COMPOSITE and torch.Tag.pointwise not in func.tags and name not in CONTRACTIONS:
                self.unknown.add(name)
            keep = {id(t) for t in written}
            args, kwargs = _map(lambda x: x if id(x) in keep else self.perturbed(x), (args, kwargs))
        whole = name in WHOLE and all(_whole(x) for x in (*args, *kwargs.values()))
        result = func(*args, **kwargs)
        if whole and _whole(result):
            return result
        if written:
            for tensor in written:
                if tensor.dtype in FLOATING:
                    tensor.copy_(self.perturbed(tensor))
            return result
        return _map(self.perturbed, result)

    def perturbed(self, x: Any, length: Any = 1) -> Any:
        """A tensor, each entry off by its own relative error, as ``length`` roundings add up to; others as they are."""
        if not isinstance(x, Tensor) or x.dtype not in FLOATING or not x.numel() or x.device.type == "meta":
            return x
        u = unit_roundoff(x.dtype) * length**0.5
        wide = torch.float32 if x.dtype in HALF else x.dtype
        pool = _pool(wide, x.device)
        size = x.numel()
        start = self.position % len(pool)
        self.position += size + 1  # the odd one keeps repeated shapes out of step with the pool
        errors = pool[start : start + size]
        if len(errors) < size:
            errors = torch.cat((errors, pool)).repeat(size // len(pool) + 1)[:size]
        errors = errors.reshape(x.shape)
        found = x.to(wide) * (1 + u * errors)
        if x.dtype == torch.float16:  # near zero it rounds to whole subnormals
            found = found + torch.where(x == 0, 0, SUBNORMAL / 2 * (self.lean * x.sign() if self.lean else errors))
        if self.underflow:
            found = found * (1 - 2 * self.underflow / found.abs()).clamp_min(0).where(found != 0, 1)
        return found.to(x.dtype)

    def _cast(self, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]) -> Any:
        result = func(*args, **kwargs)
        source = args[1] if written else args[0]
        target = written[0] if written else result
        narrower = (source.dtype in FLOATING and target.dtype in FLOATING
                    and unit_roundoff(target.dtype) > unit_roundoff(source.dtype))
        if not narrower:
            return result
        if written:
            target.copy_(self.perturbed(target))
            return result
        return self.perturbed(result)

    def contracted(self, function: Callable[..., Tensor], operands: Sequence[Tensor], along: Sequence[int], length: int
                   ) -> Any:
        """``function(*operands)``, which sums over axis ``along[i]`` of operand i, of so many entries."""
        alike = _alike(function, operands, along, length) if length > 16 else 0
        operands = [self.perturbed(x) for x in operands]
        dtype = operands[0].dtype
        if dtype in HALF:
            operands = [x.float() for x in operands]
        total: Any = None
        for span in blocks(length) or [slice(0, 0)]:
            part = function(*(x.narrow(axis, span.start, span.stop - span.start)
                              for x, axis in zip(operands, along, strict=True)))
            total = part if total is None else total + part
            if length > 1 and (dtype not in HALF or length > 16):
                step = max(span.stop - span.start, 1)
                total = self.perturbed(total, step + alike * step**2 if length > 16 else 1)
        return self.perturbed(total.to(dtype)) if dtype in HALF else total


def _alike(function: Callable[..., Tensor], operands: Sequence[Tensor], along: Sequence[int], length: int
           ) -> Tensor | int:
    """How often two terms of a sum of so many are alike, by entry of the result, as in ``noise``; 0 for hardly ever."""
    order, close = torch.from_numpy(shuffled(length)), []
    for x, axis in zip((x.float() if x.dtype in HALF else x for x in operands), along, strict=True):
        away = (x - x.index_select(axis, order.to(x.device))).abs()
        close.append(((x != 0) & (away <= length * unit_roundoff(x.dtype) * x.abs())).to(x.dtype))
    if not all(c.any() for c in close):
        return 0
    found = function(*close) / length
    return found if found.max() * length > 1 else 0


def _mm(noise: TorchNoise, func: Op, a: Tensor, b: Tensor) -> Any:
    return noise.contracted(torch.matmul, (a, b), (a.ndim - 1, max(b.ndim - 2, 0)), a.shape[-1])


def _addmm(noise: TorchNoise, func: Op, c: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    product = _mm(noise, func, a, b)
    product = product if alpha == 1 else noise.perturbed(alpha * product)
    return product if beta == 0 else noise.perturbed((c if beta == 1 else noise.perturbed(beta * c)) + product)


def _sum(noise: TorchNoise, func: Op, x: Tensor, dim: Any = None, keepdim: bool = False, *,
         dtype: torch.dtype | None = None) -> Any:
    if x.dtype not in FLOATING or dtype not in (None, x.dtype):
        return NotImplemented
    axes = range(x.ndim) if dim is None or dim == [] or not x.ndim else [dim] if isinstance(dim, int) else dim
    axes = [axis % x.ndim for axis in axes]
    rest = [a for a in range(x.ndim) if a not in axes]
    length = math.prod(x.shape[a] for a in axes)
    rows = x.permute(rest + axes).reshape([x.shape[a] for a in rest] + [length])
    total = noise.contracted(lambda r: r.sum(-1), (rows,), (rows.ndim - 1,), length)
    for axis in sorted(axes) if keepdim else ():
        total = total.unsqueeze(axis)
    return total


def _mean(noise: TorchNoise, func: Op, x: Tensor, dim: Any = None, keepdim: bool = False, *,
          dtype: torch.dtype | None = None) -> Any:
    total = _sum(noise, func, x, dim, keepdim, dtype=dtype)
    if total is NotImplemented:
        return total
    return noise.perturbed(total / (x.numel() / max(total.numel(), 1)) if x.numel() else total / 0)


def _cumsum(noise: TorchNoise, func: Op, x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    if x.dtype not in FLOATING or dtype not in (None, x.dtype) or not x.ndim:
        return NotImplemented
    found: list[Tensor] = []
    carry: Any = None
    for span in blocks(x.shape[dim]):
        part = noise.perturbed(x.narrow(dim, span.start, span.stop - span.start)).cumsum(dim)
        part = part if carry is None else part + carry
        found.append(noise.perturbed(part, span.stop - span.start))
        carry = found[-1].narrow(dim, -1, 1) if part.shape[dim] else carry
    return torch.cat(found, dim) if found else x.clone()


CONTRACTIONS: dict[str, Callable[..., Any]] = {
    "mm": _mm, "bmm": _mm, "mv": _mm, "dot": _mm, "addmm": _addmm, "baddbmm": _addmm, "addmv": _addmm, "sum": _sum,
    "mean": _mean, "cumsum": _cumsum}


def _whole(x: Any) -> bool:
    """Whether all entries are whole numbers that the dtype holds with their neighbours."""
    if not isinstance(x, Tensor):
        return isinstance(x, (int, float)) and x == x // 1
    if x.dtype not in FLOATING or x.device.type == "meta":
        return False
    return torch.equal(x, x.trunc()) and bool((x.abs() <= 1 / unit_roundoff(x.dtype)).all())


def _decided(turns: Turns, func: Op, args: tuple[Any, ...], difference: Tensor, chosen: Callable[[Tensor], Tensor]
             ) -> Any:
    """``func(*args)``, and where the difference that decides is shifted, what is chosen by the shifted one."""
    found = func(*args)
    amount = turns(difference.detach().double().cpu().numpy())
    if amount is None:
        return found
    shift = torch.from_numpy(np.asarray(amount)).to(difference.device, difference.dtype)
    return torch.where(shift != 0, chosen(difference + shift), found)


def _compared(turns: Turns, func: Op, a: Any, b: Any) -> Any:
    if not any(isinstance(x, Tensor) and x.dtype in FLOATING for x in (a, b)):
        return func(a, b)
    return _decided(turns, func, (a, b), torch.as_tensor(a - b), lambda d: func(
        d, torch.zeros_like(d) if isinstance(b, Tensor) else 0))


def _rectified(turns: Turns, func: Op, x: Tensor) -> Any:
    tiny = torch.finfo(x.dtype).tiny  # above 0, as what it is turned to was
    return _decided(turns, func, (x,), x, lambda d: torch.where(d > 0, x.clamp(min=tiny), 0))


def _rounded(turns: Turns, func: Op, x: Tensor) -> Any:
    jump = x.floor() + 0.5 if func.overloadpacket.__name__ == "round" else x.round()
    return _decided(turns, func, (x,), x - jump, lambda d: func(jump + d.clamp(-0.5, 0.5)))


def _backward(turns: Turns, func: Op, grad: Tensor, x: Tensor, *rest: Any) -> Any:
    """Of a function with kinks at its first numbers: ``threshold`` and its kin."""
    kinks = [k for k in rest if isinstance(k, (int, float)) and not isinstance(k, bool)] if (
        func.overloadpacket.__name__ != "leaky_relu_backward") else [0.0]
    differences = torch.stack([x - k for k in kinks])
    nearest = differences.abs().argmin(0, keepdim=True)
    difference = differences.gather(0, nearest)[0]
    place = torch.tensor(kinks, dtype=x.dtype, device=x.device)[nearest[0]]
    return _decided(turns, func, (grad, x, *rest), difference, lambda d: func(grad, place + d, *rest))


def _largest(turns: Turns, func: Op, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """``max`` and ``min`` along an axis, ``argmax`` and ``argmin``."""
    name = func.overloadpacket.__name__
    if dim is None or not x.ndim or not x.shape[dim] or x.dtype not in FLOATING:
        return func(x) if dim is None else func(x, dim, keepdim)
    found = func(x, dim, keepdim)
    best = x.amax(dim, keepdim=True) if "max" in name else x.amin(dim, keepdim=True)
    shift = turns((x - best).detach().double().cpu().numpy())
    if shift is None:
        return found
    index = func(x + torch.from_numpy(np.asarray(shift)).to(x.device, x.dtype), dim, True)
    index = index if name.startswith("arg") else index[1]
    values = x.gather(dim, index)
    index, values = (t if keepdim else t.squeeze(dim) for t in (index, values))
    return index if name.startswith("arg") else (values, index)


def _signed(turns: Turns, func: Op, x: Tensor) -> Any:
    return _decided(turns, func, (x,), x, torch.sign)


# decisions by operation: function of the ``Turns``, the operation and its arguments
DECISIONS: dict[str, Callable[..., Any]] = {name: function for names, function in (
    ("lt le gt ge", _compared), ("sign sgn", _signed), ("relu", _rectified), ("floor ceil trunc round", _rounded),
    ("threshold_backward hardtanh_backward leaky_relu_backward", _backward), ("max min argmax argmin", _largest),
) for name in names.split()}


class Widened(TorchDispatchMode):
    """Within it, code that casts to a narrower type computes in float64 all the same: what the oracle needs."""

    def __torch_dispatch__(self, func: Op, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in FLOATING:
            kwargs["dtype"] = torch.float64
        result = func(*args, **kwargs)
        if _is_view(func) or _written(func, args, kwargs):
            return result
        return _map(lambda x: x.double() if isinstance(x, Tensor) and x.dtype in FLOATING else x, result)


@cache
def _is_view(func: Op) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _written(func: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an in-place operation, or one with ``out=``, writes into."""
    if not func._schema.is_mutable:
        return []
    found: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            values = value if isinstance(value, (list, tuple)) else [value]
            found += [t for t in values if isinstance(t, Tensor)]
    return found


def _map(function: Callable[[Any], Any], x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return type(x)(_map(function, y) for y in x)
    if isinstance(x, dict):
        return {key: _map(function, y) for key, y in x.items()}
    return function(x)
