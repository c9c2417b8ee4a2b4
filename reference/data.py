"""The date data set: a file of ``question_answer`` lines, and a generator of such files."""

import contextlib
import os
import stat
import sys
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._types import Array, Path

Split = tuple[Array, Array]  # questions and answers

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
QUESTION_LENGTH = 29  # of "Wednesday, September 30, 1970", the longest


class Vocabulary(NamedTuple):
    """Characters and their ids.

    Attributes:
        char_to_id: dict from character to id.
        id_to_char: dict from id to character.
    """

    char_to_id: dict[str, int]
    id_to_char: dict[int, str]


def load_data(path: Path, seed: int | None = 1984, pad: str | None = None) -> tuple[Split, Split, Vocabulary]:
    """Reads a ``question_answer`` file into ids; see ``encode_lines``.

    Source: Saito, Deep Learning from Scratch 2, chapter 7.

    Args:
        path: text file in UTF-8, with or without a byte order mark, one pair a line, ``_`` beginning the answer.
        seed: of the shuffle; None for the order of the file.
        pad: character that fills up shorter questions and answers; None to refuse them.

    Returns:
        ``(x_train, t_train), (x_test, t_test), vocabulary``: ids ``(lines, characters)``, int64, and
        a ``Vocabulary``.

    Raises:
        OSError: the file cannot be read.
        ValueError: an empty file, a line without ``_``, lines of different lengths; with the line.
    """
    with open(path, encoding="utf-8-sig") as file:
        lines = file.read().split("\n")
    if lines[-1] == "":
        lines.pop()
    return encode_lines(lines, seed, pad, path)


def encode_lines(lines: Iterable[str], seed: int | None = 1984, pad: str | None = None,
                 source: Path = "lines") -> tuple[Split, Split, Vocabulary]:
    """Turns ``question_answer`` lines into ids.

    Characters are numbered in order of first appearance, question, then answer, line by line; the
    lines are shuffled by NumPy's legacy generator and the last tenth is kept for validation.

    Args:
        lines: strings, ``_`` beginning the answer.
        seed: of the shuffle; None for the order of the lines.
        pad: character that fills up shorter questions and answers; None to refuse them.
        source: name of the lines in errors.

    Returns:
        As ``load_data``.

    Raises:
        ValueError: no lines, a line without ``_``, lines of different lengths; with the line.
    """
    lines = list(lines)
    if not lines:
        raise ValueError(f"{source}: no lines, expected question_answer lines")
    questions, answers = [], []
    for number, line in enumerate(lines, 1):
        cut = line.find("_")
        if cut < 0:
            raise ValueError(f"{source}, line {number}: no '_' in {line!r}, expected question_answer")
        questions.append(line[:cut])
        answers.append(line[cut:])
        if pad is None and (len(questions[-1]), len(answers[-1])) != (len(questions[0]), len(answers[0])):
            raise ValueError(f"{source}, line {number}: {len(questions[-1])} + {len(answers[-1])} characters, "
                             f"expected {len(questions[0])} + {len(answers[0])} as in line 1")
    if pad is not None:
        questions, answers = _filled_up(questions, pad), _filled_up(answers, pad)
    characters = dict.fromkeys(c for q, a in zip(questions, answers, strict=True) for c in q + a)
    char_to_id = {c: i for i, c in enumerate(characters)}
    x, t = (np.array([[char_to_id[c] for c in text] for text in texts], dtype=np.int64)
            for texts in (questions, answers))
    order = np.arange(len(x))
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    x, t = x[order], t[order]
    split = len(x) - len(x) // 10
    vocabulary = Vocabulary(char_to_id, {i: c for c, i in char_to_id.items()})
    return (x[:split], t[:split]), (x[split:], t[split:]), vocabulary


def _filled_up(texts: Sequence[str], pad: str) -> list[str]:
    longest = max(map(len, texts))
    return [text.ljust(longest, pad) for text in texts]


def date_lines(size: int = 50_000, seed: int = 0) -> list[str]:
    """The lines of a date data set.

    Dates are uniform over 1970-01-01 to 2017-12-31; a quarter each reads ``M/D/YY``,
    ``Mon D, YYYY``, ``Month D, YYYY`` and ``Weekday, Month D, YYYY``; half of them as written, a
    quarter in lower and a quarter in upper case.

    Source: the task of Saito, Deep Learning from Scratch 2, chapter 8.

    Args:
        size: number of lines, >= 1.
        seed: of the draw.

    Returns:
        list of str: question padded with spaces to 29 characters, then ``_YYYY-MM-DD``.

    Raises:
        ValueError: ``size`` below 1.
    """
    if size < 1:
        raise ValueError(f"date_lines: size is {size}, expected >= 1")
    rng = np.random.default_rng(seed)
    first, last = np.datetime64("1970-01-01"), np.datetime64("2017-12-31")
    days = rng.integers(0, (last - first).astype(int) + 1, size)
    styles, cases = rng.integers(0, 4, size), rng.integers(0, 4, size)
    lines = []
    for date, style, case in zip((first + days).tolist(), styles.tolist(), cases.tolist(), strict=True):
        month = MONTHS[date.month - 1]
        text = (
            f"{date.month}/{date.day}/{date.year % 100:02d}",
            f"{month[:3]} {date.day}, {date.year}",
            f"{month} {date.day}, {date.year}",
            f"{WEEKDAYS[date.weekday()]}, {month} {date.day}, {date.year}",
        )[style]
        text = (text, text, text.lower(), text.upper())[case]
        lines.append(f"{text:<{QUESTION_LENGTH}}_{date.isoformat()}")
    return lines


def write_dates(path: Path, size: int = 50_000, seed: int = 0) -> None:
    """Writes a date data set, atomically; see ``date_lines``.

    Args:
        path: file to write, replaced if it exists.
        size: number of lines, >= 1.
        seed: of the draw.

    Raises:
        OSError: the file cannot be written.
        ValueError: ``size`` below 1.
    """
    text = "\n".join(date_lines(size, seed)) + "\n"
    write_atomically(path, text.encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Writes bytes to a file so that it holds all of them or what it held before.

    A link stays a link, and its target is written; what is no ordinary file (a device, a pipe) is written to
    as it is, and so is the file that standard output or error goes to, after what was printed.

    Args:
        path: file to write.
        data: bytes.

    Raises:
        OSError: it cannot be written; names the path as it was given.
    """
    try:
        _write(os.path.realpath(path), path, data)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _write(target: Any, path: Path, data: bytes) -> None:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        there = None
    stream = there and _stream(there)
    if stream:
        with open(os.dup(stream), "wb") as file:
            file.write(data)
        return
    if there and not stat.S_ISREG(there.st_mode):
        with open(path, "wb") as file:
            file.write(data)
        return
    temporary = os.path.join(os.path.dirname(target), f".tmp-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:  # made with the rights that the process's umask leaves
            if there:
                os.chmod(temporary, stat.S_IMODE(there.st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or the new name may outlive a power cut and the bytes not
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _stream(there: Any) -> Any:
    """The standard stream, 1 or 2, that goes to a file; None where neither does."""
    for stream, printed in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if os.path.samestat(there, os.fstat(stream)):
                printed.flush()
                return stream
        except (OSError, AttributeError):  # closed, or a program without a terminal
            continue
    return None
