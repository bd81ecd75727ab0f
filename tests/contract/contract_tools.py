"""What the contract suite looks at."""

from typing import Any

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


def assert_same_clock(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Of two state dicts, the entries that are no tensors: the clock, and the streams that go on. Takes them out."""
    one, two = a.pop("_extra_state"), b.pop("_extra_state")
    streams = [each.pop("state", []) for each in (one, two)]
    assert one == two
    assert_same(*({str(i): part for i, part in enumerate(parts)} for parts in streams))


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The same entries, bit for bit."""
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
