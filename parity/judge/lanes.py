"""Lanes: where arithmetic happens. A lane is a table entry; everything else asks the entry."""

import contextlib
import fnmatch
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}


@dataclass(frozen=True)
class Lane:
    """A device, a dtype and a mode.

    Attributes:
        name: ``cpu-float32``.
        device: torch device type.
        dtype: NumPy dtype of the reference in this lane, and of the numbers that both sides see.
        torch_dtype: name of the port's dtype.
        precision: what torch's ``fp32_precision`` switches stand on in this lane.
    """

    name: str
    device: str
    dtype: str
    torch_dtype: str
    precision: str = "ieee"

    @property
    def unit_roundoff(self):
        return ROUNDOFF[self.torch_dtype]

    @property
    def underflow(self):
        """Size below which a difference means nothing: the smallest normal number."""
        return float(np.finfo(self.dtype).smallest_normal)

    @property
    def oracle(self):
        """The wider dtype in which the reference's own code says what is right."""
        return np.dtype(np.longdouble if self.dtype == "float64" else np.float64)

    def narrow(self, array):
        """Rounds a float64 array to the numbers that this lane can represent."""
        return array.astype(self.dtype)

    def untested(self):
        """Why this lane cannot run here, in one sentence; empty where it can."""
        if np.finfo(self.oracle).nmant <= np.finfo(self.dtype).nmant:
            return f"numpy.{self.oracle} is no wider than {self.dtype} on this machine"
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                return "torch.cuda.is_available() is false" if torch.version.cuda else "this torch has no CUDA"
        return ""

    def device_name(self):
        """The device as its maker calls it."""
        import platform

        import torch

        return torch.cuda.get_device_name() if self.device == "cuda" else platform.processor() or platform.machine()

    @contextlib.contextmanager
    def mode(self):
        """Torch's precision switches as this lane has them; the user's stand again afterwards."""
        with contextlib.ExitStack() as stack:
            for switch in _precision_switches():
                stack.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
                switch.fp32_precision = self.precision
            yield


def _precision_switches():
    """Torch's ``fp32_precision`` switches; the older TF32 flags are left alone, since reading them can raise."""
    import torch

    backends = torch.backends
    return [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn,
            backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]


LANES = {
    lane.name: lane
    for lane in (
        Lane("cpu-float64", "cpu", "float64", "float64"),
        Lane("cpu-float32", "cpu", "float32", "float32"),
        Lane("cuda-float64", "cuda", "float64", "float64"),
        Lane("cuda-float32", "cuda", "float32", "float32"),
    )
}


def select(table, pattern):
    """The entries of a table whose name matches a glob.

    Raises:
        UsageError: none does; names what there is.
    """
    found = [entry for name, entry in table.items() if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise UsageError(f"{pattern!r} matches none of {', '.join(table)}")
    return found
