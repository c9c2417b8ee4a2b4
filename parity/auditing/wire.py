"""Messages between two processes of which one runs somebody's code: plain data, read strictly.

A frame is the length of its header, the header, JSON, and behind it the raw bytes of the arrays that the header
names by dtype and shape. Nothing that is read can run, and nothing is allocated before its size is known to be
within ``HEADER``, ``FRAME`` and ``TOTAL``.
"""

import json
import math
import os
import select
import struct
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

LENGTH = struct.Struct("!I")
HEADER = 1 << 20  # bytes of one header
FRAME = 64 << 20  # bytes of the arrays of one message
TOTAL = 512 << 20  # bytes of everything that one process may send
MESSAGES = 10_000  # that one process may send
TEXT = 4000  # characters of one text
DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilqBHILQefdgFDG"}


class Malformed(ValueError):
    """What came is no message."""


def encode(message: Any) -> bytes:
    """The frame of a message: a tree of None, bool, int, float, str, lists, dicts with text keys, and arrays."""
    arrays: list[bytes] = []

    def plain(x: Any) -> Any:
        if isinstance(x, np.generic) and x.dtype.kind in "biuf" and x.dtype.itemsize <= 8:
            return x.item()
        if isinstance(x, (np.ndarray, np.generic)):
            x = np.asarray(x)
            if x.dtype.str not in DTYPES:
                raise TypeError(f"an array of dtype {x.dtype} cannot be sent")
            arrays.append(x.tobytes())
            return {"array": [x.dtype.str, list(x.shape)]}
        if isinstance(x, dict):
            return {"dict": {str(k): plain(v) for k, v in x.items()}}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        if isinstance(x, str):
            return x[:TEXT]
        if x is None or isinstance(x, (bool, int, float)):
            return x
        raise TypeError(f"{type(x).__name__} cannot be sent")

    header = json.dumps(plain(message)).encode()
    return b"".join([LENGTH.pack(len(header)), header, *arrays])


def decode_header(header: bytes) -> tuple[Any, int]:
    """A header's tree, and the bytes of arrays that follow it.

    Raises:
        Malformed: no such tree, or arrays of too many bytes.
    """
    try:
        tree = json.loads(header.decode())
        return tree, _bytes_of(tree)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Malformed(f"{type(error).__name__} in a header") from error


def _arrays_of(tree: Any) -> Iterator[tuple[np.dtype[Any], tuple[int, ...]]]:
    if isinstance(tree, list):
        for x in tree:
            yield from _arrays_of(x)
    elif isinstance(tree, dict):
        ((kind, inside),) = tree.items()
        if kind == "array":
            code, shape = inside
            if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
                raise Malformed("an array's shape")
            yield DTYPES[code], tuple(shape)
        elif kind == "dict":
            for x in inside.values():
                yield from _arrays_of(x)
        else:
            raise Malformed("a header's tree")


def _bytes_of(tree: Any) -> int:
    size = sum(max(1, math.prod(n for n in shape if n)) * dtype.itemsize for dtype, shape in _arrays_of(tree))
    if size > FRAME:
        raise Malformed(f"arrays of {size} bytes, more than {FRAME}")
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape in _arrays_of(tree))


def build(tree: Any, body: bytes) -> Any:
    """The message of a header's tree and its arrays' bytes."""
    place = 0

    def value(x: Any) -> Any:
        nonlocal place
        if isinstance(x, list):
            return [value(v) for v in x]
        if isinstance(x, str):
            return printable(x)
        if not isinstance(x, dict):
            return x
        if "dict" in x:
            return {printable(k): value(v) for k, v in x["dict"].items()}
        code, shape = x["array"]
        dtype, count = DTYPES[code], math.prod(shape)
        raw = body[place : place + count * dtype.itemsize]
        place += len(raw)
        if dtype.kind == "b" and max(raw, default=0) > 1:
            raise Malformed("a truth value that is neither")
        return np.frombuffer(raw, dtype).reshape(shape).copy()

    return value(tree)


def printable(text: str) -> str:
    """Text without the characters that would steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text[:TEXT])


class Channel(Protocol):
    """One end of a conversation."""

    def send(self, *message: Any) -> None: ...

    def receive(self) -> list[Any] | None: ...

    def allow(self, seconds: float) -> None: ...


class Link:
    """One end of a conversation over two descriptors.

    Args:
        reading, writing: descriptors; -1 for a direction that is not used.
        total: bytes that may come in all.
    """

    def __init__(self, reading: int, writing: int = -1, total: int = TOTAL) -> None:
        self.reading, self.writing, self.left = reading, writing, total
        self.messages, self.deadline = MESSAGES, math.inf

    def allow(self, seconds: float) -> None:
        """From now on, reading and writing may take so many seconds together."""
        self.deadline = time.monotonic() + seconds

    def send(self, *message: Any) -> None:
        """Sends a message.

        Raises:
            TimeoutError: nobody took it in time.
            OSError: the other end is closed.
        """
        data = memoryview(encode(message))
        while data:
            self._wait([], [self.writing])
            data = data[os.write(self.writing, data[: select.PIPE_BUF]) :]

    def receive(self) -> list[Any] | None:
        """The next message, a list that begins with a word; None where the other end is closed between two.

        Raises:
            Malformed: what came is none, or too much.
            TimeoutError: it did not come in time.
        """
        first = self._read(LENGTH.size, nothing=True)
        if not first:
            return None
        self.messages -= 1
        if self.messages < 0:
            raise Malformed(f"more than {MESSAGES} messages")
        (size,) = LENGTH.unpack(first)
        if not 0 < size <= HEADER:
            raise Malformed(f"a header of {size} bytes")
        tree, size = decode_header(self._read(size))
        message = build(tree, self._read(size))
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise Malformed("no message")
        return message

    def _read(self, size: int, nothing: bool = False) -> bytes:
        self.left -= size
        if self.left < 0:
            raise Malformed("more than may be sent")
        found = bytearray()
        while len(found) < size:
            self._wait([self.reading], [])
            chunk = os.read(self.reading, min(size - len(found), 1 << 20))
            if not chunk:
                if nothing and not found:
                    return b""
                raise Malformed("a message that breaks off")
            found += chunk
        return bytes(found)

    def _wait(self, reading: list[int], writing: list[int]) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0 or not any(select.select(reading, writing, [], None if left == math.inf else left)):
            raise TimeoutError
