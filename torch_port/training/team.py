"""The processes that train one model: this one alone, or those that torchrun started."""

import datetime
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from .settings import UsageError

Array = np.ndarray[Any, np.dtype[Any]]


class LostRank(Exception):
    """Another process is gone, or does not answer."""


class Elsewhere(Exception):
    """The first process has failed, and has said why."""


class Team:
    """A place among the processes, and what they do together; alone, all of it is nothing.

    A batch is shared out row by row, and gradients are added up by ``DistributedDataParallel``.

    Args:
        device: of this process.
        timeout: seconds that the others may take to a common act.

    Attributes:
        rank, size: from torchrun's environment; 0 and 1 without it.

    Raises:
        UsageError: an environment that does not join up.
    """

    def __init__(self, device: torch.device, timeout: int) -> None:
        try:
            self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        except ValueError as error:
            raise UsageError(f"RANK and WORLD_SIZE of the environment: {error}") from None
        self.timeout, self.lost = timeout, False
        if self.size > 1:
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            try:
                dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout))
            except (ValueError, RuntimeError) as error:
                raise UsageError(
                    f"rank {self.rank} of {self.size} cannot join the others: {_first_line(error)}") from None

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> Callable[..., Tensor]:
        """The model, its gradients the mean over the processes."""
        if self.size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)

    def share(self, rows: Array) -> Array:
        """This process's rows of a batch; none where there are fewer rows than processes."""
        return np.array_split(rows, self.size)[self.rank]

    def add(self, values: Tensor) -> Tensor:
        """The sum over the processes, of a tensor on the CPU."""
        if self.size > 1:
            self.together(lambda: dist.all_reduce(values))
        return values

    def most(self, value: int) -> int:
        """The largest over the processes."""
        if self.size == 1:
            return value
        held = torch.tensor([value])
        self.together(lambda: dist.all_reduce(held, dist.ReduceOp.MAX))
        return int(held)

    def together(self, act: Callable[[], Any]) -> Any:
        """Does what takes all processes.

        Raises:
            LostRank: it cannot be done any more.
        """
        if self.size == 1:
            return act()
        try:
            return act()
        except RuntimeError as error:
            self.lost = True
            raise LostRank(f"rank {self.rank} of {self.size}: another process is gone, or took more than "
                           f"{self.timeout} s ({_first_line(error)})") from None

    def first_does(self, act: Callable[[], None]) -> None:
        """Lets the first process do what only one may; where it fails, all end.

        Raises:
            Elsewhere: it failed in the first process, and this is another.
        """
        error = None
        if self.first:
            try:
                act()
            except Exception as caught:
                error = caught
        if self.most(int(error is not None)):
            raise error or Elsewhere

    def close(self) -> None:
        """Leaves the others."""
        if self.size > 1 and not self.lost:
            dist.destroy_process_group()


def device_of(name: str) -> torch.device:
    """The device that ``--device`` asks for; one of its own for each process of torchrun.

    Raises:
        UsageError: there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", 0))
    if place >= torch.cuda.device_count():
        raise UsageError(f"process {place} of this machine has no CUDA device: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
