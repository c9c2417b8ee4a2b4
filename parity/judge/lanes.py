"""Lanes: where arithmetic happens. A lane is a table entry; everything else asks the entry."""

import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

if TYPE_CHECKING:
    from ..cases.case import Case

Entry = TypeVar("Entry")

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
FAR = {"wide", "extreme", "saturated", "nonfinite"}  # patterns whose values lie beyond what half precision can tell


def _float16(x: NDArray[Any]) -> NDArray[Any]:
    return x.astype(np.float16).astype(np.float32)


def _bfloat16(x: NDArray[Any]) -> NDArray[Any]:
    """Rounded to nearest, ties to even; NumPy has no such type, so it stays float32."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    rounded = np.asarray(bits >> 16)
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded &= np.uint32(0xFFFF0000)
    rounded = rounded.view(np.float32)
    return np.where(np.isnan(x), x, rounded) if np.isnan(x).any() else rounded


ROUND = {"float16": _float16, "bfloat16": _bfloat16}  # formats in which NumPy does not compute, or not as kernels do


@dataclass(frozen=True)
class Lane:
    """A device, a dtype and a mode.

    Attributes:
        name: ``cpu-float32``.
        device: torch device type.
        dtype: NumPy dtype of the reference in this lane, and of the numbers that both sides see; in half precision
            float32, rounded after every operation.
        torch_dtype: name of the port's dtype.
        precision: what torch's ``fp32_precision`` switches stand on in this lane.
    """

    name: str
    device: str
    dtype: str
    torch_dtype: str
    precision: str = "ieee"

    @property
    def unit_roundoff(self) -> float:
        return ROUNDOFF[self.torch_dtype]

    @property
    def underflow(self) -> float:
        """Size below which a difference means nothing: the smallest normal number; of float16, four subnormals."""
        return 4 * 2.0**-24 if self.torch_dtype == "float16" else float(np.finfo(self.dtype).smallest_normal)

    @property
    def flushed(self) -> float:
        """Size below which a result may become zero; 0 in float16, whose kernels compute in float32 and round."""
        return 0.0 if self.torch_dtype == "float16" else self.underflow

    @property
    def subnormal(self) -> float:
        """Spacing of the smallest numbers of float16, which a mean over many rows comes down to; else 0."""
        return 2.0**-24 if self.torch_dtype == "float16" else 0.0

    @property
    def round(self) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
        """Function of an array that rounds it to this lane's format; None where NumPy computes in it."""
        return ROUND.get(self.torch_dtype)

    @property
    def accumulator(self) -> float:
        """Unit roundoff in which products and sums add up, where that is finer; else 0."""
        return ROUNDOFF["float32"] if self.round else 0.0

    @property
    def deal(self) -> int:
        """Which of the cases of a number this lane runs, see ``draw``: lanes of one dtype run the same ones."""
        return list(ROUNDOFF).index(self.torch_dtype)

    def admits(self, case: "Case") -> bool:
        """Whether the case lies within what this lane can tell: u max|logit| stays below 1/8."""
        return self.round is None or (case.scale <= 1 and case.pattern not in FAR)

    @property
    def oracle(self) -> np.dtype[Any]:
        """The wider dtype in which the reference's own code says what is right."""
        return np.dtype(np.longdouble if self.dtype == "float64" else np.float64)

    def narrow(self, array: NDArray[Any]) -> NDArray[Any]:
        """Rounds a float64 array to the numbers that this lane can represent."""
        return array.astype(self.dtype) if self.round is None else self.round(array)

    def untested(self) -> str:
        """Why this lane cannot run here, in one sentence; empty where it can."""
        if np.finfo(self.oracle).nmant <= np.finfo(self.dtype).nmant:
            return f"numpy.{self.oracle} is no wider than {self.dtype} on this machine"
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                return "torch.cuda.is_available() is false" if torch.version.cuda else "this torch has no CUDA"
        return ""

    def device_name(self) -> str:
        """The device as its maker calls it."""
        import platform

        import torch

        return torch.cuda.get_device_name() if self.device == "cuda" else platform.processor() or platform.machine()

    @contextlib.contextmanager
    def mode(self) -> Iterator[None]:
        """Torch's precision switches as this lane has them; the user's stand again afterwards."""
        with contextlib.ExitStack() as stack:
            for switch in _precision_switches():
                stack.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
                switch.fp32_precision = self.precision
            yield


def _precision_switches() -> list[Any]:
    """Torch's ``fp32_precision`` switches; the older TF32 flags are left alone, since reading them can raise."""
    import torch

    backends: Any = torch.backends  # torch's own stubs know half of them
    return [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn,
            backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]


LANES = {
    lane.name: lane
    for lane in (
        Lane("cpu-float64", "cpu", "float64", "float64"),
        Lane("cpu-float32", "cpu", "float32", "float32"),
        Lane("cpu-bfloat16", "cpu", "float32", "bfloat16"),
        Lane("cpu-float16", "cpu", "float32", "float16"),
        Lane("cuda-float64", "cuda", "float64", "float64"),
        Lane("cuda-float32", "cuda", "float32", "float32"),
        Lane("cuda-bfloat16", "cuda", "float32", "bfloat16"),
        Lane("cuda-float16", "cuda", "float32", "float16"),
    )
}


def select(table: Mapping[str, Entry], pattern: str) -> list[Entry]:
    """The entries of a table whose name matches a glob.

    Raises:
        UsageError: none does; names what there is.
    """
    found = [entry for name, entry in table.items() if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise UsageError(f"{pattern!r} matches none of {', '.join(table)}")
    return found
