"""Spiking error feedback from recorded spikes alone: every filter is a sum over the past with its kernel."""

import torch
from torch import Tensor

from plausible.audit.recording import recorded
from plausible.models import build

CLASSES, INPUTS, DT, TAU = 3, 6, 2e-3, 3e-3


def net(depth: int = 2, **options):
    torch.manual_seed(0)
    options = {"width": 9, "spread": 0.5, "cells": 4, "dt": DT, "synapse": TAU, "shown": 0.1, **options}
    model = build("lif-mlp", shape=(INPUTS,), classes=CLASSES, depth=depth, **options)
    with torch.no_grad():
        model.readout.weight.normal_(0, 0.5)
    return model.double()


def examples(n: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, INPUTS, generator=draw, dtype=torch.float64), torch.arange(n) % CLASSES


def filtered(u: Tensor, kernel: Tensor) -> Tensor:
    """Σ_s kernel(t − s) u(s), for u (T, …)."""
    return torch.stack([sum(kernel[t - s] * u[s] for s in range(t + 1)) for t in range(len(u))])


def alpha(T: int, tau: float = TAU) -> Tensor:
    """What t/τ² e^{−t/τ} makes of an input that lasts for one step, k steps later."""
    t = torch.arange(T + 1, dtype=torch.float64) * DT / tau
    return (1 - (1 + t) * (-t).exp()).diff()


def low_pass(T: int, tau: float) -> Tensor:
    """The same of e^{−t/τ} / τ."""
    t = torch.arange(T + 1, dtype=torch.float64) * DT / tau
    return (1 - (-t).exp()).diff()


class Observed:
    """One call of ``learn`` from rest: what entered each layer, and what passed each wire, (T, N, …) each."""

    def __init__(self, learner, x: Tensor, y) -> None:
        wires: dict[str, list[Tensor]] = {}

        def listen(name, message, *_):
            wires.setdefault(name, []).append(message.clone())
            return message

        learner.context.tap = listen
        with recorded(learner.model) as record:
            self.outcome = learner.learn(x, y)
        self.sent = {name: torch.stack(inputs) for name, inputs in record.inputs.items()}
        self.currents = {name: torch.stack(outputs) for name, outputs in record.outputs.items()}
        self.wires = {name: torch.stack(said) for name, said in wires.items()}
        self.grads = {name: p.grad for name, p in learner.model.named_parameters()}
