"""``parity list``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("pairs", nargs="?", metavar="FILE",
                        help="Python file with pairs of your own, which is run (this project's own layers)")
    parser.add_argument("--layer", default="*", metavar="GLOB", help="layers to show (all)")


def run(args: Namespace) -> int:
    """Prints the catalogue and the lanes."""
    from ..cases.drawing import CASES, reach
    from ..cases.reach import CELLS, declared
    from ..judge.lanes import LANES, select
    from ..screen import console, show, table
    from ..spec.catalogue import Catalogue

    def text(group: Mapping[str, str]) -> str:
        return ", ".join(f"{name} ({axes})" if axes else name for name, axes in group.items())

    screen = console()
    columns = "layer", "inputs", "parameters", "outputs", "options"
    layers = table("catalogue", *columns, folded=columns[1:])
    for spec in select(Catalogue.of(args.pairs), args.layer):
        params = text(spec.params) or (f"sizes {spec.size_arguments}" if spec.size_arguments else "")
        options = [*spec.options, *spec.attributes, *(f"[{name}]" for name in spec.optional)]
        layers.add_row(spec.name, text(spec.inputs), params, text(spec.outputs), ", ".join(options).replace("[", "\\["))
    show(screen, layers)
    far = table(f"reach of {CASES} cases a layer and lane", *CELLS, "only in longer runs", folded=CELLS[1:])
    for spec in select(Catalogue.of(args.pairs), args.layer):
        later = ", ".join(f"{axis} {size:,}" for axis, size in reach(spec)[1].items())
        far.add_row(*declared(spec).cells(), later)
    show(screen, far)
    lanes = table("lanes", "lane", "unit roundoff", "oracle", "here", folded=("here",))
    for lane in LANES.values():
        reason = lane.untested()
        lanes.add_row(lane.name, f"{lane.unit_roundoff:.3g}", str(lane.oracle),
                      f"UNTESTED, {reason}" if reason else lane.device_name())
    show(screen, lanes)
    return 0
