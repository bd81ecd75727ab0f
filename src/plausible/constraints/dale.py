"""Dale's law: all weights with which one cell reaches others have one sign, and no learning changes it.

Equation:
    at binding:  W ← c |W| D,    D = diag(s_j g_j),  c such that ‖W‖ is what it was        (Song et al. 2016)
                 s_j = −1 for the inhibitory part f of the presynaptic cells j, and +1 for all others
                 g_j = (1 − f)/f for inhibitory cells, 1 for all others: on average, a row sums to zero
    afterwards:  W_ij ← s_j max(s_j (W + ΔW)_ij, 0)                                        (Amit, Wong & Campbell 1989)

What it stands for:
    A cell releases the same transmitters at all its synapses, and so excites all that it reaches, or inhibits it. What
    learning would take across zero stays at zero: the nearest weight that keeps the law. Such a synapse is silent, and
    may come back. Its zero has the sign of its cell, which feedback that travels as signs can read.

Departures:
    Song et al. rectify a parameter that may go on below zero; here the weight itself stays at zero.
    A constraint is told a weight's name and shape, and not which cells it joins. Signs are drawn for each number of
    cells, from the seed alone: cells that send through several weights have one sign in all of them (a recurrent layer
    and the readout, the branches of a residual net), and populations of one size have one pattern. Where the number is
    not that of the cells the law is kept within one weight alone: a grouped convolution's groups share their signs, a
    depthwise one is all excitatory, and what is flattened counts positions. Dimension 1 is presynaptic, as in linear
    layers and convolutions; embeddings and transposed convolutions have it the other way round.
    Nor is it told which cells are sensors: they have signs as others do. That is the law where sensors send spikes or
    rates; an input that may be negative, as normalised pixels are, makes of it a restriction without a meaning.
    Decoders of a population of the NEF, such as the output's of lif-mlp, are tuning, no weights, and left alone.
    Feedback that is stored as B or M has the shape of the weight that it stands for, and is sent by its dimension 0.
    Who sends errors of both signs through it breaks the spirit of the law, whatever the weights are.

References: song2016, amit1989

@article{song2016,
  author  = {Song, H. Francis and Yang, Guangyu R. and Wang, Xiao-Jing},
  title   = {Training excitatory-inhibitory recurrent neural networks for cognitive tasks: A simple and flexible
             framework},
  journal = {PLoS Computational Biology},
  volume  = {12},
  number  = {2},
  pages   = {e1004792},
  year    = {2016}
}

@article{amit1989,
  author  = {Amit, Daniel J. and Wong, K. Y. Michael and Campbell, Colin},
  title   = {Perceptron learning with sign-constrained weights},
  journal = {Journal of Physics A: Mathematical and General},
  volume  = {22},
  number  = {12},
  pages   = {2039--2045},
  year    = {1989}
}
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plausible.core.constraint import MODEL, Access, Constraint, scale_of
from plausible.core.registry import constraints
from plausible.core.rule import require
from plausible.functional.random import generator


@constraints.register
@dataclass(frozen=True, kw_only=True)
class Dale(Constraint):
    """Each presynaptic cell keeps one sign.

    Attributes:
        on: as for every constraint, but the forward weights alone unless told otherwise.
        inhibitory: f, the fraction of a weight's presynaptic cells that inhibit; their number is rounded.
    """

    name = "dale"

    on: Literal["both", "forward", "feedback"] = "forward"
    inhibitory: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.inhibitory <= 1, self, "inhibitory", "a fraction lies between 0 and 1")

    def keep(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """Which presynaptic cells inhibit, bool in a shape that broadcasts with the weight's, and the weight's size."""
        dimension = _presynaptic(name)
        cells = weight.shape[dimension]
        order = torch.randperm(cells, generator=generator(self.seed, self.name, cells))
        inhibits = (order < round(self.inhibitory * cells)).to(weight.device)
        shape = [cells if k == dimension else 1 for k in range(weight.dim())]
        return {"inhibits": inhibits.reshape(shape), "scale": scale_of(self, name, weight)}

    def first(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """The weight's magnitudes with the cells' signs, balanced, and as large as before."""
        inhibits = access.kept["inhibits"]
        fewer = int(inhibits.sum())
        more = inhibits.numel() - fewer
        gain = more / fewer if more and fewer else 1.0
        balanced = torch.where(inhibits, -gain * after.abs(), after.abs())
        return balanced * (access.kept["scale"] / balanced.double().square().mean().sqrt().cpu())

    def store(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """The nearest weight that keeps the law; a zero has the sign of its cell."""
        sign = torch.where(access.kept["inhibits"], -1.0, 1.0).to(after)
        return torch.copysign((after * sign).clamp(min=0), sign)


def _presynaptic(name: str) -> int:
    """The dimension along which the cells lie that send through a weight."""
    stands_for_forward = not name.startswith(MODEL) and name.rpartition(".")[2].startswith(("B", "M"))
    return 0 if stands_for_forward else 1
