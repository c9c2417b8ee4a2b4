"""What ``sample`` of a torch model owes its users: ids that follow the softmax of the model's own logits."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..sides.textbook import build
from ..spec.spec import Spec
from .common import SIZES, ordinary, raised, tensors

ROWS = 4096
NARROW = 1e-50  # a temperature that is zero in float32: the largest logit alone is left


def check_sampling(spec: Spec) -> None:
    """``sample`` draws from the softmax that it is asked for, and is ``generate`` in all else."""
    import torch

    if not hasattr(spec.reference, "score"):
        return
    case, data = ordinary(spec)
    layer, V = build(spec, case.options, data), SIZES["V"]
    source = tensors(data.inputs)[0]
    model = spec.port_class.from_reference(layer)

    def draw(rows: Any, steps: Any = 1, seed: Any = 0, of: Any = model, **how: Any) -> Any:
        return of.sample(rows, 1, steps, generator=torch.Generator().manual_seed(seed), **how)

    start = torch.ones(len(source), 1, dtype=torch.int64)
    # of equals none is left out; one that is as good as the last of the best is among them
    bias = {name: np.array([1.0, 1.0, 0.0, 1.0, 0.0]) if p.shape == (V,) else 0 * p for name, p in data.params.items()}
    tied = spec.port_class.from_reference(build(spec, case.options, replace(data, params=bias)))
    # of two different rows in one batch, so that a maximum over the wrong axis is seen
    batch = source[:2].repeat_interleave(ROWS, 0)
    ways: list[dict[str, Any]] = [{}, {"temperature": 0.5}, {"temperature": 3.0}, {"temperature": 2.0, "top_k": 2}]
    ways += [{"top_k": k} for k in (1, 3, V - 1, V, V + 1)]
    for of, how in (*((model, how) for how in ways), (tied, {"top_k": 1}), (tied, {"top_k": 4})):
        logits = of.score(source, start)[:, 0].detach()
        found = draw(batch, of=of, **how)
        least = logits[:2].sort(dim=1).values[:, -min(how.get("top_k", V), V)]
        allowed = logits[:2].masked_fill(logits[:2] < least[:, None], -torch.inf)
        expected = (allowed / how.get("temperature", 1.0)).softmax(1)
        shares = torch.stack([torch.bincount(ids.flatten(), minlength=V) / ROWS for ids in found.split(ROWS)])
        # 6 standard deviations of a binomial share, and what V terms of a softmax may round
        far = (shares - expected).abs() > 6 * (expected * (1 - expected) / ROWS).sqrt() + V * 2.0**-52
        assert not far.any(), f"with {how} the ids are drawn with shares {shares}, expected {expected}"
    narrow = spec.port_class.from_reference(layer, dtype=torch.float32)
    end = int(model.generate(source, 1, 12)[0, 2])
    for how in ({}, {"end_id": end}, {"length_penalty": 0.0}, {"end_id": end, "length_penalty": 2.0}):
        for of in (model, narrow):
            greedy, wanted = of.generate(source, 1, 12, scores=True, **how)
            ids, scores = draw(source, 12, of=of, temperature=NARROW, scores=True, **how)
            assert torch.equal(ids, greedy) and torch.equal(scores, wanted), f"cold samples with {how} are not greedy"
    first, again, other = (draw(source, 12, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other), "samples do not follow their generator"
    plain = model.sample(source, 1, 2)
    assert plain.dtype == torch.int64 and plain.shape == (len(source), 2), "samples without a generator"
    none = draw(source[:0], 3)
    assert none.dtype == torch.int64 and none.shape == (0, 3), f"samples of an empty batch: {none}"
    for name, value, kind in (("temperature", 0.0, ValueError), ("temperature", -0.5, ValueError),
                              ("temperature", np.nan, ValueError), ("temperature", np.inf, ValueError),
                              ("top_k", 0, ValueError), ("top_k", -1, ValueError), ("top_k", 1.5, TypeError)):
        error = raised(draw, source, **{name: value})
        assert isinstance(error, kind) and f"{name} is {value}" in str(error), f"{name} {value}: {error!r}"
