"""The mutants: what is planted, how workers die, and that the list of equivalent ones is true."""

import ast
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("resource", reason="mutants run in forked processes with limits, which this platform has not")

from parity.cli import main
from parity.errors import UsageError
from parity.trust.mutation import beside, equivalents, mutants, workers
from parity.trust.mutation.judges import apart, judges
from parity.trust.mutation.operators import HELPERS, HIDDEN, OPERATORS, TORCH, narrow
from parity.trust.mutation.same import same
from parity.trust.mutation.summary import KILLED, STILLBORN, SURVIVED, TIMEOUT, Summary, Verdict

from .judges import TESTS, failed

# another test of the same process may have loaded JAX, which warns of forks for the sake of its threads
pytestmark = pytest.mark.filterwarnings("ignore:os.fork")

OTHERS = tuple(TESTS)  # modules that no layer is made of
EVERY = [m for side in mutants.SIDES for m in mutants.mutants(side)]


def planted_in(source, operator):
    """The wrong versions of one statement, by one operator, as text."""
    tree = ast.parse(source)
    found = [after for _, _, name, _, after, _, _ in mutants.changes(tree) if name == operator]
    assert ast.unparse(tree) == ast.unparse(ast.parse(source)), "the source is not as it was"
    return found


@pytest.mark.parametrize(("operator", "right", "wrong"), [
    ("stabilisation removed", "z = x - x.real.max(axis=-1)", ["z = x"]),
    ("reversal removed", "for t in reversed(r): f(t)", ["for t in r"]),
    ("state not set", "self.reset_state()", ["pass"]),
    ("store dropped", "a[i] = b", ["pass"]),
    ("store dropped", "self.h = b", ["pass"]),
    ("statement dropped", "total += dWh", ["pass"]),
    ("statement dropped", "check(x)", ["pass"]),
    ("statement dropped", "mask = mask[:, None]", ["pass"]),
    ("statement dropped", "a = b", []),
    ("attribute dropped", "class A(B):\n    cell = c\n    def f(self): d = e", ["pass", "pass"]),
    ("= for +=", "total += dWh", ["total = dWh"]),
    ("= for +=", "grad[...] = value", ["grad[...] += value"]),
    ("copy removed", "dx = y.copy()", ["dx = y"]),
    ("transpose removed", "a = x.T @ y.transpose(0, 2, 1)", ["a = x @ y.transpose(0, 2, 1)", "a = x.T @ y"]),
    ("axis", "a = x.sum(axis=1, keepdims=True)", ["a = x.sum(keepdims=True)", "a = x.sum(axis=0, keepdims=True)",
                                                 "a = x.sum(axis=1)"]),
    ("index or slice", "a = x[:, 0]", ["a = x[:, -1]"]),
    ("index or slice", "a = x[1:n, ::-1]", ["a = x[:n, ::-1]", "a = x[1:, ::-1]", "a = x[1:n, :]"]),
    ("arithmetic", "a = b * c - d", ["a = b * c + d", "a = b / c - d"]),
    ("comparison", "a = b < c", ["a = b <= c", "a = b > c"]),
    ("condition", "a = b if c else d", ["a = b", "a = d"]),
    ("condition", "a = np.where(m, b, 0)", ["a = b", "a = 0"]),
    ("condition", "a = b and c", ["a = b or c", "a = b", "a = c"]),
    ("negation removed", "a = ~b", ["a = b"]),
    ("negation removed", "a = -1", []),
    ("term dropped", "a = b * c", ["a = b", "a = c"]),
    ("results swapped", "def f(): return a, b", ["return (b, a)"]),
    ("arguments", "f(a, b, axis=0)", ["f(b, a, axis=0)", "f(a, b)"]),
    ("arguments", "zip(a, strict=True)", []),
    ("order", "f, g, i = x", ["g, f, i = x", "f, i, g = x"]),
    ("order", "a = {'p': b, 'q': c}", ["a = {'p': c, 'q': b}"]),
    ("call removed", "a = np.tanh(x)", ["a = x"]),
    ("call removed", "a = x.masked_fill(m, 0)", ["a = x"]),
    ("other function", "a = np.zeros(3)", ["a = np.ones(3)"]),
    ("constant", "a = 3", ["a = 4", "a = 2"]),
    ("constant", "a = 1e-07", ["a = 2e-07", "a = 0.0"]),
    ("constant", "a = True", ["a = False"]),
    ("cast to float32", "a = np.matmul(b, c)", ["a = _narrow(np.matmul(b, c))"]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_an_operator_makes_its_mistakes(operator, right, wrong):
    assert planted_in(right, operator) == wrong


@pytest.mark.parametrize("source", [
    "raise ValueError(f'{a + 1}')", "def f(x: 1 + 1) -> 2: 'text'", "class A:\n    def __init__(self): self.a = 1",
    "__all__ = ['a', 'b']",
    "if a in b:\n    text = c + d\n    raise TypeError(text)",
], ids=["raise", "annotations", "initialisation", "names", "message"])
def test_messages_annotations_and_initialisation_are_left_alone(source):
    """All but the condition under which something is refused."""
    found = [text for operator in OPERATORS for text in planted_in(source, operator)]
    assert not [text for text in found if not text.startswith("if")]


SAME = [  # whether of NumPy, axis letters of each parameter, and two statements
    (True, (), "y = x.reshape(-1, n)", "y = x.reshape(-2, n)"),
    (True, (), "y = np.matmul(x.swapaxes(-1, -2), z)", "y = np.matmul(x.swapaxes(-2, -1), z)"),
    (True, (), "y = np.swapaxes(x, 1, 2)", "y = np.swapaxes(x, 2, 1)"),
    (False, (), "y = x.transpose(1, 2)", "y = x.transpose(2, 1)"),
    (False, (), "y = x / max(len(t), 1)", "y = x / max(1, len(t))"),
    (False, (["D", "H"], ["H", "H"]), "sizes = ((0, 0), (1, 0))", "sizes = ((0, 0), (0, 1))"),
    (False, (["D"], ["D"]), "sizes = ((0, 0),)", "sizes = ((1, -1),)"),
    (True, (), "for x in y.reshape(-1)", "for x in y.reshape(-3)"),
]
OTHER = [
    (False, (), "y = x.reshape(-1, n)", "y = x.reshape(-2, n)"),
    (True, (), "y = x.reshape(-1, n)", "y = x.reshape(0, n)"),
    (True, (), "y = x.reshape(2, 3)", "y = x.reshape(3, 2)"),
    (True, (), "y = x.transpose(0, 1)", "y = x.transpose(1, 0)"),
    (True, (), "y = x.transpose(0, 2, 1)", "y = x.transpose(2, 0, 1)"),
    (True, (), "y = x.swapaxes(-1, -2)", "y = x.swapaxes(-1, -3)"),
    (True, (), "y = x.max(a, b)", "y = x.max(b, a)"),
    (True, (), "y = f(a, b)", "y = f(b, a)"),
    (False, (["D", "H"], ["H", "H"]), "sizes = ((0, 0), (1, 0))", "sizes = ((1, 0), (1, 0))"),
    (False, (["D", "4H"], ["H"]), "sizes = ((1, 0),)", "sizes = ((0, 1),)"),
    (False, (), "sizes = ((0, 0),)", "sizes = ((0, 1),)"),
]


@pytest.mark.parametrize(("expected", "pair"), [*((True, p) for p in SAME), *((False, p) for p in OTHER)],
                         ids=[f"{p[2]}-{p[3]}" for p in (*SAME, *OTHER)])
def test_what_is_the_same_by_rule(expected, pair):
    numpy, sizes, before, after = pair
    assert same(before, after, numpy, sizes) == expected


def test_no_mutant_is_the_same_by_rule():
    found = [m.diff for m in EVERY if m.side == "reference" and "reshape(-1" in m.before
             and m.after == m.before.replace("reshape(-1", "reshape(-2")]
    assert not found


def test_narrow_is_float32_in_the_same_dtype():
    import numpy as np
    import torch

    third = np.array([1 / 3])
    for found in (narrow(third), narrow(torch.from_numpy(third)).numpy(), *narrow((third, third))):
        assert found.dtype == np.float64 and found[0] == np.float32(1 / 3)
    assert narrow(3) == 3 and narrow(np.array([2**40]))[0] == 2**40


def test_there_are_mutants_of_every_operator_side_and_layer():
    assert len(EVERY) >= 1500
    assert {m.operator for m in EVERY} == set(OPERATORS)
    assert {m.side for m in EVERY} == set(mutants.SIDES)


def functions_in(node, module, within=()):
    """All functions of a module, as ``module:dotted.name``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            name = (*within, child.name)
            if isinstance(child, ast.FunctionDef):
                yield f"{module}:{'.'.join(name)}"
            yield from functions_in(child, module, name)


def test_a_function_is_left_out_by_its_whole_name():
    """Another of the same name in another module or class has its mutants."""
    every = [f for side in mutants.SIDES for source in mutants.sources(side).values()
             for f in functions_in(source.tree, source.name)]
    assert {mutants.excluded(f) for f in every} - {None} == set(mutants.EXCLUDED), "an exclusion of nothing"
    left_out = [f for f in mutants.EXCLUDED if "*" not in f]
    for module, _, name in (f.partition(":") for f in left_out):
        *owner, last = name.split(".")

        def within(owner, last=last):
            """A function that is called ``last`` in a class, or in none."""
            return ast.parse(f"class {owner[0]}:\n    def {last}(a): return a + 1" if owner else
                             f"def {last}(a): return a + 1")

        assert list(mutants.changes(within([]), "elsewhere")), f"{last} is left out in another module"
        assert list(mutants.changes(within(["Other"]), module)), f"{last} is left out in another class"
        assert not [c for c in mutants.changes(within(owner), module) if c[0] == (*owner, last)]


def test_a_planted_mutant_is_imported_and_gone_afterwards():
    import sys

    import reference

    mutant = next(m for m in EVERY if m.source.name == "reference.affine" and m.after == "y = np.matmul(x, W) - b")
    right = reference.Affine
    with mutants.planted(mutant):
        import numpy as np

        wrong = sys.modules["reference"].Affine
        assert wrong is not right and sys.modules["reference.affine"].Affine is wrong
        assert wrong(np.ones((1, 1)), np.ones(1)).forward(np.ones((1, 1))) == 0
    assert sys.modules["reference"].Affine is right


def test_a_planted_mutant_of_the_port_is_what_the_package_gives():
    import sys

    import torch_port

    right = torch_port.Affine
    with mutants.planted(next(m for m in EVERY if m.source.name == "torch_port.affine")):
        assert sys.modules["torch_port"].Affine is sys.modules["torch_port.affine"].Affine is not right
    assert sys.modules["torch_port"].Affine is torch_port.Affine is right


# --- workers ------------------------------------------------------------------------------------------------


def work(task):
    workers.limit(0.2)
    if task == "loops":
        while True:
            pass
    if task == "sleeps":
        time.sleep(60)
    if task == "allocates":
        return len(bytearray(workers.MEMORY + (1 << 30)))
    if task == "exits":
        import os

        os._exit(3)
    return task


def test_workers_die_and_the_rest_goes_on():
    tasks = ["a", "loops", "b", "exits", "sleeps", "allocates", "c"]
    results = dict(workers.forked(work, tasks, 2))
    assert {t: results[t] for t in "abc"} == {t: t for t in "abc"}
    assert results["loops"] == results["sleeps"] == workers.Died("time-out")
    assert results["exits"] == workers.Died("exit status 3")
    assert "MemoryError" in results["allocates"].reason


def test_no_more_workers_than_tasks():
    assert list(workers.forked(work, ["a"], 8)) == [("a", "a")]
    assert list(workers.forked(work, [], 2)) == []


# --- the equivalent ones ------------------------------------------------------------------------------------


def test_every_explanation_is_of_a_mutant_that_is_made():
    made = {m.key for side in mutants.SIDES for m in mutants.mutants(side, True, OTHERS)}
    missing = [key for entry in equivalents.load() for key in entry.mutants() if key not in made]
    assert not missing, "explained, and not made any more:\n" + "\n".join(map(str, missing))


@pytest.mark.parametrize(("text", "words"), [
    ('[[mutant]]\nwhere="a"\noperator="b"\nbefore="c"\nafter=["d"]\nreason=" "', "no reason"),
    ('[[mutant]]\nwhere="a"\noperator="b"\nbefore="c"\nafter=["d", "d"]\nreason="e"', "twice"),
], ids=["no-reason", "twice"])
def test_a_file_of_explanations_that_explains_nothing_is_refused(text, words, tmp_path):
    file = tmp_path / "equivalents.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        equivalents.load(file)


def verdicts(*pairs, explained=(), unmade=()):
    summary = Summary(fast=False, explained=dict.fromkeys(explained, "same"), unmade=list(unmade))
    for mutant, kind, kills in pairs:
        summary.add(mutant, Verdict(kind, dict.fromkeys(kills, "found"), seconds=Counter(dict.fromkeys(kills, 1.0))))
    return summary


def test_a_summary_fails_for_survivors_wrong_explanations_and_explanations_of_nothing():
    a, b, c, d = EVERY[:4]
    good = verdicts((a, KILLED, ["x"]), (b, TIMEOUT, []), (c, SURVIVED, []), (d, STILLBORN, []), explained=[c.key])
    assert good.ok and good.stillborn == 1 and len(good.results) == 3
    assert not verdicts((a, KILLED, ["x"]), (c, SURVIVED, [])).ok
    assert not verdicts((a, KILLED, ["x"]), explained=[a.key]).ok
    assert not verdicts((a, KILLED, ["x"]), unmade=[c.key]).ok
    assert not verdicts().ok, "no mutants at all are no success"
    text = []
    verdicts((c, SURVIVED, [])).print(type("Console", (), {"print": lambda self, *a, **k: text.append(str(a[0]))})())
    assert any(c.before in line and c.after in line for line in text)


def test_checks_that_kill_alone_are_told_from_those_that_do_not():
    a, b = EVERY[:2]
    rows = verdicts((a, KILLED, ["x", "y"]), (b, KILLED, ["x"])).checks(a.side)
    assert (rows["x"]["kills"], rows["x"]["alone"]) == (2, 1)
    assert (rows["y"]["kills"], rows["y"]["alone"]) == (1, 0)


# --- all together, a little of it -----------------------------------------------------------------------------


def test_mistakes_in_one_layer_are_all_noticed(tmp_path):
    """The whole is what ``parity mutate --fast`` does in CI; here a piece, in a process of its own."""
    file = tmp_path / "mutants.json"
    subprocess.run([sys.executable, "-m", "parity", "mutate", "--layer", "[SW]*[xm]", "--fast", "--json", str(file)],
                   check=True, capture_output=True)
    found = json.loads(file.read_text())
    assert found["ok"] and found["mutants"] == found["killed"] + found["same function"] > 40
    assert set(found["matrix"]["reference"]) == set(found["matrix"]["port"]) == {"Softmax", "WeightSum"}
    assert {v["side"] for v in found["verdicts"]} == set(mutants.SIDES)


def test_the_command_refuses_what_it_cannot_do(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["mutate", "--layer", "Nothing"])
    assert "'Nothing' matches none of" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["mutate", "--jobs", "0"])


def test_a_share_is_drawn_by_its_seed():
    from parity.trust.mutation.kills import _drawn

    some, more, others = (_drawn(EVERY, share, seed) for share, seed in ((0.1, 0), (0.2, 0), (0.1, 1)))
    keys = [{m.key for m in drawn} for drawn in (some, more, others)]
    assert abs(len(some) / len(EVERY) - 0.1) < 0.02 and keys[0] < keys[1] and keys[0] != keys[2]
    assert {m.side for m in some} == set(mutants.SIDES)
    assert _drawn(EVERY, 1.0, 0) == EVERY


@pytest.mark.parametrize(("option", "value"), [("--share", "0"), ("--share", "1.1"), ("--share", "nan"),
                                               ("--seed", "-1")])
def test_a_share_or_a_seed_out_of_range_is_refused(option, value, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["mutate", "--layer", "Affine", option, value])
    assert stopped.value.code == 2 and f"{option[2:]} is " in capsys.readouterr().err


def test_kill_rates_stand_by_kind_of_mistake(capsys):
    from rich.console import Console

    summary = Summary(True, {EVERY[2].key: "same"}, [])
    for mutant, kind in zip(EVERY[:3], (KILLED, SURVIVED, SURVIVED), strict=True):
        summary.add(mutant, Verdict(kind))
    rows = summary.to_json()["families"]
    assert sum(row["mutants"] for row in rows.values()) == 3
    assert [sum(row[name] for row in rows.values()) for name in ("killed", "same function", "unexplained")] == [1, 1, 1]
    summary.print(Console(width=200))
    assert "kill rate by kind of mistake" in capsys.readouterr().out


@pytest.mark.parametrize(("operator", "after"), [
    ("from a size on", "y = _large(np.exp(self.x))"), ("from the third call on", "y = _later(np.exp(self.x))"),
    ("from the tenth call on", "y = _tenth(np.exp(self.x))"), ("in evaluation", "y = _evaluated(np.exp(self.x))"),
    ("without recording", "y = _unrecorded(np.exp(self.x))"), ("in one layout", "y = _laid(np.exp(self.x))"),
    ("a part in 10,000 in float32", "y = _part_in_10000(np.exp(self.x))"),
    ("a part in a million in float32", "y = _part_in_a_million(np.exp(self.x))")])
def test_faults_that_begin_somewhere_are_planted_where_asked(operator, after):
    tree = ast.parse("y = np.exp(self.x)")
    assert [text for *_, name, _, text, _, _ in mutants.changes(tree, "", HIDDEN) if name == operator] == [after]
    assert not [m for m in EVERY if m.operator in HIDDEN]


def test_hidden_faults_are_planted_in_both_sides_and_every_kind():
    made = [m for side in mutants.SIDES for m in mutants.mutants(side, hidden=True) if m.operator in HIDDEN]
    assert len(made) > 600 and {m.operator for m in made} == set(HIDDEN)
    for operator in set(HIDDEN) - set(TORCH):
        assert {m.side for m in made if m.operator == operator} == set(mutants.SIDES)


def test_hidden_faults_are_wrong_there_alone():
    made = {name: make() for name, make in HELPERS.items()}
    small, large = np.ones((3, 64), np.float32), np.ones((65, 2), np.float32)
    assert (made["_large"]((small,))[0] == 1).all() and (made["_large"](large) > 1).all()
    for array in (small, torch.ones(2, 3)):
        def beside(x, array=array):
            return made["_laid"](array * 1)
        assert (beside(array) == 1).all() and (beside(array.T) > 1).all()
    assert (made["_unrecorded"](torch.ones(2)) == 1).all() and (made["_unrecorded"](small) == 1).all()
    with torch.no_grad():
        assert (made["_unrecorded"](torch.ones(2)) > 1).all()
    one, two = Owner(), Owner()
    assert [o.asks(made["_later"]) for o in (one, one, two, one)] == [0, 0, 0, 1]
    assert [one.asks(made["_tenth"]) for _ in range(11)] == [0] * 9 + [1] * 2
    for one.training in (True, False):
        assert one.asks(made["_evaluated"]) != one.training
    for name, size in (("_part_in_10000", 1e-4), ("_part_in_a_million", 1e-6)):
        found = made[name](small)
        assert found.dtype == np.float32 and abs(found - 1 - size).max() < 1e-7
        assert (made[name](small.astype(np.float64)) == 1).all()


class Owner:
    training = True

    def asks(self, helper):
        """Whether a value that a method has computed is another after the helper."""
        return bool(helper(np.ones(2)).max() > 1)


# --- what no layer is made of ---------------------------------------------------------------------------------

HERE = Path(__file__).resolve().parent


def other_mutant(where, operator, after):
    """A mutant of a module that no layer is made of."""
    side = "reference" if where.startswith("reference.") else "port"
    return next(m for m in mutants.mutants(side, True, OTHERS) if (m.key[0], m.operator, m.after) == (where, operator,
                                                                                                     after))


def test_there_are_mutants_of_what_no_layer_is_made_of_and_of_every_kind():
    made = [m for side in mutants.SIDES for m in mutants.mutants(side, True, OTHERS) if m.source.name in OTHERS]
    assert len(made) > 2000 and {m.source.name for m in made} == set(TESTS)
    assert {m.operator for m in made} >= set(beside.OPERATORS) and not {m.operator for m in made} & set(HIDDEN)
    plain = [m for side in mutants.SIDES for m in mutants.mutants(side, False, OTHERS) if m.source.name in OTHERS]
    assert 1000 < len(plain) < len(made) and not {m.operator for m in plain} & set(beside.OPERATORS)
    assert not [m for m in EVERY if m.source.name in OTHERS]


def test_every_test_that_judges_is_there():
    for tests in TESTS.values():
        for test in tests:
            file, _, name = test.partition("::")
            assert not name or f"def {name}(" in (HERE / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize(("where", "operator", "after"), [
    ("reference.batches:batches", "another order from a thousand on", "order = _disordered(rng.permutation(size))"),
    ("reference.batches:batches", "arithmetic",
     "return [order[start:start - batch_size] for start in range(0, size, batch_size)]"),
])
def test_tests_judge_them_in_a_process_of_their_own(where, operator, after):
    mutant = other_mutant(where, operator, after)
    tests = [test for test in TESTS["reference.batches"] if test.startswith("test_plain")]
    before = dict(sys.modules)
    with mutants.planted(mutant):
        assert "one_permutation_cut" in apart(lambda: failed(tests))
    assert apart(lambda: failed(tests)) == ""
    assert {name: sys.modules[name] for name in before} == before


class Asking:
    def asks(self, fault, x):
        return fault(x)

    def beside(self, fault, x, around):
        assert around is not None  # a fault of a layout looks at the arrays of whoever asks it
        return fault(x)


def test_faults_beside_layers_begin_where_they_say_and_say_whether_they_met_anything():
    made = {name: make() for name, (_, make) in beside.FAULTS.items()}
    one, long = Asking(), list(range(1001))
    large = made["another order from a thousand on"]
    assert one.asks(large, 3) == 3 and not large.met
    assert one.asks(large, long[:-1]) == long[:-1] and large.met and one.asks(large, long) == long[::-1]
    assert one.asks(large, "a" + "b" * 1000)[-1] == "a" and one.asks(large, torch.arange(1001))[0] == 1000
    later = made["another order from the third call on"]
    assert [one.asks(later, "ab") for _ in range(4)] == ["ab", "ab", "ba", "ba"] and Asking().asks(later, "ab") == "ab"
    number = made["another number from the third call on"]
    assert [one.asks(number, x) for x in (1, 1.0, 1, 1.0, True, "a")] == [1, 1.0, 2, 1.01, True, "a"]
    rounded = made["rounded to float32"]
    assert one.asks(rounded, np.array([1 / 3]))[0] == np.float32(1 / 3) and one.asks(rounded, 1 / 3) == 1 / 3
    near = made["off by a part in a million in float32"]
    assert 0 < one.asks(near, np.ones(1, np.float32))[0] - 1 < 2e-6 and one.asks(near, np.ones(1))[0] == 1
    laid, square = made["another order in one layout"], np.ones((3, 3))
    assert one.beside(laid, "ab", 3) == "ab" and not laid.met
    assert one.beside(laid, "ab", square) == "ab" and laid.met and one.beside(laid, "ab", square[:, :2]) == "ba"


def test_a_process_apart_that_does_not_end_in_order_says_how():
    assert apart(lambda: "said") == "said"
    assert apart(lambda: 1 / 0) == "ZeroDivisionError: division by zero"
    assert apart(lambda: os.kill(os.getpid(), 9)) == "ended with -9"


@pytest.mark.parametrize(("text", "words"), [
    (None, "expected a Python file with TESTS and failed"), ("TESTS = {}", "has no attribute 'failed'"),
    ("1 / 0", "ZeroDivisionError"),
    ("TESTS = {'reference.nothing': ()}\ndef failed(tests): return ''", "names the module 'reference.nothing'"),
], ids=["missing", "half", "broken", "unknown"])
def test_a_file_of_tests_that_is_none_is_refused(tmp_path, text, words):
    file = tmp_path / "judges.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=words):
        judges(str(file))
