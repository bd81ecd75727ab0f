"""A recurrent spiking net as a literal loop over time, neurons and synapses left to autograd, and nothing of ours."""

from math import exp

import torch
from torch import Tensor
from torch.nn import functional as F

from plausible.models import build

PHYSICS = {"dt": 1e-3, "tau": 5e-3, "tau_a": 12e-3, "tau_out": 4e-3, "threshold": 0.3, "beta": 0.11, "gamma": 0.3}
ALPHA, RHO, KAPPA = exp(-1 / 5), exp(-1 / 12), exp(-1 / 4)


def net(width: int = 7, adaptive: int = 0, refractory: float = 0.0, output: str = "mean", seed: int = 0, n_in: int = 5):
    """A small net for sequences (N, T, n_in), three outputs, float64; with biases that are not zero."""
    torch.manual_seed(seed)
    options = {"width": width, "adaptive": adaptive, "refractory": refractory, "output": output}
    model = build("rsnn", shape=(n_in,), classes=3, **options, **PHYSICS).double()
    with torch.no_grad():
        for layer in (model.input, model.readout):
            layer.bias.normal_(0, 0.3)
    return model


def sequences(n: int = 4, steps: int = 14, n_in: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn(n, steps, n_in, generator=draw, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=draw)


def spike(u: Tensor) -> Tensor:
    """H(u) forward; backward the slope γ max(0, 1 − |u|), as the derivative of its integral u − u |u| / 2."""
    c = u.clamp(-1, 1)
    soft = 0.3 * (c - c * c.abs() / 2)
    return (u > 0).to(u) + soft - soft.detach()


def run(model, x: Tensor, *, adaptive: int = 0, silent: int = 0, stop: bool = True) -> dict[str, Tensor]:
    """Spikes z and voltages v (N, T, n), readouts y (N, T, n_out), silence (N, T, n), in loops over time.

    stop: whether gradients stop at spikes that act on other neurons and on the reset, as e-prop's do.
    """
    p = dict(model.named_parameters())
    n = p["recurrent.weight"].shape[0]
    thr, beta = 0.3, torch.tensor([0.0] * (n - adaptive) + [0.11] * adaptive, dtype=torch.float64)
    v = a = z = torch.zeros(len(x), n, dtype=torch.float64)
    y = torch.zeros(len(x), 3, dtype=torch.float64)
    last = torch.full((len(x), n), -1000)
    seen: dict[str, list[Tensor]] = {"z": [], "v": [], "y": [], "silent": []}
    for t in range(x.shape[1]):
        act = z.detach() if stop else z
        current = x[:, t] @ p["input.weight"].T + p["input.bias"] + act @ p["recurrent.weight"].T
        a = RHO * a + z
        v = ALPHA * v + (1 - ALPHA) * current - thr * act
        z = spike((v - (thr + beta * a)) / thr)
        hush = t - last <= silent
        z = torch.where(hush, torch.zeros_like(z), z)
        last = torch.where(z.detach() > 0, t, last)
        y = KAPPA * y + (1 - KAPPA) * (z @ p["readout.weight"].T + p["readout.bias"])
        for key, value in zip(("z", "v", "y", "silent"), (z, v, y, hush), strict=True):
            seen[key].append(value)
    return {key: torch.stack(values, 1) for key, values in seen.items()}


def eprop(model, x: Tensor, label: Tensor, B: Tensor, **options) -> dict[str, Tensor]:
    """e-prop's updates by autograd with stopped gradients: Σ_t over steps, cross-entropy's mean over streams."""
    seen = run(model, x, **options)
    y = seen["y"].detach().requires_grad_()
    loss = sum(F.cross_entropy(y[:, t], label) for t in range(x.shape[1]))
    (error,) = torch.autograd.grad(loss, y)
    through = torch.zeros_like(y[:, 0])
    total = torch.zeros((), dtype=torch.float64)
    for t in range(x.shape[1]):  # the readout that B would give: its gradient is that of e-prop's learning signal
        through = KAPPA * through + (1 - KAPPA) * seen["z"][:, t] @ B.T
        total = total + (error[:, t] * through).sum()
    hidden = ["input.weight", "input.bias", "recurrent.weight"]
    found = dict(zip(hidden, torch.autograd.grad(total, [model.get_parameter(k) for k in hidden]), strict=True))
    found["recurrent.weight"].fill_diagonal_(0)
    leave = ["readout.weight", "readout.bias"]
    exact = run(model, x, **options)["y"]
    loss = sum(F.cross_entropy(exact[:, t], label) for t in range(x.shape[1]))
    found.update(zip(leave, torch.autograd.grad(loss, [model.get_parameter(k) for k in leave]), strict=True))
    return found
