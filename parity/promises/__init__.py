"""What a layer owes its users beside right numbers, as plain functions over a catalogue entry.

Each ``check_*`` takes a spec and raises ``AssertionError`` with a sentence where the promise is
broken. ``CHECKS`` lists them by the spec's side, and side; they serve the tests and the mutants.
"""

from .common import SIZES, standard
from .optimizers import (
    check_clip,
    check_clip_port,
    check_kept_moments,
    check_long_run_port,
    check_long_run_reference,
    check_many,
    check_many_port,
    check_optimizer,
    check_refusals,
)
from .port import PORT
from .reference import REFERENCE

__all__ = ["CHECKS", "PORT", "REFERENCE", "SIZES", "standard"]

CHECKS = {
    "textbook": {"reference": REFERENCE, "port": PORT},
    "optimizer": {"reference": {"moments": check_kept_moments, "long run": check_long_run_reference},
                  "port": {"torch optimizer": check_optimizer, "refusals": check_refusals,
                           "long run": check_long_run_port}},
    "clip": {"reference": {"clipping": check_clip, "many": check_many},
             "port": {"clipping": check_clip_port, "many": check_many_port}},
}
