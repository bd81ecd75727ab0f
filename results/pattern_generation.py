"""Pattern generation (Bellec et al. 2020): a recurrent spiking net learns to draw a curve of one second.

python results/pattern_generation.py --rule eprop backprop frozen --seeds 3 --iterations 300 --csv pattern.csv

The target is a sum of four sines (periods 1000, 500, 333 and 200 ms) with random phases and amplitudes; the input is
one fixed realisation of 100 Poisson spike trains of 50 Hz. The net has 100 LIF neurons with the threshold .03, and
steps of 1 ms. All rules have the same net, input, target and optimiser for a seed. The error is normalised: 0 is the
curve, 1 its mean.
"""

import argparse
import csv
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.models import build

STEPS, CELLS, RATE = 1000, 100, 50.0  # steps of 1 ms; cells that drive the net, at so many spikes per second
PERIODS = (1000, 500, 333, 200)  # steps


def task(seed: int) -> tuple[Tensor, Tensor]:
    """The input (1, T, 100), spikes, and the curve (1, T, 1), of mean 0 and variance 1."""
    draw = torch.Generator().manual_seed(seed)
    x = (torch.rand(1, STEPS, CELLS, generator=draw) < RATE * 1e-3).float()
    t = torch.arange(STEPS)
    curve = torch.zeros(STEPS)
    for period in PERIODS:
        amplitude, phase = 0.5 + 1.5 * torch.rand(1, generator=draw), torch.rand(1, generator=draw)
        curve += amplitude * torch.sin(2 * math.pi * (t / period + phase))
    return x, ((curve - curve.mean()) / curve.std(correction=0)).reshape(1, STEPS, 1)


def learn(entry: str, seed: int, iterations: int, lr: float) -> tuple[list[float], float]:
    """The normalised error of each iteration, and the CPU seconds of one."""
    rule, *parts = entry.split(":")
    options = dict(part.split("=") for part in parts)
    lr = float(options.pop("lr", lr))
    x, target = task(seed)
    torch.manual_seed(seed)
    physics = {"dt": 1e-3, "threshold": 0.03, "refractory": 5e-3}
    model = build("rsnn", shape=(CELLS,), classes=1, width=100, output="sequence", **physics)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    made = registry.make(rule, seed=seed, **options)
    learner = plausible.bind(model, made, F.mse_loss, optimizer=optimizer)
    errors, start = [], time.process_time()
    for _ in range(iterations):
        optimizer.zero_grad()
        learner.reset()  # each trial starts from rest
        errors.append(float(learner.learn(x, target).loss))
        optimizer.step()
    return errors, (time.process_time() - start) / iterations


def main() -> None:
    """Learn, print a table, and write every error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rule",
        nargs="+",
        default=["eprop", "eprop:feedback=symmetric", "backprop", "frozen"],
        help="with a rate and options of its own, as in eprop:lr=0.01",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--lr", type=float, default=5e-3, help="of Adam, where a rule has no other")
    parser.add_argument("--csv", type=Path, help="where every error goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'rule':28} {'seeds':>5} {'first':>8} {'last':>8} {'± s.d.':>8} {'s / iteration':>14}", flush=True)
    for rule in arguments.rule:
        first, last, seconds = [], [], []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            errors, each = learn(rule, seed, arguments.iterations, arguments.lr)
            rows += [(rule, seed, k, error) for k, error in enumerate(errors)]
            first.append(errors[0])
            last.append(sum(errors[-10:]) / len(errors[-10:]))
            seconds.append(each)
        a, b = torch.tensor(first), torch.tensor(last)
        spread = f"{b.std():8.3f}" if len(b) > 1 else f"{'':>8}"
        row = f"{rule:28} {len(b):5} {a.mean():8.3f} {b.mean():8.3f} {spread} {sum(seconds) / len(seconds):14.2f}"
        print(row, flush=True)
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["rule", "seed", "iteration", "normalised error"])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
