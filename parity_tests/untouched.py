"""What a caller may see of a layer, a model or an optimizer: a context at whose end it is as it was."""

import contextlib
import sys

import numpy as np
import torch

from parity.promises.histories import _random_states, _settings
from parity.sides.objects import parts_of

PACKAGES = ("reference", "torch_port")


@contextlib.contextmanager
def untouched(owner, *, keeps=False, draws=False):
    """Holds that everything there is on an object, and of the process, stays what it was.

    Args:
        owner: a module, a layer of the reference, or anything with attributes.
        keeps: whether results may be kept aside: tensors and arrays that are no parameters and no buffers.
        draws: whether torch's random state may move.
    """
    before = seen(owner, keeps), states(draws)
    yield
    after = seen(owner, keeps), states(draws)
    for was, now in zip(before, after, strict=True):
        for name, value in was.items():
            assert value == now.get(name), f"{name} has changed"
    assert before[0].keys() == after[0].keys(), f"{before[0].keys() ^ after[0].keys()} came or went"


def states(draws):
    found = _settings() | _random_states() | {
        f"{name}.{key}": mark(vars(value)) if type(value).__module__.startswith(PACKAGES) else mark(value)
        for name, module in tuple(sys.modules.items()) if name.startswith(PACKAGES)
        for key, value in tuple(vars(module).items()) if not key.startswith("__") and not isinstance(value, type)}
    if draws:
        found.pop("torch's random state")
    return found


def seen(owner, keeps):
    """All that is on an object and its parts, by dotted names, as it can be compared."""
    parts = owner.named_modules() if isinstance(owner, torch.nn.Module) else parts_of(owner)
    return {f"{path}.{name}".lstrip("."): mark(value) for path, part in parts for name, value in vars(part).items()
            if not (keeps and is_result(value))}


def is_result(value):
    if isinstance(value, list):
        return all(map(is_result, value)) and not any(isinstance(one, torch.nn.Parameter) for one in value)
    return value is None or isinstance(value, (torch.Tensor, np.ndarray))


def mark(value):
    if isinstance(value, torch.Tensor):
        numbers = value.detach().cpu().contiguous().view(torch.uint8) if value.ndim else value.detach().reshape(1)
        grad = None if not value.is_leaf or value.grad is None else mark(value.grad)
        return id(value), numbers.numpy().tobytes(), value.stride(), value.requires_grad, grad
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes(), value.strides, value.flags.writeable
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, dict):
        return [(key, mark(one)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [mark(one) for one in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else id(value)
