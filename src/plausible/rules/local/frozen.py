"""Frozen hidden layers (Frozen): the output layer learns on the features that initialisation gave, and only it.

Equation:
    ΔW_L = −η e h_{L−1}ᵀ,    ΔW_l = 0 for every l < L

What travels:
    Nothing beyond the output layer.

Departures:
    None. Batch statistics of hidden normalisation layers are collected as ever; their weights do not learn.

Reference: jaeger2001

@techreport{jaeger2001,
  author      = {Jaeger, Herbert},
  title       = {The ``echo state'' approach to analysing and training recurrent neural networks},
  institution = {German National Research Center for Information Technology},
  number      = {GMD Report 148},
  year        = {2001}
}
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from plausible.core.attach import refuse_if_bound
from plausible.core.coverage import Coverage, survey
from plausible.core.errors import CoverageError
from plausible.core.families.broadcast import BroadcastLearner, BroadcastRule, CutSite
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, Outcome, Teacher, held


@register
@dataclass(frozen=True, kw_only=True)
class Frozen(BroadcastRule):
    """Nothing is taught but the output layer."""

    name = "frozen"
    control = "only the output layer learns"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=False,
        additive=True,
        paper="jaeger2001",
    )
    literature = held("? ? ? ? ? N ? Y ?")
    scale: float = 1.0  # has no say, so tuning is not to search it
    needs_example: ClassVar[bool] = False

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "FrozenLearner":
        """Bind to ``model`` in place. An example is needed where :class:`TransportRule` needs one."""
        refuse_if_bound(model)
        found = survey(model, self, self.uncovered, example, anywhere=True)
        return FrozenLearner(model, self, loss, replace(found, recurrent={}, uses={}))

    def cuts(self, coverage: Coverage) -> dict[str, nn.Module]:
        """One cut, in front of the output layer."""
        if not coverage.layers:
            raise CoverageError(
                "frozen: the model has no linear or convolutional layer that could be its output layer."
            )
        return dict([list(coverage.layers.items())[-1]])

    def teach(self, error: Tensor, state: CutSite, like: Tensor) -> None:
        """Hidden layers are taught nothing."""
        return


class FrozenLearner(BroadcastLearner):
    """Learns behind the only cut."""

    _reached: frozenset[str] | None = None

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        before = {name: p for name, p in self.model.named_parameters() if p.grad is None}
        if self._reached is None:  # what a compiled pass cuts off gets zeros from it, and decay would move that
            with torch.compiler.set_stance("force_eager"):
                outcome = super()._learn(x, y)
            if len(before) == len(list(self.model.parameters())):
                self._reached = frozenset(name for name, p in before.items() if p.grad is not None)
            return outcome
        outcome = super()._learn(x, y)
        for name, p in before.items():
            if name not in self._reached:
                p.grad = None
        return outcome

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`; an untaught normalisation layer has no gradient that could be exact."""
        return {**super().report(), "exact": [], "note": "Hidden layers are not taught."}
