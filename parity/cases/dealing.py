"""What the cases of a run are dealt beside their sizes, so that no whole run leaves any of it to luck.

Ordinary cases are dealt value patterns, scales, memory layouts and options, each from a shuffled deck of its own, which
is gone through before a card comes again; degenerate ones walk through all that may be odd about a case, one each.
"""

from collections.abc import Sequence
from typing import Any

from ..spec.span import Span
from ..spec.spec import Spec
from .case import DEGENERATE, EXPANDED, GENERAL, LAYOUTS, MIXED, SCALES, UNSCALED, generator, least, patterns

Odd = dict[str, Any]  # parts of a case by name: pattern, scale, layout or sizes

ORDINARY = ("normal",) * 4 + tuple(p for p in GENERAL if p not in DEGENERATE)
PLAIN = (0.1, 1.0)  # scales between which a case is ordinary
LAID = (*LAYOUTS, MIXED)  # layouts in which it is


def card(text: str, number: int, values: Sequence[Any]) -> Any:
    """The ``number``-th card of decks of some values, which are shuffled as a text says."""
    again, place = divmod(number, len(values))
    return values[int(generator(f"{text} {again}").permutation(len(values))[place])]


def usual_patterns(spec: Spec) -> tuple[str, ...]:
    """The value patterns of ordinary cases, as often as they are dealt."""
    return *ORDINARY, *(p for p in spec.patterns if p not in DEGENERATE)


def usual_scales(spec: Spec) -> list[float]:
    """The scales of ordinary cases, small ones first; none where a layer has but others."""
    return sorted(s for s in spec.scales or SCALES if PLAIN[0] <= s <= PLAIN[1])


def cards(values: Sequence[Any]) -> Sequence[Any]:
    """What an option is dealt: each of its values; of a range its edges too, and None for numbers between."""
    return values.cards if isinstance(values, Span) else values


def oddities(spec: Spec) -> list[Odd]:
    """What may be odd about a degenerate case, in parts of it by name: what half precisions cannot tell comes first."""
    own = [p for p in patterns(spec) if p in DEGENERATE]
    scales = sorted(set(spec.scales or SCALES) - set(usual_scales(spec)), reverse=True)
    found: list[Odd] = [{"pattern": p} for p in own if p in UNSCALED] + [{"scale": s} for s in scales]
    found += [{"pattern": p} for p in own if p not in UNSCALED] + [{"layout": EXPANDED}]
    if spec.where is None:
        empty = {"N": 0} if "N" in spec.letters and not least(spec, "N") else {}
        ones = {letter: (1,) if letter == "..." else 1 for letter in spec.letters
                if letter not in spec.ranges or (letter != "..." and 1 in spec.ranges[letter])}
        found += [{"sizes": sizes} for sizes in (empty, ones) if sizes]
    return found


def told_by_half(odd: Odd) -> bool:
    """Whether half precisions can tell anything of a case that is odd in this way."""
    return bool(odd.get("scale", 0) <= 1) and odd.get("pattern") not in UNSCALED
