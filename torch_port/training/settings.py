"""The settings of a training run: command line, TOML file, and what may change when a run is continued."""

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

FILE = "settings.toml"  # beside the model
MODELS = "attention", "peeky", "plain"


class UsageError(Exception):
    """What the user has to change; told in one line."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a run; ``parser`` says what each means."""

    model: str = "attention"
    data: str | None = None
    out: str = "trained"
    epochs: int = 4
    batch_size: int = 128
    hidden_size: int = 256
    wordvec_size: int = 16
    lr: float = 2e-3
    decay: bool = True
    max_grad: float = 5.0
    seed: int = 0
    init: str = "torch"
    reverse: bool = True
    dtype: str = "float32"
    device: str = "auto"
    threads: int = 1
    checkpoint_every: int = 100
    patience: int = 0
    timeout: int = 60
    plots: bool = True
    tensorboard: bool = False

    def toml(self) -> str:
        """The text of a settings file, for ``--config``."""
        values = {_key(name): value for name, value in dataclasses.asdict(self).items() if value is not None}
        # JSON writes scalars as TOML reads them, save the one control character that only TOML minds
        return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
                       for name, value in values.items())


NAMES = tuple(field.name for field in dataclasses.fields(Settings))
# what may differ when a run is continued; the data is held against its fingerprint instead of its path
FREE = {"data", "out", "device", "threads", "checkpoint_every", "patience", "timeout", "plots", "tensorboard"}


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose error is one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def number(kind: type, low: float, strict: bool = False) -> Callable[[str], Any]:
    """An argparse type: a finite number of that kind, at least (or more than) ``low``."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not (value > low if strict else value >= low) or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r}, expected {'>' if strict else '>='} {low}")
        return value

    parse.__name__ = kind.__name__
    return parse


def parser() -> argparse.ArgumentParser:
    """The command line; an option that is not given is None."""
    p = Parser("parity-train", description="Train a seq2seq model. Ctrl-C, or SIGTERM, saves a checkpoint and says how "
                                           "to continue; a second one ends at once.")
    positive, count, fraction = number(int, 1), number(int, 0), number(float, 0, strict=True)

    def add(name: str, text: str, **options: Any) -> None:
        default = getattr(Settings, name)
        if isinstance(default, bool):
            options["action"] = argparse.BooleanOptionalAction
            shown = name if default else f"no-{name}"
        else:
            shown = default
        if default is not None:
            text += f" (default: {shown})"
        flag = name if name == "model" else f"--{_key(name)}"
        # not argparse's own default: what was given must be told from what was not
        p.add_argument(flag, default=None, help=text, **options)

    add("model", "which model", nargs="?", choices=MODELS)
    add("data", "question_answer lines; without it dates, made on the spot", metavar="FILE")
    add("out", "where model, checkpoints, log and pictures go", metavar="DIR")
    p.add_argument("--config", metavar="FILE", help="settings in TOML, as in DIR/settings.toml; options given here win")
    p.add_argument("--resume", nargs="?", const="", metavar="PATH",
                   help="continue the run of that folder, or from that checkpoint (without PATH: of --out)")
    add("epochs", "times through the data", type=positive)
    add("patience", "stop when validation has not improved for so many epochs; 0: never", type=count,
        metavar="EPOCHS")
    add("checkpoint_every", "steps from one checkpoint to the next, beside that of each epoch; 0: only that",
        type=count, metavar="STEPS")
    add("batch_size", "pairs a step, of all processes together", type=positive)
    add("hidden_size", "H", type=positive)
    add("wordvec_size", "D", type=positive)
    add("lr", "learning rate of Adam, at first", type=fraction)
    add("decay", "let the learning rate fall linearly to zero")
    add("max_grad", "largest norm of all gradients", type=fraction)
    add("seed", "of initial weights and of the order of batches", type=count)
    add("init", "whose initial weights: torch's own, or the textbook's draw", choices=("torch", "textbook"))
    add("reverse", "reverse the questions")
    add("device", "auto: cuda where there is one", choices=("auto", "cpu", "cuda"))
    add("dtype", "of the arithmetic (bfloat16: autocast); weights are float32", choices=("float32", "bfloat16"))
    add("threads", "of torch on the CPU, in each process; at these sizes more are slower where anything else runs",
        type=positive)
    add("timeout", "seconds to wait for the other processes of torchrun", type=positive, metavar="SECONDS")
    add("plots", "draw loss, accuracy, attention; needs matplotlib")
    add("tensorboard", "write events for it, too; needs tensorboard")
    return p


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        given: the settings that command line and file name, by name.
        resume: folder or checkpoint to continue; None for a new run.
    """

    given: Mapping[str, Any]
    resume: Path | None

    def fresh(self) -> Settings:
        """The settings of a new run."""
        return Settings(**self.given)

    def continued(self, saved: Mapping[str, Any], source: str) -> Settings:
        """The settings of a run that goes on.

        Args:
            saved: settings that it had.
            source: its checkpoint.

        Raises:
            UsageError: a setting was given that would make it another run.
        """
        saved = _held({name: value for name, value in saved.items() if value is not None}, source)
        saved = dataclasses.asdict(Settings(**saved))
        free = FREE if saved["decay"] else FREE | {"epochs"}  # a falling learning rate is aimed at its last epoch
        for name, value in self.given.items():
            if name not in free and value != saved[name]:
                raise UsageError(f"{_flag(name, value)}: the run of {source} has {_flag(name, saved[name])}; "
                                 "leave it out, or begin another run in another --out")
        return Settings(**{**saved, **self.given})


def _flag(name: str, value: Any) -> str:
    if name == "model":
        return f"model {value}"
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{_key(name)}"
    return f"--{_key(name)} {value}"


def _key(name: str) -> str:
    return name.replace("_", "-")


def parse(argv: Sequence[str] | None) -> Request:
    """Reads the command line, and the file that ``--config`` names.

    Raises:
        OSError: the file cannot be read.
        SystemExit: of ``--help``.
        UsageError: wrong usage.
    """
    args = vars(parser().parse_args(argv))
    given = _read(args["config"]) if args["config"] is not None else {}
    given |= {name: args[name] for name in NAMES if args[name] is not None}
    if "data" in given:
        given["data"] = os.path.abspath(given["data"])  # the run may be continued from elsewhere
    resume = None
    if args["resume"] is not None:
        resume = Path(args["resume"] or given.get("out", Settings.out))
        given.setdefault("out", str(resume if resume.is_dir() or not resume.exists() else resume.parent))
    return Request(given, resume)


def _read(path: str) -> dict[str, Any]:
    """A settings file."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    return _held(table, path)


def _held(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings from a file, held to what the command line is held to."""
    argv = []
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in NAMES:
            raise UsageError(f"{source}: unknown setting {key!r}, expected one of "
                             f"{', '.join(map(_key, NAMES))}")
        if isinstance(value, bool) and isinstance(getattr(Settings, name), bool):
            argv.append(f"--{'' if value else 'no-'}{_key(name)}")
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            argv.append(str(value) if name == "model" else f"--{_key(name)}={value}")
        else:
            raise UsageError(f"{source}: {key} is {value!r}, expected a value as on the command line")
    try:
        args = vars(parser().parse_args(argv))
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    return {name: args[name] for name in NAMES if args[name] is not None}


def require(wanted: bool, package: str, option: str, instead: str = "") -> None:
    """Refuses, before anything starts, what would only fail for want of a package in the end."""
    if wanted and importlib.util.find_spec(package) is None:
        raise UsageError(f"{option} needs {package}: python -m pip install {package}{instead}")
