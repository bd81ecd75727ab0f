"""Rules that send the error back layer by layer, through another weight than the forward one.

The family owns the machinery: attachment to the layers, the asymmetric operators, padding, autocast.
A rule says what stands in the weight's place.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core.attach import attach, refuse_if_bound
from plausible.core.context import Context
from plausible.core.coverage import Coverage, check_reached, survey
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher, require, tunable
from plausible.functional import asymmetric
from plausible.functional.random import generator


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
    def feedback(self, weight: Tensor, state: "TransportSite") -> Tensor:
        """The feedback weight, in the shape of ``weight``; called in each backward pass."""

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """What the rule keeps for this weight, by name; drawn on the CPU from ``draw(name)``."""
        return {}

    def adapt(self, layer: nn.Module, state: "TransportSite") -> None:
        """Change the feedback weight after an optimiser step, if the rule does."""
        return

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "TransportLearner":
        """Bind to ``model`` in place. An example is not needed.

        Raises:
            CoverageError: a trainable module that the rule cannot teach.
        """
        refuse_if_bound(model)
        return TransportLearner(model, self, loss, survey(model, self, self.uncovered))


def layer_scale(layer: nn.Module) -> float:
    """Xiao et al.'s (2018) scale of a layer's feedback: √(2 / (k·C_out)) for a convolution with k taps, the
    standard deviation of He's fan-out initialisation, and 1/√fan_in, PyTorch's bound, for a linear layer.

    In a grouped convolution an input meets C_out / groups outputs, which is the fan-out taken here.
    """
    weight = layer.get_parameter("weight")
    if isinstance(layer, nn.modules.conv._ConvNd):
        return (2 * layer.groups / (prod(weight.shape[2:]) * weight.shape[0])) ** 0.5
    return weight.shape[1] ** -0.5


class TransportSite(nn.Module):
    """The feedback of one weight. Layers that share a weight share the site.

    Attributes:
        scale: the rule's scale times the layer's. A tensor without dimensions, since :func:`torch.copysign`
            wants a tensor, and one on the CPU combines with any device.
        used: whether an input has needed an error yet, hence feedback; the first layer's never does.
        called: whether a forward pass has come by yet.
    """

    def __init__(self, rule: TransportRule, name: str, layer: nn.Module, context: Context) -> None:
        super().__init__()
        self.rule, self.name, self.context = rule, name, context
        self.used = self.called = False
        weight = layer.get_parameter("weight")
        scale = rule.scale * (layer_scale(layer) if rule.per_layer else 1.0)
        self.scale = torch.tensor(scale, dtype=torch.float64)
        for key, value in rule.init(weight.detach(), partial(generator, rule.seed, name), scale).items():
            value = value.to(weight)
            if rule.learns_feedback:
                self.register_parameter(key, nn.Parameter(value))
            else:
                self.register_buffer(key, value)

    def __getitem__(self, name: str) -> Tensor:
        """What the rule keeps for this weight (``get_buffer`` costs as much as a small operator)."""
        kept = self._buffers.get(name)
        return self.get_parameter(name) if kept is None else kept

    def feedback(self, weight: Tensor) -> Tensor:
        """B for W, as the backward pass uses it."""
        return self.rule.feedback(weight, self)

    def generator(self, device: torch.device) -> torch.Generator:
        """For what the rule draws anew in each call of ``learn``: the same within one call and on every rank."""
        return generator(self.rule.seed, self.name, self.context.iteration, device=device)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's response, with the feedback weight in its input gradient."""
        if not self.called:  # assigning to a module's attribute costs as much as a small layer
            self.called = True
        if x.requires_grad and not self.used:  # noted here: torch.compile cannot trace an assignment in a backward
            self.used = True
        if self.context.tap is not None:
            x = self.context.tapped(f"{self.name}.feedback", x, self.name, "upstream")
        return respond(layer, x, self.feedback)


def respond(layer: nn.Module, x: Tensor, feedback: asymmetric.Feedback) -> Tensor:
    """The response of a linear or convolutional layer to ``x``, with asymmetric feedback."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        # A custom function is opaque to autocast: cast as it would (float64 never), where autograd sees the casts.
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return asymmetric.linear(x, weight, bias, feedback)
    x, padding = _padded(layer, x)
    return asymmetric.conv(
        x, weight, bias, feedback, stride=layer.stride, padding=padding, dilation=layer.dilation, groups=layer.groups
    )


def _padded(layer: nn.modules.conv._ConvNd, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The input and the zero padding left for the operator; what the operator cannot pad is padded here."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, layer.padding
    ends = layer._reversed_padding_repeated_twice
    before, after = ends[-2::-2], ends[::-2]
    if layer.padding_mode == "zeros" and before == after:
        return x, tuple(before)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, ends, mode=mode), (0,) * len(before)


class TransportLearner(Learner):
    """An ordinary backward pass through asymmetric layers."""

    rule: TransportRule

    def __init__(self, model: nn.Module, rule: TransportRule, loss: Loss, coverage: Coverage) -> None:
        super().__init__(model, rule, loss)
        self.coverage = coverage
        self.feedback = nn.ModuleDict()
        shared: dict[int, TransportSite] = {}
        layers = list(coverage.layers.items())
        for name, layer in layers[:-1] if rule.last_layer == "backprop" else layers:
            weight = layer.get_parameter("weight")
            if id(weight) not in shared:
                shared[id(weight)] = TransportSite(rule, name, layer, self.context)
                self.feedback[_key(name)] = shared[id(weight)]
            attach(layer, shared[id(weight)])

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
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
                for site, layer in self.sites():
                    self.rule.adapt(layer, site)

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        names = list(self.coverage.layers)
        last = names[-1:] if self.rule.last_layer == "backprop" else []
        return {
            "covered": [n for n in names if n not in last],
            "exact": self.coverage.exact,
            "backprop": last + self.coverage.passed,
            "note": "Normalisation layers and embeddings keep their exact gradient, as in the paper."
            if self.coverage.exact
            else "",
        }

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W, B) of each site, in W's shape; sites whose feedback no backward pass has used are left out."""
        with torch.no_grad():
            return {
                site.name: (w := layer.get_parameter("weight").detach(), self.rule.feedback(w, site).detach())
                for site, layer in self.sites()
                if site.used
            }

    def sites(self) -> list[tuple[TransportSite, nn.Module]]:
        """Each site with the layer whose weight it serves (the first of them, where several share it)."""
        sites = [site for site in self.feedback.values() if isinstance(site, TransportSite)]
        return [(site, self.coverage.layers[site.name]) for site in sites]


def _key(name: str) -> str:
    # A module's key may not contain a dot; a state_dict reads well with slashes.
    return name.replace(".", "/") or "model"
