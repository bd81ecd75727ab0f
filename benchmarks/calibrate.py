"""How often a criterion of the audit is wrong: its value and verdict over random nets, for learners known to have the
problem and for learners known not to have it.

    python benchmarks/calibrate.py --json results/calibration.json --markdown results/calibration.md

What is known is known by construction: back-propagation reads its weights, a fixed random feedback does not. Nets
differ in depth, width, nonlinearity, number of classes, batch and seed. See README.md beside this file.
"""

import argparse
import json
import random
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
from plausible.data import load

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audit"))
import learners_in_time  # the controls of the criteria's own tests
import test_credit
import test_dales_law
import test_weight_sharing
import test_weight_transport
import toys
from learners_in_time import Contrastive, Online, Spike, Spiking
from learners_of_sequences import RealTime, Recurrent, Traces, Truncated

COMMAND = "python benchmarks/calibrate.py --json results/calibration.json --markdown results/calibration.md"
STATIC, IN_TIME = 1000, 50
"""Random nets for each case: of an experiment on a static learner, and of one that runs in time or trains."""

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.Softplus)
SPIKES: tuple[type[nn.Module], ...] = (Spike,)


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

    def layers(self, inputs: int, classes: int) -> list[nn.Module]:
        """Of a multi-layer perceptron."""
        sizes = (inputs, *self.widths)
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), self.activation())]
        return [*hidden, nn.Linear(sizes[-1], classes)]

    def examples(self, *shape: int) -> Batch:
        """Examples of this shape, and labels that have nothing to do with them."""
        x, y = torch.randn(self.batch, *shape), torch.randint(self.classes, (self.batch,))
        return Batch(x, y, self.classes)


def perceptron(net: Net) -> tuple[nn.Module, Batch]:
    """A multi-layer perceptron."""
    return nn.Sequential(*net.layers(net.inputs, net.classes)), net.examples(net.inputs)


def one_signed(net: Net) -> tuple[nn.Module, Batch]:
    """One whose hidden neurons each excite, or inhibit, all that they reach."""
    model, batch = perceptron(net)
    with torch.no_grad():
        for layer in list(model.modules())[2:]:
            if isinstance(layer, nn.Linear):
                layer.weight.abs_().mul_(torch.randn(layer.in_features).sign())
    return model, batch


def of_digits(net: Net) -> tuple[nn.Module, Batch]:
    """One for scikit-learn's digits, of which it gets as many as the experiment takes."""
    found = load("digits")
    chosen = torch.randperm(len(found.train.y))[:512]
    x = (found.train.x[chosen].flatten(1) - found.mean) / found.std
    return nn.Sequential(*net.layers(x.shape[1], found.classes)), Batch(x, found.train.y[chosen], found.classes)


def in_front(front: Callable[[int], nn.Module]) -> Callable[[Net], tuple[nn.Module, Batch]]:
    """One behind a layer with positions, on images of 6 × 6."""

    def make(net: Net) -> tuple[nn.Module, Batch]:
        channels = net.widths[0] // 4
        hidden = net.layers(channels * 16, net.classes)
        return nn.Sequential(front(channels), nn.Tanh(), nn.Flatten(), *hidden), net.examples(2, 6, 6)

    return make


def recurrent(net: Net) -> tuple[nn.Module, Batch]:
    """A recurrent net, on sequences."""
    return Recurrent(net.inputs, net.widths[0], net.classes), net.examples(12, net.inputs)


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
        model: makes the model and its examples of what is drawn.
    """

    criterion: str
    learner: str
    verdict: str
    rule: Callable[[int], str | Rule]
    nets: int = STATIC
    activations: tuple[type[nn.Module], ...] = ACTIVATIONS
    model: Callable[[Net], tuple[nn.Module, Batch]] = perceptron

    def subject(self, net: Net) -> tuple[LearnerSubject, Batch]:
        """The rule bound to the model, and its examples."""
        torch.manual_seed(net.seed)
        model, batch = self.model(net)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)
        rule = self.rule(net.seed)
        learner = plausible.bind(model, rule, F.cross_entropy, example=batch.x, optimizer=optimizer)
        return LearnerSubject(learner), batch


def named(name: str, **options: Any) -> Callable[[int], Rule]:
    """The registered rule, with the seed."""
    return lambda seed: plausible.core.registry.make(name, seed=seed, **options)


def control(kind: type[Rule], **options: Any) -> Callable[[int], Rule]:
    """A control of a criterion's own tests, with the seed."""
    return lambda seed: kind(seed=seed, **options)


def in_time(learner: type[Learner], **fields: Any) -> Callable[[int], Rule]:
    """A control that runs in time."""
    return lambda seed: learners_in_time.rule(learner, **fields)


CASES = [
    Case("weight transport", "backprop", "violated", named("backprop")),
    Case("weight transport", "fa, 1 % of W leaks", "violated", control(test_weight_transport.Leak)),
    Case("weight transport", "usf", "partly", named("usf")),
    *(Case("weight transport", rule, "solved", named(rule)) for rule in ("fa", "dfa")),
    *(Case("derivative transport", rule, "violated", named(rule)) for rule in ("backprop", "fa")),
    Case("derivative transport", "dfa", "solved", named("dfa")),
    *(Case("linear feedback", rule, "violated", named(rule)) for rule in ("fa", "dfa")),
    Case("linear feedback", "through sigmoid rates", "solved", control(toys.Broadcast, carrier="sigmoid")),
    Case("spiking", "backprop", "violated", named("backprop")),
    Case("spiking", "spikes everywhere", "solved", in_time(Spiking), IN_TIME, SPIKES),
    Case("spiking", "spikes, graded feedback", "partly", in_time(Spiking, graded=True), IN_TIME, SPIKES),
    *(Case("timing", rule, "violated", named(rule), IN_TIME) for rule in ("backprop", "fa", "dfa")),
    Case("timing", "contrast of two phases", "partly", in_time(Contrastive), IN_TIME),
    Case("timing", "online, traces", "solved", in_time(Online), IN_TIME),
    *(Case("timing", each.__name__, "solved", in_time(each), IN_TIME, model=recurrent) for each in (RealTime, Traces)),
    Case("target", "backprop", "violated", named("backprop")),
    Case("target", "told a reward", "solved", control(toys.Reward)),
    Case("weight sharing", "a convolution", "violated", named("fa"), model=in_front(lambda n: nn.Conv2d(2, n, 3))),
    Case(
        "weight sharing",
        "synapses of their own",
        "solved",
        named("fa", uncovered="backprop"),
        model=in_front(lambda n: test_weight_sharing.LocallyConnected(2, n, 6)),
    ),
    *(Case("BPTT", each.__name__, "solved", in_time(each), IN_TIME, model=recurrent) for each in (RealTime, Traces)),
    Case("BPTT", "Truncated", "violated", in_time(Truncated), IN_TIME, model=recurrent),
    Case("Dale's law", "fa", "violated", named("fa"), IN_TIME),
    Case(
        "Dale's law", "signs kept", "solved", control(test_dales_law.Excitatory, no_sign_change=True), model=one_signed
    ),
    Case("locality", "fa", "solved", named("fa")),
    Case("locality", "updates of one norm", "violated", control(toys.Broadcast, normed=True)),
    *(Case("credit", rule, "solved", named(rule), IN_TIME, model=of_digits) for rule in ("backprop", "fa")),
    Case("credit", "feedback redrawn", "violated", control(test_credit.Redrawn), IN_TIME, model=of_digits),
    Case("credit", "hidden layers climb", "violated", control(test_credit.Against), IN_TIME, model=of_digits),
]


def examine(task: tuple[int, int]) -> dict[str, Any]:
    """Verdict and value of one case on one net."""
    torch.set_num_threads(1)
    case, seed = CASES[task[0]], task[1]
    net = Net.drawn(seed, case.activations)
    try:
        finding = get(case.criterion).experiment(*case.subject(net))
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


def page(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "# How often the audit is wrong",
        "",
        f"`{COMMAND}`",
        "",
        "Random nets with two to four hidden layers of 8 to 48 units, four nonlinearities, 3 to 8 classes, 4 to 24 "
        "examples; for credit, ten classes and 512 of scikit-learn's digits. The error rate's bound is the upper end "
        "of a one-sided 95 % interval (Clopper and Pearson).",
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
    parser.add_argument("--criteria", nargs="+", metavar="NAME", help="only these; others stay as they are in the JSON")
    parser.add_argument("--nets", type=int, help="for each case, instead of 1000 (static) or 50 (in time)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the distributions here")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write the table here that is printed")
    options = parser.parse_args()
    rows = {_key(row): row for row in json.loads(options.json.read_text())["cases"]} if _there(options.json) else {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for index, case in enumerate(CASES):
            if options.criteria and case.criterion not in options.criteria:
                continue
            nets = options.nets or case.nets
            outcomes = list(pool.map(examine, [(index, seed) for seed in range(nets)], chunksize=4))
            row = summary(case, outcomes)
            rows[_key(row)] = row
            print(f"{case.criterion}, {case.learner}: {row['verdicts']}", file=sys.stderr, flush=True)
            ordered = [rows[key] for each in CASES if (key := (each.criterion, each.learner)) in rows]
            if options.json:
                options.json.write_text(json.dumps({"command": COMMAND, "cases": ordered}, indent=1) + "\n")
            if options.markdown:
                options.markdown.write_text(page(ordered))
            table = page(ordered)
    print(table)


def _there(path: Path | None) -> bool:
    return path is not None and path.exists()


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["criterion"], row["learner"]


if __name__ == "__main__":
    main()
