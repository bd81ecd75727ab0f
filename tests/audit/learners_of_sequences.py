"""Learners of sequences, for tests only: controls for the criterion BPTT, and for timing.

Truncated     a recurrent net, back-propagated through the chunk it is given; state goes on, gradients do not.
RealTime      the same net by real-time recurrent learning: exact, and forward in time.
Traces        the same with a leaky trace in place of the exact influence, as e-prop has.
"""

import torch
from learners_in_time import InTime, add, error_of
from torch import Tensor, nn

from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher
from plausible.functional.random import generator


class Recurrent(nn.Module):
    """h(t) = tanh(W x(t) + V h(t−1) + b), o(t) = U h(t) + c; the answer is the last o. x: (N, T, n_in)."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.inp, self.rec = nn.Linear(n_in, n_hidden), nn.Linear(n_hidden, n_hidden, bias=False)
        self.out = nn.Linear(n_hidden, n_out)

    def drive(self, x: Tensor, h: Tensor) -> Tensor:
        return self.inp(x) + self.rec(h)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.rec.in_features)
        for t in range(x.shape[1]):
            h = torch.tanh(self.drive(x[:, t], h))
        return self.out(h)


class Sequential(Learner):
    """Learners of a Recurrent. The teacher is there at each step, or with ``at_end`` at the last of the call; with
    ``average`` the loss is the mean over the call's steps; ``noise`` is added anew to the updates of each call."""

    time_axis = 1
    rule: InTime
    model: Recurrent

    def __init__(self, model: nn.Module, rule: Rule, loss: Loss) -> None:
        super().__init__(model, rule, loss)
        self.reset()

    def reset(self, streams: Tensor | None = None) -> None:
        self.h: Tensor | None = None
        self.S: Tensor | None = None

    def taught(self, t: int, steps: int) -> float:
        """By what the loss of step t is multiplied."""
        if self.rule.at_end:
            return float(t == steps - 1)
        return 1 / steps if self.rule.average else 1.0

    def start(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.model.rec.in_features) if self.h is None else self.h

    def disturb(self) -> None:
        draw = generator(self.rule.seed, self.context.iteration)
        for p in self.model.parameters():
            add(p, self.rule.noise * torch.randn(p.shape, generator=draw, dtype=p.dtype))


class Truncated(Sequential):
    """Back-propagation through the chunk."""

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        h, total, steps = self.start(x), x.new_zeros(()), x.shape[1]
        output = x
        for t in range(steps):
            h = torch.tanh(self.model.drive(x[:, t], h))
            if factor := self.taught(t, steps):
                output = self.model.out(h)
                output.register_hook(lambda error: self.wire("error", error, "teacher", "out"))
                total = total + factor * self.loss(output, y[:, t] if y.dim() > 1 else y)
        total.backward()
        self.h = h.detach()
        self.disturb()
        return Outcome(total.detach(), output.detach())


class RealTime(Sequential):
    """S(t) = ∂h(t)/∂(W V b) is carried forward, (N, hidden, hidden, inputs + hidden + 1).

    With ``peeks``, the trace takes the next input in place of this one, where there is a next.
    """

    def carried(self, S: Tensor) -> Tensor:
        """What of the influence so far reaches the drive of this step."""
        return torch.einsum("im,nmkz->nikz", self.model.rec.weight, S)

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        m, steps = self.model, x.shape[1]
        h, total, width = self.start(x), x.new_zeros(()), m.rec.in_features
        S = x.new_zeros(len(x), width, width, x.shape[2] + width + 1) if self.S is None else self.S
        output = x
        for t in range(steps):
            seen = x[:, min(t + 1, steps - 1)] if self.rule.peeks else x[:, t]
            z = torch.cat([seen, h, h.new_ones(len(h), 1)], 1)
            a = m.drive(x[:, t], h).detach().requires_grad_()
            with torch.enable_grad():
                after = torch.tanh(a)
                (slope,) = torch.autograd.grad(after.sum(), a)
            h = after.detach()
            with torch.no_grad():
                own = torch.eye(width).to(h)[None, :, :, None] * z[:, None, None, :]
                S = slope[:, :, None, None] * (self.carried(S) + own)
                if factor := self.taught(t, steps):
                    output = m.out(h)
                    loss, error = error_of(self.loss, output, y[:, t] if y.dim() > 1 else y)
                    total = total + factor * loss
                    error = self.wire("error", factor * error, "teacher", "out")
                    credit = self.wire("rec.teach", error @ m.out.weight, "out", "rec")
                    step = torch.einsum("ni,nikz->kz", credit, S)
                    W, V, b = step.split([x.shape[2], width, 1], 1)
                    pairs = ((m.inp.weight, W), (m.rec.weight, V), (m.inp.bias, b[:, 0]))
                    for p, change in (*pairs, (m.out.weight, error.T @ h), (m.out.bias, error.sum(0))):
                        add(p, change)
        self.h, self.S = h, S
        self.disturb()
        return Outcome(total.detach(), output.detach())


class Traces(RealTime):
    """The influence leaks away, and does not spread from cell to cell."""

    def carried(self, S: Tensor) -> Tensor:
        return 0.8 * S
