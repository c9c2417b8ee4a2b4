"""What every layer owes its users beside right numbers."""

import pytest

from parity.catalogue import CATALOGUE
from parity.protocol import PORT, REFERENCE

LAYERS = [spec for spec in CATALOGUE.values() if spec.program == "layer"]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # float16 in the dtype check
@pytest.mark.parametrize("check", REFERENCE.values(), ids=[name.replace(" ", "-") for name in REFERENCE])
@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_reference(spec, check):
    check(spec)


@pytest.mark.parametrize("check", PORT.values(), ids=[name.replace(" ", "-") for name in PORT])
@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_port(spec, check):
    check(spec)
