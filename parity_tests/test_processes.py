"""Worker processes: what becomes of their deaths, and how every command leaves."""

import os
import signal
import time

import pytest

from parity import engine, processes

HANG = 60  # seconds after which a test gives up: the aim is 2, but the machine may be loaded


def doubled(number, what):
    """A task of two results, which may end its worker between them."""
    yield number
    if what == "exits":
        os._exit(3)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "raises":
        raise ValueError("no such thing")
    yield 2 * number


def told(reason, done, number, what):
    return f"{what}: {reason}", (10 * number, "left")


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


def unstarted():
    os._exit(4)


def test_a_worker_that_cannot_start_is_an_error_and_no_endless_loop():
    with pytest.raises(RuntimeError, match="could not start: exit status 4"):
        list(processes.pool(doubled, lambda place: (0, (1, "")), 1, prepare=unstarted))


def test_workers_are_gone_when_the_work_is_left_early():
    import multiprocessing

    running = processes.parallel(doubled, ((n, "") for n in range(10**9)), 2, told)
    assert next(running) == [0, 0] and len(multiprocessing.active_children()) == 2
    running.close()
    assert not multiprocessing.active_children()


def deadly(case_id, lane_names):
    """The work of a check that a case ends in one lane."""
    for outcome in engine.outcomes(engine.parse(case_id), [engine.LANES[name] for name in lane_names]):
        if ":ties:" in case_id and outcome.lane == "cpu-float32":
            os.kill(os.getpid(), signal.SIGKILL)
        yield outcome


def test_a_case_that_kills_its_worker_is_a_finding_and_the_rest_goes_on(monkeypatch):
    def run():
        return engine.check("Softmax", "cpu-*", cases=12, jobs=2)

    right = run()
    monkeypatch.setattr(engine, "_outcomes_of", deadly)
    report = run()
    assert not report.ok and report.cases == right.cases == 24
    assert report.findings
    for finding in report.findings:
        assert (finding.check, finding.lane) == ("raised", "cpu-float32") and ":ties:" in finding.case_id
        assert "the worker process died: signal 9 (SIGKILL)" in str(finding)
        assert f"parity replay '{finding.case_id}'" in str(finding)


def test_many_cases_are_drawn_as_they_are_run():
    start = time.monotonic()
    with pytest.raises(StopIteration):
        engine.check("Softmax", "cpu-float32", cases=10**12,
                     progress=lambda done, total, layer: done and next(iter(())))
    assert time.monotonic() - start < HANG
