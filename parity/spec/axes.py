"""Axis strings: a letter an axis, ``"4H"`` a multiple, ``...`` any leading axes."""

import re
from collections.abc import Iterable
from typing import Any


def axes(text: str) -> tuple[str, list[str]]:
    """Splits an axis string into its kind (``float``, ``int``, ``bool``) and its axes.

    Raises:
        ValueError: it has other axes than one letter each, with a number before it or without, after ``...`` or not.
    """
    words = text.split()
    kind = words.pop(0) if words and words[0] in ("float", "int", "bool") else "float"
    if not all(re.fullmatch(r"([1-9][0-9]*)?[A-Za-z]", word) for word in words[words[:1] == ["..."] :]):
        raise ValueError(f"axis string {text!r}: expected a kind (float, int, bool) or none, '...' or not, then one "
                         "letter an axis, each with a number before it or without")
    return kind, words


def shape(text: str, sizes: dict[str, Any]) -> tuple[int, ...]:
    """The shape that an axis string means at given sizes; ``...`` is a tuple of sizes."""
    result = []
    for word in axes(text)[1]:
        if word == "...":
            result += sizes["..."]
        else:
            result.append(sizes[word[-1]] * int(word[:-1] or 1))
    return tuple(result)


def letters(texts: Iterable[str]) -> tuple[str, ...]:
    """All axis letters of some axis strings, ``...`` among them, in order of appearance."""
    words = [word for text in texts for word in axes(text)[1]]
    return tuple(dict.fromkeys(word if word == "..." else word[-1] for word in words))
