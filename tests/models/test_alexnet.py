"""AlexNet against torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models import alexnet

from plausible.core.errors import ConfigurationError
from plausible.models import build


def test_without_its_normalisation_it_is_torchvisions_without_dropout():
    ours, theirs = build("alexnet", shape=(3, 224, 224), classes=7), alexnet(num_classes=7).eval()
    ours_weights = [m for m in ours if isinstance(m, nn.Conv2d | nn.Linear)]
    their_weights = [m for m in theirs.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for mine, other in zip(ours_weights, their_weights, strict=True):
            mine.weight.copy_(other.weight)
            if mine.bias is None:
                other.bias.zero_()
            else:
                mine.bias.copy_(other.bias)
        plain = nn.Sequential(*(m for m in ours if not isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)))
        x = torch.randn(2, 3, 224, 224)
        torch.testing.assert_close(plain(x), theirs(x))


def test_every_relu_has_a_normalisation_before_it_and_that_no_bias():
    layers = list(build("alexnet", shape=(3, 63, 63), classes=7))
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.ReLU):
            assert isinstance(layers[i - 1], nn.BatchNorm1d | nn.BatchNorm2d) and layers[i - 2].bias is None
    assert sum(isinstance(layer, nn.ReLU) for layer in layers) == 7


def test_the_smallest_image_passes_and_a_smaller_one_is_refused():
    build("alexnet", shape=(1, 63, 63), classes=3).eval()(torch.zeros(1, 1, 63, 63))
    with pytest.raises(ConfigurationError, match="at least 63x63"):
        build("alexnet", shape=(1, 62, 63), classes=3)
