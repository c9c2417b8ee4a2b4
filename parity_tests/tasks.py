"""Tasks for worker processes, in a module of their own: a worker that runs them imports nothing heavy."""

import os
import signal


def doubled(number, what):
    """A task of two results, which may end its worker between them."""
    yield number
    if what == "exits":
        os._exit(3)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "raises":
        raise ValueError("no such thing")
    yield 2 * number


def told(reason, done, number, what):
    return f"{what}: {reason}", (10 * number, "left")


def unstarted():
    os._exit(4)
