"""Hypothesis strategies for cases: they shrink to small sizes, normal values of scale 1, in C order."""

from hypothesis import strategies as st

from parity.case import GENERAL, LAYOUTS, SCALES, UNSCALED, Case, choices


def sizes(spec):
    """Axis sizes of a layer: 1 is the smallest, and where it means something, 0."""

    def of(letter):
        if letter == "...":
            return st.lists(st.integers(0, 3), max_size=3).map(tuple)
        least = min(spec.ranges.get(letter, (1,)))
        return st.integers(0 if letter == "N" else least, 6)

    return st.fixed_dictionaries({letter: of(letter) for letter in spec.letters})


@st.composite
def cases(draw, spec):
    """Cases of a layer over sizes, patterns, scales, layouts and options."""
    size = draw(sizes(spec))
    pattern = draw(st.sampled_from((*GENERAL, *spec.patterns)))
    scale = 1.0 if pattern in UNSCALED else draw(st.sampled_from(sorted(SCALES, key=lambda s: abs(s - 1))))
    options = {}
    for name, values in choices(spec).items():
        if name == "cut":
            values = range(size[spec.time]) if options["stateful"] else (0,)
        if (name == "given" and not options["stateful"]) or (name == "one_hot" and pattern == "ignored"):
            values = (False,)
        options[name] = draw(st.sampled_from(values))
    layout = draw(st.sampled_from(tuple(LAYOUTS)))
    return Case(spec, size, pattern, scale, layout, options, draw(st.integers(0, 2**32 - 1)))
