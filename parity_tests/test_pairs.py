"""Any two things that should compute the same: pairs, in memory and in files."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from textwrap import dedent

import numpy as np
import pytest
import torch

import parity
from parity import Pair, assert_parity, check, replay
from parity.cli import main
from parity.errors import UsageError
from parity.spec.catalogue import Catalogue

QUICK = {"lane": "cpu-float32", "cases": 8}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rms_norm(x, g):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g


def torch_rms_norm(x, g):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], g, 1e-6)


RMS = Pair("rms_norm", reference=rms_norm, port=torch_rms_norm, inputs={"x": "N T D", "g": "D"})


def linear(x, W, b):
    return x @ W + b, (x, W)


def linear_backward(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy, dy.sum(0)


AFFINE = {"x": "N D", "W": "D H", "b": "H"}
LINEAR = Pair("linear", reference=linear, backward=linear_backward, port=lambda x, W, b: x @ W + b, inputs=AFFINE)
WRONG = replace(LINEAR, name="wrong", port=lambda x, W, b: 1.01 * (x @ W) + b)


# --- the library -----------------------------------------------------------------------------------------------


def test_one_pair_or_several_are_checked():
    report = check(RMS, lane="cpu-float*", cases=4, seed=0)
    assert report.ok, report
    assert {row["quantity"] for row in report.rows} == {"y", "grad.x", "grad.g"}
    report = check([RMS, LINEAR], **QUICK)
    assert report.ok and report.layers == ["rms_norm", "linear"]
    assert check("lin*", catalogue=Catalogue([RMS, LINEAR]), **QUICK).layers == ["linear"]


def test_assert_parity_says_what_is_wrong():
    assert_parity(LINEAR, cases=4, lane="cpu-float32")
    with pytest.raises(AssertionError, match=r"wrong\.y.* in cpu-float32") as error:
        assert_parity(WRONG, cases=4, lane="cpu-float32")
    assert "print(pair.run('p1:wrong:" in str(error.value)


@pytest.mark.parametrize("case", LINEAR.cases(6, seed=0), ids=str)
def test_a_case_a_test(case):
    report = LINEAR.run(case, lane="cpu-float32")
    assert report.ok and report.cases == 1, report


def test_cases_have_something_to_judge_and_are_admitted_by_the_lanes_asked_for():
    cases = RMS.cases(40, seed=1)
    assert len(cases) == 40 and all(case.sizes["N"] for case in cases)
    assert str(cases[0]) == cases[0].id and cases[0].id.startswith("p1:rms_norm:")
    assert any(case.scale > 1 for case in cases)
    assert all(case.scale <= 1 for case in RMS.cases(40, seed=1, lane="cpu-bfloat16"))
    assert [str(case) for case in RMS.cases(3)] == [str(case) for case in RMS.cases(5)[:3]]


def test_a_replayed_finding_is_found_again():
    finding = check(WRONG, **QUICK).findings[0]
    for report in (WRONG.run(finding.case_id, finding.lane), replay(finding.case_id, finding.lane, pairs=[RMS, WRONG])):
        assert [f.share for f in report.findings if f.quantity == finding.quantity] == [finding.share]
    with pytest.raises(UsageError, match="unknown layer 'wrong', known are rms_norm"):
        replay(finding.case_id, pairs=RMS)


@pytest.mark.parametrize("arguments", [
    {"layer": 3}, {"layer": [3]}, {"layer": []}, {"layer": {"x": RMS}}, {"layer": RMS, "catalogue": "x.py"},
    {"layer": "lin*", "catalogue": RMS}, {"catalogue": "missing.py"}, {"catalogue": 3}, {"layer": [RMS, replace(RMS)]},
], ids=str)
def test_what_is_no_pair_is_refused(arguments):
    with pytest.raises(UsageError):
        check(**arguments, **QUICK)


@pytest.mark.parametrize("call", [
    lambda: RMS.cases(0), lambda: RMS.cases(3, seed=-1), lambda: RMS.cases(3, lane="gpu"), lambda: RMS.run("x"),
    lambda: replace(RMS, ranges={"N": (0,)}).cases(1), lambda: assert_parity(RMS, cases=0),
    lambda: replay("p1:x", pairs=3),
])
def test_arguments_that_mean_nothing_are_refused(call):
    with pytest.raises(UsageError):
        call()


def test_pairs_in_memory_are_refused_before_workers_start(monkeypatch):
    monkeypatch.setattr(parity.engine, "parallel", None)
    with pytest.raises(UsageError, match="rms_norm, linear live in this process alone: use jobs=1, or define them"):
        check([RMS, LINEAR], **QUICK, jobs=2)


def test_nothing_of_ours_is_loaded_for_somebodys_pairs(tmp_path):
    """Their own modules may be called ``reference`` and ``torch_port``."""
    (tmp_path / "reference.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "mine.py").write_text(dedent("""
        import sys
        from parity import Pair, check
        from reference import double
        report = check(Pair("double", reference=double, port=lambda x: x + x, inputs={"x": "N D"}), "cpu-float32",
                       cases=4)
        assert report.ok, report
        assert "torch_port" not in sys.modules and "parity.catalogue" not in sys.modules
    """))
    subprocess.run([sys.executable, "mine.py"], check=True, timeout=120)


# --- what could not be judged ----------------------------------------------------------------------------------


def test_gradients_without_a_yardstick_read_untested_and_are_no_pass():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.from_numpy(2 * x.detach().numpy())

        @staticmethod
        def backward(ctx, dy):
            return torch.from_numpy(2 * dy.numpy())

    report = check(Pair("double", reference=lambda x: 2 * x, port=Double.apply, inputs={"x": "N D"}), **QUICK)
    assert not report.findings and not report.ok
    (row,) = [row for row in report.rows if row["status"] == "untested"]
    assert (row["quantity"], row["cases"], row["worst"]) == ("grad.x", 0, None)
    assert "not made of torch's own operations: give backward=" in row["reason"]
    assert report.reasons == [f"nothing was judged of double in cpu-float32: {row['reason']}"]
    assert f"double in cpu-float32: grad.x UNTESTED, {row['reason']}" in str(report)
    json.dumps(report.to_json())


# --- files and the command line --------------------------------------------------------------------------------

FILE = """
import numpy as np
from parity import Pair

def scaled(x, g):
    return x * g

right = Pair("right", reference=scaled, port=lambda x, g: x * g, inputs={"x": "N D", "g": "D"})
wrong = Pair("wrong", reference=scaled, port=lambda x, g: 1.01 * x * g, inputs={"x": "N D", "g": "D"})
"""


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "my pairs.py").write_text(FILE)
    return str(folder / "my pairs.py")


def test_a_file_of_pairs_on_the_command_line(file, capsys):
    quick = ["--lane", "cpu-float32", "--cases", "3", "--jobs", "1"]
    assert main(["check", file, "--layer", "right", *quick]) == 0
    assert main(["list", file]) == 0
    assert "x (N D), g (D)" in capsys.readouterr().out
    assert main(["check", file, *quick, "--json", "out.json"]) == 1
    out = capsys.readouterr().out
    with open("out.json") as report:
        findings = json.load(report)["findings"]
    assert {finding["layer"] for finding in findings} == {"wrong"}
    command = f"parity replay --pairs '{file}' '{findings[0]['case_id']}' --lane cpu-float32"
    assert findings[0]["replay"] == command and command in out
    assert main(["replay", "--pairs", file, findings[0]["case_id"], "--lane", "cpu-float32"]) == 1
    assert "FAILED: 1 cases" in capsys.readouterr().out


def test_failures_are_remembered_by_file(file, tmp_path, capsys):
    quick = ["--lane", "cpu-float32", "--cases", "3", "--jobs", "1"]
    other = tmp_path / "other.py"
    other.write_text(FILE)
    assert main(["check", file, *quick]) == 1
    assert f"parity check '{file}' --last-failed runs them" in capsys.readouterr().out
    for argv in (["check", str(other), "--last-failed"], ["check", "--last-failed"]):
        with pytest.raises(SystemExit):
            main(argv)
        assert "nothing failed last time here" in capsys.readouterr().err
    assert main(["check", file, "--last-failed", "--jobs", "1"]) == 1
    (tmp_path / "a folder" / "my pairs.py").write_text(FILE.replace("1.01", "1.00"))
    assert main(["check", file, "--last-failed", "--jobs", "1"]) == 0
    assert os.listdir(".parity_cache") == []


def test_workers_load_the_file(file):
    report = check("right", "cpu-float32", catalogue=file, cases=4, jobs=2)
    assert report.ok and report.cases == 4, report
    assert check(list(Catalogue.load(file).values())[:1], "cpu-float32", cases=2, jobs=2).ok


def test_a_pair_changed_since_its_file_was_loaded_is_not_handed_on(file):
    changed = replace(Catalogue.load(file)["right"], scales=(1.0,))
    with pytest.raises(UsageError, match="live in this process alone"):
        check(changed, "cpu-float32", cases=2, jobs=2)


@pytest.mark.parametrize("text, words", {
    "nothing": ("x = 1", "no Pair at module level"),
    "syntax": ("def (", "cannot be run: SyntaxError"),
    "raises": ("import os\n1 / 0", "line 2: cannot be run: ZeroDivisionError"),
    "exits": ("import sys\nsys.exit(3)", "line 2: cannot be run: SystemExit: 3"),
    "imports": ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "wrong pair": ("from parity import Pair\nPair('x', reference=1, port=2, inputs={})",
                   "line 2: Pair x: reference is 1, expected a function"),
    "twice": (FILE + "again = Pair('right', reference=scaled, port=scaled, inputs={'x': 'N', 'g': 'N'})",
              "two entries are called 'right'"),
    "null": ("\0", "cannot be run: "),
    "bytes": (b"\xff\xfe", "cannot be run: "),
}.values(), ids=lambda value: None)
def test_a_file_that_holds_no_pairs_ends_with_2_and_one_line(tmp_path, capsys, text, words):
    path = tmp_path / "mine.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as end:
        main(["check", str(path)])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1 and f"{path}" in err and words in err
    assert sorted(os.listdir(tmp_path)) == ["mine.py"]
