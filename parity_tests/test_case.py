"""Cases: the id carries everything."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.case import LAYOUTS, LONG, PATTERNS, SCALES, draw, parse
from parity.catalogue import CATALOGUE
from parity.errors import UsageError
from parity.spec import axes, shape

from .strategies import cases

SPECS = st.sampled_from(list(CATALOGUE.values()))


def arrays(case):
    data = case.data(lambda a: a)
    return {f"{group} {name}": a for group in ("params", "inputs", "states", "cotangents")
            for name, a in getattr(data, group).items()}


@given(SPECS.flatmap(cases))
def test_the_id_makes_the_same_case(case):
    again = parse(case.id)
    assert again == case and again.id == case.id
    assert not set(case.id) & set(" '\"$&|;<>()*?[]{}\\`!#~")  # no shell has to be told
    first, second = arrays(case), arrays(again)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[k], second[k], equal_nan=first[k].dtype.kind == "f") for k in first)


@given(SPECS, st.integers(0, 99), st.integers(0, 99))
def test_drawing_depends_on_seed_layer_and_number_alone(spec, seed, index):
    case = draw(spec, seed, index)
    np.random.seed(0)
    draw(spec, seed + 1, index)
    assert draw(spec, seed, index) == case == parse(case.id)
    assert case.id not in (draw(spec, seed + 1, index).id, draw(spec, seed, index + 1).id)


def test_the_arrays_of_a_case_are_what_they_always_were():
    """Where this fails, NumPy's streams or the recipe have changed: let FORMAT grow, and replace the digest."""
    digest = hashlib.sha256()
    for spec in CATALOGUE.values():
        for name, array in arrays(draw(spec, 0, 0)).items():
            digest.update(f"{name} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest()[:16] == "3cab67b7019a375b"


def test_drawn_cases_reach_everything():
    drawn = {spec.name: [draw(spec, 0, i) for i in range(400)] for spec in CATALOGUE.values()}
    for name, some in drawn.items():
        spec = CATALOGUE[name]
        assert {c.scale for c in some} >= set(SCALES)
        assert {c.layout for c in some} == set(LAYOUTS)
        assert {c.pattern for c in some} >= set(spec.patterns)
        for letter in set(spec.letters) - {"..."}:
            found = {c.sizes[letter] for c in some}
            assert min(spec.ranges.get(letter, (1,))) in found and max(found) > 7
            assert (0 in found) == (letter == "N")
        for option in some[0].options:
            assert len({c.options[option] for c in some}) > 1, option
        if "U" in spec.letters and "T" in spec.letters:
            assert any(c.sizes["T"] < c.sizes["U"] for c in some) and any(c.sizes["T"] > c.sizes["U"] for c in some)
        if spec.recurrent and "T" in spec.letters:
            assert any(c.sizes["T"] == LONG for c in some)
    assert {c.pattern for some in drawn.values() for c in some} == set(PATTERNS)


def test_patterns_are_what_they_say():
    def some(layer, pattern):
        spec = CATALOGUE[layer]
        return [arrays(c) for c in (draw(spec, 0, i) for i in range(400)) if c.pattern == pattern]

    assert all(np.all(np.abs(np.abs(a["inputs x"]) - 5000) < 5010) for a in some("Softmax", "extreme"))
    assert any(np.abs(a["inputs x"]).max(initial=0) > 9990 for a in some("Softmax", "extreme"))
    assert any((np.ptp(a["inputs x"], axis=-1) == 0).all() for a in some("Softmax", "equal"))
    assert all(np.isin(a["inputs ts"], (-1, 0)).all() for a in some("TimeSoftmaxWithLoss", "ignored"))
    assert any(np.unique(a["inputs idx"]).size < a["inputs idx"].size for a in some("Embedding", "duplicates"))
    assert any(np.isnan(a["inputs xs"]).any() for a in some("TimeLSTM", "nonfinite"))
    masks = [a["inputs mask"] for a in some("Attention", "normal") if "inputs mask" in a]
    assert any(m.size and not m.any(axis=1).all() for m in masks) and any(m.all() for m in masks if m.size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_values_and_change_strides(layout):
    array = np.arange(24.0).reshape(2, 3, 4)
    laid = LAYOUTS[layout](array)
    assert np.array_equal(laid, array)
    assert {"C": laid.flags.c_contiguous, "F": laid.flags.f_contiguous, "sliced": laid.strides[-1] == 16,
            "reversed": max(laid.strides) < 0}[layout]


def test_long_sequences_draw_tame_recurrent_weights():
    spec = CATALOGUE["TimeLSTM"]
    case = next(c for c in (draw(spec, 0, i) for i in range(400)) if c.sizes["T"] == LONG and c.scale == 1000
                and c.pattern == "normal")
    Wh = arrays(case)["params Wh"]
    assert np.sqrt(np.mean(Wh**2)) * np.sqrt(len(Wh)) < 2


@pytest.mark.parametrize(("text", "says"), [
    ("", "expected 8 fields"),
    ("p0:Affine:N=1,D=1,H=1:normal:1:C::0", "has format p0, this version reads p1"),
    ("p1:Afine:N=1,D=1,H=1:normal:1:C::0", "unknown layer 'Afine'"),
    ("p1:Affine:N=1,D=1,H=1:odd:1:C::0", "unknown pattern 'odd'"),
    ("p1:Affine:N=1,D=1,H=1:normal:1:Z::0", "unknown layout 'Z'"),
    ("p1:Affine:N=1,D=1:normal:1:C::0", "expected sizes of N, D, H"),
    ("p1:Affine:N=-1,D=1,H=1:normal:1:C::0", "expected >= 0"),
    ("p1:Affine:N=1,D=1,H=1:normal:x:C::0", "could not convert"),
    ("p1:Affine:N=1,D=1,H=1:normal:1:C:cut=1:0", "cut"),
])
def test_what_is_no_case_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse(text)


def test_axis_strings():
    assert axes("int N T") == ("int", ["N", "T"])
    assert axes("") == ("float", [])
    assert shape("... 4H N", {"...": (2, 3), "H": 5, "N": 0}) == (2, 3, 20, 0)
