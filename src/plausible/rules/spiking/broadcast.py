"""One error for all: the output's error goes straight to every layer of a spiking chain, over fixed random weights.

The weights lie at the synapses that are taught, in the cells that hear the error. Errors reach no soma.
"""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from plausible.core.attach import attach, plain_forward
from plausible.core.families.online import OnlineLearner, OnlineRule
from plausible.core.rule import Loss
from plausible.rules.spiking.relay import SpikingChain


class Broadcast(nn.Module):
    """The feedback weights; stands at each layer as its site.

    Args:
        net: the network.
        weights: B (d, n) by hidden layer.
    """

    def __init__(self, net: SpikingChain, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.called = False
        for name, B in weights.items():
            self.register_buffer(f"B_{name}", B)
        self.to(net.readout.weight)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's own response."""
        return plain_forward(layer, x)

    def heard(self, errors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the cells of each layer make of its errors (N, d): hidden ones a random sum (N, n) each, those of the
        readout their own."""
        return {
            name: error if name == "readout" else error @ self.get_buffer(f"B_{name}") for name, error in errors.items()
        }


class BroadcastLearner(OnlineLearner):
    """A scan with feedback from the output to all layers.

    Attributes:
        feedback: its weights.
    """

    def __init__(self, model: nn.Module, rule: OnlineRule, loss: Loss, feedback: Broadcast) -> None:
        super().__init__(model, rule, loss)
        self.feedback = feedback
        for layer in (*self.spiking.hidden.values(), self.spiking.readout):
            attach(layer, feedback)

    @property
    def spiking(self) -> SpikingChain:
        """The model, as what binding has seen it to be."""
        return cast(SpikingChain, self.model)

    @property
    def taught(self) -> list[str]:
        """The layers, first to last."""
        return [*self.spiking.hidden, "readout"]

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        note = "One error goes straight to all layers, and reaches synapses only."
        return {**super().report(), "covered": self.taught, "note": note}
