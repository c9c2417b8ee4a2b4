"""A process that stands between ours and somebody's code, and lets nothing of it live on.

Only the standard library is imported here, since it runs before everything else.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans of any generation become our children, in any session
SECONDS = 2.0  # that ending them all may take


def stand(lifeline: int, status: int) -> None:
    """Forks: returns in the child; this process becomes its warden, and never returns.

    The warden waits until the child ends or ``lifeline`` closes, writes how the child ended to ``status``, as a
    wait status in digits, and kills what is left of it. Both are of one session, which the caller has to have made,
    but the child of a group of its own, so that a signal to it spares the warden. Off Linux, a process that left the
    group is not found again.

    Args:
        lifeline: descriptor, whose other end the caller holds open as long as the code may run.
        status: descriptor to write to; the child keeps neither.
    """
    with contextlib.suppress(OSError, AttributeError):
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (told, tell, lifeline, status):
            os.close(descriptor)
        return
    try:
        _close_all_but({lifeline, status, told, tell})
        _watch(child, lifeline, status, told)
    finally:
        os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _watch(child: int, lifeline: int, status: int, told: int) -> None:
    while True:
        ready, _, _ = select.select([lifeline, told], [], [])
        if lifeline in ready:
            break
        os.read(told, 512)
        pid, how = os.waitpid(child, os.WNOHANG)
        if pid:
            os.write(status, str(how).encode())
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    end_children(SECONDS)


def end_children(seconds: float) -> None:
    """Kills the children of this process until there are none; those of a dead child become ours on Linux."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for pid in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def children(parent: int) -> list[int]:
    """The process ids of a process's children; none where there is no ``/proc``."""
    return _processes(1, parent)


def members(session: int) -> list[int]:
    """The process ids of a session's processes; none where there is no ``/proc``."""
    return _processes(3, session)


def _processes(field: int, value: int) -> list[int]:
    """Those of whose ``/proc/PID/stat`` a field behind the state has a value."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path("/proc", str(int(name)), "stat").read_text(errors="replace")
            if int(stat.rpartition(")")[2].split()[field]) == value:
                found.append(int(name))
    return found


def _close_all_but(kept: Iterable[int]) -> None:
    last = -1
    for descriptor in sorted(kept):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, 1 << 16)
