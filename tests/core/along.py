"""What feedback alignment is, said without it: back-propagation through B, along the trajectory that W has made."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from plausible.audit.trajectory import Trajectory


def gradients(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    """Of what ``run`` gives, by plain autograd, on a copy."""
    plain = copy.deepcopy(model)
    run(plain).backward()
    return {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}


def through(
    model: nn.Module, inputs: Any, run: Callable[[nn.Module], Tensor], feedback: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The gradients of ``run`` (model ↦ loss) where the weights named in ``feedback`` are exchanged and nothing that
    the units do is: only what is saved of the weights for the way back has changed."""
    trajectory, plain, other = Trajectory(inputs), copy.deepcopy(model), copy.deepcopy(model)
    with trajectory.recorded(plain):
        run(plain)
    with torch.no_grad():
        for name, B in feedback.items():
            other.get_parameter(name).copy_(B)
    with trajectory.repeated(other):
        loss = run(other)
    loss.backward()
    return {name: p.grad for name, p in other.named_parameters() if p.grad is not None}
