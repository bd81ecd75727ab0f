"""What the dendritic microcircuit is made of: interneurons and apical dendrites, their synapses, and their state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core.attach import layer_type, plain_forward
from plausible.core.chain import Block
from plausible.core.errors import CoverageError
from plausible.core.families.online import each
from plausible.core.rule import Rule
from plausible.functional.dendrites import attenuation
from plausible.functional.random import generator

ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Softplus, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Hardswish),
)
"""Nonlinearities that a cell can have: of its own potential alone."""


@dataclass(frozen=True, kw_only=True)
class Conductances:
    """What joins the compartments of a cell, per membrane capacitance, in 1/ms.

    Attributes:
        leak: g_lk, of every soma.
        basal: g_B, of a pyramidal cell's basal dendrite.
        apical: g_A, of its apical dendrite; output cells have none.
        dendritic: g_D, of an interneuron's dendrite.
        somatic: g_som, through which the cells above nudge interneurons, and the teacher the output.
    """

    leak: float
    basal: float
    apical: float
    dendritic: float
    somatic: float

    def forward(self, *, output: bool) -> float:
        """The share of the basal potential that reaches a pyramidal soma if nothing nudges it: v̂_B / v_B."""
        return attenuation(self.leak, self.basal, *([] if output else [self.apical]))

    @property
    def inter(self) -> float:
        """The same for an interneuron: v̂^I / v^I."""
        return attenuation(self.leak, self.dendritic)

    @property
    def pull(self) -> float:
        """λ: how far the cell above pulls an interneuron from its own prediction: u^I = (1 − λ) v̂^I + λ u."""
        return attenuation(self.leak, self.somatic, self.dendritic)

    def pyramidal(self, basal: Tensor, apical: Tensor | None) -> tuple[tuple[float, Tensor], ...]:
        """What a pyramidal soma receives, as (conductance, potential) of each input; no apical potential is 0."""
        return (self.basal, basal), (self.apical, torch.zeros_like(basal) if apical is None else apical)

    def interneuron(self, dendrite: Tensor, above: Tensor) -> tuple[tuple[float, Tensor], ...]:
        """The same for an interneuron."""
        return (self.dendritic, dendrite), (self.somatic, above)

    def output(self, basal: Tensor, teacher: Tensor | None, *, current: bool) -> tuple[tuple[float, Tensor], ...]:
        """The same for an output cell. A teacher is a potential, or an error, of which a current is the negative."""
        if teacher is None:
            return ((self.basal, basal),)
        if current:  # through no conductance of its own
            return ((self.basal, basal.sub(teacher, alpha=self.somatic / self.basal)),)
        return (self.basal, basal), (self.somatic, teacher)


class Microcircuit(nn.Module):
    """What the pyramidal cells of hidden layer k meet besides their input: interneurons, one for each cell above.

    It starts in the self-predicting state, where the interneurons' inhibition cancels what comes down. This copies the
    forward weight above, once, when the rule is bound.

    It stands at layer k (see :mod:`plausible.core.attach`), so that it goes where the model goes.

    Attributes:
        name, above: of layer k and of layer k + 1.
        share: v̂_B / v_B of the cells above, relative to v̂^I / v^I: the W^IP of self-prediction is that times W^up.
        IP: (n_{k+1}, n_k) W^IP, from the pyramidal cells to the interneurons; ``IP_bias`` (n_{k+1},) goes with it.
        PI: (n_k, n_{k+1}) W^PI, from the interneurons to the apical dendrites.
        down: (n_k, n_{k+1}) W^down, from the cells above to the apical dendrites; fixed.
    """

    down: Tensor

    def __init__(self, g: Conductances, name: str, above: Block, *, output: bool, scale: float, seed: int) -> None:
        super().__init__()
        self.called = False
        self.name, self.above = name, above.name
        self.share = g.forward(output=output) / g.inter
        up = above.layer.get_parameter("weight").detach()
        bias = above.layer.bias
        draw = generator(seed, name, "down")
        self.register_buffer("down", (torch.randn(up.t().shape, generator=draw) * scale / len(up) ** 0.5).to(up))
        self.IP = nn.Parameter(self.share * up)
        self.IP_bias = nn.Parameter(self.share * bias.detach()) if isinstance(bias, Tensor) else None
        self.PI = nn.Parameter(-self.down)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's own response: basal dendrites do not hear of what is here."""
        return plain_forward(layer, x)

    def predict(self, r: Tensor) -> Tensor:
        """v^I (N, n_{k+1}), the interneurons' dendrites, from the rates r (N, n_k) of their own layer."""
        return F.linear(r, self.IP, self.IP_bias)

    def apical(self, top: Tensor, r_inter: Tensor) -> Tensor:
        """v_A (N, n_k), from the rates of the cells above and of the interneurons, both (N, n_{k+1})."""
        return F.linear(top, self.down) + F.linear(r_inter, self.PI)


class State(NamedTuple):
    """What the circuit's cells remember; one row for each stream.

    Attributes:
        input: (N, n_0), the slow stimulus.
        pyramidal: u_k (N, n_k) of each layer, the output's last.
        inter: u^I_k (N, n_{k+1}) of each hidden layer.
        teacher: (N, n_L), the slow teacher.
        forgotten: (N,) bool, the streams that start afresh.
    """

    input: Tensor
    pyramidal: tuple[Tensor, ...]
    inter: tuple[Tensor, ...]
    teacher: Tensor
    forgotten: Tensor

    def after(self, old: "State") -> "State":
        """The state of streams that go on from ``old``, but for those forgotten, which start as this one."""
        old = each(lambda t: t.to(self.input) if t.is_floating_point() else t.to(self.input.device), old)
        if not old.forgotten.any():
            return old

        def pick(new: Tensor, kept: Tensor) -> Tensor:
            return torch.where(old.forgotten.unsqueeze(1), new, kept)

        return State(
            pick(self.input, old.input),
            tuple(map(pick, self.pyramidal, old.pyramidal)),
            tuple(map(pick, self.inter, old.inter)),
            pick(self.teacher, old.teacher),
            self.forgotten,
        )


class Interneurons(NamedTuple):
    """What meets at the synapses onto the interneurons of a hidden layer, and from them.

    Attributes:
        dendrite: v^I (N, n_{k+1}).
        fired: φ(u^I) (N, n_{k+1}).
        heard: the same, as it reached the apical dendrites.
        apical: v_A (N, n_k) there.
    """

    dendrite: Tensor
    fired: Tensor
    heard: Tensor
    apical: Tensor


@dataclass
class Moment:
    """What meets at the synapses at one time: what decides how they change.

    Attributes:
        pre: r_0 to r_{L−1}, presynaptic to each layer.
        basal: v_B of each layer, as its module answered.
        pyramidal: u of each layer.
        fired: φ(u) of each layer.
        inter: of each hidden layer.
    """

    pre: list[Tensor]
    basal: list[Tensor]
    pyramidal: list[Tensor]
    fired: list[Tensor]
    inter: list[Interneurons]


def check(blocks: Sequence[Block], rule: Rule) -> None:
    """Raise a :class:`CoverageError` unless every block is a matrix and a nonlinearity of single cells."""
    for place, block in enumerate(blocks):
        if layer_type(block.layer) is not nn.Linear:
            raise CoverageError(
                f"{rule.name}: {block.name!r} is a {type(block.layer).__name__}, and the circuit's populations are "
                "joined by matrices. Take a model of Linear layers, such as mlp, or another rule, such as fa or dfa."
            )
        for module in block.before if place == 0 else ():
            if not isinstance(module, (nn.Flatten, nn.Identity)):
                raise CoverageError(_foreign(rule, block, module, "Before the first layer only flattening has a place"))
        for module in block.after:
            if not isinstance(module, ELEMENTWISE):
                raise CoverageError(_foreign(rule, block, module, "A cell fires by its own potential alone"))


def _foreign(rule: Rule, block: Block, module: nn.Module, why: str) -> str:
    return (
        f"{rule.name}: the block of {block.name!r} has a {type(module).__name__}. {why}. Leave it out of the model, or "
        "take a rule that follows any graph, such as fa or dfa."
    )
