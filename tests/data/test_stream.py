"""Streamed images: the batches against torchvision's own, their order, and files that are no data."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from plausible.core.errors import ConfigurationError, DataError, UnknownName
from plausible.data import load
from plausible.data.decode import by_pillow, decode
from plausible.data.stream import Reader

DRAW = np.random.default_rng(0)


def picture(path, size=(40, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = DRAW.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


@pytest.fixture
def tree(tmp_path):
    """Three classes with 6 training images each, of several sizes, and 2 in val."""
    for part, count in (("train", 6), ("val", 2)):
        for label in "abc":
            for i in range(count):
                picture(tmp_path / part / label / f"{i}.png", size=(30 + i, 40 - i))
    return tmp_path


def stream(path, **options):
    return load(f"stream:{path}", **{"size": 16, "validation": 6, "workers": 0, **options})


def raw(batches):
    """(pixels 0-255, labels) of an iterable of normalised batches."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x * std + mean).round(), y


def training(data, **options):
    return data.batches("train", 4, **{"augment": "resized-crop-flip", "shuffle": True, "drop_last": True, **options})


def same(one, other):
    one, other = list(one), list(other)
    return len(one) == len(other) and all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(one, other, strict=True))


def test_an_evaluation_is_torchvisions_image_folder_resized_and_cropped_at_the_centre(tree):
    data = stream(tree, resize=20)
    usual = v2.Compose([v2.PILToTensor(), v2.Resize(20, antialias=True), v2.CenterCrop(16)])
    expected = [(x.float(), y) for x, y in ImageFolder(tree / "val", usual)]
    x, y = raw(data.batches("test", 4).epoch())
    assert y.tolist() == [label for _, label in expected]
    assert x.equal(torch.stack([pixels for pixels, _ in expected]))
    assert (data.shape, data.classes, data.names) == ((3, 16, 16), 3, ["a", "b", "c"])


def test_validation_is_cut_from_train_and_val_is_the_test(tree):
    data = stream(tree)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 6)
    names = [set(part.names.tolist()) for part in (data.train, data.validation)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 18
    assert data.validation.y.bincount().tolist() == [2, 2, 2]
    (tree / "val").rename(tree / "test")
    assert len(stream(tree).test) == 6
    for label in "abc":
        picture(tree / "val" / label / "0.png")
    data = stream(tree)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 3, 6)


def test_imagenet_is_train_and_val_and_whatever_else_lies_there_is_no_matter(tree):
    (tree / "ILSVRC2012_devkit_t12.tar.gz").touch()
    (tree / "test").mkdir()
    for root in (tree, tree.parent):
        if root != tree:
            tree.rename(root / "imagenet")
        data = load("imagenet", root=root, size=16, validation=6)
        assert (data.classes, len(data.train), len(data.test)) == (3, 12, 6)
    with pytest.raises(DataError, match=r"no imagenet in .*--data-dir"):
        load("imagenet", root=root / "nowhere")


def test_batches_depend_on_seed_and_epoch_and_on_nothing_else(tree):
    whole = list(training(stream(tree), seed=3).epoch(2))
    several = training(stream(tree, workers=2), seed=3)
    list(several.epoch(0))  # what was before has no part in it
    assert same(several.epoch(2), whole)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert same(several.epoch(2, start=1), whole[1:]), "entered in the middle"
    assert same([several.first()], list(training(stream(tree), seed=3).epoch(0))[:1])
    assert torch.rand(3).equal(expected), "the global generator is left alone"
    several.close()
    for other in (training(stream(tree), seed=4).epoch(2), training(stream(tree), seed=3).epoch(1)):
        assert not same(other, whole)


def test_an_epoch_has_every_image_once_each_augmented_in_its_own_way(tree):
    for path in tree.glob("train/*/*.png"):  # each in a colour of its own, which crops and flips leave
        label, i = "abc".index(path.parent.name), int(path.stem)
        Image.new("RGB", (30, 20), (50 * label, 40 * i, 0)).save(path)
    x, _ = raw(training(stream(tree)).epoch(0))
    colours = {tuple(image[:, 0, 0].tolist()) for image in x}
    assert len(x) == len(colours) == 12
    picture(tree / "train" / "a" / "0.png")
    content = (tree / "train" / "a" / "0.png").read_bytes()
    for path in tree.glob("train/*/*.png"):
        path.write_bytes(content)
    x, _ = raw(training(stream(tree)).epoch(0))
    assert len({image.numpy().tobytes() for image in x}) == 12, "one image, twelve crops"


def encoded(mode, kind, value, size=(6, 4), **options):
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "pixel"),
    [
        (encoded("L", "PNG", 77), (77, 77, 77)),
        (encoded("RGBA", "PNG", (10, 20, 30, 0)), (10, 20, 30)),
        (encoded("P", "PNG", 0), (0, 0, 0)),
        (encoded("1", "PNG", 1), (255, 255, 255)),
        (encoded("I;16", "PNG", 0x8080), (128, 128, 128)),
        (encoded("RGB", "BMP", (10, 20, 30)), (10, 20, 30)),
        (encoded("RGB", "TIFF", (10, 20, 30)), (10, 20, 30)),
        (encoded("RGB", "WEBP", (10, 20, 30), lossless=True), (10, 20, 30)),
        (encoded("RGB", "GIF", (10, 20, 30), save_all=True, append_images=[Image.new("RGB", (6, 4))]), (10, 20, 30)),
        (encoded("CMYK", "JPEG", (255, 0, 0, 0), quality=100), (0, 255, 255)),
        (encoded("L", "JPEG", 77, quality=100), (77, 77, 77)),
    ],
    ids=["grey", "alpha", "palette", "bit", "16-bit", "bmp", "tiff", "webp", "gif", "cmyk", "grey-jpeg"],
)
def test_whatever_the_file_holds_becomes_eight_bits_in_three_channels(content, pixel):
    for x in (decode(content), by_pillow(content)):
        assert (x.dtype, tuple(x.shape)) == (torch.uint8, (3, 4, 6))
        assert (x.int() - torch.tensor(pixel).view(3, 1, 1)).abs().max() <= 2


def test_how_the_camera_was_held_is_not_looked_at():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90°
    assert tuple(decode(encoded("RGB", "JPEG", 0, exif=exif)).shape) == (3, 4, 6)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"hello" + b, lambda b: b[:2]])
def test_what_cannot_be_decoded_is_an_error_that_says_so(damage):
    with pytest.raises(DataError, match=r"^cannot be decoded as an image \(.+\)$"):
        decode(damage(encoded("RGB", "JPEG", 0, size=(64, 64))))


def test_a_damaged_image_is_refused_by_its_name_when_it_comes(tree):
    broken = tree / "val" / "b" / "1.png"
    broken.write_bytes(b"\x89PNG")
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"val/b/1.png: cannot be decoded.*Replace it.*on_bad=skip"):
            list(stream(tree, workers=workers).batches("test", 4).epoch())


def test_skipped_it_is_left_out_of_an_evaluation_and_replaced_in_training(tree):
    for path in (tree / "val" / "b" / "1.png", *(tree / "train" / "a").glob("[1-5].png")):
        path.write_bytes(b"")
    data = stream(tree, on_bad="skip", validation=3)
    assert torch.cat([y for _, y in data.batches("test", 2).epoch()]).tolist() == [0, 0, 1, 2, 2]
    assert data.skipped == {str(tree / "val" / "b" / "1.png"): "cannot be decoded as an image (it is empty)"}
    labels = [y for _, y in data.batches("train", 3, shuffle=True, drop_last=True).epoch()]
    assert [len(y) for y in labels] == [3] * 5 and torch.cat(labels).bincount().tolist() == [5, 5, 5]
    (tree / "train" / "a" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/a/.*Not one image of its class"):
        list(stream(tree, on_bad="skip", validation=3).batches("train", 3, shuffle=True, drop_last=True).epoch())


def stray(tree):
    (tree / "train" / "notes.txt").touch()


def stray_inside(tree):
    (tree / "train" / "a" / "notes.txt").touch()


def beside(tree):
    (tree / "extra").mkdir()


def empty_class(tree):
    (tree / "train" / "d").mkdir()


def strange_class(tree):
    picture(tree / "val" / "d" / "0.png")


def absent_class(tree):
    for path in (tree / "val" / "c").iterdir():
        path.unlink()
    (tree / "val" / "c").rmdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (stray, "train/notes.txt: a stray file"),
        (stray_inside, "train/a/notes.txt: not an image"),
        (beside, "extra: stray beside"),
        (empty_class, "train/d: this class has no images"),
        (strange_class, "val/d: no such class in the training folder"),
        (absent_class, "val/c: not there; val/ lacks 1 of the 3 classes"),
    ],
)
def test_what_does_not_belong_is_refused_before_anything_or_named_and_skipped(tree, spoil, said):
    spoil(tree)
    with pytest.raises(DataError, match=said):
        stream(tree)
    data = stream(tree, on_bad="skip")
    ((path, why),) = data.skipped.items()
    assert f"{path}: {why}".startswith(f"{tree}/{said}") and data.classes == 3


def test_a_layout_that_is_none_says_what_is_expected(tree):
    with pytest.raises(DataError, match=r"nowhere: No such file"):
        stream(tree / "nowhere")
    with pytest.raises(DataError, match=r"no train/ with val/ or test/"):
        stream(tree / "train")
    for label in "abc":
        for path in (tree / "val" / label).iterdir():
            path.rename(tree / "val" / f"{label}{path.name}")
        (tree / "val" / label).rmdir()
    with pytest.raises(DataError, match=r"val: images, but no class folders. ImageNet's val comes like this"):
        stream(tree, on_bad="skip")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"size": 0}, "size is 0"), ({"size": "big"}, "size is 'big'"), ({"resize": 8}, "resize is 8.*at least 16"),
     ({"on_bad": "ignore"}, "on_bad is 'ignore'"), ({"sise": 3}, "no option 'sise'")],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused(tree, options, said):
    with pytest.raises(ConfigurationError, match=said):
        stream(tree, **options)


def test_an_augmentation_that_is_none_names_those_there_are(tree):
    with pytest.raises(UnknownName, match="resized-crop-flip"):
        stream(tree).batches("train", 4, augment="resized-crop-flop")
    with pytest.raises(ConfigurationError, match="batch_size is 99"):
        stream(tree).batches("train", 99, drop_last=True)


def test_a_process_that_dies_is_an_error_with_a_way_out(tree, monkeypatch):
    monkeypatch.setattr(Reader, "__getitem__", lambda self, asked: os._exit(1))
    with pytest.raises(DataError, match=r"died.*--workers"):
        list(stream(tree, workers=1).batches("test", 4).epoch())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_batches_on_cuda(tree):
    data = stream(tree, workers=1)
    there = [(x.cpu(), y.cpu()) for x, y in training(data, device="cuda").epoch(1)]
    for (x, y), (x_there, y_there) in zip(training(data).epoch(1), there, strict=True):
        assert y.equal(y_there)
        torch.testing.assert_close(x, x_there)
