"""Which sizes of a case a factor is made of: ``1/N``, ``sqrt(D)``, the number of labels that count."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scene import Measured, Scene, Told, ratio
from .subject import Sample

POWERS = (1, -1, 0.5, -0.5)
ROOTS = {1: "{}", -1: "1/{}", 0.5: "sqrt({})", -0.5: "1/sqrt({})", 2: "{}^2", -2: "1/{}^2"}

Sizes = dict[str, float]
Pick = Callable[[Measured], tuple[NDArray[Any] | None, NDArray[Any] | None]]  # what was got and what is right


def symbols(sample: Sample) -> Sizes:
    """The sizes that a factor may be made of, by their names."""
    found: Sizes = {k: int(np.prod(v)) for k, v in sample.sizes.items()}
    spec = sample.case and sample.case.spec
    for name, counts in counting(sample).items():
        found[f"the number of {name} that count"] = int(np.sum(counts))
    for option in list(spec.options)[:1] if spec and spec.drawn else ():
        found["the share that is kept"] = 1 - sample.options[option]
    return found


def counting(sample: Sample) -> dict[str, NDArray[np.bool_]]:
    """Of each array of labels, where they are not those that the entry says are ignored."""
    texts = sample.case.spec.inputs if sample.case else {}
    return {name: a != sample.options[texts[name].ignored] for name, a in sample.inputs.items()
            if name in texts and texts[name].ignored in sample.options and a.size}


def law_of(scene: Scene, pick: Pick) -> Told:
    """The factor that something has in all cases alike, in words."""
    first = ratio(scene, *pick(scene.base))
    if first is None or abs(first - 1) < 1e-3:
        return None
    ratios, sizes = [first], [symbols(scene.base.sample)]
    for other in scene.varied:
        r = ratio(scene, *pick(other))
        if r is not None:
            ratios.append(r)
            sizes.append(symbols(other.sample))
    found = law(ratios, sizes)
    if found is not None and found[1].startswith("a constant factor") and (size := size_of(scene, first)):
        return found[0], f"{found[1]}: {size}"
    return found


def law(ratios: list[float], sizes: list[Sizes]) -> Told:
    """A factor in words, from its values and the symbols in several cases, the first the base's."""
    if all(abs(r - ratios[0]) <= 1e-5 * abs(ratios[0]) for r in ratios):
        # constant over all sizes: a number, or a share that no size changes
        c = ratios[0]
        if abs(c + 1) < 1e-5:
            return "sign", "the sign is wrong"
        for name in sizes[0]:
            if name.startswith("the share") and abs(c - sizes[0][name]) < 1e-5:
                return "factor", f"a constant factor of {c:.6g}: times {name}"
            if name.startswith("the share") and abs(c * sizes[0][name] - 1) < 1e-5:
                return "factor", f"a constant factor of {c:.6g}: divided by {name}"
        if len(ratios) > 1:
            return "factor", f"a constant factor: it is {c:.6g} times what it should be"
    if len(ratios) == 1:
        return "factor", f"a constant factor of {ratios[0]:.6g}"
    for count in (1, 2, 3):
        for chosen in itertools.combinations(sizes[0], count):
            for powers in itertools.product(POWERS, repeat=count):
                left = [r / np.prod([float(s[x]) ** p for x, p in zip(chosen, powers, strict=True)])
                        for r, s in zip(ratios, sizes, strict=True)]
                if not all(abs(x - left[0]) <= 1e-5 * abs(left[0]) for x in left) or (
                        count > 1 and abs(abs(left[0]) - 1) > 1e-5):
                    continue
                words = " ".join(power(x, p) for x, p in zip(chosen, powers, strict=True))
                sign = "" if abs(left[0] - 1) < 1e-5 else f"{left[0]:.6g} "
                initials = "".join(x if len(x) == 1 else "n" for x in chosen)
                kind = f"1/{initials}" if powers[0] in (1, -1) else "factor"
                missing = " ".join(power(x, -p) for x, p in zip(chosen, powers, strict=True))
                hint = f"a factor {missing} is missing" if powers[0] > 0 else f"a factor {words} too many"
                return kind, f"a factor of {sign}{words}: {hint}"
    return None


def power(name: str, p: float) -> str:
    """A power of a size, in words."""
    return ROOTS[p].format(name if len(name) == 1 else f"({name})")


def size_of(scene: Scene, c: float) -> str:
    """Which size a factor is a power of, in words; empty for none."""
    point = scene.base.sample.point() | scene.base.outputs
    spans = [(label, first, last, int(np.prod(a.shape[first:last]))) for label, a in point.items()
             for first in range(np.ndim(a)) for last in range(first + 1, np.ndim(a) + 1)]
    for p, (label, first, last, size) in itertools.product(ROOTS, sorted(spans, key=lambda s: s[2] - s[1])):
        if size > 1 and abs(abs(c) / float(size) ** p - 1) < 1e-6:
            axes = "axis" if last - first == 1 else "axes"
            which = ", ".join(map(str, range(first, last)))
            return f"{'-' if c < 0 else ''}{ROOTS[p].format(size)}, and {size} is {axes} {which} of {label}"
    return ""
