"""Sabotage of the instrument itself: each way of seeing nothing is noticed by what the suite runs anyway."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import reference
from parity import check, engine
from parity import promises as protocol
from parity.cases import case, drawing
from parity.catalogue import CATALOGUE
from parity.judge import budget, compare
from parity.judge.lanes import LANES, Lane
from parity.trust import vacuity
from parity.trust.mutation.trials import CHECKS as MET

from . import test_case, test_names, test_protocol


def clean():
    """A check of one layer passes, and every lane that can run has run."""
    report = check("Affine", "cpu-*", cases=40)
    assert report.ok and report.cases
    assert {row["lane"] for row in report.rows if row["cases"]} == set(report.devices)


def seeds_matter():
    """Another seed means other numbers: of the same shapes, and of whole cases."""
    drawn = [drawing.draw(CATALOGUE["Affine"], seed, 0) for seed in range(8)]
    assert len({d.id for d in drawn}) == len(drawn)
    standard = [protocol.standard(CATALOGUE["Affine"], seed).data(np.asarray).inputs["x"] for seed in range(8)]
    assert len({x.tobytes() for x in standard}) == len(standard)


def alone(check):
    """A check that both sides are held to, without the side."""
    return getattr(check, "func", check)


def everything_is_registered():
    """Every check of the protocol is in the table that tests and mutants read, and every test is there."""
    modules = (protocol.both, protocol.long_runs, protocol.reference, protocol.port, protocol.optimizers,
               protocol.uneven)
    written = {f for module in modules for name, f in vars(module).items() if name.startswith("check_")}
    listed = {alone(f) for sides in protocol.CHECKS.values() for checks in sides.values() for f in checks.values()}
    assert written == listed
    tested = {alone(parameters.values[1]) for parameters in test_protocol.PROMISES}
    assert tested == written
    for sides in protocol.CHECKS.values():
        assert all(name in MET[side] for side, checks in sides.items() for name in checks)


def softmax_is_seen():
    """Softmax has gradients to compare: with cotangents of ones they are zero, and any backward passes."""
    assert check("Softmax", "cpu-float32", cases=120).ok


def with_ones(data):
    def patched(self, narrow):
        made = data(self, narrow)
        return replace(made, cotangents={name: np.ones_like(a) for name, a in made.cotangents.items()})

    return patched


def break_all(where, name, value):
    """A sabotage that replaces one name in several modules."""
    return lambda monkeypatch: [monkeypatch.setattr(module, name, value) for module in where]


# what is broken, how, and what has to fail
SABOTAGE = {
    "a budget without end": (break_all([budget], "FACTOR", np.inf), clean),
    "a budget far too wide": (break_all([budget], "FACTOR", 8e4), clean),
    "shares that are always zero": (break_all([compare], "shares", lambda v, oracle, b: np.zeros(oracle.shape)), clean),
    "a comparison that returns early": (break_all([engine, vacuity], "compare", lambda yardstick, found: {}), clean),
    "a worst element that is never found": (break_all([engine, vacuity], "worst", lambda share: (0.0, None)), clean),
    "sides that are not held": (break_all([engine], "_hold", lambda *args: None), clean),
    "lanes that are not run": (break_all([engine], "outcomes", lambda case, lanes, run=engine.outcomes:
                                         run(case, lanes[1:])), clean),
    "no case at all": (break_all([engine], "_drawn", lambda *args: []), clean),
    "an oracle no wider than the lane": (break_all([Lane], "oracle", property(lambda lane: np.dtype(lane.dtype))),
                                         clean),
    "cotangents of ones": (break_all([case.Case], "data", with_ones(case.Case.data)), softmax_is_seen),
    "a check that is never registered": (lambda m: m.delitem(protocol.CHECKS["textbook"]["reference"], "dtypes"),
                                         everything_is_registered),
    "a case that ignores its seed": (break_all([case.Case], "_rng", lambda self, name: np.random.default_rng(0)),
                                     seeds_matter),
    "drawing that ignores its seed": (break_all([drawing], "draw", lambda spec, seed, index, draw=drawing.draw:
                                                draw(spec, 0, index)), seeds_matter),
    "a pattern of other numbers": (lambda m: m.setitem(case.PATTERNS, "normal", case.PATTERNS["uniform"]),
                                   test_case.test_the_arrays_of_a_case_are_what_they_always_were),
    "a layer missing from the catalogue": (break_all([test_names], "CATALOGUE", dict(list(CATALOGUE.items())[1:])),
                                           test_names.test_the_same_names_on_both_sides_and_in_the_catalogue),
    "a layer missing from the reference": (break_all([reference], "__all__", reference.__all__[1:]),
                                           test_names.test_the_same_names_on_both_sides_and_in_the_catalogue),
}


@pytest.mark.parametrize("name", SABOTAGE, ids=[name.replace(" ", "-") for name in SABOTAGE])
def test_sabotage_is_noticed(name, monkeypatch):
    sabotage, guard = SABOTAGE[name]
    guard()
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        guard()


def test_a_lane_that_runs_on_the_cpu_is_noticed(monkeypatch):
    """Everything that asks for a GPU gets the CPU: a GPU is not needed to see that."""
    cls, to = CATALOGUE["Affine"].port_class, torch.Tensor.to
    twin = cls.from_reference.__func__

    def stays(tensor, *wanted):
        wanted = [w for w in wanted if w != "cuda"]
        return to(tensor, *wanted) if wanted else tensor

    monkeypatch.setattr(torch.Tensor, "to", stays)
    monkeypatch.setattr(cls, "from_reference",
                        classmethod(lambda cls, layer, *, device, dtype: twin(cls, layer, dtype=dtype)))
    (outcome,) = engine.run_case(protocol.standard(CATALOGUE["Affine"]), [LANES["cuda-float32"]])
    assert ["Affine ran on cpu in the lane cuda-float32" in f.diagnosis for f in outcome.findings] == [True]
