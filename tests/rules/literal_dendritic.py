"""The dendritic microcircuit written out neuron by neuron, and the small nets that it is written out for."""

from itertools import pairwise

import numpy as np
import torch
from literal import Array, softmax
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.rules.dendritic.learner import MicrocircuitLearner

G = {"leak": 0.1, "basal": 1.0, "apical": 0.8, "dendritic": 1.0, "somatic": 0.8}
WEAK = {"apical": 0.1, "somatic": 0.1}


def net(sizes: tuple[int, ...] = (6, 8, 7, 4), *, readout: bool = False, seed: int = 0) -> nn.Sequential:
    """Sigmoid throughout, or with a plain readout; weights of the size of 1."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.Sigmoid()]
    model = nn.Sequential(*(layers[:-1] if readout else layers)).double()
    for p in model.parameters():
        nn.init.normal_(p, std=1.0)
    return model


def bound(model: nn.Module, loss=F.cross_entropy, **options) -> MicrocircuitLearner:
    rule = registry.make("dendritic-microcircuit", **options)
    learner = plausible.bind(model, rule, loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert isinstance(learner, MicrocircuitLearner)
    return learner


def stimulus(n: int = 3, n_in: int = 6) -> Tensor:
    return torch.randn(n, n_in, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def updates(learner: MicrocircuitLearner) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def update(learner: MicrocircuitLearner, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
    learner.zero_grad()
    learner.learn(x, y)
    return updates(learner)


class Literal:
    """One example, in plain loops over neurons; sigmoid everywhere, with a plain readout if ``readout``."""

    def __init__(self, learner: MicrocircuitLearner, x: Array, readout: bool) -> None:
        layers = [m for m in learner.model.modules() if isinstance(m, nn.Linear)]
        self.W = [m.weight.detach().numpy() for m in layers]
        self.b = [m.bias.detach().numpy() for m in layers]
        c = learner.circuits()
        self.IP, self.PI = [m.IP.detach().numpy() for m in c], [m.PI.detach().numpy() for m in c]
        self.bI, self.down = (
            [m.IP_bias.detach().numpy() for m in c if m.IP_bias is not None],
            [m.down.numpy() for m in c],
        )
        self.readout, self.L = readout, len(layers)
        self.change: dict[str, Array] = {}
        self.x = x
        # At rest without a teacher: attenuated, layer by layer; interneurons as the cells above.
        self.u, r = [], x
        for k in range(self.L):
            total = G["leak"] + G["basal"] + (G["apical"] if k < self.L - 1 else 0)
            self.u.append((self.W[k] @ r + self.b[k]) * G["basal"] / total)
            r = self.phi(self.u[k], k)
        self.uI = [u.copy() for u in self.u[1:]]

    def phi(self, u, k: int):
        return u if self.readout and k == self.L - 1 else 1 / (1 + np.exp(-u))

    def add(self, name: str, shape: tuple[int, ...], i, value: float) -> None:
        self.change.setdefault(name, np.zeros(shape))[i] += value

    def run(self, steps: int, dt: float, tau: float, nudge: str, label: int, rates: tuple[float, float]) -> None:
        teacher = self.u[-1].copy() if nudge == "target" else np.zeros_like(self.u[-1])
        for _ in range(steps):
            teacher = self.tick(dt, tau, nudge, label, teacher, rates)

    def tick(self, dt: float, tau: float, nudge: str, label: int, teacher: Array, rates: tuple[float, float]) -> Array:
        g, last = G, self.L - 1
        r = [self.x, *(self.phi(u, k) for k, u in enumerate(self.u))]
        new, newI, vB = [], [], []
        for k in range(self.L):
            W, u = self.W[k], np.empty(len(self.u[k]))
            vB.append(np.empty(len(self.u[k])))
            for i in range(len(u)):
                v = self.b[k][i] + sum(W[i, j] * r[k][j] for j in range(W.shape[1]))
                vB[k][i] = v
                if k < last:
                    rI = self.phi(self.uI[k], k + 1)
                    vA = sum(self.down[k][i, j] * r[k + 2][j] + self.PI[k][i, j] * rI[j] for j in range(len(rI)))
                    total = g["leak"] + g["basal"] + g["apical"]
                    goal = (g["basal"] * v + g["apical"] * vA) / total
                    for j in range(len(rI)):
                        self.add(f"PI{k}", self.PI[k].shape, (i, j), -dt * rates[1] * vA * rI[j])
                elif nudge == "target":
                    total = g["leak"] + g["basal"] + g["somatic"]
                    goal = (g["basal"] * v + g["somatic"] * teacher[i]) / total
                else:
                    total = g["leak"] + g["basal"]
                    goal = (g["basal"] * v - g["somatic"] * teacher[i]) / total
                u[i] = goal + (self.u[k][i] - goal) * np.exp(-total * dt)
                share = g["basal"] / (g["leak"] + g["basal"] + (g["apical"] if k < last else 0))
                grown = dt * (r[k + 1][i] - self.phi(share * v, k))
                self.add(f"b{k}", self.b[k].shape, i, grown)
                for j in range(W.shape[1]):
                    self.add(f"W{k}", W.shape, (i, j), grown * r[k][j])
            new.append(u)
        for k in range(last):
            uI = np.empty(len(self.uI[k]))
            for i in range(len(uI)):
                v = self.bI[k][i] + sum(self.IP[k][i, j] * r[k + 1][j] for j in range(len(r[k + 1])))
                total = g["leak"] + g["dendritic"] + g["somatic"]
                goal = (g["dendritic"] * v + g["somatic"] * self.u[k + 1][i]) / total
                uI[i] = goal + (self.uI[k][i] - goal) * np.exp(-total * dt)
                own = g["dendritic"] / (g["leak"] + g["dendritic"])
                above = g["basal"] / (g["leak"] + g["basal"] + (g["apical"] if k + 1 < last else 0))
                rate = rates[0] * (above / own) / (g["somatic"] / total)
                grown = dt * rate * (self.phi(self.uI[k][i], k + 1) - self.phi(own * v, k + 1))
                self.add(f"bI{k}", self.bI[k].shape, i, grown)
                for j in range(len(r[k + 1])):
                    self.add(f"IP{k}", self.IP[k].shape, (i, j), grown * r[k + 1][j])
            newI.append(uI)
        self.u, self.uI = new, newI
        if nudge == "target":
            goal = np.array([0.9 if i == label else -0.1 for i in range(len(teacher))])
        else:
            goal = softmax(vB[-1] * g["basal"] / (g["leak"] + g["basal"]))
            goal[label] -= 1
        return goal + (teacher - goal) * np.exp(-dt / tau)
