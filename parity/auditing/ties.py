"""Shapes that the code itself tells: where no idea of the data fits, every axis gets a size of its own, and each
refusal of NumPy names two sizes that have to be one.

Only the numbers of axes are tried; where a source unpacks or indexes a shape, it says those too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import guess

if TYPE_CHECKING:
    from .trial import Fit

LENGTHS = re.compile(r"^(lens?|lengths?|\w*_len(gth)?s?|valid_len\w*)$", re.I)
RANKS = {"bias": (1, 2, 3), "scale": (1, 2, 3), "weight": (2, 3, 1, 4), "recurrent": (2, 3), "table": (2,),
         "data": (2, 3, 4, 1), "lengths": (1,), "labels": (1, 2)}
OTHERS = (2, 1, 3)
OWN, GIVEN = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41), (4, 8, 9, 10, 14, 15, 16, 18, 20, 21, 22, 24)
STEPS = 12  # refusals that one choice of ranks may be followed through

Shapes = dict[str, tuple[int, ...]]


def clashes(words: str) -> list[tuple[int, int]]:
    """The pairs of sizes that a refusal of NumPy names as different."""
    found = [(int(a), int(b)) for pattern in (
        r"size (\d+) is different from (\d+)", r"(\d+) \(dim \d+\) != (\d+) \(dim",
        r"has size (\d+) and the array at index \d+ has size (\d+)") for a, b in re.findall(pattern, words)]
    texts = re.findall(r"->\(([^()]*)\)", words) or re.findall(r"\((\d+,[\d,\s]*|\d+(?:,\s*\d+)+)\)", words)
    shapes = [[int(t) if t.strip().isdigit() else 1 for t in text.split(",") if t.strip()] for text in texts]
    if "broadcast" in words:
        for a, b in itertools.combinations(shapes, 2):
            found += [(m, n) for m, n in zip(a[::-1], b[::-1], strict=False) if m != n and 1 not in (m, n)]
    return found


def ranks(name: str, role: str, source: str) -> tuple[int, ...]:
    """The numbers of axes that an array of that name may have, the likeliest first."""
    unpacked = re.search(rf"^\s*((?:\w+\s*,\s*)+\w+)\s*=\s*(?:self\.)?{re.escape(name)}\.shape\s*$", source, re.M)
    if unpacked:
        return (unpacked.group(1).count(",") + 1,)
    least = max((int(k) + 1 for k in re.findall(rf"\b{re.escape(name)}\.shape\[(\d)\]", source)), default=1)
    return tuple(r for r in RANKS.get(role, OTHERS) if r >= least) or (least,)


def role(name: str, given: bool, first: bool) -> str:
    """The role of an array, of those in ``RANKS``, or none: of a constructor, or given to a forward."""
    if LENGTHS.match(name):
        return "lengths"
    found = guess.role_of(name)
    return "data" if given and (first or found not in RANKS) else found


def choices(roles: dict[str, str], source: str) -> Iterator[Shapes]:
    """Shapes by name, all sizes different, the likeliest numbers of axes first."""
    short = [n for n, r in roles.items() if r != "data" and len(n) < 3]
    vectors = {n for n in short if n.islower()} if any(n.isupper() for n in short) else set()  # w beside V
    each = [ranks(n, "bias" if n in vectors else r, source) for n, r in roles.items()]
    order = sorted(itertools.product(*(range(len(r)) for r in each)), key=lambda places: (sum(places), places))
    for places in order:
        own, data, shapes = iter(OWN), iter(GIVEN), {}
        try:
            for (name, role), options, place in zip(roles.items(), each, places, strict=True):
                shapes[name] = tuple(next(data if role == "data" else own) for _ in range(options[place]))
        except (StopIteration, RuntimeError):  # more axes than anybody has
            continue
        yield shapes


def follow(shapes: Shapes, attempt: Callable[[Shapes], Fit]) -> tuple[Fit, Shapes]:
    """Where the refusals of ``attempt``, its ``why``, lead from some shapes: what it made last, and of which shapes."""
    for _ in range(STEPS):
        found = attempt(shapes)
        sizes = {n for s in shapes.values() for n in s}
        pair = next((p for p in clashes(found.why) if p[0] != p[1] and sizes.issuperset(p)), None)
        if found.score >= 4 or pair is None:
            break
        keep, drop = min(pair), max(pair)
        shapes = {n: tuple(keep if k == drop else k for k in s) for n, s in shapes.items()}
    return found, shapes


def smaller(shapes: Shapes) -> Shapes:
    """The same in the same order of sizes, from 2 on."""
    sizes = sorted({n for s in shapes.values() for n in s} - {1})
    return {n: tuple(1 if k == 1 else sizes.index(k) + 2 for k in s) for n, s in shapes.items()}


def array(name: str, role: str, shape: tuple[int, ...]) -> Any:
    """An array of a shape: numbers of valid steps from 1, labels from 0, or numbers."""
    if role in ("lengths", "labels"):
        return np.arange(int(np.prod(shape))).reshape(shape) % 2 + (role == "lengths")
    return guess.normal(shape, name, role == "scale")
