"""Equilibrium propagation (EP): activity settles freely, then nudged to the target; Hebbian terms of both contrast.

Equation:
    s_l ← s_l + ε (−s_l + σ(W_l s_{l−1} + b_l + W_{l+1}ᵀ s_{l+1} + [l = L] β (y* − s_L)))
    Φ = Σ_l s_lᵀ (W_l s_{l−1} + b_l),    σ a hard sigmoid        (Scellier & Bengio 2017, eqs. 1–6)
    ΔW ∝ (1/β) (∂Φ/∂W|β − ∂Φ/∂W|0), one-sided        (eq. 10)
    ΔW ∝ (1/2β) (∂Φ/∂W|β − ∂Φ/∂W|−β), symmetric        (Laborieux et al. 2021, eq. 7)

What travels:
    In every phase and at every step the activity s_{l+1} (N, n_{l+1}), a rate between 0 and 1, goes down through
    W_{l+1} (n_{l+1}, n_l) itself, as s_{l−1} goes up. The target y* (N, n_L) nudges the output units in the phases
    that have one.

Departures:
    The dynamics is the leaky, discrete one (Ernoult et al. 2019) with σ = the model's own nonlinearity clipped to
    [0, 1]: with ReLU, or none, the paper's hard sigmoid. Pooling comes before the nonlinearity (Laborieux et al.
    2021). The state starts from a sweep upward instead of where it rested for this example an epoch ago, and the
    number of steps is fixed. The cost is ½‖y* − s_L‖² with y* one-hot, whatever loss the learner reports; the output
    is what the output units receive at the free equilibrium, since at a bound their activity ties.
    ``feedback="random"`` sends activity down through a fixed random B; no energy is left then, and the update is that
    of the vector field (Scellier et al. 2018): ΔW_l ∝ (1/β) (s_l|β − s_l|0) s_{l−1}|0ᵀ.

Reference: scellier2017, laborieux2021

@article{scellier2017,
  author  = {Scellier, Benjamin and Bengio, Yoshua},
  title   = {Equilibrium propagation: Bridging the gap between energy-based models and backpropagation},
  journal = {Frontiers in Computational Neuroscience},
  volume  = {11},
  pages   = {24},
  year    = {2017}
}

@article{laborieux2021,
  author  = {Laborieux, Axel and Ernoult, Maxence and Scellier, Benjamin and Bengio, Yoshua and Grollier, Julie and
             Querlioz, Damien},
  title   = {Scaling equilibrium propagation to deep {ConvNets} by drastically reducing its gradient estimator bias},
  journal = {Frontiers in Neuroscience},
  volume  = {15},
  pages   = {633674},
  year    = {2021}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core.attach import refuse_if_bound
from plausible.core.chain import chain
from plausible.core.errors import ConfigurationError
from plausible.core.families.energy import EnergyLearner, EnergyRule, Population
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, Outcome, Teacher, require, tunable
from plausible.functional.random import generator


@register
@dataclass(frozen=True, kw_only=True)
class EquilibriumPropagation(EnergyRule):
    """The contrast of two equilibria.

    Attributes:
        nudging: "symmetric" contrasts a nudge towards the target with one away from it; "one-sided" contrasts one
            nudge, of a sign drawn anew for each batch, with the free equilibrium.
        beta: strength of the nudge. An output unit driven below −β stays silent even when nudged, and learns no more.
        free_steps: of relaxation without a target.
        nudged_steps: of relaxation with it, from the free equilibrium; at least as many as layers.
        step: ε, the step of the relaxation in units of the neurons' time constant.
    """

    name = "equilibrium-propagation"
    claims = Claims(
        reads="target",
        forward_weights="full",
        derivatives_travel=False,
        phases=3,
        online=False,
        additive=True,
        paper="scellier2017",
        feedback="rates",
        tolerates_delay=True,
    )
    literature: ClassVar[Mapping[str, str]] = {
        "weight transport": "violated",
        "derivative transport": "solved",
        "linear feedback": "solved",
        "spiking": "violated",
        "timing": "violated",
        "target": "violated",
        "weight sharing": "partly",
        "BPTT": "solved",
        "Dale's law": "violated",
    }
    because: ClassVar[Mapping[str, str]] = {
        "timing": "It needs its phases, as the literature says; but the nudged equilibrium lasts, so a target that is "
        "late by a small part of the nudged phase leaves nearly the same contrast.",
        "locality": "A synapse's change is a product of the rates of its two cells. But the synapse through which the "
        "rate of the layer above comes down is that layer's own W, so that perturbing W changes what reaches the cells "
        'below. With feedback="random" the same experiment finds it local.',
    }
    nudging: Literal["one-sided", "symmetric"] = "symmetric"
    beta: float = tunable(1.0, 0.1, 2.0, log=True)
    free_steps: int = 20
    nudged_steps: int = 6
    step: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, self, "beta", "the nudge needs a positive strength; its sign is the rule's own matter")
        for name in ("free_steps", "nudged_steps"):
            require(getattr(self, name) >= 1, self, name, "there must be a step at least")
        require(0 < self.step <= 1, self, "step", "it must lie between 0 and 1")

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "EquilibriumLearner":
        """Bind to a chain, in place. An example is not needed.

        Raises:
            CoverageError: the model is no chain, or a module has no place in the dynamics.
        """
        refuse_if_bound(model)
        for block in chain(model, self):
            Population.check(block, self)
        return EquilibriumLearner(model, self, loss)


class EquilibriumLearner(EnergyLearner):
    """Relaxes with and without a nudge."""

    rule: EquilibriumPropagation

    def forward(self, x: Inputs) -> Tensor:
        """What the output units receive at the free equilibrium: (N, classes)."""
        # The dynamics differentiates, to turn layers round, which it could not under a caller's inference mode.
        with torch.inference_mode(False), torch.no_grad():
            net = self.populations()
            stimulus = net[0].current(self.tensor(x))
            return readout(net, stimulus, self.free(net, stimulus))

    def populations(self) -> list[Population]:
        """One for each block of the model as it is now."""
        return [Population(block) for block in self.blocks()]

    def free(self, net: list[Population], stimulus: Tensor) -> list[Tensor]:
        """The rates at the free equilibrium, one tensor for each population."""
        states = [net[0].rate(stimulus)]
        for population in net[1:]:
            states.append(population.rate(population.current(states[-1])))
        return self.relax(net, stimulus, states, self.rule.free_steps)

    def relax(
        self,
        net: list[Population],
        stimulus: Tensor,
        states: list[Tensor],
        steps: int,
        beta: float = 0.0,
        target: Tensor | None = None,
    ) -> list[Tensor]:
        """The rates after ``steps`` steps of all populations at once.

        Args:
            net: the populations, first to last.
            stimulus: what the first of them receives from the input, which is clamped.
            states: the rates to start from.
            steps: how many.
            beta: strength of the nudge.
            target: (N, n_L); None in a free phase.
        """
        for _ in range(steps):
            received = [stimulus]
            for k, (lower, upper) in enumerate(pairwise(net)):
                message = self.wire(f"{upper.name}.feedback", states[k + 1], upper.name, lower.name)
                with torch.enable_grad():
                    below = states[k].detach().requires_grad_()
                    up = upper.current(below)
                (down,) = torch.autograd.grad(up, below, message)
                received[-1] = received[-1] + down
                received.append(up.detach())
            if target is not None:
                nudge = self.wire("target", target, "teacher", "output") - states[-1]
                received[-1] = received[-1] + beta * nudge
            states = [
                torch.lerp(s, population.rate(u), self.rule.step)
                for s, population, u in zip(states, net, received, strict=True)
            ]
        return states

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        rule, net = self.rule, self.populations()
        stimulus = net[0].current(self.tensor(x))
        with torch.no_grad():
            held = stimulus.detach()
            free = self.free(net, held)
            output = readout(net, held, free)
            target = one_hot(y, output, rule)
            loss = self.loss(output, y)
            if rule.nudging == "symmetric":
                beta, span = rule.beta, 2 * rule.beta
                other = self.relax(net, held, free, rule.nudged_steps, -beta, target)
            else:
                draw = generator(rule.seed, "sign", self.context.iteration)
                beta = span = rule.beta * (2 * int(torch.randint(2, (), generator=draw)) - 1)
                other = free
            nudged = self.relax(net, held, free, rule.nudged_steps, beta, target)
        scale = 1 / (span * len(output))
        moved = [scale * (b - a) for a, b in zip(nudged, other, strict=True)]
        self.teach([stimulus], moved[:1])
        if rule.feedback == "random":  # no energy: each synapse contrasts its own cell alone
            self.teach(currents(net, free), moved[1:])
        else:
            self.teach(currents(net, nudged), [-scale * s for s in nudged[1:]])
            self.teach(currents(net, other), [scale * s for s in other[1:]])
        return Outcome(loss, output)

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        return {**super().report(), "note": "Its inference is its own: the free equilibrium, not the forward pass."}


def currents(net: list[Population], states: list[Tensor]) -> list[Tensor]:
    """What each population but the first receives from the one below."""
    return [population.current(below) for population, below in zip(net[1:], states, strict=False)]


def readout(net: list[Population], stimulus: Tensor, states: list[Tensor]) -> Tensor:
    """What the output units receive from below."""
    return net[-1].current(states[-2]) if len(net) > 1 else stimulus


def one_hot(y: Teacher, like: Tensor, rule: EquilibriumPropagation) -> Tensor:
    """The output units' target: y itself where it has their shape, else one-hot.

    Raises:
        ConfigurationError: y is neither class indices nor a target.
    """
    if isinstance(y, Tensor) and y.shape == like.shape:
        return y.to(like)
    if isinstance(y, Tensor) and y.shape == like.shape[:-1] and not y.is_floating_point():
        return F.one_hot(y, like.shape[-1]).to(like)
    got = f"a tensor of shape {tuple(y.shape)} and {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
    raise ConfigurationError(
        f"{rule.name} nudges the output units to a target, and needs class indices of shape {tuple(like.shape[:-1])} "
        f"or targets between 0 and 1 of shape {tuple(like.shape)}; it got {got}."
    )
