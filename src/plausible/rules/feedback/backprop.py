"""Back-propagation (BP): the gradient of the loss, the standard that every other rule is measured against.

Equation:
    δ_l = (W_{l+1}ᵀ δ_{l+1}) ∘ φ′(a_l),    ∂L/∂W_l = δ_l h_{l−1}ᵀ        (Rumelhart et al. 1986, eqs. 4–6)

What travels:
    δ_{l+1} (N, n_{l+1}) goes down through W_{l+1} (n_{l+1}, n_l) itself, one layer after another.

Departures:
    None: the model is left as it is, and autograd does the rest.

Reference: rumelhart1986

@article{rumelhart1986,
  author  = {Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.},
  title   = {Learning representations by back-propagating errors},
  journal = {Nature},
  volume  = {323},
  pages   = {533--536},
  year    = {1986}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from plausible.core.attach import refuse_if_bound
from plausible.core.learner import Learner
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, Outcome, Rule, Teacher, held


@register
@dataclass(frozen=True, kw_only=True)
class Backprop(Rule):
    """Plain back-propagation."""

    name = "backprop"
    claims = Claims(
        reads="error",
        forward_weights="full",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="rumelhart1986",
    )
    literature = held("N N N N N N ~ Y N")
    because: ClassVar[Mapping[str, str]] = {
        "locality": "Plain back-propagation is left as it is, and its messages pass through no wires: what cannot be "
        "held cannot be called local. `sham`, the same mathematics on wires, is local given its messages."
    }

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "BackpropLearner":
        """Bind to any model; neither an example nor an optimiser is needed."""
        refuse_if_bound(model)
        return BackpropLearner(model, self, loss)


class BackpropLearner(Learner):
    """``loss.backward()``."""

    one_backward = True

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        output = self(x)
        loss = self.loss(output, y)
        if self.context.tap is not None and isinstance(output, Tensor):
            output.register_hook(lambda error: self.wire("error", error, "teacher", "output"))
        loss.backward()
        return Outcome(loss.detach(), output.detach() if isinstance(output, Tensor) else output)

    def report(self) -> dict[str, Any]:
        """Everything is left to back-propagation."""
        names = {name.rpartition(".")[0] for name, p in self.model.named_parameters() if p.requires_grad}
        return {**super().report(), "backprop": sorted(names)}
