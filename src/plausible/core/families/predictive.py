"""Predictive coding, one machinery with several schedules: values between predictions from below and errors from above.

For value nodes x_l, predictions μ_l = block_l(x_{l−1}) and errors ε_l = x_l − μ_l,

    x_l ← x_l + γ (−ε_l + J_{l+1}ᵀ ε_{l+1}),    ∂θ_l = −(∂μ_l/∂θ_l)ᵀ ε_l,    ε_L = −∂loss/∂μ_L

which for the squared error ½‖y − μ_L‖² is ε_L = y − μ_L: a value node clamped to y. The loss must be a mean over the
batch: the energies are the examples' own, whatever the size of their batch, and the updates are averaged.
"""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from plausible.core.attach import refuse_if_bound
from plausible.core.chain import chain
from plausible.core.errors import CoverageError
from plausible.core.families.energy import EnergyLearner, EnergyRule
from plausible.core.learner import differentiable
from plausible.core.rule import Inputs, Loss, Outcome, Teacher


@dataclass(frozen=True, kw_only=True)
class PredictiveRule(EnergyRule):
    """A rule with value nodes, their predictions, and errors between the two."""

    repeats: ClassVar[bool] = True
    """Whether the blocks predict anew at each step of the relaxation."""

    @abc.abstractmethod
    def pace(self, depth: int) -> tuple[int, float]:
        """(number of relaxation steps, rate γ) for a chain of ``depth`` blocks."""

    def predict(self, learner: "PredictiveLearner", values: list[Tensor], forward: "Sweep") -> "Sweep":
        """The predictions that follow from the values; ``forward`` is the sweep before the relaxation."""
        return learner.sweep(values, forward.predictions[0])

    def due(self, layer: int, step: int, depth: int, steps: int) -> bool:
        """Whether block ``layer`` (0 is the first) learns after ``step`` relaxation steps: after all, as a rule."""
        return step == steps

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "PredictiveLearner":
        """Bind to a chain, in place. An example is not needed.

        Raises:
            CoverageError: the model is no chain, or a module answers by chance, or cannot be taught.
        """
        refuse_if_bound(model)
        for block in chain(model, self):
            for module in (*block.before, *block.after):
                if self.repeats and isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
                    raise CoverageError(
                        f"{self.name}: the block of {block.name!r} has a {type(module).__name__}, which would drop "
                        "other units at every step of the relaxation. Set its p to 0, or leave it out."
                    )
        return PredictiveLearner(model, self, loss)


class Sweep(NamedTuple):
    """The predictions of all blocks.

    Attributes:
        values: what the second block and all later ones predicted from; leaves of the graph.
        predictions: μ_1 … μ_L, with their graphs.
    """

    values: list[Tensor]
    predictions: list[Tensor]


class PredictiveLearner(EnergyLearner):
    """Relaxes the value nodes from a forward pass, and teaches every block to predict better.

    Without a teacher all errors vanish after the forward pass, which is hence the model's inference.
    """

    rule: PredictiveRule

    def sweep(self, values: list[Tensor], first: Tensor) -> Sweep:
        """Predict each block's value from the one before; the first prediction is held, as its input is."""
        leaves = [value.detach().requires_grad_() for value in values]
        later = [block(leaf) for block, leaf in zip(self.blocks()[1:], leaves, strict=True)]
        return Sweep(leaves, [first, *later])

    def forward_sweep(self, x: Tensor) -> Sweep:
        """Set each value to its prediction, one block after the other."""
        first, *rest = self.blocks()
        values, predictions = [], [first(x)]
        for block in rest:
            values.append(predictions[-1].detach().requires_grad_())
            predictions.append(block(values[-1]))
        return Sweep(values, predictions)

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        names = [block.name for block in self.blocks()]
        depth, now = len(names), self.forward_sweep(self.tensor(x))
        output = differentiable(self.rule, now.predictions[-1]).detach()
        forward, values = now, [value.detach() for value in now.values]
        steps, rate = self.rule.pace(depth)
        with held(self.model):
            for step in range(steps + 1):
                if step:
                    now = self.rule.predict(self, values, forward)
                errors = [v - p.detach() for v, p in zip(values, now.predictions, strict=False)]
                errors.append(self._teaching_error(now.predictions[-1], y))
                due = [k for k in range(depth) if self.rule.due(k, step, depth, steps)]
                self.teach([now.predictions[k] for k in due], [errors[k] / -len(output) for k in due])
                if step < steps and depth > 1:
                    messages = torch.autograd.grad(now.predictions[1:], now.values, errors[1:], retain_graph=True)
                    for k, message in enumerate(messages):
                        message = self.wire(f"{names[k + 1]}.feedback", message, names[k + 1], names[k])
                        values[k] = values[k] + rate * (message - errors[k])
        with torch.no_grad():
            return Outcome(self.loss(output, y).detach(), output)

    def _teaching_error(self, prediction: Tensor, y: Teacher) -> Tensor:
        """ε_L of each example: the loss is a mean over them."""
        prediction = prediction.detach().requires_grad_()
        (error,) = torch.autograd.grad(self.loss(prediction, y), prediction)
        return self.wire("error", error, "teacher", "output") * -len(prediction)


@contextmanager
def held(model: nn.Module) -> Iterator[None]:
    """Within, the model may be called again and again on one batch: afterwards its buffers (running statistics) are
    as they were."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
