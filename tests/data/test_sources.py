import inspect
import pickle
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from plausible.core.errors import ConfigurationError, DataError, UnknownName
from plausible.data import load, names


@pytest.fixture
def user(tmp_path, monkeypatch, request):
    """Write a module of the user's into the current folder; returns its name, unlike any other test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the current folder joins it, and must leave again
    name = f"lab_{abs(hash(request.node.nodeid))}"

    def write(source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    return write


def paint(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def parts(dataset):
    return dataset.train, dataset.validation, dataset.test


def rows(split):
    return {row.numpy().tobytes() for row in split.x}


def test_digits_are_all_of_scikit_learns_in_three_stratified_parts():
    data, bunch = load("digits"), load_digits()
    assert (data.shape, data.classes) == ((1, 8, 8), 10)
    everything = torch.cat([part.x for part in parts(data)]).flatten(1) * 16
    expected = torch.from_numpy(bunch.data).float()
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, expected.tolist()))
    assert sum(map(len, map(rows, parts(data)))) == len(set.union(*map(rows, parts(data))))  # disjoint
    overall = np.bincount(bunch.target) / 1797
    for part in parts(data):
        np.testing.assert_allclose(part.y.bincount() / len(part), overall, atol=0.01)


def test_the_seed_moves_the_validation_set_and_never_the_test_set():
    zero, again, one = load("digits"), load("digits"), load("digits", seed=1)
    assert zero.validation.x.equal(again.validation.x)
    assert not zero.validation.x.equal(one.validation.x)
    assert zero.test.x.equal(one.test.x)


def test_the_size_of_the_validation_set_is_a_count_or_a_fraction():
    assert len(load("digits", validation=100).validation) == 100
    data = load("digits", validation=0.25)
    assert len(data.validation) == round(0.25 * (len(data.validation) + len(data.train)))


def test_there_is_a_built_in_for_every_name():
    assert names() == ["cifar10", "cifar100", "digits", "fashion-mnist", "imagenet", "mnist"]
    with pytest.raises(UnknownName, match="Did you mean 'fashion-mnist'"):
        load("fashon-mnist")


@pytest.mark.parametrize("name", ["digits", "mnist", "folder:nowhere"])
def test_an_unknown_option_is_refused_before_anything_is_read(name):
    with pytest.raises(ConfigurationError, match="no option 'sise'"):
        load(name, sise=3)


def test_a_negative_seed_is_refused():
    with pytest.raises(ConfigurationError, match="seed is -1"):
        load("digits", seed=-1)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_missing_data_says_where_it_looked_and_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUSIBLE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"--download.*download=True.*PLAUSIBLE_DATA") as caught:
        load(name)
    assert str(tmp_path) in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_the_root_is_the_argument_then_the_environment_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLAUSIBLE_DATA", str(tmp_path / "environment"))
    for root, expected in ((tmp_path / "argument", "argument"), (None, "environment")):
        with pytest.raises(DataError, match=str(tmp_path / expected)):
            load("mnist", root=root)
    monkeypatch.delenv("PLAUSIBLE_DATA")
    with pytest.raises(DataError, match=str(tmp_path / "home" / ".cache" / "plausible")):
        load("mnist")


def idx(array):
    """The IDX format of MNIST, as its authors describe it: magic, sizes, values, big-endian."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny_mnist(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 20)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(generator.integers(0, 256, (n, 28, 28))))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n) % 10))
    return raw


def test_mnist_files_become_three_uint8_splits(tiny_mnist):
    data = load("mnist", root=tiny_mnist.parents[1], validation=10)
    assert [len(part) for part in parts(data)] == [50, 10, 20]
    assert data.train.x.dtype == torch.uint8
    stored = np.frombuffer((tiny_mnist / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    assert np.array_equal(data.test.x.numpy().ravel(), stored)


@pytest.mark.parametrize("keep", [0, 3, 10, 1000])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_truncated_file_is_a_clear_error(tiny_mnist, file, keep):
    path = tiny_mnist / file
    path.write_bytes(path.read_bytes()[:keep] if keep < 1000 else b"\0" * 1000)
    with pytest.raises(DataError, match=r"cannot be read.*delete that folder.*--download") as caught:
        load("mnist", root=tiny_mnist.parents[1], validation=10)
    assert str(tiny_mnist) in str(caught.value)


def test_a_missing_file_among_others_is_a_clear_error(tiny_mnist):
    (tiny_mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load("mnist", root=tiny_mnist.parents[1], validation=10)


def test_a_pickle_that_is_not_cifar10s_own_is_never_opened(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"cos\nmkdir\n(S'" + str(tmp_path / "opened").encode() + b"'\ntR.")  # runs on load
    with pytest.raises(DataError, match="cannot be read"):
        load("cifar10", root=tmp_path)
    assert not (tmp_path / "opened").exists()


# (name, shape, sizes with a tenth of training held out, known mean and std of the whole training set in [0, 1])
PUBLISHED = [
    ("mnist", (1, 28, 28), [54000, 6000, 10000], [0.1307], [0.3081]),
    ("fashion-mnist", (1, 28, 28), [54000, 6000, 10000], [0.2860], [0.3530]),
    ("cifar10", (3, 32, 32), [45000, 5000, 10000], [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
]


@pytest.mark.images
@pytest.mark.parametrize(("name", "shape", "sizes", "mean", "std"), PUBLISHED, ids=[p[0] for p in PUBLISHED])
def test_real_images_have_their_published_moments(image_root, name, shape, sizes, mean, std):
    data = load(name, root=image_root)
    assert (data.shape, data.classes) == (shape, 10)
    assert [len(part) for part in parts(data)] == sizes
    assert data.validation.y.bincount().float().std() < 0.07 * sizes[1] / 10  # MNIST's classes differ a little
    torch.testing.assert_close(data.mean / 255, torch.tensor(mean), atol=2e-3, rtol=0)
    torch.testing.assert_close(data.std / 255, torch.tensor(std), atol=2e-3, rtol=0)


COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


@pytest.fixture
def pictures(tmp_path):
    for name, colour in COLOURS.items():
        for i in range(10):
            paint(tmp_path / "pictures" / name / f"{i}.png", colour, size=(9 + i, 12))
    return tmp_path / "pictures"


def test_a_folder_of_classes_is_split_in_three(pictures):
    data = load(f"folder:{pictures}", size=5, validation=2)
    assert (data.shape, data.classes) == ((3, 5, 5), 2)
    assert [len(part) for part in parts(data)] == [14, 2, 4]
    for part in parts(data):
        expected = torch.tensor(list(COLOURS.values()), dtype=torch.uint8)[part.y]
        assert part.x.equal(expected.view(-1, 3, 1, 1).expand_as(part.x))


def test_the_middle_of_an_image_is_kept_and_its_shape_not_squashed(pictures):
    image = Image.new("RGB", (30, 10), (0, 0, 255))
    image.paste((255, 255, 255), (10, 0, 20, 10))  # only the middle third is white
    for i in range(10):
        image.save(pictures / "blue" / f"{i}.png")
    data = load(f"folder:{pictures}", size=10, validation=2)
    assert (data.train.x[data.train.y == 0] == 255).all()


@pytest.mark.parametrize("with_val", [True, False])
def test_official_parts_of_a_folder_are_kept(tmp_path, with_val):
    levels = {"train": 10, "test": 200} | ({"val": 100} if with_val else {})
    for part, level in levels.items():
        for label in ("cat", "dog"):
            for i in range(6):
                paint(tmp_path / part / label / "deeper" / f"{i}.jpg", (level, level, level))
    data = load(f"folder:{tmp_path}", validation=2)
    assert data.shape == (3, 32, 32)
    assert data.test.x.unique().tolist() == [200]
    assert data.train.x.unique().tolist() == [10]
    assert data.validation.x.unique().tolist() == ([100] if with_val else [10])
    assert len(data.validation) == (12 if with_val else 2)


def test_hidden_files_are_passed_over(pictures):
    (pictures / ".DS_Store").write_text("x")
    (pictures / "red" / ".hidden.png").write_text("x")
    assert len(load(f"folder:{pictures}", validation=2).train) == 14


@pytest.mark.parametrize("stray", ["notes.txt", "red/notes.txt", "red/deeper/more.csv"])
def test_a_stray_file_is_named(pictures, stray):
    (pictures / stray).parent.mkdir(exist_ok=True)
    (pictures / stray).write_text("hello")
    with pytest.raises(DataError, match="Move or delete") as caught:
        load(f"folder:{pictures}")
    assert str(pictures / stray) in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("damage", ["empty", "text", "half"])
def test_an_unreadable_image_is_named(pictures, suffix, damage):
    path = pictures / "red" / f"noise.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"not an image", "half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(DataError, match=r"cannot be read as an image.*Replace or delete") as caught:
        load(f"folder:{pictures}")
    assert str(path) in str(caught.value)


def test_what_is_wrong_with_a_folder_is_said(pictures, tmp_path):
    with pytest.raises(DataError, match="nowhere: No such file"):
        load(f"folder:{tmp_path / 'nowhere'}")
    (pictures / "empty").mkdir()
    with pytest.raises(DataError, match="empty: this class has no images"):
        load(f"folder:{pictures}")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="void has only nothing in it"):
        load(f"folder:{tmp_path / 'void'}")
    with pytest.raises(ConfigurationError, match="size is 0"):
        load(f"folder:{pictures}", size=0)


def test_a_test_class_unknown_in_training_is_named(tmp_path):
    for part in ("train", "test"):
        for label in ("cat", "dog", *(("eel",) if part == "test" else ())):
            for i in range(4):
                paint(tmp_path / part / label / f"{i}.png", (i, i, i))
    with pytest.raises(DataError, match="eel: no such class in the training folder"):
        load(f"folder:{tmp_path}")


def test_train_without_test_is_explained(tmp_path):
    paint(tmp_path / "train" / "cat" / "0.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"has only train in it.*test/"):
        load(f"folder:{tmp_path}")


def test_a_callable_may_return_arrays_and_takes_options(user):
    name = user("""
        import numpy as np

        def blobs(n, centre=3.0):
            y = np.arange(n) % 2
            return ((y[:, None] * centre).repeat(4, 1), y), (np.full((2, 4), 7.0), [0, 1])
    """)
    data = load(f"{name}:blobs", n=20, validation=4)
    assert (data.shape, data.classes) == ((4,), 2)
    assert [len(part) for part in parts(data)] == [16, 4, 2]
    assert data.train.x.equal(3.0 * data.train.y.unsqueeze(1).expand(-1, 4))
    assert data.test.x.unique().tolist() == [7]
    with pytest.raises(ConfigurationError, match="no option 'm'; its options are n, centre"):
        load(f"{name}:blobs", m=3)


def test_a_callable_may_return_a_data_set_of_its_own(user):
    name = user("""
        import torch
        from plausible.data import Dataset, Split

        def make():
            return Dataset("mine", *(Split(torch.rand(4, 1, 2, 2), torch.arange(4) % 2) for _ in range(3)))
    """)
    data = load(f"{name}:make")
    assert [len(part) for part in parts(data)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("7", "returned a int"),
        ("(X, Y)", "returned a tuple"),
        ("((X, Y), (X * float('nan'), Y))", "test: x holds NaN"),
        ("((X, Y), (X[:3], Y))", "test: x has 3 examples but y has 8"),
        ("((X, Y.float()), (X, Y))", "train: y is torch.float32"),
        ("((X, Y + 1), (X.clone(), Y))", "1 comes where 0 was expected"),
        ("((X, Y), (X.clone(), Y + 5))", "test: example 0 has label 5"),
        ("(([[1.0], [2.0, 3.0]], [0, 1]), (X, Y))", "train: "),
        ("((X, Y), (None, Y))", "test: "),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_whatever_a_callable_returns_or_raises_is_explained(user, returned, message):
    name = user(f"""
        import torch

        X, Y = torch.rand(8, 3), torch.arange(8) % 2

        def make():
            return {returned}
    """)
    with pytest.raises(DataError, match=message):
        load(f"{name}:make", validation=2)


def test_nothing_is_downloaded_by_default():
    assert inspect.signature(load).parameters["download"].default is False


@pytest.mark.images
def test_cifar10s_test_images_are_the_stored_bytes(image_root):
    data = load("cifar10", root=image_root)  # has checked the file's digest before it is unpickled here
    with (image_root / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        stored = pickle.load(file, encoding="latin1")
    assert np.array_equal(data.test.x.numpy(), stored["data"].reshape(-1, 3, 32, 32))  # red, green, blue; row by row
    assert data.test.y.tolist() == stored["labels"]
