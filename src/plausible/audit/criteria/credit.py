"""The hidden layers' updates carry no credit: they do not know in which direction the loss falls.

Copies train for a short while on the batch. Beside the learner itself stands a control whose hidden layers are put
back after each step, so that only its output layer learns. Both have their rates searched alike, and are compared on
examples held out; in each repetition others are. At the start and at the end of training, the angle between the updates
and the true gradient is taken: example by example, or, where there is no gradient to be had, from small steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev

import torch
from torch import Tensor
from torch.nn import functional as F

from plausible.audit.criterion import Batch, Unmeasurable, criterion, thresholds
from plausible.audit.descent import by_gradient, by_steps
from plausible.audit.finding import Finding, Verdict
from plausible.audit.recording import recorded
from plausible.audit.subject import Specimen, Subject
from plausible.audit.timeline import owner

NAME = "credit"
EXAMPLES = 256
FEWEST = 128  # of 64, hidden features drawn at random are as good as learned ones
FOLDS = 4
BATCH = 16
# Sizes of a first step, relative to the weights: of the output layer, and of the hidden ones. The two are searched
# apart, because the control's output layer may take larger steps than one whose inputs change: first the control's,
# then the learner's, with an output layer that is as fast, or slower.
OUTPUT = (0.03, 0.1, 0.3, 1.0)
HIDDEN = (0.002, 0.008, 0.032, 0.128)
SLOWER = (0.3, 1.0)
ALIKE = 0.002  # few examples are soon learned at many rates, of which the slowest spoils the least


@criterion(NAME, order=11)
def credit(subject: Subject, batch: Batch) -> Finding:
    """Train with and without hidden learning, and take the angle of the updates to the gradient."""
    limits = thresholds(NAME)
    batch = batch.first(EXAMPLES)
    net = _Net(subject, batch)
    if not net.hidden:
        why = "the net has no hidden layer"
        return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")
    unit = "fraction of the frozen control's error"
    if not net.taught:
        why = "No hidden layer is taught, so none gets credit."
        return Finding(criterion=NAME, verdict="violated", sentence=why, value=0.0, unit=unit, thresholds=limits)
    if len(batch.y) < FEWEST:
        raise Unmeasurable(f"{len(batch.y)} examples are too few to learn from and to hold some out: {FEWEST} will do.")
    gains, errors, best = _trials(subject, net, batch)
    if not fmean(errors):
        raise Unmeasurable("With frozen hidden layers it makes no error either: audit the rule on a harder task.")
    gain, spread = fmean(gains) / fmean(errors), stdev(gains) / fmean(errors)
    start, end, how = _angles(subject.copy(), best, net, batch)
    turned = fmean(end.values()) if end else 90.0  # where the loss is flat, no direction is better than another
    aligned = turned < limits["angle"]
    helps = gain > max(limits["gain"], limits["spreads"] * spread)
    verdict: Verdict = "partly"
    if helps and aligned and not net.untaught:
        verdict = "solved"
    elif not helps and not aligned:
        verdict = "violated"
    did = "took {:.0%} (±{:.0%}) off the error" if gain > 0 else "made the error larger by {:.0%} (±{:.0%})"
    missing = f" Not taught: {', '.join(net.untaught)}." if net.untaught else ""
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"In {net.steps} steps, compared with frozen hidden layers, hidden learning "
        f"{did.format(abs(gain), spread)} on held-out examples; hidden updates ended {turned:.0f}° from the gradient, "
        f"{how}.{missing}",
        value=gain,
        unit=unit,
        layers=end,
        samples=FOLDS,
        spread=spread,
        thresholds=limits,
        also={
            "error of the frozen control": fmean(errors),
            **{f"angle at the start, {name}": value for name, value in start.items()},
        },
    )


class _Net:
    """What there is to teach, and with which steps.

    Attributes:
        output: the output layer.
        hidden: the other weight layers, upstream first.
        taught: those of them whose weights get an update.
        untaught: the others.
        step: ‖weight‖ / ‖update‖ at the start, of the output layer and of the hidden ones.
        steps: how many are trained for: fewer for learners that take time over each.
        searched: in how many of the repetitions the rates are searched; the others start from those of the last.
        examples: of how many the angles are taken.
    """

    def __init__(self, subject: Subject, batch: Batch) -> None:
        specimen = subject.copy()
        with recorded(specimen.model) as record:
            updates = specimen.update(batch.x, batch.y)
        *self.hidden, self.output = record.order or [""]
        learning = {owner(key) for key, update in updates.items() if update.dim() > 1 and update.any()}
        self.taught = [name for name in self.hidden if name in learning]
        self.untaught = [name for name in self.hidden if name not in learning]
        weights = dict(specimen.model.named_parameters())
        self.step = (
            self._ratio(weights, {k: u for k, u in updates.items() if owner(k) == self.output}),
            self._ratio(weights, {k: u for k, u in updates.items() if owner(k) in self.taught}),
        )
        passes = len(record.events) / max(len(record.order), 1)
        self.steps = 120 if passes <= 3 else 60 if passes <= 30 else 20
        self.searched = 2 if passes <= 300 else 1
        self.examples = 32 if passes <= 30 else 8

    @staticmethod
    def _ratio(weights: Mapping[str, Tensor], updates: Mapping[str, Tensor]) -> float:
        kept = {key: update for key, update in updates.items() if update.dim() > 1}
        size = sum(float(weights[key].detach().square().sum()) for key in kept) ** 0.5
        step = sum(float(update.square().sum()) for update in kept.values()) ** 0.5
        return size / step if step else 1.0

    def is_hidden(self, parameter: str) -> bool:
        """Whether it is no parameter of the output layer."""
        return owner(parameter) != self.output


@dataclass(frozen=True)
class _Rates:
    """Learning rates: of the output layer, and of the hidden layers as a multiple of it; 0 freezes them."""

    output: float
    hidden: float

    def or_slower(self) -> "list[_Rates]":
        """These and half of them, for what was just stable in one repetition may not be in the next."""
        return [_Rates(self.output / 2, self.hidden), self]


def _angles(first: Specimen, last: Specimen, net: _Net, batch: Batch) -> tuple[dict[str, float], dict[str, float], str]:
    """The angles to the gradient at the start and at the end, by hidden layer, and how they were taken."""
    few = batch.first(net.examples)
    start, end = (by_gradient(specimen, net.taught, few) for specimen in (first, last))
    if end:
        return start, end, f"over {len(few.y)} examples"
    start, end = (by_steps(specimen, net.taught, batch) for specimen in (first, last))
    return start, end, "as small steps along them show"


def _trials(subject: Subject, net: _Net, batch: Batch) -> tuple[list[float], list[float], Specimen]:
    """By repetition, by how much less the learner errs on held-out examples than the control, and the control's error;
    and the last of the trained learners."""
    gains, errors = [], []
    order = torch.randperm(len(batch.y), generator=torch.Generator().manual_seed(0))
    frozen, free = [_Rates(size * net.step[0], 0.0) for size in OUTPUT], []
    learner = subject.copy()
    for fold in range(FOLDS):
        kept = torch.cat([order[other::FOLDS] for other in range(FOLDS) if other != fold])
        seen, unseen = (Batch(batch.x[i], batch.y[i], batch.classes) for i in (kept, order[fold::FOLDS]))
        control, frozen_rate = _best(subject, net, seen, frozen, fold)
        if fold < net.searched:
            outputs = [slower * frozen_rate.output for slower in SLOWER]
            free = [_Rates(output, size * net.step[1] / output) for size, output in product(HIDDEN, outputs)]
        learner, free_rate = _best(subject, net, seen, free, fold)
        errors.append(_error(control, unseen))
        gains.append(errors[-1] - _error(learner, unseen))
        if fold + 1 >= net.searched:
            frozen, free = frozen_rate.or_slower(), free_rate.or_slower()
    return gains, errors, learner


def _best(subject: Subject, net: _Net, batch: Batch, rates: list[_Rates], seed: int) -> tuple[Specimen, _Rates]:
    """The copy that errs least on what it was trained on, and its rates; of such as err alike, the first."""
    trained = [(_train(subject, net, batch, each, seed), each) for each in rates]
    errors = [_error(specimen, batch) for specimen, _ in trained]
    return next(pair for pair, error in zip(trained, errors, strict=True) if error <= min(errors) + ALIKE)


def _train(subject: Subject, net: _Net, batch: Batch, rates: _Rates, seed: int) -> Specimen:
    specimen = subject.copy()
    optimizer = specimen.optimizer(rates.output)
    hidden = [p for name, p in specimen.model.named_parameters() if net.is_hidden(name)]
    initial = [p.detach().clone() for p in hidden]
    for _, chosen in zip(range(net.steps), _minibatches(len(batch.y), seed), strict=False):
        specimen.reset()
        specimen.clear()
        specimen.learn(batch.x[chosen], batch.y[chosen])
        for p in hidden:
            if p.grad is not None:
                p.grad *= rates.hidden
        optimizer.step()
        if not rates.hidden:
            with torch.no_grad():  # put back, as decay, momentum and foreign code move what has no gradient too
                for p, value in zip(hidden, initial, strict=True):
                    p.copy_(value)
    return specimen


def _minibatches(n: int, seed: int) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    while True:
        whole = [part for part in torch.randperm(n, generator=draw).split(BATCH) if len(part) == BATCH]
        yield from whole


def _error(specimen: Specimen, batch: Batch) -> float:
    """The mean squared error of the probabilities (Brier's score), at the best scale of the outputs: whatever the
    learner's own loss is, it may answer with logits, probabilities or activities."""
    modes = {module: module.training for module in specimen.model.modules()}
    specimen.model.eval()
    specimen.reset()
    z = specimen.respond(batch.x).double()
    specimen.reset()
    for module, mode in modes.items():
        module.training = mode
    if not z.isfinite().all():
        return 2.0  # the worst that there is
    truth = F.one_hot(batch.y, z.shape[1])
    scales = torch.logspace(-1, 1.5, 16, dtype=z.dtype, device=z.device)
    return min(float((torch.softmax(k * z, 1) - truth).square().sum(1).mean()) for k in scales)
