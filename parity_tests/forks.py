"""Processes that run a command of ``torch_port`` and cost no import: one interpreter loads torch and forks for each."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

WAIT = 120  # seconds; only what hangs takes so long

SERVER = """if True:
    import io, json, os, signal, sys
    import torch, torch_port.predict, torch_port.train, torch_port.training.run
    torch.set_num_threads(1)
    torch_port.Adam([torch.zeros(1, requires_grad=True)])  # loads half of torch
    for line in sys.stdin:
        job = json.loads(line)
        if "poll" in job:
            pid, status = os.waitpid(job["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if not pid:
            for handle, path in enumerate(job["files"]):
                new = os.open(path, os.O_RDONLY if handle == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.dup2(new, handle)
            sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding=job["encoding"])
            sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), encoding="utf-8")
            os.environ.update(job["env"])
            # a shell that runs the tests in the background makes them ignore the signal, and their children too
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.argv = ["command", *job["argv"]]
            exec(job["before"])
            sys.exit(getattr(torch_port, job["command"]).main())
        print(json.dumps(pid), flush=True)
"""


class Forks:
    """Starts processes; a context.

    Args:
        folder: where their output goes.
    """

    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    def __enter__(self):
        self.server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return self

    def __exit__(self, *error):
        self.server.stdin.close()
        self.server.wait(WAIT)
        self.server.stdout.close()

    def start(self, *argv, command="train", out=None, encoding="utf-8", env=None, stdin=os.devnull, before=""):
        """A process that runs the command with these arguments, and Python statements before it."""
        self.count += 1
        files = [str(self.folder / f"{self.count}.{name}") for name in ("out", "err")]
        for path in files:
            open(path, "w").close()  # there may be a look into them before the process has begun
        job = {"argv": [*map(str, argv)], "command": command, "encoding": encoding, "env": env or {}, "before": before,
               "files": [str(stdin), str(out or files[0]), files[1]]}
        return Fork(self.ask(job), self.ask, *files)

    def team(self, size, *argv, **options):
        """Processes that train together, as torchrun starts them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [self.start(*argv, env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
                for rank in range(size)]

    def ask(self, job):
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())


class Fork:
    """One process.

    Attributes:
        code: its exit code, minus the signal that killed it; None while it runs.
    """

    def __init__(self, pid, ask, out, err):
        self.pid, self._ask, self._out, self._err = pid, ask, out, err
        self.code = None

    @property
    def out(self):
        return _read(self._out)

    @property
    def err(self):
        return _read(self._err)

    def running(self):
        if self.code is None:
            self.code = self._ask({"poll": self.pid})
        return self.code is None

    def send(self, number):
        os.kill(self.pid, number)

    def until(self, seen):
        """Waits until something is so, for as long as the process runs."""
        end = time.monotonic() + WAIT
        while not seen():
            assert self.running(), self.err
            assert time.monotonic() < end, f"waited in vain: {self.out[-500:]}"
            time.sleep(0.005)
        return self

    def wait(self, seconds=WAIT):
        """Waits for its end."""
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                raise AssertionError(f"still running after {seconds} s: {self.out[-500:]}{self.err[-500:]}")
            time.sleep(0.005)
        return self


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
