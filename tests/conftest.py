import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def image_root() -> Path:
    """Where the real image sets are; tests that need them say so with @pytest.mark.images."""
    if "PLAUSIBLE_DATA" not in os.environ:
        pytest.skip("PLAUSIBLE_DATA is not set: no real image sets")
    return Path(os.environ["PLAUSIBLE_DATA"])
