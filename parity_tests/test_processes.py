"""Worker processes: what becomes of their deaths, and how every command leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import torch

from parity import cli, engine, processes
from parity.catalogue import CATALOGUE
from parity.training import lockstep
from parity_tests.tasks import doubled, told, unstarted

HANG = 60  # seconds after which a test gives up: the aim is 2, but the machine may be loaded


def test_a_dead_worker_loses_its_own_item_alone():
    deaths = {3: "exits", 5: "killed", 6: "crashes"}
    tasks = [(number, deaths.get(number, "")) for number in range(8)]
    found = list(processes.parallel(doubled, tasks, 2, told))
    reasons = {3: "exit status 3", 5: "signal 9 (SIGKILL)", 6: "signal 11 (SIGSEGV)"}
    assert found == [[n, 2 * n] if n not in deaths else [n, f"{deaths[n]}: {reasons[n]}", 10 * n, 20 * n]
                     for n in range(8)]


def test_an_exception_in_a_worker_is_one_here():
    with pytest.raises(RuntimeError, match="ValueError: no such thing, in a worker"):
        list(processes.parallel(doubled, [(1, ""), (2, "raises")], 2, told))


def test_a_worker_that_cannot_start_is_an_error_and_no_endless_loop():
    with pytest.raises(RuntimeError, match="could not start: exit status 4"):
        list(processes.pool(doubled, lambda place: (0, (1, "")), 1, prepare=unstarted))


def test_workers_are_gone_when_the_work_is_left_early():
    import multiprocessing

    running = processes.parallel(doubled, ((n, "") for n in range(10**9)), 2, told)
    assert next(running) == [0, 0] and len(multiprocessing.active_children()) == 2
    running.close()
    assert not multiprocessing.active_children()


DEADLY = re.compile(":(ties|wide|uniform):")


def deadly(catalogue, case_id, lane_names):
    """The work of a check that a case ends in one lane."""
    for outcome in engine.outcomes(engine.parse(case_id, catalogue), [engine.LANES[name] for name in lane_names]):
        if DEADLY.search(case_id) and outcome.lane == "cpu-float32":
            os.kill(os.getpid(), signal.SIGKILL)
        yield outcome


def test_a_case_that_kills_its_worker_is_a_finding_and_the_rest_goes_on(monkeypatch):
    def run(jobs=2):
        return engine.check("Softmax", "cpu-float[36]?", cases=12, jobs=jobs)

    right = run(jobs=1)
    monkeypatch.setattr(engine, "_outcomes_of", deadly)
    report = run()
    assert not report.ok and report.cases == right.cases == 24
    assert report.findings
    for finding in report.findings:
        assert (finding.check, finding.lane) == ("raised", "cpu-float32") and DEADLY.search(finding.case_id)
        assert "the worker process died: signal 9 (SIGKILL)" in str(finding)
        assert f"parity replay '{finding.case_id}'" in str(finding)


def test_many_cases_are_drawn_as_they_are_run():
    start = time.monotonic()
    with pytest.raises(StopIteration):
        engine.check("Softmax", "cpu-float32", cases=10**12,
                     progress=lambda done, total, layer: done and next(iter(())))
    assert time.monotonic() - start < HANG


# --- threads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("run", [
    lambda: engine.replay(engine.draw(CATALOGUE["Softmax"], 0, 0).id, "cpu-float32"),
    lambda: engine.check("Softmax", "cpu-float32", cases=1),
    lambda: lockstep.lockstep("plain", steps=1, batch_size=2, hidden_size=2, wordvec_size=2),
], ids=["replay", "check", "lockstep"])
def test_one_thread_computes_and_the_callers_number_stands_again(run, monkeypatch, two_threads):
    seen = []
    for module, name in ((engine, "yardsticks"), (lockstep, "clip_grads")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real: seen.append(torch.get_num_threads()) or real(*a))
    run()
    assert seen and set(seen) == {1} and torch.get_num_threads() == 2


@pytest.mark.parametrize(("given", "argv", "number"), [
    ({}, ["lockstep"], "1"), ({}, ["lockstep", "--threads", "3"], "3"), ({"OMP_NUM_THREADS": "4"}, ["check"], "4"),
    ({"OMP_NUM_THREADS": "4"}, ["lockstep", "--threads=2"], "2"),
])
def test_the_number_of_threads_is_chosen_before_numpy_is_there(given, argv, number, monkeypatch):
    for name in processes.THREAD_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    cli.choose_threads(argv)
    assert {os.environ[name] for name in processes.THREAD_VARIABLES} == {number}


# --- ways out --------------------------------------------------------------------------------------------------

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds what is left by /proc")
CHECK = ["check", "--layer", "Softmax", "--lane", "cpu-*", "--minutes", "5", "--jobs"]


class Command:
    """A run of the command whose processes, in whatever session, are known by their environment."""

    def __init__(self, *argv, python=(), **options):
        self.mark = uuid.uuid4().hex
        given = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            [sys.executable, *python, "-m", "parity", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=given | {"FORCE_COLOR": "1", "TERM": "xterm", "PARITY_MARK": self.mark},
            **options)

    def living(self):
        """Ids of its processes that are no zombies."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if (self.mark.encode() in (folder / "environ").read_bytes()
                            and b") Z " not in (folder / "stat").read_bytes()):
                        found.append(int(folder.name))
                except OSError:  # gone, or somebody else's
                    continue
        return found

    def wait_for(self, stream, text):
        shown = b""
        while text not in shown:
            piece = getattr(self.process, stream).read1()
            assert piece, shown
            shown += piece

    def wait_until(self, condition):
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < HANG and self.process.poll() is None
            time.sleep(0.02)

    def send(self, number, group=True):
        (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self):
        """Return code, output and errors, once nothing lives any more."""
        out, err = self.process.communicate(timeout=HANG)
        start = time.monotonic()
        while self.living():
            assert time.monotonic() - start < HANG, "processes are left over"
            time.sleep(0.02)
        assert b"Traceback" not in err and b"Exception ignored" not in err, err.decode()
        return self.process.returncode, (out or b"").decode(), err.decode()


BOTH = signal.SIGINT, signal.SIGTERM
LEFT = [  # a command, both signals where there is another process, what is waited for, and what is said
    ([*CHECK, "1"], BOTH, "stderr", b"Softmax", "interrupted"),
    ([*CHECK, "2"], BOTH, "stderr", b"Softmax", "interrupted"),
    (["calibrate", "--jobs", "2"], BOTH[:1], "stderr", b"Affine", "interrupted"),
    (["flake", "--runs", "9", "--cases", "10", "--layer", "Softmax", "--lane", "cpu-*", "--jobs", "1"], BOTH[1:],
     "stderr", b"1 of 9", "false alarms"),
    (["lockstep", "--batch-size", "2", "--hidden-size", "8", "--steps", "9999"], BOTH[:1], "stdout", b"\n    2 ",
     "steps in"),
    (["mutate", "--layer", "Softmax", "--jobs", "2"], BOTH, "", b"", ""),
    (["audit", "sleeps.py"], BOTH, "", b"", "interrupted"),
]


@linux
@pytest.mark.parametrize(("argv", "number", "stream", "text", "said"), [
    pytest.param(argv, number, *rest, id=f"{number.name}-{argv[0]}-{argv[-1]}")
    for argv, numbers, *rest in LEFT for number in numbers])
def test_a_signal_ends_it_with_what_was_found_and_leaves_nothing(argv, number, stream, text, said, tmp_path):
    (tmp_path / "sleeps.py").write_text("import time; time.sleep(1000)")
    run = Command(*argv, cwd=tmp_path)
    if stream:
        run.wait_for(stream, text)
    else:
        run.wait_until(lambda: len(run.living()) > 1)
    run.send(number, group=number == signal.SIGINT)  # Ctrl-C goes to all, kill to one
    code, out, _ = run.end()
    assert code == 128 + number and said in out
    assert [p.name for p in tmp_path.iterdir() if p.name != "sleeps.py"] == []


@linux
def test_ctrl_c_twice_ends_it():
    run = Command(*CHECK, "2")
    run.wait_for("stderr", b"Softmax")
    run.send(signal.SIGINT)
    run.send(signal.SIGINT)
    assert run.end()[0] == 130


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", [b"numpy", b"torch"])
def test_a_signal_while_it_starts_ends_it(module, number):
    run = Command(*CHECK, "2", python=["-X", "importtime"])
    run.wait_for("stderr", module + b".")
    run.send(number)
    assert run.end()[0] == 128 + number


@linux
def test_ctrl_c_while_the_workers_start_ends_it():
    run = Command(*CHECK, "2")
    run.wait_until(lambda: len(run.living()) > 2)
    run.send(signal.SIGINT)
    assert run.end()[0] == 130


@linux
@pytest.mark.parametrize("argv", [[*CHECK, "2"], ["mutate", "--layer", "Softmax", "--jobs", "2"],
                                  ["audit", "sleeps.py"]], ids=lambda argv: argv[0])
def test_workers_do_not_survive_a_parent_that_is_killed(argv, tmp_path):
    (tmp_path / "sleeps.py").write_text("import time; time.sleep(1000)")
    run = Command(*argv, cwd=tmp_path)
    if argv[0] == "check":
        run.wait_for("stderr", b"Softmax")
    run.wait_until(lambda: len(run.living()) > 1)
    run.send(signal.SIGKILL, group=False)
    assert run.end()[0] == -signal.SIGKILL


@linux
@pytest.mark.parametrize("argv", [
    ["list"], ["--help"], ["check", "--help"],
    ["check", "--layer", "Softmax", "--lane", "cpu-*", "--cases", "2", "--jobs", "2", "--json", "out.json"],
    ["lockstep", "--batch-size", "2", "--hidden-size", "8", "--steps", "9999"],
], ids=lambda argv: "-".join(argv[:2]))
def test_a_pipe_that_nobody_reads_ends_it_without_a_word(argv, tmp_path):
    run = Command(*argv, cwd=tmp_path)
    run.process.stdout.close()
    run.process.stdout = None
    code, _, err = run.end()
    assert code == 128 + signal.SIGPIPE and "roken pipe" not in err
    if "--json" in argv:
        assert json.loads((tmp_path / "out.json").read_text())["cases"] == 2 * 4


@linux
def test_an_error_of_its_own_is_one_line(tmp_path):
    code = ("import sys; from parity import cli; from parity.commands import list; sys.argv = ['parity', 'list']\n"
            "list.run = lambda args: 1 / 0\nsys.exit(cli.main())")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=False)
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("parity list: error of its own: ZeroDivisionError: division by zero (")
