"""Catalogues: tables of specs, passed to whoever needs one. Ours is the default."""

import os
import runpy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import UsageError
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
    def of(cls, specs: Iterable[Spec]) -> "Catalogue":
        """The catalogue of some specs: that of their file where they were read from one."""
        specs = list(specs)
        paths = {getattr(spec, "path", None) for spec in specs}
        return cls(specs, paths.pop() if len(paths) == 1 else None)

    @classmethod
    def load(cls, path: str) -> "Catalogue":
        """Every ``Pair`` at module level of a Python file. This runs the file.

        Raises:
            UsageError: there is no such file, it cannot be run, or it holds no pair.
        """
        path = os.path.abspath(path)
        if not os.path.isfile(path):
            raise UsageError(f"{path}: no such file, expected Python with pairs at module level")
        found = _run(path)
        specs = list(dict.fromkeys(value for value in found.values() if isinstance(value, Spec)))
        if not specs:
            raise UsageError(f"{path}: no Pair at module level")
        return cls(specs, path)

    def __reduce__(self) -> Any:
        """By its file, or as ours: what specs hold need not pickle."""
        if self.path is not None:
            return Catalogue.load, (self.path,)
        if self._specs and all(spec is default().get(spec.name) for spec in self._specs.values()):
            return _ours, (list(self._specs),)
        raise UsageError(f"the pairs {', '.join(self)} cannot be handed to other processes: use jobs=1, or define them "
                         "at module level of a file of their own and give that")


def _run(path: str) -> dict[str, Any]:
    import sys

    sys.path.insert(0, os.path.dirname(path))  # what stands beside it can be imported, as for a script
    try:
        return runpy.run_path(path, run_name="parity_pairs")
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}: cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.path.dirname(path))


def default() -> Catalogue:
    """The catalogue of this project's twins."""
    from ..catalogue import CATALOGUE

    return CATALOGUE


def _ours(names: list[str]) -> Catalogue:
    return Catalogue([default()[name] for name in names])
