"""Who is wrong: a side that contradicts itself; of two that do not and differ, nobody can tell from here.

The reference's backward is held against the numerical derivative of the reference's own forward, autograd of the
port against that of the port's, a sequence in parts against the whole, a memory layout against another, and a lane
against float64. The two forwards are one witness each, never two: a backward that follows a wrong forward agrees
with it, and says nothing against the other side.
"""

import numpy as np

from ..cases.case import Data
from ..sides import run_port, run_reference
from ..sides.textbook import build, parts
from .budget import FACTOR
from .lanes import LANES
from .witness import DIRECTIONS, LEVELS, LIMIT, Differentiator

AGREE = 1e-6  # of a quantity's size: far above what float64 loses in an ordinary case, far below a mistake
WIDE = "cpu-float64"
WORK = 1 << 33  # multiplications, about, that the numerical derivatives of one case may take: some ten seconds
PROBES = 32  # forwards that finding out how to differentiate takes, about
STEP = 2.0**-20  # relative step along which a computation in float64 is smooth, and one in float32 is not
ROUGH = 2.0**-30  # second difference along it, of a quantity's size: float32 leaves 2^-24, a smooth function 2^-40
DOUBT = 100  # estimated errors of central differences within which they contradict nobody

NOBODY, UNDECIDED = "nobody", "undecided"
DIFFERENT = ("the two forwards are different functions; which is right cannot be told from here: "
             "a closed form, a third implementation or the source would tell")


def verdict(case, lane, left):
    """Names the culprit in a case.

    Args:
        case: a ``Case`` in which something was found.
        lane: the ``Lane`` that it was found in, whose numbers both sides see.
        left: dict from each quantity that left its budget to a dict from side to its largest share.

    Returns:
        dict from each of these quantities to (verdict, reason in words); the verdict is ``reference forward``,
        ``reference backward``, ``reference``, ``port``, ``nobody`` or ``undecided``, and empty where no witness
        was asked.
    """
    return _Hearing(case, lane, left).verdicts()


class _Hearing:
    """What the witnesses say about one case."""

    def __init__(self, case, lane, left):
        self.case, self.lane, self.left = case, lane, left
        laid = case.data(lane.narrow).map(lambda a: a.astype(np.float64))
        self.data = laid.map(lambda a: np.array(a, order="C"))
        self.raised, self.contradictions = {}, {}
        self.oracle = self._side("reference", self.data)
        self.forced = self.oracle.get("ids")
        self.port = self._side("port", self.data)
        for side, plain in (("reference", self.oracle), ("port", self.port)):
            self._contradicts(side, plain, self._side(side, case.data(lane.narrow).map(_widened)),
                              f"in the memory layout {case.layout} it gives another result than in C order")
            if case.options.get("cut") and case.spec.states:
                whole = self._side(side, self.data, case.uncut())
                kept = {n: whole[n] for n in (*case.spec.outputs, *case.spec.states) if n in whole}
                self._contradicts(side, plain, kept, "in two parts a sequence gives another result than whole")
        self.same = all(_agree(self.oracle[n], self.port[n]) for n in case.spec.outputs
                        if n in self.oracle and n in self.port) and self._same_elsewhere()

    def _same_elsewhere(self):
        """Whether the forwards agree on ordinary values too: where all is zero, different functions may as well."""
        if self.case.spec.side != "textbook" or self.raised:
            return True
        rng = np.random.default_rng([self.case.seed, 7])
        point = {n: 0.5 * rng.standard_normal(a.shape) if a.dtype.kind == "f" else a
                 for group in (self.data.params, self.data.inputs, self.data.states) for n, a in group.items()}
        with np.errstate(all="ignore"):
            ours = _reference_outputs(self.case, self.data, point)
        return all(map(_agree, ours, _port_outputs(self.case, self.data, point)))

    def _side(self, side, data, case=None):
        """The quantities of a side in float64; none where it raises, which is kept."""
        case = case or self.case
        try:
            with np.errstate(all="ignore"):
                found = (run_reference(case, data, getattr(self, "forced", None)) if side == "reference" else
                         run_port(case, data, LANES[WIDE], self.forced))
        except Exception as error:
            self.raised[side] = f"raises {type(error).__name__} in float64: {error}".splitlines()[0]
            return {}
        return {name: np.asarray(value) for name, value in found.items()}

    def _contradicts(self, side, one, other, words):
        if one and any(not _agree(one[name], value) for name, value in other.items() if name in one):
            self.contradictions.setdefault(side, words)

    def verdicts(self):
        found = {}
        if len(self.raised) == 1:
            ((side, words),) = self.raised.items()
            return dict.fromkeys(self.left, (side, words))
        if self.raised:
            return dict.fromkeys(self.left, ("", "; ".join(f"the {s} {words}" for s, words in self.raised.items())))
        if len(self.contradictions) == 1:
            ((side, words),) = self.contradictions.items()
            return dict.fromkeys(self.left, (side, f"it contradicts itself: {words}"))
        differs = {name for name in self.left if not _agree(self.oracle[name], self.port[name])}
        # where the functions differ, every gradient is asked: one may tell what the others cannot
        gradients = [n for n in self.oracle if n.startswith("grad.") and (n in self.left or not self.same)]
        said = self._gradients(gradients)
        culprits = {who for who, _ in said.values()} - {NOBODY, UNDECIDED, ""}
        for name in self.left:
            who, why = said.get(name) or self._output(name, differs, said)
            if who == UNDECIDED and not self.same and len(culprits) == 1:
                who, why = *culprits, "the functions differ, and the gradients tell whose is wrong"
            if who == NOBODY:
                who, why = self._in_lane(name)
            found[name] = who, why
        return found

    def _output(self, name, differs, said):
        if name not in differs:
            return NOBODY, ""
        if self.case.spec.side != "textbook":
            return UNDECIDED, ("the two programs differ, and have no gradients to ask; a third implementation or the "
                               "source would tell which is right")
        if said and all(who == NOBODY for who, _ in said.values()):
            return UNDECIDED, f"by an amount that has no gradient, such as a constant, {DIFFERENT}"
        return UNDECIDED, DIFFERENT

    def _gradients(self, quantities):
        """Verdict and reason of each gradient."""
        if not quantities:
            return {}
        if self.case.pattern == "nonfinite":
            return dict.fromkeys(quantities, ("", "not asked: where numbers are not finite there is no derivative"))
        wide = self._side("reference", self.data.map(lambda a: a.astype(np.longdouble)))
        # along a direction the errors of all entries add up
        lost = {n: DOUBT * float(np.nan_to_num(np.abs(wide[n] - self.oracle[n]), nan=np.inf).sum())
                for n in quantities if n in wide}
        ours = _Derivatives(self, _reference_outputs, self.case.seed)
        theirs = None if self.same else _Derivatives(self, _port_outputs, self.case.seed, DIRECTIONS)
        found = {}
        for number, name in enumerate(sorted(quantities, key=lambda n: n not in self.left)):
            remaining = len(quantities) - number
            right = ours.ask(name, remaining)
            if isinstance(right, str):
                found[name] = "", f"not asked: {right}"
                continue
            backward, autograd = ours.like(name, self.oracle[name]), ours.like(name, self.port[name])
            doubt = ours.doubt(name) + lost.get(name, 0.0)  # cancellation in float64 contradicts nobody
            follows = _agree(backward, right, doubt)  # its own forward
            if self.same:
                found[name] = _shared(follows, _agree(autograd, right, doubt),
                                      _agree(backward, autograd))
                continue
            other = theirs.ask(name, remaining)
            known = not isinstance(other, str)
            obeys = known and _agree(theirs.like(name, self.port[name]), other,
                                     theirs.doubt(name) + lost.get(name, 0.0))
            found[name] = _apart(follows, obeys, known, _agree(self.oracle[name], self.port[name]))
        return found

    def _in_lane(self, name):
        """Of a quantity on which all agree in float64: whether one side alone loses it in the lane."""
        shares, ordinary = self.left[name], "all witnesses agree in float64: precision is lost in this lane, or its " \
                                            "budget is too small"
        if len(shares) != 1 or max(shares.values()) <= FACTOR:
            return NOBODY, ordinary
        ((side, share),) = shares.items()
        if self.lane.dtype != "float64":
            return side, (f"right in float64, but {share:.3g} budgets away in this lane, in which the other side stays "
                          "within: it computes with less precision than the lane has")
        rough = [s for s in ("reference", "port") if self._rough(s, name)]
        if len(rough) == 1:
            return rough[0], "it is not smooth where float64 is: something in it computes with less precision"
        return UNDECIDED, f"by less than {AGREE:g} of its size, {DIFFERENT}"

    def _rough(self, side, name):
        """Whether a quantity moves in jumps along a step that float64 resolves."""
        rng = np.random.default_rng([self.case.seed, 5])

        def moved(count):
            groups = [{n: a if a.dtype.kind != "f" else a * (1 + count * STEP * waves[n]) for n, a in g.items()}
                      for g in (self.data.params, self.data.inputs, self.data.states)]
            return Data(*groups, self.data.cotangents, self.data.sizes)

        waves = {n: rng.uniform(-1, 1, a.shape) for g in (self.data.params, self.data.inputs, self.data.states)
                 for n, a in g.items()}
        values = [self._side(side, moved(count)) for count in (0, 1, 2)]
        if not all(values) or values[0][name].dtype.kind != "f":
            return False
        first, second, third = (v[name].astype(np.float64) for v in values)
        size = np.sqrt(np.mean(first * first)) if first.size else 0
        return bool(np.abs(third - 2 * second + first).max(initial=0) > ROUGH * size)


def _shared(follows, obeys, agree):
    """The verdict on a gradient of one function that both sides compute."""
    if follows and obeys:
        return NOBODY, ""
    if follows:
        return "port", "the forwards agree, backward and numerical derivative too; autograd of the port differs"
    if obeys:
        return "reference backward", "numerical derivative and autograd of the port agree, the backward differs"
    return UNDECIDED, ("backward and autograd agree, the numerical derivative does not: a kink or a jump?" if agree else
                       "backward, numerical derivative and autograd of the port are three different things")


def _apart(follows, obeys, known, agree):
    """The verdict on a gradient where the two sides compute different functions."""
    if follows and (obeys or not known):
        return (NOBODY, "") if agree else (UNDECIDED, DIFFERENT)
    if follows:
        return "port", "the forwards differ, and autograd of the port is not the derivative of its own"
    if obeys or not known:
        return "reference forward", "the forwards differ, and the backward is not the derivative of its own"
    return UNDECIDED, "the forwards differ, and on neither side is the gradient that of its own"


class _Derivatives:
    """The numerical derivatives of one side's forward, asked for one at a time, within a limit of work.

    Args:
        outputs: function of (case, data, moved arrays) that gives the outputs of the forward.
        seed: of the random directions.
        limit: entries up to which an array is differentiated entry by entry.
    """

    def __init__(self, hearing, outputs, seed, limit=LIMIT):
        case, data = hearing.case, hearing.data
        self.data, self.vectors, self.errors, self.left = data, {}, {}, WORK - PROBES * case.work
        self.work, self.limit, self.witness, self.why = max(case.work, 1), limit, None, ""
        if self.left < 0:
            self.why = f"too large: one forward takes about {case.work:,} multiplications"
            return
        point = {name: a for group in (data.params, data.inputs, data.states) for name, a in group.items()}
        cotangents = tuple(c for _, given in parts(case.spec, case.options, data) for c in given.values())
        try:
            self.witness = Differentiator(lambda here: outputs(case, data, here), point, cotangents, seed)
        except Exception as error:
            self.why = f"the numerical derivative raises {type(error).__name__}: {error}".splitlines()[0]

    def ask(self, quantity, remaining):
        """The derivative by one array of so many, whole or along random directions; why not, as text."""
        if self.why:
            return self.why
        name = self._array(quantity)
        each = self.work * (1 if self.witness.dtype.kind == "c" else 2 * LEVELS)
        size = self.witness.point[name].size
        most = self.left // remaining // each
        count = size if size <= min(self.limit, most) else min(DIRECTIONS, most)
        if count < min(size, 2):
            return f"too large: less than two forwards of {self.work:,} multiplications are left for it"
        self.left -= count * each
        try:
            if count == size:
                found = self.witness.elementwise([name])
                self.errors[name] = found.errors[name]
                return found.values[name]
            self.vectors[name], values, self.errors[name] = self.witness.along(name, int(count))
        except Exception as error:
            return f"the numerical derivative raises {type(error).__name__}: {error}".splitlines()[0]
        return values

    def like(self, quantity, gradient):
        """A gradient as the derivative was asked for: whole, or along the same directions."""
        vectors = self.vectors.get(self._array(quantity))
        return gradient if vectors is None else np.array([np.sum(v * gradient) for v in vectors], np.float64)

    def doubt(self, quantity):
        """How far a derivative that was asked for may be from the true one, beside ``AGREE``."""
        errors = self.errors[self._array(quantity)]
        return 0.0 if self.witness.dtype.kind == "c" else DOUBT * np.max(errors, initial=0)

    def _array(self, quantity):
        name = quantity.removeprefix("grad.")
        return name[:-1] if name.endswith("0") and name[:-1] in self.data.states else name


def _agree(a, b, doubt=0.0):
    """Whether two arrays are the same but for the rounding of float64 and a doubt, integers to the last."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.array_equal(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    size = np.sqrt(np.mean(b[finite] ** 2)) if finite.any() else 0
    with np.errstate(all="ignore"):
        return bool(np.all(equal | (finite & (np.abs(a - b) <= AGREE * (np.abs(b) + size) + doubt))))


def _widened(a):
    """The array in float64, its memory laid out as it was."""
    wide = np.empty_like(a, np.float64)
    if min(a.strides, default=0) < 0:
        wide = wide[(slice(None, None, -1),) * a.ndim]
    wide[...] = a
    return wide


def _pieces(case, data, here):
    """The data as it is and as moved, and the inputs of each part of either."""
    groups = ("params", "inputs", "states")
    moved = Data(*({n: here[n] for n in getattr(data, group)} for group in groups), data.cotangents,
                 data.sizes)
    return moved, *([inputs for inputs, _ in parts(case.spec, case.options, d)] for d in (data, moved))


def _floating(spec, outputs):
    """The outputs that have a cotangent."""
    named = zip(spec.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True)
    return tuple(value for name, value in named if name in spec.with_cotangents())


def _reference_outputs(case, data, here):
    """Outputs of the reference's forward, part by part: before each, the state is that of the unmoved parts."""
    moved, before, after = _pieces(case, data, here)
    found = ()
    for number, inputs in enumerate(after):
        layer = build(case.spec, case.options, data if number else moved)
        if data.states:
            layer.set_state(*(data if number else moved).states.values())
        for earlier in before[:number]:
            layer.forward(*earlier.values())
        if number:
            layer.bind(list(moved.params.values()))
        found += _floating(case.spec, layer.forward(*inputs.values()))
    return tuple(np.asarray(o) for o in found)


def _port_outputs(case, data, here):
    """The same of the port, in float64."""
    import torch

    def tensors(group):
        return [torch.from_numpy(np.array(a)) for a in group.values()]

    moved, before, after = _pieces(case, data, here)
    found = ()
    with LANES[WIDE].mode(), torch.no_grad():
        for number, inputs in enumerate(after):
            module = case.spec.port_class.from_reference(build(case.spec, case.options, data), device="cpu",
                                                         dtype=torch.float64)
            if data.states:
                module.set_state(*tensors((data if number else moved).states))
            for earlier in before[:number]:
                module(*tensors(earlier))
            module.load_reference_params(list(moved.params.values()))
            found += _floating(case.spec, module(*tensors(inputs)))
    return tuple(o.numpy() for o in found)
