"""Audit: whether a hand-written NumPy gradient is right and, if not, what is wrong with it.

    from parity import audit

    report = audit(MyWeightSum, like="WeightSum")
    report = audit(layer, inputs=(x, h))
    assert report.ok, report

The layer's code is run, in a child process with limits of time and memory. Nothing here imports torch
unless a layer has a twin whose autograd can be asked.
"""

import inspect
from pathlib import Path

import numpy as np

from ..catalogue import CATALOGUE
from ..errors import UsageError
from .findings import PROTOCOL, Finding, Result
from .report import Report
from .subject import FunctionLayer, Subject, _arguments

SECONDS = 60.0  # that one class may take
MEMORY = 2048  # MiB that it may take beyond what the process has

__all__ = ["Finding", "Report", "assert_gradients", "audit", "audit_file"]


def audit(layer=None, *, like=None, inputs=None, params=None, forward=None, backward=None, seed=0, seconds=SECONDS,
          memory=MEMORY, autograd=True):
    """Judges a hand-written gradient.

    Args:
        layer: a class or an object with ``forward`` and ``backward``: the textbook protocol, with ``params`` and
            ``grads`` where it has parameters. A class is made with the parameters of its twin, by position.
        like: name of its twin in the catalogue; None to find it by the class's own name. With it, a forward that
            is another function than the canonical one is an error, without it a note.
        inputs: sequence or dict of arrays for ``forward``, for a layer without a twin.
        params: sequence or dict of parameter arrays of the plain functions.
        forward, backward: plain functions instead of a layer: ``forward(*inputs, *params)`` returns the outputs
            and a cache, ``backward(*cotangents, cache)`` the gradients of the arguments of ``forward`` in order.
        seed: of all random values.
        seconds, memory: limits of the child process; memory in MiB.
        autograd: whether the twin's autograd is asked too, which imports torch.

    Returns:
        A ``Report``.

    Raises:
        UsageError: unknown twin, or neither a layer nor two functions.
    """
    if like is not None and (like not in CATALOGUE or CATALOGUE[like].program != "layer"):
        raise UsageError(f"like={like!r}: no such layer, known are {', '.join(_layers())}")
    if layer is None:
        if not callable(forward) or not callable(backward) or (inputs is None and like is None):
            raise UsageError("audit needs a layer, or forward=, backward= and inputs=")
        params = {} if params is None else params
        names = list(params) if isinstance(params, dict) else _arguments(forward, 0)
        values = [np.array(p) for p in (params.values() if isinstance(params, dict) else params)]
        layer = FunctionLayer(forward, backward, values)
        count = len(inputs) if inputs is not None else 0
        layer.param_names = tuple(names if isinstance(params, dict) else (names or [])[count : count + len(values)])
        layer.input_names = tuple((_arguments(forward, 0) or [])[:count])
        layer.title = forward.__name__
    elif not (callable(getattr(layer, "forward", None)) and callable(getattr(layer, "backward", None))):
        raise UsageError(f"{layer!r} has no forward and backward")
    spec = None if inputs is not None and like is None else twin_of(
        layer if inspect.isclass(layer) else type(layer), like)
    name = getattr(layer, "title", None) or (layer.__name__ if inspect.isclass(layer) else type(layer).__name__)
    report = Report(seed=seed)
    if spec is None and inputs is None:
        report.results.append(Result(name, skipped="no twin of that name in the catalogue: pass like=, its name, "
                                                   "or inputs=, a tuple of arrays for forward"))
        return report
    collect = _Collector(report, name)

    def job(channel):
        _examine(layer, spec, like is not None, seed, inputs, channel)

    from . import checks, sandbox  # noqa: F401 (checks before the fork, which then finds it loaded)

    collect("class", name)
    if sandbox.CAN_FORK:
        how = sandbox.forked(job, seconds, memory, collect)
    else:
        report.remarks.append("run in this process: forking is not possible here")
        how = sandbox.in_place(job, collect)
    if how:
        collect("died", how)
    if spec is not None and autograd:
        report.ask_autograd()
    report.scripts_for(layer, seconds)
    return report


def audit_file(path, names=(), *, like=None, seed=0, seconds=SECONDS, memory=MEMORY, autograd=True):
    """Judges the classes with ``forward`` and ``backward`` that a file or notebook defines.

    Args:
        path: of a ``.py`` or ``.ipynb`` file.
        names: of the classes; none for all.
        like, seed, seconds, memory, autograd: as for ``audit``.

    Returns:
        A ``Report``.

    Raises:
        UsageError: no such file, or unknown twin.
    """
    path = Path(path).resolve()
    if not path.is_file() or path.suffix not in (".py", ".ipynb"):
        raise UsageError(f"{path}: no such .py or .ipynb file")
    if like is not None and (like not in CATALOGUE or CATALOGUE[like].program != "layer"):
        raise UsageError(f"--like {like}: no such layer, known are {', '.join(_layers())}")
    from . import sandbox

    report = Report(seed=seed, path=str(path))
    collect = _Collector(report, path.name)
    arguments = {"path": str(path), "names": list(names), "like": like, "seed": seed, "seconds": seconds,
                 "memory": memory}
    how = sandbox.fresh(arguments, str(path.parent), seconds + 5, collect)
    if how:
        collect("died", how)
    if autograd:
        report.ask_autograd()
    report.scripts_for(None, seconds)
    return report


def assert_gradients(layer=None, **options):
    """Fails with the report unless ``audit(layer, **options)`` finds a layer right.

    Raises:
        AssertionError: an error was found, or nothing could be audited; the message is the report.
    """
    report = audit(layer, **options)
    if not report.ok or not report.audited:
        raise AssertionError(str(report))


def twin_of(kind, like=None):
    """The catalogue entry of a class: the one named, or the one of the class's own name; None for none."""
    spec = CATALOGUE.get(like or kind.__name__)
    return spec if spec is not None and spec.program == "layer" else None


def _layers():
    return [name for name, spec in CATALOGUE.items() if spec.program == "layer"]


class _Collector:
    """Takes the messages of a child process into a report."""

    def __init__(self, report, name):
        self.report, self.name = report, name
        self.open = None

    def __call__(self, what, *message):
        getattr(self, f"take_{what.replace(' ', '_')}")(*message)

    def take_alive(self):
        pass

    def take_remark(self, text):
        self.report.remarks.append(text)

    def take_missing(self, missing, known):
        self.report.remarks.append(f"no class {', '.join(missing)} with forward and backward in {self.name}; there "
                                   f"are {', '.join(known) or 'none'}")

    def take_class(self, name):
        self.open = Result(name)

    def take_twin(self, name):
        self.open.twin = name

    def take_finding(self, finding):
        self.open.findings.append(finding)

    def take_result(self, result):
        self.report.results.append(result)
        self.open = None

    def take_died(self, how):
        if self.open is None:
            self.report.remarks.append(f"{self.name}: {how}")
            self.report.died = True
            return
        memory = "MemoryError" in how
        self.open.findings.insert(0, Finding("error", "ended", "", PROTOCOL, how, "memory" if memory else "ended",
                                             breaks="The audit could not go on; what was found before is listed."))
        self.report.results.append(self.open)
        self.open = None


def _examine(target, spec, strict, seed, inputs, channel):
    """The examination itself, in the child process."""
    from . import samples
    from .checks import Examination, _trace

    name = target.__name__ if inspect.isclass(target) else getattr(target, "title", type(target).__name__)
    result = Result(name, spec.name if spec else "")
    channel.send("twin", result.twin)
    try:
        subject = Subject(target, spec)
        subject.name = name
        if inputs is not None:
            if subject.is_class:
                subject = Subject(target(), spec)
                subject.name = name
            instance = subject.target
            names = (getattr(instance, "input_names", None) or subject.accepted, getattr(instance, "param_names", None))
            base = samples.given(inputs, list(getattr(instance, "params", [])), names, seed)
            subject.spec = None
        else:
            base = samples.sample(subject, seed=seed)
        if spec is not None and inputs is None:
            needed = [n for n in spec.inputs if n not in spec.optional and n not in spec.drawn]
            if subject.accepted is not None and len(subject.accepted) < len(needed):
                raise TypeError(f"forward takes {len(subject.accepted)} arguments, its twin's {len(needed)}: "
                                f"{', '.join(needed)}")
        examination = Examination(subject, base, strict, seed, lambda finding: channel.send("finding", finding))
        result = examination.result
        result.given = base if inputs is not None else None
        result = examination.run()
    except BaseException as error:  # exit() and the like included: it is somebody's code
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        kind = "memory" if isinstance(error, MemoryError) else "raised"
        why = "it called exit()" if isinstance(error, SystemExit) else words
        result.findings.append(Finding("error", "raised", "", PROTOCOL, why, kind, detail=_trace(error)))
    result.findings.sort(key=lambda f: f.severity != "error")
    channel.send("result", result)

