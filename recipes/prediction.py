"""Prediction in the place of reward: what hidden cells learn from the next view of an image, for those who act on it.

    python recipes/prediction.py --jobs 2        half an hour of one core

No label reaches the net in either part. First 200 hidden cells learn, by NEF-DFA, for one pass over the 54,000 training
images of MNIST, to predict what the eye sees next: the same image, moved by up to two pixels each way, averaged over
squares of four pixels (49 numbers). Then their weights stay, and a readout learns from a bit of reward, by NEF-6 with
frozen hidden layers, for another pass. The control is the same second part on cells that have predicted nothing. Seeds
0 to 2, and validation images, in spikes.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import study
import torch
from torch import Tensor
from torch.nn import functional as F

import plausible
from plausible import data
from plausible.compare.cost import keep_memory
from plausible.core import registry
from plausible.models import build
from plausible.models.lif_mlp import SpikingPerceptron

VIEWS = 49
SHIFT = 2
NET = {"width": 200, "depth": 1, "sensors": "on", "decoders": "paired", "bias": True, "spread": 0.05}
RATE = {"predicts": 1e-3, "acts": 2e-3}


def view(images: Tensor, draw: torch.Generator) -> Tensor:
    """What is seen next (N, 49) of images (N, 1, 28, 28), from 0 to 1: each moved in its own way."""
    padded = F.pad(images, [SHIFT] * 4)
    moves = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=draw)
    moved = torch.stack(
        [each[:, dy : dy + 28, dx : dx + 28] for each, (dy, dx) in zip(padded, moves.tolist(), strict=True)]
    )
    return F.avg_pool2d(moved, 4).flatten(1)


def net(outputs: int, seed: int) -> SpikingPerceptron:
    """An untaught one."""
    torch.manual_seed(seed)
    model = build("lif-mlp", shape=(1, 28, 28), classes=outputs, seed=seed, **NET)
    assert isinstance(model, SpikingPerceptron)
    return model


def taught(model: SpikingPerceptron, rule: str, lr: float, seed: int, **options: object) -> plausible.Learner:
    """A learner after one pass over the training images; told of the next view, or of whether it was right."""
    split = data.load("mnist").train
    learner = plausible.bind(model, registry.make(rule, seed=seed, **options), F.mse_loss)
    learner.compile()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    draw = torch.Generator().manual_seed(seed)
    batches = torch.randperm(len(split.x), generator=draw).split(64)[:-1]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for batch in batches:
        x, y = split.x[batch], split.y[batch]
        told = learner.rule.teacher(y) if rule == "nef-6" else view(shown(x, scaled=False), draw)
        optimizer.zero_grad(set_to_none=True)
        learner.learn(shown(x), told)
        optimizer.step()
        schedule.step()
    return learner


def shown(x: Tensor, *, scaled: bool = True) -> Tensor:
    """Images (N, 1, 28, 28) from 0 to 1, or as sensors see them."""
    x = x.float().reshape(-1, 1, 28, 28)
    x = x / 255 if x.max() > 2 else x
    return (x - 0.1307) / 0.3081 if scaled else x


def accuracy(seed: int, predicts: bool) -> float:
    """On the validation images, in per cent."""
    keep_memory()
    torch.set_num_threads(1)
    model = net(10, seed)
    if predicts:
        other = net(VIEWS, seed)
        taught(other, "nef-dfa", RATE["predicts"], seed, usual=1.0, told=0.5, cells=10)
        model.load_state_dict({k: v for k, v in other.state_dict().items() if k.startswith("linear1")}, strict=False)
    learner = taught(model, "nef-6", RATE["acts"], seed, trace=0.01, motor=0.01, hidden=False)
    split, right = data.load("mnist").validation, 0
    with learner.aside(), torch.no_grad():
        for x, y in zip(split.x.split(500), split.y.split(500), strict=True):
            learner.reset()
            right += int((learner(shown(x)).argmax(1) == y).sum())
    return 100 * right / len(split.x)


def main() -> None:
    """Run all, and write the page."""
    jobs = study.Study.of_arguments("prediction", __doc__ or "").jobs
    os.environ["OMP_NUM_THREADS"] = "1"
    cases = {"cells that have learned to predict": True, "cells that have learned nothing": False}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = {name: list(pool.map(accuracy, (0, 1, 2), [predicts] * 3)) for name, predicts in cases.items()}
    page = "# Prediction in the place of reward\n\nMade by `python recipes/prediction.py`, whose header says how.\n\n"
    page += study.table(
        ["readout from reward, on", "validation accuracy, seeds 0, 1, 2"],
        [(name, ", ".join(f"{each:.1f}" for each in accuracies)) for name, accuracies in found.items()],
    )
    (study.RESULTS / "prediction.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
