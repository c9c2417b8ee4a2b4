"""``parity list``."""


def arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("--layer", default="*", metavar="GLOB", help="layers to show (all)")


def run(args):
    """Prints the catalogue and the lanes."""
    from rich.console import Console
    from rich.table import Table

    from ..catalogue import CATALOGUE
    from ..lanes import LANES, select

    def text(group):
        return ", ".join(f"{name} ({axes})" if axes else name for name, axes in group.items())

    console = Console()
    layers = Table(title="catalogue", title_justify="left", show_lines=False)
    for column in ("layer", "inputs", "parameters", "outputs", "options"):
        layers.add_column(column)
    for spec in select(CATALOGUE, args.layer):
        params = text(spec.params) or (f"sizes {spec.sizes}" if spec.sizes else "")
        options = [*spec.options, *spec.attributes, *(f"[{name}]" for name in spec.optional)]
        layers.add_row(spec.name, text(spec.inputs), params, text(spec.outputs), ", ".join(options).replace("[", "\\["))
    console.print(layers)
    lanes = Table(title="lanes", title_justify="left")
    for column in ("lane", "unit roundoff", "oracle", "here"):
        lanes.add_column(column)
    for lane in LANES.values():
        reason = lane.untested()
        lanes.add_row(lane.name, f"{lane.unit_roundoff:.3g}", str(lane.oracle),
                      f"UNTESTED, {reason}" if reason else lane.device_name())
    console.print(lanes)
    return 0
