"""The tests that judge mutants of what no layer runs, by a table in a file of theirs, in a process of their own."""

import functools
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import UsageError

SECONDS = 120  # of a processor that all tests of a module may take
PATIENCE = 6  # times as long by the clock: the machine may be busy


class Judges(NamedTuple):
    """What a file of tests says.

    Attributes:
        tests: by the name of a module, the tests that judge it.
        failed: function of tests that runs them, and gives the first that fails, or empty text.
    """

    tests: Mapping[str, Sequence[str]]
    failed: Callable[[Sequence[str]], str]


@functools.cache
def judges(file: str) -> Judges:
    """Reads ``TESTS`` and ``failed`` of a Python file, which is run.

    Raises:
        UsageError: there is no such file, or it has not both.
    """
    spec = importlib.util.spec_from_file_location("judges", file) if Path(file).is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"tests is {file!r}, expected a Python file with TESTS and failed")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = Judges(module.TESTS, module.failed)
    except Exception as error:
        raise UsageError(f"tests is {file!r}, expected a Python file with TESTS and failed: "
                         f"{type(error).__name__}: {error}") from error
    for name in found.tests:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"{file}: TESTS names the module {name!r}, which is not there")
    return found


def apart(work: Callable[[], str]) -> str:
    """What a function of no argument gives, in a forked process: what it imports is gone afterwards.

    Where that does not end in order, how it ends.
    """
    here, there = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(here)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the limits of the worker are not its own
            signal.setitimer(signal.ITIMER_REAL, PATIENCE * SECONDS)
            try:
                text = work()
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
            with open(there, "w", encoding="utf-8") as file:
                file.write(text)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(there)
    with open(here, encoding="utf-8") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    return text if not ended else f"ended with {ended}"
