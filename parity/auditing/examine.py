"""The examination of one class, object or pair of functions, in the process in which its code runs."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np

from ..judge.finding import Finding
from ..spec.spec import Spec
from . import canonical, confirm, samples
from .adapted import Adapted
from .answers import BACKWARD, FAILED, PROTOCOL, STUB, WARNINGS, Audited
from .checks import Examination
from .recognise import NotTried, Planned, recognised
from .subject import Sample, Subject, quantities
from .telling import trace_of
from .trial import GRADIENTS, Fit
from .wire import Channel


def examine(target: Any, spec: Spec | None, named: bool, seed: int, inputs: Any, link: Channel,
            dtype: str = "float64") -> None:
    """Examines it, tells what was found, and answers what is asked afterwards.

    Args:
        target: a class, an object, a pair of ``Functions``, or a ``Planned`` task of an assignment.
        spec: of its twin; None without one.
        named: whether somebody said that it is that.
        seed: of all random values.
        inputs: that somebody passed; None for none.
        link: to whoever is told.
        dtype: ``float32`` to look at that precision too.
    """
    name = target.__name__ if inspect.isclass(target) else getattr(target, "title", type(target).__name__)
    result, asked, subject = Audited(name, twin=spec.name if spec else ""), isinstance(target, Planned), None

    def emit(finding: Finding) -> None:
        link.send("finding", finding.to_plain())

    try:
        if inputs is None and (found := _recognised(target, spec, named)) is not None:
            (target, inputs), spec = found, None
            result.twin = ""
        subject = Subject(target() if inputs is not None and inspect.isclass(target) else target, spec)
        subject.name, made = name, None
        if inputs is None:
            base = samples.sample(subject, seed=seed)
            if base is None:
                raise TypeError(f"its parameters have sizes that those of {subject.entry.name} cannot have")
        else:
            base, made = _first(inputs, subject.target, subject, seed)
            subject.spec = None
        subject.base = base
        examination = Examination(subject, base, named, seed, emit)
        result = examination.result
        result.given = base if made is not None else None
        result.recipe = getattr(subject.target, "recipe", None)
        examination.run()
        if made is not None and result.errors and (stale := _as_made(subject, made, base)):
            # judged where the layer agrees with itself, which is as it was made
            base = subject.base = made
            examination = Examination(subject, base, named, seed, emit)
            recipe, result = result.recipe, examination.result
            result.given, result.recipe = base, recipe
            examination.run()
            result.stale = stale
            result.remark(stale)
        if dtype == "float32" and not result.skipped:
            examination.in_float32()
        if isinstance(subject.target, Adapted):
            _of_recipe(result, subject.target, named, seed)
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
    while (request := link.receive()) is not None and request != ["done"] and subject is not None:
        link.send("answer", *confirm.answer(subject, request))


def _recognised(target: Any, spec: Spec | None, named: bool) -> tuple[Adapted, dict[str, Any]] | None:
    """The object that a recipe runs, and its inputs, of what is not its twin by the numbers of its arguments; None of
    what is.

    Raises:
        TypeError: somebody said that it is.
        NotTried: no recipe was found.
    """
    subject = Subject(target, spec)
    misfit = subject.misfit() if spec is not None else "no twin"
    if misfit and named:
        raise TypeError(misfit)
    usual = None if misfit or named else samples.sample(subject)
    if misfit or (usual is not None and subject.unmade(usual)):
        try:
            return recognised(target)
        except NotTried:
            if misfit:
                raise
    return None


def _of_recipe(result: Audited, adapted: Adapted, named: bool, seed: int) -> None:
    """Adds what is known of a layer because a recipe runs it."""
    recipe = adapted.recipe
    result.unjudged |= adapted.leftover
    for words, other in adapted.variants if not result.errors else ():
        _also(result, words, other, named, seed)
    if recipe.unused:
        words = f"{recipe.unused} is taken and not used: right only while it is 1"
        result.findings.append(Finding("cotangent", "backward", PROTOCOL, words, "unused-cotangent",
                                       breaks=WARNINGS["unused-cotangent"]))
    for text in recipe.words:
        result.remark(text)


def _also(result: Audited, words: str, fit: Fit, named: bool, seed: int) -> None:
    """Adds what another stride, padding or mode of the same layer shows."""
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


def _first(inputs: Any, layer: Any, subject: Subject, seed: int) -> tuple[Sample, Sample]:
    """The first sample of given inputs, parameters moved off what the constructor gave; and the same with those."""
    guessed, rng = hasattr(layer, "recipe"), np.random.default_rng([seed, 29])
    names = getattr(layer, "input_names", None) or subject.accepted, getattr(layer, "param_names", None)
    made = samples.given(inputs, list(getattr(layer, "params", [])), names, seed)
    params = {n: np.array(samples.off(a, rng, guessed)) for n, a in made.params.items()}
    if seed and guessed:  # what was guessed is drawn anew
        made = replace(made, inputs={n: confirm.jitter(a, rng) for n, a in made.inputs.items()})
        params = {n: np.array(confirm.jitter(a, rng)) for n, a in params.items()}
    return replace(made, params=params), made


def _as_made(subject: Subject, made: Sample, moved: Sample) -> str:
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
