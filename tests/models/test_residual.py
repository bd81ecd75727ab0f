import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from plausible.models import build


def test_resnet18_with_the_imagenet_stem_is_torchvisions():
    torch.manual_seed(3)
    ours = build("resnet18", shape=(3, 32, 32), classes=10, stem="imagenet")
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(weights=None, num_classes=10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(value.equal(theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    x = torch.randn(2, 3, 32, 32)
    assert ours(x).equal(theirs(x))


@pytest.mark.parametrize(("side", "size"), [(64, 3), (65, 7)])
def test_the_stem_follows_the_image_size(side, size):
    model = build("resnet18", shape=(1, side, side), classes=10)
    assert model.get_submodule("conv1").weight.shape == (64, 1, size, size)


def test_the_cifar_stem_keeps_the_resolution():
    model = build("resnet18", shape=(3, 32, 32), classes=10)
    sizes = []
    model.get_submodule("layer1").register_forward_hook(lambda m, x, y: sizes.append(tuple(y.shape[2:])))
    model(torch.randn(2, 3, 32, 32))
    assert sizes == [(32, 32)]


@pytest.mark.parametrize("name", ["resnet20", "resnet56", "resnet18"])
def test_convolutions_start_with_hes_variance(name):
    torch.manual_seed(0)
    model = build(name, shape=(3, 32, 32), classes=10)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            sigma = math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels))
            assert module.bias is None
            # The relative error of a standard deviation from n Gaussian samples is 1 / sqrt(2 n): five of these.
            assert abs(float(module.weight.detach().std()) / sigma - 1) < 5 / math.sqrt(2 * module.weight.numel())
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


@pytest.mark.parametrize(("name", "weighted"), [("resnet20", 20), ("resnet56", 56)])
def test_depth_is_the_number_of_weighted_layers(name, weighted):
    model = build(name, shape=(3, 32, 32), classes=10)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == weighted


def test_the_stages_have_16_32_64_channels_on_32_16_8_pixels():
    model = build("resnet20", shape=(3, 32, 32), classes=10)
    shapes = []
    for stage in ("stage1", "stage2", "stage3"):
        model.get_submodule(stage).register_forward_hook(lambda m, x, y: shapes.append(tuple(y.shape[1:])))
    model(torch.randn(2, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def literal_resnet20(w, x):
    """ResNet-20 with option A, written out from He et al. (2016), section 4.2, with batch statistics."""

    def unit(x, conv, bn, stride=1):
        y = F.conv2d(x, w[f"{conv}.weight"], stride=stride, padding=1)
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = (w[f"{bn}.{p}"].view(1, -1, 1, 1) for p in ("weight", "bias"))
        return (y - mean) / (variance + 1e-5).sqrt() * scale + shift

    x = unit(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            key = f"stage{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = unit(unit(x, f"{key}.conv1", f"{key}.bn1", stride).relu(), f"{key}.conv2", f"{key}.bn2")
            if stride == 2:
                x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)
            x = (x + y).relu()
    return x.mean((2, 3)) @ w["readout.weight"].T + w["readout.bias"]


def test_resnet20_computes_what_the_paper_writes():
    torch.manual_seed(0)
    model = build("resnet20", shape=(3, 16, 16), classes=10).double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    expected = literal_resnet20(dict(model.named_parameters()), x)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
