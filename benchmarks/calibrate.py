"""How often a criterion of the audit is wrong: its value and verdict over random nets, for learners known to have the
problem and for learners known not to have it.

    python benchmarks/calibrate.py --json results/calibration.json --markdown results/calibration.md

What is known is known by construction: back-propagation reads its weights, a fixed random feedback does not. Nets
differ in depth, width, nonlinearity, number of classes, batch and seed. See README.md beside this file.
"""

import argparse
import json
import random
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, Finding, LearnerSubject, Unmeasurable
from plausible.audit.criterion import get
from plausible.core import Learner, Rule

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audit"))
import learners_in_time  # the controls of the criteria's own tests
import test_weight_transport
import toys
from learners_in_time import Contrastive, Online, Spike, Spiking
from learners_of_sequences import RealTime, Recurrent, Traces, Truncated

STATIC, IN_TIME = 1000, 50
"""Random nets for each case: of an experiment on a static learner, and of one that runs in time or trains."""

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.Softplus)
SPIKES: tuple[type[nn.Module], ...] = (Spike,)


@dataclass(frozen=True)
class Case:
    """A learner of which the verdict is known.

    Attributes:
        criterion: by which it is judged.
        learner: for the table.
        verdict: that must come out.
        rule: makes the rule from a seed.
        nets: how many random nets.
        activations: nonlinearities that the nets may have.
        sequences: whether it learns sequences, with a recurrent net.
    """

    criterion: str
    learner: str
    verdict: str
    rule: Callable[[int], str | Rule]
    nets: int = STATIC
    activations: tuple[type[nn.Module], ...] = ACTIVATIONS
    sequences: bool = False


def named(name: str, **options: Any) -> Callable[[int], Rule]:
    """The registered rule, with the seed."""
    return lambda seed: plausible.core.registry.make(name, seed=seed, **options)


def in_time(learner: type[Learner], **fields: Any) -> Callable[[int], Rule]:
    """A control that runs in time."""
    return lambda seed: learners_in_time.rule(learner, **fields)


CASES = [
    Case("weight transport", "backprop", "violated", named("backprop")),
    Case("weight transport", "fa, 1 % of W leaks", "violated", lambda seed: test_weight_transport.Leak(seed=seed)),
    Case("weight transport", "usf", "partly", named("usf")),
    *(Case("weight transport", rule, "solved", named(rule)) for rule in ("fa", "dfa")),
    *(Case("derivative transport", rule, "violated", named(rule)) for rule in ("backprop", "fa")),
    Case("derivative transport", "dfa", "solved", named("dfa")),
    Case("target", "backprop", "violated", named("backprop")),
    Case("target", "told a reward", "solved", lambda seed: toys.Reward(seed=seed)),
    Case("spiking", "backprop", "violated", named("backprop")),
    Case("spiking", "spikes everywhere", "solved", in_time(Spiking), IN_TIME, SPIKES),
    Case("spiking", "spikes, graded feedback", "partly", in_time(Spiking, graded=True), IN_TIME, SPIKES),
    *(Case("timing", rule, "violated", named(rule), IN_TIME) for rule in ("backprop", "fa", "dfa")),
    Case("timing", "contrast of two phases", "partly", in_time(Contrastive), IN_TIME),
    Case("timing", "online, traces", "solved", in_time(Online), IN_TIME),
    *(Case("timing", each.__name__, "solved", in_time(each), IN_TIME, sequences=True) for each in (RealTime, Traces)),
    *(Case("BPTT", each.__name__, "solved", in_time(each), IN_TIME, sequences=True) for each in (RealTime, Traces)),
    Case("BPTT", "Truncated", "violated", in_time(Truncated), IN_TIME, sequences=True),
    *(Case("linear feedback", rule, "violated", named(rule)) for rule in ("fa", "dfa")),
    Case(
        "linear feedback", "through sigmoid rates", "solved", lambda seed: toys.Broadcast(seed=seed, carrier="sigmoid")
    ),
    Case("locality", "fa", "solved", named("fa")),
    Case("Dale's law", "fa", "violated", named("fa"), IN_TIME),
]


@dataclass(frozen=True)
class Net:
    """What is drawn for one net."""

    seed: int
    inputs: int
    widths: tuple[int, ...]
    classes: int
    batch: int
    activation: type[nn.Module]

    @classmethod
    def drawn(cls, seed: int, activations: tuple[type[nn.Module], ...]) -> "Net":
        """From a seed."""
        draw = random.Random(seed)
        widths = tuple(draw.choice((8, 12, 16, 24, 32, 48)) for _ in range(draw.randint(2, 4)))
        return cls(seed, draw.randint(8, 40), widths, draw.randint(3, 8), draw.randint(4, 24), draw.choice(activations))

    def subject(self, rule: Rule | str, *, sequences: bool) -> tuple[LearnerSubject, Batch]:
        """The rule bound to the net, and a batch."""
        torch.manual_seed(self.seed)
        if sequences:
            model = Recurrent(self.inputs, self.widths[0], self.classes)
            x, y = torch.randn(self.batch, 12, self.inputs), torch.randint(self.classes, (self.batch,))
            return LearnerSubject(plausible.bind(model, rule, F.cross_entropy)), Batch(x, y, self.classes)
        sizes = (self.inputs, *self.widths)
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), self.activation())]
        model = nn.Sequential(*layers, nn.Linear(sizes[-1], self.classes))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)
        x, y = torch.randn(self.batch, self.inputs), torch.randint(self.classes, (self.batch,))
        learner = plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)
        return LearnerSubject(learner), Batch(x, y, self.classes)


def examine(task: tuple[int, int]) -> dict[str, Any]:
    """Verdict and value of one case on one net."""
    torch.set_num_threads(1)
    case, seed = CASES[task[0]], task[1]
    net = Net.drawn(seed, case.activations)
    try:
        finding = get(case.criterion).experiment(*net.subject(case.rule(seed), sequences=case.sequences))
    except Unmeasurable as why:
        finding = Finding(criterion=case.criterion, verdict="could not be measured", sentence=str(why))
    return {"verdict": finding.verdict, "value": finding.value, "seed": seed, "net": [net.inputs, *net.widths]}


def summary(case: Case, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Distribution, error rate and the upper end of its one-sided 95 % interval (Clopper and Pearson)."""
    told = [outcome for outcome in outcomes if outcome["verdict"] not in ("does not apply", "could not be measured")]
    wrong = [outcome for outcome in told if outcome["verdict"] != case.verdict]
    values = np.array([outcome["value"] for outcome in told if outcome["value"] is not None], dtype=float)
    n, k = len(told), len(wrong)
    return {
        "criterion": case.criterion,
        "learner": case.learner,
        "verdict": case.verdict,
        "nets": len(outcomes),
        "judged": n,
        "wrong": k,
        "error rate at most": float(beta.ppf(0.95, k + 1, n - k)) if n > k else 1.0,
        "quantiles": dict(
            zip(("min", "1%", "50%", "99%", "max"), np.quantile(values, (0, 0.01, 0.5, 0.99, 1)), strict=True)
        )
        if len(values)
        else {},
        "verdicts": dict(Counter(outcome["verdict"] for outcome in outcomes)),
        "wrong nets": wrong[:5],
    }


def page(rows: list[dict[str, Any]], command: str) -> str:
    """The table as Markdown."""
    lines = [
        "# How often the audit is wrong",
        "",
        f"`{command}`",
        "",
        "Random nets with two to four hidden layers of 8 to 48 units, four nonlinearities, 3 to 8 classes, 4 to 24 "
        "examples. The error rate's bound is the upper end of a one-sided 95 % interval (Clopper and Pearson).",
        "",
        "| criterion | learner | must be | judged | wrong | error rate ≤ | value: least | median | greatest |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        quantiles = [f"{row['quantiles'][key]:.2g}" if row["quantiles"] else "–" for key in ("min", "50%", "max")]
        lines.append(
            f"| {row['criterion']} | {row['learner']} | {row['verdict']} | {row['judged']} of {row['nets']} "
            f"| {row['wrong']} | {row['error rate at most']:.2g} | {' | '.join(quantiles)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Examine, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--criteria", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--nets", type=int, help="for each case, instead of 1000 (static) or 50 (in time)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the distributions here")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write the table here that is printed")
    options = parser.parse_args()
    command = shlex.join(["python", "benchmarks/calibrate.py", *sys.argv[1:]])
    rows = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for index, case in enumerate(CASES):
            if options.criteria and case.criterion not in options.criteria:
                continue
            nets = options.nets or case.nets
            outcomes = list(pool.map(examine, [(index, seed) for seed in range(nets)], chunksize=8))
            rows.append(summary(case, outcomes))
            print(f"{case.criterion}, {case.learner}: {rows[-1]['verdicts']}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps({"command": command, "cases": rows}, indent=1) + "\n")
            if options.markdown:
                options.markdown.write_text(page(rows, command))
    print(page(rows, command))


if __name__ == "__main__":
    main()
