"""How the synapses of the dendritic microcircuit change by what meets at them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plausible.core.chain import Block
from plausible.rules.dendritic.circuit import Microcircuit, Moment

if TYPE_CHECKING:
    from plausible.rules.dendritic.microcircuit import DendriticMicrocircuit


def plasticity(
    rule: "DendriticMicrocircuit",
    blocks: Sequence[Block],
    circuits: Sequence[Microcircuit],
    moment: Moment,
    duration: float,
) -> None:
    """Add the plasticity of a moment, for ``duration`` ms, as a mean over the batch, to the ``grad`` of what learns.

    Where the layers' answers carry a graph, their synapses learn through it, so that probes see it.
    """
    g = rule.conductances
    weight = duration / len(moment.pre[0])
    for k, (block, v_B) in enumerate(zip(blocks, moment.basal, strict=True)):
        expected = block.activate(v_B.detach() * g.forward(output=block is blocks[-1]))
        post = (moment.fired[k] - expected) * weight
        if v_B.requires_grad:
            v_B.backward(-post)
        else:
            bias = block.layer.bias
            associate(
                block.layer.get_parameter("weight"), bias if isinstance(bias, Tensor) else None, post, moment.pre[k]
            )
    for k, (circuit, meet) in enumerate(zip(circuits, moment.inter, strict=True)):
        if rule.interneuron_rate:
            expected = blocks[k + 1].activate(meet.dendrite * g.inter)
            post = (meet.fired - expected) * (weight * rule.interneuron_rate * circuit.share / g.pull)
            associate(circuit.IP, circuit.IP_bias, post, moment.pre[k + 1])
        if rule.inhibition_rate:
            associate(circuit.PI, None, meet.apical * (-weight * rule.inhibition_rate), meet.heard)


def associate(weight: Tensor, bias: Tensor | None, post: Tensor, pre: Tensor) -> None:
    """Let synapses grow by post · preᵀ, summed over the batch: subtract it from what of their ``grad`` there is to be.

    Args:
        weight, bias: (n, m) and (n,), left alone where they require no gradient.
        post: (N, n).
        pre: (N, m).
    """
    if weight.requires_grad:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.addmm_(post.t().to(weight.dtype), pre.to(weight.dtype), alpha=-1)
    if bias is not None and bias.requires_grad:
        if bias.grad is None:
            bias.grad = torch.zeros_like(bias)
        bias.grad.sub_(post.sum(0))
