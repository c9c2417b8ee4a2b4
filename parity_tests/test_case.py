"""Cases: the id carries everything."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import torch_port
from parity.cases import drawing
from parity.cases.case import ARRANGED, LAYOUTS, MOST_BYTES, PATTERNS, SCALES, parse
from parity.cases.drawing import CASES, DEALS, ROUND, crossings, dear, draw, past, real, stratum
from parity.catalogue import CATALOGUE
from parity.engine import run_case
from parity.errors import UsageError
from parity.judge.lanes import LANES
from parity.spec.axes import axes, shape
from parity.spec.catalogue import Catalogue

from .strategies import cases

GOLDEN = Path(__file__).with_name("golden.json")
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
    """Where this fails, NumPy's streams or the recipe have changed: let FORMAT grow, and replace the digests."""
    for case_id, expected in json.loads(GOLDEN.read_text()).values():
        digest = hashlib.sha256()
        for name, array in arrays(parse(case_id)).items():
            digest.update(f"{name} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
        assert digest.hexdigest()[:16] == expected, case_id


def test_drawn_cases_reach_everything():
    drawn = {spec.name: [draw(spec, 0, i) for i in range(400)] for spec in CATALOGUE.values()}
    for name, some in drawn.items():
        spec = CATALOGUE[name]
        assert {c.scale for c in some} >= set(SCALES)
        assert {c.layout for c in some} == set(ARRANGED)
        assert {c.pattern for c in some} >= set(spec.patterns)
        for letter in set(spec.letters) - {"..."}:
            found = {c.sizes[letter] for c in some}
            assert min(spec.ranges.get(letter, (1,))) in found and max(found) > 7
            assert (0 in found) == (letter == "N")
        for option in some[0].options:
            assert len({c.options[option] for c in some}) > 1, option
        if "U" in spec.letters and "T" in spec.letters:
            assert any(c.sizes["T"] < c.sizes["U"] for c in some) and any(c.sizes["T"] > c.sizes["U"] for c in some)
    assert {c.pattern for some in drawn.values() for c in some} == set(PATTERNS)


def dealt(spec, blocks=1):
    """The cases of a default run, by the dtype that they are dealt to; of several times as many cases."""
    return [[draw(spec, 0, index, deal=deal) for index in range(blocks * CASES)] for deal in range(DEALS)]


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)
def test_a_default_run_walks_through_every_size_that_it_declares(spec):
    every = [case for hand in dealt(spec) for case in hand]
    tried = {(letter, size) for case in every for letter, size in case.sizes.items()}
    assert {pair for sizes in crossings(spec) for pair in sizes.items()} <= tried
    sized = [case for case in every if real(spec).items() <= case.sizes.items()]
    assert sized and not any(case.degenerate for case in sized)
    ordinary = [not case.degenerate for case in every]
    assert sum(ordinary) == len(every) * (len(ROUND) - ROUND.count("degenerate")) / len(ROUND) >= len(every) / 2
    for index, case in enumerate(every[:CASES]):
        assert case.degenerate == (stratum(index) == "degenerate")


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)
def test_the_reach_that_is_shown_is_what_is_drawn(spec):
    largest = {}
    for case in (case for hand in dealt(spec) for case in hand):
        for letter in spec.letters:
            size = case.sizes[letter]
            largest[letter] = max(largest.get(letter, 0), max(size, default=0) if letter == "..." else size)
    assert all(largest[letter] >= size for letter, size in drawing.reach(spec)[0].items())


@pytest.mark.parametrize("name", ["TimeLSTM", "AttentionSeq2seq", "MultiHeadAttention"])
def test_a_longer_run_walks_through_the_dear_sizes_too(name):
    spec = CATALOGUE[name]
    tried = {(letter, size) for hand in dealt(spec, 15) for case in hand for letter, size in case.sizes.items()}
    assert {pair for sizes in dear(spec) for pair in sizes.items()} <= tried
    wanted = {(letter, size) for letter in spec.letters for three in past(spec, letter) for size in three}
    assert wanted <= tried and (spec.letters[0], 1025) in wanted


def test_each_size_of_a_threshold_is_cheap_or_all_are_dear():
    for spec in CATALOGUE.values():
        late = [sizes for sizes in dear(spec) if not sizes.items() <= drawing.TIME.items()]
        for sizes in late:
            assert sizes not in crossings(spec)
        assert not crossings(spec) or len(late) + len(crossings(spec)) + 1 >= 3 * sum(
            len(past(spec, letter)) for letter in spec.letters)


def test_sizes_of_one_s_own_are_drawn_and_no_others():
    spec = replace(CATALOGUE["Affine"], ranges={"N": (3, 64, 100), "D": range(2, 40)})
    every = [case for hand in dealt(spec) for case in hand]
    assert {case.sizes["N"] for case in every} == {3, 64, 100}
    assert {case.sizes["D"] for case in every} <= set(range(2, 40)) and max(case.sizes["D"] for case in every) >= 33
    assert max(case.sizes["H"] for case in every) == 1025
    even = replace(CATALOGUE["Affine"], where=lambda n: n["H"] % 2 == 1)
    assert {case.sizes["H"] % 2 for hand in dealt(even) for case in hand} == {1}
    assert [sizes["H"] for sizes in crossings(even) if "H" in sizes][:4] == [7, 9, 15, 17]
    even = replace(CATALOGUE["Affine"], where=lambda n: n["H"] % 2 == 0 and n["D"] == n["N"] + 1)
    assert all(case.sizes["H"] % 2 == 0 and case.sizes["D"] == case.sizes["N"] + 1
               for hand in dealt(even) for case in hand)
    coupled = replace(CATALOGUE["Affine"], where=lambda n: n["H"] >= n["D"])
    every = [case for hand in dealt(coupled) for case in hand]
    assert all(case.sizes["H"] >= case.sizes["D"] for case in every)
    assert {1023, 1024, 1025} <= {case.sizes["D"] for case in every}


def test_patterns_are_what_they_say():
    def some(layer, pattern):
        spec = CATALOGUE[layer]
        return [arrays(c) for c in (draw(spec, 0, i) for i in range(400)) if c.pattern == pattern]

    assert all(np.all(np.abs(np.abs(a["inputs x"]) - 5000) < 5010) for a in some("Softmax", "extreme"))
    assert any(np.abs(a["inputs x"]).max(initial=0) > 9990 for a in some("Softmax", "extreme"))
    assert any((np.ptp(a["inputs x"], axis=-1) == 0).all() for a in some("Softmax", "equal"))
    assert all(np.unique(a["inputs ts"]).size <= 1 for a in some("TimeSoftmaxWithLoss", "ignored"))
    assert any(np.unique(a["inputs idx"]).size < a["inputs idx"].size for a in some("Embedding", "duplicates"))
    assert any(np.isnan(a["inputs xs"]).any() for a in some("TimeLSTM", "nonfinite"))
    masks = [a["inputs mask"] for a in some("Attention", "normal") if "inputs mask" in a]
    assert any(m.size and not m.any(axis=1).all() for m in masks) and any(m.all(axis=1).any() for m in masks)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_values_and_change_strides(layout):
    array = np.arange(24.0).reshape(2, 3, 4)
    laid = LAYOUTS[layout](array)
    assert np.array_equal(laid, array)
    assert {"C": laid.flags.c_contiguous, "F": laid.flags.f_contiguous, "sliced": laid.strides[-1] == 16,
            "reversed": max(laid.strides) < 0}[layout]


def test_a_mixed_case_lays_every_array_out_by_itself_and_an_expanded_one_repeats_its_first_entry():
    case = parse("p2:Affine:N=3,D=4,H=5:normal:1:mixed::1")
    found = arrays(case)
    kinds = {(a.flags.c_contiguous, a.flags.f_contiguous, a.strides[0] > 0) for a in found.values() if a.ndim == 2}
    assert len(kinds) > 1
    assert any(not a.flags.c_contiguous for a in found.values())
    found = arrays(parse(case.id.replace("mixed", "expanded")))
    assert [name for name, a in found.items() if 0 in a.strides] == ["inputs x", "cotangents y"]
    assert (found["inputs x"] == found["inputs x"][0]).all() and found["params W"].flags.c_contiguous


@pytest.mark.parametrize(("layout", "wrong"), [
    ("F", lambda x, w: not w.is_contiguous()),
    ("expanded", lambda x, w: 0 in x.stride()),
    ("mixed", lambda x, w: x.is_contiguous() != w.is_contiguous()),
], ids=["F", "expanded", "mixed"])
def test_a_fault_of_one_layout_is_found_in_it(monkeypatch, layout, wrong):
    real = torch_port.Affine.forward
    monkeypatch.setattr(torch_port.Affine, "forward",
                        lambda self, x: real(self, x) * (1.01 if wrong(x, self.weight) else 1))

    def findings(layout, seed):
        case = parse(f"p2:Affine:N=3,D=4,H=5:normal:1:{layout}::{seed}")
        return run_case(case, [LANES["cpu-float32"]])[0].findings

    assert not any(findings("C", seed) for seed in range(6)) and any(findings(layout, seed) for seed in range(6))


@pytest.mark.parametrize("scale", [0.1, 1, 1000])
@pytest.mark.parametrize("sizes", ["N=2,T=2,D=3,H=2", "N=2,T=20,D=3,H=64", "N=1,T=50,D=3,H=256"])
def test_recurrent_weights_are_tame_at_every_size_and_scale(sizes, scale):
    Wh = arrays(parse(f"p2:TimeRNN:{sizes}:normal:{scale}:C:stateful=0,cut=0,given=0:1"))["params Wh"]
    radius = np.sqrt(np.mean(Wh**2) * len(Wh))
    assert radius <= 1 + 1e-12
    assert scale < 1 or radius > 0.99
    largest = np.abs(np.linalg.eigvals(Wh)).max()
    assert largest < 1.5  # the radius above is that of many entries


@pytest.mark.parametrize(("text", "says"), [
    ("", "expected 8 fields"),
    ("p0:Affine:N=1,D=1,H=1:normal:1:C::0", "has format p0, this version reads p2"),
    ("p2:Afine:N=1,D=1,H=1:normal:1:C::0", "unknown layer 'Afine'"),
    ("p2:Affine:N=1,D=1,H=1:odd:1:C::0", "unknown pattern 'odd'"),
    ("p2:Affine:N=1,D=1,H=1:normal:1:Z::0", "unknown layout 'Z'"),
    ("p2:Affine:N=1,D=1:normal:1:C::0", "expected sizes of N, D, H, in this order, got N, D"),
    ("p2:Affine:N=-1,D=1,H=1:normal:1:C::0", "size N is -1, expected >= 0"),
    ("p2:Affine:N=1,D=1,H=0:normal:1:C::0", "size H is 0, expected >= 1"),
    ("p2:Affine:N=1,D=1,H=1.0:normal:1:C::0", "size H is '1.0', expected a whole number"),
    ("p2:Affine:N=1,D=1,D=1,H=1:normal:1:C::0", "got N, D, D, H"),
    ("p2:Affine:D=1,N=1,H=1:normal:1:C::0", "in this order, got D, N, H"),
    ("p2:Affine:N=1,D=1,H=1:normal:x:C::0", "could not convert"),
    *((f"p2:Affine:N=1,D=1,H=1:normal:{scale}:C::0", "scale is .*, expected 1e-06 <= scale <= 1e.06")
      for scale in ("nan", "inf", "-inf", "0", "-1", "1e-300", "1e300")),
    ("p2:Affine:N=1,D=1,H=1:nonfinite:0.1:C::0", "expected 1 with the pattern nonfinite"),
    ("p2:Affine:N=1,D=1,H=1:saturated:1:C::0", "unknown pattern 'saturated', Affine knows normal, "),
    ("p2:Affine:N=1,D=1,H=1:normal:1:C:cut=1:0", "expected options none, in this order, got cut"),
    *((f"p2:Affine:N=1,D=1,H=1:normal:1:C::{seed}", "the seed is ")
      for seed in ("", "-1", "x", "1.5", "None", 1 << 64, "9" * 400)),
    *((f"p2:Affine:N=1,D=1,H=1:normal:1:C::{seed}", "is spelled 'p2:Affine:N=1,D=1,H=1:normal:1:C::17'")
      for seed in ("017", "+17", "1_7", "17 ", "\u0661\u0667", "\uff11\uff17")),
    *((f"p2:Affine:N=1,D=1,H=1:normal:{scale}:C::17", "is spelled 'p2:Affine:N=1,D=1,H=1:normal:1:C::17'")
      for scale in ("1.0", "1e0", "+1", " 1", "\u0661")),
    ("p2:Affine:N=01,D=1,H=1:normal:1:C::0", "is spelled 'p2:Affine:N=1,D=1,H=1:normal:1:C::0'"),
    (" p2:Affine:N=1,D=1,H=1:normal:1:C::0", "has format  p2"),
    ("p2:Affine:N=1,D=1,H=1:normal:1:C::0:", "expected 8 fields"),
    ("p2:Softmax:lead=-2,V=3:normal:1:C::0", "size lead is -2, expected >= 0"),
    ("p2:Softmax:lead=2x,V=3:normal:1:C::0", "size lead is '', expected a whole number"),
    ("p2:Softmax:lead=1x1x1x1x1x1x1x1x1,V=3:normal:1:C::0", "at most 8 axes"),
    *((f"p2:TimeRNN:N=2,T=4,D=2,H=2:normal:1:C:stateful={stateful},cut={cut},given=0:0", "cut is ")
      for stateful, cut in ((1, -1), (1, 4), (1, 99), (0, 1), (0, 3), (1, "x"))),
    ("p2:TimeRNN:N=2,T=4,D=2,H=2:normal:1:C:stateful=0,cut=0,given=1:0", "given is '1', expected here 0"),
    ("p2:TimeRNN:N=2,T=4,D=2,H=2:normal:1:C:stateful=2,cut=0,given=0:0", "stateful is '2', expected here 0 or 1"),
    ("p2:TimeRNN:N=2,T=4,D=2,H=2:normal:1:C:stateful=0,stateful=0,cut=0,given=0:0", "expected options stateful, cut"),
    ("p2:TimeDropout:N=2,T=4,D=2:normal:1:C:dropout_ratio=1.5,train_flg=1:0", "expected a number from 0 to 0.999"),
    ("p2:TimeDropout:N=2,T=4,D=2:normal:1:C:dropout_ratio=0.50,train_flg=1:0", "is spelled .*dropout_ratio=0.5,"),
    ("p2:TimeDropout:N=2,T=4,D=2:normal:1:C:dropout_ratio=None,train_flg=1:0", "dropout_ratio is 'None'"),
    ("p2:Seq2seq:V=3,D=2,H=2,N=1,T=1,U=1:normal:1:C::0", "expected sizes of N, T, U, V, D, H"),
    ("p2:Seq2seq:N=1,T=1,U=1,V=3,D=2,H=2:normal:1:C::0", "size U is 1, expected >= 2"),
    ("p2:Affine:N=1,D=1,H=1000000000000:normal:1:C::0", "size H is 1000000000000, expected >= 1 and <= 131072"),
    ("p2:Affine:N=1,D=65536,H=65536:normal:1:C::0", "its memory is about [0-9,]+ bytes, at most 268,435,456"),
    ("p2:Softmax:lead=65536x65536,V=3:normal:1:C::0", "too large: its memory"),
    ("p2:TimeAttention:N=1,T=65536,H=1,U=65536:normal:1:C:masked=0:0", "too large: its memory"),
    ("p2:Encoder:N=1000,T=1000,V=3,D=2,H=256:normal:1:C:masked=0:0", "too large: its memory"),
    ("p2:Encoder:N=1,T=3,V=3,D=65536,H=65536:normal:1:C:masked=0:0", "too large: its memory"),
    ("p2:Affine:N=5000,D=5000,H=5000:normal:1:C::0", "too large: its memory|too large: its work"),
    ("x" * 5000, "at most 1000 characters"),
    (None, "expected text"),
])
def test_what_is_no_case_is_refused(text, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_case_of_real_size_is_not_refused():
    for text in ("p2:AttentionSeq2seq:N=128,T=29,U=11,V=59,D=16,H=256:normal:1:C:masked=0:0",
                 "p2:TimeLSTM:N=128,T=29,D=256,H=256:normal:1:C:stateful=0,cut=0,given=0:0",
                 "p2:TimeSoftmaxWithLoss:N=20,T=35,V=10000:normal:1:C:ignore_label=-1,one_hot=0:0"):
        assert parse(text).id == text


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)
def test_the_estimate_of_a_case_counts_all_its_arrays(spec):
    for index in range(20):
        case = draw(spec, 3, index)
        size = sum(a.size for name, a in arrays(case).items() if not (name.startswith("inputs") and a.ndim == 0))
        assert case.entries >= size - sum(a.size for a in arrays(case).values() if a.dtype.kind in "ib")
        assert case._parameter_shapes() == [a.shape for name, a in arrays(case).items() if name.startswith("params")]
        assert case.entries <= 60 * size + 500 or case.sizes.get("N") == 0


# pieces that a person might type, or a file might hold, in place of what belongs there
PIECES = ("", "-", "0", "1", "2", "7", "-1", "99", "nan", "inf", "1e9", "1.0", "x", "=", ",", ":", " ", "\n", "\x00",
          "None", "True", "lead", "cut=1", "N=0", "T", "\u0663", "e", ".", "_", "+", "9" * 50, "normal", "Time")


@settings(max_examples=200)
@given(st.data())
def test_a_changed_id_is_another_case_or_refused(data):
    spec = data.draw(SPECS)
    text = draw(spec, 5, data.draw(st.integers(0, 50))).id
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + data.draw(st.integers(0, 3)):]
    try:
        case = parse(text)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    assert case.id == text and 8 * case.entries <= MOST_BYTES
    if case.entries < 1e5:
        arrays(case)


class Noted(reference.Softmax):
    """A layer whose option may be None, a text or a number."""

    def __init__(self, note=None):
        super().__init__()
        self.note = note


def test_an_option_may_be_none_or_a_text(monkeypatch):
    values = (None, "none", "a:b, c=d", 1e-3, 1, True)
    spec = replace(CATALOGUE["Softmax"], name="Noted", reference=Noted, options={"note": values})
    drawn = [draw(spec, 0, index) for index in range(40)]
    assert {repr(case.options["note"]) for case in drawn} >= {"None", "'none'", "'a:b, c=d'", "0.001"}
    own = Catalogue([spec])
    for case in drawn:
        assert parse(case.id, own).id == case.id
        assert parse(case.id, own).options == case.options


def test_axis_strings():
    assert axes("int N T") == ("int", ["N", "T"])
    assert axes("") == ("float", [])
    assert shape("... 4H N", {"...": (2, 3), "H": 5, "N": 0}) == (2, 3, 20, 0)


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=list(CATALOGUE))
def test_the_sizes_of_real_use_are_the_last_of_float32(spec):
    case = draw(spec, 0, CASES - 1, deal=LANES["cpu-float32"].deal)
    assert real(spec).items() <= case.sizes.items()
