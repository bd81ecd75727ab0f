"""Can every model of the zoo be taught by transport rules, and do they do what they say? ``results/coverage.md``.

    pip install 'plausible[test]'
    python results/coverage.py                    the long sweep: most of an hour of one core
    python results/coverage.py --only vit_b_16

For each model, in double precision, on two examples: sham's gradients against back-propagation's; feedback alignment's
against back-propagation through B along the trajectory that W has made, which knows nothing of how the rule is attached
(``tests/core/along.py``); and the largest change of any update of feedback alignment when all weights are changed
while activity is held, where nothing may change. Differences are relative to a gradient's largest number, with a floor
of a millionth of the largest of all.
"""

import argparse
import copy
import csv
import gc
import sys
import time
import warnings
from pathlib import Path

import torch
import zoo
from torch import Tensor, nn

import plausible
from plausible.audit.coverage import coverage, through_forward_weights
from plausible.audit.trajectory import Trajectory

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests/core"))
from along import gradients, through  # noqa: E402

FIELDS = ["library", "model", "weights", "in layers", "elsewhere", "computed", "sham", "fa", "read", "seconds"]


def difference(found: nn.Module | dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative difference of a gradient."""
    mine = found if isinstance(found, dict) else {n: p.grad for n, p in found.named_parameters() if p.grad is not None}
    assert set(mine) == set(expected), set(mine) ^ set(expected)
    floor = 1e-6 * max(float(g.abs().max()) for g in expected.values())
    return max(float((mine[n] - g).abs().max() / (g.abs().max() + floor)) for n, g in expected.items())


def examine(library: str, name: str) -> dict[str, object]:
    """One row of the table."""
    start = time.perf_counter()
    model, x, y = zoo.example(library, name)

    def run(m: nn.Module) -> Tensor:
        torch.manual_seed(1)  # branches may be dropped
        return zoo.loss(m(**x) if isinstance(x, dict) else m(x), y)

    sham = plausible.bind(copy.deepcopy(model), "sham", zoo.loss, example=x)
    torch.manual_seed(1)
    sham.learn(x, y)
    row: dict[str, object] = {"library": library, "model": name, "sham": difference(sham.model, gradients(model, run))}
    del sham
    plain = copy.deepcopy(model)
    learner = plausible.bind(model, "fa", zoo.loss, example=x)
    sites, covered = learner.sites(), learner.coverage
    computed = sum(site.computed for site in sites)
    row |= {"weights": len(sites), "in layers": len(covered.layers), "computed": computed,
            "elsewhere": len(sites) - len(covered.layers) - computed}  # fmt: skip
    assert not covered.passed
    torch.manual_seed(1)
    learner.learn(x, y)
    mine = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    if computed:
        missed = through_forward_weights(coverage(learner, x, y))
        assert not missed, missed
        row |= {"fa": "", "read": 0.0}
    else:
        if covered.recurrent:  # torch's fused kernels keep more for the way back than weights and activity
            plain = plausible.bind(plain, "sham", zoo.loss, example=x).model
        feedback = {site.made_of[0]: site["B"] for site in sites}
        row["fa"] = difference(mine, through(plain, x, run, feedback))
        row["read"] = read(learner, x, y, mine)
    gc.collect()
    return row | {"seconds": round(time.perf_counter() - start)}


def read(learner: plausible.Learner, x: object, y: Tensor, before: dict[str, Tensor]) -> float:
    """The largest change of an update when the weights for which the rule keeps feedback change under held activity."""
    trajectory, model = Trajectory(x), learner.model
    learner.zero_grad()
    torch.manual_seed(1)
    with trajectory.recorded(model):
        learner.learn(x, y)
    learner.zero_grad()
    with torch.no_grad():
        for site in learner.sites():
            weight = learner.weight(site)
            weight.mul_(torch.randn_like(weight).mul_(0.3).exp_())
    torch.manual_seed(1)
    with trajectory.repeated(model):
        learner.learn(x, y)
    return difference(model, before)


def main() -> None:
    """Examine, and write both files; what is in the CSV already is not done again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="*", help="names of models")
    only = parser.parse_args().only
    warnings.filterwarnings("ignore")
    table = HERE / "coverage.csv"
    done = list(csv.DictReader(table.open(encoding="utf-8"))) if table.exists() else []
    failed: list[str] = []
    for library, name in zoo.names():
        if (only and name not in only) or any((r["library"], r["model"]) == (library, name) for r in done):
            continue
        try:
            row = {key: str(value) for key, value in examine(library, name).items()}
        except Exception as error:  # the others are wanted all the same
            failed.append(name)
            print(f"{library} {name} FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        print(row, flush=True)
        done.append(row)
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(done)
    (HERE / "coverage.md").write_text(page(done), encoding="utf-8")
    sys.exit(f"Failed: {', '.join(failed)}" if failed else 0)


def page(rows: list[dict[str, str]]) -> str:
    """``coverage.md``."""
    lines = [
        "# Which models transport rules can teach",
        "",
        "Made by `python results/coverage.py`, whose header says how; a row for each model in coverage.csv.",
        "",
        "| library | models | weights | in layers | elsewhere | computed | sham | fa | read |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for library in dict.fromkeys(row["library"] for row in rows):
        mine = [row for row in rows if row["library"] == library]
        sums = (str(sum(int(row[key]) for row in mine)) for key in FIELDS[2:6])
        worst = (f"{max(float(row[key] or 0) for row in mine):.0e}" for key in ("sham", "fa", "read"))
        lines.append("| " + " | ".join([library, str(len(mine)), *sums, *worst]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
