"""Which cases a run draws: strata, so that how far it looks is known before it runs.

The number of a case says its stratum: ``short`` ones are small on every axis, ``long`` ones large on one or two,
walking through every threshold of every axis, at one below, at it and at one above; one of them has the sizes of real
use; ``degenerate`` ones are empty, of one entry, or of values whose gradient may honestly vanish. Dtypes are dealt
different cases, so that one run walks further than any of its lanes; what is dealt beside sizes, ``dealing`` says.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from numpy.random import Generator

from ..errors import UsageError
from ..spec.span import Span
from ..spec.spec import Spec
from .case import (
    ARRANGED,
    GENERAL,
    MOST_WORK,
    SCALES,
    STEP,
    UNSCALED,
    Case,
    Options,
    Shape,
    Sizes,
    admitted,
    choices,
    derived,
    generator,
    least,
    permitted,
)
from .dealing import LAID, Odd, card, cards, oddities, usual_patterns, usual_scales

Hand = Callable[[Generator, str, Sequence[Any]], Any]  # of what is dealt, and of the values that it may be

CASES = 24  # of a layer in a lane, in a run that is told no number
DEALS = 4  # dtypes that are dealt different cases, the half precisions last
# the strata of successive cases, again and again
ROUND = ("short", "long", "long", "degenerate", "long", "long")

SHORT = (2, 3, 4, 5, 7)
TINY = (1, *SHORT)
BATCHES = (0, 1, 1, 2, 3, 5, 8)  # of degenerate cases
BESIDE, LEAST = (2, 3), (2,)  # the other axes of a long case, and of the longest
LONGEST = 1000
THRESHOLDS = (8, 16, 32, 64, 128, 256, 512, 1024)
COUNTED = (1 << 15, 1 << 16)  # further ones of an axis that counts ids
LEADING = 3  # axes that ``...`` stands for at most
REAL: Sizes = {"N": 128, "T": 29, "U": 11, "V": 59, "D": 16, "H": 256, "K": 64, "M": 128, "...": (4, 32)}
TIME = {"T": 257}  # and time steps alone, whatever they cost
OTHER = 16  # the size in real use of an axis of another letter
ODD = ("normal",) * 4 + GENERAL
SATURATING = 8.0  # size of a sum of products at which a gate or a softmax knows but one answer

LOOP = 1 << 19  # what a time step costs where the reference takes it in Python, in multiplications
DEAR = 20_000_000  # multiplications past which a long case is left to runs of more than CASES
ATTEMPTS = 1000  # at drawing sizes that meet what a layer asks of them
PATIENCE = 100  # at drawing one of the stratum too
COUPLED = 10  # refusals from which on one more axis is drawn as long as the long one
PLAYED = len(ROUND)  # of each CASES, that which plays a program of all its steps


def stratum(index: int) -> str:
    """The stratum of the case of that number."""
    return ROUND[index % len(ROUND)]


def draw(spec: Spec, seed: int, index: int, admits: Callable[[Case], bool] = lambda case: True,
         deal: int = 0) -> Case:
    """The ``index``-th case of a layer under a seed.

    Args:
        spec: the layer.
        seed, index: whole numbers.
        admits: function of a case; one for which it is false is drawn again.
        deal: which of the ``DEALS`` cases of that number, as the dtypes of a run are dealt them.

    Raises:
        UsageError: no sizes and options meet what the layer asks of them.
    """
    rng = generator(f"{seed} {spec.name} {index} {deal}")
    kind, most = stratum(index), MOST_WORK
    wanted: Sizes = {}
    odd: Odd = {}
    hand = _hand(spec, seed, index, deal)
    if kind == "long":
        wanted = _long(spec, index, deal)
        # an option may make more of the same sizes
        most = max([DEAR, *(case.work for case in _possible(spec, wanted)[:1])])
    if kind == "degenerate":
        odd = _odd(spec, index, deal)
        wanted = odd.get("sizes", {})
    refused = strange = 0
    for attempt in range(ATTEMPTS):
        case = _drawn(spec, rng, kind, wanted, refused >= COUPLED, odd, hand)
        if not admitted(spec, case.sizes, case.options):
            refused += 1
            if refused == PATIENCE:  # no case is as long, whatever `where` asks
                kind, wanted, most = "short" if kind == "long" else kind, {}, MOST_WORK
            if refused == 2 * PATIENCE:
                odd, hand = {}, _anything
            continue
        allowed, cheap = admits(case), case.work <= most
        if allowed and (attempt >= PATIENCE or (cheap and case.degenerate == (kind == "degenerate"))):
            return _playing(case, rng, deal) if index % CASES == PLAYED else case
        strange += not (allowed and cheap)
        if strange == (PATIENCE - 1 if odd else COUPLED):  # what it is dealt may be what is refused
            odd, hand, wanted = {}, _anything, {} if odd else wanted
    raise UsageError(f"{spec.name}: of {ATTEMPTS} draws of sizes and options none is one that `where` admits, "
                     f"the last {case.sizes | case.options}")


def _before(index: int, *kinds: str) -> int:
    """How many cases of smaller numbers are of some strata."""
    turns, place = divmod(index, len(ROUND))
    return turns * sum(map(ROUND.count, kinds)) + sum(map(ROUND[:place].count, kinds))


def _hand(spec: Spec, seed: int, index: int, deal: int) -> Hand:
    """What an ordinary case is dealt: a function of what it is about, and of values; the wider dtypes share decks."""
    half, side = divmod(deal, 2)
    number = 2 * _before(index, "short", "long") + side
    return lambda rng, what, values: card(f"{seed} {spec.name} {half} {what}", number, values)


def _anything(rng: Generator, what: str, values: Sequence[Any]) -> Any:
    """Any of some values, where nothing is dealt."""
    return values[int(rng.integers(len(values)))]


def _odd(spec: Spec, index: int, deal: int) -> Odd:
    """What is odd about a degenerate case: the wider dtypes walk from the front, where half precisions tell nothing."""
    half, side = divmod(deal, 2)
    number, known = 2 * _before(index, "degenerate") + side, oddities(spec)
    place = (number + number // len(known)) % len(known)  # either dtype comes to all of them
    return known[-1 - place if half else place]


def _playing(case: Case, rng: Generator, deal: int) -> Case:
    """The case, with values by whose id its program has all its steps and is played in the lanes of its dtype."""
    from ..judge.lanes import LANES
    from ..promises.histories import longest, plays

    lane = next(lane for lane in LANES.values() if lane.deal == deal)
    for _ in range(ATTEMPTS):
        if len(plays(case, lane)[0]) == longest(case):
            break
        case = replace(case, seed=int(rng.integers(1 << 32)))
    return case


def _drawn(spec: Spec, rng: Generator, kind: str, wanted: Sizes, coupled: bool, odd: Odd, hand: Hand) -> Case:
    pick, degenerate = partial(_anything, rng, ""), kind == "degenerate"
    deal = partial(_anything if degenerate else hand, rng)
    if wanted and _largest(wanted) >= LONGEST:
        kind = "longest"
    sizes = {letter: wanted[letter] if letter in wanted else pick(_beside(spec, letter, kind))
             for letter in spec.letters if letter != "..."}
    if wanted and coupled:  # it may ask of another axis that it be as long as one of these
        long = [size for size in wanted.values() if not isinstance(size, tuple)]
        sizes |= {pick(tuple(sizes)): pick(long)} if long else {}
        sizes |= {letter: size for letter, size in wanted.items() if letter != "..."}
    if "..." in spec.letters:
        sizes["..."] = _leading(spec, pick, degenerate, wanted.get("..."))
    scales: Sequence[float] = spec.scales or SCALES
    if degenerate:
        known = [p for p in (*ODD, *spec.patterns) if "scale" not in odd or p not in UNSCALED]
        pattern, scale = odd.get("pattern", pick(known)), odd.get("scale", pick(scales))
        layout = odd.get("layout", pick(ARRANGED))
    else:
        pattern, plain = deal("pattern", usual_patterns(spec)), usual_scales(spec)
        most = max(_longest(size) for size in sizes.values())
        scales = [s for s in plain if s * s * math.sqrt(most) <= SATURATING] or plain[:1] or scales
        scale, layout = deal("scale", scales), deal("layout", LAID)
    scale = 1.0 if pattern in UNSCALED else scale
    options: Options = {}
    for name in choices(spec):
        values = permitted(spec, name, sizes, pattern, options)
        value = deal(name, cards(values))
        options[name] = values.between(rng) if isinstance(values, Span) and value is None else value
    return Case(spec, derived(spec, sizes, options), pattern, scale, layout, options, int(rng.integers(1 << 32)))


def _beside(spec: Spec, letter: str, kind: str) -> Sequence[int]:
    """The sizes among which an axis is drawn whose size the stratum leaves open."""
    usual = {"short": SHORT, "long": BESIDE, "longest": LEAST,
             "degenerate": BATCHES if letter == "N" else TINY}[kind]
    asked = spec.ranges.get(letter)
    if asked is None:
        return usual
    if not isinstance(asked, range):  # these and no others
        return asked
    return [size for size in usual if size in asked] or asked


def _leading(spec: Spec, pick: Callable[[Sequence[Any]], Any], degenerate: bool, wanted: Shape | None) -> Shape:
    if wanted is not None:
        return wanted
    if "..." in spec.ranges:
        return tuple(pick(spec.ranges["..."]))
    return tuple(pick((0, 1, 2, 3) if degenerate else (2, 3)) for _ in range(pick(range(LEADING + 1))))


def _long(spec: Spec, index: int, deal: int) -> Sizes:
    """The sizes that the stratum fixes: those of real use, or one or two large ones.

    The wider dtypes walk the list to its end, where the dearest are, so that few cases are cheap; the half precisions
    from its front, and no further than its middle: together they come to all of it.
    """
    number = _before(index, "long")
    block, first = divmod(index, CASES)
    late = dear(spec)
    if block and late and first == ROUND.index("long"):  # one in each further CASES, for they take long
        return late[((block - 1) * DEALS + deal) % len(late)]
    walk = walked(spec)
    half, side = divmod(deal, 2)
    position = 2 * number + side
    if half:
        return walk[position % (len(walk) if block else -(-len(walk) // 2))]
    turns = 2 * CASES * ROUND.count("long") // len(ROUND)
    return walk[-1 if position == turns - 1 else (position + max(len(walk) - turns, 0)) % len(walk)]


def real(spec: Spec) -> Sizes:
    """The sizes of real use, of the axes whose size is free."""
    found: Sizes = {}
    for letter in spec.letters:
        size, asked = REAL.get(letter, OTHER), spec.ranges.get(letter)
        if asked is not None and size not in asked:
            size = max([s for s in asked if letter == "..." or s <= size], default=min(asked))
        found[letter] = size
    return found


def crossings(spec: Spec) -> tuple[Sizes, ...]:
    """What the long cases of every run walk through: dicts of one axis and its size, the axes taking turns."""
    return _crossings(spec)[0]


@lru_cache(maxsize=1024)
def walked(spec: Spec) -> tuple[Sizes, ...]:
    """What the long cases of a run fix: the sizes of real use, and the crossings, a large and a small one together.

    Ordered by what they cost, more or less, real use last: that is float32's, whose oracle has a BLAS. Half as many
    cases do as there are crossings.
    """
    left, found = sorted(crossings(spec), key=lambda sizes: _cost(spec, sizes)), []
    while left:
        long = left.pop()
        other = next((small for small in left if small.keys() != long.keys() and _possible(spec, long | small)), {})
        if other and _cost(spec, long | other) <= 2 * DEAR:
            left.remove(other)
            long |= other
        found.append(long)
    return *reversed(found), real(spec)


def dear(spec: Spec) -> tuple[Sizes, ...]:
    """What only runs of more than ``CASES`` come to, for the work that it costs."""
    return _crossings(spec)[1]


def reach(spec: Spec) -> tuple[dict[str, int], dict[str, int]]:
    """By axis, the largest size that a default run comes to, and the one that only longer runs come to."""
    def most(some: tuple[Sizes, ...]) -> dict[str, int]:
        found: dict[str, int] = {}
        for letter, size in (pair for sizes in some for pair in sizes.items()):
            found[letter] = max(found.get(letter, 0), _longest(size))
        return found

    now, later = most((*crossings(spec), real(spec))), most(dear(spec))
    return now, {letter: size for letter, size in later.items() if size > now.get(letter, 0)}


@lru_cache(maxsize=1024)
def _crossings(spec: Spec) -> tuple[tuple[Sizes, ...], tuple[Sizes, ...]]:
    lines = [[(letter, three) for three in past(spec, letter)] for letter in spec.letters]
    cheap: list[Sizes] = []
    late: list[Sizes] = []
    for places in itertools.zip_longest(*lines):
        for letter, three in filter(None, places):
            cost = _cost(spec, {letter: three[-1]})
            if cost <= MOST_WORK:
                # where even short axes ask something of each other, only a draw can tell
                possible = [{letter: size} for size in three
                            if not _possible(spec, {}) or _possible(spec, {letter: size})]
                (cheap if cost <= DEAR else late).extend(possible)
    extra = [{letter: size} for letter, size in TIME.items() if {letter: size} in late]
    return tuple(cheap + extra) or ({},), tuple(sizes for sizes in late if sizes not in extra)


def past(spec: Spec, letter: str) -> list[tuple[Any, ...]]:
    """Of each threshold that an axis may have, small ones first, the sizes just below, at and just above it."""
    asked = spec.ranges.get(letter)
    points = THRESHOLDS + (COUNTED if letter in spec.bounds.values() else ())
    threes = [tuple(point + by for by in (-1, 0, 1) if asked is None or point + by in asked) for point in points]
    if letter == "...":
        return [] if asked is not None else [tuple((3,) * (i % LEADING) + (size,) for size in three)
                                             for i, three in enumerate(threes)]
    return [three for three in threes if three]


def _longest(size: int | Shape) -> int:
    return max(size, default=0) if isinstance(size, tuple) else size


def _largest(sizes: Sizes) -> int:
    return max(map(_longest, sizes.values()), default=0)


def _cost(spec: Spec, sizes: Sizes) -> int:
    """The work of a long case, in multiplications."""
    case = plainest(spec, sizes)
    return case.work + sum((LOOP * (axis in spec.loops) - STEP) * int(case.sizes.get(axis, 0)) for axis in "TU")


def plainest(spec: Spec, sizes: Sizes, other: int | None = None) -> Case:
    """A long case with the first of all options, its other axes as long as they are drawn, or of another size."""
    small = other or max(LEAST if _largest(sizes) >= LONGEST else BESIDE)
    options: Options = {}
    filled = {letter: sizes.get(letter, (small,) if letter == "..." else max(small, least(spec, letter)))
              for letter in spec.letters}
    for name in choices(spec):
        options[name] = permitted(spec, name, filled, "normal", options)[0]
    return Case(spec, derived(spec, filled, options), "normal", 1.0, "C", options, 0)


def _possible(spec: Spec, sizes: Sizes) -> list[Case]:
    """The plainest cases of these sizes that a layer admits, its other axes short, or as long as one of these."""
    cases = [plainest(spec, sizes, other) for other in (None, *sorted({_longest(size) for size in sizes.values()}))]
    return [case for case in cases if admitted(spec, case.sizes, case.options)]
