"""Where somebody's code runs: a process of its own, with limits, that may crash, hang, exit or lie.

What it says comes over a pipe, as plain data (``wire``); its standard output goes to a file, its standard input is
empty. Between it and us stands a warden (``parity.warden``), so that whatever it starts ends with it.
"""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from .. import warden
from .wire import Channel, Link, Malformed, printable

Job = Callable[[Channel], None]
Receive = Callable[..., None]  # of our end of a conversation and the parts of a message
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # macOS's own libraries do not survive a fork
PRINTED = 256  # MiB that a file may grow to, its standard output included
OUTPUT_KEPT = 2000  # characters of what the code printed
ENDING = 1.0  # seconds between closing its pipe and its end that a process gets
WANT_ANSWER = ("ready", "answer")  # messages after which the examiner listens
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit(memory: int) -> None:
    """Limits this process: ``memory`` MiB beyond what it has now, no core dump, no endless file."""
    try:
        import resource
    except ImportError:  # no such limits on Windows
        return
    with contextlib.suppress(ValueError, OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (memory << 20),) * 2)
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, PRINTED << 20)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


def quiet_down(output: int) -> None:
    """Standard input empty, standard output and error into a file, no windows."""
    os.environ["MPLBACKEND"] = "Agg"
    sys.dont_write_bytecode = True  # nothing is left beside the user's files
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdin = open(os.devnull)  # noqa: SIM115 (for the life of the process)


def steady_randomness() -> None:
    """Makes generators that nobody seeded start alike, so that a forward can be repeated."""
    np.random.seed(0)
    random.seed(0)
    original = np.random.default_rng
    np.random.default_rng = lambda seed=None: original(0 if seed is None else seed)


class _Warded:
    """Our side of a process under a warden: four pipes, of which we keep one end each."""

    def __init__(self) -> None:
        self.said, self.say = os.pipe()  # what the code says
        self.asked, self.ask = os.pipe()  # what it is asked
        self.lifeline, self.held = os.pipe()
        self.status, self.tell = os.pipe()
        self.theirs = self.say, self.asked, self.lifeline, self.tell
        self.link = Link(self.said, self.ask)
        self.pid = 0

    def started(self, pid: int) -> None:
        """Keeps our ends only."""
        self.pid = pid
        for descriptor in self.theirs:
            os.close(descriptor)
        os.set_blocking(self.status, False)

    def hear(self, receive: Receive) -> str | None:
        """Every message until the last; how it went wrong in words, None where it just ended."""
        try:
            while (message := self.link.receive()) is not None:
                if message == ["end"]:
                    return ""
                receive(self.link, *message)
        except TimeoutError:
            return "it did not end within {seconds:g} s: an endless loop?"
        except Malformed as error:
            return f"what its process sent is no message of the audit: {error}"
        except OSError:  # it closed what it was to read
            pass
        return None

    def end(self, by_itself: bool) -> int | None:
        """Ends everything that runs under the warden; the wait status of the code's process, None if unknown."""
        if by_itself:
            select.select([self.status], [], [], ENDING)
        os.close(self.held)
        until, gone = time.monotonic() + warden.SECONDS + 1, 0
        while not gone and time.monotonic() < until:
            gone, _ = os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0 if gone else 0.002)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in warden.members(self.pid):  # where the warden itself was killed
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not gone:
            os.waitpid(self.pid, 0)
        try:
            text = os.read(self.status, 8)
        except BlockingIOError:
            text = b""
        for descriptor in (self.said, self.ask, self.status):
            os.close(descriptor)
        return int(text) & 0xFFFF if text.isdigit() else None


def forked(job: Job, seconds: float, memory: int, receive: Receive) -> str:
    """Runs ``job(link)`` in a fork of this process, in a session of its own.

    Args:
        job: function of a ``Link``.
        seconds: after which the process is killed.
        memory: MiB that it may take beyond what it has; each process that it starts as well.
        receive: called with our ``Link`` and the parts of every message.

    Returns:
        How it ended, in words; empty where the job came to its end.
    """
    warded = _Warded()
    with tempfile.TemporaryFile() as output:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork beside threads: the child only computes with NumPy
            pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for descriptor in (warded.said, warded.ask, warded.held, warded.status):
                    os.close(descriptor)
                warden.stand(warded.lifeline, warded.tell)
                _work(job, Link(warded.asked, warded.say), output, memory)
            finally:
                os._exit(1)
        warded.started(pid)
        warded.link.allow(seconds)
        how: str | None = ""
        try:
            how = warded.hear(receive)
        finally:
            status = warded.end(how is None)
        return _words(status) + _tail(output) if how is None else how.format(seconds=seconds)


def _work(job: Job, link: Link, output: IO[bytes], memory: int) -> NoReturn:
    """In the child: the job, within limits; never returns."""
    code = 1
    try:
        quiet_down(output.fileno())
        limit(memory)
        steady_randomness()
        job(link)
        link.send("end")
        code = 0
    finally:
        os._exit(code)


def relayed(job: Job, seconds: float, memory: int, outer: Channel) -> str:
    """Runs ``job(link)`` in a fork that stays in this process's session, and passes on what it says.

    Args:
        job, seconds, memory: as for ``forked``.
        outer: the ``Link`` to our own parent, whose answers are passed back.

    Returns:
        How it ended, in words; empty where the job came to its end.
    """
    (reading, say), (asked, writing) = os.pipe(), os.pipe()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            _work(job, Link(asked, say), output, memory)
        os.close(say)
        os.close(asked)
        link = Link(reading, writing)
        link.allow(seconds)
        how: str | None = None
        try:
            while (message := link.receive()) is not None:
                if message == ["end"]:
                    how = ""
                    break
                outer.send(*message)
                if message[0] in WANT_ANSWER:
                    link.send(*(outer.receive() or ["done"]))
        except TimeoutError:
            how = f"it did not end within {seconds:g} s: an endless loop?"
        except Malformed as error:
            how = f"what its process sent is no message of the audit: {error}"
        finally:
            os.close(reading)
            os.close(writing)
            status = _reaped(pid, ENDING if how is None else 0)
        return _words(status) + _tail(output) if how is None else how


def _reaped(pid: int, seconds: float) -> int | None:
    """The wait status of a process that ends by itself in so many seconds; else it is killed, and None given."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            return status
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _words(status: int | None) -> str:
    if status is None:
        return "its process was killed"
    if os.WIFSIGNALED(status):
        try:
            name = signal.Signals(os.WTERMSIG(status)).name
        except ValueError:
            name = str(os.WTERMSIG(status))
        return f"it crashed the interpreter ({name})"
    return f"it ended the process with exit code {os.WEXITSTATUS(status)}"


def _tail(output: IO[bytes]) -> str:
    """The last line that was printed, with words before it; empty for none."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - OUTPUT_KEPT))
    lines = printable(output.read(OUTPUT_KEPT).decode(errors="replace")).strip().splitlines()
    return f"; its last words: {lines[-1]}" if lines else ""


def in_place(job: Job, receive: Receive) -> str:
    """Runs ``job(link)`` here, where forking is not possible; the global random state is put back."""

    class Direct:
        """Both ends of a conversation."""

        def __init__(self, other: "Direct | None" = None) -> None:
            self.waiting: list[list[Any]] = []
            self.other = other

        def send(self, *message: Any) -> None:
            if self.other is None:
                receive(examiner, *message)
            else:
                self.other.waiting.append(list(message))

        def receive(self) -> list[Any]:
            return self.waiting.pop(0)

        def allow(self, seconds: float) -> None:
            """Nobody counts here."""

    direct = Direct()
    examiner = Direct(direct)
    state, generator = np.random.get_state(), np.random.default_rng
    other = random.getstate()
    try:
        steady_randomness()
        job(direct)
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    except SystemExit:
        return "it called exit()"
    finally:
        np.random.set_state(state)
        np.random.default_rng = generator
        random.setstate(other)


BOOTSTRAP = """import sys
sys.path[:] = {path!r}
from parity.warden import stand
stand({lifeline}, {tell})
from parity.auditing.{module} import child
child({arguments!r}, {asked}, {say})
"""


def fresh(module: str, arguments: dict[str, Any], folder: str, seconds: float, receive: Receive) -> tuple[str, str]:
    """Runs ``parity.auditing.MODULE.child(arguments, reading, writing)`` in a new interpreter, in a folder.

    Args:
        module: name of a module.
        arguments: dict of plain values.
        folder: its working directory.
        seconds: after which it is killed; ``receive`` may allow more through the link.
        receive: called with our ``Link`` and the parts of every message.

    Returns:
        How it ended, in words, empty where it came to its end; and the last line that it printed.
    """
    if not hasattr(os, "fork"):
        raise OSError("a file can be audited only where processes can fork: not on this system")
    path = [str(Path(p).resolve()) if p else os.getcwd() for p in sys.path]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in THREADS:
        environment.setdefault(name, "1")  # small matrices; and threads fork badly
    warded = _Warded()
    with tempfile.TemporaryFile() as output:
        program = BOOTSTRAP.format(path=path, module=module, arguments=arguments, lifeline=warded.lifeline,
                                   tell=warded.tell, asked=warded.asked, say=warded.say)
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, pass_fds=warded.theirs, start_new_session=True)
        warded.started(process.pid)
        warded.link.allow(seconds)
        how: str | None = ""
        try:
            how = warded.hear(receive)
        finally:
            status = warded.end(how is None)
            process.returncode = 0  # waited for already
        tail = _tail(output)
        return (_words(status) + tail if how is None else how.format(seconds=seconds)), tail.partition(": ")[2]
