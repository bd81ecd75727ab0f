"""What a step of two networks of the NEF costs, beside nengo's reference simulator.

    python benchmarks/nef.py --json results/nef.json

A channel: two populations of n LIF neurons pass on d dimensions over a low-pass synapse. Hunsberger's network,
784-n-n-10 with on and off cells as sensors and its three error populations: ours learns at the same time, nengo's does
not. Steps are of 1 ms. nengo runs one stream; ours runs one, and many side by side, eager and compiled. Two take turns
in one process (see ``turns.py``); the ratio is that of the time per step *and stream*, so that below 1 ours is faster.
"""

from importlib.metadata import version

import nengo
import torch
from contenders import Contender
from lif import Still
from torch import Tensor
from torch.nn.functional import cross_entropy
from turns import Duel, alone, keep, warm_up

from plausible.core import bind
from plausible.functional.ensemble import Ensemble
from plausible.functional.lif import Membrane
from plausible.functional.synapses import LowPass
from plausible.models import build
from plausible.rules.spiking.relay import RelayLearner
from plausible.rules.spiking.to_nengo import to_nengo

STEPS, D = 50, 8
NEURONS = (200, 2000, 8000)
WIDTHS = (500,)
STREAMS = (1, 64)


def channel(n: int, streams: int, *, compiled: bool) -> Contender:
    """So many steps of so many streams."""
    first, second, synapse = Ensemble(n, D, seed=1), Ensemble(n, D, seed=2), LowPass(0.005)
    decoders = first.decoders().t().contiguous()
    x = torch.randn(streams, D) / D**0.5 / 2
    state = [None, None, torch.zeros(streams, D)]

    def step(a: Membrane | None, b: Membrane | None, read: Tensor) -> tuple[Membrane, Membrane, Tensor]:
        spikes, a = first(x, a)
        _, b = second(read, b)
        return a, b, synapse.step(read, spikes @ decoders, 1e-3)[0]

    take = torch.compile(step, fullgraph=True, dynamic=False) if compiled else step

    def run() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                state[:] = take(*state)

    return Contender(run, Still(), [])  # type: ignore[arg-type]


def their_channel(n: int) -> Contender:
    """The same steps of one stream, by nengo."""
    with nengo.Network(seed=1) as network:
        stimulus = nengo.Node([0.1] * D)
        first, second = nengo.Ensemble(n, D), nengo.Ensemble(n, D)
        nengo.Connection(stimulus, first, synapse=None)
        nengo.Connection(first, second, synapse=0.005)
    simulator = nengo.Simulator(network, progress_bar=False)
    return Contender(lambda: simulator.run_steps(STEPS, progress_bar=False), Still(), [])  # type: ignore[arg-type]


def _network(n: int) -> tuple[RelayLearner, Tensor]:
    """Hunsberger's, and images of noise (streams, 1, 28, 28)."""
    torch.manual_seed(0)
    model = build("lif-mlp", shape=(1, 28, 28), classes=10, width=n, depth=2, dt=1e-3, shown=STEPS * 1e-3)
    learner = bind(model, "nef-dfa", cross_entropy)
    assert isinstance(learner, RelayLearner)
    return learner, torch.randn(max(STREAMS), 1, 28, 28)


def network(n: int, streams: int, *, compiled: bool) -> Contender:
    """As many steps of so many streams, learning."""
    (learner, x), y = _network(n), torch.arange(streams) % 10
    if compiled:
        learner.compile()

    def run() -> None:
        learner.learn(x[:streams], y)
        learner.model.zero_grad()

    return Contender(run, Still(), [])  # type: ignore[arg-type]


def their_network(n: int) -> Contender:
    """The same steps of one stream, by nengo."""
    learner, x = _network(n)
    made, _ = to_nengo(learner, x[0], torch.eye(10)[0])
    simulator = nengo.Simulator(made, progress_bar=False)
    return Contender(lambda: simulator.run_steps(STEPS, progress_bar=False), Still(), [])  # type: ignore[arg-type]


CASES = {
    "channel": (NEURONS, channel, their_channel),
    "Hunsberger's network": (WIDTHS, network, their_network),
}


def main() -> None:
    """Measure, print, save."""
    repeats, out = alone(__doc__ or "")
    found: dict[str, object] = {name: version(name) for name in ("torch", "nengo")}
    for case, (sizes, ours, theirs) in CASES.items():
        for n in sizes:
            torch.compiler.reset()  # a size more is a compilation more, of which torch takes so many
            peer = theirs(n)
            duels = {
                (streams, how): Duel(ours(n, streams, compiled=how == "compiled"), peer)
                for streams in STREAMS
                for how in ("eager", "compiled")
            }
            count = warm_up(peer)
            for duel in duels.values():
                warm_up(duel.mine)
            for _ in range(repeats):
                for duel in duels.values():
                    duel.meet(count)
            for (streams, how), duel in duels.items():
                result = duel.result()
                wall = {key: value / streams for key, value in result["wall"].items()}  # type: ignore[union-attr]
                found[f"{case}, {n} neurons, {streams} streams, {how}"] = {"ratio": wall, "seconds": result["seconds"]}
                interval = f"{wall['low']:.3f} to {wall['high']:.3f}"
                print(f"{case}: {n:5} neurons, {streams:3} streams, {how:8}: {wall['median']:.3f} ({interval})")
            keep(found, out)


if __name__ == "__main__":
    main()
