"""What NEF-6 learns on MNIST from one bit of reward, in spikes: trials, and seeds that no choice has seen.

    python results/all_six.py --jobs 2        about two hours of one core; goes on where it was stopped

Trials have two epochs, seed 0, and the accuracy on the 6,000 validation images alone. Then the best learning rate of
the taught net and that of the frozen one, each out of its trials with 200 cells, run for five epochs with the seeds 5,
6, 7, and only there the test images are looked at. Every run is one of ``plausible train``; its settings are in the
csv. On Fashion-MNIST the five epochs have the learning rates that were found on MNIST.
"""

import argparse
import csv
import json
import os
import statistics
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from plausible.compare.cost import keep_memory
from plausible.train import Run, train

HERE, HOME = Path(__file__).parent, Path("plausible-runs/all-six")
SEEDS = (5, 6, 7)
NET = {"width": 100, "depth": 1, "sensors": "on", "decoders": "paired", "bias": True, "spread": 0.05}
BASE: dict[str, Any] = {
    "data": "mnist", "model": "lif-mlp", "rule": "nef-6", "optimizer": "Adam", "weight_decay": 0.0, "lr": 1e-3,
    "epochs": 2, "batch_size": 64, "probe_size": 0, "seed": 0,
}  # fmt: skip
FAST = {"trace": 0.01, "motor": 0.01}
TRIALS: dict[str, dict[str, Any]] = {
    **{f"200 cells, lr {lr}": {"lr": lr, "net": {"width": 200}, "rule": FAST} for lr in (1e-3, 2e-3)},
    **{
        f"200 cells, hidden layer frozen, lr {lr}": {"lr": lr, "net": {"width": 200}, "rule": {**FAST, "hidden": False}}
        for lr in (1e-3, 3e-3, 1e-2)
    },
    "100 cells": {"rule": FAST},
    "feedback redrawn at each call": {"rule": {**FAST, "redraw": True}},
    "hidden layer frozen": {"rule": {**FAST, "hidden": False}},
    "traces and values over 20 ms for 10": {},
    "explore .05 for .2": {"rule": {**FAST, "explore": 0.05}},
    "nothing taken off the traces": {"rule": {**FAST, "centre": False}},
    "error cells with intercepts up to .8 for .1": {"rule": {**FAST, "intercept": 0.8}},
    "two hidden layers": {"net": {"depth": 2}, "rule": FAST},
    "Fashion-MNIST, on and off cells": {"data": "fashion-mnist", "net": {"sensors": "on-off"}, "rule": FAST},
}


def run_of(trial: Mapping[str, Any], **changes: Any) -> Run:
    """The run of a trial."""
    own = {key: value for key, value in trial.items() if key not in ("net", "rule")}
    options = {"model_options": NET | trial.get("net", {}), "rule_options": trial.get("rule", {})}
    return Run(**{**BASE, **own, **options, **changes})


def done(run: Run) -> tuple[float, float]:
    """Validation and test accuracy, of which trials report the first only."""
    keep_memory()
    result = train(run, HOME / run.id)
    assert result.validation_accuracy is not None and result.test_accuracy is not None
    return result.validation_accuracy, result.test_accuracy


def main() -> None:
    """Run what has not been run, and write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(parser.parse_args().jobs, mp_context=get_context("spawn")) as pool:
        runs = {name: run_of(trial) for name, trial in TRIALS.items()}
        validation = {name: found[0] for name, found in zip(runs, pool.map(done, runs.values()), strict=True)}
        rows = [_row(name, runs[name], validation[name], None) for name in runs]
        lines = [f"| {name} | {100 * accuracy:.1f} |" for name, accuracy in validation.items()]
        finals: dict[str, list[Run]] = {}
        for data, own in (("mnist", {}), ("fashion-mnist", {"sensors": "on-off"})):
            for frozen in (False, True):
                wide = [name for name in runs if name.startswith("200 cells") and ("frozen" in name) == frozen]
                best = max(wide, key=lambda name: validation[name])
                trial = TRIALS[best] | {"net": {"width": 200, **own}}
                each = [run_of(trial, data=data, epochs=5, seed=seed) for seed in SEEDS]
                finals[f"{data}, {best}"] = each
        found = iter(pool.map(done, [run for each in finals.values() for run in each]))
    ends = []
    for name, each in finals.items():
        accuracies = [next(found) for _ in each]
        rows += [_row(name, run, *pair) for run, pair in zip(each, accuracies, strict=True)]
        tested = [100 * test for _, test in accuracies]
        ends.append(f"| {name} | {statistics.mean(tested):.2f} ± {statistics.stdev(tested):.2f} |")
    with (HERE / "all-six.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    (HERE / "all-six.md").write_text(
        "# NEF-6 on MNIST\n\nMade by `python results/all_six.py --jobs 2`, whose header says what was done.\n\n"
        "| trial, two epochs, seed 0 | validation accuracy, % |\n|:--|--:|\n" + "\n".join(lines)
        + f"\n\n| five epochs, seeds {SEEDS} | test accuracy, % (mean ± standard deviation) |\n|:--|--:|\n"
        + "\n".join(ends) + "\n",
        encoding="utf-8",
    )  # fmt: skip


def _row(name: str, run: Run, validation: float, test: float | None) -> dict[str, object]:
    differs = {key: value for key, value in run.to_dict().items() if value != getattr(Run(), key)}
    return {"name": name, "seed": run.seed, "epochs": run.epochs, "validation": validation, "test": test,
            "run": json.dumps(differs)}  # fmt: skip


if __name__ == "__main__":
    main()
