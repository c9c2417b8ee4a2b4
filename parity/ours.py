"""Our own packages, whatever else of their name stands on somebody's path."""

import importlib
import importlib.machinery
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("reference", "torch_port")


class Finder:
    """Finds our packages beside this one first: for a process that is all ours, as a command's."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return importlib.machinery.PathFinder.find_spec(name, [str(ROOT)]) if name in NAMES and path is None else None


def ours(name: str) -> ModuleType:
    """The package of that name that came with this one; any other by the ordinary way.

    Raises:
        UsageError: another module of that name is loaded already; names its file.
    """
    if name not in NAMES:
        return importlib.import_module(name)
    module = sys.modules.get(name)
    if module is None:
        spec = Finder.find_spec(name)
        if spec is None or spec.loader is None:
            raise UsageError(f"the package {name} is missing beside {ROOT / 'parity'}: install it again")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    file = getattr(module, "__file__", None)
    if file is None or Path(file).resolve().parent != ROOT / name:
        raise UsageError(f"{file or module} hides our package {name}: give that file another name, or do not import it "
                         "here")
    return module
