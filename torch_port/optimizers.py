"""Optimizers with the reference's arithmetic, and gradient clipping."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer


class _Stepper(Optimizer):
    """An ``Optimizer`` that needs only ``update(group, parameters, gradients)``."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if defaults["lr"] < 0:
            name = type(self).__name__
            raise ValueError(f"{name}: lr is {defaults['lr']}, expected >= 0")
        super().__init__(params, defaults)

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
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
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
        lr: learning rate.

    Raises:
        ValueError: a negative learning rate.
    """

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    def update(self, group: dict[str, Any], p: list[Tensor], g: list[Tensor]) -> None:
        torch._foreach_sub_(p, torch._foreach_mul(g, group["lr"]))


class Adam(_Stepper):
    """p -= lr_t m / (sqrt(v) + 1e-7), lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t).

    The 1e-7 stands outside the bias correction, as in the textbook, unlike ``torch.optim.Adam``.
    The number of steps t belongs to the parameter group.

    Source: Kingma and Ba 2015; Saito, Deep Learning from Scratch 2, chapter 6.

    Args:
        params: tensors or parameter groups.
        lr: learning rate.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).

    Raises:
        ValueError: a negative learning rate, or a decay outside [0, 1).
    """

    def __init__(
        self, params: Any, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999
    ) -> None:
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"Adam: {name} is {beta}, expected 0 <= {name} < 1")
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "iter": 0})

    def update(self, group: dict[str, Any], p: list[Tensor], g: list[Tensor]) -> None:
        group["iter"] += 1
        t, beta1, beta2 = group["iter"], group["beta1"], group["beta2"]
        lr_t = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
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


def _approach(average: list[Tensor], value: Sequence[Tensor], weight: float) -> None:
    # average += weight (value - average) in this order of roundings, which lerp has not
    difference = torch._foreach_sub(list(value), average)
    torch._foreach_mul_(difference, weight)
    torch._foreach_add_(average, difference)


def clip_grads(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients in place by max_norm / (norm + 1e-6) where that is below 1.

    Source: Pascanu et al. 2013; Saito, Deep Learning from Scratch 2, chapter 5.

    Args:
        parameters: tensors whose ``grad`` is scaled; those without one are left out.
        max_norm: largest norm that stays as it is.

    Returns:
        The Euclidean norm of all gradients together before clipping, a scalar on their device.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    # a norm of NaN compares false with everything and clips nothing
    clip_grads_with_norm_(parameters, max_norm, norm.nan_to_num(nan=0.0, posinf=torch.inf))
    return norm
