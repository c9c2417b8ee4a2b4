"""Models for other runtimes: the encoder and the decoding step, for any batch size and source length.

A model that answers is a loop in which each step's id follows from the logits before it. So two functions of
tensors alone leave Python, and the loop, greedy or not, is the user's:

- ``encoder(xs, mask) -> source, h, c`` reads ``xs`` ``(N, T)``, int64, with ``mask`` ``(N, T)``, true where it is
  valid. ``source`` is what every step reads: the states ``(N, T, H)``, or without attention the last ``(N, H)``;
  ``h``, ``c`` ``(N, H)`` are the state from which the first step starts.
- ``step(ids, source, mask, h, c) -> logits, h, c`` takes the last id of each answer, ``ids`` ``(N,)``, int64, and gives
  logits ``(N, V)`` of the next one, and the next state.
"""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .seq2seq import Seq2seq


class Exported(NamedTuple):
    """What ``export_model`` gives: two of ``torch.export``'s programs; ``.module()`` of each is called as above."""

    encoder: ExportedProgram
    step: ExportedProgram


class _Part(nn.Module):
    def __init__(self, model: Seq2seq) -> None:
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder
        self.training = False  # which no layer of a model asks for


class _Encoder(_Part):
    def forward(self, xs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        source = self.encoder(xs, mask)
        h = self.decoder._first(source, mask).clone()  # without attention the two are one tensor
        return source, h, torch.zeros_like(h)


class _Step(_Part):
    def forward(
        self, ids: Tensor, source: Tensor, mask: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        logits, (h_next, c_next) = self.decoder._decode(ids[:, None], (h, c), source, mask)
        return logits[:, 0], h_next, c_next


def export_model(model: Seq2seq) -> Exported:
    """A model's encoder and decoding step as exported programs, on the model's device, without gradients.

    Args:
        model: ``Seq2seq``, ``PeekySeq2seq`` or ``AttentionSeq2seq``; it stays as it is.

    Returns:
        The two programs, as this module describes them, for every batch size and source length.

    Raises:
        TypeError: another model.
    """
    with torch.no_grad():
        return Exported(*(torch.export.export(module, given, dynamic_shapes=shapes)
                          for module, given, shapes in _parts("export_model", model)))


def save_onnx(model: Seq2seq, folder: str | os.PathLike[str]) -> None:
    """Writes ``encoder.onnx`` and ``step.onnx``, weights within: ONNX for every batch size and source length.

    Inputs and outputs have the names, order and shapes that this module describes (and ``step`` gives ``h_next`` and
    ``c_next``). Each file is written atomically, and none before both are made.

    Args:
        model: as for ``export_model``.
        folder: directory that holds the files; made where it is not there.

    Raises:
        ImportError: ``onnx`` or ``onnxscript`` is missing.
        OSError: a file cannot be written.
        TypeError: another model.
    """
    from reference.data import write_atomically

    outputs = {"encoder": ("source", "h", "c"), "step": ("logits", "h_next", "c_next")}
    files = {}
    with torch.no_grad(), warnings.catch_warnings():
        # torch's, about torch, and about an axis name that several inputs share
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name")
        for (name, names), (module, given, shapes) in zip(outputs.items(), _parts("save_onnx", model), strict=True):
            made = torch.onnx.export(module, given, dynamo=True, dynamic_shapes=shapes, output_names=names,
                                     verbose=False)
            assert made is not None
            files[f"{name}.onnx"] = made.model_proto.SerializeToString()
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(Path(folder) / name, data)


def _parts(where: str, model: Seq2seq) -> list[tuple[nn.Module, tuple[Tensor, ...], tuple[Any, ...]]]:
    """Encoder and step: each module, arguments of it, and which of their axes are open."""
    if not isinstance(model, Seq2seq):
        raise TypeError(f"{where}: model is a {type(model).__name__}, expected one of torch_port's Seq2seq models")
    device = next(model.parameters()).device
    batch, whole = {0: Dim("batch")}, {0: Dim("batch"), 1: Dim("length")}
    # sizes that differ, and not from 1 alone: what is 0 or 1 counts as a constant
    xs = torch.zeros(2, 3, dtype=torch.int64, device=device)
    mask = torch.ones(2, 3, dtype=torch.bool, device=device)
    encoder = _Encoder(model)
    source, h, c = encoder(xs, mask)
    states = whole if source.ndim == 3 else batch
    return [(encoder, (xs, mask), (whole, whole)),
            (_Step(model), (xs[:, 0], source, mask, h, c), (batch, states, whole, batch, batch))]
