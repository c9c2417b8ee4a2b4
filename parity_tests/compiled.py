"""Every layer, and the model with attention, compiled by inductor: ``python -m parity_tests.compiled [NAME ...]``.

Whole graphs with open batch sizes, outputs and gradients against those that are not compiled: a line each, and exit
code 1 where one fails. Too long for the tests, which take the backend aot_eager, and inductor for one layer.
"""

import sys
import time

import torch

from parity.catalogue import CATALOGUE

from .test_citizen import WHOLE, held_when_compiled


def main(names):
    failed = 0
    for spec in [CATALOGUE[name] for name in names] or WHOLE:
        start = time.monotonic()
        try:
            held_when_compiled(spec, "inductor")
            said = "the same"
        except Exception as error:
            failed, said = failed + 1, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(f"{spec.name:22}{said}, {time.monotonic() - start:.1f} s", flush=True)
    print(f"torch {torch.__version__}, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
