"""What a layer owes its users beside right numbers, as plain functions over a catalogue entry.

Each ``check_*`` takes a spec and raises ``AssertionError`` with a sentence where the promise is
broken; what both sides promise takes the side first. ``CHECKS`` lists them by the spec's side, and
side; they serve the tests and the mutants.
"""

from collections.abc import Callable
from functools import partial

from ..spec.spec import Spec
from . import common
from .both import BOTH
from .common import SIZES, standard
from .long_runs import check_clipping, check_closed_form, check_layouts, check_long_run, check_many
from .optimizers import (
    check_clip_port,
    check_iterables,
    check_kept_moments,
    check_optimizer,
    check_refusals,
    check_schedule,
)
from .port import PORT
from .reference import REFERENCE
from .uneven import check_uneven

__all__ = ["CHECKS", "PORT", "REFERENCE", "SIZES", "standard"]

Shared = dict[str, Callable[[common.Side, Spec], None]]
Own = dict[str, Callable[[Spec], None]]
# by the spec's side: what both sides promise, what the reference does, and what the port
_PROMISES: dict[str, tuple[Shared, Own, Own]] = {
    "textbook": (BOTH, REFERENCE, PORT),
    "optimizer": ({"long run": check_long_run, "closed form": check_closed_form, "layouts": check_layouts,
                   "uneven": check_uneven},
                  {"moments": check_kept_moments, "iterables": check_iterables},
                  {"torch optimizer": check_optimizer, "refusals": check_refusals, "schedule": check_schedule}),
    "clip": ({"clipping": check_clipping, "many": check_many, "layouts": check_layouts},
             {"iterables": check_iterables}, {"iterables": check_clip_port}),
}
CHECKS: dict[str, dict[str, Own]] = {
    kind: {side.name: {name: partial(check, side) for name, check in both.items()} | own
           for side, own in ((common.REFERENCE, reference), (common.PORT, port))}
    for kind, (both, reference, port) in _PROMISES.items()}
