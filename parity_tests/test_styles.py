"""Layers as people write them: no right one is called wrong, no fault is right, and right says what it judged."""

import pytest

from parity_tests.audit_styles import LAYERS, judge, wrong

QUICK = list(LAYERS)[::6]  # `python -m parity_tests.audit_styles` audits them all


def test_there_are_enough_of_them():
    assert len(LAYERS) >= 150 and all(len(faults) >= 2 for _, faults in LAYERS.values())


@pytest.mark.parametrize("name", QUICK)
def test_a_right_layer_is_right_and_says_what_was_judged(name):
    result = judge(LAYERS[name][0], seed=1)
    assert result.ok and not result.skipped and result.judged, "\n".join(result.lines())


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_found(name):
    result = judge(wrong(name, len(LAYERS[name][1]) - 1))
    assert not result.ok and not result.skipped, "\n".join(result.lines())
