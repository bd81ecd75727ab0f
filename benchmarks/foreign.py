"""Other people's learners behind the audit's door: each factory builds one anew from a package as released.

``plausible audit --target benchmarks.foreign:biotorch_fa``, from the root of the repository, audits one, and
``python -m benchmarks.foreign_table`` all. The packages are no dependencies of ours:
``pip install --no-deps biotorch==0.0.16 snntorch==1.0.0 spikingjelly==2.0.0 loguru torch-pc==0.1.0``.

All learn the digits data: x (N, 1, 8, 8), y (N,). What a step does follows the package's own examples.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.audit import Foreign

STEPS = 8
"""Time steps that a spiking net sees an image for."""


def _perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10))


# ------------------------------------------------------------------------------------------------------- biotorch


def _biotorch(mode: str) -> Foreign:
    from biotorch.module.biomodule import BioModule

    warnings.filterwarnings("ignore", "Using a non-full backward hook", FutureWarning)
    with contextlib.redirect_stdout(io.StringIO()):
        model = BioModule(_perceptron(), mode=mode, output_dim=10)

    def step(x: Tensor, y: Tensor) -> None:
        F.cross_entropy(model(x, targets=y, loss_function=F.cross_entropy), y).backward()

    return Foreign(model, step, respond=model.module)


def biotorch_backprop() -> Foreign:
    """Its layers with back-propagation."""
    return _biotorch("backpropagation")


def biotorch_fa() -> Foreign:
    """Feedback alignment."""
    return _biotorch("fa")


def biotorch_usf() -> Foreign:
    """Uniform sign-concordant feedback."""
    return _biotorch("usf")


def biotorch_dfa() -> Foreign:
    """Direct feedback alignment."""
    return _biotorch("dfa")


# ------------------------------------------------------------------------------------------------------- snntorch


class _Leaky(nn.Module):
    def __init__(self) -> None:
        import snntorch

        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in ((64, 48), (48, 32), (32, 10)))
        self.cells = nn.ModuleList(snntorch.Leaky(beta=0.9) for _ in self.layers)

    def forward(self, x: Tensor) -> Tensor:
        potentials = [cell.reset_mem() for cell in self.cells]
        total: Tensor | float = 0.0
        for _ in range(STEPS):
            h = x.flatten(1)
            for i, (layer, cell) in enumerate(zip(self.layers, self.cells, strict=True)):
                h, potentials[i] = cell(layer(h), potentials[i])
            total = total + potentials[-1]
        return torch.as_tensor(total) / STEPS


def snntorch_bptt() -> Foreign:
    """Leaky integrate-and-fire cells, a surrogate gradient through time, Adam, as in its tutorials."""
    model = _Leaky()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return Foreign(model, step)


# --------------------------------------------------------------------------------------------------- spikingjelly


def _jelly(cell: str) -> Foreign:
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.learning import online_learning

    lif = getattr(neuron, cell)
    make = layer.OTTTSequential if cell == "OTTTLIFNode" else nn.Sequential
    model = make(nn.Linear(64, 48), lif(), nn.Linear(48, 32), lif(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Tensor, y: Tensor) -> None:
        functional.reset_net(model)
        images = x.flatten(1).unsqueeze(1).expand(-1, STEPS, -1)
        labels = F.one_hot(y, 10).to(x.dtype).unsqueeze(1).expand(-1, STEPS, -1)
        online_learning.ottt_online_training(model, optimizer, images, labels, F.cross_entropy, online=False)

    def respond(x: Tensor) -> Tensor:
        functional.reset_net(model)
        return torch.stack([_first(model(x.flatten(1))) for _ in range(STEPS)]).mean(0)

    return Foreign(model, step, respond=respond, reset=lambda: functional.reset_net(model))


def _first(output: Tensor | Sequence[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def spikingjelly_ottt() -> Foreign:
    """Online training through time (Xiao et al. 2022)."""
    return _jelly("OTTTLIFNode")


def spikingjelly_sltt() -> Foreign:
    """Spatial learning through time (Meng et al. 2023)."""
    return _jelly("SLTTLIFNode")


def spikingjelly_stdp() -> Foreign:
    """Two layers under pair-based STDP, which looks at no label."""
    from spikingjelly.activation_based import functional, learning, neuron

    model = nn.Sequential(
        nn.Linear(64, 48, bias=False), neuron.LIFNode(), nn.Linear(48, 10, bias=False), neuron.LIFNode()
    )
    with torch.no_grad():
        for i in (0, 2):
            model[i].weight.abs_().mul_(2)  # so that both layers spike
    learners = [
        learning.STDPLearner(step_mode="s", synapse=model[i], sn=model[i + 1], tau_pre=2.0, tau_post=4.0)
        for i in (0, 2)
    ]

    def step(x: Tensor, y: Tensor) -> None:
        for each in (*learners, model):
            functional.reset_net(each)
        with torch.no_grad():
            for _ in range(STEPS):
                model((torch.rand_like(x) < x.sigmoid()).to(x.dtype).flatten(1))
                for each in learners:
                    each.step(on_grad=True)

    def respond(x: Tensor) -> Tensor:
        functional.reset_net(model)
        return torch.stack([model(x.flatten(1)) for _ in range(STEPS)]).mean(0)

    return Foreign(model, step, respond=respond)


# ------------------------------------------------------------------------------------------------------- torch-pc


def torch_pc() -> Foreign:
    """Predictive coding with its own training loop, which moves the weights in place."""
    from torch_pc import PCNetwork, train_pcn

    warnings.filterwarnings("ignore", "User provided device_type of 'cuda'", UserWarning)
    model = PCNetwork([64, 48, 32], 10)

    def step(x: Tensor, y: Tensor) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            train_pcn(model, [(x, y)], 1, eta_infer=0.05, eta_learn=0.005, infer_steps=20, T_learn=1, device="cpu")  # pyright: ignore[reportArgumentType]

    def respond(x: Tensor) -> Tensor:
        h = x.flatten(1)
        for layer in model.layers:  # upwards through its top-down weights, as its to_bp() does
            h = layer.activation_fn(h @ layer.W)
        return model.readout(h)

    return Foreign(model, step, respond=respond)


FACTORIES: dict[Callable[[], Foreign], str] = {
    biotorch_backprop: "biotorch",
    biotorch_fa: "biotorch",
    biotorch_usf: "biotorch",
    biotorch_dfa: "biotorch",
    snntorch_bptt: "snntorch",
    spikingjelly_ottt: "spikingjelly",
    spikingjelly_sltt: "spikingjelly",
    spikingjelly_stdp: "spikingjelly",
    torch_pc: "torch-pc",
}
"""Everything there is, and the package that it is from."""
