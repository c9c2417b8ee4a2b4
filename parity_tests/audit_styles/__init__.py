"""Layers in the styles in which people write them, right ones and faults, for measuring what the audit recognises."""

import linecache
import sys
import types

from parity.auditing import audit, fit
from parity.auditing.recognise import Functions

from . import made, written

LAYERS = written.blocks() | made.blocks()
HEAD = "import copy\n\nimport numpy as np\n\n"


def judge(source, seed=0, name="somebodys"):
    """The ``Audited`` of the last layer that a source defines, in a process of its own."""
    file, source = f"{name}_layers.py", HEAD + source
    module = types.ModuleType(f"{name}_layers")
    module.__file__ = file
    sys.modules[module.__name__] = module
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    try:
        exec(compile(source, file, "exec"), module.__dict__)
        found = [Functions(title, *pair) for title, pair in fit.functions(module).items()]
        (*_, layer) = [*found, *fit.classes(module).values()]
        (result,) = audit(layer, seed=seed, autograd=False).results
        return result
    finally:
        del sys.modules[module.__name__], linecache.cache[file]


def wrong(name, number):
    """The source of a fault."""
    source, faults = LAYERS[name]
    old, new = faults[number]
    before, found, after = source.rpartition(old)  # the backward stands behind the forward
    assert found, (name, old)
    return before + new + after
