"""What explains a wrong array: a table of transformations of the right one.

Every entry of ``GRADIENT`` and ``OUTPUT`` takes a ``Scene`` and a name, and gives ``(kind, words)``
where it explains what was got, on the first sample and on the others, else None. The first that does
is the diagnosis, so the plainest stand first.
"""

import itertools
from dataclasses import replace

import numpy as np

from ..spec.axes import axes
from . import causes, terms
from .rounding import NEARLY, grainy, rms, rounded
from .scene import Scene, ratio
from .subject import Subject, quantities
from .trace import LOCAL, LOOPED, SAMPLES, SOFTMAX, Refused, Surgery, Tracer, candidates, describe, somebodys_code

POWERS = (1, -1, 0.5, -0.5)
RAYS = 5  # directions along which a gradient is explained
PAIRS = 2000  # of paths that are tried together
MOST, NOTHING = 1e-3, 1e-3  # shares of a difference: what an explanation may leave of it, what is no change
TOGETHER = 300_000  # traced operations of all searches of an audit: 20 microseconds each in long loops, 6 of its 10 s
SEARCH = TOGETHER // 3  # for one explanation: three arrays may be wrong for different causes


def symbols(sample):
    """The sizes that a factor may be made of, by their names."""
    found = {k: int(np.prod(v)) for k, v in sample.sizes.items()}
    spec = sample.case and sample.case.spec
    for name, counts in counting(sample).items():
        found[f"the number of {name} that count"] = int(np.sum(counts))
    for option in list(spec.options)[:1] if spec and spec.drawn else ():
        found["the share that is kept"] = 1 - sample.options[option]
    return found


def counting(sample):
    """Of each array of labels, where they are not those that the entry says are ignored."""
    texts = sample.case.spec.inputs if sample.case else {}
    return {name: a != sample.options[texts[name].ignored] for name, a in sample.inputs.items()
            if name in texts and texts[name].ignored in sample.options and a.size}


def law(scene, ratios, sizes):
    """A factor in words, from its values in several cases, the first the base's.

    Args:
        ratios: the factor in each case.
        sizes: the symbols of each case.
    """
    if all(abs(r - ratios[0]) <= 1e-5 * abs(ratios[0]) for r in ratios):
        # constant over all sizes: a number, or a share that no size changes
        c = ratios[0]
        if abs(c + 1) < 1e-5:
            return "sign", "the sign is wrong"
        for name in sizes[0]:
            if name.startswith("the share") and abs(c - sizes[0][name]) < 1e-5:
                return "factor", f"a constant factor of {c:.6g}: times {name}"
            if name.startswith("the share") and abs(c * sizes[0][name] - 1) < 1e-5:
                return "factor", f"a constant factor of {c:.6g}: divided by {name}"
        if len(ratios) > 1:
            return "factor", f"a constant factor: it is {c:.6g} times what it should be"
    letters = list(sizes[0])
    for count in (1, 2, 3):
        for chosen in itertools.combinations(letters, count):
            for powers in itertools.product(POWERS, repeat=count):
                left = [r / np.prod([float(s[x]) ** p for x, p in zip(chosen, powers, strict=True)])
                        for r, s in zip(ratios, sizes, strict=True)]
                if all(abs(x - left[0]) <= 1e-5 * abs(left[0]) for x in left) and len(ratios) > 1:
                    if count > 1 and abs(abs(left[0]) - 1) > 1e-5:
                        continue
                    words = " ".join(_power(x, p) for x, p in zip(chosen, powers, strict=True))
                    sign = "" if abs(left[0] - 1) < 1e-5 else f"{left[0]:.6g} "
                    initials = "".join(x if len(x) == 1 else "n" for x in chosen)
                    kind = f"1/{initials}" if powers[0] in (1, -1) else "factor"
                    missing = " ".join(_power(x, -p) for x, p in zip(chosen, powers, strict=True))
                    hint = f"a factor {missing} is missing" if powers[0] > 0 else f"a factor {words} too many"
                    return kind, f"a factor of {sign}{words}: {hint}"
    if len(ratios) == 1:
        return "factor", f"a constant factor of {ratios[0]:.6g}"
    return None


def _power(name, p):
    name = name if len(name) == 1 else f"({name})"
    return {1: name, -1: f"1/{name}", 0.5: f"sqrt({name})", -0.5: f"1/sqrt({name})"}[p]


def _law_of(scene, name, pick):
    first = ratio(scene, *pick(scene.base, name))
    if first is None or abs(first - 1) < 1e-3:
        return None
    ratios, sizes = [first], [symbols(scene.base.sample)]
    for _, other in scene.varied():
        r = ratio(scene, *pick(other, name))
        if r is not None:
            ratios.append(r)
            sizes.append(symbols(other.sample))
    found = law(scene, ratios, sizes)
    if found is not None and found[1].startswith("a constant factor") and (size := terms.size_of(scene, first)):
        return found[0], f"{found[1]}: {size}"
    return found


# --- gradients ------------------------------------------------------------------------------------


def _gradient(measured, name):
    return measured.got.get(name), measured.right[name]


def zero(scene, name):
    got = scene.base.got[name]
    if got is not None and got.shape == scene.base.right[name].shape and not got.any():
        return "dropped", "one path is dropped: it is all zeros, as if never computed or never written"
    return None


def unconnected(scene, name):
    got, right = scene.base.got[name], scene.base.right[name]
    if name in scene.base.sample.params and not right.any() and got is not None and got.any():
        return "unconnected", "forward does not depend on the array in params: it is not used, or only a copy of it"
    return None


def factor(scene, name):
    everywhere = [scene.base, *(m for _, m in scene.varied())]
    scalar = all(len(m.cotangents) == 1 and np.ndim(m.cotangents[0]) == 0 for m in everywhere)
    if scalar and not scene.subject.without_cotangent:
        ratios = [(ratio(scene, *_gradient(m, name)), float(m.cotangents[0])) for m in everywhere]
        if all(r is not None and abs(r * c - 1) < 1e-5 for r, c in ratios):
            return "linear", "the cotangent is not used: backward has to multiply by it"
    return _law_of(scene, name, _gradient)


def single(scene, name):
    """Right to the seven digits of float32, and of its values no more digits are there, or none that answer."""
    got, right = scene.base.got[name], scene.base.right[name]
    return ("float32", FLOAT32) if scene.same(got, right) and (rounded(got) or _deaf(scene, got, name)) else None


FLOAT32 = "float64 is silently cut to float32 somewhere on the way: it agrees to seven digits only"


def _deaf(scene, got, name):
    sample, found = scene.base.sample, []
    for step in (1e-5, 1e-10):
        rng = np.random.default_rng(7)
        near = replace(sample, **{group: {
            n: a * (1 + step * rng.uniform(0.5, 1, a.shape)) if a.dtype.kind == "f" else a
            for n, a in getattr(sample, group).items()} for group in ("params", "inputs", "states")})
        with somebodys_code():
            found.append(quantities(scene.subject, near, scene.base.cotangents)[1][name])
    return grainy(got, *found)


def approximate(scene, name):
    """Off by less than a computation in float32 is."""
    got, right = scene.base.got[name], scene.base.right[name]
    size = np.abs(right) + rms(right)
    if got.shape != right.shape or not np.isfinite(got).all() or not (np.abs(got - right) <= NEARLY * size).all():
        return None
    share = np.max(np.abs(got - right) / np.where(size > 0, size, 1))
    return "approximate", f"it is off by {share:.1g} of its size, less than float32 could tell"


def nonlinear(scene, name):
    """Twice the cotangent does not give twice the gradient."""
    base = scene.base
    if scene.subject.without_cotangent:
        return None
    with somebodys_code():
        _, twice = quantities(scene.subject, base.sample, [2 * c for c in base.cotangents])
    if twice[name] is not None and not scene.same(twice[name], 2 * base.got[name]):
        return "linear", "backward is not linear in the cotangent"
    return None


def one_output(scene, name):
    """The cotangent of one of several outputs left out, or counted twice."""
    base = scene.base
    for i, output_name in enumerate(base.outputs if len(base.cotangents) > 1 else ()):
        without = [np.zeros_like(c)[()] if j == i else c for j, c in enumerate(base.cotangents)]
        rest = scene.ask(base.sample, without).right[name]
        if scene.same(base.got[name], rest):
            return "dropped", f"one path is dropped: the cotangent of {output_name} is not used"
        if scene.same(base.got[name], 2 * base.right[name] - rest):
            return "doubled", f"one path is doubled: the cotangent of {output_name} is counted twice"
    return None


def times(scene, name):
    """Multiplied by an input or an output once too often."""
    base = scene.base
    got, right = base.got[name], base.right[name]
    for label, a in (base.outputs | base.sample.inputs).items():
        if a.dtype.kind == "f" and a.shape == right.shape:
            if scene.same(got, right * a):
                return "jacobian", f"a Jacobian term too many: multiplied by {label} once too often"
            if scene.same(got * a, right):
                return "jacobian", f"a missing Jacobian term: it should be multiplied by {label}"
    return None


def ignored(scene, name):
    """Right at the labels that count, something at those that do not."""
    got, right, sample = scene.base.got[name], scene.base.right[name], scene.base.sample
    for label, counts in counting(sample).items():
        if counts.shape == right.shape[: counts.ndim]:
            out = ~counts
            if out.any() and scene.same(got[~out], right[~out], rms(right)) and got[out].any():
                return "ignored", f"ignored {label} get a gradient: it has to be zero there"
    return None


def rearranged(scene, name):
    got, right = scene.base.got[name], scene.base.right[name]
    if got is None or got.size != right.size or right.ndim < 2:
        return None
    for order in itertools.permutations(range(right.ndim)):
        moved = right.transpose(order)
        if order == tuple(range(right.ndim)):
            continue
        back = right.reshape(moved.shape).transpose(np.argsort(order))
        if scene.same(got, moved) or scene.same(got.ravel(), moved.ravel()) or scene.same(got, back):
            return "transposed", f"transposed: its axes stand in the order {order}"
    for axis in range(right.ndim):
        if scene.same(got, np.flip(right, axis)):
            return "flipped", f"reversed along axis {axis}{_letter(scene, name, axis)}"
        half = right.shape[axis] // 2
        if half > 1 and right.shape[axis] == 2 * half and scene.same(got, np.roll(right, half, axis)):
            return "order", f"its two halves are swapped along axis {axis}{_letter(scene, name, axis)}"
        for shift in (1, -1):
            if scene.same(got, np.roll(right, shift, axis)):
                return "shifted", f"shifted by one along axis {axis}{_letter(scene, name, axis)}"
    return None


def _letter(scene, name, axis):
    spec = scene.subject.spec
    text = spec and (spec.inputs | spec.params | spec.states | spec.outputs).get(name)
    words = axes(text)[1] if text else []
    return f" ({words[axis]})" if axis < len(words) and "..." not in words else ""


def swapped(scene, name):
    got = scene.base.got[name]
    for other, right in scene.base.right.items():
        if other != name and scene.same(got, right):
            return "order", f"the return order is swapped: it is the gradient of {other}"
    return None


def gate_order(scene, name):
    spec, got, right = scene.subject.spec, scene.base.got[name], scene.base.right[name]
    if spec is None or not spec.gates or got is None or got.shape != right.shape or name not in spec.params:
        return None
    blocks = np.split(right, len(spec.gates), axis=-1)
    for order in list(itertools.permutations(range(len(blocks))))[1:]:
        if scene.same(got, np.concatenate([blocks[i] for i in order], axis=-1)):
            packed = ", ".join(spec.gates[i] for i in order)
            return "gates", f"gates are swapped: its blocks are those of {packed}, expected {', '.join(spec.gates)}"
    return None


def duplicates(scene, name):
    """Rows of a table: right where an index occurs once, wrong where it occurs more often."""
    got, right = scene.base.got[name], scene.base.right[name]
    if got is None or got.shape != right.shape:
        return None
    wrong = {i for i in range(len(right)) if not scene.same(got[i], right[i], rms(right))} if right.ndim else set()
    for a in scene.base.sample.inputs.values():
        if a.dtype.kind in "iu" and a.size and a.max() < len(right):
            index, counts = np.unique(a[a >= 0], return_counts=True)
            often = set(index[counts > 1].tolist())
            if wrong and wrong <= often and (len(set(index.tolist()) - often) or wrong == often):
                return "duplicates", ("duplicate indices are overwritten: only the rows of indices that occur more "
                                      "than once are wrong; their gradients have to be added, as numpy.add.at does")
    return None


def slabs(scene, name):
    """Right in one slice along an axis, zero in the others."""
    got, right = scene.base.got[name], scene.base.right[name]
    if got is None or got.shape != right.shape:
        return None
    for axis in range(right.ndim):
        count = right.shape[axis]
        parts = [(got.take(i, axis), right.take(i, axis)) for i in range(count)]
        good = [i for i, (g, r) in enumerate(parts) if scene.same(g, r, rms(right))]
        none = [i for i, (g, r) in enumerate(parts) if not g.any()]
        if good and len(good) + len(set(none) - set(good)) == count and len(good) < count > 1:
            where = f"along axis {axis}{_letter(scene, name, axis)}"
            if good == [count - 1]:
                return "last-step", f"only the last step {where} is there, the others are zero"
            if good == [0]:
                return "first-step", f"only the first step {where} is there, the others are zero"
            return "dropped", f"one path is dropped: entries {sorted(set(none) - set(good))} {where} are zero"
    return None


def steps(scene, name):
    """What single steps of the sequence contribute, where the layer treats them apart: first, last only."""
    spec, base = scene.subject.spec, scene.base
    if spec is None or base.got[name] is None or not base.outputs or base.got[name].shape != base.right[name].shape:
        return None
    words = axes(next(iter(spec.outputs.values())))[1]
    steps_axis = next((words.index(x) for x in ("T", "U") if x in words), None)
    if steps_axis is None or len(base.cotangents) != 1:
        return None
    count = base.cotangents[0].shape[steps_axis]

    def only(t):
        masked = np.zeros_like(base.cotangents[0])
        span = (slice(None),) * steps_axis + (t,)
        masked[span] = base.cotangents[0][span]
        return scene.ask(base.sample, [masked]).right[name]

    got = base.got[name]
    last, first = only(count - 1), only(0)
    for kind, value, text in (("last-step", last, "only the last time step counts"),
                              ("first-step", first, "only the first time step counts"),
                              ("last-step", base.right[name] - last, "the last time step is left out"),
                              ("first-step", base.right[name] - first, "the first time step is left out")):
        if scene.same(got, value):
            return kind, text
    return None


def added(scene, name):
    """Off by something known: the cotangent, the input, itself of another call."""
    got, right = scene.base.got[name], scene.base.right[name]
    if got is None or got.shape != right.shape:
        return None
    rest = got - right
    for label, other in [(f"the gradient of {n}", r) for n, r in scene.base.right.items() if n != name] + [
            ("the cotangent", c) for c in scene.base.cotangents]:
        for times in (1, -1):
            if scene.same(rest, times * np.asarray(other)):
                return "doubled", f"{label} is added to it" if times == 1 else f"{label} is subtracted from it"
    if rest.size > 1 and scene.same(rest, np.full_like(rest, rest.flat[0]), abs(rest.flat[0])):
        return "added", f"a constant {rest.flat[0]:.6g} is added to it"
    return None


def wrong_sum(scene, name):
    """Of another shape: the letters of the shape that was got tell along which axis it was summed."""
    got, right, spec = scene.base.got[name], scene.base.right[name], scene.subject.spec
    if got is None or got.shape == right.shape:
        return None
    if got.ndim == right.ndim and sorted(got.shape) == sorted(right.shape):
        return "transposed", f"transposed: shape {got.shape}, expected {right.shape}"
    letters = {v: k for k, v in scene.base.sample.sizes.items() if isinstance(v, int)} if spec else {}
    names = ", ".join(letters.get(s, str(s)) for s in got.shape)
    return "axis", f"summed over the wrong axis: its shape is {got.shape} ({names}), expected {right.shape}"


class Effort:
    """What a search may still run: a number of operations, so that the same case gives the same words anywhere."""

    def __init__(self, shared):
        self.left, self.shared = SEARCH, shared

    def spend(self, seen, runs=1):
        """Takes the cost of runs that pass these sites so often; whether there was enough."""
        cost = runs * sum(seen.values())
        self.left -= cost
        self.shared["left"] = self.shared.get("left", TOGETHER) - cost
        return min(self.left, self.shared["left"]) >= 0


def traced(scene, name):
    """One step of the derivative done wrongly, found by trying all of them."""
    base = scene.base
    got, right = base.got[name], base.right[name]
    if got is None or got.shape != right.shape or not np.isfinite(got).all():
        return None
    rng = np.random.default_rng(5)
    vectors = rng.uniform(0.5, 1.5, (RAYS, *right.shape)) * rng.choice((-1, 1), (RAYS, *right.shape))
    wanted = [float(np.sum(got * v)) for v in vectors]
    plain = [float(np.sum(right * v)) for v in vectors]
    subjects = [scene.subject] + [scene.canonical] * bool(scene.canonical is not None and scene.agrees)
    for subject in subjects:
        effort = Effort(scene.traced)
        try:
            tracer = Tracer(subject, base.sample, base.cotangents)
            tracer.hold(base.right)
            seen = tracer.sites()
        except Refused:  # code that does not survive the tracing is not asked this way
            continue
        known = [(site, kind, seen) for site, kind, _ in scene.traced.get(id(subject), []) if site in seen]
        dead, paths = set(), {}
        for site, kind, turns in [*known, *candidates(seen)]:
            if (site, "dead") in dead:
                continue
            if not effort.spend(seen):
                return None
            try:
                value = tracer.run(Surgery(site, kind, turns), {name: vectors[0]})
            except Refused:
                continue
            if abs(value - plain[0]) <= NOTHING * abs(wanted[0] - plain[0]):
                if kind in ("dropped", "1"):
                    dead.add((site, "dead"))
                continue
            if kind == "dropped":
                paths[site] = plain[0] - value
            if not _explains(value, wanted[0], plain[0], scene.exact):
                continue
            if all(_explains(tracer.run(Surgery(site, kind, turns), {name: v}), w, p, scene.exact)
                   for v, w, p in zip(vectors[1:], wanted[1:], plain[1:], strict=True)):
                scene.traced.setdefault(id(subject), []).append((site, kind, turns))
                return _traced_words(site, kind, subject is scene.canonical, tracer.logged)
        rest = np.subtract(wanted, plain)
        found = right.size > 1 and _weighted(scene, name, subject, tracer, seen, vectors, rest, plain, paths, effort)
        found = found or (right.size > 1 and _traced_and_scaled(scene, name, subject, tracer, seen, vectors, wanted,
                                                                plain, effort))
        if found:
            return found
    return None


def _weighted(scene, name, subject, tracer, seen, vectors, rest, plain, paths, effort):
    """One path of the derivative, or two, counted another number of times than once, whatever that number is."""
    known, alone = {}, {}
    for site, first in paths.items():
        known[site] = [first]
        for v, p in zip(vectors[1:], plain[1:], strict=True):
            if not effort.spend(seen):
                return None
            try:
                known[site].append(p - tracer.run(Surgery(site, "dropped", seen), {name: v}))
            except Refused:
                break
        if len(known[site]) < len(plain):
            del known[site]
        elif (c := _times(np.array([known[site]]), rest, scene.exact)) is not None and abs(c[0]) > MOST:
            alone[site] = 1 + c[0]
    if alone:  # of several on one way, the one whose number is a size
        site = next((s for s, c in alone.items() if terms.size_of(scene, c)), next(iter(alone)))
        return "weight", _counted(scene, site, subject, alone[site])
    together = itertools.combinations([site for site in known if not site[1].endswith(".forward")], 2)
    for a, b in itertools.islice(together, PAIRS):
        c = _times(np.array([known[a], known[b]]), rest, scene.exact)
        if c is not None and all(abs(x) > MOST for x in c):
            return "weight", "; and ".join(_counted(scene, s, subject, 1 + x) for s, x in zip((a, b), c, strict=True))
    return None


def _times(paths, rest, exact):
    """The factors with which a few paths make up a difference; None where they do not."""
    with np.errstate(all="ignore"):
        c, _, rank, _ = np.linalg.lstsq(paths.T, rest, rcond=1e-9)
    size = np.sqrt(np.mean(np.square(rest)))
    return c if rank == len(paths) and np.all(np.abs(c @ paths - rest) <= 10 * exact * size) else None


def _counted(scene, site, subject, c):
    known = f"{c:.6g} times"
    if size := terms.size_of(scene, c):
        known += f" ({size})"
    words = "is left out" if abs(c) < MOST else f"is counted {known}"
    return describe(site, "doubled", subject is scene.canonical).replace("is counted twice", words)


def _traced_and_scaled(scene, name, subject, tracer, seen, vectors, wanted, plain, effort):
    """Two faults at once: one step done wrongly, and a factor that is a size."""
    known = [(site, kind, seen) for site, kind, _ in scene.traced.get(id(subject), []) if site in seen]
    for site, kind, turns in [*known, *candidates(seen)]:
        if not effort.spend(seen, 2):
            return None
        try:
            values = [tracer.run(Surgery(site, kind, turns), {name: v}) for v in vectors[:2]]
        except Refused:
            continue
        if not all(values) or _near(values[0], plain[0], scene.exact):
            continue
        c = wanted[0] / values[0]
        if _near(c * values[1], wanted[1], scene.exact) and _near(
                c * tracer.run(Surgery(site, kind, turns), {name: vectors[2]}), wanted[2], scene.exact):
            sizes = symbols(scene.base.sample).items()
            power = next((_power(x, p) for x, s in sizes for p in POWERS if _near(c, s**p, 1e-6)), f"{c:.6g}")
            first, words = _traced_words(site, kind, subject is scene.canonical, tracer.logged)
            return first, f"{words}; and a factor of {power}"
    return None


def canonical_variant(scene, name):
    """Another function that is easily taken for this one."""
    spec = scene.subject.spec
    for words, kind in spec.variants.items():
        outputs = outputs_of(Subject(kind, spec), scene.base.sample)
        if scene.same(scene.base.outputs[name], outputs[list(spec.outputs).index(name)]):
            return "variant", words
    return None


def outputs_of(subject, sample):
    """Outputs of a layer whose backward is not asked."""
    with somebodys_code():
        return subject.forward(subject.make(sample), [a.copy() for a in sample.inputs.values()])


def not_finite(scene, name):
    got = scene.base.outputs[name]
    if np.shape(got) == np.shape(scene.base.right_outputs[name]) and not np.isfinite(got).all():
        return "overflow", f"overflow or a division by zero: it is {got[~np.isfinite(got)][0]}"
    return None


def single_output(scene, name):
    if scene.same(scene.base.outputs[name], scene.base.right_outputs[name]):
        return "float32", FLOAT32
    return None


def ignored_rows(scene, name):
    """Rows whose label is ignored change the loss."""
    sample = scene.base.sample
    for label, counts in counting(sample).items():
        out = ~counts
        for given, x in sample.inputs.items():
            if x.dtype.kind == "f" and x.shape[: out.ndim] == out.shape and out.any():
                blank = replace(sample, inputs=sample.inputs | {given: np.where(out[..., None], 0.0, x)})
                got, *_ = outputs_of(scene.subject, blank)
                if not scene.same(got, scene.base.outputs[name]):
                    return "ignored", f"ignored {label} are counted: the {name} depends on {given} where they stand"
    return None


def _near(a, b, exact):
    return abs(a - b) <= 10 * exact * (abs(b) + 1e-9)


def _explains(value, wanted, plain, exact):
    """Whether a change gives what was got: as closely as an explanation asks, and most of the difference."""
    return _near(value, wanted, exact) and abs(value - wanted) <= MOST * abs(plain - wanted)


def _traced_words(site, kind, canonical, logged):
    words = describe(site, kind, canonical)
    if site[2] == "guard":
        return ("clamped-log", f"a clamped logarithm: {words}") if site in logged else (
            "epsilon", f"eps is forgotten: {words}")
    if site[1] in SOFTMAX and kind in ("y(1-y)", "1", "y"):
        return "jacobian", {"1": "a gradient already fused through softmax is passed on",
                            "y": "one path is dropped, a missing Jacobian term, that through its sum",
                            "y(1-y)": "the diagonal alone of softmax's Jacobian"}[kind] + f": {words}"
    if kind == "loser":
        return "branch", f"the wrong argument of a maximum gets the gradient: {words}"
    if kind == "axis":
        return "axis", f"summed over the wrong axis: {words}"
    if kind in SAMPLES:
        return "axis", f"summed over another axis: {words}"
    if kind in ("transposed", "turned"):
        return "transposed", f"transposed: {words}"
    if site[2] == "local" or kind in LOCAL or kind == "bare":
        return "jacobian", f"a missing Jacobian term: {words}"
    head = {"dropped": "one path is dropped, a missing Jacobian term", "doubled": "one path is doubled",
            "sign": "the sign of one path is wrong"}.get(kind, "only some time steps count")
    return (kind.replace("without-", "") + "-step" * kind.startswith("without") if kind in LOOPED else kind
            ), f"{head}: {words}"


def block(scene, name):
    """Nothing known explains it: at least where it is wrong, gate by gate."""
    spec, got, right = scene.subject.spec, scene.base.got[name], scene.base.right[name]
    if spec is None or not spec.gates or got is None or got.shape != right.shape or name not in spec.params:
        return None
    pairs = zip(spec.gates, np.split(got, len(spec.gates), -1), np.split(right, len(spec.gates), -1), strict=True)
    wrong = [gate for gate, g, r in pairs if not scene.same(g, r, rms(right))]
    if 0 < len(wrong) < len(spec.gates):
        return "block", f"no known transformation explains it; only the block of gate {', '.join(wrong)} is wrong"
    return None


GRADIENT = (zero, unconnected, single, approximate, causes.masked, factor, causes.uncropped, wrong_sum, rearranged,
            swapped, gate_order, terms.summed, terms.blocks, duplicates, ignored, slabs, added, times,
            causes.unused_cotangent, causes.fused, causes.at_the_other_end, causes.cropped, terms.signs, terms.branches,
            terms.unmasked, nonlinear, one_output, traced, steps, causes.assigned, terms.product, terms.arguments,
            block, terms.located)


def gradient(scene, name):
    """The diagnosis of a wrong gradient: kind and words, both empty where nothing explains it."""
    return _first(GRADIENT, scene, name)


def _first(table, scene, name):
    for entry in table:
        try:
            found = entry(scene, name)
        except Refused:  # an explanation that the code does not let us try
            continue
        except Exception as error:  # our own mistake: told, where it cannot be mistaken for the layer's
            scene.tell(f"the explanation {entry.__name__} could not be tried: {type(error).__name__}: {error}")
            continue
        if found is not None:
            return found
    return "", ""


# --- outputs --------------------------------------------------------------------------------------


def output_factor(scene, name):
    return _law_of(scene, name, lambda m, n: (m.outputs[n], m.right_outputs[n]))


def output_rearranged(scene, name):
    base = scene.base
    as_gradient = replace(base, got={name: base.outputs[name]}, right={name: base.right_outputs[name]})
    moved = Scene(scene.subject, scene.canonical, as_gradient, scene.agrees, scene.measure, scene.exact,
                  tell=scene.tell)
    return rearranged(moved, name) or slabs(moved, name)


def output_swapped(scene, name):
    for other, right in scene.base.right_outputs.items():
        if other != name and scene.same(scene.base.outputs[name], right):
            return "order", f"the return order is swapped: it is {other}"
    return None


def modified(scene, name):
    """As if the canonical layer had been given something else."""
    for kind, words, change in modifications(scene):
        try:
            if all(scene.same(m.outputs[name], canonical_outputs(scene, change(m.sample))[name],
                              rms(m.right_outputs[name])) for m in [scene.base, *(m for _, m in scene.varied()[:2])]):
                return kind, words
        except Refused:  # a change that the canonical layer refuses
            continue
    return None


def canonical_outputs(scene, sample):
    with somebodys_code():
        outputs, _ = quantities(scene.canonical, sample)
    return dict(zip(scene.subject.spec.outputs, outputs, strict=True))


def modifications(scene):
    """Changes of a sample, with what they mean: kind, words, function."""
    spec, sample = scene.subject.spec, scene.base.sample

    def param(name, function):
        return lambda s: replace(s, params=s.params | {name: function(s.params[name])})

    def given(name, function):
        return lambda s: replace(s, inputs=s.inputs | {name: function(s.inputs[name], s)})

    if spec.gates:
        own = [n for n, text in spec.params.items() if axes(text)[1][-1][:-1] == str(len(spec.gates))]

        def blocks(function):
            def change(s):
                return replace(s, params=s.params | {n: np.concatenate(
                    function(np.split(s.params[n], len(spec.gates), -1)), -1) for n in own})
            return change

        for order in list(itertools.permutations(range(len(spec.gates))))[1:]:
            packed = ", ".join(spec.gates[order.index(i)] for i in range(len(order)))
            yield "gates", (f"gates are mis-ordered: packed as {packed}, expected {', '.join(spec.gates)}"), blocks(
                lambda b, order=order: [b[i] for i in order])
        for i, gate in enumerate(spec.gates):
            yield "gates", f"gate {gate} is the other way round: {gate} stands where 1 - {gate} belongs", blocks(
                lambda b, i=i: [-x if j == i else x for j, x in enumerate(b)])
            yield "gates", f"gate {gate} gets no pre-activation", blocks(
                lambda b, i=i: [0 * x if j == i else x for j, x in enumerate(b)])
    names = list(sample.params)
    for name in names:
        yield "unused", f"one path is dropped: {name} is not used", param(name, np.zeros_like)
        yield "doubled", f"{name} is counted twice", param(name, lambda a: 2 * a)
        yield "sign", f"the sign of {name} is wrong", param(name, lambda a: -a)
        if sample.params[name].ndim == 2 and len(set(sample.params[name].shape)) == 1:
            yield "transposed", f"{name} is transposed", param(name, lambda a: a.T.copy())
    for a, b in itertools.combinations(names, 2):
        if sample.params[a].shape == sample.params[b].shape:
            yield "order", f"{a} and {b} are swapped", lambda s, a=a, b=b: replace(
                s, params=s.params | {a: s.params[b], b: s.params[a]})
    for name, a in sample.inputs.items():
        text = axes(spec.inputs[name])[1]
        if a.dtype.kind == "f":
            yield "unused", f"one path is dropped: {name} is not used", given(name, lambda a, s: np.zeros_like(a))
            for letter in text + [x for x in spec.letters if x not in text]:
                letter = letter[-1]
                for p in POWERS:
                    if isinstance(sample.sizes.get(letter), int):
                        yield "scaled", f"{name} is scaled by {_power(letter, p)}", given(
                            name, lambda a, s, x=letter, p=p: a * float(s.sizes[x]) ** p)
            for c in (2.0, 0.5, -1.0):
                kind = "sign" if c < 0 else "factor"
                yield kind, f"{name} is scaled by {c:g}", given(name, lambda a, s, c=c: c * a)
        for axis, word in enumerate(text):
            if word in ("T", "U"):
                yield "flipped", f"{name} is read in reverse along {word}", given(
                    name, lambda a, s, axis=axis: np.flip(a, axis).copy())
        if a.dtype.kind == "b":
            yield "mask", f"{name} is ignored", given(name, lambda a, s: np.ones_like(a))
            yield "mask", f"{name} is the other way round", given(name, lambda a, s: ~a)
        if a.dtype.kind in "iu" and a.ndim:
            yield "shifted", f"{name} is off by one", given(name, lambda a, s: np.where(a > 0, a - 1, a))
            if (option := spec.inputs[name].ignored) in sample.options:
                yield "ignored", "ignored labels are counted, as class 0", given(
                    name, lambda a, s, option=option: np.where(a == s.options[option], 0, a))
    for name in sample.states:
        yield "state-lost", f"the state {name} is lost", lambda s, name=name: replace(
            s, states=s.states | {name: np.zeros_like(s.states[name])})
    if sample.warm:
        yield "state-lost", "the state is lost between calls", lambda s: replace(s, warm={})
    for option, values in (dict(spec.options) | spec.attributes).items():
        for value in values:
            if value != sample.options.get(option):
                yield "option", f"{option} is taken as {value}", lambda s, o=option, v=value: replace(
                    s, options=s.options | {o: v})


def other_axis(scene, name):
    """A function of rows that was taken over another axis."""
    spec, base = scene.subject.spec, scene.base
    if len(spec.inputs) != 1:
        return None
    (given, a), = base.sample.inputs.items()
    if scene.same(base.outputs[name], a):
        return "unchanged", f"{given} is returned unchanged"
    for axis in range(a.ndim - 1):
        changed = replace(base.sample, inputs={given: np.moveaxis(a, axis, -1).copy()})
        if scene.same(base.outputs[name], np.moveaxis(canonical_outputs(scene, changed)[name], -1, axis)):
            return "axis", f"computed over the wrong axis: {axis}, expected the last"
    return None


def raw_scores(scene, name):
    """Where the canonical layer, its output scaled row by row, or known only up to a row's sum."""
    got, right = scene.base.outputs[name], scene.base.right_outputs[name]
    if got.shape != right.shape or got.ndim < 2:
        return None
    with np.errstate(all="ignore"):
        share = got / right
    for axis in range(got.ndim):
        first = share.take([0], axis)
        if np.isfinite(share).all() and scene.same(share, np.broadcast_to(first, share.shape)):
            return "normalised", f"not normalised the same way: along axis {axis} it is the right one times a constant"
    return None


def guarded(scene, name):
    """A tiny constant in the code, as in log(p + 1e-7), without which the forward is the canonical one."""
    place = list(scene.base.outputs).index(name)
    tracer = Tracer(scene.subject, scene.base.sample, scene.base.cotangents)
    for site in tracer.sites():
        if site[2] == "guard":
            got = np.asarray(tracer.outputs(Surgery(site, "guard"))[place]).real
            if scene.same(got, scene.base.right_outputs[name]):
                kind = "clamped-log" if site in tracer.logged else "epsilon"
                words = {"clamped-log": "a clamped logarithm", "epsilon": "another eps"}[kind]
                return kind, f"{words}: {describe(site, 'forward')}"
    return None


OUTPUT = (not_finite, guarded, single_output, output_factor, output_rearranged, output_swapped, canonical_variant,
          modified, other_axis, ignored_rows, raw_scores)


def output(scene, name):
    """The diagnosis of a forward that is another function: kind and words."""
    if scene.canonical is None:
        return "", ""
    return _first(OUTPUT, scene, name)
