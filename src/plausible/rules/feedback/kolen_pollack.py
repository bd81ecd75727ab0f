"""Kolen–Pollack: the feedback weights learn by the same local product and the same decay, and become the forward ones.

Equation:
    ΔW_l = −η δ_l h_{l−1}ᵀ − λ W_l,    ΔB_l = −η h_{l−1} δ_lᵀ − λ B_l        (Akrout et al. 2019, eqs. 16–17)
    hence W_l − B_lᵀ shrinks by the factor (1 − λ) at every step.

What travels:
    δ_{l+1} goes down through B. Each of the two synapses sees the pre- and postsynaptic activity alone; no weight
    travels.

Departures:
    B is stepped by the user's own optimiser, in the group of its W, with the same gradient: λ is the optimiser's
    learning rate times its weight decay. The factor is exact under SGD without momentum and under decoupled decay
    (AdamW); with momentum and coupled decay the difference only falls on average, and without decay never. B starts
    as feedback alignment's (see fa).

Reference: akrout2019

@inproceedings{akrout2019,
  author    = {Akrout, Mohamed and Wilson, Collin and Humphreys, Peter and Lillicrap, Timothy and Tweed, Douglas B.},
  title     = {Deep learning without weight transport},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {32},
  year      = {2019}
}
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from plausible.core.coverage import Coverage
from plausible.core.errors import ConfigurationError, CoverageError, PlausibleWarning
from plausible.core.families.transport import TransportLearner, TransportRule, TransportSite
from plausible.core.registry import register
from plausible.core.rule import Claims, Loss, held
from plausible.rules.feedback.fa import random_feedback


@register
@dataclass(frozen=True, kw_only=True)
class KolenPollack(TransportRule):
    """B takes every step that W takes."""

    name = "kolen-pollack"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="akrout2019",
    )
    literature = held("Y N N N N N ~ Y N")
    learns_feedback: ClassVar[bool] = True

    @property
    def needs_optimizer(self) -> bool:
        """B is stepped by the optimiser that steps W."""
        return True

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """Draw the B to start from."""
        return {"B": random_feedback(weight, draw("B"), scale)}

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """B, as learned so far."""
        return state["B"]

    def learner(self, model: nn.Module, loss: Loss, coverage: Coverage) -> "KolenPollackLearner":
        """See :meth:`TransportRule.learner`."""
        computed = [use.names for within in coverage.uses.values() for use in within.uses if use.computed]
        if computed:
            raise CoverageError(
                f"kolen-pollack: B takes every step that W takes, and what is multiplied by activity is computed from "
                f"{', '.join(computed[0])}, and takes none. Use fa or a rule of signs, or plain weights."
            )
        return KolenPollackLearner(model, self, loss, coverage)


class KolenPollackLearner(TransportLearner):
    """A transport learner whose feedback weights are parameters, stepped together with the forward weights."""

    def param_groups(self) -> list[dict[str, Any]]:
        """Each B, to be stepped like its W."""
        return [
            {
                "params": [site.get_parameter("B")],
                "param_names": [f"feedback.{site.name}.B"],
                "like": self.weight(site),
            }
            for site in self.sites()
        ]

    def hook(self, optimizer: Optimizer) -> None:
        """See :meth:`Learner.hook`; warns where nothing decays, for then B never becomes W."""
        super().hook(optimizer)
        if not any(group.get("weight_decay") for group in optimizer.param_groups):
            warnings.warn(
                "kolen-pollack without weight decay: the difference between forward and feedback weights never "
                "shrinks. Give the optimiser a weight_decay, best a decoupled one, as AdamW's.",
                PlausibleWarning,
                stacklevel=4,
            )

    def before_step(self) -> None:
        """Give each B the gradient of its W, after accumulation and all-reduce."""
        super().before_step()
        for site in self.sites():
            grad, B = self.weight(site).grad, site.get_parameter("B")
            if isinstance(grad, DTensor) and not isinstance(B, DTensor):
                raise ConfigurationError(
                    f"kolen-pollack: {site.name!r} was sharded after it was bound, and its feedback lies whole on each "
                    "rank. Call fully_shard before plausible.bind, which then shards the feedback too."
                )
            # A copy: an optimiser may change a gradient in place, and would then do it twice.
            B.grad = None if grad is None else grad.clone()
