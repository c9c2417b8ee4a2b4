"""Axes longer than any that is drawn, one at a time: thousands of rows, steps, features, and ids that occur again."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.cases.case import admitted, derived
from parity.catalogue import CATALOGUE
from parity.engine import run_case
from parity.judge.lanes import LANES
from parity.promises.common import standard
from parity.promises.histories import program

LONG = 8209  # past 2^13, and no multiple of anything


def long_cases():
    """By layer and axis, a case with that axis long: no steps of a loop; no models, which are made of the layers."""
    for spec in CATALOGUE.values():
        usual = standard(spec) if spec.side == "textbook" and not spec.size_arguments else None
        for letter in usual.sizes if usual else ():
            size = (LONG,) if letter == "..." else LONG
            if letter == spec.time or (spec.recurrent and letter in "TUHD"):
                continue
            sizes = derived(spec, usual.sizes | {letter: size}, usual.options)
            if sizes[letter] != size or not admitted(spec, sizes, usual.options):
                continue
            if sum(map(prod, spec.parameter_shapes(sizes | usual.options).values())) > 1 << 20:
                continue
            yield pytest.param(replace(usual, sizes=sizes, scale=0.1), id=f"{spec.name}-{letter}")


@pytest.mark.parametrize("case", list(long_cases()))
def test_twins_agree_along_a_long_axis(case):
    case = next(c for c in (replace(case, seed=seed) for seed in range(100)) if not program(c))
    (outcome,) = run_case(case, [LANES["cpu-float32"]])
    assert not outcome.findings, "\n".join(map(str, outcome.findings))


@pytest.mark.parametrize("kind", ["reference", "port"])
def test_a_cell_that_grows_for_hundreds_of_steps_is_its_closed_form(kind):
    """With open gates each step adds the candidate: c_T = g sum of f^t i, and the gradient goes all the way back."""
    steps, bias = 400, np.array([12.0, 2.0, 12.0, 0.5])  # f, g, i, o
    f, i, o = 1 / (1 + np.exp(-bias[[0, 2, 3]]))
    g = np.tanh(bias[1])
    layer = reference.TimeLSTM(np.zeros((1, 4)), np.zeros((1, 4)), bias, stateful=True)
    xs, dhs = np.ones((1, steps, 1)), np.zeros((1, steps, 1))
    dhs[:, 0] = 1
    c = i * g * np.cumsum(f ** np.arange(steps))
    assert c[-1] > 300
    if kind == "reference":
        found, last = layer.forward(xs), layer.c
        layer.backward(dhs)
        slopes = layer.grads[2]
    else:
        module = torch_port.TimeLSTM.from_reference(layer)
        out = module(torch.from_numpy(xs))
        found, last = out.detach().numpy(), module.c.numpy()
        out.backward(torch.from_numpy(dhs))
        slopes = module.reference_grads()[2]
    np.testing.assert_allclose(found[0, :, 0], o * np.tanh(c), rtol=steps * 2.0**-50)
    np.testing.assert_allclose(last[0, 0], c[-1], rtol=steps * 2.0**-50)
    # of the first output: its own step alone
    inner = o * (1 - np.tanh(c[0]) ** 2)
    expected = [0.0, inner * i * (1 - g**2), inner * g * i * (1 - i), o * (1 - o) * np.tanh(c[0])]
    np.testing.assert_allclose(slopes, expected, rtol=2.0**-45)
    # of all that the cell has gathered, by the bias of the candidate
    layer = reference.LSTM(np.zeros((1, 4)), np.zeros((1, 4)), bias)
    for start in (60.0, -1e3, 1e6):
        given = np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), start)
        if kind == "reference":
            _, after = layer.forward(*given)
            back = layer.backward(np.zeros((1, 1)), np.ones((1, 1)))[2]
        else:
            leaves = [torch.from_numpy(a).requires_grad_() for a in given]
            _, after = torch_port.LSTM.from_reference(layer)(*leaves)
            after.sum().backward()
            after, back = after.detach().numpy(), leaves[2].grad.numpy()
        np.testing.assert_allclose(after, f * start + i * g, rtol=2.0**-48)
        np.testing.assert_allclose(back, f, rtol=2.0**-48)
