"""Our own models as graphs, and a graph as our own model."""

from collections.abc import Iterator
from copy import deepcopy
from functools import singledispatch
from itertools import pairwise
from math import exp, inf, log
from typing import TypeVar

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.functional.lif import Population
from plausible.functional.neurons import Leak, Neurons
from plausible.models.nir.graph import Graph, key
from plausible.models.nir.neurons import Firing, Integrator, Scale
from plausible.models.spiking import RecurrentSpikingNet

Layer = TypeVar("Layer", nn.Linear, nn.Linear | nn.Conv2d)

RECURRENT = ("feedforward", "recurrent", "neurons", "readout", "leak")
"""The nodes of a recurrent spiking net, and how they are wired."""

WIRES = [
    ("input", "feedforward"),
    ("neurons", "recurrent"),
    ("feedforward", "neurons"),
    ("recurrent", "neurons"),
    ("neurons", "readout"),
    ("readout", "leak"),
    ("leak", "output"),
]


@singledispatch
def as_graph(model: nn.Module) -> Graph:
    """The model as a graph, which shares its layers."""
    return as_graph(nn.Sequential(model))


@as_graph.register
def _(model: Graph) -> Graph:
    return model


@as_graph.register
def _(model: RecurrentSpikingNet) -> Graph:
    neurons = _neurons(model.neurons)
    kappa = constant(model.leak.kappa)
    leak = Integrator(kappa, 1 - kappa, constant(0.0))
    layers = (model.input, model.recurrent, neurons, model.readout, leak)
    return Graph(dict(zip(RECURRENT, layers, strict=True)), WIRES)


@as_graph.register
def _(model: nn.Sequential) -> Graph:
    nodes: dict[str, nn.Module] = {}
    height = 1.0  # of the spikes that come in
    for name, layer in _leaves(model):
        if isinstance(layer, Population):
            if height != 1:
                nodes[f"{name}.scale"] = Scale(constant(height))
            nodes[name], height = _population(layer, name), layer.cell.amplitude / layer.dt
        elif height != 1 and isinstance(layer, nn.Linear | nn.Conv2d):
            nodes[name], height = _scaled(layer, height), 1.0
        else:
            nodes[name] = layer
    if height != 1:
        nodes["scale"] = Scale(constant(height))
    names = ["input", *nodes, "output"]
    if len(set(names)) < len(names):
        raise ConfigurationError("No layer can be called 'input' or 'output', as the ends of a graph are: rename it.")
    return Graph(nodes, list(pairwise(names)))


def recurrent(graph: Graph, dt: float) -> RecurrentSpikingNet | None:
    """The graph as a recurrent spiking net with steps of ``dt`` seconds, which takes its layers over, or None."""
    parts = _parts(graph)
    if parts is None:
        return None
    enter, within, neurons, readout, leak = parts
    (alpha, r), (kappa, r_out) = ((float(part.keep), float(part.gain / (1 - part.keep))) for part in (neurons, leak))
    cells = Neurons(
        within.in_features,
        dt=dt,
        tau=-dt / log(alpha),
        threshold=float(neurons.threshold) / r,
        gamma=neurons.spike.gamma,
    )
    net = RecurrentSpikingNet(
        enter.in_features,
        readout.out_features,
        cells,
        Leak(dt, -dt / log(kappa)),
        time_axis=graph.time_axis,
        stepwise=graph.stepwise,
        hold=1,
    )
    net.input, net.recurrent, net.readout = enter, within, readout if r_out == 1 else _scaled(readout, r_out, r_out)
    return net


def _parts(graph: Graph) -> tuple[nn.Linear, nn.Linear, Firing, nn.Linear, Integrator] | None:
    """The parts of a recurrent spiking net, or None."""
    sources, way = graph.sources, [graph.outlet]
    while len(sources.get(way[-1], ())) == 1 and len(way) <= len(graph.order):
        way += sources[way[-1]]
    if len(graph.order) != 5 or len(way) != 4:
        return None
    _, leak, readout, neurons = way
    entries = sorted(sources[neurons], key=lambda name: sources[name] != [graph.inlet])
    if [sources[name] for name in entries] != [[graph.inlet], [neurons]]:
        return None
    match [graph.nodes[key(name)] for name in (*entries, neurons, readout, leak)]:
        case [nn.Linear() as a, nn.Linear() as b, Firing(soft=True) as c, nn.Linear() as d, Integrator() as e]:
            numbers = (c.keep, c.gain, c.threshold, e.keep, e.gain, e.offset)
            uniform = all(number.ndim == 0 for number in numbers)
            biased = [layer.bias is not None for layer in (a, b, d)] == [True, False, True]
            if uniform and biased and 0 < c.keep < 1 and 0 < e.keep < 1 and c.threshold > 0 and e.offset == 0:
                return a, b, c, d, e
    return None


def constant(value: float) -> Tensor:
    """A number for all neurons; of no dimension, so that it leaves the type of what it meets."""
    return torch.tensor(value, dtype=torch.float64)


def _leaves(model: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in zip(model._modules, model, strict=True):  # named_children has a layer that comes twice once
        if isinstance(child, nn.Sequential):
            yield from _leaves(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _scaled(layer: Layer, weight: float, bias: float = 1.0) -> Layer:
    layer = deepcopy(layer)
    with torch.no_grad():
        layer.weight.mul_(weight)
        if layer.bias is not None:
            layer.bias.mul_(bias)
    return layer


def _population(layer: Population, name: str) -> Firing:
    """The population's spikes, in height 1: with no refractory period it sets v to 0 at the end of the step, too."""
    cell, lacks = layer.cell, f"Layer {name!r} cannot become a NIR node, which has no"
    if cell.tau_ref > 0:
        raise ConfigurationError(f"{lacks} refractory period: Cell(tau_ref=0) has none.")
    if cell.floor > -inf:
        raise ConfigurationError(f"{lacks} lowest voltage: Cell(floor=-math.inf) has none.")
    if cell.inc_n:
        raise ConfigurationError(f"{lacks} adaptation: Cell(inc_n=0) has none.")
    if not cell.leak:
        raise ConfigurationError(f"{lacks} constant drain, as neurons with leak=False have: Cell(leak=True) has none.")
    keep = exp(-layer.dt / cell.tau_rc)
    return Firing(constant(keep), constant(1 - keep), constant(1.0), constant(0.0))


def _neurons(neurons: Neurons) -> Firing:
    lacks = "'neurons' cannot become a NIR node, which has no"
    if neurons.adapts:
        raise ConfigurationError(f"{lacks} threshold that adapts: a net with adaptive=0 has none.")
    if neurons.silence:
        raise ConfigurationError(f"{lacks} refractory period: a net with refractory=0 has none.")
    alpha, threshold = constant(neurons.alpha), constant(neurons.threshold)
    return Firing(alpha, 1 - alpha, threshold, constant(0.0), soft=True, gamma=neurons.spike.gamma)
