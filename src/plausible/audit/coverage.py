"""Which way the error really comes back through each weight of a model: measured, not read off a list of layers.

Weights are changed while activity stays the same to the last bit (:class:`Trajectory`), and it is seen whether any
other parameter's update follows: magnitudes first, then signs, then the feedback that a rule keeps.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from plausible.audit.trajectory import Trajectory
from plausible.core.attach import device_of
from plausible.core.errors import ConfigurationError
from plausible.core.families.sites import TransportSite
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Teacher
from plausible.core.uses import find_uses, parameters_of
from plausible.functional.random import generator, random_state, replayed

FOLLOWS = 1e-9
"""A relative change from which an update has followed; in double precision, rounding is a million times smaller."""

CARRIERS = ("weights", "signs", "feedback", "gain", "nothing")


@dataclass(frozen=True)
class Carrier:
    """What carries the error back through one weight.

    Attributes:
        name: of the Parameter.
        shape: its shape.
        by: "weights": other updates follow the weight's magnitudes, as in back-propagation; "signs": they follow its
            signs alone; "feedback": they follow what the rule keeps in its place, and not the weight; "gain": they
            follow its magnitudes, but it scales each activity by one number, as normalisation does; "nothing": no other
            update follows either, because nothing that learns lies behind it, or it only adds.
        changes: the largest relative change of another parameter's update, by what was changed.
    """

    name: str
    shape: tuple[int, ...]
    by: str
    changes: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "shape": list(self.shape)}


def coverage(learner: Learner, x: Inputs, y: Teacher) -> list[Carrier]:
    """What carries the error through each weight: each trainable Parameter that is no vector.

    Args:
        learner: bound, in double precision; it is as it was afterwards, but for its gradients.
        x: some examples; few are enough.
        y: what it is told of them.

    Raises:
        ConfigurationError: the model is not in double precision, in which a change could not be told from rounding; or
            the learner does not learn by one forward pass of the model, whose activity could be held.
    """
    if any(p.is_floating_point() and p.dtype != torch.float64 for p in learner.model.parameters()):
        raise ConfigurationError("Coverage is measured in double precision: pass model.double() and inputs to match.")
    draw = generator(0, "coverage", device=device_of(learner.model))

    def moved(p: Tensor) -> Tensor:
        return p + 0.05 * torch.empty_like(p).normal_(generator=draw)

    statistics = _changed(list(learner.model.buffers()), lambda buffer: buffer)  # which each pass would move
    # Layers that start at zero, as heads and residual branches may, would let no error by.
    with statistics, _changed([p for p in learner.model.parameters() if p.requires_grad], moved):
        return _Experiment(learner, x, y, draw).run()


class _Experiment:
    def __init__(self, learner: Learner, x: Inputs, y: Teacher, draw: torch.Generator) -> None:
        self.learner, self.x, self.y, self.draw = learner, x, y, draw
        self.device = device_of(learner.model)
        self.random = random_state(self.device)
        self.iteration = learner.context.iteration
        self.trajectory = Trajectory(x)
        self.parameters = {name: p for name, p in learner.model.named_parameters() if p.requires_grad}
        self.weights = {name: p for name, p in self.parameters.items() if p.numel() > max(p.shape, default=1)}
        with self.trajectory.recorded(learner.model):
            self.before = self.updates()
        if self.trajectory.passes != 1:
            raise ConfigurationError(
                f"{learner.rule.name} learns by {self.trajectory.passes or 'no'} forward passes of the model; coverage "
                "holds the activity of one, and sees what is read on the way back. `plausible audit` measures any rule."
            )

    def updates(self) -> dict[str, Tensor]:
        """What one call of ``learn`` leaves in each gradient."""
        self.learner.zero_grad()
        with replayed(self.device, self.random):
            self.learner.learn(self.x, self.y)
        self.learner.context.iteration = self.iteration
        return {name: p.grad.detach().clone() for name, p in self.parameters.items() if p.grad is not None}

    def change(self, tensors: Iterable[Tensor], how: Callable[[Tensor], Tensor], apart: Iterable[str] = ()) -> float:
        """The largest relative change of an update, but for those ``apart``, when tensors are changed."""
        with _changed(list(tensors), how), self.trajectory.repeated(self.learner.model):
            after = self.updates()
        scale = max((float(g.abs().max()) for g in self.before.values()), default=0.0)
        return max(
            (
                float((after[name] - g).abs().max() / (g.abs().max() + 1e-6 * scale))
                for name, g in self.before.items()
                if name not in set(apart) and scale > 0
            ),
            default=0.0,
        )

    def run(self) -> list[Carrier]:
        draw = self.draw

        def magnitudes(w: Tensor) -> Tensor:
            noise = torch.empty_like(w).normal_(generator=draw)
            return w * (0.3 * noise).exp()

        def flipped(w: Tensor) -> Tensor:
            return w * torch.empty_like(w).bernoulli_(0.5, generator=draw).mul_(2).sub_(1)

        def anew(b: Tensor) -> Tensor:
            return torch.empty_like(b).normal_(generator=draw) * b.std().clamp(min=1e-3)

        uses = find_uses(self.learner.model, lambda: self.learner(self.x))
        gains = uses.gains - parameters_of(uses.within)
        kept = self._kept()
        read = self.change(self.weights.values(), magnitudes) > FOLLOWS
        signed = self.change(self.weights.values(), flipped) > FOLLOWS
        found = []
        for name, weight in self.weights.items():
            group, stored = kept.get(name, ({name}, []))
            changes = {
                "weights": self.change([weight], magnitudes, group) if read else 0.0,
                "signs": self.change([weight], flipped, group) if signed else 0.0,
                "feedback": self.change(stored, anew, group) if stored else 0.0,
            }
            by = next((what for what, change in changes.items() if change > FOLLOWS), "nothing")
            found.append(
                Carrier(name, tuple(weight.shape), "gain" if by == "weights" and name in gains else by, changes)
            )
        return found

    def _kept(self) -> dict[str, tuple[set[str], list[Tensor]]]:
        """By weight, those that are used together with it, and what is kept in their place."""
        found: dict[str, tuple[set[str], list[Tensor]]] = {}
        for site in (m for m in self.learner.modules() if isinstance(m, TransportSite)):
            for name in site.made_of:
                group, stored = found.setdefault(name, ({name}, []))
                group.update(site.made_of)
                stored += [t for t in (*site.parameters(), *site.buffers()) if t.dim() > 0]
        return found


@contextmanager
def _changed(tensors: list[Tensor], how: Callable[[Tensor], Tensor]) -> Iterator[None]:
    stored = [t.detach().clone() for t in tensors]
    try:
        with torch.no_grad():
            for t in tensors:
                t.copy_(how(t))
        yield
    finally:
        with torch.no_grad():
            for t, value in zip(tensors, stored, strict=True):
                t.copy_(value)


def through_forward_weights(carriers: Iterable[Carrier]) -> list[str]:
    """The weights whose magnitudes other updates follow: what a rule with feedback of its own has missed."""
    return [carrier.name for carrier in carriers if carrier.by == "weights"]


def count(carriers: Iterable[Carrier]) -> dict[str, int]:
    """How many weights each carrier serves."""
    all_of_them = [carrier.by for carrier in carriers]
    return {by: all_of_them.count(by) for by in CARRIERS}
