"""What is too small counts as nothing within, and as before afterwards."""

import pytest
import torch

from plausible.functional.denormals import flushed

SMALL = torch.tensor([2.0**-130])


def survives() -> bool:
    return bool((SMALL * 0.5).any())


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")
def test_small_numbers_vanish_within_only_and_the_user_s_own_choice_stays():
    assert survives()
    with flushed():
        assert not survives()
    assert survives()
    torch.set_flush_denormal(True)
    try:
        with flushed():
            assert not survives()
        assert not survives()
    finally:
        torch.set_flush_denormal(False)


def test_an_error_within_changes_nothing():
    with pytest.raises(KeyError), flushed():
        raise KeyError
    assert survives()
