"""Rules that send the error back layer by layer, through another weight than the forward one.

The family owns the machinery: attachment to whatever multiplies by a weight, the asymmetric operators, padding,
autocast. A rule says what stands in the weight's place.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from plausible.core.attach import attach, full_name, refuse_if_bound
from plausible.core.coverage import Coverage, check_reached, survey
from plausible.core.families.sites import TransportSite, layer_scale
from plausible.core.learner import Learner
from plausible.core.ranks import whole
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher, require, tunable
from plausible.core.stands import RecurrentSite, UsesSite


@dataclass(frozen=True, kw_only=True)
class TransportRule(Rule):
    """A rule that replaces the weight in each layer's input gradient.

    Attributes:
        scale: multiplies the feedback weights.
        per_layer: multiply them by Xiao's scale of the layer as well (see :func:`layer_scale`).
        last_layer: "rule" lets the error enter the net through feedback weights; "backprop" lets it enter
            through the output layer's own weight (Xiao's ablation). The output layer's own update is exact
            either way.
        uncovered: what to do with a trainable module that the rule cannot teach.
    """

    scale: float = tunable(1.0, 0.1, 10.0, log=True)
    per_layer: bool = True
    last_layer: Literal["rule", "backprop"] = "rule"
    uncovered: Literal["error", "backprop"] = "error"

    learns_feedback: ClassVar[bool] = False
    """Whether what :meth:`init` draws is trained by the user's optimiser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "feedback weights need a positive scale")

    @abc.abstractmethod
    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """The feedback weight, in the shape of ``weight``; called in each backward pass."""

    def prepare(self, weight: Tensor, state: TransportSite) -> None:
        """Draw what :meth:`feedback` would draw: called before each compiled pass, in which nothing can be drawn,
        for each weight that is a Parameter."""
        return

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """What the rule keeps for this weight, by name; drawn on the CPU from ``draw(name)``."""
        return {}

    def adapt(self, layer: nn.Module, state: TransportSite) -> None:
        """Change the feedback weight after an optimiser step, if the rule does."""
        return

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "TransportLearner":
        """Bind to ``model`` in place. An example is needed where weights are used outside of layers that are known.

        Raises:
            CoverageError: a trainable module that the rule cannot teach, or of which only an example could tell.
        """
        refuse_if_bound(model)
        return self.learner(model, loss, survey(model, self, self.uncovered, example, anywhere=True))

    def learner(self, model: nn.Module, loss: Loss, coverage: Coverage) -> "TransportLearner":
        """What :meth:`bind` binds."""
        return TransportLearner(model, self, loss, coverage)


class TransportLearner(Learner):
    """An ordinary backward pass through asymmetric layers."""

    rule: TransportRule
    one_backward = True

    def __init__(self, model: nn.Module, rule: TransportRule, loss: Loss, coverage: Coverage) -> None:
        super().__init__(model, rule, loss)
        self.coverage = coverage
        self._prepares = False
        self.feedback = nn.ModuleDict()
        made: dict[int, TransportSite] = {}  # by weight, which layers may share

        def make(
            name: str, weight: Tensor, scale: float, made_of: tuple[str, ...], *, computed: bool = False
        ) -> TransportSite:
            if id(weight) not in made:
                made[id(weight)] = TransportSite(rule, name, weight, scale, self.context, made_of, computed=computed)
                self.feedback[_key(name)] = made[id(weight)]
            return made[id(weight)]

        layers = list(coverage.layers.items())
        for name, layer in layers[:-1] if rule.last_layer == "backprop" else layers:
            weight = layer.get_parameter("weight")
            attach(layer, make(name, weight, layer_scale(layer), (full_name(name, "weight"),)))
        for name, layer in coverage.recurrent.items():
            attach(layer, RecurrentSite(layer, name, make))
        for name, within in coverage.uses.items():
            attach(model.get_submodule(name), UsesSite(model, name, within, make))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """See :meth:`Learner.compile`."""
        super().compile(*args, **kwargs)
        self._prepares = type(self.rule).prepare is not TransportRule.prepare

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        if self._prepares:
            with torch.no_grad():
                for site in self.sites():
                    if not site.computed:
                        self.rule.prepare(self.weight(site), site)
        output = self(x)
        loss = self.loss(output, y)
        if self.context.tap is not None and isinstance(output, Tensor):
            output.register_hook(lambda error: self.wire("error", error, "teacher", "output"))
        loss.backward()
        if self.context.iteration == 0:
            check_reached(self.coverage, self.rule)
        return Outcome(loss.detach(), output.detach() if isinstance(output, Tensor) else output)

    def after_step(self) -> None:
        """Let the rule change its feedback weights."""
        super().after_step()
        if type(self.rule).adapt is not TransportRule.adapt:
            with torch.no_grad():
                for site in self.sites():
                    self.rule.adapt(self.coverage.layers[site.name], site)

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        last = list(self.coverage.layers)[-1:] if self.rule.last_layer == "backprop" else []
        return {
            "covered": [n for n in self.coverage.covered if n not in last],
            "exact": self.coverage.exact,
            "backprop": last + self.coverage.passed,
            "note": "Normalisation layers, embeddings, and what scales or shifts keep their exact gradient."
            if self.coverage.exact
            else "",
        }

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W, B) of each site, in W's shape; sites whose feedback no backward pass has used are left out, and so is
        what is computed anew in each pass."""
        with torch.no_grad():
            return {
                site.name: (w := whole(self.weight(site).detach()), self.rule.feedback(w, site).detach())
                for site in self.sites()
                if site.used and not site.computed
            }

    def sites(self) -> list[TransportSite]:
        """One for each weight."""
        return [site for site in self.feedback.values() if isinstance(site, TransportSite)]

    def weight(self, site: TransportSite) -> nn.Parameter:
        """The Parameter that a site serves."""
        return self.model.get_parameter(site.made_of[0])


def _key(name: str) -> str:
    # A module's key may not contain a dot; a state_dict reads well with slashes.
    return name.replace(".", "/") or "model"
