"""The settings of NumPy, torch and Python inside which everything runs, whatever the caller has set."""

import contextlib
import random
import warnings
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Settings of our own; the caller's stand again afterwards, and no random state has moved.

    NumPy raises and warns of nothing; torch differentiates, in the dtypes and on the device that it is told, without
    autocast, anomaly detection or deterministic algorithms; a warning is no error. Precision is the lane's business,
    see ``Lane.mode``. Also a decorator.
    """
    import torch

    with contextlib.ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if torch.are_deterministic_algorithms_enabled():  # asked first: setting it imports torch's compiler
            stack.callback(torch.use_deterministic_algorithms, True,
                           warn_only=torch.is_deterministic_algorithms_warn_only_enabled())
            torch.use_deterministic_algorithms(False)
        if torch.get_default_device().type != "cpu":  # a mode, which every call of torch's pays for
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def settled(steps: Iterator[Item]) -> Iterator[Item]:
    """The items of an iterator, each made inside ``own_settings``: what takes them has its own in between."""
    while True:
        with own_settings():
            try:
                item = next(steps)
            except StopIteration:
                return
        yield item
