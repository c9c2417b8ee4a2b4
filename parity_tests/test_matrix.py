"""The matrix: every layer in every lane, on drawn cases and on cases that shrink."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.cases.drawing import DEALS, ROUND, draw
from parity.catalogue import CATALOGUE
from parity.engine import run_case
from parity.judge.lanes import LANES

from .strategies import cases

MATRIX = [pytest.param(spec, lane, id=f"{spec.name}-{lane.torch_dtype}-{lane.device}")
          for spec in CATALOGUE.values() for lane in LANES.values()]


def able(lane):
    """Skips a lane that cannot run here, with the reason."""
    if reason := lane.untested():
        pytest.skip(f"UNTESTED: {reason}")
    return [lane]


@pytest.mark.parametrize(("spec", "lane"), MATRIX)
def test_drawn(spec, lane):
    """The shorter of the long sizes, which are dealt to half precision: the longest are a whole run's."""
    lanes = able(lane)
    for index in range(len(ROUND)):
        (outcome,) = run_case(draw(spec, 20, index, lane.admits, deal=DEALS - 1), lanes)
        assert not outcome.findings, "\n".join(map(str, outcome.findings))


@pytest.mark.parametrize(("spec", "lane"), MATRIX)
def test_shrinking(spec, lane):
    lanes = able(lane)

    @settings(max_examples=8)
    @given(st.data())
    def holds(data):
        (outcome,) = run_case(data.draw(cases(spec, lane), label="case"), lanes)
        assert not outcome.findings, "\n".join(map(str, outcome.findings))

    holds()
