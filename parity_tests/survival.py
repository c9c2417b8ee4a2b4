"""Kills a training run at random moments and continues it, until it ends; then its state must be, bit for bit, that of
a run that nobody touched. ``python -m parity_tests.survival --kills 50``"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = ["--epochs", "6", "--hidden-size", "16", "--batch-size", "20", "--checkpoint-every", "3", "--no-plots"]
STATE = "model", "optimizer", "epoch", "step", "best", "losses", "shuffle", "random"


def child(*argv):
    """A process that runs ``parity-train``; torch is loaded here already, and forked along."""
    from torch_port import train

    pid = os.fork()
    if not pid:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        sys.argv = ["parity-train", *map(str, argv)]
        os._exit(train.main())  # not sys.exit: the parent's own clearing up is not the child's
    return pid


def ended(pid):
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state(folder):
    """What must be the same."""
    from torch_port.training.checkpoint import unpack

    last, best = unpack(folder / "last.pt"), unpack(folder / "best.pt")
    weights = (folder / "model.safetensors").read_bytes()
    return [weights, *({name: saved[name] for name in STATE} for saved in (last, best))]


def same(a, b):
    """Whether two values are equal bit for bit, tensors in them, too."""
    import torch

    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b)


def survive(kills, seed, folder):
    """Kills and continues runs until there were so many kills.

    Args:
        kills: number of them.
        seed: of the moments.
        folder: empty, for the runs.

    Returns:
        Counts by name, and the number of runs that ended otherwise than the untouched one.
    """
    from reference import write_dates
    from torch_port.training.checkpoint import unpack

    write_dates(folder / "dates.txt", 200)
    start = [*SETTINGS, "--data", folder / "dates.txt", "--out"]
    begin = time.perf_counter()
    assert ended(child(*start, folder / "untouched")) == 0
    whole = time.perf_counter() - begin
    untouched = state(folder / "untouched")
    rng = random.Random(seed)
    counts = {"kills": 0, "runs": 0, "different": 0, "before the first checkpoint": 0, "half files left": 0}
    while counts["kills"] < kills:
        run = folder / f"run{counts['runs']}"
        counts["runs"] += 1
        left = rng.randint(5, 15)  # kills of this run: the last stretch is run to its end
        while True:
            saved = (run / "last.pt").exists()
            pid = child("--resume", run) if saved else child(*start, run)
            if left and counts["kills"] < kills:
                time.sleep(rng.uniform(0, whole / 3))
                os.kill(pid, signal.SIGKILL)
            code = ended(pid)
            if code == 0:
                break
            assert code == -signal.SIGKILL, f"exit code {code}"
            left -= 1
            counts["kills"] += 1
            counts["half files left"] += len(list(run.glob(".tmp-*")))
            if (run / "last.pt").exists():
                unpack(run / "last.pt")
            else:
                counts["before the first checkpoint"] += 1
        counts["different"] += not same(state(run), untouched)
        assert not list(run.glob(".tmp-*"))
    return counts


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    import torch

    import torch_port.training.run

    torch.set_num_threads(1)
    torch_port.Adam([torch.zeros(1, requires_grad=True)])  # what the children need is loaded once, and this loads much
    with tempfile.TemporaryDirectory() as folder:
        counts = survive(args.kills, args.seed, Path(folder))
    print(", ".join(f"{name}: {count}" for name, count in counts.items()))
    print("different from the run that nobody touched, bit for bit: "
          + (f"{counts['different']} runs" if counts["different"] else "none"))
    return int(counts["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
