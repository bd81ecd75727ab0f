"""A chain of spiking populations that carries an error from the output to the layers.

    E_0 gets the error;   E_k gets D s_{k−1} over an alpha synapse, k = 1, 2, …          (Hunsberger 2018)

All are on and off cells, silent at zero error. E_0 teaches the readout, and each of the others one hidden layer, the
last layer first: so layer 1 hears of an error some synapses later than layer 2. What a population sends is spikes; the
cells that hear them weigh them by fixed decoders D and a fixed random B.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from plausible.core.attach import attach, plain_forward, refuse_if_bound
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.families.online import OnlineLearner, OnlineRule, Outer, Stepped
from plausible.core.rule import Loss, Rule
from plausible.functional import lif
from plausible.functional.ensemble import Ensemble
from plausible.functional.lif import Membrane, Population
from plausible.functional.nef import on_off
from plausible.functional.random import generator
from plausible.functional.synapses import Alpha, AlphaState, Delay, LowPass
from plausible.functional.tracing import untraced


class SpikingChain(Stepped, Protocol):
    """Layers of LIF neurons, one behind the other, as ``lif-mlp`` has them.

    Attributes:
        dt: length of a step, in seconds.
        hold: for how many steps a call shows its stimulus.
        synapse: of all connections.
        neurons: of the hidden layers.
        readout: the last layer.
    """

    dt: float
    synapse: Alpha
    hold: int
    neurons: Population
    readout: nn.Linear

    @property
    def hidden(self) -> dict[str, nn.Linear]:
        """The layers below the readout, by name, first to last."""
        ...


def spiking_chain(model: nn.Module, rule: Rule) -> SpikingChain:
    """The model, if it is such a chain, and free.

    Raises:
        ConfigurationError: a rule is bound to it.
        CoverageError: it is something else.
    """
    refuse_if_bound(model)
    # A protocol that is checked at run time would not do: from Python 3.12 on it does not find a module's children.
    if not (
        isinstance(model, Stepped) and all(hasattr(model, name) for name in (*SpikingChain.__annotations__, "hidden"))
    ):
        raise CoverageError(
            f"{rule.name} teaches layers of LIF neurons, one behind the other, and the model is a "
            f"{type(model).__name__}. Build a 'lif-mlp' (plausible.models.build)."
        )
    return cast(SpikingChain, model)


def random_feedback(net: SpikingChain, scale: float, seed: int, *key: int) -> dict[str, Tensor]:
    """B (d, n) by hidden layer, normal numbers; the mean norm of the weights that a cell gets is ``scale``.

    With a ``key``, others for each: drawn anew for every stimulus they carry no credit, which is a control.
    """
    found = {}
    for name, layer in net.hidden.items():
        B = torch.randn(net.readout.out_features, layer.out_features, generator=generator(seed, name, *key, "B"))
        found[name] = (B * (scale / B.norm(dim=0).mean())).to(layer.weight)
    return found


class Links(NamedTuple):
    """The state of the chain, all populations side by side.

    Attributes:
        under_way: errors (N, d) that were sent and have not arrived at the first population.
        membrane: (N, populations, cells) each.
        error: what their spikes stand for, (N, populations, d), with its filter.
    """

    under_way: tuple[Tensor, ...]
    membrane: Membrane
    error: AlphaState


class Chain(nn.Module):
    """The populations, and their feedback to the layers, at each of which it stands as the site.

    Args:
        net: the network.
        cells: of a population, for each dimension of the error.
        paired: whether decoders are the encoders times one number (``Ensemble.paired``), or those of least squares.
        scale: mean norm of the weights that a hidden cell gets from the error's dimensions.
        radius: the size of error that drives a cell at its greatest rate.
        intercept: cells begin to fire between 0 and this part of the radius.
        delay: of conduction from the output to the first population, in seconds.
        seed: of tuning and feedback.

    Attributes:
        taught: the layers in the order in which they hear of an error: the readout, the last hidden one, ….
    """

    sign: Tensor
    gain: Tensor
    bias: Tensor
    D: Tensor

    def __init__(
        self, net: SpikingChain, *, cells: int, paired: bool, scale: float, radius: float, intercept: float,
        delay: float, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.line = Delay.of(delay, net.dt)
        self.cell, self.dt, self.synapse, self.d = net.neurons.cell, net.dt, net.synapse, net.readout.out_features
        self.called, self.taught = False, ["readout", *reversed(net.hidden)]
        axes = on_off(cells * self.d, self.d)
        populations = [
            Ensemble(
                len(axes), self.d, cell=self.cell, dt=self.dt, radius=radius, max_rates=(100.0, 120.0),
                intercepts=(0.0, intercept), encoders=axes, seed=seed + k,
            )
            for k in range(len(self.taught))
        ]  # fmt: skip
        # Along axes, a cell's encoder comes down to a dimension and a sign.
        self.register_buffer("sign", axes.sum(1).float())
        self.register_buffer("gain", torch.cat([each.gain / radius for each in populations]))
        self.register_buffer("bias", torch.cat([each.bias for each in populations]))
        self.register_buffer("D", torch.stack([p.paired() if paired else p.decoders() for p in populations]))
        for name, B in random_feedback(net, scale, seed).items():
            self.register_buffer(f"B_{name}", B)
        self.to(net.readout.weight)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's own response: errors never reach a soma."""
        return plain_forward(layer, x)

    def rest(self, like: Tensor) -> Links:
        """The state when nothing has come through, for streams like ``like`` (N, d)."""
        N, K = len(like), len(self.taught)
        membrane, error = (
            self.cell.rest(N, K, len(self.sign), like=like),
            self.synapse.rest(like.new_zeros(N, K, self.d)),
        )
        return Links(self.line.rest(like), membrane, error)

    def step(self, learner: OnlineLearner, state: Links, error: Tensor) -> Links:
        """The next state when the error (N, d) is sent to the first population; to the next it takes a step more."""
        error, under_way = self.line.step(state.under_way, error)
        entering = torch.cat([error.unsqueeze(1), state.error.y[:, :-1]], 1)
        gain, bias = (tuning.view(len(self.taught), -1) for tuning in (self.gain, self.bias))
        current = entering.repeat(1, 1, len(self.sign) // self.d).mul_(self.sign)
        spikes, membrane = lif.step(self.cell, state.membrane, torch.addcmul(bias, current, gain), self.dt)
        sources = ["error", *(f"error of {name}" for name in self.taught)]
        heard = [
            learner.wire(f"{name}.error", each, source, name)
            for name, each, source in zip(self.taught, spikes.unbind(1), sources, strict=False)
        ]
        decoded = torch.stack([each @ D.t() for each, D in zip(heard, self.D, strict=True)], 1)
        return Links(under_way, membrane, self.synapse.step(state.error, decoded, self.dt)[1])

    def errors(self, state: Links, B: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """What each layer hears: the readout its errors (N, d), hidden cells each a random sum of them (N, n), by the
        chain's own feedback or another B (d, n)."""
        heard = dict(zip(self.taught, state.error.y.unbind(1), strict=True))
        return {
            name: error if name == "readout" else error @ (B[name] if B else self.get_buffer(f"B_{name}"))
            for name, error in heard.items()
        }


class RelayLearner(OnlineLearner):
    """A scan with a chain of error populations beside the network.

    Attributes:
        feedback: the chain.
    """

    def __init__(
        self, model: nn.Module, rule: OnlineRule, loss: Loss, *, cells: int, paired: bool, scale: float, radius: float,
        intercept: float, delay: float,
    ) -> None:  # fmt: skip
        net = spiking_chain(model, rule)
        loop = delay + 2 * net.synapse.tau * (2 * len(net.hidden) + 2)  # an alpha synapse delays by 2 τ on average
        if 1 < net.hold < loop / net.dt:
            raise ConfigurationError(
                f"{rule.name}: a stimulus is shown for {net.hold * net.dt:g} s, and its error is back at the first "
                f"layer after {loop:g} s, when another is shown. Show each for longer (shown={4 * loop:g}), or call "
                "learn for each step (shown=dt), as often as you like."
            )
        super().__init__(model, rule, loss)
        self.feedback = Chain(
            net, cells=cells, paired=paired, scale=scale, radius=radius, intercept=intercept, delay=delay,
            seed=rule.seed,
        )  # fmt: skip
        for layer in (*net.hidden.values(), net.readout):
            attach(layer, self.feedback)

    @property
    def spiking(self) -> SpikingChain:
        """The model, as what binding has seen it to be."""
        return cast(SpikingChain, self.model)

    @untraced
    def redrawn(self, scale: float) -> dict[str, Tensor]:
        """B (d, n) of this call alone, by hidden layer: a control."""
        return random_feedback(self.spiking, scale, self.rule.seed, self.context.iteration)

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        note = "Errors go down in spikes, population by population, and reach synapses only."
        return {**super().report(), "covered": [*self.spiking.hidden, "readout"], "note": note}


def silent(net: SpikingChain, N: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
    """Traces of N streams in which no spike has come by: of what enters each layer, the readout last, (N, n_in); of the
    cells of each hidden layer, (N, n); and of the readout, (N, d)."""
    like, layers = net.readout.weight, [*net.hidden.values(), net.readout]
    entering = tuple(like.new_zeros(N, layer.in_features) for layer in layers)
    *hidden, readout = (like.new_zeros(N, layer.out_features) for layer in layers)
    return entering, tuple(hidden), readout


def traced(traces: Iterable[Tensor], values: Iterable[Tensor], tau: float, dt: float) -> tuple[Tensor, ...]:
    """A step of dt seconds of low-pass filters with the time constant tau, in seconds."""
    return tuple(LowPass(tau).step(trace, value, dt)[0] for trace, value in zip(traces, values, strict=True))


def centred(
    traces: tuple[Tensor, ...], usual: tuple[Tensor, ...], tau: float, dt: float
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(the traces less what is usual, what is usual then): their mean over the time constant tau, in seconds.

    With a tau of 0 nothing is taken off.
    """
    if tau == 0:
        return traces, usual
    usual = traced(usual, traces, tau, dt)
    return tuple(trace - mean for trace, mean in zip(traces, usual, strict=True)), usual


def entering(state: Any) -> list[Tensor]:
    """The spikes that each layer of a net in this state hears in the next step, the readout last."""
    return [state.seen, *(cells.spikes for cells in state.hidden)]


def products(posts: Mapping[str, Tensor], pres: Sequence[Tensor], *, hidden: bool) -> dict[str, Tensor | Outer]:
    """What a step adds to the weights and biases of layers: by layer, postᵀ pre, and for the bias a pre of 1.

    Args:
        posts: (N, n) by layer, first to last.
        pres: (N, n_in), in the same order.
        hidden: whether the layers before the last learn.
    """
    pairs = list(zip(posts.items(), pres, strict=True))[0 if hidden else -1 :]
    weights = {f"{name}.weight": Outer(post, pre) for (name, post), pre in pairs}
    return {**weights, **{f"{name}.bias": post.sum(0) for (name, post), _ in pairs}}
