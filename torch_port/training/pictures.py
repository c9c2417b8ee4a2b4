"""Pictures of a run, as the bytes of PNG files; matplotlib is loaded when one is drawn."""

import io
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def curve(records: list[dict[str, Any]], every: int) -> bytes:
    """Loss and accuracy of a log.

    Args:
        records: its lines.
        every: number of steps that a loss is the mean of.
    """
    from matplotlib.figure import Figure

    steps, epochs = ([r for r in records if r["event"] == event] for event in ("step", "epoch"))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([r["step"] for r in steps], [r["loss"] for r in steps], ".-", linewidth=1, markersize=3)
    left.set(xlabel="step", ylabel=f"loss, mean of {every} steps, nats", yscale="log")
    for key, label, style in (("accuracy", "all", "o-"), ("accuracy_unseen", "unseen in training", "s--")):
        points = [(r["epoch"], r[key]) for r in epochs if r[key] is not None]
        right.plot([epoch for epoch, _ in points], [share for _, share in points], style, label=label)
    right.set(xlabel="epoch", ylabel="exact match, validation", ylim=(-0.02, 1.02))
    right.set_xticks([r["epoch"] for r in epochs])
    right.legend()
    return png(figure)


def attention_maps(examples: list[tuple[str, str, Array]]) -> bytes:
    """Heat maps of attention, question along and answer down.

    Args:
        examples: question, the model's answer, and weights ``(len(answer), len(question))`` of each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6 * math.ceil(len(examples) / 2)), layout="constrained")
    axes = list(figure.subplots(math.ceil(len(examples) / 2), 2, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    for ax, (question, answer, weights) in zip(axes, examples, strict=False):
        ax.set_axis_on()
        ax.pcolormesh(weights, cmap="Greys", vmin=0, vmax=1)
        ax.set_xticks(np.arange(len(question)) + 0.5, list(question))
        ax.set_yticks(np.arange(len(answer)) + 0.5, list(answer))
        ax.invert_yaxis()
        ax.tick_params(length=0)
    return png(figure)


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
