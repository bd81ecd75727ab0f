"""Hunsberger's network on MNIST and Fashion-MNIST, learning online in spikes and tested in spikes, beside its peers.

    python recipes/hunsberger.py --jobs 2        hours of one core; goes on where it was stopped

Paper: Hunsberger (2018), whose text has no figure for spiking online learning. To reach: 5 % error on MNIST, the goal
of this project; then Samadi et al. (2017), 2.95 %, and eRBP, Neftci et al. (2017), 2.25 %, both with larger nets and
more epochs. All rules here teach the same net, 784-500-10, one stimulus for 80 ms at steps of 2 ms in each of 64
streams that go on all the time, by Adam, its rate falling to 0, with compiled steps.

Trials have two epochs, seed 0 and three learning rates a factor of two apart, moved until the best of them, by the
accuracy on the 6,000 validation images, is not at an end. It is run for three epochs (Fashion-MNIST: two) with the
seeds 5 to 9, and only there the test images are looked at. Controls have the rates of MNIST on Fashion-MNIST too.
"""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import study

from plausible.train import Run

matplotlib.use("Agg")

HOME = Path("plausible-runs/hunsberger")
SEEDS = (5, 6, 7, 8, 9)
NET = {"width": 500, "depth": 1, "sensors": "on", "bias": True, "spread": 0.05}
PAIRED = {**NET, "decoders": "paired"}
BASE = Run(
    data="mnist", model="lif-mlp", rule="nef-dfa", optimizer="Adam", weight_decay=0.0, epochs=2, probe_size=0,
    model_options=NET, compile=True,
)  # fmt: skip
OURS = {"usual": 1.0, "told": 0.25}
"""Synapses take off what is usual, and the target is told from a quarter of a stimulus on."""
RULES: dict[str, dict[str, Any]] = {  # as in the thesis: a target at once, nothing taken off the traces
    "NEF-DFA": {"rule_options": OURS, "model_options": PAIRED},
    "hidden layer frozen": {"rule_options": {**OURS, "hidden": False}, "model_options": PAIRED},
    "feedback redrawn for each stimulus": {"rule_options": {**OURS, "redraw": True}, "model_options": PAIRED},
    "NEF-DFA as in the thesis": {},
    "Samadi's broadcast alignment": {"rule": "samadi"},
    "eRBP": {"rule": "erbp"},
}
FASHION = {"data": "fashion-mnist", "model_options": {**PAIRED, "sensors": "on-off"}}  # its images are not mostly black
CASES = {f"mnist: {name}": BASE.replace(**own) for name, own in RULES.items()} | {
    f"fashion-mnist: {name}": BASE.replace(**{**own, **FASHION}) for name, own in list(RULES.items())[:3]
}
RATES = dict.fromkeys(list(CASES)[:7], (1e-3, 2e-3, 4e-3)) | {
    "mnist: hidden layer frozen": (2.5e-4, 5e-4, 1e-3),
    "mnist: feedback redrawn for each stimulus": (2e-3, 4e-3, 8e-3),
    "fashion-mnist: NEF-DFA": (5e-4, 1e-3, 2e-3),
}
CHOSEN = {"fashion-mnist: NEF-DFA": 1e-3}
"""In the trial 2e-3 did as well, by .2 points better; with seed 5 it fell to 80.4 % of validation images."""
THESIS = BASE.replace(seed=5, epochs=1, model_options={**NET, "depth": 2, "dt": 1e-3, "shown": 0.33})
"""The thesis' own time step, time of an image, widths and rule; it has six epochs of one stream."""


def trials() -> dict[tuple[str, float], Run]:
    """By case and learning rate."""
    return {(case, lr): CASES[case].replace(lr=lr) for case, rates in RATES.items() for lr in rates}


def finals(best: dict[str, float]) -> dict[str, list[Run]]:
    """By case, a run for each seed; what was not tried on a data set has its rate from MNIST."""
    best = {**best, **(CHOSEN if best else {})}
    rates = {case: best.get(case, best.get(f"mnist: {case.partition(': ')[2]}")) for case in CASES}
    return {
        case: [CASES[case].replace(lr=lr, seed=seed, epochs=3 if CASES[case].data == "mnist" else 2) for seed in SEEDS]
        for case, lr in rates.items()
        if lr is not None
    }


def main() -> None:
    """Run what has not been run, and write both files."""
    jobs, parts = study.arguments(__doc__ or "")
    stages = study.staged(trials(), finals, HOME, jobs, parts)
    if "small" in parts:
        study.results([THESIS], HOME, jobs)
    thesis = study.finished([THESIS], HOME)
    page = (
        "# Hunsberger's network, online in spikes\n\nMade by `python recipes/hunsberger.py`, whose header says how.\n"
    )
    page += stages.tables("MNIST three epochs, Fashion-MNIST two", "two epochs")
    page += (
        "\n## The thesis' own time step, time of an image and widths: one epoch, seed 5, test accuracy in per cent\n\n"
    )
    page += study.test(list(thesis.values())) + "\n"
    _draw(stages)
    study.write("hunsberger", page, {"trial": stages.found, "final": {**stages.came, **thesis}})


def _draw(stages: study.Stages) -> None:
    """``docs/img/hunsberger.svg``: test accuracy on each data set; a dot for each seed."""
    plt.rcParams.update({"svg.hashsalt": "plausible", "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.4), layout="constrained", sharey=True)
    names = [name for name in RULES if any(run in stages.came for run in stages.ends.get(f"mnist: {name}", []))]
    for ax, data in zip(axes, ("mnist", "fashion-mnist"), strict=True):
        for case, runs in stages.ends.items():
            where, _, name = case.partition(": ")
            found = [100 * (stages.came[run].test_accuracy or 0.0) for run in runs if run in stages.came]
            if where == data and found:
                ax.plot(found, [names.index(name)] * len(found), "o", color="#0072b2", alpha=0.6)
        ax.set(title=data, xlabel="test accuracy, %", yticks=range(len(names)), yticklabels=names,
               ylim=(len(names) - 0.5, -0.5))  # fmt: skip
    figure.savefig(Path(__file__).parent.parent / "docs/img/hunsberger.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
