"""The README's figures of training, each by one command on a machine that does nothing else.

``python -m parity_tests.figures learning``: accuracy on unseen pairs after each epoch, five seeds, both initial draws.
``python -m parity_tests.figures seconds``: processor seconds of one epoch, by the port and by NumPy, on one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import reference

# what a row of the table is called, for how many seeds, and what parity-train is given for it
LEARNING = (("`--init textbook`", 5, ["--init", "textbook", "--epochs", "4"]),
            ("`--init torch --epochs 3`", 5, ["--init", "torch", "--epochs", "3"]),
            ("`plain --init textbook`, for contrast", 1, ["plain", "--init", "textbook", "--epochs", "4"]))
IN_NUMPY = """
import sys
import numpy as np
from reference import Adam, AttentionSeq2seq, Trainer, load_data
(x, t), _, vocabulary = load_data(sys.argv[1])
model = AttentionSeq2seq(len(vocabulary.char_to_id), 16, int(sys.argv[2]), rng=np.random.default_rng(0))
Trainer(model, Adam(), rng=0).fit(x[:, ::-1], t, max_epoch=1, batch_size=128, max_grad=5.0, show_progress=False)
"""


def run(*command):
    """Runs a command of Python's on one thread; its processor seconds, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(data, out, hidden_size, *options):
    return run("-m", "torch_port.train", *options, "--data", data, "--out", out, "--hidden-size", hidden_size,
               "--no-plots")


def learning(data, folder, hidden_size):
    yield "| | seed | epoch 1 | epoch 2 | epoch 3 | epoch 4 |"
    yield "|---|---|---|---|---|---|"
    for name, seeds, options in LEARNING:
        for seed in range(seeds):
            out = folder / f"{name.strip('`')}{seed}"
            train(data, out, hidden_size, *options, "--seed", seed)
            records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
            found = [f"{r['accuracy_unseen']:.2%}".replace("%", " %") for r in records if r["event"] == "epoch"]
            yield f"| {name} | {seed} | {' | '.join((found + [''] * 4)[:4])} |".replace("|  |", "| |")


def seconds(data, folder, hidden_size):
    port = train(data, folder / "out", hidden_size, "--epochs", "1")
    numpy = run("-c", IN_NUMPY, data, hidden_size)
    yield f"one epoch, processor seconds on one thread: port {port:.1f}, NumPy {numpy:.1f}"


FIGURES = {"learning": learning, "seconds": seconds}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--pairs", type=int, default=50_000, help="made and trained on, a tenth of them kept apart")
    parser.add_argument("--hidden-size", type=int, default=256)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "dates.txt"
        reference.write_dates(data, given.pairs)
        for line in FIGURES[given.figure](data, Path(folder), given.hidden_size):
            print(line, flush=True)


if __name__ == "__main__":
    main()
