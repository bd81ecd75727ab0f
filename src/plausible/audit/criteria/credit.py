"""The hidden layers' updates carry no credit: they do not know in which direction the loss falls.

Copies train for a short while on the batch. Beside the learner itself stands a control whose hidden layers are put
back after each step, so that only its output layer learns. Both have optimiser and rate searched alike, and are
compared on examples held out; in each repetition others are. At the start and at the end of training, the angle between
the updates and the true gradient is taken: example by example, or, where there is none to be had, from small steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from statistics import fmean, stdev

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from plausible.audit.criterion import Batch, Unmeasurable, criterion, thresholds
from plausible.audit.descent import REPEATS, by_gradient, by_steps
from plausible.audit.finding import Finding, Verdict
from plausible.audit.recording import recorded
from plausible.audit.subject import Specimen, Subject
from plausible.audit.timeline import owner
from plausible.core.attach import evaluating

NAME = "credit"
EXAMPLES = 512
FEWEST = 128  # of 64, hidden features drawn at random are as good as learned ones
FOLDS = 4
BATCH = 32
# One rate for all layers, as in anybody's training: parameters of a rule's own, such as interneurons, may have to keep
# step with those of the model. Of plain descent it is the size of the first step, relative to the weights.
RATES: Mapping[type[Optimizer], tuple[float, ...]] = {
    torch.optim.SGD: (0.03, 0.1, 0.3),
    torch.optim.AdamW: (0.001, 0.003, 0.01, 0.03, 0.1),
}
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
    gains, errors, best, unseen = _trials(subject, net, batch)
    if not fmean(errors):
        raise Unmeasurable("With frozen hidden layers it makes no error either: audit the rule on a harder task.")
    gain, spread = fmean(gains) / fmean(errors), stdev(gains) / fmean(errors)
    start, end, sure, how = _angles(subject.copy(), best, net, unseen)
    turned = fmean(end.values()) if end else 90.0  # where the loss is flat, no direction is better than another
    aligned = turned < limits["angle"] or sure > limits["sure"]
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
            **({"standard errors of a random update's cosine": sure} if sure else {}),
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
        step: ‖weights‖ / ‖updates‖ at the start, of the output layer and of all.
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
            self._ratio(weights, updates),
        )
        passes = len(record.events) / max(len(record.order), 1)
        self.steps = 160 if passes <= 3 else 80 if passes <= 30 else 120
        self.searched = 2 if passes <= 3 else 1
        self.examples = 32 if passes <= 30 else 8

    @staticmethod
    def _ratio(weights: Mapping[str, Tensor], updates: Mapping[str, Tensor]) -> float:
        kept = {key: update for key, update in updates.items() if update.dim() > 1}
        size = sum(float(weights[key].detach().square().sum()) for key in kept) ** 0.5
        step = sum(float(update.square().sum()) for update in kept.values()) ** 0.5
        return size / step if step else 1.0

    def ways(self, specimen: Specimen, *, frozen: bool) -> "list[_Way]":
        """All that is searched, the slowest first of each optimiser."""
        plain: dict[type[Optimizer], float] = {torch.optim.SGD: self.step[0 if frozen else 1]}
        return [_Way(each, lr * plain.get(each, 1.0), frozen) for each in specimen.optimizers for lr in RATES[each]]

    def is_hidden(self, parameter: str) -> bool:
        """Whether it is no parameter of the output layer."""
        return owner(parameter) != self.output


@dataclass(frozen=True)
class _Way:
    """How to train: by which optimiser, at which rate, and whether the hidden layers are frozen."""

    optimizer: type[Optimizer]
    lr: float
    frozen: bool

    def or_slower(self) -> "list[_Way]":
        """It and half its rate, for what was just stable in one repetition may not be in the next."""
        return [replace(self, lr=self.lr / 2), self]


def _angles(
    first: Specimen, last: Specimen, net: _Net, batch: Batch
) -> tuple[dict[str, float], dict[str, float], float, str]:
    """The angles to the gradient at the start and at the end, by hidden layer; where updates are random, how many
    standard errors their mean's cosine lies above 0; and how all that was taken."""
    few = batch.first(net.examples)
    (start, before), (end, after) = (by_gradient(specimen, net.taught, few) for specimen in (first, last))
    sure = max(before, after) if max(before, after) < inf else 0.0
    if end and sure:
        return start, end, sure, f"and the mean of {REPEATS} random ones lay {sure:.1f} standard errors on its side"
    if end:
        return start, end, sure, f"over {len(few.y)} examples"
    start, end = (by_steps(specimen, net.taught, batch) for specimen in (first, last))
    return start, end, sure, "as small steps along them show"


def _trials(subject: Subject, net: _Net, batch: Batch) -> tuple[list[float], list[float], Specimen, Batch]:
    """By repetition, by how much less the learner errs on held-out examples than the control, and the control's error;
    the last of the trained learners, and what it has not seen: there the loss is not yet flat."""
    gains, errors = [], []
    order = torch.randperm(len(batch.y), generator=torch.Generator().manual_seed(0))
    learner, unseen = subject.copy(), batch
    every = [net.ways(learner, frozen=frozen) for frozen in (True, False)]
    ways = every
    for fold in range(FOLDS):
        kept = torch.cat([order[other::FOLDS] for other in range(FOLDS) if other != fold])
        seen, unseen = (Batch(batch.x[i], batch.y[i], batch.classes) for i in (kept, order[fold::FOLDS]))
        (control, control_way), (learner, way) = (_best(subject, net, seen, each, fold) for each in ways)
        errors.append(_error(control, unseen))
        gains.append(errors[-1] - _error(learner, unseen))
        ways = every if fold + 1 < net.searched else [control_way.or_slower(), way.or_slower()]
    return gains, errors, learner, unseen


def _best(subject: Subject, net: _Net, batch: Batch, ways: list[_Way], seed: int) -> tuple[Specimen, _Way]:
    """The copy that errs least on what it was trained on, and how it was; of such as err alike, the first."""
    trained = [(_train(subject, net, batch, way, seed), way) for way in ways]
    errors = [_error(specimen, batch) for specimen, _ in trained]
    return next(pair for pair, error in zip(trained, errors, strict=True) if error <= min(errors) + ALIKE)


def _train(subject: Subject, net: _Net, batch: Batch, way: _Way, seed: int) -> Specimen:
    specimen = subject.copy()
    optimizer = specimen.optimizer(way.lr, way.optimizer)
    hidden = [p for name, p in specimen.model.named_parameters() if net.is_hidden(name)]
    initial = [p.detach().clone() for p in hidden]
    for _, chosen in zip(range(net.steps), _minibatches(len(batch.y), seed), strict=False):
        specimen.reset()
        specimen.clear()
        specimen.learn(batch.x[chosen], batch.y[chosen])
        optimizer.step()
        if way.frozen:
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
    with evaluating(specimen.model):
        specimen.reset()
        z = specimen.respond(batch.x).double()
        specimen.reset()
    if not z.isfinite().all():
        return 2.0  # the worst that there is
    truth = F.one_hot(batch.y, z.shape[1])
    scales = torch.logspace(-1, 1.5, 16, dtype=z.dtype, device=z.device)
    return min(float((torch.softmax(k * z, 1) - truth).square().sum(1).mean()) for k in scales)
