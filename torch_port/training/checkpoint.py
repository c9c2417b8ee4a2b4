"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file."""

import io
import json
import os
from typing import Any

import numpy as np
import torch

from .settings import NAMES, UsageError

FORMAT = "torch_port checkpoint 1"
LAST, BEST = "last.pt", "best.pt"
FIELDS = {  # of a checkpoint, with the types that its values may have
    "format": str, "settings": dict, "characters": str, "data": str, "model": dict, "optimizer": dict,
    "epoch": int, "batch": int, "step": int, "seconds": float, "best": dict, "records": str, "losses": list,
    "shuffle": str, "random": dict, "versions": dict,
}


def pack(state: dict[str, Any]) -> bytes:
    """The bytes of a checkpoint file."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    return buffer.getvalue()


def unpack(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint; nothing in it is run (``weights_only``).

    Raises:
        OSError: the file cannot be read.
        UsageError: it is no checkpoint of ``parity-train``, or not a whole one.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file fails in many ways
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not a whole checkpoint, {len(data):,} bytes ({text})") from None
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise UsageError(f"{path}: not a checkpoint of parity-train: format {found!r}, expected {FORMAT!r}")
    wrong = [name for name, kind in FIELDS.items() if not isinstance(state.get(name), kind)]
    if wrong or set(state["settings"]) != set(NAMES):
        raise UsageError(f"{path}: not a checkpoint of this version: "
                         f"{', '.join(wrong) or 'settings'} not as expected")
    return dict(state)


def random_state() -> dict[str, Any]:
    """The state of every generator of torch's."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Puts the generators where they were; those of CUDA where their number is the same."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def shuffle_state(rng: np.random.Generator) -> str:
    """The state of NumPy's generator, as JSON: its integers are wider than a tensor's."""
    return json.dumps(rng.bit_generator.state)


def set_shuffle_state(rng: np.random.Generator, state: str) -> None:
    """The way back."""
    rng.bit_generator.state = json.loads(state)
