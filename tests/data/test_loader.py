from itertools import product

import pytest
import torch

from plausible.core.errors import ConfigurationError, UnknownName
from plausible.data import Loader, Split
from plausible.data import loader as loader_module


def images(n=50, channels=2, side=12, dtype=torch.uint8):
    x = torch.randint(0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(0))
    return Split(x.to(dtype), torch.arange(n))


def raw(split, batch_size=8, **options):
    """A loader that leaves pixel values as they are."""
    channels = split.x.shape[1]
    return Loader(split, batch_size, mean=torch.zeros(channels), std=torch.ones(channels), **options)


def epoch(loader, *args, **kwargs):
    x, y = zip(*loader.epoch(*args, **kwargs), strict=True)
    return torch.cat(x), torch.cat(y)


def test_without_options_it_is_the_split_in_its_order_normalised():
    split = images()
    mean, std = torch.tensor([100.0, 50.0]), torch.tensor([3.0, 7.0])
    x, y = epoch(Loader(split, 8, mean=mean, std=std))
    expected = (split.x.double() - mean.double().view(2, 1, 1)) / std.double().view(2, 1, 1)
    torch.testing.assert_close(x.double(), expected, rtol=1e-6, atol=1e-6)
    assert x.dtype == torch.float32
    assert y.equal(split.y)


def test_vectors_are_normalised_per_feature():
    split = Split(torch.tensor([[1.0, 10.0], [3.0, 30.0]]), torch.tensor([0, 1]))
    x, _ = epoch(Loader(split, 2, mean=torch.tensor([2.0, 20.0]), std=torch.tensor([1.0, 10.0])))
    assert x.tolist() == [[-1, -1], [1, 1]]


@pytest.mark.parametrize("augment", ["none", "flip", "crop-flip"])
def test_large_and_small_splits_give_the_same_bits(monkeypatch, augment):
    split = images()
    moments = {"mean": torch.tensor([100.1, 50.3]), "std": torch.tensor([3.3, 7.7])}
    small, _ = epoch(Loader(split, 8, **moments, augment=augment, shuffle=True))
    monkeypatch.setattr(loader_module, "NORMALISE_ONCE", 0)
    large = Loader(split, 8, **moments, augment=augment, shuffle=True)
    assert epoch(large)[0].equal(small)


def test_an_epoch_is_every_example_once_and_another_order_each_time():
    loader = raw(images(), shuffle=True)
    (_, first), (_, second) = epoch(loader, 0), epoch(loader, 1)
    assert first.sort().values.equal(torch.arange(50))
    assert second.sort().values.equal(torch.arange(50))
    assert not first.equal(second)
    assert not first.equal(torch.arange(50))


def test_seed_and_epoch_are_not_interchangeable():
    one, two = raw(images(), seed=1, shuffle=True), raw(images(), seed=2, shuffle=True)
    orders = [epoch(loader, k)[1] for loader in (one, two) for k in (1, 2, 3)]
    assert len({tuple(order.tolist()) for order in orders}) == 6


@pytest.mark.parametrize("augment", ["none", "flip", "crop-flip"])
def test_an_epoch_entered_in_the_middle_goes_on_bit_for_bit(augment):
    whole = list(raw(images(), seed=4, augment=augment, shuffle=True).epoch(3))
    fresh = raw(images(), seed=4, augment=augment, shuffle=True)
    torch.manual_seed(123)  # the global generator has no part in it
    rest = list(fresh.epoch(3, start=4))
    assert len(rest) == 3
    for (x, y), (x_again, y_again) in zip(whole[4:], rest, strict=True):
        assert x.equal(x_again)
        assert y.equal(y_again)


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    epoch(raw(images(), augment="crop-flip", shuffle=True))
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [16, 16, 16]), (False, [16, 16, 16, 2])])
def test_the_last_batch(drop_last, sizes):
    loader = raw(images(), 16, drop_last=drop_last)
    assert [len(y) for _, y in loader.epoch()] == sizes
    assert len(loader) == len(sizes)


def test_batches_are_copies():
    split = images(dtype=torch.float32)
    loader = raw(split)
    for x, _ in loader.epoch():
        x.zero_()
    assert epoch(loader)[0].equal(split.x)


def test_flipped_images_are_the_image_or_its_mirror_in_equal_parts():
    split = images(400, side=4)
    x, y = epoch(raw(split, augment="flip", shuffle=True))
    source = split.x[y].float()
    same, mirrored = ((x == other).flatten(1).all(1) for other in (source, source.flip(-1)))
    assert (same ^ mirrored).all()
    assert 140 < int(mirrored.sum()) < 260  # six standard deviations of a fair coin


def test_crops_are_windows_of_the_zero_padded_image_and_all_of_them_occur():
    split = images(2000, channels=1, side=6)
    x, y = epoch(raw(split, 100, augment="crop-flip", shuffle=True))
    padded = torch.zeros(2000, 1, 14, 14)
    padded[..., 4:10, 4:10] = split.x[y]
    explained = torch.zeros(2000, dtype=torch.bool)
    for row, column, flip in product(range(9), range(9), (False, True)):
        window = padded[..., row : row + 6, column : column + 6]
        matches = (x == (window.flip(-1) if flip else window)).flatten(1).all(1)
        assert matches.any()
        explained |= matches
    assert explained.all()


def test_the_border_that_comes_in_is_black_not_grey():
    split = Split(torch.full((40, 1, 8, 8), 200, dtype=torch.uint8), torch.arange(40))
    x, _ = epoch(Loader(split, 40, mean=torch.tensor([200.0]), std=torch.tensor([50.0]), augment="crop-flip"))
    assert sorted(x.unique().tolist()) == [-4, 0]  # (0 - 200) / 50, and 200 itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 51, "drop_last": True}, "batch_size is 51.*50 examples"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(ConfigurationError, match=message):
        raw(images(), **options)


def test_vectors_cannot_be_flipped():
    with pytest.raises(ConfigurationError, match="vectors"):
        raw(Split(torch.rand(20, 3), torch.arange(20)), augment="flip")


def test_an_unknown_augmentation_is_named():
    with pytest.raises(UnknownName, match="crop-flip"):
        raw(images(), augment="crop-flop")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_batches_come_on_cuda():
    cpu, cuda = (raw(images(), augment="crop-flip", shuffle=True, device=d) for d in ("cpu", "cuda"))
    for (x, y), (x_cuda, y_cuda) in zip(cpu.epoch(2), cuda.epoch(2), strict=True):
        assert x_cuda.device.type == "cuda"
        assert x_cuda.cpu().equal(x)
        assert y_cuda.cpu().equal(y)
