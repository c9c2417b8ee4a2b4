"""The command ``parity``: a table of subcommands, each a module that is loaded when it is asked for.

Such a module has ``arguments(parser)`` and ``run(args)``, which gives the
exit code: 0 where nothing failed, 1 where something did. Wrong usage exits with 2 and one line.
"""

import argparse
import importlib
import sys
from pathlib import Path

from .errors import UsageError
from .ours import Finder

COMMANDS = {
    "check": ("parity.commands.check", "hold the NumPy layers and their PyTorch twins against each other"),
    "replay": ("parity.commands.replay", "run one case again, from its id"),
    "calibrate": ("parity.commands.calibrate", "measure false alarms and planted errors found, beside other rules"),
    "lockstep": ("parity.lockstep", "train both sides on the same batches and show how far apart they drift"),
    "convert": ("parity.convert", "convert weights between .safetensors and the textbook's .pkl"),
    "audit": ("parity.auditing.command", "judge the hand-written gradients of somebody's NumPy layers"),
    "mutate": ("parity.mutation.command", "break the layers on purpose and see which check notices"),
    "flake": ("parity.commands.flake", "count the alarms on right code over many seeds"),
    "list": ("parity.commands.list", "show the catalogue and the lanes"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


HERE = Path(__file__).resolve().parents[1]  # the folder of the packages that run


def _version():
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"parity {version('numpy-torch-parity')}, in {HERE}"
    except PackageNotFoundError:
        return f"parity, not installed, in {HERE}"


def _another_copy():
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


def _sources(base, name):
    return (path.relative_to(base) for path in (base / name).rglob("*.py"))


def main(argv=None):
    """Runs the command line; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
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
    module = importlib.import_module(COMMANDS[args.command][0])
    parser = _Parser(prog=f"parity {args.command}", description=COMMANDS[args.command][1].capitalize() + ".")
    module.arguments(parser)
    try:
        return module.run(parser.parse_args(argv[1:]))
    except (UsageError, OSError) as error:
        parser.error(str(error))
