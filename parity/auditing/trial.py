"""What came of one trial of somebody's code, and the means to make one."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .adapted import Adapted, Recipe, Space

GRADIENTS = 3.5  # the score from which on gradients were given


@dataclass
class Fit:
    """What a trial came to.

    Attributes:
        score: 0 not made, 1 made, 2 forward ran, 3 backward ran, 4 gave gradients, 5 one of the right shape for each
            array, of which one at least is of the data (else 4.5).
        why: what stopped it.
        recipe, inputs, layer, space, optimizer: what ran.
        functions: the functions it runs.
        kind: the class it makes.
        stub: what a backward does that nobody has written; empty for none.
        leftover: by expression, why an array that looks like a parameter is not judged.
    """

    score: float
    why: str = ""
    recipe: Recipe = field(default_factory=lambda: Recipe(""))
    inputs: dict[str, Any] = field(default_factory=dict)
    layer: Any = None
    space: dict[str, Any] = field(default_factory=dict)
    optimizer: Any = None
    functions: tuple[Any, ...] = ()
    kind: Any = None
    leftover: dict[str, str] = field(default_factory=dict)
    stub: str = ""
    single: bool = False
    again: Callable[..., Fit] | None = None
    given: dict[str, str] = field(default_factory=dict)

    def adapted(self) -> Adapted:
        """The object that the audit runs."""
        layer, optimizer = copy.deepcopy((self.layer, self.optimizer))
        return Adapted(self.recipe, layer, Space(self.space), optimizer, self.inputs, self.kind, self.functions)


@contextlib.contextmanager
def in_silence() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def copies_of(arrays: dict[str, Any]) -> dict[str, Any]:
    return {n: np.array(a) for n, a in arrays.items()}


def run_once(recipe: Recipe, space: dict[str, Any], local: dict[str, Any], arrays: dict[str, Any]) -> Any:
    np.random.seed(0)
    local |= copies_of(arrays)
    for text in recipe.reset:
        exec(text, space, local)
    return eval(recipe.forward, space, local)


def words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def is_finite(a: Any) -> bool:
    try:
        a = np.asarray(a)
    except Exception:
        return False
    return a.dtype.kind == "f" and a.size > 0 and bool(np.isfinite(a).all())
