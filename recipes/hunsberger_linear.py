"""Hunsberger's linear task: layers of LIF neurons learn a matrix, online, in spikes, by their spiking error feedback.

    python recipes/hunsberger_linear.py        a quarter of an hour of one core

Paper: Hunsberger (2018), whose figure has no number in its text. A 10 × 30 matrix T with orthonormal rows; x is
normal with standard deviation .5, shown for .25 s; the net, 30-80-80-10 at steps of 1 ms, is to answer T x. His
constants: τ_rc 50 ms, amplitude .024, four output cells for each dimension, weights that start as normal numbers of
4.4e-4, η .05, B of N(0, 1.7²), 500 s. Weights change at each step, as his do. To reach: an error that falls; a port to
nengo came to .739 of the targets' size after 500 s, with one seed.

The error is the mean over stimuli of the root mean square of ⟨y⟩ − y*, relative to that of y*, in blocks of 50 s, where
⟨y⟩ is the mean over the second half of a stimulus.
"""

import sys

import study
import torch
from torch.nn import functional as F

import plausible
from plausible.compare.cost import keep_memory
from plausible.core import registry
from plausible.models import build

SECONDS, SHOWN, BLOCK, DT, RATE = 500.0, 0.25, 50.0, 1e-3, 5e-2


def errors(seed: int) -> list[float]:
    """Relative error of each block."""
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    T = torch.linalg.qr(torch.randn(30, 10)).Q.t()
    model = build(
        "lif-mlp", shape=(30,), classes=10, width=80, depth=2, dt=DT, shown=DT, reach=1.0, cells=4, tau_rc=0.05,
        amplitude=0.024, spread=4.4e-4, seed=seed,
    )  # fmt: skip
    learner = plausible.bind(model, registry.make("nef-dfa", cells=4, scale=1.7 * 10**0.5, seed=seed), F.mse_loss)
    learner.compile()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    wrong, size, found = 0.0, 0.0, []
    for k in range(1, round(SECONDS / SHOWN) + 1):
        x = 0.5 * torch.randn(1, 30)
        target, outputs = x @ T.t(), []
        for _ in range(round(SHOWN / DT)):
            optimizer.zero_grad(set_to_none=True)
            outputs.append(learner.learn(x, target).output)
            optimizer.step()
        answer = torch.stack(outputs[len(outputs) // 2 :]).mean(0)
        wrong += float((answer - target).square().mean().sqrt())
        size += float(target.square().mean().sqrt())
        if k % round(BLOCK / SHOWN) == 0:
            found.append(wrong / size)
            print(f"seed {seed}, {k * SHOWN:.0f} s: {found[-1]:.3f}", flush=True)
            wrong = size = 0.0
    return found


def main() -> None:
    """Run it for two seeds, or those that are given, and write the page."""
    found = {seed: errors(seed) for seed in map(int, sys.argv[1:] or ["0", "1"])}
    page = "# Hunsberger's linear task\n\nMade by `python recipes/hunsberger_linear.py`, whose header says how.\n\n"
    blocks = [f"{BLOCK * (k + 1):.0f} s" for k in range(round(SECONDS / BLOCK))]
    page += study.table(
        ["error, relative, until", *blocks],
        [(f"seed {seed}", *(f"{each:.3f}" for each in values)) for seed, values in found.items()],
    )
    (study.RESULTS / "hunsberger-linear.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
