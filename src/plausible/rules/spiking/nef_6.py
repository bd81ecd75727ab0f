"""NEF-6: acts, is rewarded or not, and learns in spikes, at all times, from that one bit.

Equation:
    a = argmax_k ⟨y_k⟩, or another at times, once in a call;  r = 1 or 0 is what the world answers to a
    e_k = m_k (y_k − r),    m = 1 for the action taken while its outcome lasts, else 0
    ΔW^l_ij = −η dt (B^lᵀ ê^l)_i ψ_i x_j,    ψ_i = 1 if cell i itself has fired lately, else 0
    ΔV_kj = −η dt ê_k x_j,    x_j = ⟨s_j⟩ − ⟨⟨s_j⟩⟩, less what is usual;    a bias: the same with x = 1

What travels:
    Forward, spikes. From outside, a reward (1 number) and no label. Back, the spikes of on and off cells that stand for
    the error of the action taken, from population to population and from each to the synapses of one layer, which weigh
    them by fixed random B (classes, n). They reach no soma. There is no phase: all equations hold at all times, and
    without an outcome the error cells are silent.

Departures:
    This is the rule's own paper; see docs/all-six.md. It is Hunsberger's network (nef-dfa) with a reward in the place
    of the target, as in AGREL (Roelfsema & van Ooyen 2005), traces that reach over the delay of the chain, a gate from
    the cell's own spikes in place of one from its current, and no decoder that was solved for. Streams share weights.

Reference: plausible

@misc{plausible,
  author = {{The plausible developers}},
  title  = {plausible: training networks under the brain's constraints},
  year   = {2026}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.core.families.online import OnlineLearner, OnlineRule, Outer, State, Teaching
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, Teacher, held, require, tunable
from plausible.core.world import Quiz
from plausible.functional.random import generator
from plausible.functional.tracing import untraced
from plausible.rules.spiking.actor import DECIDING, Race, raced, ready
from plausible.rules.spiking.relay import (
    Links,
    RelayLearner,
    centred,
    entering,
    products,
    silent,
    traced,
)


class Memory(NamedTuple):
    """What the teaching part of the net remembers.

    Attributes:
        links: the chain of error populations.
        motor: (N, classes), ⟨y⟩.
        acted: (N, classes), m.
        race: of the cells that act, if there are any.
        pre: by layer, readout last, ⟨s⟩ (N, n_in).
        usual: by layer, readout last, the slow mean of ⟨s⟩ (N, n_in).
        own: by hidden layer, ⟨s⟩ (N, n) of its own cells.
    """

    links: Links
    motor: Tensor
    acted: Tensor
    race: Race
    pre: tuple[Tensor, ...]
    usual: tuple[Tensor, ...]
    own: tuple[Tensor, ...]


@register
@dataclass(frozen=True, kw_only=True)
class NEFSix(OnlineRule):
    """One bit of reward, spiking error populations, traces of the synapses' own.

    Attributes:
        scale: mean norm of the feedback weights of a cell.
        cells: of an error population, for each class.
        trace: time constant of ⟨·⟩, in seconds.
        usual: time constant of what a synapse holds for usual, in seconds; 0: it takes nothing off, a control.
        explore: how often another action is taken than that which promises most.
        radius: the size of error that drives an error cell at its greatest rate.
        noise: σ of the cells that act, in units of their threshold.
        actor: whether cells that race act (:mod:`plausible.rules.spiking.actor`), and their noise explores; without,
            the greatest ⟨y⟩ is found from outside, and ``explore`` counts.
        act: when the world asks for an action, as a part of the call.
        motor: time constant of the ⟨y⟩ that decides, in seconds.
        intercept: error cells begin to fire between 0 and this part of the radius.
        delay: of the error's conduction from the output to the first error population, in seconds.
        gate: whether only cells learn that have fired lately; without, ψ = 1, a control.
        hidden: whether hidden layers learn; without, a control.
        redraw: draw B anew at every call, so that it carries no credit: a control.
    """

    name = "nef-6"
    model = "lif-mlp"
    continuous = True
    claims = Claims(
        reads="reward",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=True,
        additive=False,  # what is explored with an example is another action in another batch
        paper="plausible",
        feedback="rates",
        events="all",
        tolerates_delay=True,
        told="reward",
        stores_sequence=False,
    )
    literature: ClassVar[Mapping[str, str]] = held("? ? ? ? ? ? ? ? ?")

    scale: float = tunable(1.0, 0.1, 10.0, log=True)
    cells: int = 10
    trace: float = 10e-3
    usual: float = 1.0
    explore: float = 0.2
    radius: float = 1.0
    act: float = 0.5
    motor: float = 10e-3
    intercept: float = 0.1
    delay: float = 0.0
    noise: float = 2.0
    actor: bool = False
    gate: bool = True
    hidden: bool = True
    redraw: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "a teaching signal needs a positive scale")
        require(self.cells > 0 and self.cells % 2 == 0, self, "cells", "half of them are on cells and half off")
        require(0 < self.trace <= 1, self, "trace", "a time constant in seconds, such as 0.02")
        require(0 < self.motor <= 1, self, "motor", "a time constant in seconds, such as 0.01")
        require(0 <= self.usual <= 1, self, "usual", "a time constant in seconds, such as 1.0")
        require(0 < self.act < 1, self, "act", "a part of the call, such as 0.5")
        require(0 <= self.intercept < 1, self, "intercept", "a part of the radius")
        require(0 <= self.explore <= 1, self, "explore", "a probability")
        require(self.noise >= 0, self, "noise", "a standard deviation cannot be negative")
        require(0 <= self.delay <= 1, self, "delay", "a time in seconds, such as 0.01")
        require(self.radius > 0, self, "radius", "cells need something to answer to")

    def teacher(self, y: Tensor) -> Teacher:
        """A world that rewards the label, and does not give it away."""
        return Quiz(y)

    @property
    def divisible(self) -> bool:
        """Each stream explores by itself, on whichever rank it is."""
        return True

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> RelayLearner:
        """Bind to a chain of LIF layers in place. An example is not needed.

        Raises:
            CoverageError: the model is something else.
            ConfigurationError: a call is over before the world could ask.
        """
        learner = RelayLearner(
            model, self, loss, cells=self.cells, paired=True, scale=self.scale, radius=self.radius,
            intercept=self.intercept, delay=self.delay,
        )  # fmt: skip
        hold = learner.spiking.hold
        if int(self.act * hold) == 0:
            learner.release()
            raise ConfigurationError(
                f"{self.name}: the world asks once in a call, after {self.act:g} of it, and a call has {hold} "
                f"step{'s' * (hold > 1)}. Show a stimulus for longer (shown=0.08)."
            )
        return learner

    def rest(self, learner: OnlineLearner, x: Tensor) -> Memory:
        """No spike has come by yet, and nothing was done."""
        assert isinstance(learner, RelayLearner)
        pre, own, readout = silent(learner.spiking, len(x))
        race = ready(learner.spiking.neurons.cell, readout)
        return Memory(learner.feedback.rest(readout), readout, readout, race, pre, pre, own)

    def step(
        self, learner: OnlineLearner, state: tuple[State, Memory], x_t: Tensor, teaching: Teaching
    ) -> tuple[tuple[State, Memory], Tensor, Mapping[str, Tensor | Outer]]:
        """See :meth:`OnlineRule.step`."""
        assert isinstance(learner, RelayLearner)
        net, (before, memory) = learner.spiking, state
        after, y = net.step(before, x_t)
        (motor,) = traced([memory.motor], [y], self.motor, net.dt)
        race, acted = self._act(learner, motor, memory, teaching)
        links = learner.feedback.step(learner, memory.links, acted * (y - teaching.rewarded(y).unsqueeze(1)))
        other = learner.redrawn(self.scale) if self.redraw else None
        errors = learner.feedback.errors(links, other)

        pre = traced(memory.pre, entering(before), self.trace, net.dt)
        unusual, usual = centred(pre, memory.usual, self.usual, net.dt)
        own = traced(memory.own, (cells.spikes for cells in after.hidden), self.trace, net.dt)
        share, lately = net.dt / len(y), net.neurons.cell.amplitude / self.trace * exp(-1) if self.gate else -1.0
        posts = {name: errors[name] * (trace > lately) * share for name, trace in zip(net.hidden, own, strict=True)}
        posts["readout"] = errors["readout"] * share
        return (
            (after, Memory(links, motor, acted, race, pre, usual, own)),
            y,
            products(posts, unusual, hidden=self.hidden),
        )

    def _act(self, learner: RelayLearner, motor: Tensor, memory: Memory, teaching: Teaching) -> tuple[Race, Tensor]:
        """The race, and m: the world asks once in a call, and its answer is there until the end."""
        net, race, asked = learner.spiking, memory.race, int(self.act * teaching.steps)
        if teaching.step == 0:
            return ready(net.neurons.cell, motor), torch.zeros_like(motor)
        if teaching.step > asked:
            return race, memory.acted
        if self.actor and asked - teaching.step < DECIDING / net.dt:
            draw = generator(self.seed, "explore", learner.context.iteration, teaching.step)
            noise = learner.context.ranks.rows(
                len(motor), lambda n: self.noise * torch.randn(n, motor.shape[1], generator=draw).to(motor)
            )
            race = raced(net.neurons.cell, race, motor, noise, net.dt)
        if teaching.step < asked:
            return race, memory.acted
        return race, self._asked(learner, race.won if self.actor else motor, teaching)

    @untraced  # the world is not ours to trace
    def _asked(self, learner: RelayLearner, values: Tensor, teaching: Teaching) -> Tensor:
        """m, once the action of greatest value (N, classes), or at times another, was taken in the world.

        Cells that race have explored before: their values are 1 for the winner, and all 0 where nothing was done.
        """
        action, N, classes = values.argmax(1), *values.shape
        if self.actor:
            action = torch.where(values.any(1), action, -1)
        else:
            draw = generator(self.seed, "explore", learner.context.iteration)
            ranks = learner.context.ranks
            other = ranks.rows(N, lambda n: torch.randint(classes, (n,), generator=draw)).to(action.device)
            tries = ranks.rows(N, lambda n: torch.rand(n, generator=draw) < self.explore).to(action.device)
            action = torch.where(tries, other, action)
        teaching.act(action)
        done = torch.arange(classes, device=action.device) == action.unsqueeze(1)
        return done.to(values)
