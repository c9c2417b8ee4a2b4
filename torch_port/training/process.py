"""What a command owes its process: signals end it in order, and a screen that cannot take a line harms nothing."""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

CLOSED_PIPE = 13  # SIGPIPE, where the reader of our output has gone
MARKS = {ord("☑"): "+", ord("☒"): "-"}  # for a screen that has not these


class Stop(KeyboardInterrupt):
    """End at once."""


class Pause(Exception):
    """End in order, with a checkpoint.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number


class Signals:
    """SIGINT, SIGTERM and SIGHUP of a command; a context.

    At first one ends the process on the spot, for nothing is at stake while modules load. After ``ready`` it raises
    ``Stop``; while ``patient`` the first is only noted, in ``number``, and the second raises. What was ignored stays
    ignored. Afterwards a process that is about to end ignores them all, and any other has its handlers back.

    Args:
        own: whether the process belongs to the command and ends with it.
    """

    def __init__(self, own: bool) -> None:
        self.own = self.early = own
        self.patient = False
        self.number = 0
        self._before: dict[int, Any] = {}

    def ready(self) -> None:
        """From now on something can be lost."""
        self.early = False

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows lacks one
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.own else handler)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.early:
            os._exit(128 + number)
        again, self.number = self.number, number
        if again or not self.patient:
            for each in self._before:
                signal.signal(each, signal.SIG_IGN)  # once is enough: what follows must not be torn apart
            raise Stop


class Screen:
    """Standard output, for as long as it lasts.

    Attributes:
        lost: whether it cannot be written to any more.
        closed: whether that is because its reader has gone.
    """

    def __init__(self, own: bool, command: str = "parity-train") -> None:
        self.own, self.command = own, command
        self.closed = self.lost = False

    def say(self, text: str, end: str = "\n") -> None:
        """Prints a line if it can be printed: what the encoding lacks is replaced, and a full disk is passed over."""
        if self.lost or sys.stdout is None:
            return
        try:
            print(printable(text, sys.stdout.encoding), end=end, flush=True)
        except OSError as error:
            self.lost, self.closed = True, isinstance(error, BrokenPipeError)
            if not self.closed:
                complain(f"standard output: {error.strerror}; what is printed is lost from here on", self.command)
            self._drop()

    def _drop(self) -> None:
        """What still waits in the buffer must not fail once more when Python ends."""
        if self.own:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str, encoding: str | None) -> str:
    """The text, with something legible for what an encoding lacks."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return text.translate(MARKS).encode(encoding, "replace").decode(encoding)


def complain(text: str, command: str = "parity-train") -> None:
    """A line on standard error, if there is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(printable(f"{command}: {text}", sys.stderr.encoding), file=sys.stderr, flush=True)
