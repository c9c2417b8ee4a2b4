"""``parity lockstep``: both sides train on the same batches, and each step shows how far apart they are."""

import io
import json
import math
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import reference
from reference.batches import batches
from reference.data import load_data, write_atomically, write_dates
from reference.trainer import MODELS

SUMMARY = "train both sides on the same batches of dates and show, step by step, how far apart they get"
LIMIT = 1e-12  # float64: of the size of a loss or a parameter, for at least 200 steps
FACTOR = 8  # the budget's factor: how much larger than the reference's own rounding a distance may be
EXPLANATION = (
    "Why it grows: both sides round each result, in another order of operations, so the gradients differ by about "
    "one unit roundoff of their largest summands. Adam divides by sqrt(v): an element whose gradient is mostly such "
    "rounding moves by up to lr all the same, in either direction. From there on the two runs compute different "
    "gradients honestly. The column 'rounding' is how far the reference alone, in {dtype}, is from the reference "
    "in float64 on the same batches: the two runs differ by that much because of rounding, and by no more."
)


@dataclass(frozen=True)
class Row:
    """One step: losses before the update, largest distances after it, relative to size.

    Attributes:
        step: from 1.
        loss_reference, loss_port: in nats.
        loss_distance: between the two, relative to the reference's.
        distance: largest, over the parameters, of max |port - reference| / max |reference|.
        parameter: dotted name of the one with that distance.
        rounding: the same of the reference in this dtype against the reference in float64; None for float64.
    """

    step: int
    loss_reference: float
    loss_port: float
    loss_distance: float
    distance: float
    parameter: str
    rounding: float | None


@dataclass(frozen=True)
class Report:
    """A lockstep run.

    Attributes:
        settings: dict of the arguments and versions.
        rows: list of ``Row``.
    """

    settings: dict
    rows: list

    @property
    def worst(self):
        """The row with the largest distance, of loss or parameters."""
        return max(self.rows, key=lambda row: max(row.distance, row.loss_distance))

    @property
    def ok(self):
        """Whether every step is within ``limit``."""
        return all(max(row.distance, row.loss_distance) <= limit
                   for row, limit in zip(self.rows, self.limits, strict=True))

    @property
    def limits(self):
        """How far apart each step may be: 1e-12 in float64, else 8 times the reference's own rounding so far."""
        if self.settings["dtype"] == "float64":
            return [LIMIT] * len(self.rows)
        return list(FACTOR * np.maximum.accumulate([row.rounding for row in self.rows]))

    def to_json(self):
        """Settings and rows as JSON text."""
        return json.dumps({**self.settings, "ok": self.ok, "rows": [asdict(row) for row in self.rows]}, indent=1)

    def __str__(self):
        worst = self.worst
        text = (f"{'ok' if self.ok else 'NOT IN LOCKSTEP'}: {len(self.rows)} steps in {self.settings['dtype']}, "
                f"parameters within {worst.distance:.1e} of their size ({worst.parameter}, step {worst.step}), "
                f"losses within {max(row.loss_distance for row in self.rows):.1e}")
        if self.settings["dtype"] == "float64":
            return text
        return f"{text}\n{EXPLANATION.format(dtype=self.settings['dtype'])}"


class Diverged(Exception):
    """A loss that is not finite."""


def lockstep(model="attention", *, steps=200, dtype="float64", batch_size=32, hidden_size=64, wordvec_size=16,
             lr=0.001, max_grad=5.0, seed=0, on_row=None):
    """Trains a reference model and its twin from the same weights on the same batches of date data.

    A step is forward, backward, ``clip_grads`` and ``Adam``, on each side by its own code.

    Args:
        model: ``"attention"``, ``"peeky"`` or ``"plain"``.
        steps: number of steps, >= 1.
        dtype: ``"float64"`` or ``"float32"``, of both sides.
        batch_size, hidden_size, wordvec_size, lr, max_grad: as in training.
        seed: of data, weights and order of the batches.
        on_row: called with each ``Row`` as it comes; None for nothing.

    Returns:
        ``Report``.
    """
    import torch

    import torch_port

    x, t, vocabulary = dates(steps * batch_size, seed)
    kind, sizes = MODELS[model], (vocabulary, wordvec_size, hidden_size)
    sides = [Reference(kind(*sizes, dtype=dtype, rng=np.random.default_rng(seed)), lr, max_grad)]
    twin = getattr(torch_port, kind.__name__).from_reference(sides[0].model)
    optimizer = torch_port.Adam(twin.parameters(), lr=lr)
    if dtype != "float64":
        oracle = kind(*sizes, dtype=np.float64)
        for wide, narrow in zip(oracle.params, sides[0].model.params, strict=True):
            wide[...] = narrow
        sides.append(Reference(oracle, lr, max_grad))
    rows = []
    for step, batch in enumerate(batches(len(x), batch_size, np.random.default_rng(seed)), 1):
        losses = [side.step(x[batch], t[batch]) for side in sides]
        loss = twin(torch.from_numpy(x[batch]), torch.from_numpy(t[batch]))
        optimizer.zero_grad()
        loss.backward()
        torch_port.clip_grads(twin.parameters(), max_grad)
        optimizer.step()
        params = sides[0].model.params
        far, name = distance(twin.reference_params(), params, sides[0].model.param_names)
        rows.append(Row(step, losses[0], loss.item(), abs(loss.item() - losses[0]) / losses[0], far, name,
                        max(distance(params, side.model.params, side.model.param_names)[0],
                        ) if False else None))
    return Report({}, rows)
