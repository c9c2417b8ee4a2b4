"""Optimizers whose life is uneven, as in use: layers frozen and unfrozen or added later, options set between steps.

Every tensor is held against the plain recomputation of ``long_runs``, with a bound on what rounding may do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cases.case import LAYOUTS
from ..sides.textbook import in_layout
from ..spec.span import Span
from ..spec.spec import Spec
from .common import REFERENCE, Array, Side
from .long_runs import Plain

SHAPES = ((), (1,), (3,), (2, 5), (0,), (4, 1, 3), (33,))
MANY = 70  # tensors, of these shapes in turn
LATER = 10  # of them in a group that is added when the first have been moved so often
STEPS = 40
HELD = (1, 2, 3, 9, 10, 11, 25, STEPS)


@dataclass
class Group:
    """Some tensors, and the step that they have come to; arguments as ``Tensors``."""

    params: list[Any]
    plain: list[Plain]
    taken: int = 0


class Tensors:
    """What either side moves, in groups, in any memory layout; where the port has no gradient, the reference has zeros.

    Args:
        start: arrays, the last ``LATER`` of which are added later to the port.
    """

    def __init__(self, side: Side, spec: Spec, start: list[Array], options: dict[str, Any]) -> None:
        self.side = side
        self.params = [self._own(a, number) for number, a in enumerate(start)]
        self.plain = [Plain(a, float(np.finfo(a.dtype).eps) / 2) for a in start]
        first = len(start) if side is REFERENCE else len(start) - LATER
        self.groups = [Group(self.params[:first], self.plain[:first])]
        self.optimizer = spec.reference(**options) if side is REFERENCE else spec.port_class(self.params[:first],
                                                                                             **options)

    def _own(self, array: Array, number: int) -> Any:
        """A copy in one of the memory layouts."""
        laid = list(LAYOUTS.values())[number % len(LAYOUTS)](array) if array.ndim else array.copy()
        if self.side is REFERENCE:
            return laid
        import torch

        return in_layout(torch.from_numpy(array.copy()), laid).requires_grad_()

    def add(self, options: dict[str, Any]) -> None:
        """The rest of the tensors, as a group of their own."""
        first = len(self.groups[0].params)
        if first < len(self.params):
            self.groups.append(Group(self.params[first:], self.plain[first:]))
            self.optimizer.add_param_group({"params": self.params[first:]} | options)

    def step(self, gradients: list[Array | None], options: dict[str, Any]) -> None:
        """One step; what is absent stands still, and a group in which all are absent counts none."""
        taken, there = [], iter(gradients)
        for group in self.groups:
            these = [next(there) for _ in group.params]
            group.taken += any(g is not None for g in these)
            for one, g in zip(group.plain, these, strict=True):
                if g is not None:
                    one.step(g, group.taken, **options)
            taken += these
        laid = [None if g is None else self._own(g, number + len(options)) for number, g in enumerate(taken)]
        if self.side is REFERENCE:
            for name, value in options.items():
                setattr(self.optimizer, name, value)
            self.optimizer.update(self.params, laid)
        else:
            for part in self.optimizer.param_groups:
                part.update(options)
            for p, g in zip(self.params, laid, strict=False):
                p.grad = None if g is None else g.requires_grad_(False)
            self.optimizer.step()
        for number, (g, own) in enumerate(zip(taken, laid, strict=True)):
            same = g is None or np.array_equal(g, np.asarray(own))
            assert same, f"a step changes gradient {number}"

    def hold(self, words: str) -> None:
        """Holds all tensors against the recomputation."""
        for number, (p, one) in enumerate(zip(self.params, self.plain, strict=True)):
            found = p if isinstance(p, np.ndarray) else p.detach().numpy()
            assert found.dtype == one.kind, f"{words}: parameter {number} becomes {found.dtype}"
            apart = np.abs(found - one.p)
            assert (apart <= one.dp).all(), (
                f"{words}: parameter {number} of shape {found.shape} is {apart.max():.3g} from the plain "
                f"recomputation, where rounding makes at most {np.max(one.dp):.3g}")


def _edges(spec: Spec) -> list[tuple[str, float]]:
    """Options and values: those of cases, zero, bounds, and where 1 is beyond them the last before it."""
    found: list[tuple[str, float]] = []
    for name, values in spec.options.items():
        assert isinstance(values, Span)
        last = () if values.high > 1 else (1 - 2.0**-20, 1 - 2.0**-53)
        found += [(name, value) for value in (*values, 0.0, values.low, values.high, *last)]
    return found


def check_uneven(side: Side, spec: Spec) -> None:
    """Seventy tensors, some without gradients at some steps, some added late, under options set between the steps.

    Raises:
        AssertionError: a parameter is further from the plain recomputation than rounding can take it, or a step
            changes a gradient.
    """
    edges = _edges(spec)
    for dtypes in (("float32",), ("float64",), ("float32", "float64")):
        rng = np.random.default_rng(0)
        options = {name: values[0] for name, values in spec.options.items()}
        order = [edges[n] for n in rng.permutation(len(edges))]
        start = [np.asarray(rng.standard_normal(SHAPES[n % len(SHAPES)]), dtypes[n % len(dtypes)])
                 for n in range(MANY)]
        moved = Tensors(side, spec, start, options)
        for number in range(1, STEPS + 1):
            if number == LATER:
                moved.add(options)
            count = sum(len(group.params) for group in moved.groups)
            if number > 1:
                options = options | dict([order[number % len(order)]])
            # the first half is frozen at first; nothing at all has a gradient once
            absent = [number == 5 or (number < 8 and n < MANY // 2) or rng.random() < 0.2 for n in range(count)]
            size = 10 ** rng.uniform(-30, 6 if number <= HELD[-2] else 15)
            gradients: list[Array | None] = []
            for n in range(count):
                g = np.asarray(size * rng.standard_normal(start[n].shape) * (rng.random() < 0.9), start[n].dtype)
                gradients.append((g * 0 if side is REFERENCE else None) if absent[n] else g)
            moved.step(gradients, options)
            if number in HELD:
                moved.hold(f"{' and '.join(dtypes)}, step {number}, now {options}")
