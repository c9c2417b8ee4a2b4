"""Optimizers over thousands of steps, many tensors and gradients of all sizes, against plain recomputations.

The recomputation goes along in a wider type, and with it a bound on what rounding may do: that of one operation after
the other, taken by its worst case (Higham 2002, chapter 3), in units of the dtype's roundoff.
"""

import itertools
from typing import Any

import numpy as np

from ..cases.case import LAYOUTS, Case, Data
from ..judge.lanes import LANES
from ..spec.span import Span
from ..spec.spec import Spec
from .common import REFERENCE, Array, Side, arrays_of, standard

SHAPES = ((), (1,), (2,), (3, 5), (7,), (1, 9), (16,), (33,), (4, 3, 2), (64,), (257,), (100, 100))  # a dozen
SIZES = np.geomspace(1e-8, 1e6, len(SHAPES))  # of the gradients, from tensor to tensor
MANY = 7  # times all but the largest of them, where there are many
CYCLE = 7  # gradients that take turns
STEPS, EDGES, FAR = 1000, 9, 10_000


class Arrays:
    """What either side moves: a list of tensors, made of arrays and read as such."""

    def __init__(self, spec: Spec, side: Side, start: list[Array], options: dict[str, float]) -> None:
        self.side = side
        self.params: list[Any]
        if side is REFERENCE:
            self.params = [p.copy() for p in start]
            self.optimizer = spec.reference(**options)
        else:
            import torch

            self.params = [torch.from_numpy(p.copy()).requires_grad_() for p in start]
            self.optimizer = spec.port_class(self.params, **options)

    def step(self, gradients: list[Array]) -> None:
        if self.side is REFERENCE:
            self.optimizer.update(self.params, gradients)
            return
        import torch

        for p, g in zip(self.params, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        self.optimizer.step()

    def read(self) -> list[Array]:
        return [p if isinstance(p, np.ndarray) else p.detach().numpy() for p in self.params]


class Plain:
    """One parameter of the textbook's SGD or Adam in a wide type, and a bound on its rounding in units of ``u``."""

    def __init__(self, start: Array, u: float) -> None:
        self.p: Array = start.astype(np.longdouble)
        self.u, self.kind = u, start.dtype
        self.tiny = float(np.finfo(start.dtype).smallest_normal)  # what a product may lose that underflows
        self.m = self.v = self.dm = self.dv = self.dp = np.zeros_like(self.p)

    def step(self, g: Array, t: int, lr: float, beta1: float | None = None, beta2: float | None = None) -> None:
        g, u = g.astype(np.longdouble), self.u
        if beta1 is None or beta2 is None:
            move, error = lr * g, 2 * u * np.abs(lr * g)  # lr in the dtype, and the product
        else:
            self.m, self.dm = _approach(self.m, self.dm, g, beta1, u, self.tiny)
            self.v, self.dv = _approach(self.v, self.dv, g * g, beta2, u, self.tiny)
            wide = np.longdouble
            rate = lr * np.sqrt(1 - wide(beta2) ** t) / (1 - wide(beta1) ** t)
            root = np.sqrt(self.v)
            low = np.sqrt(np.maximum(self.v - self.dv, 0))  # the least that a rounded v may give
            move = rate * self.m / (root + 1e-7)
            worst = rate * (np.abs(self.m) + self.dm) / (low * (1 - u) + 1e-7)
            # 1 - beta^t is what is left of two numbers near 1, in Python's own precision
            left = 2.0**-53 * (1 / (1 - wide(beta2) ** t) + 1 / (1 - wide(beta1) ** t))
            error = np.maximum(worst - np.abs(move), rate * self.dm / (root + 1e-7)) + (8 * u + left) * worst
        self.p = self.p - move
        self.dp = self.dp + error + u * np.abs(self.p) + u * self.dp + self.tiny


def _approach(average: Array, error: Array, value: Array, decay: float, u: float,
              tiny: float) -> tuple[Array, Array]:
    """average + (1 - decay)(value - average) as either side computes it, and the error that it then has at most."""
    weight = 1 - np.longdouble(decay)
    move = weight * (value - average)
    after = average + move
    # the value's own square, the difference, 1 - decay in the dtype, the product and the sum are rounded
    rounding = 4 * u * np.abs(move) + 2 * u * weight * np.abs(value) + 2 * u * np.abs(after)
    return after, decay * error + rounding + 2 * tiny


def check_long_run(side: Side, spec: Spec) -> None:
    """A thousand steps over a dozen tensors, one of 10,000 entries, with gradients from 1e-8 to 1e6.

    Raises:
        AssertionError: a parameter is further from the plain recomputation than rounding can take it.
    """
    usual = {name: values[0] for name, values in spec.options.items()}
    edges = [dict(zip(spec.options, chosen, strict=True)) for chosen in itertools.product(*spec.options.values())]
    extremes = [usual | {name: bound} for name, values in spec.options.items() if isinstance(values, Span)
                for bound in ((values.low, values.high) if name == "lr" else (0.0, values.high))]
    for options, steps, dtype in ((usual, STEPS, "float64"), (usual, STEPS, "float32"),
                                  *((chosen, EDGES, "float64") for chosen in (*edges, *extremes))):
        _hold_run(side, spec, options, steps, dtype, SHAPES if steps == STEPS else SHAPES[:6])


def _hold_run(side: Side, spec: Spec, options: dict[str, float], steps: int, dtype: str,
              shapes: tuple[tuple[int, ...], ...]) -> None:
    rng, u = np.random.default_rng(0), float(np.finfo(dtype).eps) / 2
    start = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    cycle = [[np.asarray(size * rng.standard_normal(shape), dtype) for shape, size in zip(shapes, SIZES, strict=False)]
             for _ in range(CYCLE)]
    # of the large tensors a few entries stand for all, which are of one kind
    some = [np.unique(np.linspace(0, p.size - 1, 12).astype(int)) for p in start]
    moved = Arrays(spec, side, start, options)
    plain = [Plain(p.ravel()[places], u) for p, places in zip(start, some, strict=True)]
    for t in range(1, steps + 1):
        gradients = cycle[t % CYCLE]
        moved.step([g.copy() for g in gradients])
        for one, g, places in zip(plain, gradients, some, strict=True):
            one.step(g.ravel()[places], t, **options)
        if t in (1, 2, steps) or t % 100 == 0:
            for number, (found, one, places) in enumerate(zip(moved.read(), plain, some, strict=True)):
                apart = np.abs(found.ravel()[places].astype(np.longdouble) - one.p)
                assert found.dtype == dtype, f"parameter {number} becomes {found.dtype}"
                assert (apart <= one.dp).all(), (
                    f"{options}, {dtype}, step {t}: parameter {number} of shape {found.shape} is {apart.max():.3g} "
                    f"from the plain recomputation, where rounding makes at most {one.dp[apart.argmax()]:.3g}")


def check_closed_form(side: Side, spec: Spec) -> None:
    """Under a constant gradient, what the parameters are after 10,000 steps is a sum in closed form.

    Raises:
        AssertionError: they are not.
    """
    start, g = np.array([1.0, -2.0, 0.0, 0.5]), np.array([1.0, -1e-8, 1e6, -3e-3])
    other = {"lr": 0.5} | ({"beta1": 0.5, "beta2": 0.9} if "beta1" in spec.options else {})
    for options, steps in (({}, FAR), (other, STEPS)):
        moved = Arrays(spec, side, [start], options)
        for _ in range(steps):
            moved.step([g.copy()])
        (found,) = moved.read()
        full = {name: getattr(spec.reference(), name) for name in spec.options} | options
        t = np.arange(1, steps + 1, dtype=np.longdouble)[:, None]
        if "beta2" in full:  # m is g (1 - beta1^t), v is g^2 (1 - beta2^t)
            root = np.sqrt(1 - np.longdouble(full["beta2"]) ** t)
            moves = full["lr"] * root * g / (np.abs(g) * root + 1e-7)
        else:
            moves = full["lr"] * g * np.ones_like(t)
        expected = start - moves.sum(axis=0)
        # each step errs by a dozen roundings of its size, and a moment by as many as it remembers steps
        memory = 1 / (1 - full.get("beta2", 0.0))
        bound = 2.0**-53 * ((12 + 4 * memory) * np.abs(moves).sum(axis=0) + steps * np.maximum(np.abs(expected), 2.0))
        assert (np.abs(found - expected) <= bound).all(), \
            f"{full}, step {steps:,}: {found}, in closed form {expected.astype(float)}"


def check_layouts(side: Side, spec: Spec) -> None:
    """Parameters and gradients in any memory layout move as in C order.

    Raises:
        AssertionError: they do not.
    """
    case, lane = standard(spec), LANES["cpu-float64"]
    data = arrays_of(case)
    expected = side.run(case, data, lane)
    for layout, lay in LAYOUTS.items():
        found = side.run(case, data.map(lay), lane)
        for name, array in expected.items():
            # a norm adds up in another order
            assert np.abs(found[name] - array).max() <= 2.0**-53 * 64 * np.abs(array).max(), \
                f"{layout}: {name} is {found[name]}, in C order {array}"


def _clipped(side: Side, spec: Spec, gradients: list[Array], limit: float) -> tuple[list[Array], Any]:
    """Gradients of one dtype as a side clips them, and their norm."""
    named = {str(number): g for number, g in enumerate(gradients)}
    case = Case(spec, {}, "normal", 1.0, "C", dict.fromkeys(spec.options, limit), 0)
    found = side.run(case, Data({}, named, {}, {}), LANES[f"cpu-{gradients[0].dtype}"])
    return [found[name] for name in named], found["norm"]


def check_clipping(side: Side, spec: Spec) -> None:
    """At norms around the limit: what is below it stays as it is, bit for bit."""
    for norm, limit, expected in ((5.0, 5.01, [3.0, 4.0]), (5.0, 9.0, [3.0, 4.0]), (5.0, 4.0, None)):
        (after,), found = _clipped(side, spec, [np.array([3.0, 4.0])], limit)
        assert abs(float(found) - norm) <= 2.0**-50, f"the norm of 3, 4 is {found}"
        right = after.tolist() == expected if expected else abs(after[0] - 3.0 * limit / (norm + 1e-6)) <= 2.0**-50
        assert right, f"norm {norm}, limit {limit}: clipped to {after}"


def check_many(side: Side, spec: Spec) -> None:
    """Clipping a dozen tensors of all sizes, or many: the norm of all, and the factor of each, by their definitions.

    Raises:
        AssertionError: it is another.
    """
    rng = np.random.default_rng(0)
    far = {"float32": 1e30, "float64": 1e300}
    for dtype, sizes in itertools.product(far, (SIZES, SIZES[::-1], np.full(len(SHAPES), 1e-8),
                                                np.geomspace(1e-15, 1e15, len(SHAPES)), None, 0.0)):
        shapes = SHAPES if isinstance(sizes, np.ndarray) else SHAPES[:-1] * MANY
        if sizes is None:
            sizes = np.geomspace(1 / far[dtype], far[dtype], len(shapes))
        gradients = [np.asarray(size * rng.standard_normal(shape), dtype) for shape, size in
                     zip(shapes, np.broadcast_to(sizes, len(shapes)), strict=True)]
        wide = [g.astype(np.longdouble) for g in gradients]
        norm = np.sqrt(sum((w * w).sum() for w in wide))
        u = float(np.finfo(dtype).eps) / 2
        for share in (0.0, 1e-6, 0.3, 0.999, 1.001, 3.0):
            limit = float(share * norm)
            clipped, found = _clipped(side, spec, gradients, limit)
            # pairwise or in blocks, the squares of 10,000 entries take some dozen roundings one after the other
            assert abs(np.longdouble(found) - norm) <= 64 * u * norm, f"{dtype}: norm {found}, of {norm}"
            quotient = np.longdouble(limit) / (norm + np.longdouble(1e-6))
            factor = min(1, quotient)
            for g, w in zip(clipped, wide, strict=True):
                tiny = float(np.finfo(dtype).smallest_normal)
                assert g.dtype == dtype and (np.abs(g - factor * w) <= 70 * u * np.abs(w) + tiny).all(), \
                    f"{dtype}: at {share} of the norm, gradients are not scaled by {factor}"
                assert quotient < 1.0001 or np.array_equal(g, w), f"{dtype}: what is below the limit changes"
