"""The convention: ``learner.learn(x, y)`` adds a descent direction to each taught ``p.grad``."""

from collections.abc import Sequence

import torch.distributed as dist
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
    "distribute",
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
        ConfigurationError: rule or lazy module need an example, or rule or constraint an optimiser, and got none; or
            the optimiser is a wrapper that cannot be hooked.
    """
    rule = registry.make(rule) if isinstance(rule, str) else rule
    entries = [registry.constraints.make(each) if isinstance(each, str) else each for each in constraints]
    for each in (rule, *entries):
        if each.needs_optimizer and optimizer is None:
            raise ConfigurationError(
                f"{each.name}, as configured, acts around each optimiser step: build the optimiser on "
                "model.parameters() first, and pass it as plausible.bind(..., optimizer=optimizer)."
            )
    if optimizer is not None:
        _require_hooks(optimizer)
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


def _require_hooks(optimizer: Optimizer) -> None:
    try:
        optimizer.register_step_pre_hook(lambda *_: None).remove()
    except AttributeError as error:
        raise ConfigurationError(
            f"This {type(optimizer).__name__} cannot call anybody around its step ({error}): it seems to stand around "
            "another optimiser, as Accelerate's does. Pass that one, such as optimizer.optimizer."
        ) from error


def distribute(learner: Learner, group: dist.ProcessGroup | None = None, *, overlap: bool = True) -> None:
    """Let the copies of a learner on the ranks of ``torch.distributed`` learn as one.

    From now on :meth:`Learner.learn` gets a rank's own rows of a batch, as many on each rank, and leaves on all ranks
    the same gradients: their mean, as ``DistributedDataParallel`` does. Weights, feedback and running averages are made
    those of the first rank. What a rule draws for each example, it draws for the whole batch.

    Args:
        learner: bound to the same model by the same rule on every rank; the model is not to be wrapped.
        group: of ranks; None for all.
        overlap: send gradients while the backward pass goes on, by ``DistributedDataParallel``, where learning is one
            backward pass and the first call has shown that it reaches all parameters. Otherwise they are sent after it.

    Raises:
        ConfigurationError: ``torch.distributed`` has not been started, or the rule's update for a batch is not the mean
            of updates for its parts.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise ConfigurationError(
            "There is nobody to share batches with: start the program by torchrun, and call "
            "torch.distributed.init_process_group() before plausible.distribute(learner)."
        )
    if not learner.rule.divisible:
        raise ConfigurationError(
            f"{learner.rule.name}, as configured, does not learn from a batch what it learns from its parts, so it "
            "cannot be spread over ranks. Train it in one process."
        )
    assert dist.group.WORLD is not None
    learner.distribute(group or dist.group.WORLD, overlap=overlap)


def release(learner: Learner) -> nn.Module:
    """Take the rule off the model again and return the plain model, with what it has learned."""
    return learner.release()
