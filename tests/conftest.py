import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# Ordinarily the same examples each time, and few; `pytest --hypothesis-profile=long` looks at new ones for long.
settings.register_profile("modest", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile("modest")


@pytest.fixture(scope="session")
def image_root() -> Path:
    """Where the real image sets are; tests that need them say so with @pytest.mark.images."""
    if "PLAUSIBLE_DATA" not in os.environ:
        pytest.skip("PLAUSIBLE_DATA is not set: no real image sets")
    return Path(os.environ["PLAUSIBLE_DATA"])
