"""What every layer owes its users beside right numbers."""

import pytest

from parity.catalogue import CATALOGUE
from parity.promises import CHECKS

PROMISES = [pytest.param(spec, check, id=f"{spec.name}-{side}-{name.replace(' ', '-')}")
            for spec in CATALOGUE.values() for side, checks in CHECKS[spec.side].items()
            for name, check in checks.items()]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # float16 in the dtype check
@pytest.mark.parametrize(("spec", "check"), PROMISES)
def test_promise(spec, check):
    check(spec)
