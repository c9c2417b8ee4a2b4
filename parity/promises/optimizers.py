"""What optimizers and clipping owe their users."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..spec.spec import Spec
from .common import raised

if TYPE_CHECKING:
    import torch


def check_optimizer(spec: Spec) -> None:
    """An optimizer leaves parameters without gradient alone, takes closures, and refuses what cannot be."""
    import torch

    def parameter(*gradient: float) -> "torch.Tensor":
        p = torch.zeros(2, requires_grad=True)
        p.grad = torch.tensor(gradient) if gradient else None
        return p

    first, second, bare = parameter(1.0, -1.0), parameter(1.0, -1.0), parameter()
    spec.port_class([first, bare]).step()
    assert first.any() and not bare.any(), "a parameter without gradient moves, or one with a gradient does not"
    assert spec.port_class([bare]).step() is None, "a step without any gradient gives something"

    def closure() -> float:
        assert torch.is_grad_enabled(), "the closure runs without gradients"
        second.grad = torch.tensor([1.0, -1.0])
        return 7.0

    assert spec.port_class([second]).step(closure) == 7.0, "the loss of the closure is lost"
    assert torch.equal(first, second), "a step with a closure is another one"
    for name in spec.options:
        error = raised(spec.port_class, [parameter()], **{name: -0.5})
        assert isinstance(error, ValueError), f"{name}=-0.5 raises {error!r}, expected ValueError"
        assert spec.port_class([parameter()], **{name: 0.0}), f"{name}=0 is refused"
        if name != "lr":
            error = raised(spec.port_class, [parameter()], **{name: 1.0})
            assert isinstance(error, ValueError), f"{name}=1 raises {error!r}, expected ValueError"
    defaults, given = (spec.port_class([parameter()], **chosen).defaults for chosen in
                       ({}, {name: getattr(spec.reference(), name) for name in spec.options}))
    assert defaults == given, f"defaults {defaults}, those of the reference {given}"


def check_refusals(spec: Spec) -> None:
    """An optimizer refuses what torch's takes besides, wrong groups and sparse gradients, before anything moves."""
    import torch

    first, second = torch.ones(2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    decay = {"weight_decay": 0.5}
    for error in (raised(spec.port_class, [first], **decay), raised(spec.port_class, [{"params": [first]} | decay])):
        assert isinstance(error, TypeError) and "takes no weight_decay" in str(error), repr(error)
    error = raised(spec.port_class, [first], one=1, another=2)
    assert isinstance(error, TypeError) and "takes no another, one," in str(error), f"two of them: {error!r}"
    group = {"params": [first]} | dict.fromkeys(spec.options, 0.25)
    assert raised(spec.port_class, [group]) is None, "a group has no arguments of its own"
    decays = [name for name in spec.options if name != "lr"]
    for name in spec.options:
        error = raised(spec.port_class, [group | {name: -1}])
        assert isinstance(error, ValueError) and f"{name} is -1" in str(error), f"{name}=-1 of a group: {error!r}"
    error = raised(spec.port_class, [first], **dict.fromkeys(decays, 1.0))
    assert not decays or f": {decays[0]} is 1.0" in str(error), f"the first of the wrong is {decays[0]}: {error!r}"
    first.grad = torch.ones(2)
    second.grad = torch.ones(3, 2).to_sparse()
    error = raised(spec.port_class([first, second]).step)
    words = "the gradient of parameter 1 of group 0 is torch.sparse_coo"
    assert isinstance(error, RuntimeError) and words in str(error), f"a sparse gradient raises {error!r}"
    assert torch.equal(first, torch.ones(2)), "something moves before a sparse gradient is refused"


def check_schedule(spec: Spec) -> None:
    """A learning rate that a schedule sets, and a state that is loaded, are those of the steps that follow."""
    import torch

    def moved(changed: float | None = None, stops: bool = False) -> Any:
        p, q = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.ones(1, dtype=torch.float64,
                                                                                  requires_grad=True)
        optimizer = spec.port_class([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.125)
        for step in range(6):
            if step == 3 and changed is not None:
                optimizer.param_groups[0]["lr"] = changed
            if step == 3 and stops:
                state = optimizer.state_dict()
                optimizer = spec.port_class([{"params": [p]}, {"params": [q]}], lr=7.0)
                optimizer.load_state_dict(state)
            p.grad, q.grad = torch.tensor([1.0, step - 2.5], dtype=torch.float64), torch.full_like(q, step + 1.0)
            optimizer.step()
        return torch.cat((p, q)).detach().numpy()

    plain = moved()
    alone = spec.reference(lr=0.5)
    alone_q = np.ones(1)
    for step in range(6):
        alone.update([alone_q], [np.full(1, step + 1.0)])
    # six steps, of a dozen roundings each
    assert np.abs(plain[2:] - alone_q).max() <= 2.0**-44, f"a group of its own: {plain[2:]}, alone {alone_q}"
    ours, w = spec.reference(lr=0.125), np.ones(2)
    for step in range(6):
        if step == 3:
            ours.lr = 0.25
        ours.update([w], [np.array([1.0, step - 2.5])])
    found = moved(changed=0.25)
    assert np.abs(found[:2] - w).max() <= 2.0**-44, f"a learning rate set between steps: {found[:2]}, not {w}"
    assert np.array_equal(moved(stops=True), plain), "steps after a state is loaded are others"


def check_kept_moments(spec: Spec) -> None:
    """What an optimizer keeps from step to step is what the port keeps, under the same names."""
    import torch

    start, gradients = np.ones(3), np.array([[1.0, -2.0, 4.0], [-0.5, 8.0, 0.25]])
    ours, (p, theirs) = spec.reference(), (torch.tensor(start, requires_grad=True), None)
    theirs, array = spec.port_class([p]), start.copy()
    for gradient in gradients:
        ours.update([array], [gradient])
        p.grad = torch.tensor(gradient)
        theirs.step()
    for name, kept in theirs.state[p].items():
        (found,) = getattr(ours, name)
        # a moment takes three roundings a step, of numbers of the gradients' squares' size
        assert np.abs(found - kept.numpy()).max() <= 2.0**-53 * 6 * 64, f"{name} is {found}, the port's {kept.numpy()}"


def check_iterables(spec: Spec) -> None:
    """Arrays may come from iterators that are read once."""
    arrays = [[np.arange(1.0, 4.0) * k for k in (1, 2)] for _ in range(4)]
    params, same, gradients, others = arrays
    if spec.side == "clip":
        norms = spec.reference(gradients, 1.0), spec.reference(iter(others), 1.0)
        assert norms[0] == norms[1] and all(map(np.array_equal, gradients, others)), f"an iterator is left at {others}"
        return
    one, other = spec.reference(), spec.reference()
    for _ in range(2):
        one.update(params, gradients)
        other.update(iter(same), iter(others))
    assert all(map(np.array_equal, params, same)) and params[0][0] != 1, f"parameters of an iterator are {same}"


def check_clip_port(spec: Spec) -> None:
    """Clipping takes any iterable; parameters without gradient do no harm; NaN clips nothing, inf all."""
    import torch

    def parameter(gradient: "torch.Tensor") -> "torch.Tensor":
        p = torch.zeros_like(gradient, requires_grad=True)
        p.grad = gradient
        return p

    alone, beside = (torch.tensor([3.0, 4.0], dtype=torch.float64) for _ in range(2))
    norms = (spec.port_class(parameter(alone), 4.0),
             spec.port_class(iter([parameter(beside), torch.zeros(3, requires_grad=True)]), 4.0))
    assert torch.equal(*norms) and torch.equal(alone, beside), f"beside one without gradient: {beside}"
    for value, expected in ((torch.nan, 3.0), (torch.inf, 0.0)):
        first = torch.tensor([3.0], dtype=torch.float64)
        spec.port_class([parameter(first), parameter(torch.tensor([value], dtype=torch.float64))], 1.0)
        assert first.item() == expected, f"beside a gradient of {value}, 3 becomes {first.item()}"
