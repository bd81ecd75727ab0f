"""Run by torchrun: rules on a model that ``fully_shard`` has spread over the ranks, and what is kept and gone on with.

    torchrun --standalone --nproc-per-node 2 on_shards.py FOLDER FIRST LAST

Steps FIRST to LAST are made; from the second on, from what was kept in FOLDER, by as many ranks as there were then.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

import plausible
from plausible.core import Learner
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.ranks import whole

RULES = ("sham", "fa", "usf", "frsf", "brsf", "signed-init", "kolen-pollack", "dfa", "backprop")
ROWS = 8


def net() -> nn.Module:
    """An odd number of rows somewhere, so that shards differ in size."""
    torch.manual_seed(0)
    middle = nn.Sequential(nn.Linear(8, 7), nn.Tanh())
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), middle, nn.Linear(7, 4)).double()


def examples() -> tuple[Tensor, Tensor]:
    """The whole batch."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, 6, generator=draw).double(), torch.randint(4, (ROWS,), generator=draw)


def bound(model: nn.Module, rule: str) -> tuple[Learner, torch.optim.Optimizer]:
    """With an optimiser that keeps a state."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)
    return plausible.bind(model, rule, F.cross_entropy, example=examples()[0], optimizer=optimizer), optimizer


def learned(learner: Learner, optimizer: torch.optim.Optimizer, steps: int, ranks: int = 1, rank: int = 0) -> None:
    """Each rank has its rows."""
    x, y = examples()
    own = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
    for _ in range(steps):
        optimizer.zero_grad()
        learner.learn(x[own], y[own])
        optimizer.step()


@record
def main() -> None:
    """All rules; a file with whole Parameters for each step that was the last."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = {}
    for rule in RULES:
        model = net()
        fully_shard(model[2])
        fully_shard(model)
        learner, optimizer = bound(model, rule)
        if rule == "fa":
            B = learner.sites()[0]._buffers["B"]
            assert isinstance(B, DTensor) and B.to_local().numel() == B.numel() // ranks
        kept = str(folder / rule)
        if first > 1:
            states = dict(zip(("learner", "optimizer"), get_state_dict(learner, optimizer), strict=True))
            dcp.load(states, checkpoint_id=kept)
            set_state_dict(learner, optimizer, model_state_dict=states["learner"], optim_state_dict=states["optimizer"])
        learned(learner, optimizer, last - first + 1, ranks, rank)
        states = dict(zip(("learner", "optimizer"), get_state_dict(learner, optimizer), strict=True))
        dcp.save(states, checkpoint_id=kept)
        found[rule] = {name: whole(p.detach()).clone() for name, p in learner.named_parameters()}
    refused(ranks)
    if rank == 0:
        torch.save(found, folder / f"{last}.pt")
    dist.destroy_process_group()


def refused(ranks: int) -> None:
    """What would not be right is said."""
    model = net()
    learner, _ = bound(model, "kolen-pollack")
    fully_shard(model)
    learner.hook(optimizer := torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1))
    learner.learn(*examples())
    told(ConfigurationError, "fully_shard before plausible.bind", optimizer.step)
    model = net()
    fully_shard(model)
    told(ConfigurationError, "sharded", lambda: bound(model, "weight-mirror"))
    attention = nn.TransformerEncoderLayer(8, 2, 8).double()
    fully_shard(attention)
    told(
        CoverageError,
        "before fully_shard",
        lambda: plausible.bind(attention, "fa", F.mse_loss, example=torch.randn(2, 3, 8)),
    )


def told(error: type[Exception], what: str, doing) -> None:
    """``doing`` ends in that error, which says ``what``."""
    try:
        doing()
    except error as caught:
        assert what in str(caught), caught
    else:
        raise AssertionError(f"no {error.__name__} about {what!r}")


if __name__ == "__main__":
    main()
