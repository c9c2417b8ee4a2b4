"""Assignments: what is asked for, who gets which points, and that no submission spoils another's."""

import csv
import io
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from parity import cli
from parity.auditing import assignment, audit_file
from parity.errors import UsageError

EXAMPLE = Path(__file__).parents[1] / "examples" / "assignment"


@pytest.fixture
def course(tmp_path):
    """The example, somewhere to write."""
    shutil.copytree(EXAMPLE, tmp_path / "course")
    return tmp_path / "course"


def graded(course, *more):
    return cli.main(["audit", "--spec", str(course / "assignment.toml"), str(course / "submissions"), *map(str, more)])


POINTS = {"ada.py": [2, 4, 2, 2], "ben.py": [0, 2.667, 2, 1.333], "cleo.ipynb": [2, 4, 0, 0]}


def test_the_example_is_graded(course, tmp_path, capsys):
    out = {name: tmp_path / f"out.{name}" for name in ("csv", "junit", "json")}
    code = graded(course, "--baseline", course / "solution.py", *(x for n, p in out.items() for x in (f"--{n}", p)))
    said = capsys.readouterr().out
    assert code == 1, said
    rows = json.loads(out["json"].read_text())["rows"]
    found = {}
    for row in rows:
        found.setdefault(Path(row["submission"]).name, []).append(row["points"])
    assert found == POINTS, said
    assert all(r["judged"] for r in rows if r["verdict"] == "right")
    assert len(list(csv.reader(io.StringIO(out["csv"].read_text())))) == 1 + len(rows)
    root = ElementTree.fromstring(out["junit"].read_text())
    assert [s.get("failures") for s in root] == ["0", "3", "2"]
    assert "forward gives something else than the official solution" in said and "it is not defined" in said
    (course / "submissions" / "ben.py").write_text((course / "solution.py").read_text())
    assert graded(course, "--baseline", course / "solution.py", "--json", out["json"]) == 1
    said = capsys.readouterr().out
    assert "2 of 3 submissions as before" in said and "ben.py  Dense: right, 2 of 2" in said


TASKS = assignment.read(EXAMPLE / "assignment.toml")


def points(file, baseline=None, **options):
    report = audit_file(file, autograd=False, tasks=TASKS.tasks, **options)
    return [r.points for r in assignment.rows(file, report, TASKS, baseline)]


def test_one_function_that_never_ends_leaves_the_others_their_points(course):
    file = course / "submissions" / "ada.py"
    text = file.read_text()
    file.write_text(text.replace("    xhat, std, gamma = cache\n", "    while True: pass\n"))
    assert points(file, seconds=3) == [2, 0, 2, 2]
    file.write_text(text.replace("    xhat, std, gamma = cache\n", "    import os; os._exit(0)\n"))
    assert points(file, seconds=3) == [2, 0, 2, 2]


def test_a_gradient_left_out_is_not_paid(course):
    file = course / "submissions" / "ada.py"
    file.write_text(file.read_text().replace("self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)",
                                             "self.dW = self.x.T @ dy"))
    official = audit_file(course / "solution.py", autograd=False, tasks=TASKS.tasks)
    assert points(file, official)[3] < 2
    assert points(file)[3] < 2


def test_what_the_official_solution_has_too_is_hidden(course):
    wrong = "dw = np.zeros_like(w)"
    file = course / "submissions" / "ada.py"
    assert wrong in file.read_text()
    for path in (file, course / "solution.py"):
        path.write_text(path.read_text().replace("dout.sum(axis=0)\n\n\ndef batch", "dout.mean(axis=0)\n\n\ndef batch"))
    official = audit_file(course / "solution.py", autograd=False, tasks=TASKS.tasks)
    assert points(file)[0] < 2 and points(file, official)[0] == 2


def test_a_tolerance_is_a_tolerance(course):
    file = course / "submissions" / "ada.py"
    text = file.read_text()
    for factor, whole in (("(1 + 1e-8)", True), ("(1 + 1e-3)", False)):
        file.write_text(text.replace("dy.sum(axis=0)\n        return", f"{factor} * dy.sum(axis=0)\n        return"))
        assert (points(file)[3] == 2) == whole


@pytest.mark.parametrize(("text", "words"), [
    ("title = 3 4", "no assignment"),
    ("title = 'x'", "neither functions nor classes"),
    ("[functions.f]\ninputs = { x = [0] }", "input x has shape [0], expected a list of sizes"),
    ("[functions.f]\ninputs = { x = [2] }\npoints = -1", "points is -1"),
    ("[functions.f]\npoints = 1", "no inputs"),
    ("[functions.f]\ninputs = { x = [2] }\nextra = 1", "unknown extra"),
    ("[functions.f]\ninputs = { x = { shape = [2], of = 3 } }", "unknown of"),
    ("[other.f]\ninputs = { x = [2] }", "unknown other"),
])
def test_an_assignment_that_means_nothing_is_refused(tmp_path, text, words):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        assignment.read(tmp_path / "a.toml")
    assert words in str(error.value)


def test_options_of_an_assignment_need_one(capsys):
    for option in ("--csv", "--junit", "--baseline"):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["audit", "x.py", option, "out"])
        assert "needs --spec" in "".join(capsys.readouterr())
