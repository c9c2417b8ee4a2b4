"""Training of the seq2seq models, and how much of the task they have learnt."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from ._types import Array
from .attention_seq2seq import AttentionSeq2seq
from .batches import batches
from .optimizers import clip_grads
from .seq2seq import PeekySeq2seq, Seq2seq

MODELS = {"attention": AttentionSeq2seq, "peeky": PeekySeq2seq, "plain": Seq2seq}


class Trainer:
    """Fits a model: a step is forward, backward, clipping and an update, on one batch.

    Source: Saito, Deep Learning from Scratch 2, chapter 1.

    Args:
        model: anything with ``forward(x, t)`` giving the loss, ``backward()``, ``params`` and ``grads``.
        optimizer: anything with ``update(params, grads)`` and a learning rate ``lr``.
        rng: ``numpy.random.Generator``, or a seed for one, that draws the order of the rows; None for a
            fresh one. It moves on from epoch to epoch and from ``fit`` to ``fit``.

    Attributes:
        losses: list of the loss of every step so far, floats in nats.
    """

    def __init__(self, model: Any, optimizer: Any, rng: np.random.Generator | int | None = None) -> None:
        self.model = model
        self.optimizer = optimizer
        self.rng = np.random.default_rng(rng)
        self.losses: list[float] = []

    def fit(self, x: Array, t: Array, max_epoch: int = 10, batch_size: int = 32, max_grad: float | None = None, *,
            decay: bool = False, show_progress: bool = True) -> Self:
        """Goes through the data ``max_epoch`` times, in the order of ``batches``.

        Args:
            x: questions ``(rows, T)``, integer.
            t: start id and answers ``(rows, U + 1)``, integer.
            max_epoch: times through the data, >= 0.
            batch_size: rows a batch, >= 1.
            max_grad: largest norm of all gradients together, see ``clip_grads``; None for no limit.
            decay: whether the optimizer's ``lr`` falls linearly to zero meanwhile.
            show_progress: whether a bar shows loss, speed and time left.

        Returns:
            The trainer.

        Raises:
            FloatingPointError: the loss, or the norm where there is a limit, is not finite; that step is not taken.
            ValueError: ``x`` and ``t`` differ in rows, or ``batch_size`` below 1; and what the model raises.
        """
        if len(x) != len(t):
            raise ValueError(f"Trainer.fit: t has shape {t.shape}, expected {len(x)} rows as in x {x.shape}")
        lr, step = self.optimizer.lr, 0
        try:
            for epoch in range(1, max_epoch + 1):
                order = batches(len(x), batch_size, self.rng)
                with progress(f"epoch {epoch}/{max_epoch}", len(order), show_progress) as advance:
                    for rows in order:
                        loss = float(self.model.forward(x[rows], t[rows]))
                        self.model.backward()
                        norm = 0.0 if max_grad is None else clip_grads(self.model.grads, max_grad)
                        if not np.isfinite([loss, norm]).all():
                            raise FloatingPointError(f"Trainer.fit: step {step + 1} has a loss of {loss:.4g} and a "
                                                     f"gradient of norm {norm:.4g}, expected finite ones")
                        if decay:
                            self.optimizer.lr = lr * (1 - step / (max_epoch * len(order)))
                        self.optimizer.update(self.model.params, self.model.grads)
                        self.losses.append(loss)
                        step += 1
                        advance(x[rows].size + t[rows].size, loss)
        finally:
            self.optimizer.lr = lr
        return self


def eval_seq2seq(model: Any, question: Array, correct: Array, id_to_char: Any = None,
                 verbose: bool = False, is_reverse: bool = False, *, batch_size: int = 1000) -> int:
    """Counts the questions that the model answers exactly right.

    For one row this is the textbook's function of the name: 1 or 0.

    Source: Saito, Deep Learning from Scratch 2, chapter 7.

    Args:
        model: anything with ``generate(xs, start_id, sample_size)``.
        question: ids ``(N, T)``, integer.
        correct: start id and answer ids ``(N, U + 1)``, integer, one start id for all.
        id_to_char: dict from id to character; needed where ``verbose``.
        verbose: whether to print question, answer and guess of every row.
        is_reverse: whether the questions stand reversed, to print them as they are read.
        batch_size: rows decoded at a time, >= 1.

    Returns:
        The number of rows whose ``U`` ids are all right, an int.
    """
    guess = answer(model.generate, question, correct, batch_size)
    if verbose:
        for row in zip(question, correct, guess, strict=True):
            print("\n".join(sample_lines(*row, id_to_char, is_reverse)), "---", sep="\n")
    return int((guess == correct[:, 1:]).all(axis=1).sum())


def answer(generate: Callable[..., Any], question: Array, correct: Array, batch_size: int = 1000) -> Array:
    """Greedy answers to many questions, a batch at a time.

    Args:
        generate: function of ids ``(N, T)``, a start id and a length that gives ids ``(N, length)``.
        question: ids ``(rows, T)``.
        correct: ids ``(rows, U + 1)``, from which only the start id and the length are taken.
        batch_size: rows at a time, >= 1.

    Returns:
        ids ``(rows, U)``.
    """
    start, length = int(correct[0, 0]) if len(correct) else 0, correct.shape[1] - 1
    cuts = range(0, len(question), batch_size)
    parts = [generate(question[i : i + batch_size], start, length) for i in cuts]
    return np.concatenate(parts) if parts else np.empty((0, length), dtype=correct.dtype)


def sample_lines(question: Array, correct: Array, guess: Array, id_to_char: Mapping[int, str],
                 is_reverse: bool = False) -> tuple[str, str, str]:
    """Three lines for one row: ``Q`` question, ``T`` true answer, and the guess with its mark.

    Args:
        question: ids ``(T,)``; correct: start id and answer ``(U + 1,)``; guess: ids ``(U,)``.
        id_to_char: dict from id to character.
        is_reverse: whether the question stands reversed.

    Returns:
        tuple of three str.
    """
    question = question[::-1] if is_reverse else question
    asked, true, got = ("".join(id_to_char[int(i)] for i in ids) for ids in (question, correct[1:], guess))
    return f"Q {asked.rstrip()}", f"T {true}", f"{'☑' if got == true else '☒'} {got}"


@contextlib.contextmanager
def progress(description: str, steps: int, shown: bool = True, *, done: int = 0,
             say: Callable[[str], object] = print) -> Any:
    """Loss, tokens a second and time left: a bar on a terminal, elsewhere a line for each tenth of the steps.

    Args:
        description: text before it.
        steps: number of steps in all.
        shown: False for nothing at all.
        done: steps taken before.
        say: function that prints a line.

    Yields:
        Function ``advance(tokens, loss=None)`` that counts one step; ``tokens`` is the number of ids, of
        questions and answers together; without a loss the last one stays.
    """
    if not shown:
        yield lambda tokens, loss=None: None
        return
    with contextlib.ExitStack() as stack:
        show = _bar(stack, description, steps, done) if sys.stdout.isatty() else _lines(description, steps, say)
        begin, first, seen, last = time.perf_counter(), done, 0, math.nan

        def advance(tokens: int, loss: float | None = None) -> None:
            nonlocal done, seen, last
            done, seen, last = done + 1, seen + tokens, last if loss is None else loss
            seconds = max(time.perf_counter() - begin, 1e-9)
            show(done, last, seen / seconds, seconds / (done - first) * (steps - done))

        yield advance


def _bar(stack: Any, description: str, steps: int, done: int) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("loss {task.fields[loss]:.4f}"), TextColumn("{task.fields[speed]:,.0f} tokens/s"),
               TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns))
    task = bar.add_task(description, total=steps, completed=done, loss=math.nan, speed=0.0)
    return lambda done, loss, speed, left: bar.update(task, completed=done, loss=loss, speed=speed)


def _lines(description: str, steps: int, say: Callable[[str], object]) -> Any:
    def show(done: int, loss: float, speed: float, left: float) -> Any:
        if done * 10 // steps > (done - 1) * 10 // steps and not math.isnan(loss):
            minutes, seconds = divmod(round(left), 60)
            say(f"{description}  {done}/{steps}  loss {loss:.4f}  {speed:,.0f} tokens/s  "
                f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")

    return show
