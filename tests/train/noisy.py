"""A model with all that a resume can forget: dropout draws random numbers, batch normalisation keeps averages."""

from math import prod

from torch import nn


def model(*, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), 24),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(24, classes),
    )
