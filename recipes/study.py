"""What recipes share: many runs side by side, each once and for all, and the rows that say what came of them."""

import argparse
import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, Self

from plausible.compare.cost import keep_memory
from plausible.train import Result, Run, train

RESULTS = Path(__file__).parent.parent / "results"


class Came(NamedTuple):
    """What a run came to: accuracies from 0 to 1; None where there is none, or where nobody looks."""

    validation: float | None
    test: float | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """Many runs, each in a folder of its own in ``plausible-runs/NAME``, and their page and rows in ``results``.

    Attributes:
        name: of the page and the rows.
        jobs: how many runs at a time.
        parts: which to run.
        known: whether the rows of ``results/NAME.csv`` count as run.
    """

    name: str
    jobs: int = 1
    parts: Sequence[str] = ()
    known: bool = False

    @classmethod
    def of_arguments(cls, name: str, about: str) -> Self:
        """What the command line asks for."""
        parser = argparse.ArgumentParser(description=about.split("\n\n")[0])
        parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
        parser.add_argument("--parts", nargs="*", default=["trial", "final", "small"], help="all, unless said")
        parser.add_argument("--known", action="store_true", help="do not run again what has a row in the results")
        return cls(name=name, **vars(parser.parse_args()))

    def home(self, run: Run) -> Path:
        """The folder of a run."""
        return Path("plausible-runs") / self.name / run.id

    def run(self, runs: Iterable[Run]) -> None:
        """Run each. What is finished is not done again, and what was stopped goes on."""
        os.environ["OMP_NUM_THREADS"] = "1"
        wanted = [run for run in dict.fromkeys(runs) if not (self.known and run in self._rows)]
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(_run, run, self.home(run)): run for run in wanted}
            for k, done in enumerate(as_completed(waiting), start=1):
                done.result()
                run = waiting[done]
                print(f"{k} of {len(wanted)}: {run.rule} on {run.data}, seed {run.seed}, {run.id}", flush=True)

    def came(self, runs: Iterable[Run]) -> dict[Run, Came]:
        """What has been run of these, and what it came to."""
        found = {}
        for run in runs:
            file = self.home(run) / "result.json"
            if file.exists():
                result = Result.from_json(file.read_text(encoding="utf-8"))
                found[run] = Came(result.validation_accuracy, result.test_accuracy)
            elif self.known and run in self._rows:
                found[run] = self._rows[run]
        return found

    @cached_property
    def _rows(self) -> dict[Run, Came]:
        with (RESULTS / f"{self.name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        known = (Came(*(float(row[key]) if row[key] else None for key in Came._fields)) for row in rows)
        return {Run.from_dict(json.loads(row["run"])): came for row, came in zip(rows, known, strict=True)}

    def staged(
        self, tried: Mapping[tuple[str, float], Run], finals: Callable[[dict[str, float]], dict[str, list[Run]]]
    ) -> "Stages":
        """Run the trials if that is a part, and what ``finals`` makes of the best rates if that is one."""
        if "trial" in self.parts:
            self.run(tried.values())
        found = self.came(tried.values())
        seen: dict[str, dict[float, float]] = {case: {} for case, _ in tried}
        for (case, rate), run in tried.items():
            if run in found:
                seen[case][rate] = found[run].validation or 0.0
        planned = Counter(case for case, _ in tried)
        best = {case: max(rates, key=rates.__getitem__) for case, rates in seen.items() if len(rates) == planned[case]}
        ends = finals(best)
        last = [run for runs in ends.values() for run in runs]
        if "final" in self.parts:
            self.run(last)
        return Stages(tried, found, best, ends, self.came(last))

    def write(self, page: str, parts: Mapping[str, Mapping[Run, Came]]) -> None:
        """``results/NAME.md``, and ``NAME.csv`` with a row for each run; its test accuracy only if it is final."""
        (RESULTS / f"{self.name}.md").write_text(page, encoding="utf-8")
        with (RESULTS / f"{self.name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["part", "data", "rule", "seed", "epochs", *Came._fields, "run"])
            for part, results in parts.items():
                for run, came in results.items():
                    differs = {key: value for key, value in run.to_dict().items() if value != getattr(Run(), key)}
                    looked = came.test if part == "final" else None
                    writer.writerow(
                        [part, run.data, run.rule, run.seed, run.epochs, came.validation, looked, json.dumps(differs)]
                    )


def _run(run: Run, home: Path) -> None:
    keep_memory()
    train(run, home)


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
    found: Mapping[Run, Came]
    best: Mapping[str, float]
    ends: Mapping[str, list[Run]]
    came: Mapping[Run, Came]

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


def validation(ended: Sequence[Came]) -> str:
    """Mean ± standard deviation of the validation accuracy in per cent."""
    return _spread([100 * (each.validation or 0.0) for each in ended])


def test(ended: Sequence[Came]) -> str:
    """Mean ± standard deviation of the test accuracy in per cent."""
    return _spread([100 * (each.test or 0.0) for each in ended])


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
