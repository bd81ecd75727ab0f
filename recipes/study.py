"""What recipes share: many runs side by side, each once and for all, and the rows that say what came of them."""

import argparse
import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

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
