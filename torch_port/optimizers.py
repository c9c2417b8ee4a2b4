"""Optimizers with the reference's arithmetic, and gradient clipping."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer


class _Stepper(Optimizer):
    """An ``Optimizer`` that needs only ``update(group, parameters, gradients)``.

    It is the textbook's and takes what that takes: what torch's take besides is refused by name, in
    the constructor and in a parameter group.
    """

    decays: tuple[str, ...] = ()  # arguments in [0, 1)

    def __init__(self, params: Any, defaults: dict[str, Any], other: dict[str, Any]) -> None:
        self._refuse(other)
        super().__init__(params, defaults)

    def _refuse(self, other: Iterable[str]) -> None:
        if names := ", ".join(sorted(other)):
            name = type(self).__name__
            raise TypeError(f"{name}: takes no {names}, because its step is exactly the textbook's; "
                            f"torch.optim.{name} does")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters.

        Args:
            param_group: dict with ``params`` and arguments of the constructor of its own.

        Raises:
            TypeError: an argument that the constructor has not.
            ValueError: a value out of range.
        """
        name = type(self).__name__
        self._refuse(param_group.keys() - self.defaults.keys() - {"params"})
        group = self.defaults | param_group
        if group["lr"] < 0:
            raise ValueError(f"{name}: lr is {group['lr']}, expected >= 0")
        for decay in self.decays:
            if not 0 <= group[decay] < 1:
                raise ValueError(f"{name}: {decay} is {group[decay]}, expected 0 <= {decay} < 1")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; parameters without gradient stay as they are.

        Args:
            closure: clears the gradients, evaluates the loss and its gradients, returns the loss.

        Returns:
            The closure's loss, None without a closure.

        Raises:
            RuntimeError: a gradient is sparse; then nothing has moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for k, group in enumerate(self.param_groups):
            for i, p in enumerate(group["params"]):
                if p.grad is not None and p.grad.layout != torch.strided:
                    raise RuntimeError(
                        f"{type(self).__name__}.step: the gradient of parameter {i} of group {k} "
                        f"is {p.grad.layout}, expected torch.strided"
                    )
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(group, params, [p.grad for p in params])
        return loss

    def update(self, group: dict[str, Any], p: list[Tensor], g: list[Tensor]) -> None:
        raise NotImplementedError


class SGD(_Stepper):
    """p -= lr g.

    Source: Robbins and Monro 1951; Saito, Deep Learning from Scratch 2, chapter 1.

    Args:
        params: tensors or parameter groups.
        lr: learning rate, a float or a scalar float64 tensor.

    Raises:
        TypeError: an argument of ``torch.optim.SGD`` that this one has not, such as ``momentum``.
        ValueError: a negative learning rate.
    """

    def __init__(self, params: Any, lr: float | Tensor = 0.01, **other: Any) -> None:
        super().__init__(params, {"lr": lr}, other)

    def update(self, group: dict[str, Any], p: list[Tensor], g: list[Tensor]) -> None:
        torch._foreach_sub_(p, torch._foreach_mul(g, _rate(group, p)))


class Adam(_Stepper):
    """p -= lr_t m / (sqrt(v) + 1e-7), lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t).

    The 1e-7 stands outside the bias correction, as in the textbook, unlike ``torch.optim.Adam``. Where g^2 overflows
    (in float32 beyond 1e19), v is inf from then on, and the entry moves no more: clip before.
    The number of steps t belongs to the parameter group.

    Source: Kingma and Ba 2015; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        params: tensors or parameter groups.
        lr: learning rate, a float or a scalar float64 tensor.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).

    Raises:
        TypeError: an argument of ``torch.optim.Adam`` that this one has not, such as
            ``weight_decay``.
        ValueError: a negative learning rate, or a decay outside [0, 1).
    """

    decays = ("beta1", "beta2")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        **other: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "iter": 0}, other)

    def update(self, group: dict[str, Any], p: list[Tensor], g: list[Tensor]) -> None:
        group["iter"] += 1
        t, beta1, beta2 = group["iter"], group["beta1"], group["beta2"]
        lr_t = _rate(group, p) * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        for parameter in p:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "m": torch.zeros_like(parameter),
                    "v": torch.zeros_like(parameter),
                }
        m = [self.state[parameter]["m"] for parameter in p]
        v = [self.state[parameter]["v"] for parameter in p]
        _approach(m, g, 1 - beta1)
        _approach(v, torch._foreach_mul(g, g), 1 - beta2)
        root = torch._foreach_sqrt(v)
        torch._foreach_add_(root, 1e-7)
        step = torch._foreach_mul(m, lr_t)
        torch._foreach_div_(step, root)
        torch._foreach_sub_(p, step)


def _rate(group: dict[str, Any], p: list[Tensor]) -> Any:
    """The learning rate; of a step that is compiled as a tensor, or each float of a schedule would compile it anew."""
    if not torch.compiler.is_compiling():
        return group["lr"]
    return torch.ones((), dtype=torch.float64, device=p[0].device) * group["lr"]


def _approach(average: list[Tensor], value: Sequence[Tensor], weight: float) -> None:
    # average += weight (value - average) in this order of roundings, which lerp has not
    difference = torch._foreach_sub(list(value), average)
    torch._foreach_mul_(difference, weight)
    torch._foreach_add_(average, difference)


@torch.no_grad()
def clip_grads(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients in place by max_norm / (norm + 1e-6) where that is below 1.

    Source: Pascanu et al. 2013; Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        parameters: tensors whose ``grad`` is scaled; those without one are left out.
        max_norm: largest norm that stays as it is.

    Returns:
        The Euclidean norm of all gradients together before clipping, a scalar on their device and of their dtype:
        inf where it is beyond that, and the gradients are clipped all the same. An infinite gradient makes it inf
        too, and zeroes the finite ones.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    # in units of a power of two, which changes no bit, the largest is near 1, and no square overflows
    top = get_total_norm(grads, torch.inf)
    sound = top.isfinite() & (top > 0)
    unit = torch.where(sound, top / (2 * torch.frexp(top).mantissa), 1)
    part = get_total_norm([g / unit.to(g.device, g.dtype) for g in grads])
    norm = part * unit
    # beyond the dtype: first to those units
    beyond, clips = norm.isinf() & part.isfinite(), max_norm / part < unit
    for g in grads:
        g.div_(torch.where(beyond & clips, unit, 1).to(g.device, g.dtype))
    total = torch.where(beyond, torch.where(clips, part - 1e-6, 0), norm)
    # a norm of NaN compares false with everything and clips nothing
    clip_grads_with_norm_(parameters, max_norm, total.nan_to_num(nan=0.0, posinf=torch.inf))
    return norm
