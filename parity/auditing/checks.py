"""The examination of one layer: every check, in the order in which its failure explains the next.

It runs where the layer's code runs, in the child process, and knows nothing of torch.
"""

import time
import traceback
import warnings
from dataclasses import replace

import numpy as np

from ..judge.compare import shares, worst
from ..judge.finding import ERROR, NOTE, WARNING, Finding
from ..judge.lanes import LANES
from ..judge.witness import DOUBT, LIMIT, Differentiator
from ..promises import calls
from . import diagnose, samples
from .answers import BACKWARD, DIFFERS, FAILED, FORWARD, FRAGILE, PROTOCOL, STUB, WARNINGS, Audited
from .rounding import apart, blind, budgets, grainy
from .scene import SAME, Measured, Scene
from .subject import Function, Subject, draw_cotangents, gradients, kept_arrays, left_out, quantities
from .trace import OURS

PICKED = 64  # entries of a large array that are differentiated one by one
KEEP = 4096  # entries up to which a finding keeps the whole arrays
WITNESSES = 4  # samples whose gradients the twin's autograd is asked for as well

BREAKS = {
    "state-lost": "A long sequence in pieces then restarts from zeros at every piece.",
    "overflow": "One such value turns the loss into NaN and training is lost: subtract the maximum before exp, go "
                "through log-softmax, use exp of negative numbers only.",
    "linear": "backward has to be linear in the cotangent: something is added to it, or the cotangent is not used.",
    "random": "Nothing can be said about a forward that gives something else each time.",
    "params": "An optimizer and this audit find the parameters in `self.params`, and their gradients in `self.grads`, "
              "in the same order.",
} | WARNINGS  # what goes wrong because of it, and what to do


class Examination:
    """One subject, examined.

    Args:
        subject: the ``Subject``.
        base: the first ``Sample``.
        named: whether the canonical one was: a forward other than that is an error then, else a note.
        seed: of what is drawn.
        emit: called with each finding as soon as it is known.
    """

    def __init__(self, subject, base, named, seed, emit):
        self.subject, self.base, self.named, self.seed, self.emit = subject, base, named, seed, emit
        spec = subject.spec
        self.canonical = None if spec is None else Subject(spec.reference, spec)
        self.result = Audited(subject.name, twin=spec.name if spec else "")
        self.known = set()
        self.lane = LANES["cpu-float64"]
        self.traced = {}

    @property
    def narrow(self):
        """Whether the layer computes in float32 inside."""
        return self.lane.dtype == "float32"

    def add(self, finding):
        """Keeps a finding, unless the same check already said it of this quantity."""
        key = finding.check, finding.quantity
        if key not in self.known:
            self.known.add(key)
            finding.breaks = finding.breaks or BREAKS.get(finding.kind, "")
            self.result.findings.append(finding)
            self.emit(finding)

    def tell(self, check, quantity, verdict, diagnosis, kind, sample, index=None, pair=None, names=(), **rest):
        """Adds a finding.

        Args:
            sample: in which it was found.
            index: of the worst element.
            pair: what is right and what was got, whole.
            names: of these two, for the values of that element.
        """
        right, got = pair or (None, None)
        values = {} if index is None else dict(zip(names, (a[index] for a in (got, right)), strict=False))
        self.add(Finding(check, quantity, verdict, diagnosis, kind, index=index, case_id=sample.id, words=sample.words,
                         expected=_small(right), got=_small(got), **{"values": values} | rest))

    def otherwise(self):
        """The severity of another forward than the canonical one."""
        return ERROR if self.named else NOTE

    def run(self):
        """Everything; gives the ``Audited``."""
        started = time.monotonic()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
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

    def in_float32(self):
        """What it gives in float32 against what it gives for the same numbers in float64: within float32's budget."""
        def rounded(group):
            return {n: a.astype(np.float32).astype(a.dtype) if a.dtype.kind == "f" else a for n, a in group.items()}

        def narrow(a):
            return a.astype(np.float32) if a.dtype.kind == "f" else a

        base, lane = self.base, LANES["cpu-float32"]
        base = replace(base, id=f"{base.id}:float32", words="in float32", params=rounded(base.params),
                       inputs=rounded(base.inputs), states=rounded(base.states), cotangents=rounded(base.cotangents))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            measured = self.measure_call(base, "float32")
            if measured is None:
                return
            try:
                outputs, got = quantities(self.subject, base, measured.cotangents, narrow)
            except Exception as error:
                self.raised(error, "a call in float32", base)
                return
            units, _ = budgets(self.subject, measured, lane)
        found = dict(zip((("output", n) for n in measured.outputs), outputs, strict=True))
        found |= {("grad", n): g for n, g in got.items()}
        right = {("output", n): a for n, a in measured.outputs.items()}
        right |= {("grad", n): g for n, g in measured.got.items()}
        for key, wide in right.items():
            own, budget = found.get(key), units.get(key)
            if wide is None or own is None or budget is None or np.shape(own) != wide.shape or not wide.size:
                continue
            share, index = worst(shares(np.asarray(own, np.float64), np.asarray(wide, np.float64), budget))
            quantity = key[1] if key[0] == "output" else f"grad.{key[1]}"
            if not share <= 1:
                self.add(Finding("float32", quantity, BACKWARD if key[0] == "grad" else FAILED,
                                 "in float32 it is further from its own value in float64 than rounding explains",
                                 "narrow", index=index, case_id=base.id, words=base.words,
                                 values={"float32": float(own[index]), "float64": float(wide[index])},
                                 share=float(share), expected=_small(wide), got=_small(np.asarray(own, np.float64))))
            elif key[0] == "grad":
                self._judged(f"{key[1]} in float32", share)

    def run_values(self):
        """Forward and backward alone, at the base: of a layer whose promises are looked at elsewhere."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            measured = self.opening()
            if measured is not None:
                self.values(measured, thorough=False)
        return self.result

    def left_over(self, measured):
        """What was never judged, and no fault found in it."""
        result, found = self.result, {f.quantity for f in self.result.findings}
        for name, g in measured.got.items():
            if name not in result.judged and f"grad.{name}" not in found and np.size(g):
                result.unjudged.setdefault(name, "no call could be judged")
        layer = self.subject.make(self.base)
        try:
            known = [*getattr(layer, "params", ()), *self.base.params.values(), *_fresh(self.base)]
            before = kept_arrays(layer)
            self.subject.forward(layer, _fresh(self.base))
            self.subject.backward(layer, [np.array(c)[()] for c in measured.cotangents])
            after = kept_arrays(layer)
        except Exception:  # a call that fails has a finding of its own
            before = after = {}
        if not hasattr(layer, "functions"):
            for name, gradient in left_out(before, after, known).items():
                result.unjudged.setdefault(name, f"it looks like a parameter and {gradient} like its gradient, but it "
                                                 "is not in params")
        result.unjudged = {n: why for n, why in result.unjudged.items()
                           if n not in result.judged and f"grad.{n}" not in found}

    # --- making, and the first call ---------------------------------------------------------------

    def raised(self, error, what, sample, check="raised"):
        if isinstance(error, NotImplementedError):
            self.stub(what, "raises NotImplementedError", sample)
            return
        words = f"{what} raised {type(error).__name__}: {error}".splitlines()[0]
        kind, why = _reading(error, sample, self.subject)
        if isinstance(error, MemoryError):
            kind, why = "memory", "it allocates without end, or more than the memory limit"
        verdict = {"backward": BACKWARD, "forward": FORWARD if self.canonical else FAILED}.get(what, FAILED)
        self.tell(check, what, verdict, f"{why}: {words}" if why else words, kind or "raised", sample,
                  # a rank refused is not a wrong gradient
                  severity=NOTE if "leading axes" in sample.words else ERROR, detail=_trace(error))

    def stub(self, what, does, sample, quantity=""):
        """A part that nobody has written yet, of which nothing else is said."""
        self.tell("stub", quantity or what, STUB, f"{what} {does}", "stub", sample)

    def _never_written(self, measured, name):
        """Whether what stands where a parameter's gradient is kept stands there after backward too."""
        subject, sample = self.subject, measured.sample
        if name not in sample.params:
            return False
        try:
            layer = subject.make(sample)
            subject.forward(layer, _fresh(sample))
            place = subject.places(layer, sample)[list(sample.params).index(name)]
            buffer = getattr(layer, "buffers", getattr(layer, "grads", ()))[place]
            buffer[...] = calls.FILLED
            layer._cleared = lambda text: None
            found = gradients(subject, sample, layer, subject.backward(layer, [np.array(c)[()] for c in
                                                                                measured.cotangents]))[name]
        except Exception:  # no array of its own, or a call that has a finding of its own
            return False
        return bool(np.all(found == calls.FILLED))

    def blank(self, outputs):
        """What a forward does that nobody has written: empty where it computes something."""
        if all(o.dtype == object and o.ndim == 0 and o[()] is None for o in outputs):
            return "returns None"
        if self.canonical is None or any(o.dtype == object or o.any() for o in outputs):
            return ""
        right, _ = quantities(self.canonical, self.base)
        return "returns zeros" if any(o.any() for o in right) else ""

    def unwritten(self, measured):
        """Which part nobody has written and what it does; None where there is none, or zero is right."""
        found = list(measured.got.values())
        if not found or any(g is not None and (g.dtype == object or g.any()) for g in found):
            return None
        point = [n for n, g in measured.got.items() if measured.sample.point()[n].size]
        if not any(np.any(c) for c in measured.cotangents) or not point:
            return None
        differ = self.differentiator(measured.sample, measured.cotangents)
        vectors = {n: differ.rng.uniform(-1, 1, measured.sample.point()[n].shape) for n in point}
        value, error = differ.direction(vectors)
        if abs(value) > DOUBT * error + differ.rounding(vectors):
            return "backward", "returns None" if all(g is None for g in found) else "gives zeros alone"
        return None if any(map(np.any, measured.outputs.values())) else ("forward", "returns zeros")

    def opening(self):
        """Makes the layer and calls it once; None where that fails."""
        subject, base = self.subject, self.base
        try:
            layer = subject.make(base)
            subject.places(layer, base)
        except ValueError as error:
            if "params has" in str(error):
                self.tell("params", "params", FAILED, str(error), "params", base)
            else:
                self.raised(error, "constructor", base)
            return None
        except Exception as error:
            self.raised(error, "constructor", base)
            return None
        try:
            outputs = subject.forward(layer, _fresh(base))
            again = subject.forward(subject.make(base), _fresh(base))
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
        if self.canonical is not None and len(outputs) != len(subject.spec.outputs):
            self.tell("count", "forward", FORWARD, f"wrong number of results: forward returned {len(outputs)}, "
                      f"expected {len(subject.spec.outputs)}: {', '.join(subject.spec.outputs)}", "count", base)
            return None
        self.result.shapes = tuple(o.shape for o in outputs)
        measured = self.measure_call(base, "value")
        if measured is not None and (part := self.unwritten(measured)):
            self.forward_alone(measured)
            self.stub(*part, base)
            return None
        return measured

    def forward_alone(self, measured):
        """The forward, judged where there is no backward to judge."""
        measured.got = {}
        if self.canonical is not None:
            ask_canonical(self.canonical, measured)
            self.scene = self._scene(measured)
            self._forward_values(measured, budgets(self.subject, measured, self.lane)[0])

    def measure_call(self, sample, kind):
        """One forward and backward of the subject; None, with a finding, where it fails."""
        subject = self.subject
        try:
            layer = subject.make(sample)
            outputs = [o.copy() for o in subject.forward(layer, _fresh(sample))]
        except Exception as error:
            self.raised(error, "forward", sample)
            return None
        cotangents = draw_cotangents(subject, sample, outputs)
        names = list(subject.spec.outputs) if subject.spec is not None else [
            f"output {i}" if len(outputs) > 1 else "output" for i in range(len(outputs))]
        outputs = dict(zip(names, outputs, strict=True))
        measured, got = Measured(sample, cotangents, outputs, {}), None
        try:
            returned = subject.backward(layer, [np.array(c)[()] for c in cotangents])
        except Exception as error:
            self.raised(error, "backward", sample)
        else:
            try:
                got = gradients(subject, sample, layer, returned)
            except ValueError as error:
                if all(g is None for g in returned) and not any(map(np.any, getattr(layer, "grads", ()))):
                    self.stub("backward", "returns None", sample)
                else:
                    self.tell("count", "backward", BACKWARD, f"wrong number of results: {error}", "count", sample)
        if got is None:
            self.forward_alone(measured)
            return None
        measured.got = {n: None if g is None else np.array(g) for n, g in got.items()}
        for name, (came, own) in subject.reshaped.items():
            self.tell("shape", f"grad.{name}", PROTOCOL, f"its shape is {came}, expected {own}: its numbers are judged "
                      "as that", "shape", sample)
        measured.kept = {n: getattr(layer, n, None) for n in subject.spec.kept} if subject.spec else {}
        if self.canonical is not None:
            ask_canonical(self.canonical, measured)
        self.result.checked += 1
        plain = sample.case is not None and not sample.warm and not self.subject.spec.drawn and kind == "value"
        if plain and len(self.result.witnessed) < WITNESSES:
            self.result.witnessed[sample.id] = outputs, measured.got
        return measured

    # --- protocol ---------------------------------------------------------------------------------

    def protocol(self, measured):
        """What it owes whoever calls it: nothing changed in place, arrays kept, calls that know nothing of others."""
        subject, sample = self.subject, measured.sample
        if sample.options.get("stateful") or getattr(subject.target, "stateful", False) or (
                subject.spec and subject.spec.drawn):
            apart = (calls.check_repeats,)  # what is kept, or drawn, is another each time
        else:
            apart = ()
        called = calls.Calls(
            lambda: subject.make(sample), subject.forward,
            lambda layer, cotangents: gradients(subject, sample, layer, subject.backward(layer, cotangents)),
            sample.inputs, {f"cotangent {i}": c for i, c in enumerate(measured.cotangents)}, _reversed(sample.inputs),
            _equal, kept=False)
        for check in calls.CHECKS:
            if check in apart or any(f.kind == "accumulated" for f in self.result.findings):
                continue
            try:
                for found in check(called):
                    self._difference(found.check, found.quantity, found.expected, found.got, sample, found.diagnosis,
                                     found.kind)
            except Exception as error:
                self.raised(error, "a second call", sample)
                return

    def _difference(self, check, quantity, expected, got, sample, diagnosis, kind, verdict=PROTOCOL):
        self.tell(check, quantity, verdict, diagnosis, kind, sample, _worst(expected, got), (expected, got),
                  ("got", "expected"))

    # --- dtypes -----------------------------------------------------------------------------------

    def dtypes(self, measured):
        """float64 stays float64; float32 too, where it is only remarked on."""
        found = dict(measured.outputs)
        found |= {f"grad.{n}": g for n, g in measured.got.items() if g is not None}
        cut = [n for n, a in found.items() if a.dtype.kind == "f" and a.dtype.itemsize < 8]
        floating = any(a.dtype.kind == "f" for a in measured.sample.point().values())
        if cut and floating:
            self.lane = LANES["cpu-float32"]
            self.tell("dtype", cut[0], PROTOCOL, f"float64 is silently cut to {found[cut[0]].dtype}: {', '.join(cut)}",
                      "float32", measured.sample)
        elif floating and self._grainy(measured):
            self.lane = LANES["cpu-float32"]
            self.tell("dtype", "inside", PROTOCOL, "float64 is silently cut to float32 inside: a change of 1e-10 in "
                      "the inputs does not come out", "float32", measured.sample)
        spec = self.subject.spec
        discrete = () if spec is None else spec.outputs.keys() - set(spec.with_cotangents())
        wrong = [n for n, a in found.items() if (a.dtype.kind == "f") == (n in discrete)]
        if wrong:
            self.tell("dtype", wrong[0], PROTOCOL, f"{wrong[0]} has dtype {found[wrong[0]].dtype}, expected "
                      f"{'an integer' if wrong[0] in discrete else 'a floating'} one", "dtype", measured.sample)
        try:
            narrow = quantities(self.subject, measured.sample, measured.cotangents,
                                lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a)
            wide = [a.dtype for a in (*narrow[0], *narrow[1].values()) if a is not None and a.dtype == np.float64]
            if wide and floating:
                self.result.remark("float32 inputs give float64 results: fine for checking, slower in training")
        except Exception as error:
            self.result.remark(f"float32 inputs: it raised {type(error).__name__}: {error}".splitlines()[0])

    def _grainy(self, measured):
        """Whether what answers a change of 1e-5 in the inputs is deaf to one of 1e-10, as float32 is."""
        try:
            near, nearer = (self._moved(measured.sample, measured.cotangents, step) for step in (1e-5, 1e-10))
        except Exception:  # it will be heard of where the plain values are asked for
            return False
        plain = [*measured.outputs.values(), *measured.got.values()]
        for old, new, newer in zip(plain, near, nearer, strict=True):
            if any(a is None or a.shape != old.shape for a in (old, new, newer)):
                continue
            if grainy(old, new, newer):
                return True
        return False

    def _moved(self, sample, cotangents, step):
        """Outputs and gradients with everything floating moved by a relative step."""
        rng = np.random.default_rng([self.seed, 11])

        def moved(group):
            return {n: a * (1 + step * rng.uniform(0.5, 1, a.shape)) if a.dtype.kind == "f" else a
                    for n, a in group.items()}

        near = replace(sample, params=moved(sample.params), inputs=moved(sample.inputs), states=moved(sample.states))
        outputs, got = quantities(self.subject, near, cotangents)
        return [*outputs, *got.values()]

    # --- values -----------------------------------------------------------------------------------

    def differentiator(self, sample, cotangents):
        rows = sample.sizes.get("N")
        batched = () if sample.warm else [n for n, a in (sample.inputs | sample.states).items()
                                          if rows is None or (a.ndim and len(a) == rows)]
        return Differentiator(Function(self.subject, sample), sample.point(), cotangents, self.seed, batched,
                              self.lane.unit_roundoff)

    def measure(self, sample, cotangents=None):
        """A sample measured for the diagnosis: what was got, what is right."""
        if self.scene.base.got:
            outputs, got = quantities(self.subject, sample, cotangents)
        else:  # a forward alone is judged
            outputs, got = diagnose.outputs_of(self.subject, sample), {}
        cotangents = draw_cotangents(self.subject, sample, outputs) if cotangents is None else cotangents
        names = list(self.scene.base.outputs)
        measured = Measured(sample, cotangents, dict(zip(names, outputs, strict=True)), got)
        if self.canonical is not None:
            ask_canonical(self.canonical, measured)
        canonical = getattr(measured, "canonical", {})
        if not got:
            return measured
        if canonical.keys() == got.keys() and all(  # the same function has the same derivative
                _equal(o, measured.right_outputs[n]) for n, o in measured.outputs.items()):
            measured.right = canonical
        else:
            measured.right = self.differentiator(sample, cotangents).elementwise().values
        return measured

    def values(self, measured, thorough):
        """Forward against the canonical one, backward against its own forward's derivative."""
        units, dropped = budgets(self.subject, measured, self.lane)
        if thorough and dropped:
            self.result.remark(f"the budget of {', '.join(name for _, name in sorted(dropped))} is an estimate: the "
                               "code does not keep the array type that measures it")
        self.scene = self._scene(measured)
        wrong_outputs = self._forward_values(measured, units)
        shapes = self._shapes(measured)
        # a gradient that was found wrong is not looked at again in other samples
        names = [n for n in measured.got if n not in shapes and ("gradient", f"grad.{n}") not in self.known]
        unseen = [n for n in names if blind(measured.got[n], units["grad", n], measured, self.lane)]
        for name in unseen:
            self.result.unjudged.setdefault(name, "its budget is as large as itself: rounding alone would "
                                            "explain any value of it")
        names = [n for n in names if n not in unseen]
        if not names:
            return
        same = self.canonical is not None and not wrong_outputs and getattr(measured, "canonical", {})
        mismatched = {}
        if same:
            for name in names:
                g, r = measured.got[name], measured.canonical.get(name)
                if r is not None and not self._within_both(measured, ("grad", name), g, r, units):
                    mismatched[name] = r
        if thorough or (not same and self.narrow):
            self._numerical(measured, units, names, mismatched, same)
        elif mismatched:
            self._numerical(measured, units, list(mismatched), mismatched, same)
        else:
            self._directions(measured, units, names, same)

    def _scene(self, measured):
        return Scene(self.subject, self.canonical, measured, True, self.measure,
                              1e-3 if self.narrow else SAME, self.traced, self.result.remark)

    def _forward_values(self, measured, units):
        wrong = {}
        for name, right in measured.right_outputs.items():
            got = measured.outputs[name]
            if got.shape != right.shape:
                wrong[name] = right
                self._forward_finding(measured, name, right, got, None, None,
                                      f"it has shape {got.shape}, expected {right.shape}")
            elif not self._within_both(measured, ("output", name), got, right, units):
                wrong[name] = right
                index = _worst(right, got, units["output", name])
                self._forward_finding(measured, name, right, got, index, units["output", name], "")
        for name, right in getattr(measured, "right_kept", {}).items():
            got = measured.kept.get(name)
            if got is not None and right is not None and not wrong and not measured.sample.warm:
                got, right = np.asarray(got), np.asarray(right)
                if not _equal(got, right, self.lane):
                    self.tell("kept", name, FORWARD, f"{name}, kept as an attribute, differs", "kept", measured.sample,
                              severity=self.otherwise())
        return wrong

    def _forward_finding(self, measured, name, right, got, index, unit, words):
        if ("forward", name) in self.known:
            return
        self.scene.agrees = False
        kind, diagnosis = diagnose.output(self.scene, name)
        sample = measured.sample
        if kind in ("", "option") and sample.warm:
            kind, diagnosis = "state-lost", "the state is lost between calls: the second part of a sequence is not " \
                                            "continued from the first"
        if not diagnosis:
            diagnosis = words or "no known transformation of the canonical one explains it"
        share = None if index is None else float(abs(right[index] - got[index]) / unit[index])
        if kind in ("axis", "unchanged") and not self.named and not sample.words and self.result.recipe is None:
            self.tell("forward", name, FORWARD, f"{DIFFERS}: {diagnosis}", "name", sample, index, (right, got),
                      ("yours", "canonical"), share=share, severity=WARNING)
            return
        self.tell("forward", name, FORWARD, diagnosis, kind, sample, index, (right, got), ("yours", "canonical"),
                  share=share, severity=self.otherwise(),
                  breaks="" if self.named or kind in BREAKS else "The gradient is judged against your own forward.")

    def _shapes(self, measured):
        """Gradients that are missing or of another shape than what they belong to."""
        wrong, point = set(), measured.sample.point()
        for name, g in measured.got.items():
            expected = point[name]
            if g is None or g.shape != expected.shape:
                wrong.add(name)
                if ("shape", f"grad.{name}") in self.known:
                    continue
                others = [n for n, o in measured.got.items() if o is not None and o.shape == expected.shape
                          and measured.got[name] is not None and point[n].shape == g.shape and n != name]
                kind, words = "", ""
                if g is None:
                    kind, words = "missing", "it is None"
                elif others:
                    kind, words = "order", f"the return order is swapped: it has the shape of {others[0]}"
                else:
                    try:
                        found = self.differentiator(measured.sample, measured.cotangents).elementwise([name])
                        measured.right |= found.values
                        kind, words = (
                            diagnose.causes.uncropped(self.scene, name) or diagnose.rearranged(self.scene, name)
                            or diagnose.wrong_sum(self.scene, name))
                    except Exception:
                        kind, words = "shape", ""
                got = "" if g is None else f"shape {g.shape}, expected {expected.shape}"
                words = f"{words}{'; ' * bool(words and got)}{got}"
                self.tell("shape", f"grad.{name}", BACKWARD, words, kind, measured.sample)
        return wrong

    def _numerical(self, measured, units, names, mismatched, same):
        """Each gradient against the numerical derivative, entry by entry."""
        sample = measured.sample
        differ = self.differentiator(sample, measured.cotangents)
        found = differ.elementwise(names)
        measured.right, measured.doubt = dict(found.values), found.errors
        if sample is self.base:
            self._tell(found, names)
        wrong = {}
        for name in names:
            got = measured.got[name]
            budget = units["grad", name]
            if name in found.directions:
                bad = self._along(differ, name, got, budget, found.directions[name])
                right = mismatched.get(name)
                if right is None and bad is not None:
                    right = self._picked(differ, name, got)
                if bad is not None or name in mismatched:
                    wrong[name] = right
                continue
            right = found.values[name]
            allowed = budget + DOUBT * found.errors[name]
            if not _within(got, right, allowed):  # the derivative's own rounding, asked for where it matters
                signs = differ.rng.choice((-1.0, 1.0), got.shape)
                allowed = allowed + differ.rounding({name: signs})
            if not _within(got, right, allowed):
                right, allowed, left = self._without_kinks(differ, name, got, right, allowed)
                if left:
                    self.result.remark(f"{left} entr{'y' if left == 1 else 'ies'} of {name} at a kink or tie left out: "
                                       "there is no derivative there")
                measured.right[name] = right
                if left == got.size:
                    self.result.unjudged.setdefault(name, "every entry of it is at a kink or tie")
                    continue
            if got.size:
                self._judged(name, worst(shares(got, right, allowed))[0])
            if not _within(got, right, allowed):
                wrong[name] = right
            elif name in mismatched and not np.array_equal(right, got):
                wrong[name] = mismatched[name]  # finer than the numerical derivative can see
                measured.right[name] = mismatched[name]
        self._gradient_findings(measured, units, wrong, same)

    def _within_both(self, measured, key, got, right, budget):
        """Whether two honest computations of one function may be so far apart: the layer's and the canonical one."""
        allowed = budget[key]
        if not _within(got, right, allowed):
            if not hasattr(measured, "canonical_budget"):
                own = Measured(measured.canonical_sample, measured.cotangents, measured.right_outputs,
                                        measured.canonical)
                measured.canonical_budget, _ = budgets(self.canonical, own, self.lane)
            allowed = allowed + measured.canonical_budget.get(key, 0)
        if key[0] == "grad" and got.size:
            self._judged(key[1], worst(shares(got, right, allowed))[0])
        return _within(got, right, allowed)

    def _judged(self, name, share):
        """Notes that a gradient was judged, and the share of its budget that it used."""
        self.result.judged[name] = max(self.result.judged.get(name, 0.0), float(share))

    def _gradient_findings(self, measured, units, wrong, same):
        sample = measured.sample
        fresh = {n: r for n, r in wrong.items() if ("gradient", f"grad.{n}") not in self.known}
        # a path dropped early makes all that is behind it wrong: the smallest arrays are explained first
        for name, right in sorted(fresh.items(), key=lambda pair: np.size(pair[1])):
            got = measured.got[name]
            if not got.any() and self._never_written(measured, name):
                self.stub("backward", f"never writes the gradient of {name}", sample, f"grad.{name}")
                continue
            index = _worst(right, got, units["grad", name])
            self.scene.agrees = bool(same) or not measured.right_outputs
            kind, diagnosis = diagnose.gradient(self.scene, name)
            if sample.words and kind in ("", "block"):
                kind, diagnosis = "case", f"right in the plain case, wrong {sample.words}"
            values = {"backward": got[index], "numerical derivative": right[index]}
            if name in getattr(measured, "canonical", {}) and same:
                values["canonical"] = measured.canonical[name][index]
            self.tell("gradient", f"grad.{name}", BACKWARD, diagnosis or
                      "no known transformation of the right one explains it", kind, sample, index, (right, got),
                      values=values, share=float(abs(got[index] - right[index]) / units["grad", name][index]))

    def _without_kinks(self, differ, name, got, right, allowed):
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

    def _along(self, differ, name, got, budget, pairs):
        """The first direction along which a gradient is wrong; None where it is right along all."""
        for vector, value, error in zip(*pairs, strict=True):
            away = abs(float(np.sum(got * vector)) - value)
            allowed = float(np.sum(budget * np.abs(vector))) + DOUBT * error
            if not away <= allowed and not away <= allowed + differ.rounding({name: vector}):
                return vector
            self._judged(name, away / allowed)
        return None

    def _picked(self, differ, name, got):
        """The derivative by some entries of a large array, the backward's own value at the others."""
        right = got.copy()
        rng = np.random.default_rng([self.seed, 13])
        for flat in rng.choice(got.size, min(PICKED, got.size), replace=False):
            unit = np.zeros(got.shape)
            unit.flat[flat] = 1
            right.flat[flat] = differ.direction({name: unit})[0]
        return right

    def _directions(self, measured, units, names, same):
        """The gradient along two random directions in everything at once; entry by entry where that is wrong."""
        if self.narrow:
            return
        differ = self.differentiator(measured.sample, measured.cotangents)
        for _ in range(2):
            vectors = {n: differ.rng.uniform(-1, 1, measured.got[n].shape) for n in names}
            value, error = differ.direction(vectors)
            got = sum(float(np.sum(measured.got[n] * v)) for n, v in vectors.items())
            allowed = sum(float(np.sum(units["grad", n] * np.abs(v))) for n, v in vectors.items()) + DOUBT * error
            if not abs(got - value) <= allowed and not abs(got - value) <= allowed + differ.rounding(vectors):
                self._numerical(measured, units, names, {}, same)
                return

    def _tell(self, found, names):
        text = f"numerical derivative by {found.method}"
        if found.why:
            text += f" (no complex step: {found.why})"
        if found.directions:
            text += f"; along {len(next(iter(found.directions.values()))[1])} random directions for " \
                    f"{', '.join(found.directions)}, of more than {LIMIT} entries"
        self.result.remark(text)

    # --- linearity, and everything else -----------------------------------------------------------

    def linearity(self, measured):
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
        calls = measured, *(replace(measured, cotangents=c, got=g) for c, g in ((other, second), (mixed, both)))
        allowed = [budgets(self.subject, call, self.lane)[0] for call in calls]
        for name, g in measured.got.items():
            if any(a is None or a.shape != g.shape for a in (g, zero[name], second[name], both[name])) or (
                    "gradient", f"grad.{name}") in self.known:
                continue
            plain, another, sums = (a["grad", name] for a in allowed)
            if not _within(zero[name], np.zeros_like(g), plain):
                self._difference("zero cotangent", f"grad.{name}", np.zeros_like(g), zero[name], sample,
                                 "a zero cotangent does not give a zero gradient", "linear", BACKWARD)
            elif not _within(both[name], 2.5 * g + second[name], 2.5 * plain + another + sums):
                self._difference("linearity", f"grad.{name}", 2.5 * g + second[name], both[name], sample,
                                 "backward is not linear in the cotangent", "linear", BACKWARD)

    def many(self):
        """Everything beyond the first sample."""
        if self.subject.spec is None:
            self._given_variations()
            return
        for sample, kind in samples.plan(self.subject, self.seed):
            measured = self.measure_call(sample, kind)
            if measured is None:
                continue
            if kind == "finite":
                self._finite(measured)
            else:
                self.values(measured, thorough=False)
        self._drawn()

    def _drawn(self):
        """Inputs that the layer draws itself: as often true as the canonical layer draws them."""
        spec = self.subject.spec
        for name in spec.drawn:
            if name in self.base.inputs:
                continue
            for value in next(iter(spec.options.values()), (None,)):
                option = next(iter(spec.options), None)
                sample = samples.sample(self.subject, {"N": 50, "T": 10}, seed=self.seed, **{option: value})
                if sample is None:
                    continue
                (mine, *_), _ = quantities(self.subject, sample)
                (theirs, *_), _ = quantities(self.canonical, sample)
                a, b = float(np.mean(mine != 0)), float(np.mean(theirs != 0))
                if abs(a - b) > 6 * np.sqrt(max(b * (1 - b), 1e-4) / mine.size) * 2:
                    self.tell("drawn", name, FORWARD, f"{name} is true in {a:.1%} of {mine.size} draws, expected "
                              f"{b:.1%} with {option}={value}", "drawn",
                              replace(sample, words=f"with {option}={value}"), severity=self.otherwise())
                    return

    def _given_variations(self):
        base = self.base
        found = []
        if "N" in base.sizes:
            found = [samples.batch(self.subject, base, n) for n in {1, 2 * base.sizes["N"]} - {base.sizes["N"]}]
        reverse = replace(base, id=f"{base.id}:reversed", words="with non-contiguous inputs", inputs={
            n: a[(slice(None, None, -1),) * a.ndim].copy()[(slice(None, None, -1),) * a.ndim]
            for n, a in base.inputs.items()})
        for sample in [*found, reverse]:
            try:
                outputs = self.subject.forward(self.subject.make(sample), _fresh(sample))
            except Exception as error:
                if "N = " in sample.words:  # what looks like a batch axis need not be one
                    self.result.remark(f"not asked {sample.words}: forward raised {type(error).__name__}")
                    continue
            else:
                if not all(np.isfinite(o).all() for o in map(np.asarray, outputs)):  # a variance of one row, say
                    self.result.remark(f"not asked {sample.words}: forward is not finite")
                    continue
            measured = self.measure_call(sample, "value")
            if measured is not None:
                self.values(measured, thorough=False)
        large = replace(base, id=f"{base.id}:1e4", words="at inputs of 1e4", inputs={
            n: a * 1e4 if samples.measured(a) else a for n, a in base.inputs.items()})
        measured = self.measure_call(large, "finite")
        if measured is not None:
            for name, a in (measured.outputs | measured.got).items():
                if a is not None and not np.isfinite(a).all():
                    self.tell("extreme", name, FRAGILE, "overflow for large inputs", "overflow", large, severity=NOTE)
                    break

    def _finite(self, measured):
        """At extreme inputs: finite where the canonical layer is, and about the same."""
        sample = measured.sample
        pairs = [("forward", n, measured.outputs[n], r) for n, r in measured.right_outputs.items()]
        pairs += [("gradient", f"grad.{n}", measured.got[n], r) for n, r in getattr(measured, "canonical", {}).items()]
        for check, name, got, right in pairs:
            if got is None or got.shape != right.shape:
                continue
            finite = np.isfinite(right)
            if not np.isfinite(got[finite]).all():
                index = tuple(np.argwhere(finite & ~np.isfinite(got))[0])
                self.tell("extreme", name, FORWARD if check == "forward" else BACKWARD,
                          f"overflow for large inputs: {got[index]}", "overflow", sample, index, (right, got),
                          ("yours", "canonical"))
                if check == "forward":
                    return
        if any(f.severity == ERROR or f.check == "forward" for f in self.result.findings):
            return
        units, _ = budgets(self.subject, measured, self.lane)
        for check, name, got, right in pairs:
            if got is None or got.shape != right.shape or name in [f.quantity for f in self.result.findings]:
                continue
            key = ("output" if check == "forward" else "grad"), name.removeprefix("grad.")
            if not self._within_both(measured, key, got, right, units):
                index = _worst(right, got)
                kind, words = self._clamped(got, right, check)
                self.tell("extreme", name, FORWARD if check == "forward" else BACKWARD, words, kind, sample, index,
                          (right, got), ("yours", "canonical"),
                          severity=ERROR if check == "gradient" else self.otherwise())
                if check == "forward" and kind == "clamped-log":
                    self.tell("gradient", "grad." + next(iter(measured.got), ""), BACKWARD,
                              "a clamped logarithm: the gradient is that of the unclamped one", kind, sample)
                return

    def _clamped(self, got, right, check):
        if check == "forward" and got.ndim == 0 and abs(got) < abs(right):
            return "clamped-log", (f"a clamped logarithm: the loss is {float(got):.4g} where it is {float(right):.4g}; "
                                   "go through log-softmax")
        return "extreme", "other values than the canonical one at extreme inputs"


def ask_canonical(canonical, measured):
    """Outputs and gradients of the canonical NumPy layer for the same arrays, into ``measured``."""
    spec, sample = canonical.spec, measured.sample
    drawn = {n: measured.outputs[o] != 0 for n, o in spec.drawn.items() if n not in sample.inputs}
    inputs = sample.inputs | drawn
    sample = replace(sample, inputs={n: inputs[n] for n in spec.inputs if n in inputs})
    measured.canonical_sample = sample
    try:
        layer = canonical.make(sample)
        outputs = canonical.forward(layer, _fresh(sample))
        measured.right_outputs = dict(zip(spec.outputs, outputs, strict=True))
        cotangents = [c if np.shape(c) == o.shape else None for c, o in
                      zip(measured.cotangents, outputs, strict=True)]
        measured.canonical = {}
        if all(c is not None for c in cotangents):
            returned = canonical.backward(layer, cotangents)
            measured.canonical = gradients(canonical, sample, layer, returned)
            measured.canonical = {n: np.array(g) for n, g in measured.canonical.items() if n in measured.got}
        measured.right_kept = {n: getattr(layer, n) for n in spec.kept}
    except Exception as error:
        raise RuntimeError(f"the canonical layer refused {sample.id}: {error}") from error


def _reversed(inputs):
    """Other inputs of the same shapes and kinds."""
    return {n: (a[::-1].copy() if a.ndim else a) * (0.75 if samples.measured(a) else a.dtype.type(1))
            for n, a in inputs.items()}


def _fresh(sample):
    """Copies of the inputs, in their memory layout."""
    return [a.copy(order="K") if a.dtype.kind != "O" else a for a in sample.inputs.values()]


def _reading(error, sample, subject):
    """What an exception's text tells: axes that do not fit, by their letters."""
    import re

    text = str(error)
    found = re.search(r"from shape (\([\d,]+\)) into shape (\([\d,]+\))", text)
    letters = {v: k for k, v in sample.sizes.items() if isinstance(v, int)}
    if found:
        got, expected = (tuple(int(x) for x in g.strip("()").split(",") if x) for g in found.groups())
        names = ", ".join(letters.get(s, str(s)) for s in got)
        if sorted(got) == sorted(expected):
            return "transposed", f"transposed: shape {got} goes into {expected}"
        return "axis", f"summed over the wrong axis: shape {got} ({names}) goes into {expected}"
    if "not aligned" in text or "mismatch in its core dimension" in text or "could not be broadcast" in text:
        return "transposed", "transposed, or the wrong axis: shapes do not fit"
    return "", ""


def _within(got, right, allowed):
    """Whether every element lies within its budget."""
    return np.shape(got) == np.shape(right) and worst(shares(got, np.asarray(right), allowed))[0] <= 1


def _equal(a, b, lane=LANES["cpu-float64"]):
    """Whether the same computation gave these: to half of the digits."""
    if a is None or b is None:
        return a is b
    return np.shape(a) == np.shape(b) and worst(apart(a, b, lane))[0] <= 1


def _worst(right, got, unit=None):
    """Index of the element that is furthest away; None where shapes differ or nothing is there."""
    if right is None or got is None or np.shape(right) != np.shape(got) or not np.size(right):
        return None
    with np.errstate(all="ignore"):
        away = np.abs(np.asarray(got, np.float64) - np.asarray(right, np.float64))
        away = np.where(np.isfinite(away), away, np.inf if unit is None else 1e308)
        if unit is not None and np.max(away / unit) > 1e12:
            unit = None  # all far beyond rounding: the largest difference is the plainest to read
        flat = int(np.argmax(away if unit is None else away / unit))
    return tuple(int(i) for i in np.unravel_index(flat, np.shape(right)))


def _small(a):
    return None if a is None or np.size(a) > KEEP else np.array(a)


def _trace(error):
    """The last lines of a traceback, those in the layer's own code."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)[1:]
    return "".join([line for line in lines if OURS not in line][-4:])
