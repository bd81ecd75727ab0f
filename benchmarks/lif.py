"""What a layer of LIF neurons over time costs, forward and backward, beside snnTorch, Norse and SpikingJelly.

    pip install --no-deps snntorch norse nirtorch nir spikingjelly loguru
    python benchmarks/lif.py --json results/lif.json

Currents (T, N, n) go in, spikes come out, and the gradient of their sum against a fixed tensor goes back into the
currents: all of it with each package's own leak, reset and surrogate derivative, in eager mode. Two contenders take
turns in one process (see ``turns.py``); a ratio below 1 says that the scan of this package is faster.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

import torch
from contenders import Contender
from torch import Tensor
from turns import Duel, alone, keep, warm_up

from plausible.functional.neurons import Neurons
from plausible.functional.scan import scan

SHAPES = {"100 × 64 × 128": (100, 64, 128), "25 × 128 × 1000": (25, 128, 1000), "300 × 1 × 200": (300, 1, 200)}
"""Steps × streams × neurons."""

Layer = Callable[[Tensor], Tensor]


class Still:
    """An optimiser that has nothing to do."""

    def step(self) -> None:
        """Nothing."""


def ours(n: int) -> Layer:
    """The scan."""
    neurons = Neurons(n, tau=20e-3)
    return lambda current: scan(neurons, current)[0]


def ours_stepped(n: int) -> Layer:
    """The same neurons step by step, under autograd."""
    neurons = Neurons(n, tau=20e-3)

    def run(current: Tensor) -> Tensor:
        state, found = neurons.rest(current.shape[1], current), []
        for drive in current:
            state = neurons(state, drive)
            found.append(state.z)
        return torch.stack(found)

    return run


def snntorch(n: int) -> Layer:
    """``Leaky``, step by step as its tutorials have it."""
    neurons = import_module("snntorch").Leaky(beta=0.951, reset_mechanism="subtract")

    def run(current: Tensor) -> Tensor:
        state, found = neurons.init_leaky(), []
        for drive in current:
            z, state = neurons(drive, state)
            found.append(z)
        return torch.stack(found)

    return run


def norse(n: int) -> Layer:
    """``LIFBoxCell``, its plainest neuron, lifted over time."""
    torch_part = import_module("norse.torch")
    neurons = torch_part.Lift(torch_part.LIFBoxCell())
    return lambda current: neurons(current)[0]


def spikingjelly(n: int) -> Layer:
    """``LIFNode``, multi-step, with its default backend."""
    base = import_module("spikingjelly.activation_based")
    neuron, functional = (import_module(f"{base.__name__}.{part}") for part in ("neuron", "functional"))
    neurons = neuron.LIFNode(tau=20.0, step_mode="m", v_reset=None)

    def run(current: Tensor) -> Tensor:
        functional.reset_net(neurons)
        return neurons(current)

    return run


PEERS: dict[str, Callable[[int], Layer]] = {
    "plausible, step by step": ours_stepped,
    "snntorch": snntorch,
    "norse": norse,
    "spikingjelly": spikingjelly,
}


def contender(layer: Layer, current: Tensor, read: Tensor) -> Contender:
    """Forward and backward."""

    def learn() -> None:
        current.grad = None
        (layer(current) * read).sum().backward()

    return Contender(learn, Still(), [])  # type: ignore[arg-type]


def main() -> None:
    """Measure, print, save."""
    repeats, out = alone(__doc__ or "")
    warnings.simplefilter("ignore")
    found: dict[str, object] = {name: version(name) for name in ("torch", "snntorch", "norse", "spikingjelly")}
    for title, shape in SHAPES.items():
        torch.manual_seed(0)
        current, read = torch.randn(shape).add_(1).requires_grad_(), torch.randn(shape)
        mine = contender(ours(shape[2]), current, read)
        duels = {name: Duel(mine, contender(make(shape[2]), current, read)) for name, make in PEERS.items()}
        for duel in duels.values():
            warm_up(duel.theirs)
        count = warm_up(mine)
        for _ in range(repeats):
            for duel in duels.values():
                duel.meet(count)
        found[title] = {name: duel.result() for name, duel in duels.items()}
        for name, result in found[title].items():  # type: ignore[union-attr]
            wall = result["wall"]
            print(
                f"{title:18} scan to {name:24} {wall['median']:.2f} ({wall['low']:.2f} to {wall['high']:.2f}), "
                f"{1e3 * result['seconds']:.2f} ms",
                flush=True,
            )
        keep(found, out)


if __name__ == "__main__":
    main()
