"""Learners for tests only that run in time: controls for the criteria spiking and timing.

Online        a rate network integrated tick by tick, the teacher there at each, low-pass traces: one regime.
Contrastive   activity runs freely, then nudged by the teacher; the contrast teaches: two regimes.
Spiking       spikes forward and, unless ``graded``, spikes back, from on and off cells that fire at an error.

Those of sequences are in learners_of_sequences.py.
Their rules are not registered. All write the mean over the batch, and keep their state until ``reset``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from plausible.core.attach import refuse_if_bound
from plausible.core.chain import chain
from plausible.core.learner import Learner
from plausible.core.rule import Claims, Inputs, Loss, Outcome, Rule, Teacher
from plausible.functional.random import generator


@dataclass(frozen=True, kw_only=True)
class InTime(Rule):
    """A rule for a chain of layers that takes ``ticks`` small steps in each call.

    ``learner`` makes the learner; the other fields are planted faults and variants: see the learners.
    """

    name = "in time"
    claims = Claims(
        reads="error", forward_weights="none", derivatives_travel=False, phases=1, online=True, additive=True, paper=""
    )
    learner: ClassVar[type[Learner]]
    ticks: int = 20
    reports: bool = False
    graded: bool = False
    rates_in_test: bool = False
    at_end: bool = False
    average: bool = False
    peeks: bool = False
    noise: float = 0.0

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> Learner:
        refuse_if_bound(model)
        return self.learner(model, self, loss)


def rule(learner: type[Learner], **fields: Any) -> InTime:
    """A rule that binds ``learner``."""
    return type(learner.__name__, (InTime,), {"learner": learner})(**fields)


def add(p: Tensor, step: Tensor) -> None:
    """p.grad += step."""
    p.grad = step.detach().clone() if p.grad is None else p.grad + step.detach()


def add_layer(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """The same for a layer."""
    add(layer.get_parameter("weight"), weight)
    add(layer.get_parameter("bias"), bias)


def error_of(loss: Loss, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(the loss, its gradient by the output), detached."""
    with torch.enable_grad():
        output = output.detach().requires_grad_()
        value = loss(output, y)
        return value.detach(), torch.autograd.grad(value, output)[0]


class Chained(Learner):
    """A chain of leaky units: dv_l = dt (−v_l + W_l φ(v_{l−1}) + b_l + u_l), u_l what else comes in."""

    dt = 0.5
    rule: InTime

    def __init__(self, model: nn.Module, rule: Rule, loss: Loss) -> None:
        super().__init__(model, rule, loss)
        self.blocks = chain(model, rule)
        self.names = [block.name for block in self.blocks]
        widths = [block.layer.get_parameter("weight").shape[0] for block in self.blocks]
        self.B = nn.ParameterList(
            nn.Parameter(torch.randn(widths[-1], n, generator=generator(rule.seed, "B", i)) / n**0.5, False)
            for i, n in enumerate(widths[:-1])
        )
        self.reset()

    def reset(self, streams: Tensor | None = None) -> None:
        self.v: list[Tensor] = []
        self.trace: list[Tensor] = []

    def advance(self, v: list[Tensor], x: Tensor, push: Callable[[int, Tensor], Tensor | float]) -> tuple[list, list]:
        """(what enters each layer, the potentials after one tick)."""
        h, inputs, after = x, [], []
        for i, block in enumerate(self.blocks):
            for module in block.before:
                h = module(h)
            inputs.append(h)
            drive = block.layer(h)
            old = v[i] if v else torch.zeros_like(drive)
            new = old + self.dt * (drive - old + push(i, old))
            after.append(new)
            h = block.activate(new)
        return inputs, after

    def forward(self, x: Inputs) -> Tensor:
        assert isinstance(x, Tensor)
        v = self.v
        with torch.no_grad():
            for _ in range(self.rule.ticks):
                _, v = self.advance(v, x, lambda i, old: 0.0)
        return v[-1]


class Online(Chained):
    """ΔW_l = −Σ_t (B_l e(t) ∘ φ′(v_l(t))) x̄_{l−1}(t)ᵀ, x̄ low-passed. ``reports`` runs freely first, without effect."""

    rule: InTime

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        if self.rule.reports:
            self(x)
        loss = x.new_zeros(())
        for _ in range(self.rule.ticks):
            with torch.no_grad():
                inputs, self.v = self.advance(self.v, x, lambda i, old: 0.0)
            self.trace = [0.5 * a + 0.5 * b for a, b in zip(self.trace or inputs, inputs, strict=True)]
            loss, error = error_of(self.loss, self.v[-1], y)
            error = self.wire("error", error, "teacher", self.names[-1])
            for i, block in enumerate(self.blocks):
                signal = error
                if i < len(self.B):
                    signal = self.wire(f"{block.name}.teach", error @ self.B[i], "output", block.name)
                    with torch.enable_grad():
                        v = self.v[i].detach().requires_grad_()
                        (signal,) = torch.autograd.grad(block.activate(v), v, signal)
                add_layer(block.layer, signal.T @ self.trace[i], signal.sum(0))
        return Outcome(loss, self.v[-1])


class Contrastive(Chained):
    """Ticks without, then with a nudge −βe at the output, top-down input through Wᵀ all the while (β = .1)."""

    beta = 0.1
    rule: InTime

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        loss, output, sums, nudged = torch.zeros(()), None, [], False

        def push(i: int, old: Tensor) -> Tensor | float:
            nonlocal loss
            if i < len(self.blocks) - 1:
                above, up = self.blocks[i + 1], self.v[i + 1] if self.v else None
                if up is None:
                    return 0.0
                return self.wire(
                    f"{self.names[i]}.down", up @ above.layer.get_parameter("weight"), above.name, self.names[i]
                )
            if not nudged:
                return 0.0
            loss, error = error_of(self.loss, old, y)
            return -self.beta * self.wire("nudge", error, "teacher", self.names[i])

        with torch.no_grad():
            for nudged in (False, True):  # noqa: B007 (push reads it)
                inputs: list[Tensor] = []
                for _ in range(self.rule.ticks):
                    inputs, self.v = self.advance(self.v, x, push)
                after = [block.activate(v) for block, v in zip(self.blocks, self.v, strict=True)]
                sums.append([(h.T @ inp, h.sum(0)) for h, inp in zip(after, inputs, strict=True)])
                output = self.v[-1] if output is None else output
            for block, (w0, b0), (w1, b1) in zip(self.blocks, *sums, strict=True):
                add_layer(block.layer, (w0 - w1) / self.beta, (b0 - b1) / self.beta)
        assert output is not None
        return Outcome(loss, output)


class Spike(nn.Module):
    """1 above threshold, else 0."""

    def forward(self, v: Tensor) -> Tensor:
        return (v > 0.2).to(v.dtype)


class Spiking(Chained):
    """Like Online, with spikes of two cells per error channel, or with the error itself if ``graded``.

    With ``rates_in_test``, it answers with rates where it learned with spikes. The model's activations are Spike.
    """

    rule: InTime

    def reset(self, streams: Tensor | None = None) -> None:
        super().reset()
        self.charge: Tensor | None = None

    def forward(self, x: Inputs) -> Tensor:
        assert isinstance(x, Tensor)
        if not self.rule.rates_in_test:
            return super().forward(x)
        with torch.no_grad():
            h = x
            for block in self.blocks:
                h = block.drive(h).relu()
        return h

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        loss = x.new_zeros(())
        for _ in range(self.rule.ticks):
            with torch.no_grad():
                inputs, self.v = self.advance(self.v, x, lambda i, old: 0.0)
            self.trace = [0.5 * a + 0.5 * b for a, b in zip(self.trace or inputs, inputs, strict=True)]
            loss, error = error_of(self.loss, self.v[-1], y)
            error = self.wire("error", error, "teacher", self.names[-1])
            charge = error * len(x) + (0 if self.charge is None else self.charge)
            on, off = (charge > 1).to(x), (charge < -1).to(x)
            self.charge = charge - on + off
            for i, block in enumerate(self.blocks):
                signal = error
                if i < len(self.B):
                    if self.rule.graded:
                        signal = self.wire(f"{block.name}.teach", error, "output", block.name)
                    else:
                        up = self.wire(f"{block.name}.on", on, "output", block.name)
                        signal = (up - self.wire(f"{block.name}.off", off, "output", block.name)) / len(x)
                    signal = (signal @ self.B[i]) * ((self.v[i] - 0.2).abs() < 0.3)
                add_layer(block.layer, signal.T @ self.trace[i], signal.sum(0))
        return Outcome(loss, self.v[-1])
