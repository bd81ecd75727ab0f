"""Rates in training, spikes in the test (Hunsberger & Eliasmith 2015, 2016): errors, rates, synaptic operations.

python results/soft_lif.py --out plausible-runs/soft-lif

Trains what is not there yet, shows test images to the nets in spikes, writes results/soft-lif.csv and prints the tables
of results/soft-lif.md. --tune prints the trials by which learning rates and feedback scales were chosen, on the
validation split of Fashion-MNIST.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

import plausible
from plausible.data import Loader, load
from plausible.functional.synapses import Alpha, LowPass
from plausible.models import SpikingNet, to_spikes
from plausible.train import Run, load_learner, train

COMMON = {"optimizer": "AdamW", "batch_size": 128, "probe_size": 0}
MLP = {"model": "mlp", "model_options": {"width": 500, "depth": 2, "activation": "soft-lif"}}
CONV = {"model": "avg-conv", "model_options": {"width": 16, "kernel": 5, "activation": "soft-lif"}, "batch_size": 64}

TRIALS = {
    "backprop": [(5e-4, {}), (1e-3, {}), (2e-3, {})],
    "fa": [(1e-3, {}), (2e-3, {}), (1e-3, {"scale": 0.4})],
    "dfa": [(1e-3, {}), (2e-3, {}), (1e-3, {"scale": 6.0})],
}
CHOSEN = {"backprop": (2e-3, {}), "fa": (2e-3, {}), "dfa": (2e-3, {})}

SYNAPSES = {"none": LowPass(0.0), "3 ms": Alpha(3e-3), "5 ms": Alpha(5e-3)}
PRESENTATIONS = (0.02, 0.05, 0.1, 0.15, 0.2)  # seconds; the readout is averaged over the second half of each


def trials() -> list[Run]:
    """Two epochs of Fashion-MNIST, seed 0, for each setting."""
    return [
        Run(data="fashion-mnist", rule=rule, lr=lr, rule_options=options, epochs=2, **{**COMMON, **MLP})
        for rule, settings in TRIALS.items()
        for lr, options in settings
    ]


def run(data: str, net: dict, rule: str, seed: int, epochs: int, augment: str = "none") -> Run:
    """With the settings that the trials chose."""
    lr, options = CHOSEN[rule]
    settings = {"data": data, "rule": rule, "lr": lr, "rule_options": options, "seed": seed, "epochs": epochs}
    return Run(**settings, augment=augment, **{**COMMON, **net})


RUNS = [
    *(run(data, MLP, rule, seed, 3) for seed in (1, 2, 3) for data in ("mnist", "fashion-mnist") for rule in CHOSEN),
    *(run("mnist", CONV, "backprop", seed, 3) for seed in (1, 2, 3)),
    run("cifar10", CONV, "backprop", 1, 8, augment="flip"),
]


@torch.no_grad()
def shown(net: SpikingNet, batches: Loader, images: int) -> dict[str, Tensor]:
    """The net's answers to the first test images, and what the spikes came to.

    Returns:
        ``y`` (N,); ``hard``, the outputs of the hard rates; for each presentation its outputs, in spikes; ``spikes``
        and ``operations`` of each image in the longest, and the numbers of ``units`` and of ``synapses`` behind them.
    """
    found: dict[str, list[Tensor]] = defaultdict(list)
    fan_out: list[Tensor] = []
    for x, y in batches.epoch():
        if images <= 0:
            break
        x, y = x[:images], y[:images]
        images -= len(x)
        fan_out = fan_out or net.fan_out(x)
        state, readouts = net.rest(x), []
        spikes = operations = torch.zeros(len(x))
        for x_t in net.frames(x):
            state, readout = net.step(state, x_t)
            readouts.append(readout)
            for cells, reached in zip(state, fan_out, strict=True):
                fired = (cells.spikes > 0).flatten(1).float()
                spikes, operations = spikes + fired.sum(1), operations + fired @ reached.flatten()
        found["y"].append(y)
        found["hard"].append(net.at_rates(x))
        found["spikes"].append(spikes)
        found["operations"].append(operations)
        for seconds in PRESENTATIONS:
            steps = round(seconds / net.dt)
            found[f"{1000 * seconds:g}"].append(torch.stack(readouts[steps // 2 : steps]).mean(0))
    whole = {name: torch.cat(parts) for name, parts in found.items()}
    whole["units"] = torch.tensor(float(sum(reached.numel() for reached in fan_out)))
    whole["synapses"] = torch.tensor(float(sum(reached.sum() for reached in fan_out)))
    return whole


@torch.no_grad()
def evaluated(run: Run, directory: Path, synapse: str, images: int) -> dict[str, object]:
    """A row of the .csv. Errors are in %, of the first test images: as soft rates, as hard ones, and in spikes."""
    model = plausible.release(load_learner(directory)).eval()
    data = load(run.data, **run.data_options)
    batches = Loader(data.test, 250, mean=data.mean, std=data.std)
    net = to_spikes(model, synapse=SYNAPSES[synapse])
    assert isinstance(net, SpikingNet)
    answers = shown(net, batches, images)
    y = answers["y"]
    soft = torch.cat([model(x) for (x, _), _ in zip(batches.epoch(), range(-(-images // 250)), strict=False)])[: len(y)]

    def error(outputs: Tensor) -> float:
        return round(100 - 100 * float((outputs.argmax(1) == y).double().mean()), 3)

    presentations = [f"{1000 * seconds:g}" for seconds in PRESENTATIONS]
    spikes, units = answers["spikes"].mean(), answers["units"]
    return {
        "data": run.data,
        "model": run.model,
        "rule": run.rule,
        "seed": run.seed,
        "epochs": run.epochs,
        "synapse": synapse,
        "images": len(y),
        "units": int(units),
        "soft": error(soft),
        "hard": error(answers["hard"]),
        **{f"spikes {t} ms": error(answers[t]) for t in presentations},
        "agree": round(100 * float((answers["200"].argmax(1) == answers["hard"].argmax(1)).double().mean()), 3),
        "hertz": round(float(spikes / units / 0.2), 2),
        "spikes": round(float(spikes)),
        "operations": round(float(answers["operations"].mean())),
        "synapses": int(answers["synapses"]),
    }


def tables(rows: list[dict[str, str]]) -> str:
    """Markdown: errors by presentation, then what the spikes come to; a line for each net, rule and synapse."""
    times = [f"{1000 * seconds:g} ms" for seconds in PRESENTATIONS]
    errors = ["soft", "hard", *(f"spikes {t}" for t in times)]
    costs = ["agree", "hertz", "spikes", "operations"]
    heads = ["soft rates", "hard rates", *times]
    text = "| test error, % | synapse | seeds | images | " + " | ".join(heads) + " |\n|---|---|--:|--:|" + "--:|" * 7
    below = "\n\n| in 200 ms | synapse | answers as hard rates, % | Hz | spikes | operations | of a pass as rates |\n"
    below += "|---|---|--:|--:|--:|--:|--:|"
    rows = sorted(rows, key=line)
    for (data, model, rule, synapse), same in groupby(rows, line):
        group = list(same)
        name = f"| {data}, {model}, {rule} | {synapse} | "
        text += (
            f"\n{name}{len(group)} | {group[0]['images']} | " + " | ".join(mean(group, key) for key in errors) + " |"
        )
        rate = statistics.mean(float(row["operations"]) / float(row["synapses"]) for row in group)
        below += f"\n{name}" + " | ".join(mean(group, key) for key in costs) + f" | {rate:.2f} |"
    return text + below + "\n"


def line(row: dict[str, str]) -> tuple[str, ...]:
    """Which line of the tables a row belongs to."""
    return row["data"], row["model"], row["rule"], row["synapse"]


def mean(group: list[dict[str, str]], key: str) -> str:
    """Over the seeds, with their standard deviation."""
    values = [float(row[key]) for row in group]
    digits = 0 if max(values) >= 1000 else 1 if max(values) > 99 or key == "hertz" else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):,.{digits}f}{spread}"


def main() -> None:
    """Train, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("plausible-runs/soft-lif"), help="where the runs go")
    parser.add_argument("--tune", action="store_true", help="make the trials instead")
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist", "cifar10"])
    parser.add_argument("--models", nargs="+", default=["mlp", "avg-conv"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--images", type=int, default=10_000, help="how many of the test split are shown in spikes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Path(__file__).with_name("soft-lif.csv")
    if arguments.tune:
        for each in trials():
            result = train(each, arguments.out / each.id)
            print(f"{each.rule:9} lr {each.lr:g} {each.rule_options}: {result.validation_accuracy:.4f}", flush=True)
        return
    rows: list[dict[str, object]] = []
    for each in RUNS:
        if each.data not in arguments.data or each.model not in arguments.models or each.seed not in arguments.seeds:
            continue
        train(each, arguments.out / each.id)
        for synapse in SYNAPSES if each.seed == 1 and each.rule == "backprop" else ["5 ms"]:
            rows.append(evaluated(each, arguments.out / each.id, synapse, arguments.images))
            print(rows[-1], flush=True)
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    with table.open(encoding="utf-8") as file:
        print(tables(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()
