"""How far from the oracle an honest computation may be, element by element.

The reference's own code runs in a wider dtype (the oracle), and a few times in the lane's own with
random errors of the size of its roundoff in every operation. The budget is ``FACTOR`` times the
largest distance that such a copy kept from the oracle. More copies never make it narrower: what lies
within the budget of a few lies within that of all.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.case import Case, Data
from ..errors import UsageError
from ..sides import blamed, run_reference
from ..spec.pair import Pair
from ..spec.results import Arrays
from ..spec.spec import Spec
from .compare import CHOSEN
from .lanes import Lane
from .noise import Noisy, Turns, deciding, multiplying, noise, recording
from .pooled import Gauge, gauge
from .split import pays, product
from .witness import DOUBT, Derivative, Differentiator

FACTOR = 8  # one for all layers, dtypes and devices; right results stay below 3.4 without it
COPIES = 6
FEW = 2  # that are drawn first: most results are clearly right by these
LEAN = {1: -1, 2: 1}  # copies in which all that is subnormal in float16 is rounded towards zero, or away from it
KINK = 0.51  # of the gap between the slopes to both sides: their mean is the numerical derivative
FLOOR = 1 / 4  # of the root mean square of the spread: no element is luckier than its tensor

Copies = Callable[[int], list[Arrays]]  # so many noisy copies, and those that were made of them


@dataclass(frozen=True)
class Yardstick:
    """What a case should give in a lane, and how closely.

    Attributes:
        data: the arrays of the case, in the lane's dtype.
        oracle: quantities, in the oracle's dtype.
        reference: quantities as the reference computes them in the lane.
        budget: greatest allowed distance from the oracle, element by element, by quantity.
        gauges: by quantity, how its errors are pooled, see ``pooled.Gauge``.
        used: by quantity that noise moves, the largest share of its budget that it uses.
        unsure: of other quantities than floating ones, where honest copies differ.
        untested: quantities that cannot be judged, with the reason.
        directions: of gradients of many entries, the vectors ``(k, *shape)`` along which they are judged.
        copies: number of noisy copies that it was made of.
    """

    data: Data
    oracle: Arrays
    reference: Arrays
    budget: Arrays
    unsure: Arrays = field(default_factory=dict)
    gauges: dict[str, Gauge] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    untested: dict[str, str] = field(default_factory=dict)
    directions: Arrays = field(default_factory=dict)
    copies: int = COPIES

    def projected(self, quantities: Arrays) -> Arrays:
        """The quantities as they are judged: large gradients along directions, where nothing else is known."""
        along = {name: vectors for name, vectors in self.directions.items()
                 if name in quantities and np.shape(quantities[name]) == vectors.shape[1:]}
        return quantities | {name: _along(vectors, quantities[name]) for name, vectors in along.items()}

    @property
    def forced(self) -> NDArray[Any] | None:
        """The oracle's generated ids, for models that generate; else None."""
        return self.oracle.get("ids")


def _along(vectors: NDArray[Any], gradient: NDArray[Any]) -> NDArray[Any]:
    """The sums of a gradient along directions, in the widest type: their own rounding would be the gradient's."""
    products = (vectors * np.asarray(gradient, np.float64)).reshape(len(vectors), -1)
    return np.asarray(products.sum(axis=1, dtype=np.longdouble), np.float64)


def measure(case: Case, lane: Lane) -> Yardstick:
    """The yardstick of a case in a lane: the same for every lane of its dtype and roundoff."""
    *_, yardstick = yardsticks(case, lane)
    return yardstick


def yardsticks(case: Case, lane: Lane) -> Iterator[Yardstick]:
    """The yardsticks of a case in a lane, of few copies and of all, the later one nowhere narrower."""
    data = case.data(lane.narrow).frozen()
    oracle, reference, copies = (_in_torch if eager(case.spec) else _in_numpy)(case, data, lane)
    wanted = [name for name in (*case.spec.differentiable(), *data.params) if name in data.inputs | data.params]
    missing = any(f"grad.{name}" not in oracle for name in wanted)
    if case.spec.side == "functions" and data.cotangents and missing:
        yield _differentiated(case, lane, _yardstick(data, oracle, reference, copies(COPIES), COPIES, lane))
        return
    for count in (FEW, COPIES):
        yield _yardstick(data, oracle, reference, copies(count), count, lane)


def _yardstick(data: Data, oracle: Arrays, reference: Arrays, copies: list[Arrays], count: int,
               lane: Lane) -> Yardstick:
    """The yardstick by these copies, the first ``count`` of which decide nothing otherwise."""
    budget, used = {}, {}
    for name in (name for name, value in oracle.items() if value.dtype.kind == "f"):
        right, found = oracle[name], [copy[name] for copy in copies]
        spread = _spread(right, found)
        budget[name] = unknown(_budget(right, spread, lane), right, reference[name])
        if spread.any():
            used[name] = float(np.max(spread / budget[name]))
    unsure = {name: reduce(np.logical_or, [copy[name] != value for copy in copies])
              for name, value in oracle.items() if value.dtype.kind != "f" and name != CHOSEN}
    return Yardstick(data, oracle, reference, budget, unsure, _gauges(oracle, copies[:count], lane), used, copies=count)


def _differentiated(case: Case, lane: Lane, yardstick: Yardstick) -> Yardstick:
    """The yardstick with the gradients of a reference that is a forward alone.

    They are the numerical derivative's in the wide type; how far from it an honest gradient may be, only the
    port can tell, under the noise of its own operations.
    """
    from ..sides.functions import noisy_port

    data = yardstick.data
    numerical = derivative(case, data)
    plain, moves, why = noisy_port(case, data, lane)
    right, errors = dict(numerical.values), dict(numerical.errors)
    directions = {}
    for name, (vectors, values, doubt) in numerical.directions.items():
        directions[f"grad.{name}"], right[name], errors[name] = vectors, values, doubt
    found = Yardstick(data, dict(yardstick.oracle), yardstick.reference, dict(yardstick.budget), yardstick.unsure,
                      dict(yardstick.gauges), yardstick.used, {}, directions)
    for name, value in right.items():
        quantity = f"grad.{name}"
        if why and not _lost(found.projected(plain).get(quantity), value):
            found.untested[quantity] = why
            continue
        found.oracle[quantity] = np.asarray(value, np.float64)
        if why:  # how far it may be off nobody knows; that it is a number is asked all the same
            found.budget[quantity] = np.full(found.oracle[quantity].shape, np.inf)
            continue
        spread = [found.oracle[quantity] + found.projected(move)[quantity] for move in moves]
        near = allowance(found.oracle[quantity], spread, lane)
        if quantity in directions and quantity in plain:  # along them each entry rounds, and not only their sum
            each = directions[quantity] * np.asarray(plain[quantity], np.float64)
            rounded = np.sqrt((each * each).sum(axis=tuple(range(1, each.ndim))))
            near = near + FACTOR * lane.unit_roundoff * rounded
        far = DOUBT * np.abs(errors[name]) + KINK * numerical.gaps[name]
        found.budget[quantity] = near + far
        if lane.dtype == "float64":  # and so is the derivative, which is no wider
            continue
        clear = [np.where(far > near / 100, np.nan, one) for one in spread]  # not where the derivative is as uncertain
        if one := gauge(found.oracle[quantity], clear[:COPIES], lane.unit_roundoff, lane.underflow):
            found.gauges[quantity] = one
    return found


def _lost(gradient: NDArray[Any] | None, right: NDArray[Any]) -> bool:
    """Whether a gradient is not finite where the right one is."""
    return gradient is not None and bool(np.any(np.isfinite(right) & ~np.isfinite(gradient)))


def derivative(case: Case, data: Data) -> Derivative:
    """The numerical derivative of a pair's reference by each of its floating inputs; a ``witness.Derivative``."""
    from ..sides.functions import forward

    spec = case.spec
    assert isinstance(spec, Pair), f"{spec.name} has a backward of its own"
    wide = data.map(lambda a: np.array(a, np.float64))
    wanted = {*case.spec.differentiable(), *wide.params}
    point = {n: a for n, a in (wide.inputs | wide.params).items() if n in wanted}

    def function(point: Arrays) -> tuple[Any, ...]:
        inputs = wide.inputs | {n: point[n] for n in wide.inputs if n in wanted}
        return forward(spec, case.options, replace(wide, inputs=inputs, params={n: point[n] for n in wide.params}))

    witness = Differentiator(function, point, tuple(wide.cotangents.values()), case.seed)
    return witness.at_kinks().elementwise()


def _in_numpy(case: Case, data: Data, lane: Lane) -> tuple[Arrays, Arrays, Copies]:
    """Oracle, reference and noisy copies of a reference that computes in NumPy."""
    with np.errstate(all="ignore"):
        oracle = exact(case, data, lane)
    forced = oracle.get("ids")
    noisy = data.map(lambda a: a.view(Noisy))
    with recording(lane.round) as ties:
        reference = run_reference(case, noisy, forced)
    for name, value in reference.items():
        if np.asarray(value).dtype.kind == "f" and not isinstance(value, Noisy):
            raise UsageError(f"{case.spec.name}: the reference drops the noise on the way to {name}, by np.asarray or "
                             "np.array, math or float() of a value: no budget can be computed for it")
    turns = Turns()
    if lane.round:  # what underflows there decides otherwise than in the oracle
        with deciding(turns), np.errstate(all="ignore"):
            run_reference(case, data.map(lambda a: a.astype(np.float64).view(Noisy)), forced)

    def copy(number: int, sign: int = 0) -> Arrays:
        # one copy also loses what underflows: vector kernels may, and later factors make it visible
        underflow = 0 if number else lane.flushed
        turns.start(sign)
        with noise(lane.unit_roundoff, f"{case.id} {number}", underflow=underflow, ties=ties, round=lane.round,
                   accumulator=lane.accumulator, subnormal=lane.subnormal, turns=turns, lean=LEAN.get(number, 0)):
            return _plain(run_reference(case, noisy, forced))

    return oracle, _plain(reference), turned(copy, turns)


def turned(copy: Callable[..., Arrays], turns: Turns) -> Copies:
    """The copies of a computation, ``copy(number, sign)``; those with decisions turned, where noise might turn some.

    Returns:
        Function of how many, that gives so many copies and behind them the turned ones; asked for more, it adds to
        them.
    """
    drawn: list[Arrays] = []
    other: list[Arrays] = []

    def copies(count: int) -> list[Arrays]:
        drawn.extend(copy(number) for number in range(len(drawn), count))
        if turns.doubtful(FACTOR):
            other.extend((copy(COPIES, 1), copy(COPIES + 1, -1)))
        return drawn + other

    return copies


def _plain(quantities: Arrays) -> Arrays:
    return {name: np.asarray(value) for name, value in quantities.items()}


def _in_torch(case: Case, data: Data, lane: Lane) -> tuple[Arrays, Arrays, Copies]:
    """The same of a reference made of torch's operations."""
    from ..sides.functions import torch_run
    from .noise_torch import TorchNoise, Widened

    spec = case.spec
    assert isinstance(spec, Pair), f"{spec.name} is made of NumPy's operations"

    def run(dtype: str, device: str, mode: Any) -> Arrays:
        with blamed("reference"):
            return torch_run(spec, spec.reference, case.options, data, dtype, device, mode=mode)

    turns = Turns()

    def copy(number: int, sign: int = 0) -> Arrays:
        turns.start(sign)
        underflow = 0.0 if number else lane.flushed
        mode = TorchNoise(f"{case.id} {number}", turns, underflow, LEAN.get(number, 0))
        with lane.mode():
            return run(lane.torch_dtype, lane.device, mode)

    with lane.mode():
        reference = run(lane.torch_dtype, lane.device, None)
        if lane.round:  # as in NumPy
            turns.start()
            run("float64", "cpu", TorchNoise(None, turns))
    copies = turned(copy, turns)
    if lane.torch_dtype != "float64":
        return run("float64", "cpu", Widened()), reference, copies

    def apart(count: int) -> list[Arrays]:
        """Torch has nothing wider: the plain run is the oracle, and the distances between copies count as well."""
        found = copies(count)
        return found + [{name: value + (a[name] - b[name]) for name, value in reference.items() if
                         value.dtype.kind == "f"} for a, b in pairwise(found)]

    return reference, reference, apart


def eager(spec: Spec) -> bool:
    """Whether a spec's reference is made of torch's operations."""
    if not isinstance(spec, Pair):
        return False
    from ..sides.functions import kind

    return kind(spec) == "torch"


def exact(case: Case, data: Data, lane: Lane) -> Arrays:
    """The quantities of a case by the reference in the oracle's dtype; of large arrays, products by ``split.product``.

    Where a stateful sequence is cut, the outputs are those of the whole sequence; the gradients are
    those of the parts, which do not reach across the cut.
    """
    wide = data.map(lambda a: a.astype(lane.oracle))
    arrays = [a for group in (wide.params, wide.inputs, wide.states, wide.cotangents) for a in group.values()]
    split = pays(lane.oracle, sum(np.size(a) for a in arrays))
    with multiplying(product) if split else contextlib.nullcontext():
        wide = wide.map(lambda a: a.view(Noisy)) if split else wide
        oracle = run_reference(case, wide)
        if case.options.get("cut") and case.spec.states:
            whole = run_reference(case.uncut(), wide)
            oracle |= {name: whole[name] for name in (*case.spec.outputs, *case.spec.states)}
    return _plain(oracle)


def _gauges(oracle: Arrays, copies: list[Arrays], lane: Lane) -> dict[str, Gauge]:
    """The gauges of the floating quantities that have one."""
    with np.errstate(all="ignore"):
        found = {name: gauge(value, [copy[name] for copy in copies], lane.unit_roundoff, lane.underflow)
                 for name, value in oracle.items() if value.dtype.kind == "f"}
    return {name: one for name, one in found.items() if one is not None}


def unknown(budget: NDArray[Any], oracle: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """The budget, infinite where the reference loses a finite value: nothing tells there how far a port may be off."""
    return np.where(np.isfinite(oracle) & ~np.isfinite(reference), np.inf, budget)


def allowance(oracle: NDArray[Any], copies: list[NDArray[Any]], lane: Lane) -> NDArray[Any]:
    """The budget of one quantity: of the finite part of it, by what the copies have finite there."""
    return _budget(oracle, _spread(oracle, copies), lane)


def _spread(oracle: NDArray[Any], copies: list[NDArray[Any]]) -> NDArray[Any]:
    """The largest distance that a copy keeps from the oracle, where both are finite; else 0."""
    spread = np.zeros(oracle.shape, oracle.dtype)
    with np.errstate(all="ignore"):
        for copy in copies:
            distance = np.abs(copy - oracle)
            np.fmax(spread, distance, out=spread, where=np.isfinite(distance))
    return spread


def _budget(oracle: NDArray[Any], spread: NDArray[Any], lane: Lane) -> NDArray[Any]:
    finite = np.isfinite(oracle)
    with np.errstate(all="ignore"):
        usable = spread[finite]
        floor = FLOOR * np.sqrt(np.mean(usable * usable)) if usable.size else 0
        size = np.where(finite, np.abs(oracle), 0)
        return np.asarray(FACTOR * (np.fmax(spread, floor) + lane.unit_roundoff * size + lane.underflow))
