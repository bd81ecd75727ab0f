"""What do back-propagation and sign symmetry learn? CKA and RSA of nets within a rule and across rules, layer by layer.

python examples/representations.py --seeds 10

Both rules start each seed from the same weights and see the same batches. Pairs of nets are of different seeds, but for
"same start". The last column is an exact permutation test of the difference of CKA: rules are swapped within seeds.
"""

import argparse
from itertools import combinations, product
from statistics import mean

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

import plausible
from plausible.data import load
from plausible.functional.similarity import cka, rsa
from plausible.probes import representations

RULES = ("backprop", "usf")
LAYERS = {"1": "input weights", "2": "hidden 1", "4": "hidden 2", "5": "output"}


def train(rule: str, seed: int, epochs: int, digits) -> dict[str, torch.Tensor]:
    """The layers' answers to the test images, by name."""
    torch.manual_seed(seed)
    layers = (nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    model = nn.Sequential(nn.Flatten(), *layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    learner = plausible.bind(model, rule, cross_entropy)
    for _ in range(epochs):
        for rows in torch.randperm(len(digits.train)).split(64):
            optimizer.zero_grad()
            learner.learn(digits.train.x[rows], digits.train.y[rows])
            optimizer.step()
    found = representations(learner, digits.test.x, LAYERS)
    save_file(found, f"{rule}-{seed}.safetensors")  # for tools of your own; numpy.savez(path, **found) does as well
    return found


def p_value(similar: dict, seeds: range) -> tuple[float, float]:
    """Mean within rules less mean across, and how many of the ways to swap rules within seeds make it as large."""
    pairs = list(combinations(seeds, 2))

    def difference(swap: tuple[int, ...]) -> float:
        within = mean(similar[(r ^ swap[i], i), (r ^ swap[j], j)] for i, j in pairs for r in (0, 1))
        return within - mean(similar[(r ^ swap[i], i), (1 - r ^ swap[j], j)] for i, j in pairs for r in (0, 1))

    observed, *others = (difference(swap) for swap in product((0, 1), repeat=len(seeds)))
    return observed, (1 + sum(d >= observed - 1e-12 for d in others)) / (1 + len(others))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    digits, seeds = load("digits"), range(options.seeds)
    nets = {(r, seed): train(RULES[r], seed, options.epochs, digits) for r in (0, 1) for seed in seeds}
    for r, rule in enumerate(RULES):
        right = [(nets[r, seed]["5"].argmax(1) == digits.test.y).double().mean().item() for seed in seeds]
        print(f"{rule}: test accuracy {mean(right):.3f}, from {min(right):.3f} to {max(right):.3f}")
    table = []
    for measure in (cka, rsa):
        for layer, title in LAYERS.items():
            similar = {(a, b): float(measure(nets[a][layer], nets[b][layer])) for a in nets for b in nets if a < b}
            similar |= {(b, a): value for (a, b), value in similar.items()}
            bp, usf, across = (
                mean(similar[(r, i), (s, j)] for i, j in product(seeds, seeds) if i != j)
                for r, s in ((0, 0), (1, 1), (0, 1))
            )
            same = mean(similar[(0, i), (1, i)] for i in seeds)
            table.append((measure.__name__, title, bp, usf, across, same, *p_value(similar, seeds)))
    print("\n| measure | layer | bp–bp | usf–usf | bp–usf | bp–usf, same start | within − across | p |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for measure, title, *values, difference, p in table:
        shown = " | ".join(f"{value:.3f}" for value in values)
        print(f"| {measure} | {title} | {shown} | {difference:+.4f} | {p:.3f} |")
