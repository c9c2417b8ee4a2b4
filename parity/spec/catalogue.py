"""Catalogues: tables of specs, passed to whoever needs one. Ours is the default."""

import hashlib
import os
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .pair import Pair
from .spec import Spec


class Catalogue(Mapping[str, Spec]):
    """Specs by name, in order.

    Args:
        specs: no two of one name.
        path: of the Python file that they were read from; None for none.

    Raises:
        UsageError: two of one name.
    """

    def __init__(self, specs: Iterable[Spec], path: str | None = None) -> None:
        self._specs: dict[str, Spec] = {}
        self.path = path
        for spec in specs:
            if self._specs.setdefault(spec.name, spec) is not spec:
                raise UsageError(f"two entries are called {spec.name!r}")

    def __getitem__(self, name: str) -> Spec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    @classmethod
    def of(cls, what: Any = None) -> "Catalogue":
        """A catalogue of whatever names one.

        Args:
            what: a ``Catalogue``; the path of a Python file with pairs; a ``Pair`` or several; None for our own.

        Raises:
            UsageError: it is none of these, or the file is refused; see ``load``.
        """
        if what is None:
            return default()
        if isinstance(what, Catalogue):
            return what
        if isinstance(what, (str, os.PathLike)):
            return cls.load(os.fspath(what))
        specs = [what] if isinstance(what, Spec) else list(what) if isinstance(what, Iterable) else []
        wrong = next((spec for spec in specs if not isinstance(spec, Spec)), None)
        if not specs or wrong is not None:
            raise UsageError(f"pairs holds {wrong!r}" if specs else f"pairs is {what!r}, expected a Pair, several, or "
                             "the path of a Python file with pairs")
        paths = {spec.path for spec in specs}
        return cls(specs, (paths.pop() if len(paths) == 1 else None) or None)

    @classmethod
    def load(cls, path: str) -> "Catalogue":
        """Every ``Pair`` at module level of a Python file. This runs the file, once a process for each state of it.

        Raises:
            UsageError: there is no such file, it cannot be run, or it holds no pair.
        """
        path = os.path.abspath(path)
        if not os.path.isfile(path):
            raise UsageError(f"{path}: no such file, expected Python with pairs at module level")
        stat = os.stat(path)
        return _load(path, stat.st_mtime_ns, stat.st_size)

    def __reduce__(self) -> Any:
        """By its file, or as ours: what specs hold need not pickle."""
        table = Catalogue.load(self.path) if self.path is not None else default()
        if self._specs and all(spec is table.get(name) for name, spec in self._specs.items()):
            return (Catalogue.load, (self.path,)) if self.path is not None else (_ours, (list(self._specs),))
        raise UsageError(f"the pairs {', '.join(self)} live in this process alone: use jobs=1, or define them at "
                         "module level of a file of their own and give its path")


@lru_cache(maxsize=64)
def _load(path: str, *state: int) -> Catalogue:
    found = _run(path)
    pairs = list(dict.fromkeys(value for value in found.values() if isinstance(value, Pair)))
    if not pairs:
        raise UsageError(f"{path}: no Pair at module level")
    for pair in pairs:
        object.__setattr__(pair, "path", path)  # frozen for others
    try:
        return Catalogue(pairs, path)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _run(path: str) -> dict[str, Any]:
    """What a file has at module level; what stands beside it can be imported, as from a script."""
    name = f"parity_pairs_{hashlib.blake2s(path.encode(), digest_size=4).hexdigest()}"
    module = sys.modules[name] = types.ModuleType(name)  # not by import, which would write bytecode beside it
    module.__file__ = path
    sys.path.insert(0, os.path.dirname(path))
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = f", line {frames[-1]}" if frames else ""
        what = error if isinstance(error, UsageError) else f"cannot be run: {type(error).__name__}: {error}"
        raise UsageError(f"{path}{line}: {what}") from error
    finally:
        sys.path.remove(os.path.dirname(path))
        if os.path.dirname(path) not in sys.path:  # for what its functions import when they are called
            sys.path.append(os.path.dirname(path))
    return vars(module)


def default() -> Catalogue:
    """The catalogue of this project's twins."""
    from ..catalogue import CATALOGUE

    return CATALOGUE


def _ours(names: list[str]) -> Catalogue:
    return Catalogue([default()[name] for name in names])
