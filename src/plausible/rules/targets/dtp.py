"""Difference target propagation (DTP): inverse nets carry a target down, corrected by what they get wrong.

Equation:
    ĥ_{L−1} = h_{L−1} − α ∂L/∂h_{L−1},    ĥ_l = h_l + g_{l+1}(ĥ_{l+1}) − g_{l+1}(h_{l+1})        (Lee et al. 2015)
    block l descends ‖f_l(h_{l−1}) − ĥ_l‖², the output layer the loss;
    g_l descends ‖g_l(f_l(h̃)) − h̃‖²,    h̃ = h_{l−1} + σ ε,  ε ~ N(0, 1),  l = 2 … L−1

What travels:
    The output error comes to the last hidden layer through the output layer's own weights: α ∂L/∂h_{L−1} is a step of
    back-propagation. From there on down, targets travel through the inverse nets; no forward weight and no derivative
    does.

Departures:
    ∂L/∂h is of each example's own loss, so that α does not depend on the batch size (the loss is taken to be a mean
    over examples). In Lee et al.'s code it is of the mean over 100 examples: its α = .328 is .0033 here. Defaults are
    those of Bartunov et al. (2018) for parallel training, and so is the inverse nets' Glorot initialisation. An inverse
    net is dense, also where its block is convolutional, and ends with the nonlinearity of the block whose activity it
    gives back. The papers alternate by epochs: ``alternate`` counts calls of ``learn``.

Reference: lee2015

@inproceedings{lee2015,
  author    = {Lee, Dong-Hyun and Zhang, Saizheng and Fischer, Asja and Bengio, Yoshua},
  title     = {Difference target propagation},
  booktitle = {Machine Learning and Knowledge Discovery in Databases (ECML PKDD)},
  pages     = {498--515},
  year      = {2015}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plausible.core.families.target import TargetLearner, TargetRule, Top
from plausible.core.registry import register
from plausible.core.rule import Claims, require, tunable


@register
@dataclass(frozen=True, kw_only=True)
class DifferenceTargetPropagation(TargetRule):
    """Targets by inverse nets, the first by the loss's gradient.

    Attributes:
        alpha: α, how far the first target lies down the gradient of an example's loss.
    """

    name = "dtp"
    claims = Claims(
        reads="error",
        forward_weights="full",
        derivatives_travel=False,
        phases=3,
        online=False,
        additive=True,
        paper="lee2015",
    )
    literature: ClassVar[Mapping[str, str]] = {
        "weight transport": "partly",
        "derivative transport": "solved",
        "linear feedback": "solved",
        "spiking": "violated",
        "timing": "violated",
        "target": "violated",
        "weight sharing": "solved",
        "BPTT": "solved",
        "Dale's law": "violated",
    }
    because: ClassVar[Mapping[str, str]] = {
        "weight transport": "The target of the last hidden layer is a step along the loss's gradient, which reads the "
        "output layer's weights; all updates below follow from that target. Other forward weights do not travel.",
        "linear feedback": "The same first step, a gradient, is a signed number without bound. Only below it do the "
        "inverse nets bend what travels.",
    }
    inverts_output = False
    denoises = False

    alpha: float = tunable(0.15, 1e-3, 1.0, log=True)
    noise: float = tunable(0.36, 0.01, 1.0, log=True)
    inverse_lr: float = tunable(7.7e-4, 1e-5, 1e-1, log=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha > 0, self, "alpha", "a target has to lie somewhere down the gradient")

    def top(self, learner: TargetLearner, top: Top) -> Tensor:
        """A step down the gradient."""
        (gradient,) = torch.autograd.grad(top.output, top.h, top.error, retain_graph=True)
        return top.h - self.alpha * gradient
