"""Axis strings: both sides read one language, and parity's own reading of it is the same."""

import numpy as np
import pytest
import torch

import reference._checks
import torch_port._checks
from parity.spec import axes as spec

SIDES = [pytest.param(reference._checks, np.zeros, id="reference"),
         pytest.param(torch_port._checks, torch.zeros, id="port")]
READ = {  # axis string: kind, whether axes stand before, (factor, letter) of each axis
    "N T H": ("float", False, [(1, "N"), (1, "T"), (1, "H")]),
    "float N": ("float", False, [(1, "N")]),
    "int N T": ("int", False, [(1, "N"), (1, "T")]),
    "bool N": ("bool", False, [(1, "N")]),
    "H 4H": ("float", False, [(1, "H"), (4, "H")]),
    "12H": ("float", False, [(12, "H")]),
    "k 2k": ("float", False, [(1, "k"), (2, "k")]),
    "... V": ("float", True, [(1, "V")]),
    "int ... N V": ("int", True, [(1, "N"), (1, "V")]),
    "...": ("float", True, []),
    "": ("float", False, []),
    "bool": ("bool", False, []),
    "  N   T ": ("float", False, [(1, "N"), (1, "T")]),
}
MALFORMED = ["Dk", "N Dk", "4", "H4", "0H", "04H", "-1H", "4.5H", "N ...", "... ...", "....", "..", "N,T", "N, T", "é",
             "\N{SUPERSCRIPT TWO}H", "\N{ARABIC-INDIC DIGIT TWO}H", "Int N", "str N", "N int", "4 H", "_", "*"]
FITS = [  # shapes and axis strings of arguments a, b, ..., and the sizes of their letters
    ([((2, 3), "N T")], {"N": 2, "T": 3}),
    ([((3, 12), "H 4H")], {"H": 3}),
    ([((12,), "4H"), ((3, 5), "H D")], {"H": 3, "D": 5}),
    ([((7,), "... V")], {"V": 7}),
    ([((2, 3, 7), "... V"), ((7, 2), "V N")], {"V": 7, "N": 2}),
    ([((2, 3, 0, 7), "... V")], {"V": 7}),
    ([((2, 3), "...")], {}),
    ([((), "...")], {}),
    ([((), "")], {}),
    ([((0, 3), "N T")], {"N": 0, "T": 3}),
]
MISFITS = [  # shapes and axis strings, and what the error says after the name of the last argument
    ([((2, 3), "N T H")], "has shape (2, 3), expected (N, T, H)"),
    ([((2, 3, 4), "N T")], "has shape (2, 3, 4), expected (N, T)"),
    ([((3, 11), "H 4H")], "has shape (3, 11), expected (H, 4H)"),
    ([((3, 5), "H D"), ((11,), "4H")], "has shape (11,), expected (4H,) = (12,) from a (3, 5)"),
    ([((10,), "4H")], "has shape (10,), expected (4H,)"),
    ([((2, 3, 5), "N T H"), ((3, 4), "N T")], "has shape (3, 4), expected (N, T) = (2, 3) from a (2, 3, 5)"),
    ([((2, 3), "N T"), ((5, 4), "D U"), ((2, 9, 5), "N T D")],
     "has shape (2, 9, 5), expected (N, T, D) = (2, 3, 5) from a (2, 3), b (5, 4)"),
    ([((), "... V")], "has shape (), expected (..., V)"),
    ([((7,), "... N V")], "has shape (7,), expected (..., N, V)"),
    ([((3, 7), "N V"), ((2, 8), "... V")], "has shape (2, 8), expected (..., V) = (..., 7) from a (3, 7)"),
    ([((1,), "")], "has shape (1,), expected ()"),
    ([((2, 0), "N T")], "has shape (2, 0), axis T may not be empty"),
    ([((2, 0), "... V")], "has shape (2, 0), axis V may not be empty"),
]


@pytest.mark.parametrize(("checks", "zeros"), SIDES)
@pytest.mark.parametrize(("text", "expected"), READ.items(), ids=repr)
def test_an_axis_string_is_read(checks, zeros, text, expected):
    assert checks.parse(text) == expected


@pytest.mark.parametrize(("checks", "zeros"), SIDES)
@pytest.mark.parametrize("text", MALFORMED, ids=ascii)
def test_a_malformed_axis_string_is_refused(checks, zeros, text):
    for call in (lambda: checks.parse(text), lambda: checks.check("here", a=(zeros((2, 2)), text))):
        with pytest.raises(ValueError, match=r"axis string .*: expected a kind"):
            call()


@pytest.mark.parametrize(("checks", "zeros"), SIDES)
@pytest.mark.parametrize(("given", "sizes"), FITS, ids=str)
def test_arguments_that_fit_give_their_sizes(checks, zeros, given, sizes):
    arguments = {name: (zeros(s), axes) for name, (s, axes) in zip("abc", given, strict=False)}
    assert checks.check("here", **arguments) == sizes


@pytest.mark.parametrize(("checks", "zeros"), SIDES)
@pytest.mark.parametrize(("given", "words"), MISFITS, ids=str)
def test_arguments_that_do_not_fit_are_refused_in_the_same_words(checks, zeros, given, words):
    arguments = {name: (zeros(s), axes) for name, (s, axes) in zip("abc", given, strict=False)}
    with pytest.raises(ValueError) as error:
        checks.check("here", **arguments)
    assert str(error.value) == f"here: {[*arguments][-1]} {words}"


@pytest.mark.parametrize(("text", "expected"), READ.items(), ids=repr)
def test_parity_reads_the_same(text, expected):
    kind, rest, parts = expected
    sizes = {"N": 2, "T": 3, "H": 5, "V": 7, "k": 4, "...": (8, 9)}
    assert spec.axes(text)[0] == kind
    assert spec.shape(text, sizes) == (8, 9) * rest + tuple(factor * sizes[letter] for factor, letter in parts)


@pytest.mark.parametrize("text", MALFORMED, ids=ascii)
def test_parity_refuses_the_same(text):
    with pytest.raises(ValueError, match="axis string"):
        spec.axes(text)
