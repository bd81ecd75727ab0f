"""Run by torchrun: what every rule comes to on several ranks, each of which writes its own file.

torchrun --standalone --nproc-per-node 2 on_ranks.py FOLDER
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from contract_tools import Case, teachable
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

import plausible
from plausible.core import registry

ROWS, STEPS = 8, 3


def cases() -> list[Case]:
    """All rules that can share a batch, on all nets that they can teach."""
    return [Case(name, net) for name in registry.names() if registry.make(name).divisible for net in teachable(name)]


def learned(case: Case, ranks: int = 1, rank: int = 0, *, overlap: bool = True) -> dict[str, Tensor]:
    """Gradients of the first call, and all that there is after some steps. No net collects statistics of batches."""
    model = case.model(seed=rank).eval()  # others on each rank, until they are united
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    learner = case.bind(model, optimizer)
    if ranks > 1:
        plausible.distribute(learner, overlap=overlap)
    x, y = case.examples(n=ROWS)
    own = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
    found: dict[str, Tensor] = {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        learner.learn(x[own], case.rule().teacher(y[own]))
        for name, p in learner.named_parameters():
            if p.grad is not None:
                found.setdefault(f"grad of {name}", p.grad.clone())
        optimizer.step()
    assert ("_overlapped" in vars(learner)) == (ranks > 1 and overlap and learner.one_backward)
    return found | {name: t.clone() for name, t in learner.state_dict().items() if isinstance(t, Tensor)}


def overlaps(ranks: int) -> tuple[bool, ...]:
    """Which ways of sending gradients are tried."""
    return (True, False) if ranks == 2 else (True,)


@record
def main() -> None:
    """All cases, and with two ranks, gradients sent after the backward pass too."""
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = {
        f"{case.name} {case.net.__name__} {overlap}": learned(case, ranks, rank, overlap=overlap)
        for case in cases()
        for overlap in overlaps(ranks)
    }
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
