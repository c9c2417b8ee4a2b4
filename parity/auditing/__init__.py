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
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import UsageError, amount, whole
from ..judge.finding import Finding
from ..judge.report import Report
from . import canonical, confirm, samples
from .answers import BACKWARD, FAILED, PROTOCOL, STUB, WARNINGS, Audited, Policy, from_plain
from .fit import methods_of
from .recognise import NotTried, Planned, recognised
from .subject import FunctionLayer, Subject, arguments, quantities
from .telling import trace_of
from .trial import GRADIENTS

SECONDS = 60.0  # that one class may take
MEMORY = 2048  # MiB that it may take beyond what the process has
REMARKS = 30  # of a file, that are shown
STARTING = 5.0  # seconds more, for an interpreter to start

__all__ = ["Finding", "Report", "assert_gradients", "audit", "audit_file"]


def audit(layer=None, *, like=None, inputs=None, params=None, forward=None, backward=None, seed=0, seconds=SECONDS,
          memory=MEMORY, autograd=True, strict=False, allow=(), dtype="float64"):
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
        names = list(params) if isinstance(params, dict) else arguments(forward, 0)
        values = [np.array(p) for p in (params.values() if isinstance(params, dict) else params)]
        layer = FunctionLayer(forward, backward, values)
        count = len(inputs) if inputs is not None else 0
        layer.param_names = tuple(names if isinstance(params, dict) else (names or [])[count : count + len(values)])
        layer.input_names = tuple((arguments(forward, 0) or [])[:count])
        layer.title = forward.__name__
    elif not (callable(getattr(layer, "forward", None)) and callable(getattr(layer, "backward", None))) and not (
            inspect.isclass(layer) and methods_of(layer)):
        raise UsageError(f"{layer!r} has no forward and backward")
    kind = layer if inspect.isclass(layer) else type(layer)
    spec = None if inputs is not None and like is None else twin_of(kind.__name__, like)
    name = getattr(layer, "title", None) or (layer.__name__ if inspect.isclass(layer) else type(layer).__name__)
    report = Report(seed=seed)
    collect = _Collector(report, name, like, seconds, 1, policy, live=True)
    collect.open = Audited(name, twin=spec.name if spec else "", policy=policy)

    def job(link):
        _examine(layer, spec, like is not None, seed, inputs, link, dtype)

    from . import checks, sandbox  # noqa: F401 (checks before the fork, which then finds it loaded)

    if sandbox.CAN_FORK:
        how = sandbox.forked(job, seconds, memory, collect)
    else:
        report.remarks.append("run in this process: forking is not possible here")
        how = sandbox.in_place(job, collect)
    collect.close(how)
    return _finished(report, layer, seconds, memory, autograd)


def audit_file(path, names=(), *, like=None, seed=0, seconds=SECONDS, memory=MEMORY, autograd=True, strict=False,
               allow=(), root=None, setup=None, tasks=()):
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
    setup = None if setup is None else str(a_file(setup))
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
                 "memory": memory, "root": None if root is None else str(Path(root).resolve()), "setup": setup,
                 "tasks": [asdict(task) for task in tasks]}
    how, _ = sandbox.fresh("load", arguments, str(path.parent), seconds + STARTING, collect)
    collect.close(how)
    return _finished(report, None, seconds, memory, autograd, setup or "")


def _finished(report, layer, seconds, memory, autograd, setup=""):
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


def a_file(path):
    """The path of a file that can be audited, resolved.

    Raises:
        UsageError: there is none.
    """
    path = Path(path).resolve()
    if not path.is_file() or path.suffix not in (".py", ".ipynb"):
        raise UsageError(f"{path}: no such .py or .ipynb file")
    return path


def assert_gradients(layer=None, **options):
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


def twin_of(name, like=None):
    """The catalogue entry of a class: the one named, or the one of the class's own name; None for none."""
    from ..catalogue import CATALOGUE

    spec = CATALOGUE.get(like or name)
    return spec if spec is not None and spec.side == "textbook" else None


def _known(like):
    if like is not None and twin_of("", like) is None:
        from ..catalogue import CATALOGUE

        layers = [name for name, spec in CATALOGUE.items() if spec.side == "textbook"]
        raise UsageError(f"like={like!r}: no such layer, known are {', '.join(layers)}")


def _limits(seed, seconds, memory):
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

    def __init__(self, report, name, like, seconds, classes, policy, live=False, tolerances=None):
        self.report, self.name, self.like, self.seconds, self.classes = report, name, like, seconds, classes
        self.policy, self.live, self.open, self.told = policy, live, None, False
        self.tolerances = tolerances or {}

    def __call__(self, link, what, *message):
        from .wire import Malformed

        if what not in self.TAKES or (self.open is None and what in ("finding", "ready", "result")):
            raise Malformed(f"{what!r} is not expected here")
        try:
            getattr(self, f"take_{what}")(link, *message)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise Malformed(f"{what}: {error}") from error

    def take_remark(self, link, text):
        if len(self.report.remarks) < REMARKS:
            self.report.remarks.append(str(text))

    def take_missing(self, link, missing, known):
        self.report.failed.append(f"there is no class {', '.join(missing)}")
        self.report.remarks.append(f"no class {', '.join(missing)} with forward and backward in {self.name}; there "
                                   f"are {', '.join(known) or 'none'}")

    def take_class(self, link, name):
        if not isinstance(name, str) or not name.isidentifier() or self.classes <= 0:
            raise ValueError("no class, or more than the file has")
        self.close("it was left out")
        self.classes -= 1
        link.allow(self.seconds + STARTING)
        spec = twin_of(name, self.like)
        policy = replace(self.policy, tolerance=self.tolerances.get(name, 0.0))
        self.open = Audited(name, twin=spec.name if spec and not self.tolerances else "", policy=policy)
        self.told = False

    def take_finding(self, link, finding):
        self.open.findings.append(self.open.policy.grade(from_plain(finding)))

    def take_result(self, link, result):
        if self.told:
            raise ValueError("a second result")
        self.open.take(result)
        if self.open.given is not None and self.like is not None and not self.live:
            raise ValueError("inputs of its own, for what is meant to be a layer of the catalogue")
        self.told = True

    def take_ready(self, link):
        """It waits for questions: whether what it says is right can be confirmed."""
        if not self.told:
            raise ValueError("no result before it")
        if not self.live and self.open.ok and not self.open.skipped:
            try:
                self.open.findings += (confirm.confirm(self.open, self.like is not None, link)
                                       if self.open.given is None else confirm.confirm_given(self.open, link))
            except confirm.Died as error:  # nobody is there any more to be told that we have done
                self._unconfirmed(str(error))
                return
        link.send("done")
        self._done()

    def take_died(self, link, how):
        self.close(str(how))

    def close(self, how):
        """The process ended so: with a class unfinished, or before all."""
        if self.open is not None:
            self._unconfirmed(how or "its process ended before it was judged")
        elif how and how != "it was left out":
            self.report.remarks.append(f"{self.name}: {how}")
            self.report.failed.append(f"{self.name} could not be run to its end")

    def _unconfirmed(self, how):
        kind = "memory" if "MemoryError" in how else "ended"
        breaks = "The audit could not go on; what was found before is listed."
        self.open.findings.insert(0, Finding("ended", "", FAILED, how, kind, breaks=breaks))
        self._done()

    def _done(self):
        self.report.results.append(self.open)
        self.open = None


def _also(result, words, fit, named, seed):
    """Adds what another stride, padding or mode of the same layer shows."""
    from .checks import Examination

    result.variants[f"with {words}"] = fit.recipe
    if fit.score < GRADIENTS:  # its forward ran, and the same with other values was understood
        result.findings.append(Finding("raised", "backward", BACKWARD, fit.why, "raised", words=f"with {words}"))
        return
    adapted = fit.adapted()
    subject = Subject(adapted)
    subject.name = result.name
    base, made = _first(fit.inputs, adapted, subject, seed)
    if result.stale:
        base = made
    base.words = f"with {words}"
    other = Examination(subject, base, named, seed, lambda finding: None).run_values()
    result.findings += other.findings
    result.checked += other.checked
    for name, share in other.judged.items():
        result.judged[name] = max(result.judged.get(name, 0.0), share)
    if not other.findings:
        result.remark(f"right with {words}")
        said = confirm.as_named(result, base, quantities(subject, base)[0])
        if said not in (None, canonical.RIGHT, canonical.OTHER):
            result.findings.append(confirm.by_name(result.name, said, words=base.words))


def _first(inputs, layer, subject, seed):
    """The first sample of given inputs, parameters moved off what the constructor gave; and the same with those."""
    guessed, rng = hasattr(layer, "recipe"), np.random.default_rng([seed, 29])
    names = getattr(layer, "input_names", None) or subject.accepted, getattr(layer, "param_names", None)
    made = samples.given(inputs, list(getattr(layer, "params", [])), names, seed)
    params = {n: np.array(samples.off(a, rng, guessed)) for n, a in made.params.items()}
    if seed and guessed:  # what was guessed is drawn anew
        made = replace(made, inputs={n: confirm.jitter(a, rng) for n, a in made.inputs.items()})
        params = {n: np.array(confirm.jitter(a, rng)) for n, a in params.items()}
    return replace(made, params=params), made


def _as_made(subject, made, moved):
    """Why parameters are judged at the values that they were made with; empty where there is no reason to."""
    at = "judged at the values that the constructor gives"
    try:
        subject.forward(subject.make(made), list(made.inputs.values()))
        found = {n: where for n, where in samples.copied(subject, made).items()
                 if not np.array_equal(made.params[n], moved.params[n])}
    except Exception:  # a layer that cannot be run has a finding of its own
        return ""
    if found:
        names = ", ".join(f"{n} in {where}" for n, where in found.items())
        return f"{at}: it keeps a copy of {names}, which does not follow the parameter when an optimizer changes that"
    try:
        subject.forward(subject.make(moved), list(moved.inputs.values()))
    except Exception as error:
        return f"{at}: at others forward raised {type(error).__name__}"
    return ""


def _examine(target, spec, named, seed, inputs, link, dtype="float64"):
    """The examination itself, in the child process."""
    from .checks import Examination

    name = target.__name__ if inspect.isclass(target) else getattr(target, "title", type(target).__name__)
    result = Audited(name, twin=spec.name if spec else "")
    misfit, leftover, asked = "", {}, isinstance(target, Planned)
    try:
        if inputs is None:
            misfit = Subject(target, spec).misfit() if spec is not None else "no twin"
            if misfit and named:
                raise TypeError(misfit)
            unmade = "" if misfit or named else Subject(target, spec).unmade(samples.sample(Subject(target, spec)))
            if misfit or unmade:
                try:
                    (target, inputs), spec = recognised(target), None
                    result.twin, leftover = "", target.leftover
                except NotTried:
                    if misfit:
                        raise
        subject = Subject(target, spec)
        subject.name = name
        if inputs is not None:
            if subject.is_class:
                subject = Subject(target(), spec)
                subject.name = name
            instance = subject.target
            base, made = _first(inputs, instance, subject, seed)
            subject.spec = None
        else:
            base = samples.sample(subject, seed=seed)
        subject.base = base
        examination = Examination(subject, base, named, seed, lambda finding: link.send("finding", finding.to_plain()))
        result = examination.result
        result.given = base if inputs is not None else None
        result.recipe = getattr(subject.target, "recipe", None)
        result = examination.run()
        if inputs is not None and result.errors and (stale := _as_made(subject, made, base)):
            # judged where the layer agrees with itself, which is as it was made
            base = subject.base = made
            examination = Examination(subject, base, named, seed, examination.emit)
            recipe, result = result.recipe, examination.result
            result.given, result.recipe = base, recipe
            result = examination.run()
            result.stale = stale
            result.remark(stale)
        if dtype == "float32" and not result.skipped:
            examination.in_float32()
        result.unjudged |= leftover
        for words, other in getattr(target, "variants", ()) if result.recipe and not result.errors else ():
            _also(result, words, other, named, seed)
        if result.recipe is not None and (unused := result.recipe.unused):
            result.findings.append(Finding("cotangent", "backward", PROTOCOL, f"{unused} is taken and not used: right "
                                           "only while it is 1", "unused-cotangent",
                                           breaks=WARNINGS["unused-cotangent"]))
        for words in result.recipe.words if result.recipe else ():
            result.remark(words)
        if asked:
            outputs, _ = quantities(subject, base)
            result.witnessed[base.id] = {f"output {i}": o for i, o in enumerate(outputs)}, {}
    except NotTried as why:
        result.twin, result.skipped = "", why.skipped
        result.unjudged |= why.unjudged
        if why.stub:
            result.findings.append(Finding("stub", "backward", STUB, f"backward {why.stub}", "stub"))
    except BaseException as error:  # exit() and the like included: it is somebody's code
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        kind = "memory" if isinstance(error, MemoryError) else "raised"
        said = "it called exit()" if isinstance(error, SystemExit) else words
        result.findings.append(Finding("raised", "", FAILED, said, kind, detail=trace_of(error)))
    link.send("result", result.to_plain())
    link.send("ready")
    while (request := link.receive()) is not None and request != ["done"]:
        link.send("answer", *confirm.answer(subject, request))

