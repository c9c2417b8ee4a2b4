"""How the audit does on layers as people write them: ``python -m parity_tests.audit_styles --seeds 40 --part 1/8``.

Prints what went wrong: a right layer that is not right, or has no list of judged gradients; a fault that is right.
"""

import argparse
import statistics
import time

from . import LAYERS, judge, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="of each right layer (default 1)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every Nth layer, from the Ith (default 1/1)")
    parser.add_argument("--no-faults", action="store_true", help="right layers only")
    args = parser.parse_args()
    part, parts = map(int, args.part.split("/"))
    names = list(LAYERS)[part - 1 :: parts]
    alarms = blind = missed = faults = right = 0
    times = []
    for name in names:
        for seed in range(args.first, args.first + args.seeds):
            started = time.monotonic()
            result = judge(LAYERS[name][0], seed)
            times.append(time.monotonic() - started)
            right += 1
            if not result.ok or result.skipped:
                alarms += 1
                print(f"{name}, seed {seed}: called {result.verdict}", *result.lines(), sep="\n  ", flush=True)
            elif not result.judged:
                blind += 1
                print(f"{name}, seed {seed}: right, and nothing judged", flush=True)
        for number in range(0 if args.no_faults else len(LAYERS[name][1])):
            faults += 1
            result = judge(wrong(name, number))
            if result.ok or result.skipped:
                missed += 1
                print(f"{name}, fault {number} ({LAYERS[name][1][number][1][-60:]!r}): {result.verdict}",
                      *result.lines(), sep="\n  ", flush=True)
    print(f"{len(names)} layers: {right} audits of right ones, {alarms} called wrong, {blind} right without a gradient;"
          f" {faults} faults, {missed} missed; median {statistics.median(times):.2f} s, longest {max(times):.2f} s")
    return bool(alarms or blind or missed)


if __name__ == "__main__":
    raise SystemExit(main())
