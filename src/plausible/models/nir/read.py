"""NIR graphs as modules that run step by step."""

from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError, DataError
from plausible.models.nir.forms import recurrent
from plausible.models.nir.graph import Graph, key
from plausible.models.nir.neurons import Firing, Integrator, Scale, Synaptic
from plausible.models.nir.steps import SOFT, Array, Steps
from plausible.models.stepped import SteppedNet


@dataclass(frozen=True)
class Reading:
    """How nodes are read: see :func:`from_nir`."""

    steps: Steps
    soft: bool
    gamma: float
    dtype: torch.dtype

    def constant(self, value: Any) -> Tensor:
        """A constant of neurons; one number, in full precision, if all of them have the same."""
        found = array(value)
        uniform = found.size and (found == found.flat[0]).all()
        return torch.tensor(found.flat[0]) if uniform else torch.as_tensor(found).to(self.dtype, copy=True)

    def weight(self, value: Any) -> nn.Parameter:
        """A weight or bias in the type of the net, rounded once; the graph keeps its own."""
        return nn.Parameter(torch.as_tensor(array(value)).to(self.dtype, copy=True))


def from_nir(
    graph: "nir.NIRGraph | str | Path",
    *,
    dt: float,
    exact: bool = False,
    soft_reset: bool = False,
    stepwise: bool = True,
    gamma: float = 0.3,
    dtype: torch.dtype = torch.float32,
) -> SteppedNet:
    """A net that runs as the graph says, for sequences (N, T, *shape of the input).

    Args:
        graph: or the path of a file that ``nir.write`` has written.
        dt: length of a step, in seconds. snnTorch writes graphs for 1e-4.
        exact: discretise exactly, and not by forward Euler: see :mod:`plausible.models.nir`.
        soft_reset: a spike takes the threshold from the voltage, whatever ``v_reset`` says, for nets that were
            trained so. Nodes whose metadata say so (as :func:`to_nir` writes it) need no telling.
        stepwise: whether the output has an entry for each step (N, T, ...), or is their mean (N, ...).
        gamma: height of the spikes' pseudo-derivative, of which NIR knows nothing.
        dtype: of weights and constants.

    Returns:
        A RecurrentSpikingNet, which e-prop teaches, where the graph has the form of one: one recurrent population with
        soft reset, between affine input weights and an affine, leaky readout; else a Graph.

    Raises:
        ConfigurationError: a node or a value that cannot be represented.
        DataError: no such file, or not a NIR graph.
    """
    if not isinstance(graph, nir.NIRGraph):
        graph = _file(Path(graph))
    how = Reading(Steps(dt, exact), soft_reset, gamma, dtype)
    ends = [_only(graph, kind) for kind in (nir.Input, nir.Output)]
    with torch.random.fork_rng(devices=[]):  # what layers draw at the start is overwritten
        nodes = {name: module(node, name, how) for name, node in graph.nodes.items() if name not in ends}
        if len({key(name) for name in nodes}) < len(nodes):
            raise ConfigurationError(
                "Two nodes of the graph have names that differ only in dots and hyphens: rename one."
            )
        for name in {name for edge in graph.edges for name in edge} - graph.nodes.keys():
            raise ConfigurationError(f"An edge of the graph leads from or to {name!r}, and there is no such node.")
        net = Graph(nodes, graph.edges, inlet=ends[0], outlet=ends[1], stepwise=stepwise)
        return recurrent(net, how.steps.dt) or net


def array(value: Any) -> Array:
    """A node's value as an array; Norse's nodes hold tensors."""
    return np.asarray(value, dtype=np.float64)


def _file(path: Path) -> nir.NIRGraph:
    try:
        return nir.read(path)
    except Exception as error:  # nir and h5py raise whatever they stumble over
        raise DataError(f"{path} cannot be read as a NIR graph ({type(error).__name__}: {error}).") from error


def _only(graph: nir.NIRGraph, kind: type) -> str:
    found = [name for name, node in graph.nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        raise ConfigurationError(
            f"The graph has {len(found)} {kind.__name__} nodes{': ' * bool(found)}{', '.join(found)}; a net that runs "
            "step by step has one."
        )
    return found[0]


@singledispatch
def module(node: nir.NIRNode, name: str, how: Reading) -> nn.Module:
    """The layer, or the neurons, that do what the node says."""
    known = sorted(kind.__name__ for kind in module.registry if kind is not object)
    raise ConfigurationError(
        f"Node {name!r} of the graph is a {type(node).__name__}; known are Input, Output, {', '.join(known)}."
    )


@module.register(nir.Affine | nir.Linear)
def _(node: nir.Affine | nir.Linear, name: str, how: Reading) -> nn.Module:
    shape = array(node.weight).shape
    if len(shape) != 2:
        raise ConfigurationError(f"The weight of node {name!r} has shape {shape}; known are matrices (n_out, n_in).")
    affine = isinstance(node, nir.Affine)
    layer = nn.Linear(shape[1], shape[0], bias=affine)
    layer.weight = how.weight(node.weight)
    if affine:
        layer.bias = how.weight(node.bias)
    return layer


@module.register
def _(node: nir.Conv2d, name: str, how: Reading) -> nn.Module:
    n_out, per_group, *kernel = array(node.weight).shape
    groups = int(node.groups)
    padding = node.padding if isinstance(node.padding, str) else pair(node.padding)
    layer = nn.Conv2d(
        per_group * groups, n_out, (kernel[0], kernel[1]), pair(node.stride), padding, pair(node.dilation), groups
    )
    layer.weight, layer.bias = how.weight(node.weight), how.weight(node.bias)
    return layer


@module.register
def _(node: nir.AvgPool2d, name: str, how: Reading) -> nn.Module:
    return nn.AvgPool2d(pair(node.kernel_size), pair(node.stride), pair(node.padding))


@module.register
def _(node: nir.SumPool2d, name: str, how: Reading) -> nn.Module:
    return nn.AvgPool2d(pair(node.kernel_size), pair(node.stride), pair(node.padding), divisor_override=1)


@module.register
def _(node: nir.Flatten, name: str, how: Reading) -> nn.Module:
    # NIR does not count the dimension of the examples, which is torch's first.
    return nn.Flatten(*(int(d) + 1 if d >= 0 else int(d) for d in (node.start_dim, node.end_dim)))


@module.register
def _(node: nir.Scale, name: str, how: Reading) -> nn.Module:
    return Scale(how.constant(node.scale))


@module.register
def _(node: nir.LI, name: str, how: Reading) -> nn.Module:
    return _integrator(node.tau, node.r, node.v_leak, f"tau of node {name!r}", how)


@module.register
def _(node: nir.I, name: str, how: Reading) -> nn.Module:
    return Integrator(how.constant(1.0), how.constant(array(node.r) * how.steps.dt), how.constant(0.0))


@module.register
def _(node: nir.LIF, name: str, how: Reading) -> nn.Module:
    return _firing(_integrator(node.tau, node.r, 0.0, f"tau of node {name!r}", how), node, array(node.v_leak), how)


@module.register
def _(node: nir.IF, name: str, how: Reading) -> nn.Module:
    return _firing(Integrator(*(how.constant(c) for c in (1.0, array(node.r) * how.steps.dt, 0.0))), node, 0.0, how)


@module.register
def _(node: nir.CubaLI, name: str, how: Reading) -> nn.Module:
    membrane = _integrator(node.tau_mem, node.r, node.v_leak, f"tau_mem of node {name!r}", how)
    return Synaptic(_synapse(node, name, how), membrane)


@module.register
def _(node: nir.CubaLIF, name: str, how: Reading) -> nn.Module:
    membrane = _integrator(node.tau_mem, node.r, 0.0, f"tau_mem of node {name!r}", how)
    return Synaptic(_synapse(node, name, how), _firing(membrane, node, array(node.v_leak), how))


def _synapse(node: nir.CubaLI | nir.CubaLIF, name: str, how: Reading) -> Integrator:
    return _integrator(node.tau_syn, node.w_in, 0.0, f"tau_syn of node {name!r}", how)


def _integrator(tau: Any, r: Any, offset: Any, where: str, how: Reading) -> Integrator:
    keep = how.steps.keep(array(tau), where)
    return Integrator(how.constant(keep), how.constant((1 - keep) * array(r)), how.constant(offset))


def _firing(membrane: Integrator, node: Any, v_leak: Any, how: Reading) -> Firing:
    """The membrane with a threshold: spikes at v > v_threshold, and a reset."""
    threshold, reset = (how.constant(array(v) - v_leak) for v in (node.v_threshold, node.v_reset))
    soft = how.soft or node.metadata.get("reset") == SOFT
    return Firing(membrane.keep, membrane.gain, threshold, reset, soft=soft, gamma=how.gamma)


def pair(value: Any) -> tuple[int, int]:
    """(height, width), where NIR has one number or two."""
    height, width = np.broadcast_to(array(value), 2)
    return int(height), int(width)
