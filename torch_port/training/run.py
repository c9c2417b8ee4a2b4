"""A training run: model, data, and everything that is written about it."""

import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import torch_port
from reference.batches import batches
from reference.data import write_atomically
from reference.trainer import MODELS, progress, sample_lines

from ..affine import TimeAffine
from ..embedding import TimeEmbedding
from ..lstm import TimeLSTM
from ..optimizers import Adam, clip_grads
from ..seq2seq import Seq2seq
from ..stock import from_stock, to_stock
from ..trained import CARD, TOGETHER, WEIGHTS, Card, load_model
from ..weights import save_params
from . import checkpoint as checkpoints
from . import data, pictures
from .checkpoint import BEST, LAST
from .process import CLOSED_PIPE, Pause, Screen, Signals
from .settings import FILE, Settings, UsageError, require
from .team import Team, device_of

EVERY = 20  # steps between two points of the loss curve; the loss is read from the device as often
SAMPLES = 10  # lines shown after each epoch
MAPS = 4  # heat maps of attention
LOST = 10  # times what guessing costs, log V: from there on a loss has gone the wrong way
NONE_YET = {"accuracy": -1.0, "epoch": 0, "risen": 0}  # risen: the last epoch that was better than all before
LOG, CURVE, ATTENTION = "log.jsonl", "curve.png", "attention.png"
FILES = LAST, BEST, WEIGHTS, CARD, FILE, LOG, CURVE, ATTENTION


class Run:
    """One training run.

    Args:
        settings: what to do.
        signals, screen: of the process.
        saved: checkpoint to go on from; None for a new run.

    Attributes:
        model: the module, on its device.
        records: list of dicts, the lines of the log.
        epoch: number of the epoch to do or being done, from 1.
        batch: steps done of it.
        step: steps done in all.

    Raises:
        OSError: a file that cannot be read or written.
        UsageError: settings that do not work here.
    """

    def __init__(self, settings: Settings, signals: Signals, screen: Screen,
                 saved: Mapping[str, Any] | None = None) -> None:
        require(settings.plots, "matplotlib", "--plots", " (or give --no-plots)")
        require(settings.tensorboard, "tensorboard", "--tensorboard")
        self.settings, self.signals, self.screen = settings, signals, screen
        self.device = device_of(settings.device)
        torch.set_num_threads(settings.threads)
        self.out = Path(settings.out)
        self.data = data.load(settings.data, settings.reverse)
        if saved is not None and self.data.digest != saved["data"]:
            raise UsageError(f"{settings.data or 'the dates made here'}: not the data that the run began with")
        self.team = Team(self.device, settings.timeout)
        sizes = len(self.data.characters), settings.wordvec_size, settings.hidden_size
        self.model = build(settings.model, sizes, settings.init, settings.seed).to(self.device)
        self.optimizer = Adam(self.model.parameters(), lr=settings.lr)
        self.loss = self.team.together(lambda: self.team.wrap(self.model))
        self.labels = (self.data.train[1][:, 1:] != self.model.loss.ignore_label).sum(axis=1)
        self.rng = np.random.default_rng(settings.seed)
        self.epoch, self.batch, self.step, self.seconds = 1, 0, 0, 0.0
        self.shuffle = checkpoints.shuffle_state(self.rng)  # at the beginning of the epoch
        self.losses: list[Tensor] = []  # since the last point of the curve; each process's share
        self.best: dict[str, Any] = dict(NONE_YET)
        self.records: list[dict[str, Any]] = []
        if saved is not None:
            self._restore(saved)
        self.steps = settings.epochs * math.ceil(len(self.data.train[0]) / settings.batch_size)
        self.note("start" if saved is None else "resume", **self._facts())
        self._written: set[Path] = set()
        self.board: Any = None
        self._lock = contextlib.ExitStack()
        state = self._state()
        self.team.first_does(lambda: self._move_in(state, saved is not None))

    # --- what is written -----------------------------------------------------------------------------------

    def _move_in(self, state: dict[str, Any], resumed: bool) -> None:
        """Tries the folder before the first step: takes it, or says why not, and leaves it as it was."""
        made = not self.out.exists()
        self.out.mkdir(parents=True, exist_ok=True)
        self._lock.enter_context(locked(self.out))
        there = [name for name in FILES if (self.out / name).exists()]
        if there and not (resumed and LAST in there):
            raise UsageError(
                f"{self.out} has {', '.join(there)} already: "
                + (f"continue with --resume {self.out}, or give another --out" if LAST in there
                   else "give another --out"))
        for path in self.out.glob(".tmp-*"):
            if re.fullmatch(r"\.tmp-[0-9a-f]{32}", path.name):  # a killed process's half file
                path.unlink()
        try:
            if BEST not in there:
                self.best = dict(NONE_YET)  # continued elsewhere: what was better stayed behind
            if LAST not in there:
                # first: what is killed from here on can be continued
                self.write(LAST, checkpoints.pack({**state, "best": dict(self.best)}))
            self.write(CARD, self._card().json())
            self.write(FILE, self.settings.toml().encode())
            if BEST not in there:
                self._save_weights()
            self._save_log()
            if self.settings.tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(self.out))
        except BaseException:
            if not resumed:
                for path in self._written:
                    path.unlink(missing_ok=True)
                if made:
                    self.out.rmdir()
            raise

    def write(self, name: str, content: bytes) -> None:
        """Writes a file of the folder, whole or not at all."""
        path = self.out / name
        write_atomically(path, content)
        self._written.add(path)

    def save(self, best: bool = False) -> None:
        """Writes a checkpoint and the log; with ``best`` the weights, too. All processes take part.

        Raises:
            FloatingPointError: the loss has gone the wrong way; what was saved before stays.
            OSError: a file cannot be written; what was saved before stays.
        """
        state = self._state()
        if not self.team.first:
            return
        content = checkpoints.pack(state)
        if best:
            self.write(BEST, content)
        if best or not self.best["epoch"]:
            self._save_weights()
        self.write(LAST, content)
        self._save_log()

    def _save_weights(self) -> None:
        save_params(self.model, self.out / WEIGHTS)
        self._written.add(self.out / WEIGHTS)

    def _save_log(self) -> None:
        lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in self.records)
        self.write(LOG, "".join(lines).encode())

    def finish(self) -> None:
        """Draws the pictures, of the best model, and says what was written."""
        if not self.team.first:
            return
        if self.board is not None:
            self.board.close()
        if self.settings.plots:
            self.write(CURVE, pictures.curve(self.records, EVERY))
            if self.settings.model == "attention":
                self.write(ATTENTION, self.heat_maps())
        self.say("written: " + ", ".join(map(str, sorted(self._written))))

    def heat_maps(self) -> bytes:
        """Where the best model looks while it answers the first validation questions, as PNG."""
        model = load_model(self.out, device=self.device)
        questions = [self._question(i) for i in range(min(MAPS, len(self.data.test[0])))]
        return pictures.attention_maps(model.look(questions))

    def close(self) -> None:
        """Leaves folder and processes."""
        self._lock.close()
        self.team.close()

    def note(self, event: str, **values: Any) -> None:
        """Adds a line to the log."""
        self.records.append({"event": event, **values})

    def _point(self, event: str, **values: Any) -> None:
        self.note(event, **values)
        if self.board is not None:
            for name, value in values.items():
                if name.startswith(("loss", "accuracy")) and value is not None:
                    self.board.add_scalar(f"{event}/{name}", value, self.step)

    def say(self, text: str) -> None:
        """Prints a line, in the first process."""
        if self.team.first:
            self.screen.say(text)

    # --- state ---------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        losses = self._joint_losses()
        # what every process holds of the sum is nothing but the first's
        self.losses = [loss if self.team.first else torch.zeros_like(loss) for loss in losses]
        self._judge(losses.tolist())
        return {
            "settings": dict(vars(self.settings)), "characters": self.data.characters, "data": self.data.digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch, "batch": self.batch, "step": self.step, "seconds": self.seconds,
            "best": dict(self.best), "records": json.dumps(self.records), "losses": losses.tolist(),
            "shuffle": self.shuffle, "random": checkpoints.random_state(),
            "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
        }

    def _restore(self, saved: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.epoch, self.batch, self.step, self.seconds = (
                saved[name] for name in ("epoch", "batch", "step", "seconds"))
            self.shuffle = saved["shuffle"]
            checkpoints.set_shuffle_state(self.rng, self.shuffle)
            checkpoints.set_random_state(saved["random"])
            self.best, self.records = dict(saved["best"]), json.loads(saved["records"])
            share = 1.0 if self.team.first else 0.0
            self.losses = [torch.tensor(loss * share, device=self.device) for loss in saved["losses"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"the checkpoint does not fit its own settings: {text}") from None

    def _card(self) -> Card:
        (x, t), s = self.data.train, self.settings
        return Card(s.model, s.wordvec_size, s.hidden_size, self.data.characters, x.shape[1], t.shape[1] - 1, s.reverse,
                    self.data.characters[int(t[0, 0])], data.PAD)

    def _facts(self) -> dict[str, Any]:
        return {
            "step": self.step, "settings": dict(vars(self.settings)), "vocabulary": self.data.characters,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "training": len(self.data.train[0]), "validation": len(self.data.test[0]),
            "unseen": int(self.data.unseen.sum()),
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(), "processes": self.team.size,
            "torch": str(torch.__version__), "numpy": np.__version__,
        }

    # --- training ------------------------------------------------------------------------------------------

    def train(self) -> None:
        """All epochs that are left.

        Raises:
            FloatingPointError: the loss is not finite, or has gone the wrong way.
            LostRank: another process is gone.
            OSError: a file cannot be written.
            Pause: a signal asks for the end, or the reader of our output has gone.
        """
        self.say(self._opening())
        while self.epoch <= self.settings.epochs and not self._tired():
            self._go_through()
            best = self._evaluate()
            self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
            self.shuffle = checkpoints.shuffle_state(self.rng)
            self.save(best)

    def _opening(self) -> str:
        facts = self.records[-1]
        team = f", {facts['processes']} processes" if self.team.size > 1 else ""
        done = f"; continued after {self.step:,} of {self.steps:,} steps" if self.step else ""
        threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
        return (f"{self.settings.model}, {facts['parameters']:,} parameters, {facts['training']:,} pairs; "
                f"{facts['device']}, {threads}{team}{done}")

    def _tired(self) -> bool:
        waited = self.epoch - 1 - self.best["risen"]
        if not 0 < self.settings.patience <= waited:
            return False
        self.say(f"stopped: no better than in epoch {self.best['risen']} for {waited} epochs (--patience)")
        return True

    def _go_through(self) -> None:
        """What is left of the epoch."""
        order = batches(len(self.data.train[0]), self.settings.batch_size, self.rng)
        width = sum(ids.shape[1] for ids in self.data.train)
        x, t = (torch.from_numpy(ids).to(self.device) for ids in self.data.train)
        # the data set numbers its characters itself: every id is in range, and there is no need to ask again
        with (torch_port.index_checks(False),
              progress(f"epoch {self.epoch}/{self.settings.epochs}", len(order), self.team.first, done=self.batch,
                       say=self.say) as advance):
            for rows in order[self.batch :]:
                begin = time.perf_counter()
                self._learn(x, t, rows)
                self.batch, self.step = self.batch + 1, self.step + 1
                loss = self._look() if self.batch % EVERY == 0 or self.batch == len(order) else None
                self.seconds += time.perf_counter() - begin
                advance(len(rows) * width, loss)
                self._pause_if_asked()
                if self.settings.checkpoint_every and self.step % self.settings.checkpoint_every == 0:
                    self.save()

    def _learn(self, x: Tensor, t: Tensor, rows: data.Array) -> None:
        """One step, on the mean over the labels of all processes."""
        mine = self.team.share(rows)
        row = torch.from_numpy(mine).to(self.device)
        with self._arithmetic():
            loss = self.loss(x[row], t[row])
        share = float(self.labels[mine].sum() / max(self.labels[rows].sum(), 1))
        self.optimizer.zero_grad()
        # gradients become a mean over processes, which may have drawn unequal numbers of labels
        self.team.together((loss * (share * self.team.size)).backward)
        clip_grads(self.model.parameters(), self.settings.max_grad)
        if self.settings.decay:
            self.optimizer.param_groups[0]["lr"] = self.settings.lr * (1 - self.step / self.steps)
        self.optimizer.step()
        self.losses.append(loss.detach() * share)

    def _joint_losses(self) -> Tensor:
        """The losses of the steps since the last point, on the CPU."""
        held = torch.stack(self.losses).cpu() if self.losses else torch.zeros(0)
        return self.team.add(held)

    def _look(self) -> float:
        """A point of the loss curve."""
        mean = float(self._joint_losses().mean())
        self.losses.clear()
        self._judge([mean])
        self._point("step", epoch=self.epoch, step=self.step, loss=mean)
        return mean

    def _judge(self, losses: list[float]) -> None:
        most = LOST * math.log(len(self.data.characters))
        for loss in losses:
            if not loss <= most:
                raise FloatingPointError(
                    f"loss {loss:.4g} by step {self.step}, where guessing costs {most / LOST:.2f}; try a smaller --lr")

    def _evaluate(self) -> bool:
        """Greedy answers to the whole validation set, shared out: accuracy, some in full; whether none was better."""
        x, t = self.data.test
        begin = time.perf_counter()
        guess = np.zeros((len(x), t.shape[1] - 1), dtype=np.int64)
        together = TOGETHER * self.team.size
        for start in range(0, len(x), together):
            self._pause_if_asked()
            rows = self.team.share(np.arange(start, min(start + together, len(x))))
            guess[rows] = self._answer(x[rows])
        guess = self.team.add(torch.from_numpy(guess)).numpy()
        right = (guess == t[:, 1:]).all(axis=1)
        accuracy = float(right.mean())
        unseen = self.data.unseen
        fresh = float(right[unseen].mean()) if unseen.any() else None
        self._point("epoch", epoch=self.epoch, step=self.step, accuracy=accuracy, accuracy_unseen=fresh,
                    seconds=self.seconds, seconds_decoding=time.perf_counter() - begin)
        letters = dict(enumerate(self.data.characters))
        for row in zip(x[:SAMPLES], t, guess, strict=False):
            self.say("  ".join(sample_lines(*row, letters, self.settings.reverse)))
        few = "no pair is unseen" if fresh is None else f"{fresh:.2%} of {unseen.sum()} unseen pairs"
        self.say(f"epoch {self.epoch}: {accuracy:.2%} of {len(x)} exactly right, {few}; {self.seconds:.1f} s")
        best = bool(accuracy >= self.best["accuracy"])
        if accuracy > self.best["accuracy"]:
            self.best["risen"] = self.epoch
        if best:
            self.best |= {"accuracy": accuracy, "epoch": self.epoch}
        return best

    def _answer(self, x: data.Array) -> data.Array:
        with self._arithmetic():
            ids = self.model.generate(torch.from_numpy(x).to(self.device), int(self.data.test[1][0, 0]),
                                      self.data.test[1].shape[1] - 1)
        guess: data.Array = ids.cpu().numpy()
        return guess

    def _question(self, row: int) -> str:
        ids = self.data.test[0][row][:: -1 if self.settings.reverse else 1]
        return "".join(self.data.characters[i] for i in ids)

    def _arithmetic(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.dtype == "bfloat16")

    def _pause_if_asked(self) -> None:
        number = self.team.most(self.signals.number or (CLOSED_PIPE if self.screen.closed else 0))
        if number:
            raise Pause(number)

    def how_to_continue(self) -> str:
        """The command that continues this run."""
        from shlex import quote

        launcher = "parity-train"
        if self.team.size > 1:
            launcher = f"torchrun --nproc-per-node {self.team.size} -m torch_port.train"
        return f"{launcher} --resume {quote(str(self.out))}"


@contextlib.contextmanager
def locked(folder: Path) -> Any:
    """Keeps every other process out of a folder; Windows has no such lock.

    Raises:
        UsageError: another process has it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder}: another process is training there") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


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
