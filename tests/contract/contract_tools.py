"""What the contract suite looks at."""

import torch
from torch import Tensor, nn

from plausible.core import Learner


def taught(model: nn.Module) -> dict[str, Tensor]:
    """The gradients there are, by name; copies."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def own_state(learner: Learner) -> dict[str, Tensor]:
    """What the learner keeps besides the model; copies."""
    state = {k: v for k, v in learner.state_dict().items() if isinstance(v, Tensor) and not k.startswith("model.")}
    return {k: v.clone() for k, v in state.items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The same entries, bit for bit."""
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
