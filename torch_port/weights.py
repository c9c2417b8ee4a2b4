"""Weights in files, in the formats of ``reference.weights``: names, order and layout are the reference's.

The formats, and the one reader of pickles, live there: this module stands at the border of the two
packages, as ``train`` does. No layer uses it, and ``reference`` is loaded when a function is called.
"""

import os

import numpy as np

from ._twin import Twin


def save_params(module: Twin, path: str | os.PathLike[str]) -> None:
    """Writes the parameters of a module, atomically.

    Args:
        module: any twin.
        path: file to write; its ending, ``.safetensors`` or ``.pkl``, is the format. bfloat16 is written as
            float32, exactly, because NumPy lacks it; a ``.pkl`` file keeps float16, as the textbook's does.

    Raises:
        OSError: the file cannot be written.
        ValueError: another ending, or a value beyond float16 for ``.pkl``.
    """
    from reference.weights import write_params

    write_params(path, dict(zip(module.all_slots(), module.reference_params(), strict=True)))


def load_params(module: Twin, path: str | os.PathLike[str]) -> None:
    """Reads the parameters of a module; all of them or, on error, none.

    Args:
        module: any twin.
        path: file to read; its ending, ``.safetensors`` or ``.pkl``, is the format.

    Raises:
        OSError: the file cannot be read.
        ValueError: another ending, a file that is not what its ending says, names, number or shapes of
            other parameters, or values that the dtype of the module would round.
    """
    from reference.weights import read_params

    before = module.reference_params()
    values = read_params(path, dict(zip(module.all_slots(), before, strict=True)))
    module.load_reference_params(values)
    # only bfloat16, which read_params knows as float32, can still round here
    after = module.reference_params()
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(after, values, strict=True)):
        module.load_reference_params(before)
        raise ValueError(f"{path}: holds values that the dtype of {type(module).__name__} would round; "
                         "load them into a module of their dtype, then use .to")
