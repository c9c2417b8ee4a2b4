"""The command line: what it prints, and how it ends."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch

import parity
from parity import check, engine, sides
from parity.cases.drawing import draw
from parity.catalogue import CATALOGUE
from parity.cli import main
from parity.commands import memory
from parity.errors import UsageError
from parity.judge import verdict
from parity.spec.catalogue import Catalogue

QUICK = ["check", "--layer", "Softmax", "--lane", "cpu-float32", "--cases", "8", "--jobs", "1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broken(monkeypatch):
    """A port whose softmax is a little wrong."""
    real = engine.run_port
    monkeypatch.setattr(engine, "run_port", lambda *args: (q := real(*args)) | {"y": q["y"] * 1.01})


def usage(*argv):
    with pytest.raises(SystemExit) as end:
        main(list(argv))
    return end.value.code


def test_a_right_layer_ends_with_0_and_a_table(capsys):
    assert main(QUICK) == 0
    out = capsys.readouterr().out
    assert "Softmax" in out and "cpu-float32" in out and "%" in out and "all within budget: 8 cases" in out


def test_a_wrong_layer_ends_with_1_and_a_command_that_replays_it(capsys, broken):
    assert main(QUICK) == 1
    out = capsys.readouterr().out
    assert "FAIL y" in out and "parity replay 'p2:Softmax:" in out
    case = out.split("parity replay '")[1].split("'")[0]
    assert main(["replay", case, "--lane", "cpu-float32"]) == 1


@pytest.mark.parametrize("argv", [
    ["check", "--layer", "Nothing"], ["check", "--lane", "gpu"], ["check", "--cases", "0"], ["check", "--cases", "x"],
    ["check", "--cases", "1", "--minutes", "1"], ["check", "--jobs", "0"], ["check", "--seed", "-1"], ["check", "x"],
    ["check", "x", "y"],
    ["check", "--json", "/nowhere/x.json"], ["check", "--require", "tpu"], ["replay"], ["replay", "x"], ["nonsense"],
])
def test_wrong_usage_ends_with_2_and_one_line_that_says_what(capsys, argv):
    assert usage(*argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("parity")


def test_json(capsys):
    assert main([*QUICK, "--json", "out.json", "--seed", "3"]) == 0
    with open("out.json") as file:
        found = json.load(file)
    assert found["seed"] == 3 and found["factor"] == 8 and found["cases"] == 8
    assert {"python", "numpy", "torch"} <= set(found["versions"]) and set(found["devices"]) == {"cpu-float32"}
    for row in found["rows"]:
        assert list(row) == ["layer", "lane", "quantity", "cases", "worst", "status", "case_id"]
        assert row["status"] == "ok"
    assert os.listdir() == ["out.json"]


def test_json_of_a_failure(broken):
    assert main([*QUICK, "--json", "out.json"]) == 1
    with open("out.json") as file:
        found = json.load(file)
    assert {row["quantity"]: row["status"] for row in found["rows"]} == {"y": "fail", "grad.x": "ok"}
    assert found["findings"][0]["replay"].startswith("parity replay")


LAST = [*QUICK[:5], "--last-failed", "--jobs", "1"]


def remembered():
    return [tuple(pair) for pair in json.loads(memory.FILE.read_text())]


def test_last_failed(capsys, broken):
    assert usage(*LAST) == 2 and "nothing failed last time here" in capsys.readouterr().err
    assert main(QUICK) == 1
    assert f"8 failed cases are remembered in {memory.FILE}" in capsys.readouterr().out
    assert main(LAST) == 1
    assert "FAILED: 8 cases" in capsys.readouterr().out


def test_a_right_run_forgets_what_failed(capsys, broken, monkeypatch):
    assert main(QUICK) == 1 and memory.FILE.exists()
    monkeypatch.setattr(engine, "run_port", sides.run_port)
    assert main(LAST) == 0 and not memory.FILE.exists()
    assert f"remembered in {memory.FILE} fails any more" in capsys.readouterr().out


def test_only_what_was_run_and_passes_is_forgotten(broken, monkeypatch):
    assert main(QUICK) == 1
    failed = remembered()
    monkeypatch.setattr(engine, "run_port", sides.run_port)
    assert main(["check", "--layer", "Affine", *QUICK[3:]]) == 0
    assert remembered() == failed
    (memory.FILE).write_text(json.dumps([*failed, (failed[0][0], "cpu-float64")]))
    assert main(LAST) == 0  # in the lane of QUICK alone
    assert remembered() == [(failed[0][0], "cpu-float64")]


@pytest.mark.parametrize("text", ["{", "[1]", '[["x"]]', "{}", '[["p2:Softmax", 3]]', "\x00"])
def test_a_damaged_memory_is_named_and_mended(capsys, broken, monkeypatch, text):
    memory.FILE.parent.mkdir()
    memory.FILE.write_text(text)
    assert usage(*LAST) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{memory.FILE} is damaged" in err
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_port", sides.run_port)
        assert main(QUICK) == 0 and memory.FILE.read_text() == text
    assert main(QUICK) == 1 and len(remembered()) == 8
    assert "was damaged, and is written anew" in capsys.readouterr().out


@pytest.mark.parametrize("pair", [["x", "cpu-float32"], ["p2:Softmax:", "cpu-float32"], ["", "gpu"]])
def test_a_memory_of_what_is_no_case_is_wrong_usage(capsys, pair):
    memory.FILE.parent.mkdir()
    memory.FILE.write_text(json.dumps([pair]))
    assert usage("check", "--last-failed") == 2 and capsys.readouterr().err.count("\n") == 1


def test_the_library_writes_nothing(broken):
    assert not check("Softmax", "cpu-float32", cases=8).ok
    assert os.listdir() == []


@pytest.mark.parametrize("options", [
    {"cases": True}, {"cases": 1.5}, {"cases": 0}, {"cases": "3"}, {"cases": float("nan")}, {"seed": None},
    {"minutes": float("nan")}, {"minutes": float("inf")}, {"minutes": -1}, {"minutes": 0}, {"minutes": True},
    {"minutes": "1"}, {"jobs": float("nan")}, {"jobs": 0}, {"jobs": 2.0}, {"seed": "0"}, {"seed": 0.5}, {"seed": True},
    {"seed": -1}, {"require": "cuda"}, {"require": ["cuda"]}, {"require": ["tpu"]}, {"cases": 1, "minutes": 1},
    {"cases": 1, "only": []}, {"only": ["x"]}, {"only": [("x", "cpu-float32")]}, {"only": [("x", "gpu")]},
    {"layer": None}, {"layer": ""}, {"lane": 3},
], ids=str)
def test_arguments_that_mean_nothing_are_refused(options):
    with pytest.raises(UsageError):
        check(**{"layer": "Softmax", "lane": "cpu-float32"} | options)


@pytest.mark.parametrize("flags", [["--minutes", "nan"], ["--minutes", "inf"], ["--minutes", "-1"], ["--cases", "1.5"],
                                   ["--require", "cuda"]], ids=" ".join)
def test_flags_that_mean_nothing_end_with_2(capsys, flags):
    assert usage(*QUICK[:5], *flags) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_empty_catalogue_is_no_pass():
    with pytest.raises(UsageError, match="none to choose from"):
        check(catalogue=Catalogue([]))


def test_a_number_of_numpys_is_a_number():
    assert check("Affine", "cpu-float32", cases=np.int64(3), seed=np.uint8(1)).ok


EMPTY = "p2:Softmax:lead=0,V=3:normal:1:C::1"


def test_no_gradient_judged_is_no_pass(capsys):
    """Every array of the case is empty: it would agree with anything."""
    assert main(["replay", EMPTY, "--lane", "cpu-float32"]) == 1
    assert "nothing was judged of Softmax in cpu-float32" in capsys.readouterr().out
    report = check(only=[(EMPTY, "cpu-float32"), (EMPTY.replace("=0", "=2"), "cpu-float64")])
    assert report.reasons == [
        "nothing was judged of Softmax in cpu-float32: no case, or no gradient with an entry in it"]
    rows = [row for row in report.rows if row["lane"] == "cpu-float32"]
    assert rows and all((row["status"], row["cases"], row["worst"]) == ("untested", 0, None) for row in rows)
    assert all(row["status"] == "ok" for row in report.rows if row["lane"] == "cpu-float64")


def test_an_output_alone_is_not_enough_where_there_are_gradients():
    report = check(only=[("p2:SoftmaxWithLoss:N=0,V=3:normal:1:C:one_hot=0:1", "cpu-float32")])
    assert {row["quantity"]: row["status"] for row in report.rows if row["lane"] == "cpu-float32"} == {
        "loss": "ok", "grad.x": "untested"}
    assert not report.ok


def test_a_layer_that_time_did_not_reach_is_no_pass(monkeypatch):
    monkeypatch.setattr(engine.time, "monotonic", iter(range(1000)).__next__)
    report = check("Time*", "cpu-float32", minutes=0.05)
    assert report.cases and not report.ok and "nothing was judged of Time" in report.summary()


def test_replay_in_lanes_that_cannot_run_is_no_pass(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["replay", EMPTY.replace("=0", "=2"), "--lane", "cuda-*"]) == 1
    assert "nothing was judged: every lane is UNTESTED" in capsys.readouterr().out


def test_a_lane_that_cannot_run_is_no_failure_beside_one_that_can(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check("Softmax", cases=8).ok


def test_the_closing_line_says_what_was_required(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["check", "--layer", "Softmax", "--require", "cuda", "--cases", "8", "--jobs", "1"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("FAILED: 32 cases")
    assert "cuda-float64 and cuda-float32 and cuda-bfloat16 and cuda-float16 required, and cannot run: " in last


def test_a_port_that_raises_for_the_witnesses_only_is_still_a_finding(monkeypatch):
    real = engine.run_port
    monkeypatch.setattr(engine, "run_port", lambda *args: (q := real(*args)) | {"y": q["y"] * 1.01})

    def refuses(*args):
        raise TypeError("float64 is not for us")

    monkeypatch.setattr(verdict, "run_port", refuses)
    report = check("Softmax", "cpu-float32", cases=8)
    assert len(report.findings) == 8
    said = report.findings[0]
    assert (said.verdict, said.diagnosis) == ("port", "raises TypeError in float64: float64 is not for us")
    assert not engine.replay(said.case_id, "cpu-float32").ok


def test_ctrl_c_while_the_witnesses_speak_keeps_the_report(monkeypatch, broken):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "verdict", interrupted)
    report = check("Softmax", "cpu-float32", cases=8)
    assert report.interrupted and len(report.findings) == 8 and not report.ok


@pytest.mark.parametrize("argv", [QUICK, ["calibrate", *QUICK[1:]], ["flake", *QUICK[1:]],
                                  ["lockstep", "--steps", "1", "--hidden-size", "4"]], ids=lambda argv: argv[0])
def test_what_cannot_be_written_is_on_the_screen(capsys, monkeypatch, argv):
    def full(source, target, replace=os.replace):
        if target.endswith("out.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert usage(*argv, "--json", "out.json") == 2
    assert os.listdir() == []
    shown = capsys.readouterr()
    assert " cases" in shown.out or "1 steps" in shown.out
    assert shown.err.splitlines()[-1] == f"parity {argv[0]}: [Errno 28] No space left on device: 'out.json'"


def test_cases_are_drawn_as_they_are_run(monkeypatch):
    drawn, at = [], []
    monkeypatch.setattr(engine, "draw", lambda *args: drawn.append(args) or draw(*args))

    def progress(done, total, layer):
        at.append((len(drawn), done, total))
        if done:
            raise KeyboardInterrupt

    check("Softmax", "cpu-float32", cases=300_000, progress=progress)
    assert at == [(0, 0, 300_000), (1, 1, 300_000)]


@pytest.mark.parametrize("width", ["80", "40"])
@pytest.mark.parametrize("argv", [["list"], ["check", "--lane", "*64", "--cases", "1", "--jobs", "1"],
                                  ["replay", "p2:Softmax:lead=2,V=3:normal:1:C::1"],
                                  ["calibrate", "--layer", "*AttentionEn*", "--cases", "4", "--jobs", "1"]],
                         ids=lambda argv: argv[0])
def test_names_are_never_cut(capsys, monkeypatch, width, argv):
    monkeypatch.setenv("COLUMNS", width)
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        main(argv)
        out = capsys.readouterr().out
        assert "…" not in out
        names = {"replay": ["cpu-float64", "grad.x"], "calibrate": ["assert_close", "AttentionEncoder"]}
        for name in names.get(argv[0], [*CATALOGUE, "cpu-float64", "cuda-float64"]):
            assert name in out


def test_the_number_of_processes_changes_nothing():
    def rows(jobs):
        return check("*Embedding", "cpu-*", cases=11, seed=1, jobs=jobs).rows

    assert rows(1) == rows(2)


def test_minutes(capsys):
    start = time.monotonic()
    assert main(["check", "--layer", "Softmax", "--lane", "cpu-*", "--minutes", "0.02", "--jobs", "1"]) == 0
    assert time.monotonic() - start > 1.2


def test_progress():
    seen = []
    check("Softmax", "cpu-float[36]*", cases=11, progress=lambda *state: seen.append(state))
    assert seen == [(0, 22, "starting"), *((done, 22, "Softmax") for done in range(1, 23))]


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_with_the_table_of_what_was_done(jobs):
    run = subprocess.Popen(
        [sys.executable, "-m", "parity", "check", "--layer", "Affine", "--minutes", "5", "--jobs", jobs],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"})
    shown = b""
    while b"Affine" not in shown:  # the progress bar names it once the first cases are done
        shown += (piece := run.stderr.read1())
        assert piece, shown
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert b"interrupted" in out and b"%" in out and b"Traceback" not in err
    assert run.returncode == 130


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "TimeAttention" in out and "cuda-float32" in out
    assert main(["list", "--layer", "Soft*"]) == 0


@pytest.mark.parametrize("argv", [["--help"], ["check", "--help"], ["--version"]])
def test_help(capsys, argv):
    try:
        assert main(argv) == 0
    except SystemExit as end:
        assert end.code == 0
    assert "parity" in capsys.readouterr().out


def test_version_says_which_copy_runs(capsys, monkeypatch):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"parity \S.*, in (.+)\n", out := capsys.readouterr().out), out
    assert os.path.samefile(os.path.join(out.strip().split(", in ")[1], "parity"), os.path.dirname(parity.__file__))
    monkeypatch.setattr("importlib.metadata.version", lambda name: (_ for _ in ()).throw(PackageNotFoundError(name)))
    assert main(["--version"]) == 0 and "not installed, in " in capsys.readouterr().out


def test_other_code_in_this_folder_is_named_in_one_line(capsys, tmp_path):
    where = os.path.dirname(os.path.dirname(parity.__file__))
    for name in ("parity", "reference", "torch_port"):
        shutil.copytree(os.path.join(where, name), tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert main(["list", "--layer", "Softmax"]) == 0 and capsys.readouterr().err == ""
    for change in (lambda path: path.write_text("pass\n"), os.unlink):
        change(tmp_path / "reference" / "gru.py")
        assert main(["list", "--layer", "Softmax"]) == 0
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and where in err and os.path.join("reference", "gru.py") in err
