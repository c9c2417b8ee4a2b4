"""Work done in forked processes that may loop, allocate without end or crash.

Forked, because a fresh interpreter would import torch for every one. A forked child hangs in torch
once its parent has computed with it: the parent may import it, but has to leave the computing to
the workers.
"""

import collections
import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ...processes import Died, Raised, pool

MEMORY = 4 << 30  # bytes that a worker may allocate beyond what it is born with
PATIENCE = 12
TIMERS = (signal.SIGALRM, signal.SIGPROF)


def limit(seconds: int) -> None:
    """From now on the worker has so much CPU time until the next call of this; then it is killed.

    One that waits is killed too, after ``PATIENCE`` times as long by the clock: the machine may be busy.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)


def forked(work: Callable[[Any], Any], tasks: Sequence[Any], jobs: int) -> Iterator[tuple[Any, Any]]:
    """Does tasks in forked processes.

    Args:
        work: function of a task, in whose calls of ``limit`` the time is counted.
        tasks: list; neighbours go to the same process where possible, which may keep what it
            computed for one for the next.
        jobs: number of processes.

    Yields:
        ``(task, result)`` in the order of completion; ``Died`` for a result where there is none, of reason
        ``time-out`` or how the process ended, or the traceback of a fault of the instrument's own.
    """
    share = -(-len(tasks) // jobs) or 1
    queues = [collections.deque(tasks[i : i + share]) for i in range(0, len(tasks), share)]

    def take(place: int) -> tuple[int, Any] | None:
        own = queues[place]
        source = own or max(queues, key=len)
        if not source:
            return None
        task = source.popleft() if source is own else source.pop()
        return task, (task,)

    for (task, _), result in pool(partial(_once, work), take, len(queues), method="fork", prepare=_confine):
        if isinstance(result, Died):
            result = Died("time-out") if -result.code in TIMERS else Died(result.reason)
        elif isinstance(result, Raised):
            result = Died(result.text)
        else:
            (result,) = result
        yield task, result


def _once(work: Callable[[Any], Any], task: Any) -> Iterator[Any]:
    try:
        yield work(task)
    finally:
        limit(0)


def _confine() -> None:
    for stream in (1, 2):  # what a mutant, or torch about it, has to say belongs to nobody's terminal
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for timer in TIMERS:
        signal.signal(timer, signal.SIG_DFL)  # a kill that no loop and no handler can put off
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_allocated() + MEMORY, resource.RLIM_INFINITY))


def _allocated() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
