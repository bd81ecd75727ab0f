"""Weights and activity seen from a neuron: a unit of a linear layer, or a channel of a convolution."""

import torch
from torch import Tensor, nn


def outgoing(layer: nn.Module, weight: Tensor) -> Tensor:
    """The weights with which each presynaptic neuron of ``layer`` reaches others: (neurons, synapses of each).

    Args:
        layer: linear or convolutional.
        weight: its weight, or anything in the weight's shape, such as an update: (out, in), or
            (C_out, C_in / groups, *kernel), in which a channel reaches the outputs of its own group.
    """
    groups = layer.groups if isinstance(layer, nn.modules.conv._ConvNd) else 1
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return grouped.transpose(1, 2).reshape(groups * weight.shape[1], -1)


def by_neuron(layer: nn.Module, activity: Tensor) -> Tensor:
    """Inputs or responses of ``layer``, one row for each neuron: (neurons, examples × positions)."""
    return activity.movedim(neurons_axis(layer), 0).flatten(1)


def neurons_axis(layer: nn.Module) -> int:
    """The dimension, counted from the end, along which the neurons lie in what enters and leaves ``layer``."""
    return 1 - layer.get_parameter("weight").dim() if isinstance(layer, nn.modules.conv._ConvNd) else -1


def half(neurons: int, generator: torch.Generator) -> Tensor:
    """A random half of them, rounded down: (neurons,) bool."""
    chosen = torch.zeros(neurons, dtype=torch.bool)
    chosen[torch.randperm(neurons, generator=generator)[: neurons // 2]] = True
    return chosen
