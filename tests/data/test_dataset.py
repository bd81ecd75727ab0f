import numpy as np
import pytest
import torch

from plausible.core.errors import ConfigurationError, DataError
from plausible.data import Dataset, Split, hold_out


def split(n=12, classes=3, shape=(1, 4, 4)):
    return Split(torch.rand(n, *shape), torch.arange(n) % classes)


def dataset(**replaced):
    return Dataset(**{"name": "mine", "train": split(), "validation": split(), "test": split(), **replaced})


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(3, 2).double(), torch.arange(3), "float64.*x.float"),
        (torch.rand(3, 28, 28), torch.arange(3), r"\(3, 28, 28\).*unsqueeze"),
        (torch.rand(3, 2), torch.rand(3), "labels must be int64"),
        (torch.rand(3, 2), torch.zeros(3, 1, dtype=torch.int64), r"shape \(3, 1\)"),
        (torch.rand(3, 2), torch.arange(4), "3 examples but y has 4"),
        (torch.rand(0, 2), torch.arange(0), "empty"),
        (torch.tensor([[0.0], [float("nan")]]), torch.arange(2), "NaN.*example 1"),
        (torch.tensor([[float("inf")], [0.0]]), torch.arange(2), "infinite.*example 0"),
    ],
)
def test_a_split_that_is_none_is_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        Split(x, y)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"train": Split(torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 3, 3]))}, "3 comes where 2 was expected"),
        ({"train": Split(torch.rand(3, 1, 4, 4), torch.tensor([1, 2, 3]))}, "1 comes where 0 was expected"),
        ({"train": Split(torch.rand(3, 1, 4, 4), torch.tensor([-1, 0, 1]))}, "-1 comes where 0 was expected"),
        ({"train": Split(torch.rand(2, 1, 4, 4), torch.tensor([0, 10**12]))}, "1000000000000 comes where 1"),
        ({"train": split(classes=1)}, "at least two classes"),
        ({"test": split(classes=4)}, "mine, test: example 3 has label 3"),
        ({"validation": split(shape=(1, 5, 4))}, r"validation.*\(1, 5, 4\).*\(1, 4, 4\)"),
        ({"test": Split(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3))}, "test.*uint8.*float32"),
    ],
)
def test_splits_that_do_not_belong_together_are_refused(replaced, message):
    with pytest.raises(DataError, match=message):
        dataset(**replaced)


def test_one_tensor_in_two_roles_is_refused():
    same = split()
    with pytest.raises(DataError, match="validation and test are the same tensor"):
        dataset(validation=same, test=same)


@pytest.mark.parametrize("shape", [(3, 5, 7), (6,)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_moments_are_those_of_numpy_on_the_training_split(shape, dtype):
    torch.manual_seed(0)
    x = (torch.rand(2000, *shape) * 255).to(dtype)  # more values than are taken to float64 at a time
    y = torch.arange(2000) % 3
    data = Dataset("mine", Split(x, y), *(Split(x[part], y[part]) for part in (slice(3, 9), slice(9, 30))))
    axes = (0, 2, 3) if len(shape) == 3 else 0
    array = x.numpy().astype(np.float64)
    assert data.shape == shape
    assert data.classes == 3
    np.testing.assert_allclose(data.mean, array.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(data.std, array.std(axes), rtol=1e-6)


def test_a_constant_feature_has_unit_std():
    x = torch.rand(12, 2)
    x[:, 1] = 0.1
    data = dataset(train=Split(x, torch.arange(12) % 3), validation=split(shape=(2,)), test=split(shape=(2,)))
    assert data.std[1] == 1
    assert data.std[0] != 1


@pytest.mark.parametrize(("amount", "per_class"), [(0.2, [8, 4, 2]), (35, [20, 10, 5])])
def test_holding_out_is_a_stratified_partition(amount, per_class):
    y = torch.tensor([0] * 40 + [1] * 20 + [2] * 10)[torch.randperm(70, generator=torch.Generator().manual_seed(1))]
    whole = Split(torch.arange(70.0).unsqueeze(1), y)
    rest, held = hold_out(whole, amount, seed=3, what="mine")
    assert held.y.bincount().tolist() == per_class
    ids = torch.cat([rest.x, held.x]).flatten()
    assert ids.sort().values.equal(torch.arange(70.0))
    for part in (rest, held):
        assert y[part.x.flatten().long()].equal(part.y)
        assert part.x.flatten().diff().gt(0).all()  # the original order


def test_the_seed_alone_decides_what_is_held_out():
    whole = split(60)
    once, again, other = (hold_out(whole, 0.2, seed, "mine")[1].x for seed in (5, 5, 6))
    assert once.equal(again)
    assert not once.equal(other)


@pytest.mark.parametrize("amount", [0, 0.0, -3, 12, 1.0, 1.5, "much", 2, 11])
def test_an_impossible_amount_names_what_is_possible(amount):
    with pytest.raises(ConfigurationError, match=r"mine: .*hold"):
        hold_out(split(), amount, 0, "mine")


def test_a_class_of_one_cannot_be_in_both_parts():
    with pytest.raises(DataError, match=r"mine: class 1 has one example"):
        hold_out(Split(torch.rand(5, 2), torch.tensor([0, 0, 1, 0, 0])), 2, 0, "mine")
