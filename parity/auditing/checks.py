"""The examination of one layer: every check, in the order in which its failure explains the next.

It runs where the layer's code runs, in the child process, and knows nothing of torch.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..judge.compare import shares, worst
from ..judge.finding import NOTE
from ..judge.lanes import LANES
from ..judge.witness import DOUBT
from ..promises import calls
from ..spec.results import Arrays
from . import samples
from .answers import BACKWARD, FAILED, FORWARD, FRAGILE, PROTOCOL, Audited
from .rounding import STEPS, Key, budgets, equal, grainy, nudged
from .scene import Measured
from .subject import copies, gradients, kept_arrays, left_out, quantities
from .trial import in_silence
from .values import Values, quantity_of


class Examination(Values):
    """One subject, examined."""

    def run(self) -> Audited:
        """Everything; gives the ``Audited``."""
        started = time.monotonic()
        with in_silence():
            measured = self.opening()
            if measured is not None and not any(a.dtype.kind == "f" and a.size for a in self.base.point().values()):
                self.result.skipped = "there is no gradient with an entry in it to judge"
            elif measured is not None:
                self.protocol(measured)
                self.dtypes(measured)
                self.values(measured, thorough=True)
                self.linearity(measured)
                self.many()
                self.left_over(measured)
        self.result.seconds = time.monotonic() - started
        return self.result

    def run_values(self) -> Audited:
        """Forward and backward alone, at the base: of a layer whose promises are looked at elsewhere."""
        with in_silence():
            measured = self.opening()
            if measured is not None:
                self.values(measured, thorough=False)
        return self.result

    def in_float32(self) -> None:
        """What it gives in float32 against what it gives for the same numbers in float64: within float32's budget."""
        base = replace(self.base.mapped(lambda a: a.astype(np.float32).astype(a.dtype)), id=f"{self.base.id}:float32",
                       words="in float32")
        with in_silence():
            measured = self.measured(base)
            if measured is None:
                return
            try:
                outputs, got = quantities(self.subject, base, measured.cotangents, _narrow)
            except Exception as error:
                self.raised(error, "a call in float32", base)
                return
            units, _ = budgets(self.subject, measured, LANES["cpu-float32"])
        found: dict[Key, NDArray[Any] | None] = {("output", n): o for n, o in
                                                 zip(measured.outputs, outputs, strict=True)}
        found |= {("grad", n): g for n, g in got.items()}
        right: dict[Key, NDArray[Any] | None] = {("output", n): a for n, a in measured.outputs.items()}
        right |= {("grad", n): g for n, g in measured.got.items()}
        for key, wide in right.items():
            own, budget = found.get(key), units.get(key)
            if wide is None or own is None or budget is None or own.shape != wide.shape or not wide.size:
                continue
            own = np.asarray(own, np.float64)
            share, index = worst(shares(own, np.asarray(wide, np.float64), budget))
            if not share <= 1:
                self.tell("float32", quantity_of(key), BACKWARD if key[0] == "grad" else FAILED,
                          "in float32 it is further from its own value in float64 than rounding explains", "narrow",
                          base, index, (wide, own), ("float32", "float64"), share=float(share))
            elif key[0] == "grad":
                self._judged(f"{key[1]} in float32", share)

    # --- the first call -----------------------------------------------------------------------------

    def opening(self) -> Measured | None:
        """Makes the layer and calls it once; None where that fails."""
        subject, base = self.subject, self.base
        try:
            layer = subject.make(base)
            subject.places(layer, base)
        except Exception as error:
            if isinstance(error, ValueError) and "params has" in str(error):
                self.tell("params", "params", FAILED, str(error), "params", base)
            else:
                self.raised(error, "constructor", base)
            return None
        try:
            outputs = subject.forward(layer, base.fresh())
            again = subject.forward(subject.make(base), base.fresh())
        except Exception as error:
            self.raised(error, "forward", base)
            return None
        if does := self.blank(outputs):
            self.stub("forward", does, base)
            return None
        if not all(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in zip(outputs, again, strict=True)):
            self.tell("random", "forward", FAILED, "two fresh layers give different outputs, though all random "
                      "generators start alike", "random", base)
            return None
        if subject.spec is not None and len(outputs) != len(subject.spec.outputs):
            self.tell("count", "forward", FORWARD, f"wrong number of results: forward returned {len(outputs)}, "
                      f"expected {len(subject.spec.outputs)}: {', '.join(subject.spec.outputs)}", "count", base)
            return None
        self.result.shapes = tuple(o.shape for o in outputs)
        measured = self.measured(base, witness=True)
        if measured is not None and (part := self.unwritten(measured)):
            self.forward_alone(measured)
            self.stub(*part, base)
            return None
        return measured

    def blank(self, outputs: tuple[NDArray[Any], ...]) -> str:
        """What a forward does that nobody has written: empty where it computes something."""
        if all(o.dtype == object and o.ndim == 0 and o[()] is None for o in outputs):
            return "returns None"
        if self.canonical is None or any(o.dtype == object or o.any() for o in outputs):
            return ""
        right, _ = quantities(self.canonical, self.base)
        return "returns zeros" if any(o.any() for o in right) else ""

    def unwritten(self, measured: Measured) -> tuple[str, str] | None:
        """Which part nobody has written and what it does; None where there is none, or zero is right."""
        found = list(measured.got.values())
        if not found or any(g is not None and (g.dtype == object or g.any()) for g in found):
            return None
        arrays = measured.sample.point()
        point = [n for n in measured.got if arrays[n].size]
        if not any(np.any(c) for c in measured.cotangents) or not point:
            return None
        differ = self.differentiator(measured.sample, measured.cotangents)
        vectors = {n: differ.rng.uniform(-1, 1, arrays[n].shape) for n in point}
        value, error = differ.direction(vectors)
        if abs(value) > DOUBT * error + differ.rounding(vectors):
            return "backward", "returns None" if all(g is None for g in found) else "gives zeros alone"
        return None if any(map(np.any, measured.outputs.values())) else ("forward", "returns zeros")

    # --- promises -----------------------------------------------------------------------------------

    def protocol(self, measured: Measured) -> None:
        """What it owes whoever calls it: nothing changed in place, arrays kept, calls that know nothing of others."""
        subject, sample = self.subject, measured.sample
        # what is kept, or drawn, is another each time
        varies = sample.options.get("stateful") or getattr(subject.target, "stateful", False) or (
            subject.spec and subject.spec.drawn)
        called = calls.Calls(
            lambda: subject.make(sample), subject.forward,
            lambda layer, cotangents: gradients(subject, sample, layer, subject.backward(layer, cotangents)),
            sample.inputs, {f"cotangent {i}": c for i, c in enumerate(measured.cotangents)}, _reversed(sample.inputs),
            equal, kept=False)
        for check in calls.CHECKS:
            if (varies and check is calls.check_repeats) or any(f.kind == "accumulated" for f in self.result.findings):
                continue
            try:
                for found in check(called):
                    self.difference(found.check, found.quantity, found.expected, found.got, sample, found.diagnosis,
                                    found.kind)
            except Exception as error:
                self.raised(error, "a second call", sample)
                return

    def dtypes(self, measured: Measured) -> None:
        """float64 stays float64; float32 too, where it is only remarked on."""
        found = dict(measured.outputs)
        found |= {f"grad.{n}": g for n, g in measured.got.items() if g is not None}
        cut = [n for n, a in found.items() if a.dtype.kind == "f" and a.dtype.itemsize < 8]
        floating = any(a.dtype.kind == "f" for a in measured.sample.point().values())
        if floating and (cut or self._grainy(measured)):
            self.lane = LANES["cpu-float32"]
            where, how = (cut[0], f"{found[cut[0]].dtype}: {', '.join(cut)}") if cut else (
                "inside", "float32 inside: a change of 1e-10 in the inputs does not come out")
            self.tell("dtype", where, PROTOCOL, f"float64 is silently cut to {how}", "float32", measured.sample)
        spec = self.subject.spec
        discrete = set() if spec is None else spec.outputs.keys() - set(spec.with_cotangents())
        wrong = [n for n, a in found.items() if (a.dtype.kind == "f") == (n in discrete)]
        if wrong:
            self.tell("dtype", wrong[0], PROTOCOL, f"{wrong[0]} has dtype {found[wrong[0]].dtype}, expected "
                      f"{'an integer' if wrong[0] in discrete else 'a floating'} one", "dtype", measured.sample)
        try:
            outputs, got = quantities(self.subject, measured.sample, measured.cotangents, _narrow)
            if floating and any(a is not None and a.dtype == np.float64 for a in (*outputs, *got.values())):
                self.result.remark("float32 inputs give float64 results: fine for checking, slower in training")
        except Exception as error:
            self.result.remark(f"float32 inputs: it raised {type(error).__name__}: {error}".splitlines()[0])

    def _grainy(self, measured: Measured) -> bool:
        """Whether what answers a change of 1e-5 in the inputs is deaf to one of 1e-10, as float32 is."""
        try:
            found = [quantities(self.subject, nudged(measured.sample, step, [self.seed, 11]), measured.cotangents)
                     for step in STEPS]
        except Exception:  # it will be heard of where the plain values are asked for
            return False
        near, nearer = ([*outputs, *got.values()] for outputs, got in found)
        plain = [*measured.outputs.values(), *measured.got.values()]
        return any(old is not None and new is not None and newer is not None and old.shape == new.shape == newer.shape
                   and grainy(old, new, newer) for old, new, newer in zip(plain, near, nearer, strict=True))

    # --- other samples ------------------------------------------------------------------------------

    def many(self) -> None:
        """Everything beyond the first sample."""
        if self.subject.spec is None:
            self._given_variations()
            return
        for sample, kind in samples.plan(self.subject, self.seed):
            measured = self.measured(sample, witness=kind == "value")
            if measured is None:
                continue
            if kind == "finite":
                self.finite(measured)
            else:
                self.values(measured, thorough=False)
        self._drawn()

    def _drawn(self) -> None:
        """Inputs that the layer draws itself: as often true as the canonical layer draws them."""
        spec, canonical = self.subject.entry, self.canonical
        assert canonical is not None
        option, values = next(iter(spec.options.items()), ("", ()))
        for name in [n for n in spec.drawn if n not in self.base.inputs]:
            for value in values:
                sample = samples.sample(self.subject, {"N": 50, "T": 10}, seed=self.seed, **{option: value})
                if sample is None:
                    continue
                (mine, *_), _ = quantities(self.subject, sample)
                (theirs, *_), _ = quantities(canonical, sample)
                a, b = float(np.mean(mine != 0)), float(np.mean(theirs != 0))
                if abs(a - b) > 6 * np.sqrt(max(b * (1 - b), 1e-4) / mine.size) * 2:
                    self.tell("drawn", name, FORWARD, f"{name} is true in {a:.1%} of {mine.size} draws, expected "
                              f"{b:.1%} with {option}={value}", "drawn",
                              replace(sample, words=f"with {option}={value}"), severity=self.otherwise)
                    return

    def _given_variations(self) -> None:
        base = self.base
        found = []
        if "N" in base.sizes:
            found = [samples.batch(self.subject, base, n) for n in {1, 2 * base.sizes["N"]} - {base.sizes["N"]}]
        reverse = replace(base, id=f"{base.id}:reversed", words="with non-contiguous inputs", inputs={
            n: a[(slice(None, None, -1),) * a.ndim].copy()[(slice(None, None, -1),) * a.ndim]
            for n, a in base.inputs.items()})
        for sample in [*found, reverse]:
            try:
                outputs = self.subject.forward(self.subject.make(sample), sample.fresh())
            except Exception as error:
                if "N = " in sample.words:  # what looks like a batch axis need not be one
                    self.result.remark(f"not asked {sample.words}: forward raised {type(error).__name__}")
                    continue
            else:
                if not all(np.isfinite(o).all() for o in map(np.asarray, outputs)):  # a variance of one row, say
                    self.result.remark(f"not asked {sample.words}: forward is not finite")
                    continue
            measured = self.measured(sample)
            if measured is not None:
                self.values(measured, thorough=False)
        large = replace(base, id=f"{base.id}:1e4", words="at inputs of 1e4", inputs={
            n: a * 1e4 if samples.measured(a) else a for n, a in base.inputs.items()})
        measured = self.measured(large)
        if measured is not None:
            for name, a in {**measured.outputs, **measured.got}.items():
                if a is not None and not np.isfinite(a).all():
                    self.tell("extreme", name, FRAGILE, "overflow for large inputs", "overflow", large, severity=NOTE)
                    break

    def left_over(self, measured: Measured) -> None:
        """What was never judged, and no fault found in it."""
        result, found = self.result, {f.quantity for f in self.result.findings}
        for name, g in measured.got.items():
            if name not in result.judged and f"grad.{name}" not in found and (g is None or g.size):
                result.unjudged.setdefault(name, "no call could be judged")
        layer = self.subject.make(self.base)
        before: Arrays = {}
        after: Arrays = {}
        known: list[Any] = []
        try:
            known = [*getattr(layer, "params", ()), *self.base.params.values(), *self.base.fresh()]
            kept = kept_arrays(layer)
            self.subject.forward(layer, self.base.fresh())
            self.subject.backward(layer, copies(measured.cotangents))
            before, after = kept, kept_arrays(layer)
        except Exception:  # a call that fails has a finding of its own
            pass
        if not hasattr(layer, "functions"):
            for name, gradient in left_out(before, after, known).items():
                result.unjudged.setdefault(name, f"it looks like a parameter and {gradient} like its gradient, but it "
                                                 "is not in params")
        result.unjudged = {n: why for n, why in result.unjudged.items()
                           if n not in result.judged and f"grad.{n}" not in found}


def _narrow(a: NDArray[Any]) -> NDArray[Any]:
    return a.astype(np.float32) if a.dtype.kind == "f" else a


def _reversed(inputs: Arrays) -> Arrays:
    """Other inputs of the same shapes and kinds."""
    return {n: (a[::-1].copy() if a.ndim else a) * (0.75 if samples.measured(a) else a.dtype.type(1))
            for n, a in inputs.items()}
