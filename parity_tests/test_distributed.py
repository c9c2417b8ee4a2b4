"""Several processes that train one model."""

import os
import signal
import socket
import subprocess
import sys

import pytest
import torch

import reference
from torch_port import train
from torch_port.training.checkpoint import unpack

from . import survival
from .forks import WAIT, Forks

H = 8
SHORT = ["--epochs", "2", "--hidden-size", H, "--batch-size", "32", "--no-plots", "--checkpoint-every", "4"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and gloo between them, on the loopback device")


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "dates.txt"
    reference.write_dates(path, 200)  # 180 for training: batches of 32, the last of 20
    return path


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("output")) as forks:
        yield forks


def ends(processes, code=0):
    for process in processes:
        process.wait()
    assert [process.code for process in processes] == [code] * len(processes), [p.err for p in processes]


GRADIENTS = """if True:
    import numpy
    from torch_port.training import run as training
    from torch_port.training.process import Screen, Signals
    from torch_port.training.settings import parse
    torch.set_default_dtype(torch.float64)
    run = training.Run(parse(sys.argv[1:]).fresh(), Signals(False), Screen(False))
    run.model.loss.ignore_label = run.data.characters.index("1")  # more in some answers than in others
    run.labels = (run.data.train[1][:, 1:] != run.model.loss.ignore_label).sum(axis=1)
    training.clip_grads = lambda parameters, norm: grads.append([p.grad.clone() for p in parameters])
    run.optimizer.step = lambda: None
    x, t = (torch.from_numpy(ids) for ids in run.data.train)
    grads = []
    for rows in (7, 2, 1, 64):
        run._learn(x, t, numpy.arange(rows))
    losses = run._joint_losses()
    torch.save([grads, losses], f"{sys.argv[2]}.{run.team.size}.{run.team.rank}")
    run.close()
    sys.exit(0)
"""


def test_a_steps_gradient_is_that_of_the_joint_batch(forks, dates, tmp_path):
    out = tmp_path / "out"
    for size in (1, 2, 3):
        ends(forks.team(size, "--out", f"{out}{size}", "--data", dates, "--hidden-size", H, "--no-plots",
                        before=GRADIENTS.replace("sys.argv[2]", repr(str(out)))))
    alone, losses = torch.load(f"{out}.1.0")
    # each way adds the same numbers in another order: at most the longest chain of additions, a rounding each
    chain = (29 + 10) * 5 * H + 64 * 10
    for size, rank in ((2, 0), (2, 1), (3, 0), (3, 2)):
        found, joint = torch.load(f"{out}.{size}.{rank}")
        assert joint == pytest.approx(losses, rel=chain * 2**-53)
        for expected, got in zip(alone, found, strict=True):
            for a, b in zip(expected, got, strict=True):
                assert a.abs().max() > 0
                assert (a - b).abs().max() <= chain * 2**-53 * a.abs().max()


PAUSE = """if True:
    import itertools, signal
    from torch_port.training import run as training
    clip, calls = training.clip_grads, itertools.count(1)
    def clip_grads(*arguments):
        if next(calls) == 5 and os.environ.get("RANK", "0") == RANK:
            ACT
        return clip(*arguments)
    training.clip_grads = clip_grads
"""


def at_the_fifth_step(rank, act):
    return PAUSE.replace("RANK:", f"'{rank}':").replace("ACT", act)


def distance(a, b):
    a, b = (unpack(folder / "last.pt")["model"] for folder in (a, b))
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_a_run_of_two_is_that_of_one_can_be_paused_and_continued_by_any_number(forks, dates, tmp_path):
    def folder(name):
        return ["--out", tmp_path / name]

    given = [*SHORT, "--data", dates]
    assert train.main([*map(str, [*given, *folder("one")])]) == 0
    assert train.main([*map(str, [*given, *folder("other"), "--seed", 1])]) == 0
    first, second = pair = forks.team(2, *given, *folder("two"))
    ends(pair)
    assert "2 processes" in first.out and "epoch 2: " in first.out and (second.out, second.err) == ("", "")
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-5 < 1e-3 < distance(tmp_path / "one", tmp_path / "other")
    # a signal to any one is a pause of all
    pair = forks.team(2, *given, *folder("paused"), before=at_the_fifth_step(1, "os.kill(os.getpid(), signal.SIGTERM)"))
    ends(pair, 128 + signal.SIGTERM)
    assert "continue with: torchrun --nproc-per-node 2 -m torch_port.train --resume " in pair[0].out
    saved = unpack(tmp_path / "paused" / "last.pt")
    assert saved["step"] == 5 and len(saved["losses"]) == 5
    for size, name in ((1, "by one"), (3, "by three"), (2, "by two")):
        ends(forks.team(size, "--resume", tmp_path / "paused" / "last.pt", *folder(name)))
        assert distance(tmp_path / "one", tmp_path / name) < 1e-5
    assert survival.same(survival.state(tmp_path / "by two"), survival.state(tmp_path / "two"))
    losses = [unpack(tmp_path / name / "last.pt")["records"].count('"step", "epoch"') for name in ("one", "by three")]
    assert losses == [2, 2]


RIGHT = """if True:
    from torch_port.training import run as training
    def answer(self, x):
        known = {q.tobytes(): a for q, a in zip(*self.data.test)}
        return [known[row.tobytes()][1:] for row in x] if len(x) else 0
    training.Run._answer = answer
    training.TOGETHER = 3
"""


def test_evaluation_is_shared_and_summed(forks, dates, tmp_path):
    """20 pairs in rounds of 9: the last round leaves two to three processes."""
    team = forks.team(3, *SHORT, "--epochs", 1, "--data", dates, "--out", tmp_path / "out", before=RIGHT)
    ends(team)
    assert "epoch 1: 100.00% of 20 exactly right" in team[0].out and team[0].out.count("☑") == 10


def test_a_dead_process_ends_the_others_with_a_word(forks, dates, tmp_path):
    first, second, third = team = forks.team(
        3, *SHORT, "--data", dates, "--out", tmp_path / "out", "--timeout", 10 * WAIT,
        before=at_the_fifth_step(2, "os.kill(os.getpid(), signal.SIGKILL)"))
    for process in team:
        process.wait()  # not for the timeout
    assert (first.code, second.code, third.code) == (1, 1, -signal.SIGKILL)
    for rank, process in enumerate((first, second)):
        assert f"parity-train: rank {rank} of 3: another process is gone, or took more than {10 * WAIT} s (" in (
            process.err)
        assert f"the last checkpoint stands, continue with: torchrun --nproc-per-node 3 -m torch_port.train --resume " \
               f"{tmp_path / 'out'}" in process.err
        assert "Traceback" not in process.err
    assert unpack(tmp_path / "out" / "last.pt")["step"] == 4
    assert train.main(["--resume", str(tmp_path / "out")]) == 0


def test_a_process_that_hangs_ends_the_others_after_the_timeout(forks, dates, tmp_path):
    first, second = forks.team(2, *SHORT, "--data", dates, "--out", tmp_path / "out", "--timeout", 3,
                               before=at_the_fifth_step(1, "os.kill(os.getpid(), signal.SIGSTOP)"))
    try:
        first.wait()
        assert first.code == 1 and "took more than 3 s" in first.err and "Traceback" not in first.err
    finally:
        second.send(signal.SIGKILL)
        second.wait()


def test_what_the_first_process_refuses_ends_all(forks, dates, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.pt").write_text("mine")
    first, second = pair = forks.team(2, *SHORT, "--data", dates, "--out", tmp_path / "out")
    ends(pair, 2)
    assert first.err.count("\n") == 1 and "has last.pt already" in first.err and second.err == ""


def test_two_machines_by_torchrun(dates, tmp_path):
    """Two launchers, as on two machines, each at a loopback address of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [
        [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node),
         "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port),
         "--local-addr", f"127.0.0.{node + 1}", "-m", "torch_port.train", *map(str, SHORT), "--data", str(dates),
         "--out", str(tmp_path / "out")]
        for node in (0, 1)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
             for command in commands]
    (out, err), (other, _) = [node.communicate(timeout=WAIT) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], err
    assert "2 processes" in out and "epoch 2: " in out and "written: " in out and other == ""
    assert unpack(tmp_path / "out" / "last.pt")["step"] == 12
