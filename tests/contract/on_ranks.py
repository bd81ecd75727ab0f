"""Run by torchrun: what every rule comes to on several ranks, each of which writes its own file.

torchrun --standalone --nproc-per-node 4 on_ranks.py FOLDER RULE [RULE ...]
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from contract_tools import Case, teachable
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

import plausible
from plausible.core import registry

ROWS, STEPS = 8, 3


def cases(names: Iterable[str]) -> list[Case]:
    """The rules of these that can share a batch, on all nets that they can teach."""
    return [Case(name, net) for name in names if registry.make(name).divisible for net in teachable(name)]


def key(case: Case, ranks: int, overlap: bool) -> str:
    """What came of a case goes by this."""
    return f"{case.name} {case.net.__name__}, {ranks} ranks, {overlap}"


def learned(
    case: Case, group: dist.ProcessGroup | None = None, ranks: int = 1, rank: int = 0, *, overlap: bool = True
) -> dict[str, Tensor]:
    """Gradients of the first call, and all that there is after some steps. No net collects statistics of batches."""
    model = case.model(seed=rank).eval()  # others on each rank, until they are united
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    learner = case.bind(model, optimizer)
    if ranks > 1:
        plausible.distribute(learner, group, overlap=overlap)
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


WAYS = ((2, True), (2, False), (4, True))
"""How many ranks, and whether gradients are sent while the backward pass goes on, where they can be."""


@record
def main() -> None:
    """All cases, on the first two ranks and on all."""
    dist.init_process_group("gloo")
    rank, pair = dist.get_rank(), dist.new_group([0, 1])
    found = {
        key(case, ranks, overlap): learned(case, pair if ranks == 2 else None, ranks, rank, overlap=overlap)
        for ranks, overlap in WAYS
        if rank < ranks
        for case in cases(sys.argv[2:])
    }
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
