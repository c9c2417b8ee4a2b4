"""An assignment: what every submission has to define, what it is given, and how many points each part is worth."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError

KEYS = {"backward", "points", "inputs", "arguments", "make", "also", "tolerance"}
ARRAY_KEYS = {"shape", "below", "positive", "probabilities", "one_hot", "gradient"}
SAME = 1e-7  # relative: outputs of a submission and of the official solution
PASSED, FAILED, MISSING = "right", "wrong", "not there"


@dataclass(frozen=True)
class Task:
    """A function or class that a submission has to define.

    Attributes:
        name: of the forward function, or of the class.
        backward: name of the backward function; empty for a class, and for one that gives its gradient itself.
        kind: ``function`` or ``class``.
        points: that it is worth.
        tolerance: relative error that a gradient may have beyond its budget.
        configurations: each a dict with ``inputs`` (by name a shape, or a table with ``shape`` and what it holds),
            ``arguments`` (by name a value) and ``make`` (the constructor's, likewise).
    """

    name: str
    backward: str = ""
    kind: str = "function"
    points: float = 1.0
    tolerance: float = 0.0
    configurations: tuple[dict[str, Any], ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input."""
        return {n: tuple(a["shape"] if isinstance(a, dict) else a) for n, a in self.configurations[0]["inputs"].items()}

    @property
    def differentiable(self) -> list[str]:
        """The inputs whose gradient is asked for: no labels, and none that says that it has none."""
        return [n for n, a in self.configurations[0]["inputs"].items() if not isinstance(a, dict) or not (
            "below" in a or a.get("one_hot") or a.get("gradient") is False)]


@dataclass(frozen=True)
class Assignment:
    """The tasks of a file, its title, and a digest of its text."""

    title: str
    tasks: tuple[Task, ...]
    digest: str


@dataclass
class Row:
    """What one submission got for one task.

    Attributes:
        submission, task: path and name.
        verdict: of the audit, or ``not there``.
        points, of: got, and possible: each gradient counts alike.
        why: the first finding, or what was not judged.
        judged: names of the gradients that were.
        seconds: it took.
        digest: of the submission's text.
    """

    submission: str
    task: str
    verdict: str
    points: float
    of: float
    why: str = ""
    judged: list[str] = field(default_factory=list)
    seconds: float = 0.0
    digest: str = ""


def read(path: str | Path) -> Assignment:
    """The assignment of a TOML file.

    Raises:
        UsageError: it cannot be read, or says something that means nothing.
    """
    try:
        text = Path(path).read_bytes()
        plain = tomllib.loads(text.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: no assignment: {error}") from error
    if unknown := plain.keys() - {"title", "functions", "classes"}:
        raise UsageError(f"{path}: unknown {', '.join(sorted(unknown))}, known are title, functions, classes")
    tasks = [_task(path, kind, name, table) for kinds, kind in (("functions", "function"), ("classes", "class"))
             for name, table in plain.get(kinds, {}).items()]
    if not tasks:
        raise UsageError(f"{path}: neither functions nor classes are asked for")
    return Assignment(str(plain.get("title", Path(path).stem)), tuple(tasks), hashlib.sha256(text).hexdigest())


def _task(path: str | Path, kind: str, name: str, table: Any) -> Task:
    where = f"{path}: {name}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is {table!r}, expected a table")
    if unknown := table.keys() - KEYS:
        raise UsageError(f"{where}: unknown {', '.join(sorted(unknown))}, "
                         f"known are {', '.join(sorted(KEYS))}")
    points, tolerance = table.get("points", 1.0), table.get("tolerance", 0.0)
    for word, number in (("points", points), ("tolerance", tolerance)):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
            raise UsageError(f"{where}: {word} is {number!r}, expected a number of at least 0")
    configurations = []
    for extra in ({}, *table.get("also", ())):
        found = {key: {**table.get(key, {}), **extra.get(key, {})} for key in ("inputs", "arguments", "make")}
        if unknown := extra.keys() - found.keys():
            raise UsageError(f"{where}: also has unknown {', '.join(sorted(unknown))}")
        for input_name, array in found["inputs"].items():
            _checked(f"{where}: input {input_name}", array)
        if not found["inputs"]:
            raise UsageError(f"{where}: no inputs")
        configurations.append(found)
    return Task(name, str(table.get("backward", "")), kind, float(points), float(tolerance), tuple(configurations))


def _checked(where: str, array: Any) -> None:
    shape = array.get("shape") if isinstance(array, dict) else array
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise UsageError(f"{where} has shape {shape!r}, expected a list of sizes")
    if isinstance(array, dict) and (unknown := array.keys() - ARRAY_KEYS):
        raise UsageError(f"{where} has unknown {', '.join(sorted(unknown))}, known are {', '.join(sorted(ARRAY_KEYS))}")


def digest_of(path: Path) -> str:
    """A digest of what a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows(path: Path, report: Any, assignment: Assignment, baseline: Any = None) -> list[Row]:
    """What one submission got.

    Args:
        path: of the submission.
        report: its ``Report``.
        assignment: what was asked for.
        baseline: the ``Report`` of the official solution; None for none.
    """
    known = known_of(baseline) if baseline is not None else {}
    official = {r.name: r for r in baseline.results} if baseline is not None else {}
    digest = digest_of(path)
    results = {r.name: r for r in report.results}
    found = []
    for task in assignment.tasks:
        result = results.get(task.name)
        if result is None:
            why = next(iter(report.failed), "") or "it is not defined"
            found.append(Row(str(path), task.name, MISSING, 0.0, task.points, why, digest=digest))
            continue
        errors = [f for f in result.errors if (task.name, key(f)) not in known]
        unjudged = {n: w for n, w in result.unjudged.items() if (task.name, f"not judged {n}") not in known}
        wanted = set(official[task.name].judged if task.name in official else task.differentiable)
        unjudged |= {n: "no gradient of it was given" for n in sorted(wanted - set(result.judged)) if n not in unjudged
                     and not any(f.quantity == f"grad.{n}" for f in result.findings)}
        bad = {f.quantity.removeprefix("grad.") for f in errors} | set(unjudged)
        other = _other(task, result, official.get(task.name))
        whole = any(not f.quantity.startswith("grad.") for f in errors) or bool(other or result.skipped)
        right = [n for n in result.judged if n not in bad]
        total = len(wanted | set(result.judged) | bad)
        share = len(right) / total if total and not whole else 0.0
        why = other or (f"{errors[0].where}: {errors[0].diagnosis or errors[0].verdict}" if errors else result.skipped
                        or "; ".join(f"not judged: {n}, {w}" for n, w in unjudged.items()))
        verdict = PASSED if share == 1.0 else FAILED
        found.append(Row(str(path), task.name, verdict, round(task.points * share, 3), task.points, why,
                         list(result.judged), round(result.seconds, 3), digest))
    return found


def _other(task: Task, result: Any, official: Any) -> str:
    """Why it is another function than what was asked for; empty where nothing says so."""
    if result.skipped or result.given is None:
        return ""
    if {n: np.shape(a) for n, a in result.given.inputs.items()} != task.shapes:
        return "it was not run on the inputs that were asked for"
    if official is None or not official.witnessed or not _same(official.given.params, result.given.params):
        return ""
    (right,), (own,) = ([o for o, _ in r.witnessed.values()] or [{}] for r in (official, result))
    return "" if _same(right, own) else "forward gives something else than the official solution"


def _same(right: dict[str, Any], own: dict[str, Any]) -> bool:
    return len(right) == len(own) and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, SAME, SAME)
        for a, b in zip(right.values(), own.values(), strict=True))


def key(finding: Any) -> str:
    """By what a finding is the same in another submission."""
    return f"{finding.check} {finding.quantity} {finding.kind} {finding.words}"


def known_of(report: Any) -> dict[tuple[str, str], Any]:
    """What the official solution has too: its findings and what of it was not judged, by task."""
    found: dict[tuple[str, str], Any] = {}
    for result in report.results:
        found |= {(result.name, key(f)): f for f in result.errors}
        found |= {(result.name, f"not judged {n}"): why for n, why in result.unjudged.items()}
    return found


def to_csv(found: Iterable[Row]) -> str:
    """The rows as a table with a head."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["submission", "task", "verdict", "points", "of", "why"])
    for r in found:  # a cell that begins like a formula is text
        cells = [r.submission, r.task, r.verdict, f"{r.points:g}", f"{r.of:g}", r.why]
        writer.writerow([f"'{c}" if c[:1] in ("=", "+", "-", "@") else c for c in cells])
    return out.getvalue()


def to_junit(title: str, found: Iterable[Row]) -> str:
    """The rows as JUnit's XML: a suite a submission, a test a task."""
    found = list(found)
    root = ElementTree.Element("testsuites", name=title)
    for submission in dict.fromkeys(r.submission for r in found):
        own = [r for r in found if r.submission == submission]
        suite = ElementTree.SubElement(root, "testsuite", name=submission, tests=str(len(own)),
                                       failures=str(sum(r.verdict != PASSED for r in own)),
                                       time=f"{sum(r.seconds for r in own):.3f}")
        for r in own:
            case = ElementTree.SubElement(suite, "testcase", classname=submission, name=r.task, time=f"{r.seconds:.3f}")
            if r.verdict != PASSED:
                ElementTree.SubElement(case, "failure", message=f"{r.verdict}: {r.points:g} of {r.of:g}").text = r.why
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def to_json(assignment: Assignment, found: Iterable[Row], baseline: str) -> dict[str, Any]:
    """Everything as plain values, from which a later run goes on."""
    return {"format": 1, "assignment": assignment.title, "digest": assignment.digest, "baseline": baseline,
            "rows": [asdict(r) for r in found]}


def kept(plain: Any, assignment: Assignment, baseline: str) -> dict[tuple[str, str], list[Row]]:
    """The rows of an earlier run of this very assignment, by submission and its digest; none of another's.

    Raises:
        UsageError: it is no such file.
    """
    try:
        if plain["format"] != 1 or plain["digest"] != assignment.digest or plain["baseline"] != baseline:
            return {}
        found: dict[tuple[str, str], list[Row]] = {}
        for row in plain["rows"]:
            found.setdefault((row["submission"], row["digest"]), []).append(Row(**row))
        return found
    except (KeyError, TypeError) as error:
        raise UsageError(f"what --json names is no result of an assignment: {error!r}") from error
