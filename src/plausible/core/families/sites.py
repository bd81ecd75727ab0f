"""The feedback of one weight, in the place of its layer's forward, or wherever else the weight meets activity."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core.context import Context
from plausible.core.products import Product, cast, conv_scale, fan_scale
from plausible.core.ranks import shared_as, whole
from plausible.core.uses import Kept
from plausible.functional import asymmetric
from plausible.functional.asymmetric import Geometry
from plausible.functional.random import generator

if TYPE_CHECKING:
    from plausible.core.families.transport import TransportRule


def layer_scale(layer: nn.Module) -> float:
    """Xiao et al.'s (2018) scale of a layer's feedback: √(2 / (k·C_out)) for a convolution with k taps, the
    standard deviation of He's fan-out initialisation, and 1/√fan_in, PyTorch's bound, for a linear layer.

    In a grouped convolution an input meets C_out / groups outputs, which is the fan-out taken here.
    """
    weight = layer.get_parameter("weight")
    if isinstance(layer, nn.modules.conv._ConvNd):
        return conv_scale(weight[:, 0], layer.groups)
    return fan_scale(weight.shape[1])


class TransportSite(nn.Module):
    """The feedback of one weight. Layers that share a weight share the site.

    Attributes:
        scale: the rule's scale times the layer's. A tensor without dimensions, since :func:`torch.copysign`
            wants a tensor, and one on the CPU combines with any device.
        used: whether an input has needed an error yet, hence feedback; the first layer's never does.
        called: whether a forward pass has come by yet.
        made_of: the model's names of the weight, or of what it is computed from.
        computed: whether it is computed, rather than a Parameter.
        prepared: what a rule has drawn for the next pass, if that is compiled.
    """

    def __init__(
        self,
        rule: "TransportRule",
        name: str,
        weight: Tensor,
        scale: float,
        context: Context,
        made_of: tuple[str, ...],
        *,
        computed: bool = False,
    ) -> None:
        super().__init__()
        self.rule, self.name, self.context, self.made_of, self.computed = rule, name, context, made_of, computed
        self.used = self.called = False
        self.prepared: Tensor | None = None
        scale = rule.scale * (scale if rule.per_layer else 1.0)
        self.scale = torch.tensor(scale, dtype=torch.float64)
        for key, value in rule.init(weight.detach(), partial(generator, rule.seed, name), scale).items():
            value = shared_as(value.to(weight.device, weight.dtype), weight)
            if rule.learns_feedback:
                self.register_parameter(key, nn.Parameter(value))
            else:
                self.register_buffer(key, value)

    def __getitem__(self, name: str) -> Tensor:
        """What the rule keeps for this weight, all of it (``get_buffer`` costs as much as a small operator)."""
        kept = self._buffers.get(name)
        return whole(self.get_parameter(name) if kept is None else kept)

    def feedback(self, weight: Tensor) -> Tensor:
        """B for W, as the backward pass uses it."""
        return self.rule.feedback(weight, self)

    def generator(self, device: torch.device) -> torch.Generator:
        """For what the rule draws anew in each call of ``learn``: the same within one call and on every rank."""
        return generator(self.rule.seed, self.name, self.context.iteration, device=device)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's response, with the feedback weight in its input gradient."""
        return respond(layer, self.meet(x), self.feedback)

    def answer(self, product: Product, kept: Kept | None, plain: Callable[[], Tensor]) -> Tensor:
        """See :class:`plausible.core.stands.Stand`."""
        others = tuple(self.meet(x) for x in product.others)
        if not any(x.requires_grad for x in others):
            return plain()
        return product.run(self.feedback if kept is None else lambda w: kept(self.feedback), *others)

    def meet(self, x: Tensor) -> Tensor:
        """``x``, which is about to be multiplied by the weight: what comes back of it passes through the wire."""
        if not self.called:  # assigning to a module's attribute costs as much as a small layer
            self.called = True
        if x.requires_grad and not self.used:  # noted here: torch.compile cannot trace an assignment in a backward
            self.used = True
        if self.context.tap is not None:
            x = self.context.tapped(f"{self.name}.feedback", x, self.name, "upstream")
        return x


def respond(layer: nn.Module, x: Tensor, feedback: asymmetric.Feedback) -> Tensor:
    """The response of a linear or convolutional layer to ``x``, with asymmetric feedback."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
    x, weight, bias = cast(x, weight, bias)
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return asymmetric.linear(x, weight, bias, feedback)
    x, padding = _padded(layer, x)
    geometry = Geometry(layer.stride, padding, layer.dilation, layer.groups)
    return asymmetric.conv(x, weight, bias, feedback, geometry)


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
