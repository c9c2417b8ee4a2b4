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
