"""Models as NIR graphs."""

import warnings
from collections.abc import Sequence
from functools import singledispatch

import nir
import numpy as np
import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError, PlausibleWarning
from plausible.models.nir.forms import as_graph
from plausible.models.nir.graph import Graph, key
from plausible.models.nir.neurons import Firing, Integrator, Scale, Synaptic
from plausible.models.nir.steps import SOFT, Array, Steps

Shape = Sequence[int]


def to_nir(model: nn.Module, *, dt: float, shape: Shape | None = None, exact: bool = False) -> nir.NIRGraph:
    """The model as a NIR graph, to be handed over as it is or written with ``nir.write(path, graph)``.

    Args:
        model: an 'rsnn'; a Sequential of Linear, Conv2d, AvgPool2d, Flatten and :class:`~plausible.functional.lif.\
Population`; or what :func:`from_nir` has returned. How an 'rsnn' cuts images into frames is no part of it.
        dt: length, in seconds, of the steps of whoever will read the graph: the time constants are such that a step
            there leaves of a voltage what a step here leaves. snnTorch always takes 1e-4.
        shape: of one input, without examples and time; may be left out where the first layer is a Linear.
        exact: written for who solves the equations (with ``dt`` that of the model, τ is the model's own), and not for
            forward Euler: see :mod:`plausible.models.nir`.

    Raises:
        ConfigurationError: a layer or a constant that NIR has not.

    Warns:
        PlausibleWarning: neurons with a soft reset, as those of an 'rsnn'. NIR has only v_reset, to which others
            will set the voltage; that a spike takes the threshold from it stands in the node's metadata.
    """
    graph, steps = as_graph(model), Steps(dt, exact)
    for name in graph.order:
        if node.dispatch(type(layer(graph, name))) is node.dispatch(object):  # before its input's shape is asked for
            raise _unknown(layer(graph, name), name)
    shapes = _shapes(graph, shape or _first(graph))
    nodes: dict[str, nir.NIRNode] = {graph.inlet: nir.Input({"input": np.array(shapes[graph.inlet])})}
    for name in graph.order:
        nodes[name] = node(layer(graph, name), name, shapes[graph.sources[name][0]], steps)
    nodes[graph.outlet] = nir.Output({"output": np.array(shapes[graph.sources[graph.outlet][0]])})
    # Edges that close a cycle come before those that lead on: nirtorch, and so Norse, takes for the output what it
    # finds last.
    edges = [(source, name) for name in (*graph.order, graph.outlet) for source in graph.sources[name]]
    try:
        return nir.NIRGraph(nodes, edges)
    except ValueError as error:
        raise ConfigurationError(f"nir does not accept the graph: {error}.") from error


def layer(graph: Graph, name: str) -> nn.Module:
    """The graph's node of that name."""
    return graph.nodes[key(name)]


def _unknown(layer: nn.Module, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"Layer {name!r}, a {type(layer).__name__}, has no counterpart in NIR; known are "
        f"{', '.join(sorted(kind.__name__ for kind in node.registry if kind is not object))}, Population."
    )


def _first(graph: Graph) -> Shape:
    first = layer(graph, next(name for name in graph.order if graph.inlet in graph.sources[name]))
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    raise ConfigurationError(
        f"The first layer, a {type(first).__name__}, leaves open what shape an input has: give shape=."
    )


def _shapes(graph: Graph, shape: Shape) -> dict[str, Shape]:
    """The shapes of what the nodes say to one input of that shape."""
    try:
        with torch.no_grad():
            values = graph.settle(next(graph.parameters(), torch.zeros(())).new_zeros(1, *shape))
    except RuntimeError as error:
        raise ConfigurationError(f"inputs of shape {tuple(shape)} do not pass through the model: {error}.") from error
    return {name: tuple(value.shape[1:]) for name, value in values.items()}


@singledispatch
def node(layer: nn.Module, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    """The node that does what the layer does to inputs of that shape.

    Raises:
        ConfigurationError: NIR has none, or not with these constants.
    """
    raise _unknown(layer, name)


@node.register
def _(layer: nn.Linear, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    return (
        nir.Linear(_array(layer.weight)) if layer.bias is None else nir.Affine(_array(layer.weight), _array(layer.bias))
    )


@node.register
def _(layer: nn.Conv2d, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    if layer.padding_mode != "zeros":
        raise ConfigurationError(f"Layer {name!r} pads with {layer.padding_mode!r}; NIR pads with zeros.")
    weight = _array(layer.weight)
    bias = np.zeros_like(weight, shape=len(weight)) if layer.bias is None else _array(layer.bias)
    stride, dilation = ((v[0], v[1]) for v in (layer.stride, layer.dilation))
    padding = layer.padding if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])
    return nir.Conv2d((shape[1], shape[2]), weight, stride, padding, dilation, layer.groups, bias)


@node.register
def _(layer: nn.AvgPool2d, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    kernel, stride, padding = (np.broadcast_to(v, 2).copy() for v in (layer.kernel_size, layer.stride, layer.padding))
    if layer.ceil_mode or layer.divisor_override not in (None, 1) or (padding.any() and not layer.count_include_pad):
        raise ConfigurationError(
            f"Layer {name!r}: NIR pools with neither ceil_mode nor a divisor, and counts the zeros of the padding."
        )
    kind = nir.SumPool2d if layer.divisor_override == 1 else nir.AvgPool2d
    return kind(kernel, stride, padding)


@node.register
def _(layer: nn.Flatten, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    if layer.start_dim == 0:
        raise ConfigurationError(f"Layer {name!r} flattens examples into one another; in NIR each is by itself.")
    start, end = (d - 1 if d > 0 else d for d in (layer.start_dim, layer.end_dim))
    return nir.Flatten({"input": np.array(shape)}, start, end)


@node.register
def _(layer: Scale, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    return nir.Scale(_full(layer.scale, shape))


@node.register
def _(layer: Integrator, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    if (layer.keep == 1).all():
        return nir.I(_full(layer.gain, shape) / steps.dt)
    return nir.LI(*_leaky(layer, shape, steps), _full(layer.offset, shape))


@node.register
def _(layer: Firing, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    fires = _full(layer.threshold, shape), _full(layer.reset, shape)
    if (layer.keep == 1).all():
        found = nir.IF(_full(layer.gain, shape) / steps.dt, *fires)
    else:
        found = nir.LIF(*_leaky(layer, shape, steps), np.zeros(shape), *fires)
    found.metadata = _reset(layer, name)
    return found


@node.register
def _(layer: Synaptic, name: str, shape: Shape, steps: Steps) -> nir.NIRNode:
    (tau_syn, w_in), (tau_mem, r) = (_leaky(part, shape, steps) for part in (layer.synapse, layer.membrane))
    if isinstance(layer.membrane, Integrator):
        return nir.CubaLI(tau_syn, tau_mem, r, _full(layer.membrane.offset, shape), w_in)
    fires = _full(layer.membrane.threshold, shape), _full(layer.membrane.reset, shape)
    found = nir.CubaLIF(tau_syn, tau_mem, r, np.zeros(shape), *fires, w_in)
    found.metadata = _reset(layer.membrane, name)
    return found


def _leaky(layer: Integrator | Firing, shape: Shape, steps: Steps) -> tuple[Array, Array]:
    """τ and R of what leaks."""
    keep = _full(layer.keep, shape)
    return steps.tau(keep), _full(layer.gain, shape) / (1 - keep)


def _reset(layer: Firing, name: str) -> dict[str, str]:
    """What a node's metadata say of its reset, if that is not NIR's own."""
    if not layer.soft:
        return {}
    warnings.warn(
        f"A spike of {name!r} takes the threshold from the voltage, and NIR can only set it to v_reset, as others "
        "do: they will part after a neuron's first spike. from_nir reads it as it is meant.",
        PlausibleWarning,
        stacklevel=5,
    )
    return {"reset": SOFT}


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().copy()  # what is learned from here on is not the graph's


def _full(value: Tensor, shape: Shape) -> Array:
    """A constant for each of the neurons; ``value`` may be one for all."""
    return np.broadcast_to(_array(value).astype(np.float64), shape).copy()
