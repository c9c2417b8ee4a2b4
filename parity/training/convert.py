"""``parity convert IN OUT``: weights of a seq2seq model from ``.pkl`` to ``.safetensors`` and back."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.trainer import MODELS
from reference.weights import format_of, read_arrays, write_params

from ..errors import UsageError


def arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("source", metavar="IN", help="file to read, .safetensors or .pkl")
    parser.add_argument("target", metavar="OUT", help="file to write; .pkl rounds to float16")


def run(args: Namespace) -> int:
    """Converts, tells which model it is, and gives the exit code: 1 for a file that is refused."""
    from ..judge.report import check_writable

    for path in (args.source, args.target):
        try:
            format_of(path)
        except ValueError as error:
            raise UsageError(str(error)) from None
    check_writable(args.target)
    try:
        model, params = named(args.source)
        write_params(args.target, params)
    except ValueError as error:
        print(f"parity convert: {error}", file=sys.stderr)
        return 1
    _, written = named(args.target)
    rounded = max(float(np.abs(written[name] - params[name]).max()) for name in params)
    dtypes = ", ".join(sorted({str(array.dtype) for array in params.values()}))
    exact = f"rounded by up to {rounded:.1e}" if rounded else "bit for bit"
    print(f"{args.target}: {model} model, {dtypes}, {exact}")
    return 0


def named(path: str | Path) -> tuple[str, dict[str, NDArray[Any]]]:
    """The parameters of a seq2seq model's file under their names, and which model has such shapes.

    Args:
        path: ``.safetensors`` or ``.pkl`` file.

    Returns:
        ``(name, params)``: ``"attention"``, ``"peeky"`` or ``"plain"``, and a dict in the order of the model.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what its ending says, or holds the parameters of no such model.
    """
    arrays, names = read_arrays(path), MODELS["plain"](1, 1, 1).param_names  # the other models have the same
    if isinstance(arrays, list) and len(arrays) == len(names):
        arrays = dict(zip(names, arrays, strict=True))
    if not isinstance(arrays, dict) or set(arrays) != set(names):
        found = f": {', '.join(sorted(arrays))}" if isinstance(arrays, dict) else ""
        raise ValueError(f"{path}: holds {len(arrays)} arrays{found}, expected the {len(names)} of a seq2seq "
                         f"model: {', '.join(names)}")
    params = {name: arrays[name] for name in names}
    shapes = [array.shape for array in params.values()]
    embed, Wh = shapes[0], shapes[2]
    # only sizes that the file has the numbers for are tried: a header alone must not cost memory
    if len(embed) == len(Wh) == 2 and Wh[1] == 4 * Wh[0] and min(embed + Wh) > 0:
        for model, kind in MODELS.items():
            if shapes == [p.shape for p in kind(embed[0], embed[1], Wh[0]).params]:
                return model, params
    text = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
    raise ValueError(f"{path}: {text} fit none of the models {', '.join(MODELS)}")
