"""What failed last time in this folder. Only the command line remembers; the library writes nothing."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from ..errors import UsageError

FILE = Path(".parity_cache") / "last-failed.json"


class Memory:
    """The cases that failed, and those that a check has just run.

    Args:
        pairs: path of the file of whose pairs; None for our own layers. Each has a memory of its own.
    """

    def __init__(self, pairs: str | None = None) -> None:
        self.failed: dict[tuple[str, str], None] = {}
        self.passed: set[int] = set()
        self.file, self.command = FILE, "parity check --last-failed"
        if pairs is not None:
            path = Path(pairs).absolute()
            digest = hashlib.blake2s(str(path).encode(), digest_size=4).hexdigest()
            self.file = FILE.with_name(f"last-failed-{path.stem}-{digest}.json")
            self.command = f"parity check {shlex.quote(pairs)} --last-failed"

    def saw(self, outcome: Any) -> None:
        """Takes in an ``engine.Outcome``."""
        pair = outcome.case_id, outcome.lane
        if outcome.findings:
            self.failed[pair] = None
        else:
            self.passed.add(hash(pair))  # a number, for there may be a million of them

    def recall(self) -> list[tuple[str, str]]:
        """Pairs (case id, name of a lane) that failed, in the order in which they did.

        Raises:
            UsageError: nothing is remembered here, or the file is damaged.
        """
        pairs = _read(self.file)
        if not pairs:
            raise UsageError(f"nothing failed last time here: there is no {self.file}")
        return pairs

    def keep(self) -> str:
        """Remembers what failed, forgets what passes now, and leaves what was not run as it was.

        Returns:
            A line for the screen that says so; empty where there is nothing to say.
        """
        from reference.data import write_atomically

        note = ""
        try:
            before = _read(self.file)
        except UsageError as error:
            if not self.failed:
                return str(error)
            before, note = [], f" ({self.file} was damaged, and is written anew)"
        still = {pair: None for pair in before if hash(pair) not in self.passed} | self.failed
        if list(still) == before:
            return f"{len(still)} failed cases are remembered in {self.file}" if still else ""
        try:
            if not still:
                self.file.unlink()
                return f"nothing of what is remembered in {self.file} fails any more: it is removed"
            self.file.parent.mkdir(exist_ok=True)
            write_atomically(self.file, json.dumps(list(still)).encode())
        except OSError as error:
            return f"what failed could not be remembered: {error}"
        return f"{len(still)} failed cases are remembered in {self.file}, {self.command} runs them{note}"


def _read(file: Path) -> list[tuple[str, str]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(
            isinstance(pair, list) and [type(text) for text in pair] == [str, str] for pair in found):
        raise UsageError(f"{file} is damaged, expected pairs of a case id and the name of a lane: delete it")
    return [tuple(pair) for pair in found]
