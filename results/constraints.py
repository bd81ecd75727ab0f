"""What quantised and noisy weights cost back-propagation, feedback alignment and direct feedback alignment.

python results/constraints.py        writes results/constraints.csv and results/constraints.md

Fashion-MNIST, an MLP of width 64, one epoch, three seeds, on one core. Every rule has the learning rate and decay that
were tuned for it on this data and model at full precision (``tuned/fashion-mnist-mlp.toml``); nothing is tuned again
under a constraint.
"""

import csv
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

import plausible
from plausible.cli.options import constraints_of, shipped_base
from plausible.compare.settings import tuned
from plausible.train import Run, train

HERE = Path(__file__).parent
RULES = ("backprop", "fa", "dfa")
SEEDS = (0, 1, 2)
CONSTRAINTS = (
    "none",
    *(f"quantised:bits={bits}" for bits in (8, 6, 4, 3, 2)),
    "quantised:bits=8:stochastic=false",
    "quantised:bits=3:on=forward",
    "quantised:bits=3:on=feedback",
    *(f"noisy:write=0:read={sigma}" for sigma in (0.3, 1.0)),
    *(f"noisy:read=0:write={sigma}" for sigma in (1.0, 3.0)),
)
WITHOUT_FEEDBACK = ("backprop",)  # it stores none, so that on=forward is on=both


def run_of(rule: str, constraint: str, seed: int) -> Run:
    """One run of the table."""
    found = tuned("fashion-mnist", "mlp")
    assert found is not None
    base = shipped_base("fashion-mnist", "mlp", epochs=1, batch_size=128)
    own = constraints_of([] if constraint == "none" else [constraint]) or []
    return base.replace(
        **{**(found.overrides(rule) or {}), "rule": rule, "constraints": own, "seed": seed},
        model_options={"width": 64},
        threads=1,
        probe_size=0,
    )


def measured() -> list[dict[str, object]]:
    """A row for each run."""
    rows: list[dict[str, object]] = []
    for constraint in CONSTRAINTS:
        for rule in RULES:
            if ":on=" in constraint and rule in WITHOUT_FEEDBACK:
                continue
            for seed in SEEDS:
                run = run_of(rule, constraint, seed)
                with tempfile.TemporaryDirectory() as directory:
                    accuracy = train(run, directory).test_accuracy
                rows.append({"constraint": constraint, "rule": rule, "seed": seed, "run": run.id, "accuracy": accuracy})
                print(*rows[-1].values(), flush=True)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    lines = [f"| constraint | {' | '.join(RULES)} |", "|:--" + "|--:" * len(RULES) + "|"]
    for constraint in CONSTRAINTS:
        cells = []
        for rule in RULES:
            found = [
                100 * float(str(r["accuracy"])) for r in rows if (r["constraint"], r["rule"]) == (constraint, rule)
            ]
            cells.append(f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}" if found else "")
        lines.append(f"| {constraint} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write both files."""
    started = time.process_time()
    rows = measured()
    with (HERE / "constraints.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    minutes = (time.process_time() - started) / 60
    head = (
        "# Quantised and noisy weights\n\n"
        "Made by `python results/constraints.py`: test accuracy in percent, mean ± standard deviation over "
        f"{len(SEEDS)} seeds, on Fashion-MNIST with an MLP of width 64 after one epoch, batches of 128. Every rule "
        "has the learning rate and decay that were tuned for it at full precision; nothing was tuned again under a "
        "constraint.\n"
        f"plausible {plausible.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{minutes:.0f} minutes of one core.\n\n"
    )
    (HERE / "constraints.md").write_text(head + table(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
