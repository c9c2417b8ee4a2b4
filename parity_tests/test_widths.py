"""Code that is wrong in float32 alone makes no room for itself."""

import numpy as np
import pytest
import torch

import reference
import torch_port
from parity.catalogue import CATALOGUE
from parity.promises import CHECKS


@pytest.mark.parametrize("size", [1e-4, 1e-6])
@pytest.mark.parametrize(("side", "package", "narrow"), [("reference", reference, np.float32),
                                                         ("port", torch_port, torch.float32)])
def test_an_error_of_float32_alone_is_found(monkeypatch, side, package, narrow, size):
    spec, real = CATALOGUE["TimeAffine"], package.TimeAffine.forward
    CHECKS["textbook"][side]["width"](spec)

    def forward(self, xs):
        y = real(self, xs)
        return y * (1 + size) if y.dtype == narrow else y

    monkeypatch.setattr(package.TimeAffine, "forward", forward)
    with pytest.raises(AssertionError, match="in float32 is"):
        CHECKS["textbook"][side]["width"](spec)


@pytest.mark.parametrize("kind", ["reference", "port"])
def test_the_softmax_of_exact_differences_errs_by_few_roundoffs_far_down(kind):
    """Of whole numbers the differences are exact: what is left are an exponential, a sum of few and a division."""
    rows = np.array([[0, -9, -18, -27], [-3, 40, 1, -40], [5, 5, -55, -60], [0, -1, -31, -63]], np.float32)
    exact = np.exp(rows.astype(float) - rows.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    found = reference.Softmax().forward(rows) if kind == "reference" else torch_port.Softmax()(torch.from_numpy(rows))
    # an exponential and its sum within a unit in the last place, two roundoffs each, and the division
    assert np.abs(np.asarray(found, float) / exact - 1).max() <= 5 * 2.0**-24
