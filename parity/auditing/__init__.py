"""Audit: whether a hand-written NumPy gradient is right and, if not, what is wrong with it.

    from parity import audit

    report = audit(MyWeightSum, like="WeightSum")
    report = audit(layer, inputs=(x, h))
    assert report.ok, report

The layer's code is run, in a child process with limits of time and memory. Nothing here imports torch
unless a layer has a twin whose autograd can be asked.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, amount, whole
from ..judge.finding import Finding
from ..judge.report import Report
from ..spec.spec import Spec
from . import confirm
from .answers import FAILED, Audited, Policy, from_plain
from .assignment import Task
from .fit import methods_of
from .subject import FunctionLayer, arguments
from .wire import Channel, Malformed

SECONDS = 60.0  # that one class may take
MEMORY = 2048  # MiB that it may take beyond what the process has
REMARKS = 30  # of a file, that are shown
STARTING = 5.0  # seconds more, for an interpreter to start

__all__ = ["Finding", "Report", "assert_gradients", "audit", "audit_file"]


def audit(layer: Any = None, *, like: str | None = None, inputs: Any = None, params: Any = None,
          forward: Callable[..., Any] | None = None, backward: Callable[..., Any] | None = None, seed: int = 0,
          seconds: float = SECONDS, memory: int = MEMORY, autograd: bool = True, strict: bool = False,
          allow: str | Iterable[str] = (), dtype: str = "float64") -> Report:
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
        strict: whether what breaks the protocol, loses precision or clamps is an error: by default a warning.
        allow: kinds of these that are neither, a sequence or a text with commas between; ``answers.WARNINGS`` has all.
        dtype: ``float64``, or ``float32`` to hold it in that precision too, to that precision's budget.

    Returns:
        A ``Report``.

    Raises:
        UsageError: unknown twin or kind or dtype, neither a layer nor two functions, or a limit that means nothing.
    """
    policy = Policy.of(strict, allow)
    _known(like)
    _limits(seed, seconds, memory)
    if dtype not in ("float64", "float32"):
        raise UsageError(f"dtype is {dtype!r}, expected float64 or float32")
    if layer is None:
        if not callable(forward) or not callable(backward) or (inputs is None and like is None):
            raise UsageError("audit needs a layer, or forward=, backward= and inputs=")
        params = {} if params is None else params
        names, count = arguments(forward, 0) or [], len(inputs) if inputs is not None else 0
        values = [np.array(p) for p in (params.values() if isinstance(params, dict) else params)]
        layer = FunctionLayer(forward, backward, values)
        layer.param_names = tuple(params if isinstance(params, dict) else names[count : count + len(values)])
        layer.input_names = tuple(names[:count])
        layer.title = getattr(forward, "__name__", "forward")
    elif not (callable(getattr(layer, "forward", None)) and callable(getattr(layer, "backward", None))) and not (
            inspect.isclass(layer) and methods_of(layer)):
        raise UsageError(f"{layer!r} has no forward and backward")
    kind = layer if inspect.isclass(layer) else type(layer)
    spec = None if inputs is not None and like is None else twin_of(kind.__name__, like)
    name = getattr(layer, "title", None) or (layer.__name__ if inspect.isclass(layer) else type(layer).__name__)
    report = Report(seed=seed)
    collect = _Collector(report, name, like, seconds, 1, policy, live=True)
    collect.open = Audited(name, twin=spec.name if spec else "", policy=policy)

    def job(link: Channel) -> None:
        examine(layer, spec, like is not None, seed, inputs, link, dtype)

    from . import sandbox
    from .examine import examine  # before the fork, which then finds it loaded

    if sandbox.CAN_FORK:
        how = sandbox.forked(job, seconds, memory, collect)
    else:
        report.remarks.append("run in this process: forking is not possible here")
        how = sandbox.in_place(job, collect)
    collect.close(how)
    return _finished(report, layer, seconds, memory, autograd)


def audit_file(path: str | Path, names: Iterable[str] = (), *, like: str | None = None, seed: int = 0,
               seconds: float = SECONDS, memory: int = MEMORY, autograd: bool = True, strict: bool = False,
               allow: str | Iterable[str] = (), root: str | Path | None = None, setup: str | Path | None = None,
               tasks: Sequence[Task] = ()) -> Report:
    """Judges the layers that a file or notebook defines: classes with a forward and a backward, pairs of functions.

    Args:
        path: of a ``.py`` or ``.ipynb`` file.
        names: of the classes; none for all.
        like, seed, seconds, memory, autograd, strict, allow: as for ``audit``.
        root: folder from which the file may import too; None for its package's own place alone.
        tasks: what an assignment asks for, a sequence of ``assignment.Task``; none to audit whatever is there.
        setup: a ``.py`` file that is run before it, in the same process: aliases for names that NumPy has no more.

    Returns:
        A ``Report``.

    Raises:
        UsageError: no such file, or unknown twin or kind.
    """
    path, policy = a_file(path), Policy.of(strict, allow)
    first = "" if setup is None else str(a_file(setup))
    _known(like)
    _limits(seed, seconds, memory)
    from . import sandbox

    report = Report(seed=seed, path=str(path))
    # a file has no more classes and functions than it says so: what its process tells cannot go on for ever
    text = path.read_bytes()
    most = text.count(b"class") + len(re.findall(rb'(?:^|\n|"|\\n)(?:async )?def ', text))
    collect = _Collector(report, path.name, like, seconds, len(tasks) or most, policy,
                         tolerances={task.name: task.tolerance for task in tasks})
    arguments = {"path": str(path), "names": list(names), "like": like, "seed": seed, "seconds": seconds,
                 "memory": memory, "root": None if root is None else str(Path(root).resolve()), "setup": first,
                 "tasks": [asdict(task) for task in tasks]}
    how, _ = sandbox.fresh("load", arguments, str(path.parent), seconds + STARTING, collect)
    collect.close(how)
    return _finished(report, None, seconds, memory, autograd, first)


def _finished(report: Report, layer: Any, seconds: float, memory: int, autograd: bool, setup: str = "") -> Report:
    """The report with the third witness heard, and every finding able to make its script when asked for it."""
    from .script import Maker

    if autograd:
        from .autograd import ask

        ask(report)
    for result in report.results:
        maker = Maker(report.path, layer, result, seconds, memory, setup)
        for finding in result.findings:
            finding.maker = maker
    return report


def a_file(path: str | Path) -> Path:
    """The path of a file that can be audited, resolved.

    Raises:
        UsageError: there is none.
    """
    path = Path(path).resolve()
    if not path.is_file() or path.suffix not in (".py", ".ipynb"):
        raise UsageError(f"{path}: no such .py or .ipynb file")
    return path


def assert_gradients(layer: Any = None, **options: Any) -> None:
    """Fails with the report unless ``audit(layer, **options)`` finds a layer right.

        @pytest.mark.parametrize("dtype", ["float64", "float32"])
        @pytest.mark.parametrize("seed", range(5))
        def test_gradients(seed, dtype):
            assert_gradients(Dense, seed=seed, dtype=dtype)

    Raises:
        AssertionError: an error was found, or nothing could be audited; the message is the report.
    """
    report = audit(layer, **options)
    if not report.ok or not report.audited:
        raise AssertionError(str(report))


def twin_of(name: str, like: str | None = None) -> Spec | None:
    """The catalogue entry of a class: the one named, or the one of the class's own name; None for none."""
    from ..catalogue import CATALOGUE

    spec = CATALOGUE.get(like or name)
    return spec if spec is not None and spec.side == "textbook" else None


def _known(like: str | None) -> None:
    if like is not None and twin_of("", like) is None:
        from ..catalogue import CATALOGUE

        layers = [name for name, spec in CATALOGUE.items() if spec.side == "textbook"]
        raise UsageError(f"like={like!r}: no such layer, known are {', '.join(layers)}")


def _limits(seed: int, seconds: float, memory: int) -> None:
    whole("seed", seed, 0)
    amount("seconds", seconds)
    whole("memory", memory, 1)


class _Collector:
    """Takes what a process says that runs somebody's code into a report, and believes nothing but faults.

    Args:
        report: the ``Report``.
        name: of the file or the layer.
        like: name of the twin; None for that of the class's own name.
        seconds: that a class may take.
        classes: how many there can be.
        policy: a ``Policy``.
        live: whether it is an object of this very process, whose code has run here already: then what it says of
            itself stands. A right class of a file is asked again for what it cannot have prepared (``confirm``).
    """

    TAKES = ("class", "died", "finding", "missing", "ready", "remark", "result")

    def __init__(self, report: Report, name: str, like: str | None, seconds: float, classes: int, policy: Policy,
                 live: bool = False, tolerances: Mapping[str, float] | None = None) -> None:
        self.report, self.name, self.like, self.seconds, self.classes = report, name, like, seconds, classes
        self.policy, self.live, self.told = policy, live, False
        self.open: Audited | None = None
        self.tolerances = tolerances or {}

    @property
    def result(self) -> Audited:
        """What is open."""
        assert self.open is not None
        return self.open

    def __call__(self, link: Channel, what: str, *message: Any) -> None:
        if what not in self.TAKES or (self.open is None and what in ("finding", "ready", "result")):
            raise Malformed(f"{what!r} is not expected here")
        try:
            getattr(self, f"take_{what}")(link, *message)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise Malformed(f"{what}: {error}") from error

    def take_remark(self, link: Channel, text: Any) -> None:
        if len(self.report.remarks) < REMARKS:
            self.report.remarks.append(str(text))

    def take_missing(self, link: Channel, missing: Any, known: Any) -> None:
        self.report.failed.append(f"there is no class {', '.join(missing)}")
        self.report.remarks.append(f"no class {', '.join(missing)} with forward and backward in {self.name}; there "
                                   f"are {', '.join(known) or 'none'}")

    def take_class(self, link: Channel, name: Any) -> None:
        if not isinstance(name, str) or not name.isidentifier() or self.classes <= 0:
            raise ValueError("no class, or more than the file has")
        self.close("it was left out")
        self.classes -= 1
        link.allow(self.seconds + STARTING)
        spec = twin_of(name, self.like)
        policy = replace(self.policy, tolerance=self.tolerances.get(name, 0.0))
        self.open = Audited(name, twin=spec.name if spec and not self.tolerances else "", policy=policy)
        self.told = False

    def take_finding(self, link: Channel, finding: Any) -> None:
        self.result.findings.append(self.result.policy.grade(from_plain(finding)))

    def take_result(self, link: Channel, result: Any) -> None:
        if self.told:
            raise ValueError("a second result")
        self.result.take(result)
        if self.result.given is not None and self.like is not None and not self.live:
            raise ValueError("inputs of its own, for what is meant to be a layer of the catalogue")
        self.told = True

    def take_ready(self, link: Channel) -> None:
        """It waits for questions: whether what it says is right can be confirmed."""
        if not self.told:
            raise ValueError("no result before it")
        result = self.result
        if not self.live and result.ok and not result.skipped:
            try:
                result.findings += (confirm.confirm(result, self.like is not None, link) if result.given is None else
                                    confirm.confirm_given(result, link))
            except confirm.Died as error:  # nobody is there any more to be told that we have done
                self._unconfirmed(str(error))
                return
        link.send("done")
        self._done()

    def take_died(self, link: Channel, how: Any) -> None:
        self.close(str(how))

    def close(self, how: str) -> None:
        """The process ended so: with a class unfinished, or before all."""
        if self.open is not None:
            self._unconfirmed(how or "its process ended before it was judged")
        elif how and how != "it was left out":
            self.report.remarks.append(f"{self.name}: {how}")
            self.report.failed.append(f"{self.name} could not be run to its end")

    def _unconfirmed(self, how: str) -> None:
        kind = "memory" if "MemoryError" in how else "ended"
        breaks = "The audit could not go on; what was found before is listed."
        self.result.findings.insert(0, Finding("ended", "", FAILED, how, kind, breaks=breaks))
        self._done()

    def _done(self) -> None:
        self.report.results.append(self.result)
        self.open = None
