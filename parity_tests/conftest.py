import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# what the tests start imports parity_tests and nothing else that stands beside it: under tox the wheel is tested
BESIDE = Path(tempfile.mkdtemp(prefix="parity_tests-"))
(BESIDE / "parity_tests").symlink_to(Path(__file__).resolve().parent, target_is_directory=True)
atexit.register(shutil.rmtree, BESIDE, ignore_errors=True)
sys.path.append(str(BESIDE))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(BESIDE))))

# derandomized: a failure is the same failure everywhere, and no test depends on an earlier run
settings.register_profile("parity", derandomize=True, deadline=None, database=None, print_blob=False,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parity")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small products run fastest on one thread, and the workers share the cores."""
    import torch

    torch.set_num_threads(1)
