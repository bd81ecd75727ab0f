"""Dendritic microcircuit (Microcircuit): a cell's error is what interneurons leave, in its apical dendrite, of the
messages from above.

Equation:
    du_k/dt = −g_lk u_k + g_B (v_B,k − u_k) + g_A (v_A,k − u_k)                        (Sacramento et al. 2018)
    v_B,k = W^up_k r_{k−1} + b_k,    v_A,k = W^down_k r_{k+1} + W^PI_k φ(u^I_k),    r_k = φ(u_k)
    du^I_k/dt = −g_lk u^I_k + g_D (W^IP_k r_k − u^I_k) + g_som (u_{k+1} − u^I_k)
    du_L/dt = −g_lk u_L + g_B (v_B,L − u_L) + g_som (u_trgt − u_L)
    dW^up_k/dt = η (φ(u_k) − φ(v̂_B,k)) r_{k−1}ᵀ,    v̂_B,k = g_B / (g_lk + g_B + g_A) v_B,k    (g_A = 0 at the output)
    dW^IP_k/dt = η_IP (φ(u^I_k) − φ(g_D / (g_lk + g_D) v^I_k)) r_kᵀ,    dW^PI_k/dt = −η_PI v_A,k φ(u^I_k)ᵀ

What travels:
    At all times, r_{k+1} (N, n_{k+1}) goes down to the apical dendrites of layer k through a fixed random W^down, and
    u_{k+1} (N, n_{k+1}) pulls on the interneurons of layer k, one to one. The teacher pulls on the output cells all the
    time that there is one. Nobody waits for anybody, and plasticity is never switched off.

Departures:
    η is the optimiser's; what ``grad`` gets is the integral of the plasticity over the call. Stimulus and teacher
    change slowly, with the time constant tau; synapses have no low-pass filter of their own, and somata no noise. A
    stream without a past starts where its stimulus would have brought it without a teacher. Interneurons have biases
    where the cells above have. η_IP is such that W^IP takes W^up's steps, as it must if interneurons are to go on
    predicting cells whose synapses change: to first order in the nudge, and under an optimiser that is linear in the
    gradients, as SGD is with momentum or without. (Under Adam, interneurons fall behind, and their errors drown the
    teacher's.) η_PI is 0, since W^PI = −W^down stays right. The teacher is a target potential, as in the paper, or
    with nudge="error" a current −g_som ∂loss/∂v̂_L. With dynamics="steady-state", one sweep up and one down stand for
    the equations, an approximation of the authors' for MNIST; its rates of change are taken for as long as the
    equations would have run. It takes two phases in the place of one: what is said of the rule is said of the
    equations.

Reference: sacramento2018

@inproceedings{sacramento2018,
  author    = {Sacramento, João and Ponte Costa, Rui and Bengio, Yoshua and Senn, Walter},
  title     = {Dendritic cortical microcircuits approximate the backpropagation algorithm},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {31},
  year      = {2018}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from plausible.core.attach import refuse_if_bound
from plausible.core.chain import chain
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, Rule, held, require, tunable
from plausible.rules.dendritic.circuit import Conductances, check
from plausible.rules.dendritic.learner import MicrocircuitLearner


@register
@dataclass(frozen=True, kw_only=True)
class DendriticMicrocircuit(Rule):
    """Pyramidal cells with apical dendrites, and interneurons that predict the cells above.

    Attributes:
        dynamics: "equations" integrates them, and the state goes on from call to call; "steady-state" is the authors'
            approximation.
        nudge: "target" pulls the output to a potential: ``high`` for the cell of the label and ``low`` for the others,
            or the teacher itself where it is no label; "error" injects the loss's gradient as a current.
        high, low: the potentials that a target pulls to.
        leak, basal, apical, dendritic, somatic: conductances, as in
            :class:`~plausible.rules.dendritic.circuit.Conductances`.
        scale: W^down is N(0, scale² / n_{k+1}).
        interneuron_rate: η_IP, relative to the rate at which W^IP takes W^up's steps; 0 leaves W^IP as it is.
        inhibition_rate: η_PI, relative to η.
        dt: step of the integration, in ms.
        steps: of the integration in one call.
        tau: time constant of stimulus and teacher, in ms.
        sweeps: of the steady-state approximation; one is the authors', and many find the equilibrium.
    """

    name = "dendritic-microcircuit"
    claims = Claims(
        reads="target",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=True,
        additive=True,
        paper="sacramento2018",
        tolerates_delay=True,
    )
    literature: ClassVar[Mapping[str, str]] = held("Y ~ Y N Y N Y Y ~")
    because: ClassVar[Mapping[str, str]] = {
        "derivative transport": "No update reads a derivative: plasticity compares φ(u) with φ(v̂), and what comes down "
        "is a difference of rates. The literature's reserve is a cell's own derivative at its own synapses, which "
        "is local.",
        "linear feedback": "Rates come down to the apical dendrites. But an interneuron is nudged by the potential of "
        "a cell above, which is signed and unbounded, and so is what output cells without a nonlinearity send.",
        "Dale's law": "Nothing keeps the weights of a cell at one sign. The literature's half point is for inhibition "
        "by cells of its own, the interneurons, whose weights have both signs here too, as in the paper's simulations.",
    }

    dynamics: Literal["equations", "steady-state"] = "equations"
    nudge: Literal["target", "error"] = "target"
    high: float = 1.0
    low: float = 0.0
    leak: float = 0.1
    basal: float = 1.0
    apical: float = tunable(0.8, 0.1, 2.0, log=True)
    dendritic: float = 1.0
    somatic: float = tunable(0.8, 0.1, 2.0, log=True)
    scale: float = tunable(1.0, 0.1, 10.0, log=True)
    interneuron_rate: float = 1.0
    inhibition_rate: float = 0.0
    dt: float = 0.1
    steps: int = 100
    tau: float = 1.0
    sweeps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("leak", "basal", "apical", "dendritic", "somatic", "dt", "tau", "scale"):
            require(getattr(self, name) > 0, self, name, "it must be positive")
        for name in ("interneuron_rate", "inhibition_rate"):
            require(getattr(self, name) >= 0, self, name, "a rate is not negative")
        for name in ("steps", "sweeps"):
            require(getattr(self, name) >= 1, self, name, "there must be one at least")
        require(self.high > self.low, self, "high", "the label's cell must be pulled above the others")

    @property
    def conductances(self) -> Conductances:
        """All five."""
        return Conductances(
            leak=self.leak, basal=self.basal, apical=self.apical, dendritic=self.dendritic, somatic=self.somatic
        )

    @property
    def needs_optimizer(self) -> bool:
        """Interneurons that do not learn along would no longer cancel what comes down."""
        return super().needs_optimizer or self.interneuron_rate > 0 or self.inhibition_rate > 0

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> MicrocircuitLearner:
        """Bind to a chain of linear layers and nonlinearities. An example is not needed.

        Raises:
            CoverageError: the model is something else.
        """
        refuse_if_bound(model)
        check(chain(model, self), self)
        return MicrocircuitLearner(model, self, loss)
