"""The command ``parity``: a table of subcommands, each a module that is loaded when it is asked for.

Such a module has ``arguments(parser)`` and ``run(args)``, which gives the
exit code: 0 where nothing failed, 1 where something did. Wrong usage exits with 2 and one line.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import UsageError
from .ours import Finder
from .processes import STOPPING, THREAD_VARIABLES, end

COMMANDS = {
    "check": ("parity.commands.check", "hold the NumPy layers and their PyTorch twins against each other"),
    "replay": ("parity.commands.replay", "run one case again, from its id"),
    "calibrate": ("parity.commands.calibrate", "measure false alarms and planted errors found, beside other rules"),
    "lockstep": ("parity.training.lockstep", "train both sides on the same batches and show how far apart they drift"),
    "convert": ("parity.training.convert", "convert weights between .safetensors and the textbook's .pkl"),
    "audit": ("parity.commands.audit", "judge the hand-written gradients of somebody's NumPy layers"),
    "mutate": ("parity.commands.mutate", "break the layers on purpose and see which check notices"),
    "flake": ("parity.commands.flake", "count the alarms on right code over many seeds"),
    "list": ("parity.commands.list", "show the catalogue and the lanes"),
}

TORCHLESS = ("parity.training.convert", "parity.commands.audit")  # every other command computes with torch


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


HERE = Path(__file__).resolve().parents[1]  # the folder of the packages that run


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"parity {version('numpy-torch-parity')}, in {HERE}"
    except PackageNotFoundError:
        return f"parity, not installed, in {HERE}"


def _another_copy() -> str | None:
    """One line where the current folder is a clone with other code than what runs; None elsewhere."""
    names = "parity", "reference", "torch_port"
    if not all(Path(name, "__init__.py").is_file() for name in names):
        return None
    files = {path for base in (Path(), HERE) for name in names for path in _sources(base, name)}
    for path in sorted(files):
        if not (path.is_file() and (HERE / path).is_file() and path.read_bytes() == (HERE / path).read_bytes()):
            return (f"parity: this runs the copy in {HERE}, not the one in this folder, and {path} differs (to have it "
                    "run this one: python -m pip install -c constraints.txt -e .)")
    return None


def _sources(base: Path, name: str) -> Iterator[Path]:
    return (path.relative_to(base) for path in (base / name).rglob("*.py"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: list of arguments; None for those of the process, which is the command's own then: its signals are
            handled here.

    Returns:
        The exit code: that of the command; 1 after an error of our own; 128 and the signal's number where one
        ended the run, and where nobody reads the output any more (141).

    Raises:
        SystemExit: wrong usage (2), or help.
    """
    leaving = Leaving()
    if argv is None:
        leaving.listen()
    try:
        try:
            code = _command(sys.argv[1:] if argv is None else argv, leaving)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a pipe that nobody reads can still be told from other errors
    except BaseException as error:
        code = leaving.code(error)
    return leaving.finish(code)


def _command(argv: Sequence[str], leaving: "Leaving") -> int:
    summaries = "\n".join(f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items())
    top = _Parser(prog="parity", usage="parity COMMAND [OPTIONS]", formatter_class=argparse.RawDescriptionHelpFormatter,
                  description=f"Prove that NumPy layers and their PyTorch twins agree.\n\ncommands:\n{summaries}\n\n"
                              "parity COMMAND --help explains one.")
    top.add_argument("--version", action="store_true", help="show the version, and where the code is, and exit")
    top.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    args = top.parse_args(argv[:1])
    if args.version:
        print(_version())
        return 0
    if args.command is None:
        top.print_help()
        return 2
    if args.command not in COMMANDS:
        top.error(f"unknown command {args.command!r}, expected one of {', '.join(COMMANDS)}")
    if (line := _another_copy()) is not None:
        print(line, file=sys.stderr)
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)  # a command runs in any folder, whatever stands there
    choose_threads(argv)
    module = importlib.import_module(COMMANDS[args.command][0])
    parser = _Parser(prog=f"parity {args.command}", description=COMMANDS[args.command][1].capitalize() + ".")
    module.arguments(parser)
    args, leaving.prog = parser.parse_args(argv[1:]), parser.prog
    if module.__name__ not in TORCHLESS:
        importlib.import_module("torch")
    leaving.started = True
    try:
        code: int = module.run(args)
        return code
    except BrokenPipeError:
        raise
    except (UsageError, OSError) as error:
        parser.error(str(error))


def choose_threads(argv: Sequence[str]) -> None:
    """Sets how many threads NumPy and torch will start, before either is imported, for this process and its workers.

    One, since products of these sizes gain nothing from two, and thread pools fight where anything else runs;
    ``--threads N`` where a command has it, or ``OMP_NUM_THREADS`` where that is set, says otherwise.
    """
    option = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    option.add_argument("--threads")
    try:
        asked = option.parse_known_args(argv)[0].threads
    except argparse.ArgumentError:  # the command's own parser says so
        return
    if asked is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, asked))
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, os.environ.get("OMP_NUM_THREADS", "1"))


class Leaving:
    """How the command ends: one place for signals, closed pipes and errors.

    Before the work has begun a signal ends the process at once: an exception out of the middle of an import could
    not be kept from leaving traces. Later the first one raises ``KeyboardInterrupt``, upon which a command shows what
    it has, and the second does so again; more are not heard, so that the cleaning up comes to its end.

    Attributes:
        prog: the command's name, for messages.
        started: whether the work has begun.
        number: of the last signal, 0 for none.
    """

    def __init__(self) -> None:
        self.prog, self.started, self.number = "parity", False, 0
        self.heard, self.own = 0, False

    def listen(self) -> None:
        """From now on signals are handled here; those that whoever started us wants ignored stay so."""
        self.own = True
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)
        sys.unraisablehook = self._unraisable

    def _stop(self, number: int, frame: Any) -> None:
        self.number, self.heard = number, self.heard + 1
        if not self.started:
            os._exit(128 + number)
        if self.heard <= 2:
            raise KeyboardInterrupt

    def _unraisable(self, unraisable: Any) -> None:
        """A signal that fell into a destructor, where exceptions are lost, is raised again a little later."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
        elif self.heard <= 2:
            self.heard -= 1
            threading.Timer(0.01, os.kill, (os.getpid(), self.number)).start()

    def code(self, error: BaseException) -> int:
        """The exit code that an exception means; says in a line what an error of our own was."""
        if not self.own:
            raise error
        if self.number or isinstance(error, KeyboardInterrupt):  # whatever else it led to
            return 128 + (self.number or signal.SIGINT)
        if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
            return 128 + 13  # SIGPIPE, which Windows has not
        if isinstance(error, SystemExit) or sys.flags.dev_mode:
            raise error
        if isinstance(error, OSError):  # of the last flush
            print(f"{self.prog}: {error}", file=sys.stderr)
            return 2
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{self.prog}: error of its own: {type(error).__name__}: {error} ({place.filename}, line {place.lineno}; "
              "python -X dev -m parity shows more)", file=sys.stderr)
        return 1

    def finish(self, code: int) -> int:
        """Ends what still runs; gives the exit code."""
        if not self.own:
            return code
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        if not self.number and code != 128 + 13:
            return code
        end(multiprocessing.active_children())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        # not through the interpreter's own end, which would wait for threads and flush a closed pipe again
        os._exit(128 + self.number if self.number else code)
