"""Work done in forked processes that may loop, allocate without end or crash.

Forked, because a fresh interpreter would import torch for every one. A forked child hangs in torch
once its parent has computed with it: the parent may import it, but has to leave the computing to
the workers.
"""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import traceback
from dataclasses import dataclass

MEMORY = 4 << 30  # bytes that a worker may allocate beyond what it is born with
PATIENCE = 12
TIMERS = (signal.SIGALRM, signal.SIGPROF)
STOP = None


@dataclass(frozen=True)
class Died:
    """What a task gave whose worker did not survive it.

    Attributes:
        reason: ``time-out``, or the name of the signal, or the exit status.
    """

    reason: str


def limit(seconds):
    """From now on the worker has so much CPU time until the next call of this; then it is killed.

    One that waits is killed too, after ``PATIENCE`` times as long by the clock: the machine may be busy.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)


def forked(work, tasks, jobs):
    """Does tasks in forked processes.

    Args:
        work: function of a task, in whose calls of ``limit`` the time is counted.
        tasks: list; neighbours go to the same process where possible, which may keep what it
            computed for one for the next.
        jobs: number of processes.

    Yields:
        ``(task, result)`` in the order of completion; ``Died`` for a result where there is none.
    """
    share = -(-len(tasks) // jobs) or 1
    queues = [collections.deque(tasks[i : i + share]) for i in range(0, len(tasks), share)]
    busy = {}

    def give(worker, queue):
        source = queue or max(queues, key=len)
        if not source:
            worker.stop()
            return
        task = source.popleft() if source is queue else source.pop()
        worker.connection.send(task)
        busy[worker.connection] = worker, queue, task

    try:
        for queue in queues:
            give(_Worker(work), queue)
        while busy:
            for connection in multiprocessing.connection.wait(list(busy)):
                worker, queue, task = busy.pop(connection)
                try:
                    result = connection.recv()
                except (EOFError, ConnectionError):
                    result, worker = Died(worker.reason()), None
                yield task, result
                give(worker or _Worker(work), queue)
    finally:
        for worker, _, _ in busy.values():
            worker.process.kill()


class _Worker:
    def __init__(self, work):
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self):
        self.connection.send(STOP)
        self.process.join()

    def reason(self):
        self.process.join()
        code = self.process.exitcode
        if -code in TIMERS:
            return "time-out"
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name


def _serve(work, connection, parent):
    import torch

    for stream in (1, 2):  # what a mutant, or torch about it, has to say belongs to nobody's terminal
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for timer in TIMERS:
        signal.signal(timer, signal.SIG_DFL)  # a kill that no loop and no handler can put off
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_allocated() + MEMORY, resource.RLIM_INFINITY))
    while True:
        while not connection.poll(5):
            if os.getppid() != parent:  # no end of file tells: later workers hold the same pipes
                return
        task = connection.recv()
        if task is STOP:
            return
        try:
            result = work(task)
        except Exception:  # a fault of the instrument's own, to be seen
            result = Died(traceback.format_exc())
        limit(0)
        connection.send(result)


def _allocated():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
