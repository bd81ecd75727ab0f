"""Node perturbation (NP): every cell trembles, and what it did before an unexpected reward it will do more of.

Equation:
    a_l = W_l h_{l−1} + b_l + ξ_l,    ξ_l ~ N(0, σ²),    action = argmax_k a_L,k
    ∂W_l = −(R − R̄) ξ_l h_{l−1}ᵀ / σ²                    (Fiete & Seung 2006; Williams 1992 for Gaussian units)

What travels:
    One number, R − R̄, to every cell (N,). The world is told the action and answers with the reward R (N,); it does not
    say which action would have been right. No error, no weight and no derivative goes from layer to layer.

Departures:
    Static nets in the place of spiking ones, so that a step is one presentation. The update is the unbiased estimate of
    the gradient of the expected reward for any σ, not only a small one. The expected reward R̄ is one number, learned by
    the user's optimiser with a learning rate of its own; it depends on no trial's own noise. The pass without noise is
    made for the reported output alone, and teaches nothing. Normalisation layers keep their initial scale and shift.

Reference: fiete2006

@article{fiete2006,
  author  = {Fiete, Ila R. and Seung, H. Sebastian},
  title   = {Gradient learning in spiking neural networks by dynamic perturbation of conductances},
  journal = {Physical Review Letters},
  volume  = {97},
  pages   = {048104},
  year    = {2006}
}
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from plausible.core.attach import attach, device_of, plain_forward, refuse_if_bound
from plausible.core.context import Context
from plausible.core.coverage import Coverage, check_reached, survey
from plausible.core.errors import ConfigurationError
from plausible.core.learner import Learner, differentiable
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, Outcome, Rule, Teacher, held, require, tunable
from plausible.core.world import Quiz
from plausible.functional.random import generator, random_state, replayed


@register
@dataclass(frozen=True, kw_only=True)
class NodePerturbation(Rule):
    """Noise in every layer's response, correlated with the reward that follows.

    Attributes:
        sigma: standard deviation of the noise, in the unit of the responses.
        baseline_lr: learning rate of the expected reward.
    """

    name = "node-perturbation"
    claims = Claims(
        reads="reward",
        forward_weights="none",
        derivatives_travel=False,
        phases=2,  # it acts, then it is rewarded, and what it did must be held until then
        online=False,
        additive=False,  # in the mean it is; what was drawn for an example is another number in another batch
        paper="fiete2006",
        feedback="scalar",
        told="reward",
    )
    literature = held("Y Y Y N N Y ? – N")

    sigma: float = tunable(1.0, 0.1, 3.0, log=True)
    baseline_lr: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sigma > 0, self, "sigma", "without noise there is nothing to learn from")
        require(self.baseline_lr > 0, self, "baseline_lr", "a learning rate is positive")

    @property
    def needs_optimizer(self) -> bool:
        """The expected reward is learned by the optimiser."""
        return True

    def teacher(self, y: Tensor) -> Teacher:
        """A world that rewards the label, and does not give it away."""
        return Quiz(y)

    @property
    def divisible(self) -> bool:
        """Each example has its own noise and reward, on whichever rank it is."""
        return True

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "NodePerturbationLearner":
        """Bind to ``model`` in place. An example is not needed.

        Raises:
            CoverageError: a trainable module that the rule cannot teach.
        """
        refuse_if_bound(model)
        return NodePerturbationLearner(model, self, loss, survey(model, self, "error"))


class Critic(nn.Module):
    """Knows what reward to expect.

    Attributes:
        expected: R̄, a scalar.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.expected = nn.Parameter(like.new_zeros(()))


class Tremor(nn.Module):
    """The noise of one layer.

    Attributes:
        critic: shared by all layers, and moved to other devices and types with any of them.
        called: whether a forward pass has come by yet.
        draw: where the noise of this pass comes from; None in a pass without.
        seen: (response before the noise, noise) of each call in this pass.
    """

    def __init__(self, rule: NodePerturbation, name: str, context: Context, critic: Critic) -> None:
        super().__init__()
        self.rule, self.name, self.context, self.critic = rule, name, context, critic
        self.called = False
        self.draw: torch.Generator | None = None
        self.seen: list[tuple[Tensor, Tensor]] = []

    def begin(self, device: torch.device) -> None:
        """Tremble from now on, in this iteration's way."""
        self.draw = generator(self.rule.seed, self.name, self.context.iteration, device=device)
        self.seen = []

    def end(self) -> None:
        """Keep still again."""
        self.draw = None

    def take(self) -> list[tuple[Tensor, Tensor]]:
        """What has been seen since :meth:`begin`, which is then forgotten."""
        seen, self.seen = self.seen, []
        return seen

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's response, with noise if it trembles; no error goes further up then."""
        self.called = True
        if self.draw is None:
            return plain_forward(layer, x)
        with torch.enable_grad():
            response = plain_forward(layer, x.detach())
        noise = self.context.ranks.rows(
            len(response),
            lambda n: response.new_empty(n, *response.shape[1:]).normal_(0, self.rule.sigma, generator=self.draw),
        )
        self.seen.append((response, noise))
        return response.detach() + noise


class NodePerturbationLearner(Learner):
    """A pass that trembles, an action, a reward; then each layer's own gradient against its own noise."""

    def __init__(self, model: nn.Module, rule: NodePerturbation, loss: Loss, coverage: Coverage) -> None:
        super().__init__(model, rule, loss)
        self.coverage = coverage
        self.sigma, self.baseline_lr = rule.sigma, rule.baseline_lr
        self.feedback = Critic(next(iter(coverage.layers.values())).get_parameter("weight"))
        self.tremors = [Tremor(rule, name, self.context, self.feedback) for name in coverage.layers]
        for layer, tremor in zip(coverage.layers.values(), self.tremors, strict=True):
            attach(layer, tremor)

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        if not callable(y):
            raise ConfigurationError(
                f"{self.rule.name} is taught by a world, which maps actions (N,) to rewards (N,), and got a "
                f"{type(y).__name__}. For labels that is learner.rule.teacher(y)."
            )
        random = random_state(device_of(self.model))
        with torch.no_grad():
            output = differentiable(self.rule, self(x))
            action = self._trembling(x, random).argmax(-1)
        if output.dim() != 2:
            raise ConfigurationError(
                f"{self.rule.name}: the action is the largest of the outputs (N, actions); here they are "
                f"{tuple(output.shape)}."
            )
        reward = y(action)
        if reward.shape != action.shape:
            raise ConfigurationError(
                f"{self.rule.name}: the world answered {tuple(action.shape)} actions with rewards "
                f"{tuple(reward.shape)}; each action has one."
            )
        loss = 1 - reward.to(output).mean()
        reward = self.wire("reward", reward.to(output), "teacher", "output")
        expected = self.feedback.expected
        surprise = (reward - expected.detach()) / len(reward)
        wrong = -surprise.sum()
        expected.grad = wrong if expected.grad is None else expected.grad.add_(wrong)
        self._teach(surprise)
        if self.context.iteration == 0:
            check_reached(self.coverage, self.rule)
        return Outcome(loss, output)

    def _trembling(self, x: Inputs, random: list[Tensor]) -> Tensor:
        """The same forward pass again, with noise; the model's buffers stay as the first pass left them."""
        device = device_of(self.model)
        buffers = {f"model.{name}": buffer.clone() for name, buffer in self.model.named_buffers()}
        for tremor in self.tremors:
            tremor.begin(device)
        try:
            with replayed(device, random):
                return functional_call(self, buffers, (x,))
        finally:
            for tremor in self.tremors:
                tremor.end()

    def _teach(self, surprise: Tensor) -> None:
        responses, errors = [], []
        for tremor in self.tremors:
            signal = self.wire(f"{tremor.name}.surprise", surprise, "output", tremor.name)
            for response, noise in tremor.take():
                if response.requires_grad:
                    responses.append(response)
                    errors.append(noise * (-signal / self.sigma**2).view(-1, *[1] * (noise.dim() - 1)))
        torch.autograd.backward(responses, errors)

    def param_groups(self) -> list[dict[str, Any]]:
        """The expected reward, with its own learning rate; it does not decay."""
        return [{"params": [self.feedback.expected], "lr": self.baseline_lr, "weight_decay": 0.0}]

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        note = "Normalisation layers keep their initial scale and shift." if self.coverage.exact else ""
        return {**super().report(), "covered": list(self.coverage.layers), "note": note}
