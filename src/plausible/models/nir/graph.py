"""A graph of layers and neurons that runs step by step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.models.nir.neurons import REMEMBERING
from plausible.models.stepped import SteppedNet


class Graph(SteppedNet):
    """Layers and neurons, wired at will: sequences (N, T, …) in, and what the last of them say out.

    Args:
        nodes: layers, and what remembers (Integrator, Firing, Synaptic), by name.
        edges: (source, target); what comes from several sources is added.
        inlet, outlet: names of input and output in the edges.
        stepwise: whether the output has an entry for each step, or is their mean.

    Raises:
        ConfigurationError: a node is not on a way from the input to the output.
    """

    def __init__(
        self,
        nodes: Mapping[str, nn.Module],
        edges: Sequence[tuple[str, str]],
        *,
        inlet: str = "input",
        outlet: str = "output",
        stepwise: bool = True,
    ) -> None:
        super().__init__(stepwise=stepwise)
        self.time_axis = 1
        self.inlet, self.outlet = inlet, outlet
        self.sources = {name: [a for a, b in edges if b == name] for name in (*nodes, outlet)}
        self.order = _towards(outlet, self.sources)[:-1]  # without the output itself
        driven = set(_towards(inlet, {name: [b for a, b in edges if a == name] for name in (inlet, *nodes)}))
        if lost := [name for name in nodes if name not in self.order or name not in driven]:
            raise ConfigurationError(
                f"Node {lost[0]!r} of the graph is not on a way from {inlet!r} to {outlet!r}: take it out, or wire it."
            )
        place = {name: i for i, name in enumerate(self.order)}
        edges_in = [(a, b) for b in self.order for a in self.sources[b] if a != inlet]
        self.late = sorted({a for a, b in edges_in if place[a] >= place[b]}, key=place.__getitem__)
        self.nodes = nn.ModuleDict({key(name): nodes[name] for name in self.order})
        self.remembering = [name for name in self.order if isinstance(nodes[name], REMEMBERING)]

    def rest(self, x: Tensor) -> tuple[Any, ...]:
        """Zero of everything, in the shapes that a silent frame of ``x`` finds."""
        with torch.no_grad():
            values = self.settle(torch.zeros_like(x.select(self.time_axis, 0)))
            _, state = self._run(values[self.inlet], {}, values)
        return _zero(state)

    def settle(self, x_t: Tensor) -> dict[str, Tensor]:
        """What each node says to a frame (N, …), as soon as everything upstream has spoken."""
        values: dict[str, Tensor] = {}
        while len(values) <= len(self.order):
            values, _ = self._run(x_t, {}, values)
        return values

    def frames(self, x: Tensor) -> Iterator[Tensor]:
        """Entries (N, …) of sequences (N, T, …)."""
        yield from x.unbind(self.time_axis)

    def step(self, state: tuple[Any, ...], x_t: Tensor) -> tuple[tuple[Any, ...], Tensor]:
        """One step under (N, …): the new state, and the output (N, …)."""
        n = len(self.remembering)
        memory = dict(zip(self.remembering, state[:n], strict=True))
        values, state = self._run(x_t, memory, dict(zip(self.late, state[n:], strict=True)))
        return state, _total([values[name] for name in self.sources[self.outlet]])

    def _run(
        self, x_t: Tensor, memory: dict[str, Any], before: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[Any, ...]]:
        """The nodes' values and the new state; a node of which no source is known yet is left out."""
        values, after = {self.inlet: x_t}, {}
        for name in self.order:
            terms = [values.get(a, before.get(a)) for a in self.sources[name]]
            if known := [term for term in terms if term is not None]:
                node = self.nodes[key(name)]
                if name in self.remembering:
                    values[name], after[name] = node(_total(known), memory.get(name))
                else:
                    values[name] = node(_total(known))
        return values, (*after.values(), *(values[name] for name in self.late if name in values))


def key(name: str) -> str:
    """A node's name as the name of a module, which must have no dots."""
    return name.replace(".", "-")


def _towards(end: str, before: Mapping[str, Sequence[str]]) -> list[str]:
    """Everything from which ``before`` leads to ``end``, that before which it comes first; ``end`` is the last."""
    order: list[str] = []
    seen = set()

    def visit(name: str) -> None:
        seen.add(name)
        for source in before.get(name, ()):
            if source not in seen:
                visit(source)
        if name in before:
            order.append(name)

    visit(end)
    return order


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _zero(state: Any) -> Any:
    return torch.zeros_like(state) if isinstance(state, Tensor) else tuple(_zero(part) for part in state)
