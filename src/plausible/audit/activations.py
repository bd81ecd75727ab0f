"""Finds the activations of a model, by what they do, and the layers that each of them answers to.

An activation is a module without parts that gives each number of its one input a number of its own, and not by a
straight line. Its owners are the weight layers whose response reaches it without passing another activation or weight
layer: one in a chain, two in a recurrent cell, all along a residual stream.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from plausible.audit.criterion import Batch
from plausible.audit.nonlinearity import bends
from plausible.audit.recording import Recording, recorded, weight_layers
from plausible.audit.subject import Subject
from plausible.core.attach import device_of
from plausible.functional.random import random_state, replayed

ENOUGH = 3
"""Calls of an activation in one place after which its owners are known, however long a sequence goes on."""


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation in one place of the model.

    Attributes:
        name: of the module.
        owners: the weight layers whose response enters it.
        only_after: if the module serves in several places: the weight layer that answers last before this one.
        values: what it gave, call by call, while the subject learned.
    """

    name: str
    owners: tuple[str, ...]
    only_after: str | None
    values: list[Tensor]

    @property
    def label(self) -> str:
        """What it follows, for tables."""
        return " + ".join(self.owners) or self.name


@dataclass(frozen=True)
class Anatomy:
    """Which activation belongs where, and what was learned meanwhile.

    Attributes:
        activations: in the order of the forward pass.
        order: weight layers in that order.
        homes: by taught parameter, the layer it belongs to: its own or, if that has no weight, the one before.
        updates: of the reference copy.
        record: what its weight layers met.
    """

    activations: list[Activation]
    order: list[str]
    homes: dict[str, str]
    updates: dict[str, Tensor]
    record: Recording

    def owned(self, site: Activation) -> set[str]:
        """The taught parameters of the cells whose activation it is."""
        return {name for name in self.updates if self.homes[name] in site.owners}

    def upstream(self, site: Activation) -> set[str]:
        """The taught parameters of other cells before them."""
        last = max((self._place(owner) for owner in site.owners), default=-1)
        return {name for name in self.updates if self._place(self.homes[name]) < last} - self.owned(site)

    def downstream(self, site: Activation) -> set[str]:
        """The taught parameters of other cells after them."""
        return self.updates.keys() - self.upstream(site) - self.owned(site)

    def recurrent(self, site: Activation) -> set[str]:
        """The taught parameters of the cells themselves, one row a cell, if what the activation gives comes back to
        one of the layers that drive it; none otherwise."""
        inputs = [x for owner in site.owners for x in self.record.inputs.get(owner, ())]
        again = any(
            bool(v.any()) and any(v.shape == x.shape and torch.equal(v, x) for x in inputs) for v in site.values
        )
        cells = site.values[0].shape[self.unit_dim(site)]
        return {name for name in self.owned(site) if again and self.updates[name].shape[0] == cells}

    def unit_dim(self, site: Activation) -> int:
        """The dimension of the activation along which its cells stand: a convolution's channels, else the last."""
        spatial = any(self.updates[name].dim() > 2 for name in self.owned(site))
        return 1 if spatial and site.values[0].dim() > 2 else -1

    def _place(self, layer: str) -> int:
        return self.order.index(layer) if layer in self.order else -1


@dataclass
class _Calls:
    """What a candidate met and gave while the subject learned.

    Attributes:
        example: what entered it first.
        outputs: what left it, call by call.
        after: the weight layer that answered last before each call.
    """

    example: Tensor
    outputs: list[Tensor] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def anatomy(subject: Subject, batch: Batch) -> Anatomy:
    """Let a copy learn from ``batch``, and see what its parts do."""
    specimen, fresh = subject.copy(), subject.copy().model
    with recorded(specimen.model) as record, _listening(specimen.model, record) as heard:
        updates = specimen.update(batch.x, batch.y)
    heard = {name: calls for name, calls in heard.items() if bends(fresh.get_submodule(name), calls.example)}
    tree = _trace(subject, batch, list(heard))
    sites = []
    for name in dict.fromkeys([*(n for n in tree.owners if n in heard), *heard]):
        calls, owners = heard[name], tree.owners.get(name, {})
        if len(set(owners.values())) == 1:
            sites.append(Activation(name, next(iter(owners.values())), None, calls.outputs))
            continue
        places = list(dict.fromkeys(calls.after))
        for last in places:  # one module in several places: they are told apart by what answered before
            values = [value for value, after in zip(calls.outputs, calls.after, strict=True) if after == last]
            mine = owners.get(last, (last,) if last else ())
            sites.append(Activation(name, mine, last if len(places) > 1 else None, values))
    homes = {name: name.rpartition(".")[0] for name in updates}
    homes = {name: tree.homes.get(owner, owner) for name, owner in homes.items()}
    return Anatomy(sites, list(dict.fromkeys([*tree.order, *record.order])), homes, updates, record)


@contextmanager
def _listening(model: nn.Module, record: Recording) -> Iterator[dict[str, _Calls]]:
    """Record every call of every module that may be an activation."""
    heard: dict[str, _Calls] = {}
    entered: dict[str, Tensor] = {}
    layers, handles = weight_layers(model), []
    for name, module in model.named_modules():
        if name in layers or any(True for _ in module.children()):
            continue

        def before(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor):
                entered[name] = inputs[0].detach().clone()  # it may work in place

        def after(_: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
            x = entered.pop(name, None)
            if x is not None and x.is_floating_point() and isinstance(output, Tensor) and output.shape == x.shape:
                calls = heard.setdefault(name, _Calls(x))
                calls.outputs.append(output.detach().clone())
                calls.after.append(record.events[-1] if record.events else "")

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Tree:
    """What one plain forward pass of the model shows.

    Attributes:
        order: the weight layers, by first call.
        owners: by activation, in the order of calls, and by the weight layer that answered last before: its owners.
        homes: by other module with parameters, the weight layer before it.
    """

    order: list[str] = field(default_factory=list)
    owners: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)


def _trace(subject: Subject, batch: Batch, activations: list[str]) -> _Tree:
    """Run the model alone, its graph cut at each weight layer and activation, and see what is left joined.

    A learner may drive the parts of a model that has no forward pass of its own: then there is nothing to see, and the
    order of calls while it learns has to do.
    """
    x = batch.x.to(subject.dtype) if batch.x.is_floating_point() else batch.x
    for given in (x,) if subject.time_axis is None else (x, x.select(subject.time_axis, 0)):
        model, tree = subject.copy().model, _Tree()
        _cut(model, tree, activations)
        try:
            with replayed(device_of(model), random_state(device_of(model))), torch.enable_grad():
                model(given)
            return tree
        except Exception:  # whatever somebody else's model raises
            continue
    return _Tree()


def _cut(model: nn.Module, tree: _Tree, activations: list[str]) -> None:
    """Let every layer start a graph of its own, every activation look which layers reach it, and end the graph."""
    leaves: list[tuple[str, Tensor]] = []
    pending: list[Tensor] = []
    calls: Counter[tuple[str, str]] = Counter()
    layers = weight_layers(model)

    def detached(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].detach(), *inputs[1:])

    def answer(name: str, output: Tensor) -> Tensor:
        leaves.append((name, output.detach().requires_grad_()))
        tree.order = list(dict.fromkeys([*tree.order, name]))
        return leaves[-1][1].clone()  # a leaf cannot be changed in place, which the next module may want

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        pending.append(inputs[0])
        return (inputs[0].clone(), *inputs[1:])

    def leave(name: str, output: Tensor) -> Tensor:
        entered, last = pending.pop(), leaves[-1][0] if leaves else ""
        known = tree.owners.setdefault(name, {})
        calls[name, last] += 1
        if calls[name, last] <= ENOUGH:
            reached = [last] if last else []
            if entered.requires_grad:
                grads = torch.autograd.grad(entered.sum(), [x for _, x in leaves], retain_graph=True, allow_unused=True)
                reached = [owner for (owner, _), grad in zip(leaves, grads, strict=True) if grad is not None]
            known[last] = tuple(dict.fromkeys([*known.get(last, ()), *reached]))
        return output.detach()

    def pass_by(name: str) -> None:
        tree.homes.setdefault(name, leaves[-1][0] if leaves else "")

    for name, module in model.named_modules():
        if name in layers:
            module.register_forward_pre_hook(detached)
            module.register_forward_hook(lambda m, i, o, name=name: answer(name, o))
        elif any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda m, i, o, name=name: pass_by(name))
        if name in activations:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(lambda m, i, o, name=name: leave(name, o))
