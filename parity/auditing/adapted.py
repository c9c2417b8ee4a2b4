"""Somebody's layer, however it is called, as one of the textbook protocol: run by a recipe of Python texts."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RATE = 1024.0  # a learning rate: the step of a backward that applies it is then all but the gradient
DEPTH = 6  # attributes, keys and places that a parameter may be away from its layer


class Recorder:
    """An optimizer that notes the gradient of each parameter and gives back another one: what still uses the
    parameter afterwards shows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.noted: list[tuple[Any, Any, Any]] = []

    def __copy__(self) -> Recorder:
        return self

    def update(self, w: Any, grad: Any, *args: Any, **kwargs: Any) -> Any:
        moved = w - grad if np.shape(w) == np.shape(grad) else w
        self.noted.append((w, moved, grad))
        return moved

    __call__ = step = optimize = apply = get_update = update

    def of(self, parameter: Any) -> Any:
        return next((g for *both, g in reversed(self.noted) if any(w is parameter for w in both)), None)


class Identity:
    """An activation that changes nothing, under every name that its function and derivative have."""

    def fn(self, x: Any, *args: Any) -> Any:
        return x

    def grad(self, x: Any, *args: Any) -> Any:
        return np.ones_like(x)

    __call__ = forward = function = fn
    gradient = derivative = prime = grad


def softmax(x: Any) -> Any:
    """Softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@dataclass
class Recipe:
    """How a layer is made and run, as texts of Python.

    Attributes:
        name: of the class or the forward function.
        make: expression of the new object; empty for functions.
        before: statements behind it.
        reset: statements before each forward.
        forward: expression; its value is ``result``.
        outputs: expressions of ``result`` and ``layer``, one an output.
        backward: expression; its value is ``returned``. Cotangents are ``dy0``, ``dy1``, …
        gradients: by input, expression of ``returned``, ``result`` and ``layer``.
        params: by parameter, expression of ``layer``.
        grads: by parameter, the same of its gradient.
        constant: names of inputs without gradient: labels that are floating numbers.
        imports: names of the file that the texts use.
        textbook: whether ``params`` and ``grads`` are lists that stay, so that its promises hold.
        scalar: whether the backward takes no cotangent.
        once: whether only a new object can be run.
        unused: name of a cotangent that the backward of a loss may be given, and does not use; empty for none.
        words: what is unusual, in sentences.
    """

    name: str
    make: str = ""
    before: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    forward: str = ""
    outputs: tuple[str, ...] = ("result",)
    backward: str = ""
    gradients: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    grads: dict[str, str] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    textbook: bool = False
    scalar: bool = False
    once: bool = False
    unused: str = ""
    words: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """The recipe as a dict of plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_plain(cls, plain: Any) -> Recipe:
        """A recipe as another process told it, of which nothing is believed but that it is texts.

        Raises:
            ValueError: it is none.
        """
        wanted = vars(cls(""))
        if not isinstance(plain, dict) or plain.keys() != wanted.keys():
            raise ValueError("no recipe")
        found = {}
        for name, usual in wanted.items():
            value = plain[name]
            if isinstance(usual, tuple):
                value = tuple(value) if isinstance(value, list) else None
            inside = value if isinstance(value, tuple) else (
                [*value, *value.values()] if isinstance(value, dict) else [])
            if type(value) is not type(usual) or not all(isinstance(x, str) for x in inside):
                raise ValueError(f"a recipe's {name}")
            found[name] = value
        return cls(**found)


class Space:
    """The names that a recipe's texts may use; without attributes of its own, so that no walk leads into it."""

    __slots__ = ("names",)

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def __deepcopy__(self, memo: Any) -> Space:
        return self


class Adapted:
    """An object with ``params``, ``grads``, ``forward`` and ``backward`` that runs a ``Recipe``.

    Args:
        recipe: the ``Recipe``.
        layer: the object; None for functions.
        space: the ``Space``.
        optimizer: the ``Recorder`` that it was made with.
        inputs: names of the inputs, in order.
        kind: the class that is audited, or None.
        functions: the functions that are.
    """

    def __init__(self, recipe: Recipe, layer: Any, space: Space, optimizer: Recorder, inputs: Iterable[str],
                 kind: Any = None, functions: Iterable[Any] = ()) -> None:
        self.recipe, self.layer, self.space, self.optimizer = recipe, layer, space, optimizer
        self.input_names, self.kind, self.functions = tuple(inputs), kind, tuple(functions)
        self.title, self.param_names = recipe.name, tuple(recipe.params)
        self.constant, self.textbook = recipe.constant, recipe.textbook
        self.without_cotangent = recipe.scalar
        self.local: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}
        self.variants: list[tuple[str, Any]] = []
        self.leftover: dict[str, str] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Adapted:
        for value in vars(self.layer).values() if hasattr(self.layer, "__dict__") else ():
            if isinstance(value, types.ModuleType):
                memo[id(value)] = value
        layer, optimizer = copy.deepcopy((self.layer, self.optimizer), memo)
        return Adapted(self.recipe, layer, self.space, optimizer, self.input_names, self.kind, self.functions)

    def value(self, text: str) -> Any:
        """What an expression is now."""
        return eval(text, self.space.names, self.local | {"layer": self.layer, "optimizer": self.optimizer})

    def do(self, text: str) -> None:
        """Executes a statement."""
        exec(text, self.space.names, self.local | {"layer": self.layer, "optimizer": self.optimizer})

    @property
    def params(self) -> list[Any]:
        return [self.value(e) for e in self.recipe.params.values()]

    @property
    def grads(self) -> list[Any]:
        if self.recipe.textbook:
            return [self.value(e) for e in self.recipe.grads.values()]
        return list(self.kept.values())

    @property
    def buffers(self) -> list[Any]:
        """The arrays in which gradients are gathered, where they are kept; as long as ``params``."""
        return [self._buffer(e) for e in self.recipe.grads.values()]

    def forward(self, *inputs: Any) -> Any:
        self.local, self.kept = dict(zip(self.input_names, inputs, strict=True)), {}
        for text in self.recipe.reset:
            self.do(text)
        self.optimizer.noted.clear()
        self.local["result"] = self.value(self.recipe.forward)
        found = tuple(np.asanyarray(self.value(e)) for e in self.recipe.outputs)
        return found if len(found) > 1 else found[0]

    def backward(self, *cotangents: Any) -> tuple[Any, ...]:
        recipe = self.recipe
        self.optimizer.noted.clear()
        self.local |= {f"dy{i}": c for i, c in enumerate(cotangents)}
        before = [(e, p, p.copy()) for e, p in zip(recipe.params.values(), self.params, strict=True)]
        self.local["before"] = {n: copied for n, (_, _, copied) in zip(recipe.params, before, strict=True)}
        if not recipe.textbook:
            for text in recipe.grads.values():  # where gradients add up, these are this call's
                self._cleared(text)
        self.local["returned"] = self.value(recipe.backward) if recipe.backward else None
        found = tuple(self._gradient(e) for e in recipe.gradients.values())
        self.kept = {n: self._gradient(e) for n, e in recipe.grads.items()}
        for text, array, copied in before if not recipe.textbook else ():
            now = self.value(text)
            if now is not array or not np.array_equal(now, copied):
                array[...] = copied
                self.local["restored"] = array
                self.do(f"{text} = restored")
        return found

    def _buffer(self, text: str) -> Any:
        try:
            return self.value(text) if text.startswith("layer") else None
        except Exception:  # not there before the first backward
            return None

    def _cleared(self, text: str) -> None:
        old = self._buffer(text)
        if isinstance(old, np.ndarray) and old.dtype.kind in "fc" and old.flags.writeable:
            old[...] = 0
        elif isinstance(old, float):
            self.do(f"{text} = 0.0")

    def _gradient(self, text: str) -> Any:
        try:
            found = self.value(text)
        except (KeyError, IndexError, AttributeError, TypeError):
            return None
        return None if found is None else np.array(found, subok=True)


def walk(thing: Any, text: str, depth: int = DEPTH, seen: tuple[int, ...] = ()) -> Iterator[tuple[str, str, str, Any]]:
    """Everything that an object keeps: expression, expression of its holder, name there, and value."""
    if depth == 0 or id(thing) in seen or isinstance(thing, (np.ndarray, types.ModuleType, type, Recorder, str)):
        return
    inside: list[tuple[str, str, Any]] = []
    if isinstance(thing, dict):
        inside = [(f"{text}[{k!r}]", str(k), v) for k, v in list(thing.items()) if isinstance(k, (str, int))]
    elif isinstance(thing, (list, tuple)):
        inside = [(f"{text}[{i}]", str(i), v) for i, v in enumerate(thing[:64])]
    elif hasattr(thing, "__dict__") and not inspect.isroutine(thing):
        inside = [(f"{text}.{k}", k, v) for k, v in list(vars(thing).items())]
    for expression, name, value in inside:
        if isinstance(value, (np.ndarray, np.floating, float)):
            yield expression, text, name, value
        else:
            yield from walk(value, expression, depth - 1, (*seen, id(thing)))
