"""The command line: what it prints, and how it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError

import pytest

import parity
from parity import check, engine, programs
from parity.cli import main

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
    assert "FAIL y" in out and "parity replay 'p1:Softmax:" in out
    case = out.split("parity replay '")[1].split("'")[0]
    assert main(["replay", case, "--lane", "cpu-float32"]) == 1


@pytest.mark.parametrize("argv", [
    ["check", "--layer", "Nothing"], ["check", "--lane", "gpu"], ["check", "--cases", "0"], ["check", "--cases", "x"],
    ["check", "--cases", "1", "--minutes", "1"], ["check", "--jobs", "0"], ["check", "--seed", "-1"], ["check", "x"],
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


def test_last_failed(capsys, broken):
    assert main(["check", "--last-failed"]) == 0 and "nothing failed" in capsys.readouterr().out
    assert main(QUICK) == 1
    assert main(["check", "--last-failed", "--jobs", "1"]) == 1
    assert "FAILED: 6 cases" in capsys.readouterr().out


def test_a_right_run_forgets_what_failed(broken, monkeypatch):
    assert main(QUICK) == 1 and engine.LAST_FAILED.exists()
    monkeypatch.setattr(engine, "run_port", programs.run_port)
    assert main(QUICK) == 0 and not engine.LAST_FAILED.exists()


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
    check("Softmax", "cpu-*", cases=11, progress=lambda *state: seen.append(state))
    assert seen == [(0, 22, "starting"), *((done, 22, "Softmax") for done in range(2, 23, 2))]


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_with_the_table_of_what_was_done(jobs):
    run = subprocess.Popen(
        [sys.executable, "-m", "parity", "check", "--layer", "Softmax", "--minutes", "5", "--jobs", jobs],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"})
    shown = b""
    while b"Softmax" not in shown:  # the progress bar names it once the first cases are done
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


def test_calibrate_finds_planted_errors_and_no_false_alarm(capsys):
    assert main(["calibrate", "--cases", "120", "--jobs", "1", "--json", "c.json"]) == 0
    with open("c.json") as file:
        found = json.load(file)
    assert found["cases"] == 120 and not found["alarms"]
    assert found["rules"]["parity"]["found, all patterns"] > 0.5
