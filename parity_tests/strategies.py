"""Hypothesis strategies for cases: they shrink to small sizes, normal values of scale 1, in C order."""

from hypothesis import assume
from hypothesis import strategies as st

from parity.cases.case import ARRANGED, SCALES, UNSCALED, Case, choices, derived, least, patterns, permitted
from parity.spec.span import Span


def sizes(spec):
    """Axis sizes of a layer: 1 is the smallest, and where it means something, 0."""

    def of(letter):
        if letter == "...":
            return st.lists(st.integers(0, 3), max_size=3).map(tuple)
        return st.integers(least(spec, letter), 6)

    return st.fixed_dictionaries({letter: of(letter) for letter in spec.letters})


@st.composite
def cases(draw, spec, lane=None):
    """Cases of a layer over sizes, patterns, scales, layouts and options; those that a lane admits."""
    size = draw(sizes(spec))
    pattern = draw(st.sampled_from(patterns(spec)))
    scale = 1.0 if pattern in UNSCALED else draw(st.sampled_from(sorted(SCALES, key=lambda s: abs(s - 1))))
    options = {}
    for name in choices(spec):
        values = permitted(spec, name, size, pattern, options)
        between = st.nothing()
        if isinstance(values, Span):
            between = (st.integers if values.whole else st.floats)(values.low, values.high)
        options[name] = draw(st.sampled_from(values) | between)
    layout = draw(st.sampled_from(ARRANGED))
    case = Case(spec, derived(spec, size, options), pattern, scale, layout, options, draw(st.integers(0, 2**32 - 1)))
    assume((lane is None or lane.admits(case)) and (spec.where is None or spec.where(case.sizes | options)))
    return case
