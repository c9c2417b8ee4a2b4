"""Whether what a layer gives is right: its forward is the canonical one, its backward its own forward's derivative."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..judge.compare import shares, worst
from ..judge.finding import ERROR, WARNING
from ..judge.witness import DOUBT, LIMIT, Derivative, Differentiator
from ..promises import calls
from ..spec.results import Arrays
from . import diagnose, outputs
from .answers import BACKWARD, DIFFERS, FORWARD, PROTOCOL
from .rounding import Key, Quantities, blind, budgets, equal, within
from .scene import SAME, Measured, Scene, ask_canonical
from .subject import Function, Sample, copies, draw_cotangents, gradients, quantities
from .telling import BREAKS, Teller, farthest

PICKED = 64  # entries of a large array that are differentiated one by one
WITNESSES = 4  # samples whose gradients the twin's autograd is asked for as well

Directions = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # vectors, values, errors


class Values(Teller):
    """One subject, its outputs and gradients judged in any sample."""

    scene: Scene

    # --- measuring ----------------------------------------------------------------------------------

    def measured(self, sample: Sample, witness: bool = False) -> Measured | None:
        """One forward and backward, and what the canonical layer gives; None, with a finding, where it fails.

        Args:
            witness: whether the twin's autograd may be asked for its gradients as well.
        """
        subject = self.subject
        try:
            layer = subject.make(sample)
            found = [o.copy() for o in subject.forward(layer, sample.fresh())]
        except Exception as error:
            self.raised(error, "forward", sample)
            return None
        names = list(subject.spec.outputs) if subject.spec is not None else [
            f"output {i}" if len(found) > 1 else "output" for i in range(len(found))]
        measured = Measured(sample, draw_cotangents(subject, sample, found), dict(zip(names, found, strict=True)), {})
        if not self._backward(layer, measured):
            self.forward_alone(measured)
            return None
        for name, (came, own) in subject.reshaped.items():
            self.tell("shape", f"grad.{name}", PROTOCOL, f"its shape is {came}, expected {own}: its numbers are judged "
                      "as that", "shape", sample)
        measured.kept = {n: getattr(layer, n, None) for n in subject.spec.kept} if subject.spec else {}
        if self.canonical is not None:
            ask_canonical(self.canonical, measured)
        self.result.checked += 1
        plain = witness and sample.case is not None and not sample.warm and not subject.entry.drawn
        if plain and len(self.result.witnessed) < WITNESSES:
            self.result.witnessed[sample.id] = measured.outputs, measured.got
        return measured

    def _backward(self, layer: Any, measured: Measured) -> bool:
        """Puts the gradients into ``measured``; whether there are any, else with a finding."""
        sample = measured.sample
        try:
            returned = self.subject.backward(layer, copies(measured.cotangents))
        except Exception as error:
            self.raised(error, "backward", sample)
            return False
        try:
            found = gradients(self.subject, sample, layer, returned)
        except ValueError as error:
            if all(g is None for g in returned) and not any(map(np.any, getattr(layer, "grads", ()))):
                self.stub("backward", "returns None", sample)
            else:
                self.tell("count", "backward", BACKWARD, f"wrong number of results: {error}", "count", sample)
            return False
        measured.got = {n: None if g is None else np.array(g) for n, g in found.items()}
        return True

    def forward_alone(self, measured: Measured) -> None:
        """The forward, judged where there is no backward to judge."""
        measured.got = {}
        if self.canonical is not None:
            ask_canonical(self.canonical, measured)
            self.scene = self._scene(measured)
            self._outputs(measured, budgets(self.subject, measured, self.lane)[0])

    def measure(self, sample: Sample, cotangents: list[Any] | None = None) -> Measured:
        """A sample measured for the diagnosis: what was got, what is right."""
        if self.scene.base.got:
            found, got = quantities(self.subject, sample, cotangents)
        else:  # a forward alone is judged
            found, got = outputs.outputs_of(self.subject, sample), {}
        cotangents = draw_cotangents(self.subject, sample, found) if cotangents is None else cotangents
        measured = Measured(sample, cotangents, dict(zip(self.scene.base.outputs, found, strict=True)), got)
        if self.canonical is not None:
            ask_canonical(self.canonical, measured)
        if got:  # the same function has the same derivative
            same = measured.canonical.keys() == got.keys() and all(
                equal(o, measured.right_outputs[n]) for n, o in measured.outputs.items())
            measured.right = measured.canonical if same else \
                self.differentiator(sample, cotangents).elementwise().values
        return measured

    def differentiator(self, sample: Sample, cotangents: list[Any]) -> Differentiator:
        """The numerical derivative of the subject's own forward."""
        rows = sample.sizes.get("N")
        batched = () if sample.warm else [n for n, a in (sample.inputs | sample.states).items()
                                          if rows is None or (a.ndim and len(a) == rows)]
        return Differentiator(Function(self.subject, sample), sample.point(), tuple(cotangents), self.seed, batched,
                              self.lane.unit_roundoff)

    def _scene(self, measured: Measured) -> Scene:
        return Scene(self.subject, self.canonical, measured, True, self.measure, self.searched, self.result.remark,
                     1e-3 if self.narrow else SAME)

    # --- judging ------------------------------------------------------------------------------------

    def values(self, measured: Measured, thorough: bool) -> None:
        """Forward against the canonical one, backward against its own forward's derivative."""
        units, dropped = budgets(self.subject, measured, self.lane)
        if thorough and dropped:
            self.result.remark(f"the budget of {', '.join(name for _, name in sorted(dropped))} is an estimate: the "
                               "code does not keep the array type that measures it")
        self.scene = self._scene(measured)
        same = self._outputs(measured, units) and bool(measured.canonical)
        shapes = self._shapes(measured)
        got: Arrays = {}
        for name, g in measured.got.items():
            # a gradient that was found wrong is not looked at again in other samples
            if g is None or name in shapes or ("gradient", f"grad.{name}") in self.known:
                continue
            if blind(g, units["grad", name], measured, self.lane):
                self.result.unjudged.setdefault(name, "its budget is as large as itself: rounding alone would "
                                                "explain any value of it")
            else:
                got[name] = g
        if not got:
            return
        mismatched = {}
        for name, g in got.items() if same else ():
            r = measured.canonical.get(name)
            if r is not None and not self._within_both(measured, ("grad", name), g, r, units):
                mismatched[name] = r
        if thorough or (not same and self.narrow):
            self._numerical(measured, units, got, mismatched, same)
        elif mismatched:
            self._numerical(measured, units, {n: got[n] for n in mismatched}, mismatched, same)
        else:
            self._directions(measured, units, got, same)

    def _judged(self, name: str, share: float) -> None:
        """Notes that a gradient was judged, and the share of its budget that it used."""
        self.result.judged[name] = max(self.result.judged.get(name, 0.0), float(share))

    def _within_both(self, measured: Measured, key: Key, got: NDArray[Any], right: NDArray[Any], budget: Quantities
                     ) -> bool:
        """Whether two honest computations of one function may be so far apart: the layer's and the canonical one."""
        allowed = budget[key]
        if not within(got, right, allowed):
            if measured.room is None:
                assert self.canonical is not None and measured.asked is not None
                own = Measured(measured.asked, measured.cotangents, measured.right_outputs, {**measured.canonical})
                measured.room, _ = budgets(self.canonical, own, self.lane)
            allowed = allowed + measured.room.get(key, 0)
        if key[0] == "grad" and got.size:
            self._judged(key[1], worst(shares(got, right, allowed))[0])
        return within(got, right, allowed)

    # --- the forward --------------------------------------------------------------------------------

    def _outputs(self, measured: Measured, units: Quantities) -> bool:
        """The outputs against the canonical ones; whether all are those."""
        wrong = False
        for name, right in measured.right_outputs.items():
            got, unit = measured.outputs[name], units.get(("output", name))
            if got.shape != right.shape:
                self._forward(measured, name, f"it has shape {got.shape}, expected {right.shape}")
            elif not self._within_both(measured, ("output", name), got, right, units):
                self._forward(measured, name, "", farthest(right, got, unit), unit)
            else:
                continue
            wrong = True
        for name, kept in measured.right_kept.items():
            own = measured.kept.get(name)
            if own is not None and kept is not None and not wrong and not measured.sample.warm and not equal(
                    np.asarray(own), np.asarray(kept), self.lane):
                self.tell("kept", name, FORWARD, f"{name}, kept as an attribute, differs", "kept", measured.sample,
                          severity=self.otherwise)
        return self.canonical is not None and not wrong

    def _forward(self, measured: Measured, name: str, words: str, index: tuple[int, ...] | None = None,
                 unit: NDArray[Any] | None = None) -> None:
        """Adds the finding of an output that is not the canonical one."""
        if ("forward", name) in self.known:
            return
        self.scene.agrees = False
        kind, diagnosis = outputs.output(self.scene, name)
        sample, right, got = measured.sample, measured.right_outputs[name], measured.outputs[name]
        if kind in ("", "option") and sample.warm:
            kind, diagnosis = "state-lost", "the state is lost between calls: the second part of a sequence is not " \
                                            "continued from the first"
        diagnosis = diagnosis or words or "no known transformation of the canonical one explains it"
        share = None if index is None or unit is None else float(abs(right[index] - got[index]) / unit[index])
        severity = self.otherwise
        breaks = "" if self.named or kind in BREAKS else "The gradient is judged against your own forward."
        if kind in ("axis", "unchanged") and not self.named and not sample.words and self.result.recipe is None:
            kind, diagnosis, severity, breaks = "name", f"{DIFFERS}: {diagnosis}", WARNING, ""
        self.tell("forward", name, FORWARD, diagnosis, kind, sample, index, (right, got), ("yours", "canonical"),
                  share=share, severity=severity, breaks=breaks)

    # --- the backward -------------------------------------------------------------------------------

    def _shapes(self, measured: Measured) -> set[str]:
        """Gradients that are missing or of another shape than what they belong to."""
        point = measured.sample.point()
        wrong = {n for n, g in measured.got.items() if g is None or g.shape != point[n].shape}
        for name in [n for n in measured.got if n in wrong and ("shape", f"grad.{n}") not in self.known]:
            g, expected = measured.got[name], point[name].shape
            if g is None:
                self.tell("shape", f"grad.{name}", BACKWARD, "it is None", "missing", measured.sample)
                continue
            kind, words = self._misshapen(measured, name, g)
            self.tell("shape", f"grad.{name}", BACKWARD, f"{words}{'; ' * bool(words)}shape {g.shape}, expected "
                      f"{expected}", kind, measured.sample)
        return wrong

    def _misshapen(self, measured: Measured, name: str, got: NDArray[Any]) -> tuple[str, str]:
        """What explains a gradient of another shape: kind and words."""
        point = measured.sample.point()
        others = [n for n, o in measured.got.items() if n != name and o is not None
                  and o.shape == point[name].shape and point[n].shape == got.shape]
        if others:
            return "order", f"the return order is swapped: it has the shape of {others[0]}"
        try:
            right = self.differentiator(measured.sample, measured.cotangents).elementwise([name]).values[name]
        except Exception:  # a forward that cannot be differentiated, or an array of too many entries
            return "shape", ""
        return diagnose.misshapen(self.scene, name, got, right)

    def _numerical(self, measured: Measured, units: Quantities, got: Arrays, mismatched: Arrays, same: bool) -> None:
        """Each gradient against the numerical derivative, entry by entry.

        Args:
            got: the gradients that are looked at.
            mismatched: of these, those that are further from the canonical one than rounding explains, and that one.
            same: whether the forward is the canonical one.
        """
        sample = measured.sample
        differ = self.differentiator(sample, measured.cotangents)
        found = differ.elementwise(got)
        measured.right = dict(found.values)
        if sample is self.base:
            self._tell_method(found)
        wrong: Arrays = {}
        for name, g in got.items():
            budget = units["grad", name]
            if name in found.directions:
                bad = self._along(differ, name, g, budget, found.directions[name])
                if bad or name in mismatched:
                    wrong[name] = mismatched[name] if name in mismatched else self._picked(differ, name, g)
                continue
            right = found.values[name]
            allowed = budget + DOUBT * found.errors[name]
            if not within(g, right, allowed):  # the derivative's own rounding, asked for where it matters
                allowed = allowed + differ.rounding({name: differ.rng.choice((-1.0, 1.0), g.shape)})
            if not within(g, right, allowed):
                right, allowed, left = self._without_kinks(differ, name, g, right, allowed)
                if left:
                    self.result.remark(f"{left} entr{'y' if left == 1 else 'ies'} of {name} at a kink or tie left out: "
                                       "there is no derivative there")
                measured.right[name] = right
                if left == g.size:
                    self.result.unjudged.setdefault(name, "every entry of it is at a kink or tie")
                    continue
            if g.size:
                self._judged(name, worst(shares(g, right, allowed))[0])
            if not within(g, right, allowed):
                wrong[name] = right
            elif name in mismatched and not np.array_equal(right, g):
                wrong[name] = measured.right[name] = mismatched[name]  # finer than the numerical derivative can see
        self._gradients(measured, units, wrong, same)

    def _gradients(self, measured: Measured, units: Quantities, wrong: Arrays, same: bool) -> None:
        """Adds the findings of wrong gradients; ``wrong`` has the right ones."""
        sample = measured.sample
        # a path dropped early makes all that is behind it wrong: the smallest arrays are explained first
        for name, right in sorted(wrong.items(), key=lambda pair: np.size(pair[1])):
            got = measured.got[name]
            assert got is not None
            if not got.any() and self._never_written(measured, name):
                self.stub("backward", f"never writes the gradient of {name}", sample, f"grad.{name}")
                continue
            index = farthest(right, got, units["grad", name])
            assert index is not None
            self.scene.agrees = same or not measured.right_outputs
            kind, diagnosis = diagnose.gradient(self.scene, name)
            if sample.words and kind in ("", "block"):
                kind, diagnosis = "case", f"right in the plain case, wrong {sample.words}"
            values = {"backward": got[index], "numerical derivative": right[index]}
            if name in measured.canonical and same:
                values["canonical"] = measured.canonical[name][index]
            self.tell("gradient", f"grad.{name}", BACKWARD, diagnosis or
                      "no known transformation of the right one explains it", kind, sample, index, (right, got),
                      values=values, share=float(abs(got[index] - right[index]) / units["grad", name][index]))

    def _never_written(self, measured: Measured, name: str) -> bool:
        """Whether what stands where a parameter's gradient is kept stands there after backward too."""
        subject, sample = self.subject, measured.sample
        if name not in sample.params:
            return False
        try:
            layer = subject.make(sample)
            subject.forward(layer, sample.fresh())
            place = subject.places(layer, sample)[list(sample.params).index(name)]
            buffer = getattr(layer, "buffers", getattr(layer, "grads", ()))[place]
            buffer[...] = calls.FILLED
            layer._cleared = lambda text: None
            returned = subject.backward(layer, copies(measured.cotangents))
            found = gradients(subject, sample, layer, returned)[name]
        except Exception:  # no array of its own, or a call that has a finding of its own
            return False
        return bool(np.all(found == calls.FILLED))

    def _without_kinks(self, differ: Differentiator, name: str, got: NDArray[Any], right: NDArray[Any],
                       allowed: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], int]:
        """The derivative with the backward's own value where there is a kink, how far it may be off, and how many
        kinks those are; beside one, from shorter steps."""
        with np.errstate(all="ignore"):
            suspects = np.argwhere(~(np.abs(got - right) <= allowed))[:PICKED]
        right, allowed, left = right.copy(), np.array(allowed), 0
        for index in map(tuple, suspects):
            if differ.kinked(name, index):
                right[index] = got[index]
                left += 1
            elif found := differ.nearer(name, index, right[index]):
                right[index], doubt = found
                allowed[index] += doubt
        return right, allowed, left

    def _along(self, differ: Differentiator, name: str, got: NDArray[Any], budget: NDArray[Any], pairs: Directions
               ) -> bool:
        """Whether a gradient is wrong along some direction."""
        for vector, value, error in zip(*pairs, strict=True):
            away = abs(float(np.sum(got * vector)) - value)
            allowed = float(np.sum(budget * np.abs(vector))) + DOUBT * error
            if not away <= allowed and not away <= allowed + differ.rounding({name: vector}):
                return True
            self._judged(name, away / allowed)
        return False

    def _picked(self, differ: Differentiator, name: str, got: NDArray[Any]) -> NDArray[Any]:
        """The derivative by some entries of a large array, the backward's own value at the others."""
        right = got.copy()
        rng = np.random.default_rng([self.seed, 13])
        for flat in rng.choice(got.size, min(PICKED, got.size), replace=False):
            unit = np.zeros(got.shape)
            unit.flat[flat] = 1
            right.flat[flat] = differ.direction({name: unit})[0]
        return right

    def _directions(self, measured: Measured, units: Quantities, got: Arrays, same: bool) -> None:
        """The gradient along two random directions in everything at once; entry by entry where that is wrong."""
        if self.narrow:
            return
        differ = self.differentiator(measured.sample, measured.cotangents)
        for _ in range(2):
            vectors = {n: differ.rng.uniform(-1, 1, g.shape) for n, g in got.items()}
            value, error = differ.direction(vectors)
            along = sum(float(np.sum(got[n] * v)) for n, v in vectors.items())
            allowed = sum(float(np.sum(units["grad", n] * np.abs(v))) for n, v in vectors.items()) + DOUBT * error
            if not abs(along - value) <= allowed and not abs(along - value) <= allowed + differ.rounding(vectors):
                self._numerical(measured, units, got, {}, same)
                return

    def _tell_method(self, found: Derivative) -> None:
        text = f"numerical derivative by {found.method}"
        if found.why:
            text += f" (no complex step: {found.why})"
        if found.directions:
            text += f"; along {len(next(iter(found.directions.values()))[1])} random directions for " \
                    f"{', '.join(found.directions)}, of more than {LIMIT} entries"
        self.result.remark(text)

    # --- linearity, and extreme inputs ----------------------------------------------------------------

    def linearity(self, measured: Measured) -> None:
        """A zero cotangent gives zero; backward is linear in the cotangent."""
        sample, rng = measured.sample, np.random.default_rng([self.seed, 17])
        if self.subject.without_cotangent:
            self.result.remark("backward takes no cotangent: judged with that of the loss itself, 1")
            return
        try:
            _, zero = quantities(self.subject, sample, [np.zeros_like(c)[()] for c in measured.cotangents])
            other = [np.asarray(rng.standard_normal(np.shape(c)))[()] for c in measured.cotangents]
            _, second = quantities(self.subject, sample, other)
            mixed = [2.5 * c + o for c, o in zip(measured.cotangents, other, strict=True)]
            _, both = quantities(self.subject, sample, mixed)
        except Exception as error:
            self.raised(error, "another cotangent", sample)
            return
        each = measured, *(replace(measured, cotangents=c, got=g) for c, g in ((other, second), (mixed, both)))
        allowed = [budgets(self.subject, call, self.lane)[0] for call in each]
        for name, g in measured.got.items():
            nothing, more, total = zero[name], second[name], both[name]
            if g is None or nothing is None or more is None or total is None or any(
                    a.shape != g.shape for a in (nothing, more, total)) or ("gradient", f"grad.{name}") in self.known:
                continue
            plain, another, sums = (a["grad", name] for a in allowed)
            if not within(nothing, np.zeros_like(g), plain):
                self.difference("zero cotangent", f"grad.{name}", np.zeros_like(g), nothing, sample,
                                "a zero cotangent does not give a zero gradient", "linear", BACKWARD)
            elif not within(total, 2.5 * g + more, 2.5 * plain + another + sums):
                self.difference("linearity", f"grad.{name}", 2.5 * g + more, total, sample,
                                "backward is not linear in the cotangent", "linear", BACKWARD)

    def finite(self, measured: Measured) -> None:
        """At extreme inputs: finite where the canonical layer is, and about the same."""
        sample = measured.sample
        pairs: list[tuple[Key, NDArray[Any], NDArray[Any]]] = [
            (("output", n), measured.outputs[n], r) for n, r in measured.right_outputs.items()]
        pairs += [(("grad", n), g, r) for n, r in measured.canonical.items() if (g := measured.got[n]) is not None]
        pairs = [(key, got, right) for key, got, right in pairs if got.shape == right.shape]
        for (group, name), got, right in pairs:
            known = np.isfinite(right)
            if not np.isfinite(got[known]).all():
                index = tuple(int(i) for i in np.argwhere(known & ~np.isfinite(got))[0])
                self._extreme(group, name, f"overflow for large inputs: {got[index]}", "overflow", sample, index,
                              right, got, ERROR)
                if group == "output":
                    return
        if any(f.severity == ERROR or f.check == "forward" for f in self.result.findings):
            return
        units, _ = budgets(self.subject, measured, self.lane)
        for key, got, right in pairs:
            group, name = key
            if quantity_of(key) in [f.quantity for f in self.result.findings] or self._within_both(
                    measured, key, got, right, units):
                continue
            clamped = group == "output" and got.ndim == 0 and bool(abs(got) < abs(right))
            words = (f"a clamped logarithm: the loss is {float(got):.4g} where it is {float(right):.4g}; go through "
                     "log-softmax") if clamped else "other values than the canonical one at extreme inputs"
            kind = "clamped-log" if clamped else "extreme"
            self._extreme(group, name, words, kind, sample, farthest(right, got), right, got,
                          ERROR if group == "grad" else self.otherwise)
            if clamped:
                self.tell("gradient", "grad." + next(iter(measured.got), ""), BACKWARD,
                          "a clamped logarithm: the gradient is that of the unclamped one", kind, sample)
            return

    def _extreme(self, group: str, name: str, words: str, kind: str, sample: Sample, index: tuple[int, ...] | None,
                 right: NDArray[Any], got: NDArray[Any], severity: str) -> None:
        verdict = FORWARD if group == "output" else BACKWARD
        self.tell("extreme", quantity_of((group, name)), verdict, words, kind, sample, index, (right, got),
                  ("yours", "canonical"), severity=severity)


def quantity_of(key: Key) -> str:
    """The name of a quantity in findings."""
    return key[1] if key[0] == "output" else f"grad.{key[1]}"
