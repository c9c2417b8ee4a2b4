"""The largest share of the budget as a function of each size, as a picture."""

import io
import math
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..judge.report import check_writable

if TYPE_CHECKING:
    from ..engine import Outcome

KINDS = ("png", "svg")
COLUMNS = 3  # panels beside one another
TOP = 2.0  # shares above it are drawn there
HUES = 11  # colours before the next style of line
STYLES = ("-", "--", ":")
LEADING = "lead"  # as an id calls the axes of ``...``


def check_picture(path: str) -> None:
    """Refuses a path that no picture can be written to, before the work that it should show.

    Raises:
        UsageError: says what is in the way, or that matplotlib is.
    """
    if _kind(path) not in KINDS:
        raise UsageError(f"{path}: expected a file that ends in {' or '.join(f'.{kind}' for kind in KINDS)}")
    check_writable(path)
    try:
        import matplotlib  # noqa: F401  # whether it is there
    except ImportError:
        raise UsageError("--plot needs matplotlib: python -m pip install matplotlib") from None


def _kind(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


class Shares:
    """By axis, layer and size, to the nearest power of two, the largest share that any right result used."""

    def __init__(self) -> None:
        self.cases = 0
        self.largest: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))

    def add(self, outcome: "Outcome") -> None:
        """Takes in what came out of one case in one lane; without anything judged it counts for nothing."""
        share = max((share for share in outcome.shares.values() if share is not None), default=None)
        if share is None:
            return
        self.cases += 1
        for letter, sizes in _sizes(outcome.case_id).items():
            of = self.largest[letter][outcome.layer]
            for size in filter(None, sizes):
                place = round(math.log2(size))
                of[place] = max(of.get(place, 0.0), share)

    def write(self, path: str) -> None:
        """Draws the picture into a file, whole or not at all: a panel an axis, a line a layer, the limit at 1.

        Raises:
            OSError: it cannot be written.
        """
        from matplotlib.figure import Figure

        from reference.data import write_atomically

        letters = [letter for letter in self.largest if any(self.largest[letter].values())]
        rows = -(-len(letters) // COLUMNS) or 1
        layers = list(dict.fromkeys(layer for by_layer in self.largest.values() for layer in by_layer))
        figure = Figure(figsize=(4.4 * COLUMNS, 2.9 * rows + 0.35 + 0.2 * (len(layers) / 6)), layout="constrained")
        panels = list(figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat)
        for panel, letter in zip(panels, letters, strict=False):
            self._draw(panel, letter, layers)
        for panel in panels[len(letters):]:
            panel.set_axis_off()
        for row in range(rows):
            panels[row * COLUMNS].set_ylabel("largest share of the budget")
        figure.suptitle(f"largest share of the budget that a right result used, by the size of each axis "
                        f"({self.cases:,} cases; 1 would be a failure)")
        if letters:
            handles = {line.get_label(): line for panel in panels for line in panel.get_lines()}
            figure.legend([handles[layer] for layer in layers if layer in handles],
                          [layer for layer in layers if layer in handles], loc="outside lower center", ncols=6,
                          fontsize="small", frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=_kind(path), dpi=100)
        write_atomically(path, buffer.getvalue())

    def _draw(self, panel: Any, letter: str, layers: list[str]) -> None:
        from matplotlib import colormaps

        hues = colormaps["turbo"]
        for layer, of in self.largest[letter].items():
            number = layers.index(layer)
            places = sorted(of)
            panel.plot([2**place for place in places], [min(of[place], TOP) for place in places], marker="o",
                       markersize=2.5, linewidth=1, linestyle=STYLES[number // HUES % len(STYLES)], label=layer,
                       color=hues((number % HUES + 0.5) / HUES))
        panel.axhline(1, color="black", linewidth=1.2)
        last = max(place for of in self.largest[letter].values() for place in of)
        ticks = range(0, last + 1, 2 if last < 13 else 4)
        panel.set_xscale("log", base=2)
        panel.set_xticks([2**place for place in ticks], [f"{2**place:,}" for place in ticks])
        panel.set_xlim(2**-0.5, 2 ** (last + 0.5))
        panel.set_ylim(0, 1.1 if all(share <= 1 for of in self.largest[letter].values() for share in of.values())
                       else 1.05 * TOP)
        name = "leading axes" if letter == LEADING else letter
        panel.set_title(name, fontsize="medium")
        panel.set_xlabel(f"size of {name}", fontsize="small")
        panel.tick_params(labelsize="small")
        panel.grid(alpha=0.25)


def _sizes(case_id: str) -> dict[str, list[int]]:
    """The sizes in a case's id, by axis; of ``...`` those of its axes."""
    found = {}
    for pair in filter(None, case_id.split(":")[2].split(",")):
        name, _, text = pair.partition("=")
        found[name] = [int(size) for size in text.split("x") if size.isdecimal()]
    return found
