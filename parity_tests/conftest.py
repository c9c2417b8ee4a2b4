import pytest
from hypothesis import HealthCheck, settings

# derandomized: a failure is the same failure everywhere, and no test depends on an earlier run
settings.register_profile("parity", derandomize=True, deadline=None, database=None, print_blob=False,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parity")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small products run fastest on one thread, and the workers share the cores."""
    import torch

    torch.set_num_threads(1)
