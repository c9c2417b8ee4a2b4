"""Running a script that shows a finding, in the child process, within the limits of an audit."""

import os
import sys
from typing import Any, NoReturn

from .sandbox import limit, quiet_down


def child(arguments: dict[str, Any], reading: int, writing: int) -> NoReturn:
    """What the new interpreter does: becomes ``python FILE``, of which only the exit code and the output are heard."""
    quiet_down(1)
    limit(arguments["memory"])
    os.close(reading)  # ``writing`` stays open as long as the program runs: its end is what is waited for
    os.execv(sys.executable, [sys.executable, arguments["file"]])
