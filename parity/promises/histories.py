"""Short programs of calls on one object, in which every call says what a fresh object says, bit for bit.

A program is a list of steps, each a name in ``STEPS`` and a number from which all that it chooses follows; 0 chooses
the plainest. Around every call stands a snapshot: inputs, weights, buffers, random states, the settings of NumPy and
torch, and all that was returned before or could be read off the object, lists of arrays included; nothing of it changes
that should not. All arrays are in C order: another order of the same numbers rounds in another, and is held to a
budget, as cases do. Where one array stands for two arguments, NumPy takes another product, whose bits are those of a
fresh object that is given one array too; and that, with the usual product, says what one that is given two says.
"""

import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np

from ..cases.case import LAYOUTS, Case, admitted, derived, generator, least
from ..judge.lanes import LANES
from ..sides.objects import OBJECTS, PLAIN, Mode, Ran, modes
from ..spec.axes import axes
from ..spec.results import Arrays
from ..spec.spec import Spec
from .common import Side, standard

LENGTHS = (0,) * 18 + (4, 8, 8, 8, 24, 24)  # steps of a program, of which a case draws one
CALLS = 5  # that are dealt beside one of each step
ASKED = {"call": 1, "two": 2, "again": 1, "option": 2}  # times that a step asks for a mode
WORK = 1 << 27  # multiplications, about, that the forwards of a program may take
SMALL = (1, 2, 3, 5)  # sizes of the axes that no parameter has, in the other data of a program
SOME = 7  # data among which the calls of a program choose: those of the case, and others
REMEMBERED = 24  # results of earlier calls that are watched
IDS = ("int64", "int32", "int16", "uint8", "uint16", "uint32", "uint64")
MASKS: dict[str, Callable[[Any], Any]] = {
    "as drawn": lambda m: m,
    "all": np.ones_like,
    "none": np.zeros_like,
    "first": lambda m: _along(m, 0),
    "last": lambda m: _along(m, -1),
    "one": lambda m: _along(m, m.shape[-1] // 2),
    "one row": lambda m: m & (np.arange(len(m)) == 0).reshape(-1, *[1] * (m.ndim - 1)),
}


class Step(NamedTuple):
    """One step of a program: a name in ``STEPS`` and the number that decides the rest."""

    name: str
    number: int


class Broken(AssertionError):
    """A call that did not say what a fresh object says, or changed what it should not.

    Attributes:
        quantity: which.
    """

    def __init__(self, quantity: str, words: str) -> None:
        super().__init__(words)
        self.quantity = quantity


@dataclass(frozen=True)
class Broke:
    """What broke a program: the quantity, what happened, and the shortest program found in which it does."""

    quantity: str
    words: str
    program: tuple[Step, ...]

    def __str__(self) -> str:
        steps = ", ".join(f"{step.name} {step.number}" for step in self.program)
        return f"{self.words}; after these calls on one object: {steps}"


def program(case: Case) -> tuple[Step, ...]:
    """The steps that follow from a case's id; none for most.

    Steps, and the modes in which they call, come from shuffled decks: none comes again before all have come.
    """
    if not longest(case):
        return ()
    rng = generator(f"{case.id} program")
    length = min(LENGTHS[int(rng.integers(len(LENGTHS)))], longest(case))
    names, ways = known_steps(case.spec), modes(case.spec)
    steps, turns = _dealt(rng, ["call"] * CALLS + names), _dealt(rng, range(len(ways)))
    found = []
    for name in itertools.islice(steps, length):
        number = int(rng.integers(1, 1 << 16))
        for _ in range(ASKED.get(name, 0)):
            number = number * len(ways) + next(turns)
        found.append(Step(name, number))
    return tuple(found)


def _dealt(rng: np.random.Generator, values: Sequence[Any]) -> Iterator[Any]:
    """Values from shuffled decks, without end."""
    while True:
        yield from (values[place] for place in rng.permutation(len(values)))


def longest(case: Case) -> int:
    """Steps of the longest program that a case may have; 0 where it has none."""
    return min(max(LENGTHS), max(WORK // max(case.work, 1), 3)) if known_steps(case.spec) and case.filled else 0


def called(spec: Spec, steps: Sequence[Step]) -> set[str]:
    """The modes in which the steps of a program call a module."""
    found: set[str] = set()
    for step in steps:
        pick = _Pick(step.number)
        found |= {pick.digit(modes(spec)) for _ in range(ASKED.get(step.name, 0))}
    return found


def plays(case: Case, lane: Any) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """A case's program, and the sides whose objects play it in a lane: it is played in one lane of each kind."""
    kin = [other for other in LANES.values() if other.device == lane.device and bool(other.round) == bool(lane.round)]
    if kin[int(generator(f"{case.id} lane").integers(len(kin)))] is not lane or not (steps := program(case)):
        return (), ()
    return steps, ("port",) if lane.round or lane.device != "cpu" else ("reference", "port")


def check_history(side: Side, spec: Spec) -> None:
    """Called again and again, in turn in all ways, an object says what a fresh one says, and changes nothing."""
    for given in ({}, {name: values[1] for name, values in spec.options.items()})[: 2 if spec.options else 1]:
        case = standard(spec, **given)
        names = known_steps(spec)
        steps = [Step(name, number) for number in (0, 1, 2) for name in names]
        steps += [Step("call", number) for number in range(10, 30)]
        steps += [Step("option", number) for number in range(10, 18) if "option" in names]
        broke = broken(case, LANES["cpu-float32"], side.name, tuple(steps), every=True)
        assert broke is None, str(broke)


def broken(case: Case, lane: Any, side: str, steps: tuple[Step, ...] | None = None, *,
           every: bool = False) -> Broke | None:
    """Plays a program on a side's object, by default that of the case's id.

    With ``every`` nothing public of the object may change, otherwise what its entry says that it keeps aside.

    Returns:
        What broke it first, in the shortest program that was found by leaving out steps; None where nothing did.
    """
    steps = program(case) if steps is None else steps
    if not steps:
        return None
    found = _broke(case, lane, side, steps, every)
    if found is None:
        return None
    short = list(found.program)
    for index in reversed(range(len(short) - 1)):
        fewer = _broke(case, lane, side, (*short[:index], *short[index + 1 :]), every)
        if fewer is not None:
            found, short = fewer, list(fewer.program[: index] + fewer.program[index:])
    return found


def _broke(case: Case, lane: Any, side: str, steps: tuple[Step, ...], every: bool) -> Broke | None:
    try:
        player = Player(case, lane, side, every)
    except Exception as error:
        return Broke("*", f"making it raises {type(error).__name__}: {error}", ())
    for number, step in enumerate(steps):
        try:
            player.play(step)
        except Broken as error:
            return Broke(error.quantity, str(error), steps[: number + 1])
        except Exception as error:
            return Broke("*", f"{step.name} raises {type(error).__name__}: {error}", steps[: number + 1])
    return None


@dataclass
class Given:
    """What a call is given.

    Attributes:
        inputs, cotangents: arrays by name.
        key: the same for the same numbers.
        ids: the dtype in which its ids come.
        alias: whether inputs with the same numbers, and cotangents, are one array.
        layout: of ids and masks in memory: they do not round.
    """

    inputs: Arrays
    cotangents: Arrays
    key: tuple[Any, ...]
    ids: str = "int64"
    alias: bool = False
    layout: str = "C"


@dataclass
class Called:
    """A forward of the object.

    Attributes:
        given, mode: what it was given, and how it ran.
        begun: the state from which it started.
        expected: the quantities of a fresh object.
        ran: what came out.
        cotangents: for its backward.
    """

    given: Given
    mode: Mode
    begun: dict[str, Any]
    expected: Arrays
    ran: Ran
    cotangents: dict[str, Any]


class Player:
    """One object, and what a fresh one would say at every moment of its life.

    Args:
        case: a ``Case``.
        lane: in which the object computes.
        side: ``reference`` or ``port``.
        every: whether all that is public is watched.
    """

    def __init__(self, case: Case, lane: Any, side: str, every: bool = False) -> None:
        self.case, self.lane, self.every = case, lane, every
        self.spec = cast(Any, case.spec)
        self.make = OBJECTS[self.spec.side][side == "port"]
        self.dtype = lane.torch_dtype if side == "port" else lane.dtype
        self.data = _data(case, lane)
        self.params: Arrays = dict(self.data[0].params)
        self.object = self._new()
        self.state: dict[str, Any] = self.object.state()
        self.batch: int | None = None  # of the state that is kept
        self.results: list[tuple[str, Any, Any]] = []  # what was handed out: what it is, itself, and a copy
        self.known: dict[tuple[Any, ...], Arrays] = {}
        self.settings, self.words = _settings(), "call"

    # --- the object, and fresh ones ------------------------------------------------------------------------

    def _new(self) -> Any:
        laid = {name: p.copy() for name, p in self.params.items()}
        return self.make(self.case, laid, self.lane, self.dtype)

    def _kept(self, owner: Any) -> dict[str, Any]:
        """The state that an object of a stateful layer holds, None left out."""
        state = owner.state().items() if self.stateful else ()
        return {f"state.{n}": v for n, v in state if v is not None}

    def play(self, step: Step) -> None:
        """Plays one step.

        Raises:
            Broken: something is not as a fresh object has it.
        """
        self.words = step.name
        STEPS[step.name](self, _Pick(step.number))

    @property
    def stateful(self) -> bool:
        return bool(self.case.options.get("stateful"))

    def ask(self, pick: "_Pick") -> Given:
        """What a call is given: some of the data, ids of some dtype, a mask of some pattern, perhaps aliased."""
        which = pick(*range(len(self.data)))
        data, alias = self.data[which], pick(False, True)
        inputs, cotangents = dict(data.inputs), dict(data.cotangents)
        masks = [name for name in inputs if inputs[name].dtype == bool]
        mask = pick(*MASKS) if masks else "as drawn"
        for name in masks:
            inputs[name] = MASKS[mask](inputs[name])
        if alias:
            for group in (inputs, cotangents):
                _alias(group)
        ids = pick(*[d for d in IDS if all(_holds(d, a) for a in inputs.values() if a.dtype.kind == "i")])
        return Given(inputs, cotangents, (which, mask, alias), ids, alias, pick(*LAYOUTS))

    def _tensors(self, group: Arrays, ids: str, alias: bool, layout: str = "C") -> dict[str, Any]:
        """A group of arrays as a call takes them, new ones; one for several where aliased."""
        made: dict[str, Any] = {}
        for name, array in group.items():
            same = [n for n in made if group[n] is array] if alias else []
            if array.dtype.kind == "f":
                array = array.astype(self.dtype if self.dtype != "bfloat16" else "float32", copy=False)
            elif array.dtype.kind == "i":
                array = array.astype(ids)
            laid = array.copy() if array.dtype.kind == "f" else LAYOUTS[layout](array)
            made[name] = made[same[0]] if same else self.make.given(laid, self.lane, self.dtype)
        return made

    def expected(self, given: Given, start: dict[str, Any]) -> Arrays:
        """The quantities of a fresh object that starts from a state."""
        if self.stateful:
            return self.fresh(given, start)
        key = (*given.key, self.dtype)
        if key not in self.known:
            self.known[key] = self.fresh(given, start)
        return self.known[key]

    def fresh(self, given: Given, start: dict[str, Any], mode: Mode = PLAIN,
              cotangents: dict[str, Any] | None = None, lay: "Callable[[Any], Any] | None" = None) -> Arrays:
        """The same in some mode, perhaps with cotangents of its own; with ``lay``, of arguments as aliased as given."""
        fresh = self._new()
        if self.stateful:
            fresh.begin_from(start)
        alias = given.alias and lay is not None
        inputs = self._tensors(given.inputs, "int64", alias)
        laid = {id(a): lay(a) if lay else a for a in inputs.values()}  # one array stays one
        ran = fresh.forward({n: laid[id(a)] for n, a in inputs.items()}, mode)
        found = {n: fresh.array(v) for n, v in ran.outputs.items()}
        found |= {n: fresh.array(v) for n, v in self._kept(fresh).items()}
        self.after = fresh.state()
        if ran.wanted:
            given_back = self._tensors(given.cotangents, "int64", alias) if cotangents is None else cotangents
            found |= {f"grad.{n}": fresh.array(g) for n, g in fresh.backward(ran, given_back).items()}
        return found

    # --- calls, each with a snapshot around ----------------------------------------------------------------

    def mode(self, pick: "_Pick") -> Mode:
        """How a call is run: of which inputs and weights no gradient is asked."""
        name = pick.digit(self.object.modes)
        inputs, weights = self.spec.differentiable(), list(self.params)
        left = {"frozen": weights, "weights": inputs,
                "some": [n for n in (*inputs, *weights) if name == "some" and pick(True, False)]}.get(name, [])
        return Mode(name, frozenset(left))

    def made(self, given: Given, mode: Mode) -> dict[str, Any]:
        """The inputs of a call, new ones."""
        with self.make.where_made(mode):
            return self._tensors(given.inputs, given.ids, given.alias, given.layout)

    def forward(self, given: Given, mode: Mode, inputs: dict[str, Any] | None = None) -> "Called":
        """Calls the object, perhaps with inputs made before, and holds what it says against a fresh one's."""
        rows = len(next(iter(given.inputs.values()), ()))
        if self.stateful and self.batch not in (None, rows):
            self.reset()
        begun = self.state
        expected = self.expected(given, begun)
        inputs = self.made(given, mode) if inputs is None else inputs
        with self._unchanged(inputs):
            ran = self.object.forward(inputs, mode)
        call = Called(given, mode, begun, expected, ran, self._tensors(given.cotangents, "int64", given.alias))
        self._hold(call, ran.outputs | self._kept(self.object))
        if self.stateful:
            self.state, self.batch = self.after, rows
        return call

    def backward(self, call: "Called", cotangents: dict[str, Any] | None = None) -> None:
        """Calls its backward, and holds what that says."""
        if not call.ran.wanted:
            return
        cotangents = call.cotangents if cotangents is None else cotangents
        with self._unchanged(cotangents):
            gradients = self.object.backward(call.ran, cotangents)
        self._hold(call, {f"grad.{n}": g for n, g in gradients.items() if n in call.ran.wanted},
                   {f"grad.{n}" for n in self.params})

    def _hold(self, call: "Called", found: dict[str, Any], passing: Any = ()) -> None:
        words = self.words if call.mode == PLAIN else f"{self.words}, {call.mode.name}"
        try:
            self.hold(found, call.expected, words, passing)
        except Broken:
            if self._squared(call):
                return self.hold(found, call.expected, words, passing)
            if call.ran.wanted:
                raise
            # where nothing has to be kept for a backward, torch may choose another kernel, which rounds otherwise
            self.hold(found, self.fresh(call.given, call.begun, call.mode), words, passing)
            after = self.after
            with self.make.plain_kernels():
                one, other = (self.fresh(call.given, call.begun, mode) for mode in (call.mode, PLAIN))
            self.hold(one, other, words)
            self.after = after

    def _squared(self, call: "Called") -> bool:
        """Whether only NumPy's product of an array by itself makes the bits differ; they are expected from then on."""
        if not call.given.alias or self.stateful:
            return False
        one, plain = (self.fresh(call.given, call.begun, lay=lay) for lay in (lambda a: a, self.object.unshared))
        same = all(_same(plain[name], call.expected[name]) for name in plain)
        if same:
            call.expected = one
        return same and not all(_same(plain[name], one[name]) for name in plain)

    def hold(self, found: dict[str, Any], expected: Arrays, words: str, passing: Any = ()) -> None:
        """Holds results against a fresh object's, and remembers them; those ``passing`` may be written over."""
        for name, value in found.items():
            if value is None:
                continue
            array = self.object.array(value)
            if name not in expected or not _same(array, expected[name]):
                where = _apart(array, expected.get(name))
                raise Broken(name, f"{words}: {name} is not what a fresh object gives{where}")
            if name not in passing:
                self.results.append((name, value, array))
        shown = self.object.shown(self.every)
        self.results += [(name, value, self._copied(value)) for name, value in shown.items()]
        del self.results[: -REMEMBERED - 2 * len(shown)]

    def _unchanged(self, given: dict[str, Any]) -> "_Snapshot":
        watched = [(f"the argument {n}", v) for n, v in given.items()]
        watched += [(f"the object's own {n}", v) for n, v in self.object.own().items()]
        held = [(words, v, self.object.array(v)) for words, v in watched]
        held += [(f"{n}, which an earlier call returned,", v, a) for n, v, a in self.results]
        return _Snapshot(held, self._copied, self.object.flags, self.settings, self.words)

    def _copied(self, value: Any) -> Any:
        """Copies of an array, or of those in a list, a tuple or a dictionary."""
        if isinstance(value, (list, tuple)):
            return [self._copied(v) for v in value]
        return {k: self._copied(v) for k, v in value.items()} if isinstance(value, dict) else self.object.array(value)

    def spoil(self, values: Any) -> None:
        """Alters results, as a caller may, and forgets them."""
        for value in values:
            self.object.spoil(value)
        self.results.clear()

    def reset(self) -> None:
        self.object.reset()
        self.state, self.batch = dict.fromkeys(self.state), None

    def other_params(self, pick: "_Pick") -> Arrays:
        """Parameters of other data, as all are of one shape."""
        params = self.data[pick(*range(1, len(self.data)))].params
        self.known.clear()
        dtype = "float32" if self.dtype == "bfloat16" else self.dtype
        self.params = {name: a.astype(dtype) for name, a in params.items()}
        return {name: a.copy() for name, a in self.params.items()}

    def change_option(self, pick: "_Pick") -> None:
        """Sets an option, or a mode, of the object to another value, and draws data that go with it."""
        spec, case, others = self.spec, self.case, {}
        for name, values in (spec.options | spec.attributes).items():
            for options in [case.options | {name: value} for value in values if value != case.options[name]]:
                if (sizes := _of_the_same_shapes(spec, case.sizes, options)) is not None:
                    others[name, options[name]] = replace(case, options=options, sizes=sizes)
        if others:
            name = pick(*dict.fromkeys(name for name, _ in others))  # an option of few values as often as one of many
            value = pick(*[value for other, value in others if other == name])
            self.object.set_option(name, value)
            self.case = others[name, value]
            self.data = _data(self.case, self.lane)
            self.known.clear()


class _Snapshot:
    """A context at whose end nothing that is held has changed, nor the random states and settings of the process."""

    def __init__(self, held: list[tuple[str, Any, Any]], array: Callable[[Any], Any],
                 flags: Callable[[], dict[str, Any]], settings: dict[str, Any], words: str) -> None:
        self.held, self.array, self.flags, self.settings, self.words = held, array, flags, settings, words

    def __enter__(self) -> None:
        self.before = self.settings | _random_states() | self.flags()

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            return
        for words, value, copy in self.held:
            if not _same(self.array(value), copy):
                raise Broken("*", f"{self.words}: {words} has changed")
        after = _settings() | _random_states() | self.flags()
        for name, value in self.before.items():
            if after[name] != value:
                raise Broken("*", f"{self.words}: {name} has changed")


class _Pick:
    """Chooses one of some values, one after the other, as a number decides; 0 always the first."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rng = random.Random(number) if number else None

    def digit(self, values: Sequence[Any]) -> Any:
        """One of some values, by the last digit of the number in a system of so many; it is taken off."""
        self.number, place = divmod(self.number, len(values))
        return values[place]

    def __call__(self, *values: Any) -> Any:
        return values[0] if self.rng is None else values[self.rng.randrange(len(values))]


# --- the steps ---------------------------------------------------------------------------------------------


def _call(player: Player, pick: _Pick) -> None:
    """A forward in some mode, perhaps its backward, perhaps that once more."""
    given, mode, times = player.ask(pick), player.mode(pick), pick(1, 1, 0, 2)
    call = player.forward(given, mode)
    for _ in range(times):
        player.backward(call)


def _two(player: Player, pick: _Pick) -> None:
    """Two forwards, and the backward of the first, where that may be, and of the second."""
    first = player.forward(player.ask(pick), player.mode(pick))
    second = player.forward(player.ask(pick), player.mode(pick))
    if player.object.several and pick(True, False):
        player.backward(first)
    player.backward(second)
    if player.object.several and pick(False, True):
        player.backward(first)


def _alter(player: Player, pick: _Pick) -> None:
    """The caller writes over what was returned, over what he gave: what follows is not moved by it, or is refused."""
    for given in (False, True):
        call = player.forward(player.ask(pick), PLAIN)
        player.spoil((call.ran.leaves if given else call.ran.outputs).values())
        if player.stateful and given:
            player.spoil(player.object.state().values())
        try:
            player.backward(call)
            gradients = player.object.backward(call.ran, call.cotangents)
            player.spoil(gradients.values())
            player.backward(call)
        except RuntimeError as error:
            if "inplace" not in str(error):  # torch's own words
                raise
        if player.stateful and given:
            player.reset()


def _own(player: Player, pick: _Pick) -> None:
    """The cotangents are the outputs themselves, as in the gradient of half the sum of their squares."""
    given = replace(player.ask(pick), alias=False)
    call = player.forward(given, PLAIN)
    outputs = {n: player.object.detached(call.ran.outputs[n]) for n in player.spec.with_cotangents()}
    apart = {n: player.object.apart(o) for n, o in outputs.items()}
    player.backward(replace(call, expected=player.fresh(given, call.begun, PLAIN, apart)), outputs)


def _again(player: Player, pick: _Pick) -> None:
    """The very same arrays once more: under other parameters, and when the caller has written others into them."""
    given, mode = player.ask(pick), player.mode(pick)
    inputs = player.made(given, mode)
    player.forward(given, mode, inputs)
    if player.params:
        _write(player, pick)
        player.forward(given, mode, inputs)
    given = _turned(given)
    with player.make.where_made(mode):
        player.object.fill(inputs, player.made(given, mode))
    player.forward(given, mode, inputs)


def _turned(given: Given) -> Given:
    """The same with its rows in another order."""
    def turn(group: Arrays) -> Arrays:
        made = {id(a): a[::-1].copy() if a.ndim else a for a in group.values()}
        return {name: made[id(a)] for name, a in group.items()}

    return replace(given, inputs=turn(given.inputs), key=(*given.key, "turned"))


def _part(player: Player, pick: _Pick) -> None:
    """Gradients of some inputs alone, by some outputs alone: the others' cotangents might be zero."""
    given = player.ask(pick)
    call = player.forward(given, PLAIN)
    if not player.object.several:
        player.backward(call)
        return
    finite = all(np.isfinite(q).all() for q in call.expected.values() if q.dtype.kind == "f")
    outputs = [n for n in call.cotangents if pick(True, False) or not finite]  # zero times NaN is none
    zeroed = {n: c if n in outputs else np.zeros_like(c) for n, c in given.cotangents.items()}
    asked = [n for n in call.ran.leaves if pick(True, False)]
    fresh = player.fresh(given, call.begun, PLAIN, player._tensors(zeroed, "int64", False))
    cotangents = {n: call.cotangents[n] for n in outputs}
    with player._unchanged(cotangents):
        gradients = player.object.gradients(call.ran, cotangents, asked)
    player.hold({f"grad.{n}": g for n, g in gradients.items()}, fresh, player.words)


def _write(player: Player, pick: _Pick) -> None:
    """Parameters changed in place, as an optimizer does."""
    player.object.write(player.other_params(pick))


def _load(player: Player, pick: _Pick) -> None:
    """Other parameters."""
    player.object.load(player.other_params(pick))


def _copy(player: Player, pick: _Pick) -> None:
    """A deep copy goes on, or the original; the other one is used and spoilt."""
    one, other = player.object, player.object.copied()
    if pick(True, False):
        one, other = other, one
    player.object = other
    given = player.ask(pick)
    if player.stateful:
        other.reset()
    ran = other.forward(player._tensors(given.inputs, "int64", False))
    other.backward(ran, player._tensors(given.cotangents, "int64", False))
    for value in other.own().values():
        other.spoil(value)
    player.object = one
    player.results.clear()


def _cast(player: Player, pick: _Pick) -> None:
    """The object in another dtype, and its next calls too."""
    own = player.lane.torch_dtype if player.make.several else player.lane.dtype
    player.dtype = own if player.dtype != own else "float64" if own == "float32" else "float32"
    dtype = "float32" if player.dtype == "bfloat16" else player.dtype
    player.params = {n: _rounded(player.lane, p, player.dtype).astype(dtype) for n, p in player.params.items()}
    player.known.clear()
    player.object.cast({n: p.copy() for n, p in player.params.items()}, player.dtype)
    player.state = player.object.cast_state(player.state, player.dtype)


def _refused(player: Player, pick: _Pick) -> None:
    """A call that is refused leaves no trace."""
    given = player.ask(pick)
    inputs = player._tensors(given.inputs, "int64", False)
    names = [n for n in inputs if "..." not in axes(player.spec.inputs[n])[1]]
    if not names:  # any number of axes is right
        return
    name = pick(*names)
    wrong = inputs | {name: inputs[name][None][None]}
    for one in (player.object.copied(), player.object):
        try:
            one.forward(wrong)
        except (TypeError, ValueError):
            continue
        return  # strangers' layers may take it; the promise to refuse is held elsewhere


def _set(player: Player, pick: _Pick) -> None:
    """A state is set: numbers, some of them left out, or none."""
    rows = pick(*SMALL, len(player.data[0].inputs))
    width = player.case.sizes["H"]
    rng = np.random.default_rng(pick(0, 1, 2))
    dtype = "float32" if player.dtype == "bfloat16" else player.dtype
    arrays = [_rounded(player.lane, rng.standard_normal((rows, width)), player.dtype).astype(dtype)
              for _ in player.spec.states]
    given = [player.make.given(a, player.lane, player.dtype) for a in arrays][: pick(len(arrays), 1, 0)]
    player.object.set_state(given)
    player.results += [("the state set", v, player.object.array(v)) for v in given]
    names = list(player.state)
    player.state = dict(itertools.zip_longest(names, given))
    player.batch = rows if given else None


def _reset(player: Player, pick: _Pick) -> None:
    """The state is forgotten."""
    player.reset()


def _option(player: Player, pick: _Pick) -> None:
    """An option is set to another value: a backward stays that of its forward, the next call has the new one."""
    call = player.forward(player.ask(pick), player.mode(pick))
    if not player.every:  # strangers' backward may ask for the option of now; ours promises that it does not
        player.backward(call)
    player.change_option(pick)
    if player.every:
        player.backward(call)
    if "stateful" in player.spec.options:
        player.reset()
    player.backward(player.forward(player.ask(pick), player.mode(pick)))
    if player.stateful:
        player.backward(player.forward(player.ask(pick), PLAIN))


def _generate(player: Player, pick: _Pick) -> None:
    """Ids between other calls, in either mode."""
    given = player.ask(_Pick(0))
    name = next(iter(player.spec.inputs))
    start, steps = pick(0, 1) % player.case.sizes["V"], pick(3, 1, 0, 7)
    mode = Mode(pick(*[mode for mode in ("plain", "eval") if mode in player.object.modes]))
    source = player.made(given, PLAIN)[name]
    for change in ("", "other parameters", "other numbers"):  # in the very same array
        if change == "other parameters":
            _write(player, pick)
        if change == "other numbers":
            given = _turned(given)
            player.object.fill({name: source}, player.made(given, PLAIN))
        fresh = player._new()
        expected = fresh.array(fresh.generate(player.made(given, PLAIN)[name], start, steps))
        with player.object.in_mode(mode), player._unchanged({name: source}):
            found = player.object.generate(source, start, steps)
        player.hold({"ids": found}, {"ids": expected}, "generate")


STEPS: dict[str, Callable[[Player, _Pick], None]] = {
    "call": _call, "two": _two, "alter": _alter, "own": _own, "again": _again, "part": _part, "write": _write,
    "load": _load, "copy": _copy, "cast": _cast, "option": _option, "refused": _refused, "set": _set, "reset": _reset,
    "generate": _generate,
}


def known_steps(spec: Any) -> list[str]:
    """The steps that a layer knows, as its entry says."""
    if spec.side not in OBJECTS:
        return []
    has = {"write": bool(spec.params or spec.size_arguments), "load": bool(spec.params or spec.size_arguments),
           "cast": bool(spec.params or spec.size_arguments), "set": bool(spec.states),
           "option": bool(spec.options or spec.attributes), "reset": "stateful" in spec.options,
           "generate": spec.greedy}
    return [name for name in STEPS if has.get(name, True)]


# --- data, comparison --------------------------------------------------------------------------------------


def _data(case: Case, lane: Any) -> list[Any]:
    """The data of a case, and others for the same object: other values, other sizes, masks and forms of labels."""
    spec: Any = case.spec
    rng = generator(f"{case.id} data")
    below = {a.below for a in spec.inputs.values()}
    fixed = spec.parameter_shapes(case.sizes | case.options)
    found = [case]
    for number in range(1, SOME):
        options, pattern = dict(case.options), case.pattern if number % 3 else "normal"
        for name in ("masked", "one_hot"):
            if name in options:
                options[name] = bool(rng.integers(2)) and not (name == "one_hot" and pattern == "ignored")
        sizes, equal = dict(case.sizes), int(rng.choice(SMALL))
        for letter in spec.letters if number > 1 else ():
            if letter == "...":
                size: Any = tuple(rng.choice(SMALL, int(rng.integers(4))).tolist())
            elif number == SOME - 1:  # all alike, for arguments that are one array
                size = max(equal, least(spec, letter))
            else:
                size = int(rng.choice([s for s in SMALL if s >= least(spec, letter)]))
            other = derived(spec, sizes | {letter: size}, options)
            same = letter not in below and spec.parameter_shapes(other | options) == fixed
            if same and admitted(spec, other, options):
                sizes = other
        found.append(replace(case, sizes=sizes, options=options, pattern=pattern,
                             scale=case.scale if pattern == case.pattern else 1.0,
                             seed=(case.seed + number) % (1 << 64)))
    return [other.data(lane.narrow).map(lambda a: np.array(a, order="C")) for other in found]


def _of_the_same_shapes(spec: Any, sizes: dict[str, Any], options: dict[str, Any]) -> dict[str, Any] | None:
    """Sizes that go with other options, where all arrays keep their shapes; None for none."""
    texts = (*spec.inputs.values(), *spec.params.values(), spec.size_arguments)
    shown = {word[-1] for text in texts for word in axes(text)[1]}
    inner = [letter for letter in sizes if letter[-1] not in shown and letter in spec.letters]
    most = max((size for letter, size in sizes.items() if letter != "..."), default=1)
    for chosen in itertools.product(range(1, most + 1), repeat=len(inner)):
        found: dict[str, Any] = derived(spec, sizes | dict(zip(inner, chosen, strict=True)), options)
        if all(found[letter] == sizes[letter] for letter in sizes if letter not in inner) and \
                admitted(spec, found, options):
            return found
    return None


def _along(mask: Any, place: int) -> Any:
    found = np.zeros_like(mask)
    found[..., place] = True
    return found


def _alias(group: Arrays) -> None:
    """Arrays of one shape and kind become one."""
    first: dict[Any, Any] = {}
    for name, array in group.items():
        if array.ndim and array.dtype != bool:
            group[name] = first.setdefault((array.shape, array.dtype), array)


def _holds(dtype: str, array: Any) -> bool:
    info = np.iinfo(dtype)
    return not array.size or (info.min <= array.min() and array.max() <= info.max)


def _rounded(lane: Any, array: Any, dtype: str) -> Any:
    """An array as numbers of a dtype, in the type that NumPy has for them."""
    return lane.narrow(array) if dtype == lane.torch_dtype else array.astype(dtype)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _apart(found: Any, expected: Any) -> str:
    if expected is None:
        return ": that has none"
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f": {found.dtype} of shape {found.shape}, not {expected.dtype} of shape {expected.shape}"
    found, expected = np.atleast_1d(found), np.atleast_1d(expected)
    wrong = ~((found == expected) | ((found != found) & (expected != expected)))
    place = tuple(int(i[0]) for i in np.nonzero(wrong))
    return f": {found[place]!r} at {place}, not {expected[place]!r}"


def _random_states() -> dict[str, Any]:
    """What the calls of one object leave alone, and those of others need not, by what a reader calls it."""
    import torch

    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "NumPy's global random state": (kind, keys.tobytes(), *rest),  # type: ignore[union-attr]  # legacy: a tuple
        "Python's random state": random.getstate(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "the filter of warnings": list(warnings.filters),  # which a fresh object's first call may change, by an import
    }


def _settings() -> dict[str, Any]:
    """The settings of NumPy, torch and Python, by what a reader calls them."""
    import torch

    return {
        "numpy.errstate": tuple(np.geterr().items()),
        "numpy's print options": repr(np.get_printoptions()),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's anomaly detection": torch.is_anomaly_enabled(),
        "torch's autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "torch's print options": repr(vars(torch._tensor_str.PRINT_OPTS)),
    }
