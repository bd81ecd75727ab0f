"""The convention: ``learner.learn(x, y)`` adds a descent direction to each taught ``p.grad``."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from plausible.core import registry
from plausible.core.constraint import Constraint, Constraints, feedback_weights, programmed
from plausible.core.coverage import materialise
from plausible.core.errors import ConfigurationError
from plausible.core.learner import Learner
from plausible.core.rule import Claims, Inputs, Loss, Outcome, Rule, Teacher, Tunable

__all__ = [
    "Claims",
    "Constraint",
    "Inputs",
    "Learner",
    "Loss",
    "Outcome",
    "Rule",
    "Teacher",
    "Tunable",
    "bind",
    "registry",
    "release",
]


def bind(
    model: nn.Module,
    rule: str | Rule,
    loss: Loss,
    *,
    example: Inputs | None = None,
    optimizer: Optimizer | None = None,
    constraints: Sequence[str | Constraint] = (),
) -> Learner:
    """Bind a learning rule to a model, in place.

    The model stays the same object with the same Parameters and the same ``state_dict`` keys; an optimiser
    built before stays valid. Feedback weights lie in ``learner.state_dict()`` alone.

    Args:
        model: any module; every trainable layer must be one the rule can teach.
        rule: a name that ``plausible rules`` lists, or a :class:`Rule` with options of your own.
        loss: maps (output, teacher) to a scalar.
        example: one batch of inputs, for rules whose feedback is shaped like the activity of the layers, and for models
            that use weights outside of layers.
        optimizer: calls the learner around each step, for rules that change feedback weights or updates there, and
            for constraints.
        constraints: what the medium does to the weights, in order: names, or :class:`Constraint` with options of your
            own. Weights are stored under them from the start.

    Returns:
        The learner. ``learner.learn(x, y)`` stands where ``loss(model(x), y).backward()`` stood.

    Raises:
        UnknownName: no such rule or constraint.
        CoverageError: a trainable layer that the rule cannot teach.
        ConfigurationError: rule or lazy module need an example, or rule or constraint an optimiser, and got none.
    """
    rule = registry.make(rule) if isinstance(rule, str) else rule
    entries = [registry.constraints.make(each) if isinstance(each, str) else each for each in constraints]
    for each in (rule, *entries):
        if each.needs_optimizer and optimizer is None:
            raise ConfigurationError(
                f"{each.name}, as configured, acts around each optimiser step: build the optimiser on "
                "model.parameters() first, and pass it as plausible.bind(..., optimizer=optimizer)."
            )
    materialise(model, example)
    # What the rule takes of the weights at binding (their signs, their responses), it takes of those that are stored.
    with programmed(model, Constraints(entries)) as bound:
        learner = rule.bind(model, loss, example)
        learner.constraints = bound
        try:
            bound.program(feedback_weights(learner))
        except ConfigurationError:
            learner.release()
            raise
    if optimizer is not None:
        learner.hook(optimizer)
    return learner


def release(learner: Learner) -> nn.Module:
    """Take the rule off the model again and return the plain model, with what it has learned."""
    return learner.release()
