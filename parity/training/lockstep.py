"""``parity lockstep``: both sides train on the same batches, and each step shows how far apart they are."""

import inspect
import io
import itertools
import math
import numbers
import os
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference.batches import batches
from reference.data import load_data, write_atomically, write_dates
from reference.optimizers import Adam, clip_grads
from reference.trainer import MODELS

from ..errors import UsageError, whole
from ..judge.budget import FACTOR  # how much larger than the reference's own rounding an honest distance may be
from ..judge.finding import Finding
from ..judge.report import Report, Result, check_writable, version, write_json
from ..processes import torch_threads
from ..settings import own_settings

Arrays = Sequence[NDArray[Any]]
# in float64, of the size of a loss or a parameter: 9,000 roundoffs, a hundred times what rounding does in 200 steps
# and half of what a learning rate of 2e-3 that errs by 1e-9 does in one
LIMIT = 1e-12
HALF = float(np.finfo(np.float32).eps / 2) ** 0.5  # half the digits of float32
HELP = {"model": "attention, peeky or plain", "dtype": "float64 or float32", "steps": "number of steps",
        "seed": "of the weights and of the order of the batches", "threads": "of NumPy and of torch"}
HEADER = (f"{'step':>5}  {'loss reference':>18}  {'loss port':>18}  {'apart':>7}  {'parameters':>10}  "
          f"{'in u':>6}")
EXPLANATION = """\
Why it grows: each side rounds in its own order, Adam divides by sqrt(v), which enlarges the rounding
of small gradients, and training carries the difference on. Rounding alone does as much: the reference
in {dtype} is up to {rounding:.1e} from itself in float64. In --dtype float64 the distance shrinks as
the unit roundoff u does; that of another formula would stay. The run fails where they are further
apart than half the digits, {half:.1e}, and than {factor} times the rounding so far."""


class Row(NamedTuple):
    """One step: the losses before its update, the largest distances after it, all relative to size.

    Attributes:
        step: from 1.
        loss_reference, loss_port: in nats.
        loss_distance: |port - reference| / |reference|.
        distance: largest, over the parameters, of max |port - reference| / max |reference|.
        parameter: dotted name of the parameter where it is.
        rounding: the same of the reference in float32 against itself in float64; None in float64.
    """

    step: int
    loss_reference: float
    loss_port: float
    loss_distance: float
    distance: float
    parameter: str
    rounding: float | None

    @property
    def worst(self) -> float:
        """The larger of the two distances."""
        return max(self.loss_distance, self.distance)


@dataclass
class Run(Result):
    """A training run: what was found about one model.

    Attributes:
        settings: dict of the arguments of ``lockstep`` and the versions.
        steps: list of ``Row``, one a step.
        limits: how far apart each step may be.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    steps: list[Row] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def take(self, row: Row) -> None:
        """Takes in a step; one beyond its limit is a finding.

        In float64 the limit is 1e-12. In float32 it is half the digits, or eight times the distance that rounding
        alone has put between the reference and itself in float64 so far, whichever is more: in the first steps one
        element with next to no gradient decides that distance, so a single sample of it is no measure.
        """
        self.steps.append(row)
        limit = LIMIT if row.rounding is None else max(HALF, FACTOR * self.rounding)
        self.limits.append(limit)
        if not row.worst <= limit:
            self.findings.append(Finding("lockstep", row.parameter, layer=self.name, case_id=f"step {row.step}",
                                         share=row.worst / limit, diagnosis=f"first beyond its limit of {limit:.1e}: "
                                         f"step {row.step}, {row.worst:.1e}"))

    @property
    def rounding(self) -> float:
        """The most that rounding alone has done so far."""
        return max(row.rounding or 0.0 for row in self.steps)

    @property
    def ok(self) -> bool:
        """Whether there is a step, and every one is within its limit."""
        return bool(self.steps) and super().ok

    @property
    def against(self) -> list[str]:
        """Why this is no pass, beside its errors."""
        return [] if self.steps else ["nothing was judged, no step was run"]

    def to_json(self) -> dict[str, Any]:
        """Settings, verdict and rows, as what ``json.dumps`` takes; null for a number that is not finite."""
        rows = [{name: None if value in (math.inf, None) or value != value else value
                 for name, value in row._asdict().items()} for row in self.steps]
        return {**self.settings, "ok": self.ok, "rows": rows}

    def lines(self) -> Iterator[str]:
        """The verdict as lines of text."""
        if not self.steps:
            yield f"NOT IN LOCKSTEP: {self.against[0]}"
            return
        dtype = self.settings["dtype"]
        worst = max(self.steps, key=lambda row: row.distance)
        yield (f"{'ok' if self.ok else 'NOT IN LOCKSTEP'}: {len(self.steps)} steps in {dtype}; at most, "
               f"parameters are {worst.distance:.1e} of their size apart ({worst.parameter}, step "
               f"{worst.step}) and losses {max(row.loss_distance for row in self.steps):.1e}")
        if self.findings:
            yield self.findings[0].diagnosis
        elif dtype != "float64":
            yield EXPLANATION.format(dtype=dtype, rounding=self.rounding, half=HALF, factor=FACTOR)


@own_settings()
def lockstep(model: str = "attention", *, steps: int = 200, dtype: str = "float64", batch_size: int = 128,
             hidden_size: int = 256, wordvec_size: int = 16, lr: float = 0.002, max_grad: float = 5.0, seed: int = 0,
             threads: int = 1) -> Report:
    """Trains a reference model and its twin, from the same weights, on the same batches of date data.

    A step is forward, backward, ``clip_grads`` and ``Adam``, each side with its own.

    Args:
        model: ``"attention"``, ``"peeky"`` or ``"plain"``.
        steps: number of steps, >= 1.
        dtype: ``"float64"`` or ``"float32"``, of both sides.
        batch_size, hidden_size, wordvec_size, lr, max_grad: as in training.
        seed: of the weights and of the order of the batches.
        threads: of torch, whose number stands again afterwards; NumPy has those that it was imported with, which
            ``OMP_NUM_THREADS`` says. More than one gain nothing at these sizes.

    Returns:
        ``Report`` of one result, a ``Run``.

    Raises:
        UsageError: another model or dtype, or a number too small.
    """
    settings = locals()
    found = _run(settings)
    for row in _rows(**settings):
        found.take(row)
    return Report(seed=seed, results=[found])


def _run(settings: dict[str, Any]) -> Run:
    return Run(settings["model"], settings=settings | {name: version(name) for name in ("numpy", "torch")})


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name, parameter in inspect.signature(lockstep).parameters.items():
        kind, default = type(parameter.default), parameter.default
        if name == "threads":
            default = _threads()
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default,
                            metavar=name.split("_")[0].upper(),
                            help=f"{HELP.get(name, 'as in training')} ({default})")
    parser.add_argument("--plot", metavar="FILE", help="draw both loss curves and the distance as PNG")
    parser.add_argument("--json", metavar="FILE", help="write settings and rows there")


def run(args: Namespace) -> int:
    """Prints a row a step and the verdict, writes what is asked for, and gives the exit code."""
    settings = {name: getattr(args, name) for name in inspect.signature(lockstep).parameters}
    for path in filter(None, (args.plot, args.json)):
        check_writable(path)
    if args.plot:
        _figure()
    found = _run(settings)
    report = Report(seed=args.seed, results=[found])
    try:
        for row in _rows(**settings):
            if not found.steps:
                print(f"threads: {args.threads}")
                print(HEADER + ("" if row.rounding is None else f"  {'rounding':>8}") + "  largest in")
            found.take(row)
            print(_line(row, args.dtype), flush=True)
    except KeyboardInterrupt:
        report.interrupted = True
    print(report)
    if args.plot and found.steps:
        write_atomically(args.plot, plot(found))
    if args.json:
        write_json(args.json, found.to_json())
    return report.exit_code


def plot(run: Run) -> bytes:
    """Both loss curves, and the distance beside what is allowed, as the bytes of a PNG file."""
    figure = _figure()(figsize=(9, 3.4), layout="constrained")
    losses, distances = figure.subplots(1, 2)
    steps = [row.step for row in run.steps]
    model, dtype = run.settings["model"], run.settings["dtype"]
    losses.plot(steps, [row.loss_reference for row in run.steps], linewidth=4, alpha=0.3, label="reference")
    losses.plot(steps, [row.loss_port for row in run.steps], linewidth=1, color="black", label="port")
    losses.set(xlabel="step", ylabel="loss, nats", title=f"{model}, {dtype}")
    distances.plot(steps, [row.distance for row in run.steps], label="parameters, port from reference")
    if dtype != "float64":
        rounding = [row.rounding for row in run.steps]
        distances.plot(steps, rounding, ":", label="reference, from itself in float64")
    distances.plot(steps, run.limits, "--", color="grey", label="limit")
    distances.set(xlabel="step", ylabel="distance, relative to size", yscale="log")
    if math.isfinite(max(run.limits)):
        distances.set_ylim(top=100 * max(run.limits))  # room for the legend
    losses.legend()
    distances.legend(loc="upper left", fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


class _Reference:
    """The reference's side of a step."""

    def __init__(self, model: Any, lr: float, max_grad: float) -> None:
        self.model, self.optimizer, self.max_grad = model, Adam(lr), max_grad
        self.arrays: Arrays = model.params

    def params(self) -> Arrays:
        return self.arrays

    def step(self, x: NDArray[Any], t: NDArray[Any]) -> float:
        loss = float(self.model.forward(x, t))
        self.model.backward()
        clip_grads(self.model.grads, self.max_grad)
        self.optimizer.update(self.model.params, self.model.grads)
        return loss


class _Port:
    """The port's side of a step."""

    def __init__(self, model: Any, lr: float, max_grad: float) -> None:
        import torch_port

        self.model = getattr(torch_port, type(model).__name__).from_reference(model)
        self.optimizer, self.max_grad = torch_port.Adam(self.model.parameters(), lr=lr), max_grad
        self.clip_grads, self.params = torch_port.clip_grads, self.model.reference_params

    def step(self, x: NDArray[Any], t: NDArray[Any]) -> float:
        import torch

        loss = self.model(torch.from_numpy(x), torch.from_numpy(t))
        self.optimizer.zero_grad()
        loss.backward()
        self.clip_grads(self.model.parameters(), self.max_grad)
        self.optimizer.step()
        return float(loss.detach())


def _rows(model: str, steps: int, dtype: str, batch_size: int, hidden_size: int, wordvec_size: int, lr: float,
          max_grad: float, seed: int, threads: int) -> Iterator[Row]:
    for name, text, known in (("model", model, list(MODELS)), ("dtype", dtype, ["float64", "float32"])):
        if text not in known:
            raise UsageError(f"lockstep: {name} is {text!r}, expected one of {', '.join(known)}")
    for name, count, least in (("steps", steps, 1), ("batch_size", batch_size, 1), ("hidden_size", hidden_size, 1),
                               ("wordvec_size", wordvec_size, 1), ("seed", seed, 0), ("threads", threads, 1)):
        whole(f"lockstep: {name}", count, least)
    for name, value, most in (("lr", lr, sys.float_info.max), ("max_grad", max_grad, math.inf)):
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) <= most:
            raise UsageError(f"lockstep: {name} is {value!r}, expected a number >= 0")
    with torch_threads(threads):
        yield from _steps(model, steps, dtype, batch_size, hidden_size, wordvec_size, lr, max_grad, seed)


def _steps(model: str, steps: int, dtype: str, batch_size: int, hidden_size: int, wordvec_size: int, lr: float,
           max_grad: float, seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "dates.txt")
        write_dates(path, min(50_000, 2 * steps * batch_size))
        (x, t), _, vocabulary = load_data(path)
    x = x[:, ::-1].copy()
    sizes = len(vocabulary.char_to_id), wordvec_size, hidden_size
    start = MODELS[model](*sizes, dtype=dtype, rng=np.random.default_rng(seed))
    names = start.param_names
    sides: list[_Reference | _Port] = [_Reference(start, lr, max_grad), _Port(start, lr, max_grad)]
    if dtype != "float64":
        wide = MODELS[model](*sizes, dtype="float64")
        wide.bind([p.astype("float64") for p in start.params])
        sides.append(_Reference(wide, lr, max_grad))
    rng = np.random.default_rng(seed)
    order = itertools.chain.from_iterable(batches(len(x), batch_size, rng) for _ in itertools.count())
    for step, rows in enumerate(itertools.islice(order, steps), 1):
        losses = [side.step(x[rows], t[rows]) for side in sides]
        params = [side.params() for side in sides]
        distance, parameter = _distance(params[1], params[0], names)
        rounding = _distance(params[0], params[2], names)[0] if len(sides) > 2 else None
        yield Row(step, losses[0], losses[1], _relative(losses[1], losses[0]), distance, parameter, rounding)


def _distance(params: Arrays, others: Arrays, names: Sequence[str]) -> tuple[float, str]:
    return max((_relative(a, b), name) for a, b, name in zip(params, others, names, strict=True))


def _relative(a: Any, b: Any) -> float:
    """max |a - b| / max |b|; infinite where that is no number."""
    far, size = float(np.abs(a - b).max()), float(np.abs(b).max())
    if far == 0:
        return 0.0
    return far / size if size and math.isfinite(far / size) else math.inf


def _line(row: Row, dtype: str) -> str:
    u = np.finfo(dtype).eps / 2
    rounding = "" if row.rounding is None else f"  {row.rounding:8.1e}"
    return (f"{row.step:5}  {row.loss_reference:18.15f}  {row.loss_port:18.15f}  {row.loss_distance:7.1e}  "
            f"{row.distance:10.1e}  {row.distance / u:6.1f}{rounding}  {row.parameter}")


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: python -m pip install matplotlib") from None
    return Figure


def _threads() -> int:
    """The number of threads that the process was started with; 1 where nobody said."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) else 1
