"""What the checks share: an ordinary case, and either side under one kind of call."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..cases.case import Case, Data, choices, fitting
from ..judge.lanes import LANES, Lane
from ..sides import run_port, run_reference
from ..sides.objects import OBJECTS
from ..sides.textbook import build
from ..spec.results import Arrays, as_tuple, gradients_of
from ..spec.spec import Spec

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]
SIZES: dict[str, Any] = {"N": 2, "T": 3, "U": 4, "V": 5, "D": 6, "H": 7, "...": (2, 3)}  # all different
FLOATS = ("float16", "float32", "float64", "longdouble")


def standard(spec: Spec, seed: int = 0, **options: Any) -> Case:
    """An ordinary case with all axis sizes different; the first choice of every option not given."""
    chosen = {name: options.get(name, (values or (0,))[0]) for name, values in choices(spec).items()}
    sizes = fitting(spec, chosen, SIZES)
    assert sizes, f"{spec.name}: no sizes up to 12, all different, are in `ranges` and admitted by `where`"
    return Case(spec, sizes, "normal", 1.0, "C", chosen, seed)


def arrays_of(case: Case, dtype: str = "float64") -> Data:
    found: Data = case.data(lambda a: a.astype(dtype))
    return found


def ordinary(spec: Spec, seed: int = 0, **options: Any) -> tuple[Case, Data]:
    """The same with its arrays in float64."""
    case = standard(spec, seed, **options)
    return case, arrays_of(case)


def tensors(group: Arrays) -> "list[torch.Tensor]":
    """Arrays as tensors of their own, in order."""
    import torch

    return [torch.from_numpy(np.array(a)) for a in group.values()]


def forward(layer: Any, data: Data) -> tuple[Any, ...]:
    return outputs_of(layer, data.inputs.values())


def outputs_of(layer: Any, inputs: Iterable[Any]) -> tuple[Any, ...]:
    return as_tuple(layer.forward(*inputs))


def floating(arrays: Iterable[Array]) -> list[Array]:
    """Those arrays that are not integers or booleans."""
    return [a for a in arrays if a.dtype.kind == "f"]


def backward(layer: Any, data: Data) -> list[Array]:
    gradients = gradients_of(layer.backward(*data.cotangents.values()))
    return [g.copy() for g in (*gradients, *layer.grads)]


def with_state(spec: Spec) -> dict[str, Any]:
    return {"stateful": True} if "stateful" in spec.options else {}


def raised(call: Callable[..., object], *arguments: Any, **how: Any) -> Exception | None:
    """The exception that a call with these arguments ends with; None where it ends without one."""
    try:
        call(*arguments, **how)
    except Exception as error:
        return error
    return None


def misfits(params: list[Array]) -> list[tuple[str, list[Any], type[Exception]]]:
    """What no layer takes in place of its parameters: (what is wrong, the arrays, type of the error)."""
    *first, last = params
    return [("one array too few", first, ValueError), ("one array too many", [*params, last], ValueError),
            ("another shape", [*first, last[None]], ValueError), ("integers", [*first, last.astype(int)], TypeError),
            ("a list", [*first, last.tolist()], TypeError)]


def repeated(drawn: Array) -> str:
    """What repeats itself in numbers that should be independent; empty where nothing does.

    Of n independent numbers, the correlation with themselves so many places on, or in the opposite direction, is
    1/sqrt(n) in size; one of n of them beyond 8 times that has a chance of n times 1e-15. Where a share of more than
    8/sqrt(n) of the numbers stands somewhere again, it is beyond.

    Args:
        drawn: numbers of any shape, read in the order of their memory.
    """
    x = drawn.reshape(-1).astype(float)
    x -= x.mean()
    n, seen = x.size, np.fft.rfft(x)
    for way, spectrum in (("again", seen * seen.conj()), ("backwards", seen * seen)):
        correlation = np.fft.irfft(spectrum, n) / max(float(x @ x), 1e-300)
        correlation[0] = 0 if way == "again" else correlation[0]
        place = int(np.abs(correlation).argmax())
        if abs(correlation[place]) > 8 / n**0.5:
            return f"correlation {correlation[place]:.3f} with itself {way}, {place:,} places on, of {n:,}"
    return ""


def _call_port(module: Any, method: str, *arrays: Any, **how: Any) -> Any:
    import torch

    def tensor(a: Any) -> Any:
        return torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a

    arguments, how = map(tensor, arrays), {name: tensor(a) for name, a in how.items()}
    result = module(*arguments, **how) if method == "forward" else getattr(module, method)(*arguments, **how)
    if how.get("scores"):
        return tuple(r.numpy() for r in result)
    result = result[0] if isinstance(result, tuple) else result
    assert method != "generate" or not result.requires_grad, "generate leaves a graph"
    return result.detach().numpy()


def twin(spec: Spec, options: dict[str, Any], data: Data) -> Any:
    return spec.port_class.from_reference(build(spec, options, data))


@contextmanager
def _seeded_reference(layer: Any, seed: int) -> Iterator[None]:
    layer.rng = np.random.default_rng(seed)
    yield


@contextmanager
def _seeded_port(module: Any, seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Side(NamedTuple):
    """A side of a textbook layer, under one kind of call.

    Attributes:
        name: ``reference`` or ``port``.
        make: of a spec, options and data, gives the layer, or the module that is made from it.
        call: of that, the name of a method and its arguments as arrays, gives its result as arrays.
        run: of a case, its data and a lane, gives the quantities.
        seeded: of a layer and a seed, a context in which its draws follow from that.
    """

    name: str
    make: Callable[[Spec, dict[str, Any], Data], Any]
    call: Callable[..., Any]
    run: Callable[[Case, Data, Lane], Arrays]
    seeded: Callable[[Any, int], AbstractContextManager[None]]

    def quantities(self, case: Case, params: Arrays, inputs: Arrays, cotangents: Arrays) -> Arrays:
        """Outputs and gradients by name, ``grad.`` before the latter's, of any arrays."""
        lane = LANES["cpu-float64"]
        made = OBJECTS["textbook"][self is PORT](case, params, lane, "float64")
        given = [{name: made.given(a, lane, a.dtype.name) for name, a in group.items()}
                 for group in (inputs, cotangents)]
        ran = made.forward(given[0])
        found = {name: ran.outputs[name] for name in case.spec.outputs}
        found |= {f"grad.{name}": g for name, g in made.backward(ran, given[1]).items()}
        return {name: made.array(a) for name, a in found.items()}


REFERENCE = Side("reference", build, lambda layer, method, *arrays, **how: getattr(layer, method)(*arrays, **how),
                 lambda case, data, lane: run_reference(case, data), _seeded_reference)
PORT = Side("port", twin, _call_port, run_port, _seeded_port)
