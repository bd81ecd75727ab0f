"""Hunsberger's experiments with rates: variants of feedback alignment, feedback that learns, stand-ins for slopes.

python results/hunsberger_rates.py          all runs, about half an hour of one core, and the page
python results/hunsberger_rates.py on       what has no row in hunsberger-rates.csv, and the page
python results/hunsberger_rates.py page     the page again, from hunsberger-rates.csv

His settings (2018, "Biological Deep Learning", and its programs): LIF rates with τ_rc = 50 ms and τ_ref = 2 ms, whose
cells an input of 0 holds at the threshold, W ~ N(0, 0.1²), no biases, orthogonal B, plain gradient descent on errors
summed over the batch. MNIST: 784-500-500-10, pixels from −1 to 1, batches of 20. Linear problem: 30-80-80-10, one
example at a time. What is ours: shorter runs (an epoch or half of one for his 10 or 25, 1,500 examples for his 21,000),
and a learning rate and norms of B that are chosen on a validation split, one tenth of the training set.
"""

import csv
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import hunsberger_page
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible import data
from plausible.core import Learner, registry
from plausible.data.loader import Loader
from plausible.functional.alignment import alignment_eigenvalues
from plausible.functional.lif import Cell
from plausible.functional.lif_rate import DERIVATIVES, LIFRate
from plausible.functional.random import generator

ROWS = Path(__file__).with_name("hunsberger-rates.csv")
SEEDS = (1, 2, 3)
BLOCK = 270  # batches; 5,400 examples
CHANCE = 0.9
OJA = {"mu": 0.0, "nu": 0.1}
RULES: dict[str, tuple[str, dict[str, float]]] = {
    "BP": ("backprop", {}),
    "GFA": ("fa", {}),
    "LFA": ("lfa", {}),
    "DFA": ("dfa", {}),
    "frozen": ("frozen", {}),
    "symmetric ADFA": ("adaptive-dfa", {}),
    "Hebbian ADFA": ("adaptive-dfa", {**OJA, "beta": 0.0}),
    "Oja ADFA": ("adaptive-dfa", OJA),
}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run.

    Attributes:
        part: of the study.
        rule: a key of RULES.
        derivative, height, amplitude: of the cells.
        eta: the learning rate, of all weights.
        norm: mean norm of the columns of B.
        seed: of weights, feedback and the order of examples.
        length: examples to learn from.
        split: on which the error is measured.
    """

    part: str
    rule: str
    derivative: str = "step"
    height: float = 1.0
    amplitude: float = 0.01
    eta: float = 0.02
    norm: float = 0.2
    seed: int = 1
    length: int = 54_000
    split: str = "test"


@dataclass(frozen=True)
class Seen:
    """What was seen of a run up to so many examples; the last four at the end of an epoch only.

    Attributes:
        examples: so far.
        train: error on the examples since the last row, each before it was learned from.
        held_out: error on the split.
        angle1, angle2: between the update of a hidden layer and back-propagation's, in degrees.
        downhill: fraction of the eigenvalues of the symmetric part of B Wᵀ, at the readout, that are positive.
        norm_b: norm of the B of the last hidden layer.
    """

    examples: int
    train: float
    held_out: float | None = None
    angle1: float | None = None
    angle2: float | None = None
    downhill: float | None = None
    norm_b: float | None = None


def orthogonal(rows: int, columns: int, draw: torch.Generator) -> Tensor:
    """All singular values 1."""
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=draw), full_matrices=False)
    return u @ v


def feedback(run: Experiment, width: int, classes: int) -> dict[str, Tensor]:
    """B by the layer it stands for, or in front of which it stands: a chain for GFA and LFA, whose product has the norm
    of one direct B."""
    draw = generator(run.seed, "feedback")
    last, direct = orthogonal(classes, width, draw), orthogonal(classes, width, draw)
    last, direct = (run.norm * each / each.norm(dim=0).mean() for each in (last, direct))
    between = orthogonal(width, width, draw)
    chain = between * last.norm() / (last @ between).norm()
    return {"readout": last, "linear2": chain if run.rule in ("GFA", "LFA") else direct}


def bound(run: Experiment, n_in: int, width: int, classes: int, loss: Any, x: Tensor) -> tuple[Learner, Any]:
    """His net, his feedback, and plain gradient descent."""
    cell = Cell(tau_rc=0.05, tau_ref=0.002, amplitude=run.amplitude)
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    for i, fan_in in enumerate((n_in, width), start=1):
        layers[f"linear{i}"] = nn.Linear(fan_in, width, bias=False)
        layers[f"lif{i}"] = LIFRate(cell, run.derivative, run.height)
    layers["readout"] = nn.Linear(width, classes, bias=False)
    model, draw = nn.Sequential(layers), generator(run.seed, "weights")
    for p in model.parameters():
        nn.init.normal_(p, 0, 0.1, generator=draw)
    name, options = RULES[run.rule]
    optimizer = torch.optim.SGD(model.parameters(), run.eta)
    learner = plausible.bind(model, registry.make(name, **options), loss, example=x, optimizer=optimizer)
    own = {f"feedback.{layer}.B": B for layer, B in feedback(run, width, classes).items()}
    kept = {key for key in learner.state_dict() if key.endswith(".B") and not key.startswith("feedback.linear1")}
    assert kept in (set(own), set()), "all feedback is replaced by his"
    learner.load_state_dict({key: B for key, B in own.items() if key in kept}, strict=False)
    return learner, optimizer


def mnist(run: Experiment, images: data.Dataset) -> Iterator[Seen]:
    """Learn MNIST, and look every BLOCK batches; a run that diverges ends at chance."""
    scaled = {"mean": torch.tensor([127.5]), "std": torch.tensor([127.5])}
    train = Loader(images.train, 20, **scaled, seed=run.seed, shuffle=True)
    held_out = next(Loader(getattr(images, run.split), 10_000, **scaled).epoch())
    probe = next(Loader(images.validation, 300, **scaled).epoch())

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y, reduction="sum")

    learner, optimizer = bound(run, 784, 500, 10, loss, held_out[0][:2])
    wrong, last = 0, run.length // 20
    for step, (x, y) in enumerate(train.epoch(), start=1):
        optimizer.zero_grad()
        outcome = learner.learn(x, y)
        optimizer.step()
        wrong += int((outcome.output.argmax(1) != y).sum())
        if not isfinite(float(outcome.loss)):
            yield Seen(20 * step, CHANCE, CHANCE)
            return
        if step == last:
            break
        if step % BLOCK == 0:
            yield Seen(20 * step, wrong / (20 * BLOCK))
            wrong = 0
    with torch.no_grad():
        error = float((learner(held_out[0]).argmax(1) != held_out[1]).float().mean())
    angles = [row.get("update_angle") for row in plausible.alignment(learner, *probe).values()]
    yield Seen(20 * last, wrong / (20 * BLOCK), error, angles[0], angles[1], *_feedback_seen(learner))


def _feedback_seen(learner: Learner) -> tuple[float | None, float | None]:
    """(fraction of errors' axes that fall, norm of the last B)."""
    B = learner.state_dict().get("feedback.readout.B")
    if B is None:
        return None, None
    found = alignment_eigenvalues(learner.model.get_parameter("readout.weight").detach(), B)
    return float((found > 0).float().mean()), float(B.norm())


def linear(run: Experiment) -> Iterator[Seen]:
    """Learn an orthogonal map, one new example after another; errors are relative to those of answering 0."""
    examples = run.length
    draw = generator(run.seed, "linear problem")
    x = torch.randn(examples, 30, generator=draw)
    y = x @ orthogonal(30, 10, draw)
    learner, optimizer = bound(run, 30, 80, 10, lambda o, t: 0.5 * (o - t).square().sum(), x[:2])
    size, errors = float(y.square().mean(1).sqrt().mean()), []
    for n in range(examples):
        optimizer.zero_grad()
        outcome = learner.learn(x[n : n + 1], y[n : n + 1])
        optimizer.step()
        errors.append((outcome.output - y[n]).square().mean().sqrt())
        if (n + 1) % 500 == 0:
            error = float(torch.stack(errors[-500:]).mean()) / size
            yield Seen(n + 1, error, error)
            if not isfinite(error):
                return


def chosen(rows: list[dict[str, Any]], part: str, rule: str, what: str) -> float:
    """The value of ``what`` with the least error on the validation split."""
    mine = [row for row in rows if row["part"] == part and row["rule"] == rule and row["held_out"] is not None]
    return min(mine, key=lambda row: row["held_out"])[what]


def plan(rows: list[dict[str, Any]]) -> Iterator[Experiment]:
    """All runs; later ones go by what earlier ones showed in ``rows``."""
    # A derivative of 1 above the threshold, so that it takes nothing from the error.
    one = Experiment(part="choose η", rule="BP", amplitude=0.025, height=2.0, length=27_000, split="validation")
    for eta in (5e-4, 1e-3, 2e-3, 4e-3):
        yield replace(one, eta=eta)
    one = replace(one, part="choose ‖B‖", eta=chosen(rows, "choose η", "BP", "eta"))
    for rule in ("GFA", "LFA", "DFA"):
        for norm in (0.1, 0.2, 0.4):
            yield replace(one, rule=rule, norm=norm)
    one = replace(one, part="variants", length=54_000, split="test")
    norms = {rule: chosen(rows, "choose ‖B‖", rule, "norm") for rule in ("GFA", "LFA", "DFA")}
    for seed, rule in product(SEEDS, ("BP", "GFA", "LFA", "DFA", "frozen")):
        yield replace(one, rule=rule, seed=seed, norm=norms.get(rule, one.norm))
    for seed, rule, derivative in product(SEEDS, ("BP", "DFA"), DERIVATIVES):
        yield Experiment(part="derivatives", rule=rule, derivative=derivative, seed=seed, length=27_000)
    one = Experiment(part="linear", rule="BP", norm=0.3, length=1500)
    for seed, rule, eta, derivative in product(SEEDS, ("BP", "DFA"), (0.1, 0.2, 0.3, 0.4), DERIVATIVES):
        yield replace(one, seed=seed, rule=rule, eta=eta, derivative=derivative)
    one = Experiment(
        part="adaptive", rule="BP", derivative="linearised", amplitude=0.025, eta=2e-3, norm=0.5, length=27_000
    )
    for seed, rule in product(SEEDS, ("BP", "DFA", "symmetric ADFA", "Hebbian ADFA", "Oja ADFA")):
        yield replace(one, seed=seed, rule=rule)


def ended(run: Experiment, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a run that came to its end, whatever that was; none of another."""
    own = {key: f"{value:.5g}" if isinstance(value, float) else str(value) for key, value in asdict(run).items()}
    mine = [row for row in rows if all(row[key] == value for key, value in own.items())]
    if not mine or not mine[-1]["held_out"]:
        return []
    reached = int(mine[-1]["examples"]) == run.length or run.part != "linear" or not isfinite(float(mine[-1]["train"]))
    return mine if reached else []


def main(known: list[dict[str, Any]]) -> None:
    """Run what is planned and not known, write each row at once, then the page."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    images = data.load("mnist")
    with ROWS.open("w", newline="") as file:
        names = [f.name for kind in (Experiment, Seen) for f in fields(kind)]
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        for run in plan(rows):
            written = ended(run, known)
            if not written:
                for seen in linear(run) if run.part == "linear" else mnist(run, images):
                    values = {**asdict(run), **asdict(seen)}
                    written.append({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in values.items()})
                print(run, written[-1]["train"], written[-1]["held_out"], flush=True)
            table.writerows(written)
            file.flush()
            rows += hunsberger_page.numbers(written)


if __name__ == "__main__":
    if sys.argv[1:] != ["page"]:
        with ROWS.open(newline="") as before:
            kept = list(csv.DictReader(before)) if sys.argv[1:] == ["on"] else []
        main(kept)
    hunsberger_page.write(ROWS)
