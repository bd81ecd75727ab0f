import sys

import pytest
import torch
from torch import nn

from plausible.core.errors import ConfigurationError, UnknownName
from plausible.models import build, names

IMAGE, GREY, LARGE = (3, 32, 32), (1, 28, 28), (3, 63, 63)


def suited(name):
    """A shape of images that the model takes."""
    return LARGE if name == "alexnet" else IMAGE


def parameters(model):
    return sum(p.numel() for p in model.parameters())


# Counted by hand or printed in the literature, never by this code.
COUNTS = [
    ("mlp", GREY, {}, 784 * 256 + 256 + 256 * 256 + 256 + 2570),
    ("mlp", GREY, {"depth": 0}, 7850),
    ("mlp", (64,), {"width": 5, "depth": 1}, 64 * 5 + 5 + 5 * 10 + 10),
    ("mlp", (64,), {"width": 5, "depth": 1, "batch_norm": True}, 64 * 5 + 2 * 5 + 5 * 10 + 10),
    ("lenet", IMAGE, {}, 896 + 18496 + 73856 + 33024 + 2570),
    ("lenet", GREY, {}, 320 + 18496 + 73856 + 33024 + 2570),
    ("small-conv", GREY, {}, 144 + 32 + 4608 + 64 + 18432 + 128 + 10250),
    ("small-conv", GREY, {"batch_norm": False}, 160 + 4640 + 18496 + 10250),
    ("small-conv", (1, 8, 8), {"width": 2}, 18 + 4 + 72 + 8 + 288 + 16 + 90),
    ("avg-conv", GREY, {}, 320 + 18496 + 36928 + 31370),
    ("avg-conv", (3, 9, 6), {"width": 2, "kernel": 5}, 152 + 204 + 148 + 90),
    ("rsnn", GREY, {}, 28 * 100 + 100 + 100 * 100 + 1010),
    ("rsnn", (7,), {"width": 5, "adaptive": 2}, 7 * 5 + 5 + 25 + 5 * 10 + 10),
    ("lif-mlp", GREY, {"width": 9}, 1568 * 9 + 81 + 90),
    ("lif-mlp", (7,), {"width": 5, "depth": 1, "sensors": "on", "bias": True}, 35 + 5 + 50 + 10),
    ("resnet20", IMAGE, {}, 269722),  # He et al. 2016: 0.27M
    ("resnet20", IMAGE, {"shortcut": "B"}, 269722 + 16 * 32 + 64 + 32 * 64 + 128),
    ("resnet56", IMAGE, {}, 853018),  # 0.85M
    ("resnet18", (3, 224, 224), {}, 11689512 - 990 * 513),  # torchvision's table, with 10 classes for 1000
    ("resnet18", IMAGE, {}, 11689512 - 990 * 513 - 64 * 3 * (49 - 9)),
]


@pytest.mark.parametrize(("name", "shape", "options", "count"), COUNTS)
def test_parameters_are_as_many_as_published_or_counted_by_hand(name, shape, options, count):
    assert parameters(build(name, shape=shape, classes=10, **options)) == count


SHAPES = [
    *(("mlp", shape) for shape in ((5,), (1, 8, 8), IMAGE)),
    *(("lenet", shape) for shape in (GREY, IMAGE, (2, 18, 18), (3, 40, 25))),
    *(("small-conv", shape) for shape in ((1, 8, 8), GREY, IMAGE, (3, 17, 5), (1, 1, 1))),
    *(("avg-conv", shape) for shape in ((1, 4, 4), GREY, (3, 17, 5))),
    *(("rsnn", shape) for shape in (GREY, IMAGE, (1, 8, 8))),
    *(("lif-mlp", shape) for shape in ((5,), (1, 8, 8))),
    *(("resnet20", shape) for shape in (GREY, IMAGE, (1, 8, 8))),
    ("resnet56", (3, 8, 8)),
    *(("resnet18", shape) for shape in ((1, 8, 8), IMAGE, (2, 65, 65))),
]


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_outputs_are_logits_and_every_parameter_has_a_gradient(name, shape):
    torch.manual_seed(0)
    model = build(name, shape=shape, classes=7)
    output = model(torch.randn(3, *shape))
    assert output.shape == (3, 7)
    output.square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", names())
def test_no_activation_works_in_place(name):
    in_place = [m for m in build(name, shape=suited(name), classes=2).modules() if getattr(m, "inplace", False)]
    assert in_place == []


@pytest.mark.parametrize("name", names())
def test_weights_come_from_the_global_random_state(name):
    def first():
        return torch.cat([p.flatten() for p in build(name, shape=suited(name), classes=2).parameters()])

    torch.manual_seed(1)
    one = first()
    torch.manual_seed(1)
    again = first()
    assert one.equal(again)
    assert not one.equal(first())


def test_names_are_the_built_ins():
    expected = [
        "alexnet",
        "avg-conv",
        "lenet",
        "lif-mlp",
        "mlp",
        "resnet18",
        "resnet20",
        "resnet56",
        "rsnn",
        "small-conv",
    ]
    assert names() == expected
    with pytest.raises(UnknownName, match="Did you mean 'resnet20'"):
        build("resnet2O", shape=IMAGE, classes=10)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        (
            "mlp",
            GREY,
            {"widht": 3},
            "'mlp' has no option 'widht'; its options are width, depth, activation, batch_norm, activation_options",
        ),
        ("lenet", GREY, {"width": 3}, "'lenet' has no option 'width'; it has no options"),
        ("mlp", GREY, {"width": 0}, "width is 0"),
        ("mlp", GREY, {"width": 2.5}, "width is 2.5"),
        ("mlp", GREY, {"depth": -1}, "depth is -1"),
        ("mlp", GREY, {"depth": True}, "depth is True"),
        ("mlp", GREY, {"activation": "gelu"}, "activation is 'gelu'.*relu, tanh, sigmoid, lif, soft-lif"),
        ("avg-conv", GREY, {"kernel": 2}, "kernel is 2.*1, 3, 5, 7"),
        ("avg-conv", GREY, {"activation": "gelu"}, "activation is 'gelu'"),
        ("avg-conv", GREY, {"dropout": 1.0}, "dropout is 1.0; it must be a number from 0 to below 1"),
        ("avg-conv", (1, 3, 8), {}, "at least 4x4 pixels"),
        ("small-conv", GREY, {"width": "16"}, "width is '16'"),
        ("small-conv", (64,), {}, "needs images.*Use 'mlp'"),
        ("lenet", (1, 17, 28), {}, "at least 18x18 pixels, these have 17x28"),
        ("resnet20", IMAGE, {"shortcut": "C"}, "shortcut is 'C'.*A, B"),
        ("resnet18", IMAGE, {"stem": "big"}, "stem is 'big'.*cifar, imagenet"),
    ],
)
def test_what_a_model_cannot_take_is_refused(name, shape, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(name, shape=shape, classes=10, **options)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the current folder joins it, and must leave again
    monkeypatch.delitem(sys.modules, "lab_nets", raising=False)
    (tmp_path / "lab_nets.py").write_text(
        "from torch import nn\n"
        "def wide(*, shape, classes, width=3): return nn.Linear(shape[0], width * classes)\n"
        "def bare(shape, classes): return 5\n"
        "def broken(shape, classes): raise RuntimeError('no weights')\n"
        "def other(inputs): return nn.Identity()\n"
    )


def test_a_callable_of_the_users_is_given_shape_classes_and_options(lab):
    model = build("lab_nets:wide", shape=(4,), classes=2, width=5)
    assert isinstance(model, nn.Linear)
    assert (model.in_features, model.out_features) == (4, 10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lab_nets:wide", {"depth": 2}, "no option 'depth'; its options are width"),
        ("lab_nets:bare", {}, "returned a int; expected is a torch.nn.Module"),
        ("lab_nets:broken", {}, "RuntimeError: no weights"),
        ("lab_nets:other", {}, "called with shape=.*TypeError"),
        ("lab_nets:none", {}, "lab_nets has no 'none'"),
    ],
)
def test_what_a_callable_does_wrong_is_explained(lab, name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(name, shape=(4,), classes=2, **options)
