"""How the audit does on files of somebody who had not read it: ``python -m parity_tests.audit_strangers``.

``table.json`` says of each file in ``faults/`` what is wrong with it, in one sentence, and by ``told``, a pattern, what
a reader took for its cause in what the audit said; null where nothing fitted. The files in ``right/`` are right.
"""

import argparse
import json
import re
import statistics
from collections import Counter
from pathlib import Path

from parity.auditing import audit_file
from parity.auditing.answers import RIGHT

HERE = Path(__file__).parent


def said(result):
    """The verdict, in a word of the table."""
    if result.skipped:
        return "not tried"
    if result.verdict == RIGHT or result.ok:
        return "right, warned" if any(f.severity == "warning" for f in result.findings) else "right"
    return "wrong" if result.errors else "not judged"


def audited(row, times):
    """The results of a file by name; the seconds of each go into ``times``."""
    path = HERE / row["file"]
    results = audit_file(path, autograd=False, root=path.parent).results
    times += [r.seconds for r in results if not r.skipped]
    return {r.name: r for r in results}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose name has it")
    only = parser.parse_args().only
    table = json.loads((HERE / "table.json").read_text())
    count, told, wrong, times = Counter(), 0, 0, []
    for row in table["faults"]:
        if only not in row["file"]:
            continue
        results = audited(row, times)
        name = next((n for n in results if n.lower().startswith(row["layer"].lower())), None)
        word = "not tried" if name is None else said(results[name])
        count[row["kind"], word] += 1
        if row["kind"] == "gradient" and word == "wrong":
            wrong += 1
            told += bool(row["told"] and re.search(row["told"], "\n".join(results[name].lines())))
        if word != "wrong":
            print(f"{row['file']}, {row['layer']} ({row['kind']}: {row['cause']}): {word}", flush=True)
    right = Counter()
    for row in table["right"]:
        if only not in row["file"]:
            continue
        results = audited(row, times)
        right.update(map(said, results.values()))
        for name, result in results.items():
            if said(result) in ("wrong", "not judged"):
                print(f"{row['file']}, {name}, which is right:", *result.lines(), sep="\n  ", flush=True)
        if not results:
            print(f"{row['file']}: nothing was recognised", flush=True)
    for kind in ("gradient", "forward", "manners"):
        print(f"{kind} wrong:", ", ".join(f"{n} said {w}" for (k, w), n in count.most_common() if k == kind))
    print(f"causes that fit, of the gradients said wrong: {told} of {wrong}")
    print("layers of right files:", ", ".join(f"{n} said {w}" for w, n in right.most_common()))
    print(f"seconds an audit: median {statistics.median(times):.2f}, longest {max(times):.1f}")


if __name__ == "__main__":
    main()
