"""Where examples are in a tensor, found from what changes with the first of them."""

import pytest
import torch
from torch import Tensor

from plausible.functional.layout import Layout, layout

PLACES = {
    "first": (lambda x: x, Layout(0)),
    "second": (lambda x: x.transpose(0, 1), Layout(1)),
    "last": (lambda x: x.movedim(0, -1), Layout(2)),
    "folded with time, example by example": (lambda x: x.flatten(0, 1), Layout(0, 5, True)),
    "folded with time, step by step": (lambda x: x.transpose(0, 1).flatten(0, 1), Layout(0, 5, False)),
}


@pytest.mark.parametrize(("place", "expected"), PLACES.values(), ids=PLACES)
def test_found_and_split_and_joined(place, expected: Layout):
    x = torch.randn(3, 5, 4)
    other = torch.cat([x[-1:], x[1:]])
    found = layout(place(x) != place(other), 3)
    assert found == expected
    assert found.split(place(x)).shape[0] == 3
    signal = torch.randn(3, 20)
    joined = found.join(signal, place(x).shape)
    assert torch.equal(found.split(joined).flatten(1), signal) and joined.shape == place(x).shape


def test_ambiguous_sizes_are_told_apart_by_what_changes():
    x = torch.randn(3, 3, 3)
    other = x.clone()
    other[:, 0] += 1
    assert layout(x != other, 3) == Layout(1)


def test_examples_that_are_mixed_have_no_layout():
    mixed: Tensor = torch.ones(3, 4, dtype=torch.bool)
    assert layout(mixed, 3) is None
