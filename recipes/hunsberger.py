"""Hunsberger's network on MNIST and Fashion-MNIST, learning online in spikes and tested in spikes, beside its peers.

    python recipes/hunsberger.py --jobs 2        hours of one core; goes on where it was stopped
    python recipes/hunsberger.py --known         what has no row in results/hunsberger.csv

Paper: Hunsberger (2018), whose text has no figure for spiking online learning. To reach: 5 % error on MNIST, the goal
of this project; then Samadi et al. (2017), 2.95 %, and eRBP, Neftci et al. (2017), 2.25 %, both with larger nets and
more epochs. All rules here teach the same net, 784-500-10, one stimulus for 80 ms at steps of 2 ms in each of 64
streams that go on all the time, by Adam, its rate falling to 0, with compiled steps.

Trials have two epochs, seed 0 and three learning rates or more, a factor of two apart; the best by the accuracy on the
6,000 validation images is run for three epochs (Fashion-MNIST: two) with the seeds 5 to 9, and only there the test
images are looked at. Rates were moved where the best was at an end; that of Fashion-MNIST still is (see CHOSEN), whose
controls have the rates of MNIST.
"""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import study

from plausible.train import Run

matplotlib.use("Agg")

SEEDS = (5, 6, 7, 8, 9)
NET = {"width": 500, "depth": 1, "sensors": "on", "bias": True, "spread": 0.05}
PAIRED = {**NET, "decoders": "paired"}
BASE = Run(
    data="mnist", model="lif-mlp", rule="nef-dfa", optimizer="Adam", weight_decay=0.0, epochs=2, probe_size=0,
    model_options=NET, compile=True,
)  # fmt: skip
OURS = {"usual": 1.0, "told": 0.25}
"""Synapses take off what is usual, and the target is told from a quarter of a stimulus on."""
OWN: dict[str, dict[str, Any]] = {
    "NEF-DFA": OURS,
    "hidden layer frozen": {**OURS, "hidden": False},
    "feedback redrawn for each stimulus": {**OURS, "redraw": True},
}
OTHERS = {  # as in their papers: a target at once, nothing taken off the traces
    "NEF-DFA as in the thesis": BASE,
    "Samadi's broadcast alignment": BASE.replace(rule="samadi"),
    "eRBP": BASE.replace(rule="erbp"),
}
RULES = [*OWN, *OTHERS]
FASHION = {"data": "fashion-mnist", "model_options": {**PAIRED, "sensors": "on-off"}}  # its images are not mostly black
CASES = {
    **{f"mnist: {name}": BASE.replace(rule_options=own, model_options=PAIRED) for name, own in OWN.items()},
    **{f"mnist: {name}": run for name, run in OTHERS.items()},
    **{f"fashion-mnist: {name}": BASE.replace(rule_options=own, **FASHION) for name, own in OWN.items()},
}
RATES = {
    "mnist: NEF-DFA": (1e-3, 2e-3, 4e-3),
    "mnist: hidden layer frozen": (2.5e-4, 5e-4, 1e-3),
    "mnist: feedback redrawn for each stimulus": (2e-3, 4e-3, 8e-3),
    "mnist: NEF-DFA as in the thesis": (1e-3, 2e-3, 4e-3),
    "mnist: Samadi's broadcast alignment": (1e-3, 2e-3, 4e-3),
    "mnist: eRBP": (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3),
    "fashion-mnist: NEF-DFA": (5e-4, 1e-3, 2e-3),
}
CHOSEN = {"fashion-mnist: NEF-DFA": 1e-3}
"""In the trial 2e-3 was .2 points better, and at an end; with seed 5 it fell to 80.4 % of validation images."""
SMALL = BASE.replace(epochs=1, lr=2e-3, rule_options=OURS, model_options={**PAIRED, "width": 200})
CHOICES = {
    "a target at once": SMALL.replace(rule_options={**OURS, "told": 0.0}),
    "after a quarter of the stimulus": SMALL,
    "after half of it": (half := SMALL.replace(rule_options={**OURS, "told": 0.5})),
    "after half, steps not compiled": half.replace(compile=False),
    "after half, not compiled, decoders by least squares": half.replace(
        compile=False, model_options={**NET, "width": 200}
    ),
}
"""What was looked at for OURS."""
THESIS = BASE.replace(seed=5, epochs=1, model_options={**NET, "depth": 2, "dt": 1e-3, "shown": 0.33})
"""The thesis' own time step, time of an image, widths and rule; it has six epochs of one stream."""


def trials() -> dict[tuple[str, float], Run]:
    """By case and learning rate."""
    return {(case, lr): CASES[case].replace(lr=lr) for case, rates in RATES.items() for lr in rates}


def finals(best: dict[str, float]) -> dict[str, list[Run]]:
    """By case, a run for each seed; what was not tried on a data set has its rate from MNIST."""
    best = best | CHOSEN
    rates = {case: best.get(case, best.get(f"mnist: {case.partition(': ')[2]}")) for case in CASES}
    return {
        case: [CASES[case].replace(lr=lr, seed=seed, epochs=3 if CASES[case].data == "mnist" else 2) for seed in SEEDS]
        for case, lr in rates.items()
        if lr is not None
    }


def main() -> None:
    """Run what has not been run, and write both files."""
    asked = study.Study.of_arguments("hunsberger", __doc__ or "")
    stages = asked.staged(trials(), finals)
    if "small" in asked.parts:
        asked.run([*CHOICES.values(), THESIS])
    choices, thesis = asked.came(CHOICES.values()), asked.came([THESIS])
    page = (
        "# Hunsberger's network, online in spikes\n\nMade by `python recipes/hunsberger.py`, whose header says how.\n"
    )
    page += stages.tables("MNIST three epochs, Fashion-MNIST two", "two epochs")
    page += (
        "\n## The thesis' own time step, time of an image and widths: one epoch, seed 5, test accuracy in per cent\n\n"
    )
    page += study.test(list(thesis.values())) + "\n"
    page += "\n## What was looked at: 200 cells, one epoch, seed 0, rate .002, validation accuracy in per cent\n\n"
    rows = [(name, study.validation([choices[run]] if run in choices else [])) for name, run in CHOICES.items()]
    page += study.table(["NEF-DFA", "accuracy"], rows)
    _draw(stages)
    asked.write(page, {"trial": stages.found, "final": {**stages.came, **thesis}, "small": choices})


def _draw(stages: study.Stages) -> None:
    """``docs/img/hunsberger.svg``: test accuracy on each data set; a dot for each seed."""
    plt.rcParams.update({"svg.hashsalt": "plausible", "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.4), layout="constrained", sharey=True)
    names = [name for name in RULES if any(run in stages.came for run in stages.ends.get(f"mnist: {name}", []))]
    for ax, data in zip(axes, ("mnist", "fashion-mnist"), strict=True):
        for case, runs in stages.ends.items():
            where, _, name = case.partition(": ")
            found = [100 * (stages.came[run].test or 0.0) for run in runs if run in stages.came]
            if where == data and found:
                ax.plot(found, [names.index(name)] * len(found), "o", color="#0072b2", alpha=0.6)
        ax.set(title=data, xlabel="test accuracy, %", yticks=range(len(names)), yticklabels=names,
               ylim=(len(names) - 0.5, -0.5))  # fmt: skip
    figure.savefig(Path(__file__).parent.parent / "docs/img/hunsberger.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
