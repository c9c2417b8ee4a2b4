"""The mutants that are the same function: a small file, each with the reason, held to what is made and found."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from .mutants import Key

PATH = Path(__file__).with_name("equivalents.toml")


@dataclass(frozen=True)
class Equivalent:
    """One entry: mutants of one statement that no check can tell from the right code, and why.

    Attributes:
        where: ``reference.lstm:LSTM.step``.
        operator: kind of mistake.
        before: the statement.
        after: the mutants of it that are meant.
        reason: why they are the same function.
    """

    where: str
    operator: str
    before: str
    after: tuple[str, ...]
    reason: str

    def mutants(self) -> list[Key]:
        """The mutants meant, as ``Mutant.key`` has them."""
        return [(self.where, self.operator, self.before, after) for after in self.after]


def load(path: Path = PATH) -> list[Equivalent]:
    """The entries of a file.

    Raises:
        ValueError: an entry without a reason, or one mutant twice.
    """
    entries = [Equivalent(**entry | {"after": tuple(entry["after"])})
               for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]]
    seen: set[Key] = set()
    for entry in entries:
        if not entry.reason.strip():
            raise ValueError(f"{path}: {entry.where}: no reason given for {entry.before!r}")
        for key in entry.mutants():
            if key in seen:
                raise ValueError(f"{path}: {key} stands there twice")
            seen.add(key)
    return entries
