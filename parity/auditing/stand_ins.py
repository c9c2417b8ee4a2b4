"""What stands for names in the modules of somebody's code while it is run with complex numbers."""

import contextlib
import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARIES = {str(Path(p).resolve()) for k, p in sysconfig.get_paths().items() if k.endswith("lib")}
CREATORS = {name: getattr(np, name) for name in ("zeros", "empty", "ones", "full")}

Names = dict[str, Any]  # of a module
Wrap = Callable[[NDArray[Any]], NDArray[Any]]


@contextlib.contextmanager
def replaced(spaces: Iterable[Names], replacement: Callable[[Any], Any]) -> Iterator[None]:
    """Within it, names in some modules stand for something else.

    Args:
        spaces: dictionaries of modules.
        replacement: function of a value to what stands for it, or to the value itself.
    """
    changes = [(space, name, value, new) for space in spaces for name, value in list(space.items())
               if (new := replacement(value)) is not value]
    for space, name, _, new in changes:
        space[name] = new
    try:
        yield
    finally:
        for space, name, value, _ in changes:
            space[name] = value


class _Numpy(types.ModuleType):
    """NumPy as somebody's code sees it while it is traced: new floating buffers are complex."""

    def __init__(self, wrap: Wrap) -> None:
        super().__init__("numpy")
        for name, function in CREATORS.items():
            setattr(self, name, _creator(function, wrap))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _creator(function: Callable[..., NDArray[Any]], wrap: Wrap) -> Callable[..., NDArray[Any]]:
    @functools.wraps(function)
    def create(*args: Any, **kwargs: Any) -> NDArray[Any]:
        made = function(*args, **kwargs)
        return wrap(made.astype(np.complex128)) if made.dtype.kind == "f" else made

    return create


def stand_ins(wrap: Wrap) -> Callable[[Any], Any]:
    """A replacement: NumPy, and its functions that make buffers, for those whose floating buffers are complex."""
    known = {id(np): _Numpy(wrap)} | {id(f): _creator(f, wrap) for f in CREATORS.values()}
    return lambda value: known.get(id(value), value)


_complex = stand_ins(np.asarray)


def complex_buffers(spaces: Iterable[Names]) -> contextlib.AbstractContextManager[None]:
    """Within it, floating buffers that code in these modules makes are complex, and keep the complex step."""
    return replaced(spaces, _complex)


def namespaces(kind: type, functions: Iterable[Any] = ()) -> list[Names]:
    """The dictionaries of the modules that a class's code lives in, those of its helpers included."""
    found: dict[int, types.ModuleType] = {}
    waiting = [c.__module__ for c in kind.__mro__] + [f.__module__ for f in functions]
    while waiting:
        module = sys.modules.get(waiting.pop())
        file = getattr(module, "__file__", None)
        if module is None or file is None or id(module) in found or module.__name__.startswith("parity.auditing"):
            continue
        sibling = module.__name__.partition(".")[0] == kind.__module__.partition(".")[0]
        if found and not sibling and any(str(Path(file).resolve()).startswith(p) for p in LIBRARIES):
            continue
        found[id(module)] = module
        waiting += [v.__module__ for v in list(vars(module).values())
                    if isinstance(v, (type, types.FunctionType)) and isinstance(v.__module__, str)]
        waiting += [v.__name__ for v in list(vars(module).values()) if isinstance(v, types.ModuleType)]
    return [vars(m) for m in found.values()]
