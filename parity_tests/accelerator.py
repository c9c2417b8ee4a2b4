"""Every name of ``torch_port`` on an accelerator that is not there: what each does wrong, as JSON.

Run in a process of its own, because an accelerator is registered once for all. Tensors have shapes
and a device and no values (``FakeTensorMode``): a value that is asked for, a copy to the host, a
tensor made there and two devices in one operation are all found without a GPU. Where torch is built
with CUDA the device is ``cuda``, else a stand-in that its Python interface for backends makes.
"""

import importlib
import json
import sys
from unittest import mock

import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import torch_port
from parity.cases.case import choices
from parity.catalogue import CATALOGUE
from parity.promises import standard
from parity.sides.textbook import build


class OnDevice(TorchDispatchMode):
    """Refuses every result that is on the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if any(isinstance(t, torch.Tensor) and t.device.type == "cpu" for t in tree_leaves(result)):
            raise RuntimeError(f"{func} gives a tensor on the host")
        return result


def device():
    if torch.backends.cuda.is_built():
        torch._C._ensureCUDADeviceGuardSet()
        return "cuda"
    _setup_privateuseone_for_python_backend("standin")
    return "standin"


def layer(spec, device):
    """Forward, backward, step, clipping and, where it can, generation; with all that is optional, and without."""
    for last in (0, -1):
        case = standard(spec, **{name: values[last] for name, values in choices(spec).items() if values})
        data = case.data(lambda a: a.astype("float32"))
        module = spec.port_class.from_reference(build(spec, case.options, data), device=device)
        state = [torch.zeros(s.shape, device=device, requires_grad=True) for s in data.states.values()]
        inputs = [torch.zeros(a.shape, dtype=getattr(torch, a.dtype.name), device=device,
                              requires_grad=a.dtype.kind == "f") for a in data.inputs.values()]
        with OnDevice():
            if state:
                module.set_state(*state)
            for _ in range(2):
                outputs = module(*inputs)
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                torch.autograd.backward([o.sum() for o in outputs if o.is_floating_point()])
            for keyword in lengths_of(spec) if last else ():
                valid = torch.ones(case.sizes["N"], dtype=torch.int64, device=device)
                module(*inputs[: -1], **{keyword: valid})
            params = [*module.parameters(), *(i for i in inputs if i.requires_grad)]
            found = {t.device.type for p in params for t in (p, p.grad)} | {o.device.type for o in outputs}
            if found - {device}:
                raise RuntimeError(f"results on {found}")
            torch_port.clip_grads(params, 1.0)
            torch_port.Adam(params).step() if params else None
            if spec.greedy:
                xs, _, *mask = inputs
                module.generate(xs, 1, 3, *mask)
                module.generate(xs, 1, 3, *mask, beam_width=2, scores=True)
                module.sample(xs, 1, 3, *mask, top_k=2)


def lengths_of(spec):
    """The keyword that takes lengths instead of the mask, which is the last input, if there is one."""
    return [a.lengths for a in spec.inputs.values() if a.lengths]


def optimizer(spec, device):
    params = [torch.zeros(3, 2, device=device, requires_grad=True) for _ in range(2)]
    for p in params:
        p.grad = torch.ones_like(p)
    with OnDevice():
        made = spec.port_class(params)
        for _ in range(2):
            made.step()
    if {t.device.type for state in made.state.values() for t in state.values()} - {device}:
        raise RuntimeError("state elsewhere")


def clip(spec, device):
    p = torch.zeros(3, device=device, requires_grad=True)
    p.grad = torch.ones_like(p)
    with OnDevice():
        assert spec.port_class([p], 1.0).device.type == device


FAULTS = {  # what would be found in a module that did it
    "a value": lambda x: x.sum().item(),
    "a branch on a value": lambda x: 1 if x.any() else 0,
    "a copy to the host": lambda x: x.cpu(),
    "a tensor made on the host": lambda x: torch.zeros(3),
    "two devices": lambda x: x + HOST,
    "a mask as an index": lambda x: x[x > 0],
}
HOST = torch.ones(3)


def fault(does, where):
    x = torch.zeros(3, device=where)
    with OnDevice():
        does(x)


def planted(spec, where):
    """The same with a value asked for in the name's own code: in ``forward``, in ``update``, or in the function."""
    module, name = spec.port.split(":")
    owner, name = {"textbook": (spec.port_class, "forward"), "optimizer": (spec.port_class, "update"),
                   "clip": (importlib.import_module(module), name)}[spec.side]
    right = getattr(owner, name)

    def asking(*arguments, **how):
        torch.zeros(1, device=where).item()
        return right(*arguments, **how)

    with mock.patch.object(owner, name, asking):
        return run(spec, where)


def run(spec, where):
    """What a name does wrong, in words; empty for nothing."""
    return said({"textbook": layer, "optimizer": optimizer, "clip": clip}[spec.side], spec, where)


def said(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main():
    where = device()
    with FakeTensorMode(allow_non_fake_inputs=True):
        specs = [CATALOGUE[name] for name in torch_port.__all__]
        found = {spec.name: run(spec, where) for spec in specs}
        wrong = {spec.name: planted(spec, where) for spec in specs}
        faults = {name: said(fault, does, where) for name, does in FAULTS.items()}
    json.dump({"device": where, "found": found, "planted": wrong, "faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()
