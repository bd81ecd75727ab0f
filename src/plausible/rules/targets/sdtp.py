"""Simplified difference target propagation (SDTP): the label is the first target; no gradient leaves the output layer.

Equation:
    ĥ_L = y* (one-hot), h_L = softmax(a_L),    ĥ_l = h_l + g_{l+1}(ĥ_{l+1}) − g_{l+1}(h_{l+1})    (Bartunov et al. 2018)
    block l descends ‖f_l(h_{l−1}) − ĥ_l‖², the output layer the loss;
    g_l descends ‖g_l(f_l(h_{l−1} + σ ε)) − h_{l−1}‖²,    ε ~ N(0, 1),  l = 2 … L

What travels:
    The label goes to the output layer; from there on down, targets travel through the inverse nets, the output layer's
    included. No forward weight, no derivative and no error does.

Departures:
    The defaults are the paper's for parallel training of fully connected nets. An inverse net is dense, also where its
    block is convolutional, and ends with the nonlinearity of the block whose activity it gives back. The paper
    alternates by epochs: ``alternate`` counts calls of ``learn``.

Reference: bartunov2018

@inproceedings{bartunov2018,
  author    = {Bartunov, Sergey and Santoro, Adam and Richards, Blake A. and Marris, Luke and Hinton, Geoffrey E. and
               Lillicrap, Timothy P.},
  title     = {Assessing the scalability of biologically-motivated deep learning algorithms and architectures},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {31},
  year      = {2018}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from plausible.core.errors import ConfigurationError
from plausible.core.families.target import TargetLearner, TargetRule, Top
from plausible.core.registry import register
from plausible.core.rule import Claims, tunable


@register
@dataclass(frozen=True, kw_only=True)
class SimplifiedDifferenceTargetPropagation(TargetRule):
    """Targets by inverse nets, the first by the label."""

    name = "sdtp"
    claims = Claims(
        reads="label",
        forward_weights="none",
        derivatives_travel=False,
        phases=3,
        online=False,
        additive=True,
        paper="bartunov2018",
        feedback="bounded",
    )
    literature: ClassVar[Mapping[str, str]] = {
        "weight transport": "solved",
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
        "linear feedback": "The inverse nets are nonlinear, and bounded where the model's activations are. Their "
        "targets have both signs, though, which no rate has: half a solution.",
    }
    inverts_output = True
    denoises = True

    noise: float = tunable(0.21, 0.01, 1.0, log=True)
    inverse_lr: float = tunable(1.1e-3, 1e-5, 1e-1, log=True)

    def read(self, output: Tensor) -> Tensor:
        """Probabilities of the classes: what can be equal to the label."""
        return torch.softmax(output, -1)

    def top(self, learner: TargetLearner, top: Top) -> Tensor:
        """What the inverse net of the output layer makes of the label.

        Raises:
            ConfigurationError: the teacher is no tensor of class indices.
        """
        y, output = top.y, top.output
        if not isinstance(y, Tensor) or y.is_floating_point() or y.shape != output.shape[:-1]:
            got = f"a tensor of shape {tuple(y.shape)} and {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise ConfigurationError(
                "sdtp sets the label as the output's target, and needs class indices of shape "
                f"{tuple(output.shape[:-1])}; it got {got}. For other targets take dtp, which asks the loss alone."
            )
        label = F.one_hot(y, output.shape[-1]).to(output)
        label = learner.wire("target", label, "teacher", "output")
        inverse = learner.inverse(learner.blocks[-1])
        return self.target(label, self.read(output), top.h, inverse)
