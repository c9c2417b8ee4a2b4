"""Worker processes and their threads: one way to start them, to hear of a death, and to end them.

A worker has one task at a time, so that the one that kills it is known, and lives no longer than its parent,
whichever way that ends. There is no thread and no semaphore in the parent: nothing to wait for, nothing to leak.
"""

import collections
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, cast

Task = tuple[int, Any]  # its number, and the arguments
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
ATTEMPTS = 3  # at starting a worker that a signal ends before its first task
READY, RESULT, END, ERROR = "ready", "result", "end", "error"  # kinds of what a worker says


@dataclass(frozen=True)
class Died:
    """What a task gave whose worker did not survive it.

    Attributes:
        reason: ``signal 9 (SIGKILL)``, ``exit status 3``.
        code: the exit status, or the signal, negative.
        done: list of the results that it gave before.
    """

    reason: str
    code: int = 0
    done: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Raised:
    """What a task gave that ended in an exception.

    Attributes:
        error: its type and message.
        text: its traceback.
    """

    error: str
    text: str


def parallel(function: Callable[..., Iterator[Any]], tasks: Iterable[tuple[Any, ...]], jobs: int,
             lost: Callable[..., Any]) -> Iterator[list[Any]]:
    """The list of what ``function(*task)`` yields for every task, in their order, whatever the number of processes.

    Args:
        function: generator function of a module, so that another process can import it.
        tasks: iterable of argument tuples, drawn from as there is room.
        jobs: number of processes; with 1, everything happens in this one.
        lost: function of (how a worker died, results so far, *task) that gives the result to stand for the one
            that killed it, and the arguments of what is left of the task; None for either where there is none.

    Raises:
        RuntimeError: the function raised in a worker, or no worker could be started.
    """
    if jobs == 1:
        with one_thread():
            for task in tasks:
                yield list(function(*task))
        return
    numbered, again = enumerate(tasks), collections.deque[Task]()
    parts: dict[int, list[Any]] = {}
    finished: dict[int, list[Any]] = {}
    turn = 0

    def take(_: int) -> Task | None:
        return again.popleft() if again else next(numbered, None)

    for (number, task), result in pool(function, take, jobs):
        if isinstance(result, Raised):
            raise RuntimeError(f"{result.error}, in a worker process:\n{result.text}")
        some, left = parts.setdefault(number, []), None
        if isinstance(result, Died):
            some += result.done
            instead, left = lost(result.reason, result.done, *task)
            some += [] if instead is None else [instead]
        else:
            some += result
        if left is not None:
            again.append((number, left))
            continue
        finished[number] = parts.pop(number)
        while turn in finished:
            yield finished.pop(turn)
            turn += 1


def pool(work: Callable[..., Iterator[Any]], take: Callable[[int], Task | None], jobs: int, *, method: str = "spawn",
         prepare: Callable[[], Any] | None = None) -> Iterator[tuple[Task, Any]]:
    """Does numbered tasks in worker processes.

    Args:
        work: generator function of the arguments of a task; spawned workers import it.
        take: function of a worker's place, below ``jobs``, that gives its next task ``(number, arguments)``, None
            where there is none now.
        jobs: number of processes.
        method: ``spawn``, because a forked child hangs once its parent has computed with torch; or ``fork``.
        prepare: function that a worker calls before its first task.

    Yields:
        ``(task, tuple of results)`` in the order of completion; ``Died`` or ``Raised`` where there is no such tuple.

    Raises:
        RuntimeError: no worker could be started.
    """
    workers: list[_Worker | None] = [None] * jobs
    attempts = 0
    try:
        while True:
            for place, worker in enumerate(workers):
                if (worker is None or worker.task is None) and (task := take(place)) is not None:
                    workers[place] = worker = worker or _Worker(work, method, prepare)
                    worker.give(task)
            busy = {worker.connection: (place, worker) for place, worker in enumerate(workers)
                    if worker and worker.task}
            if not busy:
                return
            for one in connection.wait(list(busy)):
                place, worker = busy[one]
                result = worker.hear()
                if result is None:
                    continue
                task, worker.task = cast(Task, worker.task), None  # it is busy
                if isinstance(result, Died):
                    workers[place] = None
                    if not worker.ready:
                        attempts += 1
                        if result.code >= 0 or attempts == ATTEMPTS:
                            raise RuntimeError(f"a worker process could not start: {result.reason}")
                        workers[place] = fresh = _Worker(work, method, prepare)
                        fresh.give(task)
                        continue
                yield task, result
    finally:
        end(worker.process for worker in workers if worker)


def end(processes: Iterable[Any]) -> None:
    """Kills worker processes, and waits until they are gone."""
    processes = list(processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


class _Worker:
    """A worker process as its parent sees it.

    Attributes:
        ready: whether it has got as far as taking tasks.
        task: what it does, None for nothing.
    """

    def __init__(self, work: Any, method: str, prepare: Any) -> None:
        context: Any = multiprocessing.get_context(method)
        self.connection, theirs = context.Pipe()
        # pickled here: a spawned worker loads it, and so imports torch, once it watches its parent
        work, prepare = (work, prepare) if method == "fork" else (pickle.dumps(work), pickle.dumps(prepare))
        self.process = context.Process(target=_serve, args=(theirs, work, prepare), daemon=True)
        with _inherited():
            self.process.start()
        theirs.close()
        self.ready = False
        self.task: Task | None = None
        self.results: list[Any] = []

    def give(self, task: Task) -> None:
        self.task, self.results = task, []
        with contextlib.suppress(OSError):  # of one that is dead, which hear() says
            self.connection.send(task[1])

    def hear(self) -> Any:
        """Takes in a message; gives what came out of the task, None as long as it goes on."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            self.connection.close()
            code = self.process.exitcode
            return Died(_words(code), code, tuple(self.results))
        if kind == READY:
            self.ready = True
        elif kind == RESULT:
            self.results.append(value)
        return {END: tuple(self.results), ERROR: value}.get(kind)


def _words(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    known = {s.value: s.name for s in signal.Signals}
    return f"signal {-code}" + (f" ({known[-code]})" if -code in known else "")


def _serve(connection: Any, work: Any, prepare: Any) -> None:
    """The life of a worker."""
    for number in STOPPING:  # Ctrl-C is the parent's to handle
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone, or has no more for this worker
        try:
            work, prepare = (pickle.loads(x) if isinstance(x, bytes) else x for x in (work, prepare))
            if prepare:
                prepare()
        except Exception as error:
            connection.send((ERROR, _raised(error)))
            return
        connection.send((READY, None))
        with one_thread():
            while True:
                task = connection.recv()
                try:
                    for result in work(*task):
                        connection.send((RESULT, result))
                except Exception as error:
                    connection.send((ERROR, _raised(error)))
                else:
                    connection.send((END, None))


def _raised(error: Exception) -> Raised:
    return Raised(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _inherited() -> Iterator[None]:
    """What a new process inherits: one thread for NumPy, and no signal before it is there to handle one."""
    unset = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    mask, handlers = None, {}
    late: list[int] = []
    if threading.current_thread() is threading.main_thread():
        # a signal may come to another thread, and would raise here all the same, with the process half started
        handlers = {number: handler for number in STOPPING if callable(handler := signal.getsignal(number))}
        for number in handlers:
            signal.signal(number, lambda number, _: late.append(number))
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # it would unblock the signals again
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Torch computes on one thread, the fastest for small products; the caller's number stands again afterwards."""
    return torch_threads(1)


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Torch computes on so many threads; the caller's number stands again afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
