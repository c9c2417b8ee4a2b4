"""Measures the audit: ``python -m parity_tests.audit_faults``.

Audits every planted fault and every right layer, prints the confusion table, and writes it as JSON.
"""

import argparse
import collections
import json
import linecache
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor

from parity.auditing import audit
from parity.auditing.answers import BACKWARD, BOTH, FAILED, FORWARD, PROTOCOL, RIGHT, STUB

from .faults import FAULTS
from .right import RIGHTS

NAMES = {"F": FORWARD, "B": BACKWARD, "FB": BOTH, "P": PROTOCOL, "zeros": STUB, "not run": FAILED, "right": RIGHT}
SHORT = {verdict: short for short, verdict in NAMES.items()}


def load(source, name):
    """A module made from a text, whose lines tracebacks and diagnoses can show."""
    module = types.ModuleType(name)
    module.__file__ = f"<{name}>"
    linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
    sys.modules[name] = module
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def judge(fault, seed=0):
    """What the audit says of a fault: verdict, kinds of its findings, and the report's text."""
    module = load(fault.source(), "planted")
    report = audit(getattr(module, fault.layer), like=fault.layer, seed=seed, autograd=False, strict=True)
    (result,) = report.results
    kinds = [f.kind for f in result.findings if f.severity == "error"]
    return SHORT.get(result.verdict, result.verdict), kinds, str(report), result.seconds


def said_rightly(fault, verdict):
    """Whether the verdict is the right one.

    A broken protocol beside a wrong gradient has both verdicts: changing an input in place, for one,
    makes the gradient wrong too. A backward that gives zeros alone is not to be told from one that nobody wrote.
    """
    if fault.verdict == "P":
        return verdict in ("P", "B", "F", "FB")
    if fault.verdict == "B" and verdict == "zeros":
        return True
    return verdict == fault.verdict


def explained(fault, kinds):
    """Whether a diagnosis is among those that are right; a fault without a known one wants none of them."""
    wanted = {*fault.kinds, *["stub"] * ("dropped" in fault.kinds)}
    if not wanted:
        return None
    return bool(wanted & set(kinds)) or ("1/n" in wanted and any("n" in k for k in kinds if k.startswith("1/")))


def measure_faults(faults, jobs=2):
    """The row of every fault."""
    with ProcessPoolExecutor(jobs) as pool:
        for fault, (verdict, kinds, text, seconds) in zip(faults, pool.map(judge, faults), strict=True):
            yield {"id": fault.id, "layer": fault.layer, "expected": fault.verdict, "verdict": verdict,
                   "found": verdict != "right", "verdict right": said_rightly(fault, verdict), "kinds": kinds,
                   "wanted": list(fault.kinds), "diagnosis right": explained(fault, kinds), "seconds": seconds,
                   "text": text}


def judge_right(pair):
    """Findings of one right layer under one seed."""
    name, seed = pair
    like, make = RIGHTS[name]
    report = audit(make, like=like, seed=seed, autograd=False)
    return name, seed, str(report) if report.findings or not report.audited else ""


def main():
    """Measures, prints, writes; exit code 1 where a fault was missed or a right layer blamed."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.audit_faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="of every right layer (default 50)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--verbose", action="store_true", help="show the report of every fault that was not explained")
    parser.add_argument("--layer", default="", help="faults of this layer only")
    args = parser.parse_args()
    started = time.monotonic()
    rows = list(measure_faults([f for f in FAULTS if args.layer in ("", f.layer)], args.jobs))
    table = collections.Counter((r["expected"], r["verdict"]) for r in rows)
    print("verdict       expected, by column what was said")
    columns = [*NAMES]
    print(f"{'':10}" + "".join(f"{c:>8}" for c in columns))
    for expected in columns[:4]:
        print(f"{expected:10}" + "".join(f"{table[expected, c]:8}" for c in columns))
    asked = [r for r in rows if r["diagnosis right"] is not None]
    for r in rows:
        if not r["found"] or not r["verdict right"] or r["diagnosis right"] is False:
            print("missed" if not r["found"] else "verdict" if not r["verdict right"] else "diagnosis", r["id"],
                  r["expected"], r["verdict"], r["kinds"], r["wanted"], round(r["seconds"], 1))
            if args.verbose:
                print(r["text"])
    kinds = collections.defaultdict(lambda: [0, 0])
    for r in asked:
        kinds[r["wanted"][0]][0] += 1
        kinds[r["wanted"][0]][1] += r["diagnosis right"]
    print("diagnosis wanted: faults, explained so")
    for kind, (count, right) in sorted(kinds.items()):
        print(f"  {kind:18} {count:4} {right:4}")
    good = sum(r["diagnosis right"] for r in asked)
    found, verdicts = sum(r["found"] for r in rows), sum(r["verdict right"] for r in rows)
    print(f"{len(rows)} faults, {found} found, {verdicts} with the right verdict; {good} of {len(asked)} explained "
          f"as known ({good / max(len(asked), 1):.1%}), {time.monotonic() - started:.0f} s", flush=True)
    pairs = [(name, seed) for name in RIGHTS for seed in range(args.seeds)]
    blamed = []
    with ProcessPoolExecutor(args.jobs) as pool:
        for name, seed, text in pool.map(judge_right, pairs, chunksize=5):
            if text:
                blamed.append((name, seed))
                print(f"blamed: {name}, seed {seed}\n{text}" if len(blamed) <= 20 else "", end="\n")
    print(f"{len(RIGHTS)} right layers, {len(pairs)} audits, {len(blamed)} with a finding, "
          f"{time.monotonic() - started:.0f} s")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"faults": rows, "right": len(RIGHTS), "audits": len(pairs), "blamed": blamed}, file, indent=1)
    return int(bool(blamed) or not all(r["found"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
