"""Where somebody's code runs: a process of its own, with limits, that may crash, hang or exit.

Messages are pickles behind their length, on a pipe that the code does not see: its standard output
goes to a file, its standard input is empty.
"""

import contextlib
import os
import pickle
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # macOS's own libraries do not survive a fork
HEADER = struct.Struct("!Q")
PRINTED = 256  # MiB that a file may grow to, its standard output included
OUTPUT_KEPT = 2000  # characters of what the code printed


class Channel:
    """The writing end."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def send(self, *message):
        body = pickle.dumps(message)
        data = HEADER.pack(len(body)) + body
        while data:
            data = data[os.write(self.descriptor, data) :]


def messages(descriptor, quiet):
    """The messages of a pipe until it closes; TimeoutError where it says nothing for ``quiet()`` seconds."""
    buffer = b""
    while True:
        while len(buffer) >= HEADER.size:
            size = HEADER.size + HEADER.unpack(buffer[: HEADER.size])[0]
            if len(buffer) < size:
                break
            yield pickle.loads(buffer[HEADER.size : size])
            buffer = buffer[size:]
        left = quiet()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise TimeoutError
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return
        buffer += chunk


def limit(memory):
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


def quiet_down(output):
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


def steady_randomness():
    """Makes generators that nobody seeded start alike, so that a forward can be repeated."""
    np.random.seed(0)
    random.seed(0)
    original = np.random.default_rng
    np.random.default_rng = lambda seed=None: original(0 if seed is None else seed)


def forked(job, seconds, memory, receive, session=True):
    """Runs ``job(channel)`` in a fork of this process.

    Args:
        job: function of a ``Channel``.
        seconds: after which the process is killed.
        memory: MiB that it may take beyond what it has.
        receive: called with every message.
        session: whether it gets a session of its own, all of which is killed in the end; without, it stays in
            that of this process, whose parent will kill it.

    Returns:
        How it ended, in words; empty where the job came to its end.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork beside threads: the child only computes with NumPy
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if session:
                    os.setsid()
                os.close(reading)
                quiet_down(output.fileno())
                limit(memory)
                steady_randomness()
                channel = Channel(writing)
                job(channel)
                channel.send("end")
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        ended, deadline = False, time.monotonic() + seconds
        try:
            for message in messages(reading, lambda: deadline - time.monotonic()):
                if message == ("end",):
                    ended = True
                else:
                    receive(*message)
            how = ""
        except TimeoutError:
            how = f"it did not end within {seconds:g} s: an endless loop?"
        finally:
            os.close(reading)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if session:
                    os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        return how or ("" if ended else _words(status) + _tail(output))


def _words(status):
    if os.WIFSIGNALED(status):
        return f"it crashed the interpreter ({signal.Signals(os.WTERMSIG(status)).name})"
    return f"it ended the process with exit code {os.waitstatus_to_exitcode(status)}"


def _tail(output):
    output.seek(0)
    text = output.read()[-OUTPUT_KEPT:].decode(errors="replace").strip()
    return f"; it printed: {text}" if text else ""


def in_place(job, receive):
    """Runs ``job(channel)`` here, where forking is not possible; the global random state is put back."""

    class Direct:
        def send(self, *message):
            receive(*message)

    state, generator = np.random.get_state(), np.random.default_rng
    other = random.getstate()
    try:
        steady_randomness()
        job(Direct())
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    except SystemExit:
        return "it called exit()"
    finally:
        np.random.set_state(state)
        np.random.default_rng = generator
        random.setstate(other)


BOOTSTRAP = "import sys; sys.path[:] = {path!r}; from parity.auditing.load import child; child({arguments!r})"


def fresh(arguments, folder, seconds, receive):
    """Runs ``parity.auditing.load.child(arguments)`` in a new interpreter, in a folder.

    Args:
        arguments: dict of plain values.
        folder: its working directory.
        seconds: after which it is killed, where it says nothing.
        receive: called with every message.

    Returns:
        How it ended, in words; empty where it came to its end.
    """
    path = [str(Path(p).resolve()) if p else os.getcwd() for p in sys.path]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, "1")  # small matrices; and threads fork badly
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", BOOTSTRAP.format(path=path, arguments=arguments)], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        ended, heard = False, [time.monotonic()]
        try:
            for message in messages(process.stdout.fileno(), lambda: heard[0] + seconds - time.monotonic()):
                heard[0] = time.monotonic()
                if message == ("end",):
                    ended = True
                elif message != ("alive",):
                    receive(*message)
            how = ""
        except TimeoutError:
            how = f"it did not end within {seconds:g} s: an endless loop?"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.stdout.close()
            process.wait()
        if how or ended:
            return how
        code = process.returncode
        if code == -signal.SIGKILL and not ended:
            code = "unknown"
        words = (f"it crashed the interpreter ({signal.Signals(-code).name})" if isinstance(code, int) and code < 0
                 else f"it ended the process with exit code {code}")
        return words + _tail(errors)
