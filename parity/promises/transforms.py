"""What a torch module owes to the transformations of ``torch.func``."""

import warnings
from typing import Any
from unittest import mock

from ..spec.results import as_tuple
from ..spec.spec import Spec
from .common import SIZES, ordinary, tensors, twin

TERMS = 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"])  # of sums over D or H, over T or U steps


def _same(found: Any, expected: Any, what: str) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape, f"{what}: {found.shape} of {found.dtype}"
    assert not found.numel() or (found - expected).abs().max() <= 2.0**-53 * TERMS * max(1.0, expected.abs().max()), \
        f"{what} a module says something else"


def check_forward_mode(spec: Spec) -> None:
    """Under ``torch.func`` a module says the same; its J t in forward mode fits J' c of a plain backward."""
    import torch
    from torch.func import functional_call, jvp

    case, data = ordinary(spec)
    module = twin(spec, case.options, data)
    inputs = tensors(data.inputs)
    where = [k for k, i in enumerate(inputs) if i.is_floating_point()]
    params = {name: p.detach() for name, p in module.named_parameters()}
    if not where and not params:
        return

    def function(params: Any, *leaves: Any) -> Any:
        given = [leaves[where.index(k)] if k in where else i for k, i in enumerate(inputs)]
        outputs = functional_call(module, params, tuple(given))
        return tuple(o for o in as_tuple(outputs) if o.is_floating_point())

    generator = torch.Generator().manual_seed(0)
    primals = (params, *(inputs[k] for k in where))
    along = torch.utils._pytree.tree_map(
        lambda t: torch.randn(t.shape, generator=generator, dtype=t.dtype), primals)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", DeprecationWarning)  # within torch's own
        found, forward = jvp(function, primals, along)  # type: ignore[misc]  # two, without aux
    leaves, tree = torch.utils._pytree.tree_flatten(primals)
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    plain = function(*torch.utils._pytree.tree_unflatten(leaves, tree))
    cotangents = tensors(data.cotangents)
    gradients = torch.autograd.grad(plain, leaves, cotangents, materialize_grads=True)
    for a, b in zip(found, plain, strict=True):
        _same(a, b, "in forward mode")
    along = torch.utils._pytree.tree_leaves(along)
    one = sum((f * c).sum() for f, c in zip(forward, cotangents, strict=True))
    other = sum((g * t).sum() for g, t in zip(gradients, along, strict=True))
    size = max(1.0, *(float(g.abs().max()) for g in gradients))
    bound = 2.0**-53 * TERMS * size * sum(t.numel() for t in along)
    assert abs(one - other) <= bound, f"forward mode gives {one}, backward {other}"


def check_vectorized(spec: Spec) -> None:
    """Under ``vmap`` a module gives each entry what it gives it alone; it alone does without the fused kernels.

    The second biases are not zero here, as in weights of torch's own modules.
    """
    import torch
    from torch.func import functional_call, vmap

    case, data = ordinary(spec)
    module = twin(spec, case.options, data)
    generator = torch.Generator().manual_seed(0)
    fused = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase | torch.nn.RNNCellBase)]
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.rpartition(".")[2].startswith("bias_hh"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=buffer.dtype))
    inputs = tensors(data.inputs)
    stacked = [torch.stack([i, i.flip(0)]) for i in inputs]  # two batches, the second the first from its end
    params = dict(module.named_parameters())
    states = getattr(module, "states", {})
    for state in (None, [torch.randn(len(inputs[0]), case.sizes["H"], generator=generator, dtype=torch.float64)
                         for _ in states])[:2 if states else 1]:
        how = {} if state is None else {"state": state}

        def run(*given: Any, how: Any = how) -> Any:
            return functional_call(module, params, given, how)

        with mock.patch("torch.nn.modules.rnn._VF", wraps=torch._VF) as kernels:
            expected = [run(*given) for given in zip(*stacked, strict=True)]
        assert len(kernels.method_calls) >= 2 * len(fused), "a fused kernel is not used"
        found, tree = torch.utils._pytree.tree_flatten(vmap(run, randomness="different")(*stacked))
        for k, outputs in enumerate(expected):
            outputs, expected_tree = torch.utils._pytree.tree_flatten(outputs)
            assert tree == expected_tree, f"under vmap the results are {tree}, expected {expected_tree}"
            for a, b in zip(found, outputs, strict=True):
                _same(a[k], b, "under vmap")
