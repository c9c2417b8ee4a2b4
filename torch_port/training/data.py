"""Questions and answers for training, as ids."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from reference.data import date_lines, encode_lines, load_data

from .settings import UsageError

PAD = " "  # as in the textbook's own files
Array = np.ndarray[Any, np.dtype[Any]]
Pairs = tuple[Array, Array]


class Data(NamedTuple):
    """A data set.

    Attributes:
        train, test: question ids ``(rows, T)``, reversed where asked, and start id and answer ids ``(rows, U + 1)``.
        unseen: which validation pairs do not occur in training, ``(rows,)``.
        characters: the vocabulary, a character an id.
        digest: SHA-256 of all of it.
    """

    train: Pairs
    test: Pairs
    unseen: Array
    characters: str
    digest: str


def load(path: str | None, reverse: bool) -> Data:
    """The pairs of a file, shorter ones filled up with spaces; dates where no file is given.

    Raises:
        OSError: the file cannot be read.
        UsageError: it is no data set.
    """
    try:
        if path is None:
            (x, t), (x_test, t_test), vocabulary = encode_lines(date_lines())
        else:
            (x, t), (x_test, t_test), vocabulary = load_data(path, pad=PAD)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: {error}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not len(x_test):
        raise UsageError(f"{path}: {len(x)} lines, expected at least 10: a tenth is kept for validation")
    if not x.shape[1] or t.shape[1] < 2:
        raise UsageError(f"{path}: {x.shape[1]} + {t.shape[1] - 1} characters beside '_', expected at least 1 + 1")
    characters = "".join(vocabulary.char_to_id)
    digest = hashlib.sha256(characters.encode())
    for ids in (x, t, x_test, t_test):
        digest.update(str(ids.shape).encode() + np.ascontiguousarray(ids, "<i8").tobytes())
    step = -1 if reverse else 1
    train, test = (x[:, ::step].copy(), t), (x_test[:, ::step].copy(), t_test)
    return Data(train, test, unseen(train, test), characters, digest.hexdigest())


def unseen(train: Pairs, test: Pairs) -> Array:
    """Which validation pairs do not occur in training: booleans ``(rows,)``."""
    known = {row.tobytes() for row in np.hstack(train)}
    return np.array([row.tobytes() not in known for row in np.hstack(test)])
