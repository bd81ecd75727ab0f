"""What recipes share: many runs side by side, each once and for all, and the rows that say what came of them."""

import argparse
import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from plausible.compare.cost import keep_memory
from plausible.train import Result, Run, train

RESULTS = Path(__file__).parent.parent / "results"


def results(runs: Iterable[Run], home: Path, jobs: int) -> dict[Run, Result]:
    """What each run came to. What is finished in ``home`` is not done again, and what was stopped goes on."""
    os.environ["OMP_NUM_THREADS"] = "1"
    wanted = list(dict.fromkeys(runs))
    found: dict[Run, Result] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_result, run, home): run for run in wanted}
        for k, done in enumerate(as_completed(waiting), start=1):
            run = waiting[done]
            found[run] = done.result()
            print(f"{k} of {len(wanted)}: {run.rule} on {run.data}, seed {run.seed}, {run.id}", flush=True)
    return found


def _result(run: Run, home: Path) -> Result:
    keep_memory()
    return train(run, home / run.id)


def finished(runs: Iterable[Run], home: Path) -> dict[Run, Result]:
    """What has been run of these, and what it came to."""
    files = {run: home / run.id / "result.json" for run in runs}
    return {run: Result.from_json(file.read_text(encoding="utf-8")) for run, file in files.items() if file.exists()}


class Stages(NamedTuple):
    """Trials, and the runs that follow from them.

    Attributes:
        tried: by case and learning rate.
        found: what has been run of the trials.
        best: the rate with the greatest validation accuracy, for the cases whose trials have all been run.
        ends: by case, a run for each seed.
        came: what has been run of these.
    """

    tried: Mapping[tuple[str, float], Run]
    found: Mapping[Run, Result]
    best: Mapping[str, float]
    ends: Mapping[str, list[Run]]
    came: Mapping[Run, Result]

    def tables(self, ends: str, trials: str) -> str:
        """Both as Markdown; how long the runs and the trials are is said in words."""
        page = f"\n## Test accuracy in per cent: {ends}\n\n"
        page += table(
            ["", "learning rate", "test accuracy"],
            [
                (case, f"{runs[0].lr:g}", test([self.came[run] for run in runs if run in self.came]))
                for case, runs in self.ends.items()
            ],
        )
        cases, rates = dict.fromkeys(case for case, _ in self.tried), sorted({rate for _, rate in self.tried})
        page += f"\n## Trials: {trials}, seed 0, validation accuracy in per cent, by learning rate\n\n"
        return page + table(
            ["", *(f"{rate:g}" for rate in rates)],
            [(case, *(self._tried(case, rate) for rate in rates)) for case in cases],
        )

    def _tried(self, case: str, rate: float) -> str:
        run = self.tried.get((case, rate))
        return "" if run is None else validation([self.found[run]] if run in self.found else [])


def staged(
    tried: Mapping[tuple[str, float], Run],
    finals: Callable[[dict[str, float]], dict[str, list[Run]]],
    home: Path,
    jobs: int,
    parts: Sequence[str],
) -> Stages:
    """Run the trials if that is a part, and what ``finals`` makes of the best rates if that is one."""
    if "trial" in parts:
        results(tried.values(), home, jobs)
    found = finished(tried.values(), home)
    seen: dict[str, dict[float, float]] = {case: {} for case, _ in tried}
    for (case, rate), run in tried.items():
        if run in found:
            seen[case][rate] = found[run].validation_accuracy or 0.0
    planned = Counter(case for case, _ in tried)
    best = {case: max(rates, key=rates.__getitem__) for case, rates in seen.items() if len(rates) == planned[case]}
    ends = finals(best)
    last = [run for runs in ends.values() for run in runs]
    if "final" in parts:
        results(last, home, jobs)
    return Stages(tried, found, best, ends, finished(last, home))


def validation(results: Sequence[Result]) -> str:
    """Mean ± standard deviation of the validation accuracy in per cent."""
    return _spread([100 * (result.validation_accuracy or 0.0) for result in results])


def test(results: Sequence[Result]) -> str:
    """Mean ± standard deviation of the test accuracy in per cent."""
    return _spread([100 * (result.test_accuracy or 0.0) for result in results])


def _spread(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return "not run"
    if len(accuracies) == 1:
        return f"{accuracies[0]:.2f}"
    return f"{mean(accuracies):.2f} ± {stdev(accuracies):.2f} ({len(accuracies)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|:--" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def write(name: str, page: str, parts: Mapping[str, Mapping[Run, Result]]) -> None:
    """``results/NAME.md``, and ``results/NAME.csv`` with a row for each run; its test accuracy only if it is final."""
    (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
    with (RESULTS / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["part", "data", "rule", "seed", "epochs", "validation", "test", "run"])
        for part, results in parts.items():
            for run, result in results.items():
                differs = {key: value for key, value in run.to_dict().items() if value != getattr(Run(), key)}
                looked = result.test_accuracy if part == "final" else None
                writer.writerow(
                    [part, run.data, run.rule, run.seed, run.epochs, result.validation_accuracy, looked,
                     json.dumps(differs)]
                )  # fmt: skip


def arguments(about: str) -> tuple[int, list[str]]:
    """(jobs, which parts to run) of the command line."""
    parser = argparse.ArgumentParser(description=about.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--parts", nargs="*", default=["trial", "final", "small"], help="all, unless said")
    said = parser.parse_args()
    return said.jobs, said.parts
