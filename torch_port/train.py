"""Trains a seq2seq model on questions and answers: ``python -m torch_port.train``, or ``parity-train``.

The data set, the order of the batches, the textbook's initial weights and the counting of right answers
are those of ``reference``, so that both sides can be trained on the same: this is the one module here,
with ``weights``, that imports it.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

import torch_port
from reference.batches import batches
from reference.data import Vocabulary, load_data, write_atomically, write_dates
from reference.trainer import MODELS, answer, progress, sample_lines

from .affine import TimeAffine
from .embedding import TimeEmbedding
from .lstm import TimeLSTM
from .optimizers import Adam, clip_grads
from .seq2seq import Seq2seq
from .stock import from_stock, to_stock
from .weights import save_params

EVERY = 20  # steps between two points of the loss curve; the loss is read from the device as often
SAMPLES = 10  # lines shown after each epoch
MAPS = 4  # heat maps of attention

Array = np.ndarray[Any, np.dtype[Any]]
Pairs = tuple[Array, Array]


class UsageError(Exception):
    """What the user has to change; told in one line."""


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose error is one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def number(kind: type, low: float, strict: bool = False) -> Callable[[str], Any]:
    """An argparse type: a finite number of that kind, at least (or more than) ``low``."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not (value > low if strict else value >= low) or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r}, expected {'>' if strict else '>='} {low}")
        return value

    parse.__name__ = kind.__name__
    return parse


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser("parity-train", description="Train a seq2seq model; Ctrl-C ends it and keeps what was done.",
               formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add, switch = p.add_argument, argparse.BooleanOptionalAction
    add("model", nargs="?", choices=MODELS, default="attention", help="which model")
    add("--data", type=Path, metavar="FILE", help="question_answer lines; without it dates, made on the spot")
    add("--out", type=Path, metavar="DIR", default=Path("trained"), help="where weights, log and pictures go")
    add("--epochs", type=number(int, 1), default=4, help="times through the data")
    add("--batch-size", type=number(int, 1), default=128, help="pairs a step")
    add("--hidden-size", type=number(int, 1), default=256, help="H")
    add("--wordvec-size", type=number(int, 1), default=16, help="D")
    add("--lr", type=number(float, 0, strict=True), default=2e-3, help="learning rate of Adam, at first")
    add("--decay", action=switch, default=True, help="let the learning rate fall linearly to zero")
    add("--max-grad", type=number(float, 0, strict=True), default=5.0, help="largest norm of all gradients")
    add("--seed", type=number(int, 0), default=0, help="of initial weights and of the order of batches")
    add("--init", choices=("textbook", "torch"), default="textbook", help="whose initial weights")
    add("--reverse", action=switch, default=True, help="reverse the questions")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda where there is one")
    add("--dtype", choices=("float32", "bfloat16"), default="float32",
        help="of the arithmetic (bfloat16: autocast); weights are float32")
    add("--plots", action=switch, default=True, help="draw loss, accuracy, attention; needs matplotlib")
    add("--tensorboard", action="store_true", help="write events for it, too; needs tensorboard")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; None for those of the process.

    Returns:
        Exit code: 0 done, 1 the loss is not finite, 2 wrong usage, 130 interrupted.
    """
    try:
        args = parser().parse_args(argv)
        run = Run(args)
    except (UsageError, OSError) as error:
        print(f"parity-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    code = 0
    try:
        run.train()
    except KeyboardInterrupt:
        run.note("interrupted")
        run.save()
        code = 130
    except FloatingPointError as error:
        print(f"parity-train: {error}", file=sys.stderr)
        code = 1
    run.finish()
    return code


class Run:
    """One training run: model, data and everything that is written about it.

    Args:
        args: of ``parser``.

    Attributes:
        model: the module, on its device.
        records: list of dicts, the lines of the log.

    Raises:
        OSError: a file that cannot be read or written.
        UsageError: arguments that do not work here.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        require(args.plots, "matplotlib", "--plots", " (or give --no-plots)")
        require(args.tensorboard, "tensorboard", "--tensorboard")
        if args.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no CUDA device here")
        self.args = args
        self.device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
        args.out.mkdir(parents=True, exist_ok=True)
        self.train_set, self.test_set, self.vocabulary = load(args.data, args.out, args.reverse)
        self.unseen = unseen(self.train_set, self.test_set)
        sizes = len(self.vocabulary.char_to_id), args.wordvec_size, args.hidden_size
        self.model = build(args.model, sizes, args.init, args.seed).to(self.device)
        self.optimizer = Adam(self.model.parameters(), lr=args.lr)
        self.rng = np.random.default_rng(args.seed)
        self.step, self.steps = 0, args.epochs * math.ceil(len(self.train_set[0]) / args.batch_size)
        self.records: list[dict[str, Any]] = []
        self.board = None
        if args.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(args.out))
        self.note(
            "start",
            arguments={k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
            vocabulary="".join(self.vocabulary.char_to_id),
            parameters=sum(p.numel() for p in self.model.parameters()),
            training=len(self.train_set[0]),
            validation=len(self.test_set[0]),
            unseen=int(self.unseen.sum()),
            device=torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            numpy=np.__version__,
        )

    def note(self, event: str, **values: Any) -> None:
        """Adds a line to the log."""
        self.records.append({"event": event, **values})
        if self.board is not None:
            for name, value in values.items():
                if name.startswith(("loss", "accuracy")) and value is not None:
                    self.board.add_scalar(f"{event}/{name}", value, self.step)

    def train(self) -> None:
        """All epochs; after each, accuracy, samples, weights and log."""
        for epoch in range(1, self.args.epochs + 1):
            seconds = self.epoch(epoch)
            self.evaluate(epoch, seconds)
            self.save()

    def epoch(self, epoch: int) -> float:
        """Once through the training data.

        Returns:
            The seconds it took.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        x, t = (torch.from_numpy(ids).to(self.device) for ids in self.train_set)
        order = batches(len(x), self.args.batch_size, self.rng)
        pending: list[Tensor] = []
        begin = time.perf_counter()
        # load_data numbers the characters itself: every id is in range, and there is no need to ask again
        with (torch_port.index_checks(False),
              progress(f"epoch {epoch}/{self.args.epochs}", len(order)) as advance):
            for i, rows in enumerate(order, 1):
                row = torch.from_numpy(rows).to(self.device)
                with self.autocast():
                    loss = self.model(x[row], t[row])
                self.optimizer.zero_grad()
                loss.backward()
                clip_grads(self.model.parameters(), self.args.max_grad)
                if self.args.decay:
                    self.optimizer.param_groups[0]["lr"] = self.args.lr * (1 - self.step / self.steps)
                self.optimizer.step()
                self.step += 1
                pending.append(loss.detach())
                if i % EVERY == 0 or i == len(order):
                    mean = torch.stack(pending).mean().item()
                    pending.clear()
                    if not math.isfinite(mean):
                        raise FloatingPointError(f"loss {mean} at step {self.step}; try a smaller --lr")
                    self.note("step", epoch=epoch, step=self.step, loss=mean)
                    advance(row.numel() * (x.shape[1] + t.shape[1]), mean)
                else:
                    advance(row.numel() * (x.shape[1] + t.shape[1]))
        return time.perf_counter() - begin

    def evaluate(self, epoch: int, seconds: float) -> None:
        """Greedy answers to the whole validation set: accuracy, and some of them in full."""
        x, t = self.test_set
        begin = time.perf_counter()
        guess = answer(self.generate, x, t)
        right = (guess == t[:, 1:]).all(axis=1)
        accuracy = float(right.mean())
        fresh = float(right[self.unseen].mean()) if self.unseen.any() else None
        self.note("epoch", epoch=epoch, step=self.step, accuracy=accuracy, accuracy_unseen=fresh,
                  seconds=seconds, seconds_decoding=time.perf_counter() - begin)
        for row in zip(x[:SAMPLES], t, guess, strict=False):
            print("  ".join(sample_lines(*row, self.vocabulary.id_to_char, self.args.reverse)))
        few = "no pair is unseen" if fresh is None else f"{fresh:.2%} of {self.unseen.sum()} unseen pairs"
        print(f"epoch {epoch}: {accuracy:.2%} of {len(x)} exactly right, {few}; {seconds:.1f} s")

    def generate(self, xs: Array, start_id: int, size: int) -> Array:
        """The model's greedy answers, NumPy to NumPy."""
        with self.autocast():
            ids = self.model.generate(torch.from_numpy(xs).to(self.device), start_id, size)
        guess: Array = ids.cpu().numpy()
        return guess

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The arithmetic that ``--dtype`` asks for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.dtype == "bfloat16")

    def save(self) -> None:
        """Writes weights and log, each atomically."""
        save_params(self.model, self.args.out / "model.safetensors")
        self.save_log()

    def save_log(self) -> None:
        """Writes the log, a JSON object a line."""
        lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in self.records)
        write_atomically(self.args.out / "log.jsonl", "".join(lines).encode())

    def finish(self) -> None:
        """Writes the log once more, and the pictures."""
        self.save_log()
        if self.board is not None:
            self.board.close()
        if self.args.plots:
            write_atomically(self.args.out / "curve.png", curve(self.records))
            if self.args.model == "attention":
                write_atomically(self.args.out / "attention.png", self.heat_maps())
        print("written: " + ", ".join(str(path) for path in sorted(self.args.out.iterdir())))

    def heat_maps(self) -> bytes:
        """Where the model looks, for the first validation pairs, as PNG."""
        x, t = (torch.from_numpy(ids[:MAPS]).to(self.device) for ids in self.test_set)
        with torch.no_grad(), self.autocast():
            self.model.score(x, t[:, :-1])
        steps: Any = self.model.attention_weights
        weights = torch.stack(steps, dim=1).float().cpu().numpy()
        step = -1 if self.args.reverse else 1
        return attention_maps([
            ("".join(self.vocabulary.id_to_char[int(i)] for i in question[::step]),
             "".join(self.vocabulary.id_to_char[int(i)] for i in true[1:]), a[:, ::step])
            for question, true, a in zip(*self.test_set, weights, strict=False)
        ])


def require(wanted: bool, package: str, option: str, instead: str = "") -> None:
    """Refuses, before anything starts, what would only fail for want of a package in the end."""
    if wanted and importlib.util.find_spec(package) is None:
        raise UsageError(f"{option} needs {package}: python -m pip install {package}{instead}")


def load(data: Path | None, out: Path, reverse: bool) -> tuple[Pairs, Pairs, Vocabulary]:
    """Training and validation pairs, questions reversed where asked; dates where no file is given."""
    if data is None:
        data = out / "dates.txt"
        write_dates(data)
    try:
        (x, t), (x_test, t_test), vocabulary = load_data(data)
    except UnicodeDecodeError as error:
        raise UsageError(f"{data}: not UTF-8: {error}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not len(x_test):
        raise UsageError(f"{data}: {len(x)} lines, expected at least 10: a tenth is kept for validation")
    if not x.shape[1] or t.shape[1] < 2:
        raise UsageError(f"{data}: {x.shape[1]} + {t.shape[1] - 1} characters beside '_', "
                         "expected at least 1 + 1")
    step = -1 if reverse else 1
    return (x[:, ::step].copy(), t), (x_test[:, ::step].copy(), t_test), vocabulary


def unseen(train: Pairs, test: Pairs) -> Array:
    """Which validation pairs do not occur in training: booleans ``(rows,)``."""
    known = {row.tobytes() for row in np.hstack(train)}
    return np.array([row.tobytes() not in known for row in np.hstack(test)])


def build(name: str, sizes: tuple[int, int, int], init: str, seed: int) -> Seq2seq:
    """A new model on the CPU: the reference's draw for ``textbook``, torch's own defaults for ``torch``."""
    reference_class = MODELS[name]
    twin: type[Seq2seq] = getattr(torch_port, reference_class.__name__)
    if init == "textbook":
        return twin.from_reference(reference_class(*sizes, rng=np.random.default_rng(seed)))
    model = twin(*sizes)
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (TimeEmbedding, TimeLSTM, TimeAffine)):
            stock: Any = to_stock(module)
            stock.reset_parameters()
            # two biases of torch's own add up to the one here
            module.load_reference_params(from_stock(stock, type(module)).reference_params())
    return model


def curve(records: list[dict[str, Any]]) -> bytes:
    """Loss and accuracy of a log, as PNG."""
    from matplotlib.figure import Figure

    steps, epochs = ([r for r in records if r["event"] == event] for event in ("step", "epoch"))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([r["step"] for r in steps], [r["loss"] for r in steps], ".-", linewidth=1, markersize=3)
    left.set(xlabel="step", ylabel=f"loss, mean of {EVERY} steps, nats", yscale="log")
    for key, label, style in (("accuracy", "all", "o-"), ("accuracy_unseen", "unseen in training", "s--")):
        points = [(r["epoch"], r[key]) for r in epochs if r[key] is not None]
        right.plot([epoch for epoch, _ in points], [share for _, share in points], style, label=label)
    right.set(xlabel="epoch", ylabel="exact match, validation", ylim=(-0.02, 1.02))
    right.set_xticks([r["epoch"] for r in epochs])
    right.legend()
    return png(figure)


def attention_maps(examples: list[tuple[str, str, Array]]) -> bytes:
    """Heat maps of attention, question along and answer down, as PNG.

    Args:
        examples: question, answer and weights ``(len(answer), len(question))`` of each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6 * math.ceil(len(examples) / 2)), layout="constrained")
    axes = list(figure.subplots(math.ceil(len(examples) / 2), 2, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    for ax, (question, true, weights) in zip(axes, examples, strict=False):
        ax.set_axis_on()
        ax.pcolormesh(weights, cmap="Greys", vmin=0, vmax=1)
        ax.set_xticks(np.arange(len(question)) + 0.5, list(question))
        ax.set_yticks(np.arange(len(true)) + 0.5, list(true))
        ax.invert_yaxis()
        ax.tick_params(length=0)
    return png(figure)


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
