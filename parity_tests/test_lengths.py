"""Padded batches by ``lengths=``: each sample gets what it gets alone, loss and gradients, in both twins."""

import numpy as np
import pytest
import torch

import reference
import torch_port

N, T, U, V, D, H = 4, 5, 3, 7, 4, 6
LENGTHS = np.array([5, 1, 3, 4])
MODELS = ["Seq2seq", "PeekySeq2seq", "AttentionSeq2seq"]
# sums of N (T + U) products of fewer than 4 H terms, in another order
BOUND = 2.0**-53 * 64 * N * (T + U) * 4 * H


def batch():
    rng = np.random.default_rng(0)
    xs, ts = rng.integers(0, V, (N, T)), rng.integers(0, V, (N, U + 1))
    xs[np.arange(T) >= LENGTHS[:, None]] = 10**6  # no id of the vocabulary
    return xs, ts


def in_numpy(name):
    model = getattr(reference, name)(V, D, H, dtype=np.float64, rng=np.random.default_rng(1))

    def run(xs, ts, **how):
        loss = model.forward(xs, ts, **how)
        model.backward()
        return [np.array(loss), *(g.copy() for g in model.grads)], model.generate(xs, 1, U, **how)

    return run


def in_torch(name):
    model = getattr(torch_port, name).from_reference(
        getattr(reference, name)(V, D, H, dtype=np.float64, rng=np.random.default_rng(1)))

    def run(xs, ts, **how):
        xs, ts, how = torch.tensor(xs), torch.tensor(ts), {key: torch.tensor(a) for key, a in how.items()}
        model.zero_grad()
        loss = model(xs, ts, **how)
        loss.backward()
        return [loss.detach().numpy(), *model.reference_grads()], model.generate(xs, 1, U, **how).numpy()

    return run


@pytest.mark.parametrize("side", [in_numpy, in_torch], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_each_sample_gets_what_it_gets_alone(name, side):
    run, (xs, ts) = side(name), batch()
    found, ids = run(xs, ts, lengths=LENGTHS)
    total = [np.zeros_like(q) for q in found]
    for n, length in enumerate(LENGTHS):
        alone, answer = run(xs[n : n + 1, :length], ts[n : n + 1])
        assert np.array_equal(answer, ids[n : n + 1])
        for sum_, q in zip(total, alone, strict=True):
            sum_ += q
    for q, sum_ in zip(found, total, strict=True):  # the mean of the losses
        assert np.abs(q - sum_ / N).max() <= BOUND * max(1, np.abs(q).max())
    masked, same = run(xs, ts, mask=np.arange(T) < LENGTHS[:, None])
    assert np.array_equal(same, ids)
    assert all(map(np.array_equal, masked, found))


def test_lengths_may_stay_on_the_host_and_are_checked_where_indices_are():
    attention = torch_port.AttentionWeight().to("meta")
    hs, h = torch.zeros(2, 3, 4, device="meta"), torch.zeros(2, 4, device="meta")
    assert attention(hs, h, lengths=torch.tensor([1, 3])).device.type == "meta"
    with pytest.raises(ValueError, match=r"AttentionWeight.forward: lengths contains 4, expected 0 <= length <= T = 3"):
        attention(hs, h, lengths=torch.tensor([1, 4]))
    with torch_port.index_checks(False):
        attention(hs, h, lengths=torch.tensor([1, 4]))
