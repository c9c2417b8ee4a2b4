"""The instrument: proves that a NumPy layer and its PyTorch twin agree, and audits hand-written gradients.

``check``, ``replay`` and ``assert_parity`` hold two sides against each other: the twins of the catalogue, or anybody's
``Pair`` of a reference and its port; ``audit`` and ``assert_gradients`` judge anybody's layer. Nothing heavy is
imported before it is used.
"""

import importlib
from typing import Any

_EXPORTS = {
    "check": "parity.engine",
    "replay": "parity.engine",
    "assert_parity": "parity.engine",
    "Pair": "parity.spec.pair",
    "built": "parity.spec.pair",
    "floats": "parity.spec.arrays",
    "ids": "parity.spec.arrays",
    "mask": "parity.spec.arrays",
    "audit": "parity.auditing",
    "assert_gradients": "parity.auditing",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
