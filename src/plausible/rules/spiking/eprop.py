"""Eligibility propagation (e-prop): each synapse keeps a trace of what it did; broadcast errors make it learn at once.

Equation:
    ∂W_ji = Σ_t L_j^t LP_κ[e_ji^t],    L_j^t = Σ_k B_jk (y_k^t − y*_k^t)                  (Bellec et al. 2020, Methods)
    LIF:    e_ji = ψ_j ε_i,                  ε_i = LP_α[z_i]
    ALIF:   e_ji = ψ_j (ε_i − β_j ε^a_ji),   ε^a_ji ← ψ_j ε_i + (ρ − ψ_j β_j) ε^a_ji
    LP_α is a low-pass filter that forgets as the membrane does, LP_κ one that forgets as the readout does;
    ψ_j = ∂z_j/∂v_j is the pseudo-derivative of the spike, zero while the neuron is refractory.

What travels:
    Forward, spikes z (N, n). Back, at every step, the error of the readout (N, n_out) to every neuron: through a fixed
    random B (n_out, n); with feedback="symmetric" through the readout's weight; with "adaptive" through a B that takes
    every step that the readout's weight takes. Nothing is stored but the traces, however long the sequence.

Departures:
    y − y* is the gradient of the loss at this step: softmax(y) − one-hot under cross-entropy, at each step, not only in
    a recall period. A net whose output is its mean readout is thus taught the mean of the steps' cross-entropies, which
    bounds that of the mean. The sum over the steps is not divided by their number. Input biases learn as the weights of
    an input that is always 1. Firing rates are not regularised. No neuron learns to drive itself, as in the authors'
    code.

Reference: bellec2020

@article{bellec2020,
  author  = {Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and Salaj, Darjan and
             Legenstein, Robert and Maass, Wolfgang},
  title   = {A solution to the learning dilemma for recurrent networks of spiking neurons},
  journal = {Nature Communications},
  volume  = {11},
  pages   = {3625},
  year    = {2020}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from plausible.core.attach import attach, plain_forward, refuse_if_bound
from plausible.core.errors import CoverageError
from plausible.core.families.online import OnlineLearner, OnlineRule, State, Teaching, stepped
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held, require, tunable
from plausible.functional.eligibility import Trace, advance, blank, taught
from plausible.functional.neurons import Leak, Neurons, low_pass
from plausible.functional.random import generator

Part = TypeVar("Part", bound=nn.Module)

PARTS = {"input": nn.Linear, "recurrent": nn.Linear, "neurons": Neurons, "readout": nn.Linear, "leak": Leak}
"""What a net consists of that e-prop teaches, by name."""

TAUGHT = {"input.weight", "input.bias", "recurrent.weight", "readout.weight", "readout.bias"}


class Memory(NamedTuple):
    """What the synapses of the net remember.

    Attributes:
        psi: (N, n), ψ of the last step.
        input: of the input weights, and in the last place the bias.
        recurrent: of the recurrent weights.
        readout: (N, n + 1), LP_κ of the spikes, and of the constant 1 that drives the bias.
    """

    psi: Tensor
    input: Trace
    recurrent: Trace
    readout: Tensor


@register
@dataclass(frozen=True, kw_only=True)
class EligibilityPropagation(OnlineRule):
    """Eligibility traces times learning signals.

    Attributes:
        feedback: what carries the error back: a fixed random matrix, the readout's own weight, or a matrix that
            starts at random and takes every step that the readout's weight takes.
        scale: multiplies the random feedback, which is N(0, 1).
    """

    name = "eprop"
    model = "rsnn"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=True,
        additive=True,
        paper="bellec2020",
        events="forward",
        tolerates_delay=True,
        stores_sequence=False,
    )
    literature = held("Y Y N Y Y N ? Y N")
    because: ClassVar[Mapping[str, str]] = {
        "spiking": "All that goes forward is spikes. The error that is broadcast is graded, in the paper too, whose "
        "spikes are those of the neurons that compute.",
    }

    feedback: Literal["random", "symmetric", "adaptive"] = "random"
    scale: float = tunable(1.0, 0.1, 10.0, log=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "a teaching signal needs a positive scale")

    @property
    def needs_optimizer(self) -> bool:
        """Adaptive feedback is stepped by the optimiser that steps the readout."""
        return super().needs_optimizer or self.feedback == "adaptive"

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "EligibilityLearner":
        """Bind to a recurrent spiking net in place. An example is not needed.

        Raises:
            CoverageError: the model is not built of the parts, or has others that can be trained.
        """
        refuse_if_bound(model)
        stepped(model, self)
        children = dict(model.named_children())
        for name, kind in PARTS.items():
            if not isinstance(children.get(name), kind):
                raise CoverageError(
                    f"{self.name} teaches nets of {', '.join(f'{k} ({v.__name__})' for k, v in PARTS.items())}; the "
                    f"model, a {type(model).__name__}, has no such {name!r}. Build an 'rsnn' (plausible.models.build)."
                )
        other = [name for name, p in model.named_parameters() if p.requires_grad and name not in TAUGHT]
        if other:
            raise CoverageError(
                f"{self.name} cannot teach {other[0]!r}: it knows {', '.join(sorted(TAUGHT))}. Freeze it with "
                "requires_grad_(False)."
            )
        return EligibilityLearner(model, self, loss)

    def rest(self, learner: OnlineLearner, x: Tensor) -> Memory:
        """No spike has come by yet."""
        neurons, enter = part(learner.model, "neurons", Neurons), part(learner.model, "input", nn.Linear)
        N, like = len(x), enter.weight
        inputs = blank(neurons, N, enter.in_features + 1, like)
        between = blank(neurons, N, neurons.n, like)
        return Memory(like.new_zeros(N, neurons.n), inputs, between, like.new_zeros(N, neurons.n + 1))

    def step(
        self, learner: OnlineLearner, state: tuple[State, Memory], x_t: Tensor, teaching: Teaching
    ) -> tuple[tuple[State, Memory], Tensor, dict[str, Tensor]]:
        """See :meth:`OnlineRule.step`."""
        assert isinstance(learner, EligibilityLearner)
        neurons, kappa = part(learner.model, "neurons", Neurons), part(learner.model, "leak", Leak).kappa
        before, memory = state
        after, y = learner.net.step(before, x_t)
        psi = neurons.slope(after.neurons.v, after.neurons.a, before.neurons.r)
        one = y.new_ones(len(y), 1)
        inputs = advance(neurons, memory.input, torch.cat([x_t, one], 1), psi, memory.psi, kappa)
        between = advance(neurons, memory.recurrent, before.neurons.z, psi, memory.psi, kappa)
        readout = low_pass(memory.readout, torch.cat([after.neurons.z, one], 1), kappa)

        error = teaching.error(y)
        signal = error @ learner.feedback_weight().to(error)
        enter = taught(learner.wire("input.learning_signal", signal, "output", "input"), inputs)
        within = taught(learner.wire("recurrent.learning_signal", signal, "output", "recurrent"), between)
        leave = error.t() @ readout
        updates = {
            "input.weight": enter[:, :-1],
            "input.bias": enter[:, -1],
            "recurrent.weight": within.fill_diagonal_(0),
            "readout.weight": leave[:, :-1],
            "readout.bias": leave[:, -1],
        }
        return (after, Memory(psi, inputs, between, readout)), y, updates


def part(net: nn.Module, name: str, kind: type[Part]) -> Part:
    """The part of that name, which binding has seen to be of that kind."""
    found = net.get_submodule(name)
    assert isinstance(found, kind)
    return found


class Feedback(nn.Module):
    """Stands at the readout, and holds B (n_out, n) where it is not the readout's own weight."""

    B: Tensor

    def __init__(self, rule: EligibilityPropagation, readout: nn.Linear) -> None:
        super().__init__()
        self.called = False
        if rule.feedback != "symmetric":
            B = torch.randn(readout.weight.shape, generator=generator(rule.seed, "readout", "B")) * rule.scale
            B = B.to(readout.weight)
            if rule.feedback == "adaptive":
                self.register_parameter("B", nn.Parameter(B))
            else:
                self.register_buffer("B", B)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The readout's own response."""
        return plain_forward(layer, x)


class EligibilityLearner(OnlineLearner):
    """A scan with eligibility traces."""

    rule: EligibilityPropagation  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, model: nn.Module, rule: EligibilityPropagation, loss: Loss) -> None:
        super().__init__(model, rule, loss)
        readout = part(model, "readout", nn.Linear)
        self.feedback = nn.ModuleDict({"readout": Feedback(rule, readout)})
        attach(readout, part(self.feedback, "readout", Feedback))

    def feedback_weight(self) -> Tensor:
        """B (n_out, n), through which the error goes back."""
        if self.rule.feedback == "symmetric":
            return part(self.model, "readout", nn.Linear).weight.detach()
        return part(self.feedback, "readout", Feedback).B.detach()

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """See :meth:`Learner.feedback_weights`."""
        return {"readout": (part(self.model, "readout", nn.Linear).weight.detach(), self.feedback_weight())}

    def param_groups(self) -> list[dict[str, Any]]:
        """Adaptive feedback, to be stepped like the readout's weight."""
        like, names = self.model.get_parameter("readout.weight"), ["feedback.readout.B"]
        return [{"params": [B], "param_names": names, "like": like} for B in self.feedback.parameters()]

    def before_step(self) -> None:
        """Give adaptive feedback the gradient of the readout's weight."""
        super().before_step()
        grad = self.model.get_parameter("readout.weight").grad
        for B in self.feedback.parameters():
            # A copy: an optimiser may change a gradient in place, and would then do it twice.
            B.grad = None if grad is None else grad.clone()

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        note = "The readout's own update is exact, online. No neuron learns to drive itself."
        return {**super().report(), "covered": ["input", "recurrent", "readout"], "note": note}
