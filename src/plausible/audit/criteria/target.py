"""The teacher tells the right answer, where the world only says how good an answer was, or nothing.

The same examples are learned from with the same random numbers, once for each of the K labels that the first of them
might have. As many distinct updates as labels: the label is told. Two: a bit, such as a reward. One: nothing.
"""

from math import log2

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, criterion, rounding, thresholds
from plausible.audit.finding import Finding
from plausible.audit.subject import Subject

NAME = "target"
EXAMPLES = 6  # batch normalisation wants some; only the label of the first changes
FEWEST = 3  # of two labels, a reward tells which


@criterion(NAME, order=6, core=True)
def target(subject: Subject, batch: Batch) -> Finding:
    """Give one example every label; how many distinct updates come of it?"""
    if batch.classes < FEWEST:
        why = f"there are {batch.classes} labels, and of two a reward bit tells as much as the label"
        return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")
    limits = thresholds(NAME)
    batch = batch.first(EXAMPLES)
    updates = []
    for label in range(batch.classes):
        y = batch.y.clone()
        y[0] = label
        updates.append(subject.copy().update(batch.x, y))
    apart = distances(updates)
    distinct = clusters(apart, max(limits["distinct"], rounding(subject.dtype)))
    told = {1: "nothing is told of the answer", 2: "no more than a bit is told, such as a reward"}.get(
        distinct, "the right answer is told" if distinct == batch.classes else "more than one bit of the answer is told"
    )
    return Finding(
        criterion=NAME,
        verdict="violated" if distinct > 2 else "solved",
        sentence=f"One example was given each of the {batch.classes} labels, all else equal: {distinct} distinct "
        f"update{'' if distinct == 1 else 's'}, so {told}.",
        value=float(distinct),
        unit=f"distinct updates of {batch.classes}",
        samples=batch.classes,
        thresholds=limits,
        also={"bits": log2(distinct), "largest distance": float(apart.max())},
    )


def distances(updates: list[dict[str, Tensor]]) -> Tensor:
    """Between every two updates, as a fraction of the largest update's norm: (K, K). Of no updates at all: zeros."""
    names = sorted({name for update in updates for name in update})
    shapes = {name: value for update in updates for name, value in update.items()}
    flat = [
        torch.cat([torch.zeros(0), *(u.get(n, torch.zeros_like(shapes[n])).flatten().cpu() for n in names)])
        for u in updates
    ]
    rows = torch.stack(flat)
    # The differences themselves: the shortcut by inner products that `cdist` may take loses half of the digits.
    apart = torch.stack([(rows - row).norm(dim=1) for row in rows])
    return apart / rows.norm(dim=1).max().clamp(min=torch.finfo(apart.dtype).tiny)


def clusters(apart: Tensor, threshold: float) -> int:
    """Into how many sets the points fall, two being in one if a chain of steps under ``threshold`` joins them."""
    joined = (apart < threshold).to(torch.float64)
    for _ in range(len(joined)):
        joined = (joined @ joined > 0).to(torch.float64)
    return len(joined.unique(dim=0))
