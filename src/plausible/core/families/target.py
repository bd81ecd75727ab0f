"""Rules that give every layer a target of its own, which inverse nets carry down from the output.

The model is a chain of blocks, h_l = f_l(h_{l−1}), cut between any two of them. A block learns to bring its activity
nearer to its target, by a gradient that stays within the block; an inverse net g_l, from h_l back to h_{l−1}, learns
from noise to undo f_l. A rule says how the first target comes about; the difference correction carries it on.
"""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from plausible.core.attach import attach, evaluating, layer_type, refuse_if_bound, trainable_layers
from plausible.core.chain import Block, chain
from plausible.core.errors import ConfigurationError
from plausible.core.inverse import Inverse
from plausible.core.learner import Learner, differentiable
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher, require, tunable
from plausible.functional.random import generator


class Top(NamedTuple):
    """What the first target is made of.

    Attributes:
        h: (N, …), the activity of the last hidden layer; ``output`` hangs on it by its graph.
        output: (N, …), the model's.
        error: (N, …), ∂L_n/∂output of each example's own loss L_n, as it came through its wire.
        y: what teaches; to be read through a wire alone.
    """

    h: Tensor
    output: Tensor
    error: Tensor
    y: Teacher


@dataclass(frozen=True, kw_only=True)
class TargetRule(Rule):
    """A rule that teaches every block by a target for its activity.

    Attributes:
        noise: σ, standard deviation of the noise that is put on an activity to train the inverse net.
        inverse_lr: learning rate of the inverse nets, which the user's optimiser steps in a group of their own,
            without weight decay; the schedule is the model's.
        alternate: 0 trains blocks and inverse nets in every call of ``learn``; k > 0 trains the inverse nets alone for
            k calls, then the blocks alone for k, and so on.
    """

    noise: float = tunable(0.3, 0.01, 1.0, log=True)
    inverse_lr: float = tunable(1e-3, 1e-5, 1e-1, log=True)
    alternate: int = 0

    inverts_output: ClassVar[bool]
    """Whether the output layer has an inverse net too."""

    denoises: ClassVar[bool]
    """Whether an inverse net is to give back the activity without the noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.noise >= 0, self, "noise", "a standard deviation cannot be negative")
        require(self.inverse_lr > 0, self, "inverse_lr", "the inverse nets have to learn")
        require(self.alternate >= 0, self, "alternate", "it is a number of calls, or 0 for both at once")

    @abc.abstractmethod
    def top(self, learner: "TargetLearner", top: Top) -> Tensor:
        """The target of the last hidden layer, in the shape of ``top.h``."""

    def target(self, t: Tensor, above: Tensor, h: Tensor, inverse: nn.Module) -> Tensor:
        """The target of an activity ``h``, given the target ``t`` of the activity ``above`` it.

        The difference correction makes ``h`` its own target where ``above`` is its own, however bad the inverse net.
        """
        return h + inverse(t) - inverse(above)

    def read(self, output: Tensor) -> Tensor:
        """The activity that the inverse net of the output layer reads."""
        return output

    @property
    def needs_optimizer(self) -> bool:
        """The inverse nets are stepped by the optimiser that steps the model."""
        return True

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "TargetLearner":
        """Bind to ``model`` in place.

        Raises:
            CoverageError: the model is no chain of layers, or an inverse net would be too large.
            ConfigurationError: no example, to whose activities the inverse nets are shaped.
        """
        refuse_if_bound(model)
        blocks = chain(model, self)
        if not isinstance(example, Tensor):
            raise ConfigurationError(
                f"{self.name}: its inverse nets are shaped like the activity of the model's layers. "
                "Pass one batch of inputs, a tensor, as plausible.bind(..., example=x)."
            )
        return TargetLearner(model, self, loss, blocks, example)


class TargetLearner(Learner):
    """Blocks with targets, and the inverse nets that carry these down.

    Attributes:
        blocks: of the model, first to last.
        feedback: the inverse nets, by the names of the layers they undo, with slashes for dots.
    """

    rule: TargetRule

    def __init__(self, model: nn.Module, rule: TargetRule, loss: Loss, blocks: tuple[Block, ...], example: Tensor):
        super().__init__(model, rule, loss)
        self.blocks = blocks
        self.feedback = nn.ModuleDict()
        activities = self._measure(example)
        activities[-1] = rule.read(activities[-1])
        inverted = blocks if rule.inverts_output else blocks[:-1]
        for (below, block), (target, h) in zip(pairwise(inverted), pairwise(activities), strict=False):
            inverse = self.feedback[_key(block)] = Inverse(rule, block, below, h, target)
            attach(block.layer, inverse)

    def _measure(self, example: Tensor) -> list[Tensor]:
        activities = [example[:1]]
        with evaluating(self.model), torch.no_grad():
            for block in self.blocks:
                activities.append(block(activities[-1]))
        return activities[1:]

    def inverse(self, block: Block) -> nn.Module:
        """g of ``block``."""
        return self.feedback[_key(block)]

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        if not isinstance(x, Tensor):
            raise ConfigurationError(f"{self.rule.name}: a chain of layers takes one tensor, not a {type(x).__name__}.")
        last = self.blocks[-1]
        entered, answers = [], [x]
        for block in self.blocks:
            # Cut between any two blocks; only the last hidden activity may ask what the output makes of it.
            entered.append(answers[-1].detach().requires_grad_(block is last and len(self.blocks) > 1))
            answers.append(block(entered[-1]))
        hidden, output = answers[1:-1], differentiable(self.rule, answers[-1])
        loss = self.loss(output, y)
        (error,) = torch.autograd.grad(loss, output)
        error = self.wire("error", error, "teacher", "output")
        period = self.rule.alternate
        inverting = period > 0 and self.context.iteration // period % 2 == 0
        if not inverting:
            # The loss is a mean over examples, and targets are each example's own.
            targets = self._targets(hidden, Top(entered[-1], output, error * len(output), y))
            # Of ‖h − t‖², summed over units, mean over examples; layers that the user has frozen have no graph.
            local = [(h, (h.detach() - t) * (2 / len(h))) for h, t in zip(hidden, targets, strict=True)]
            ends, signals = zip(*[(h, s) for h, s in local if h.requires_grad], (output, error), strict=True)
            torch.autograd.backward(ends, signals)
        if inverting or not period:
            self._train_inverses(entered)
        return Outcome(loss.detach(), output.detach())

    def _targets(self, hidden: list[Tensor], top: Top) -> list[Tensor]:
        """The targets of the hidden layers, first to last, each as its wire delivered it."""
        targets: list[Tensor] = []
        source, above = "output", top.output
        for block, upper, h in reversed([*zip(self.blocks, self.blocks[1:], hidden, strict=False)]):
            if not targets:
                t = self.rule.top(self, top).detach()
            else:
                with torch.no_grad():
                    t = self.rule.target(targets[-1], above, h, self.inverse(upper))
            targets.append(self.wire(f"{block.name}.target", t, source, block.name))
            source, above = block.name, h
        return targets[::-1]

    def _train_inverses(self, entered: list[Tensor]) -> None:
        losses: list[Tensor] = []
        with _held(self.model):
            for block, h in zip(self.blocks, entered, strict=True):
                if _key(block) not in self.feedback:
                    continue
                h = h.detach()
                draw = generator(self.rule.seed, block.name, "noise", self.context.iteration, device=h.device)
                noise = self.context.ranks.rows(len(h), partial(_noise, h, draw))
                noisy = h + self.rule.noise * noise
                with torch.no_grad():
                    up = block(noisy)
                    up = self.rule.read(up) if block is self.blocks[-1] else up
                missed = self.inverse(block)(up) - (h if self.rule.denoises else noisy)
                losses.append(missed.square().sum() / len(h))
        if losses:
            torch.stack(losses).sum().backward()

    def param_groups(self) -> list[dict[str, Any]]:
        """The inverse nets, with their own learning rate and no decay."""
        inverses = list(self.feedback.parameters())
        return [{"params": inverses, "lr": self.rule.inverse_lr, "weight_decay": 0.0}] if inverses else []

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W, Vᵀ) of the linear layers that have an inverse net."""
        pairs = {
            b.name: (b.layer.get_parameter("weight"), self.inverse(b)) for b in self.blocks if _key(b) in self.feedback
        }
        turned = {name: (W.detach(), g.get_parameter("V").detach().t()) for name, (W, g) in pairs.items()}
        return {name: (W, B) for name, (W, B) in turned.items() if W.shape == B.shape}

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        trainable = list(trainable_layers(self.model))
        return {
            "covered": [name for name, module in trainable if layer_type(module)],
            "exact": [name for name, module in trainable if not layer_type(module)],
            "backprop": [],
            "note": "Within a block the gradient of its distance to its target is exact; in the last, of the loss.",
        }


def _noise(like: Tensor, draw: torch.Generator, n: int) -> Tensor:
    return torch.randn(n, *like.shape[1:], generator=draw, device=like.device, dtype=torch.float32).to(like)


@contextmanager
def _held(model: nn.Module) -> Iterator[None]:
    """Running averages within the model are afterwards as before: a pass with noise is no look at the data."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def _key(block: Block) -> str:
    # A module's key may not contain a dot.
    return block.name.replace(".", "/")
