"""Updates depend on the derivatives of other neurons' nonlinearities, which no synapse elsewhere can know.

Each activation module in turn keeps every value it gave, at every step of a relaxation too, and gets another
derivative: to its output comes s·(a − a), of which differentiation sees one side only. A neuron's own derivative may
show in the updates of its own synapses; where it shows in those of other neurons, it has travelled. Where it has, a
derivative that stays zero where it was zero tells the transport of a gate (does the cell respond at all?) from that
of a derivative. In a layer that drives itself, half of the cells are changed as well, and the synapses of the others
are looked at.
"""

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plausible.audit.activations import Activation, Anatomy, anatomy
from plausible.audit.criterion import Batch, Unmeasurable, criterion, rounding, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.nonlinearity import affine
from plausible.audit.recording import weight_layers
from plausible.audit.subject import Subject, change

NAME = "derivative transport"
EXAMPLES = 8

Updates = dict[str, Tensor]
Slope = Callable[[Tensor, Tensor], Tensor]
"""Gets an activation's input and output, and returns zeros that have a derivative."""


@dataclass(frozen=True)
class Travel:
    """By how much updates changed with one activation's derivative, as a fraction of themselves.

    Attributes:
        own: those of the synapses onto the cells whose derivative it is.
        up, down: those of layers further upstream and downstream.
        across: those of other cells of the same layer, if it drives itself.
    """

    own: float
    up: float
    down: float
    across: float = 0.0

    @property
    def worst(self) -> float:
        """Of what is not the cells' own."""
        return max(self.up, self.down, self.across)


@criterion(NAME, order=2, core=True)
def derivative_transport(subject: Subject, batch: Batch) -> Finding:
    """Change the derivative of each activation, and none of its values; do updates of other neurons change?"""
    limits, batch = thresholds(NAME), batch.first(EXAMPLES)
    limit = max(limits["travelled"], rounding(subject.dtype))
    body = anatomy(subject, batch)
    if not body.activations:
        if not affine(subject, batch):
            raise Unmeasurable(
                "The model is not affine, yet no module that was called while it learned applies a nonlinearity to "
                "each number by itself. It is hidden in a function call (or in pooling, or the learner works without "
                "the modules), where no derivative can be replaced: write activations as modules, such as nn.ReLU()."
            )
        return _nothing("the net is linear, and has no derivative that could travel")
    if not any(body.upstream(each) or body.recurrent(each) for each in body.activations):
        return _nothing("no layer is taught upstream of an activation")
    reached = {name for each in body.activations for name in (*body.upstream(each), *body.recurrent(each))}
    if not any(body.updates[name].any() for name in reached):
        raise Unmeasurable(
            "All updates upstream of an activation are zero, so that no derivative could show in them. Is some weight "
            "zero to begin with? Audit the rule once it has learned a little."
        )
    found = {each: _travel(subject, batch, body, each, _any_slope) for each in body.activations}
    worst, own = max(seen.worst for seen in found.values()), max(seen.own for seen in found.values())
    travelling = [each for each, seen in found.items() if seen.worst >= limit]
    if not subject.wired and max(worst, own) < limit:
        raise Unmeasurable(
            "No update changed with the derivative of any activation, not even a cell's own. Foreign code may well use "
            "none, or may have a formula of its own for it, which cannot be replaced from outside."
        )
    gates = [_travel(subject, batch, body, each, _same_gate).worst for each in travelling]
    verdict: Verdict = "solved"
    if travelling:
        verdict = "partly" if max(gates) < limit else "violated"
    saw = {
        "solved": "no update of another neuron changed",
        "partly": f"updates of other neurons changed by up to {worst:.2g} of themselves, but only where cells that had "
        "no slope got one: whether a cell responds travels",
        "violated": f"updates of other neurons changed by up to {worst:.2g} of themselves: derivatives travel",
    }[verdict]
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"The derivatives of {len(found)} activations were replaced, and none of their values; {saw}"
        + (f" (those behind {', '.join(each.label for each in travelling)})." if travelling else "."),
        value=worst,
        unit="relative change",
        layers={each.label: seen.worst for each, seen in found.items()},
        samples=len(found),
        thresholds=limits,
        also={
            "change at own synapses": own,
            "change upstream": max(seen.up for seen in found.values()),
            "change downstream": max(seen.down for seen in found.values()),
            "change in the same layer": max(seen.across for seen in found.values()),
            "change with gates held": max(gates, default=0.0),
        },
    )


def _nothing(why: str) -> Finding:
    return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")


def _travel(subject: Subject, batch: Batch, body: Anatomy, site: Activation, slope: Slope) -> Travel:
    def learned(slope: Slope) -> Updates:
        specimen = subject.copy()
        with bent(specimen.model, site, slope):
            return specimen.update(batch.x, batch.y)

    after = learned(slope)
    groups = body.owned(site), body.upstream(site), body.downstream(site)
    own, up, down = (_moved(body.updates, after, names) for names in groups)
    rows = body.recurrent(site)
    if not rows:
        return Travel(own, up, down)
    after = learned(_first_half(slope, body.unit_dim(site)))
    return Travel(own, up, down, _moved(_second_half(body.updates, rows), _second_half(after, rows), rows))


def _moved(before: Updates, after: Updates, names: Set[str]) -> float:
    moved = change({k: v for k, v in before.items() if k in names}, {k: v for k, v in after.items() if k in names})
    return moved if moved == moved else float("inf")  # what is no number any more has changed


@contextmanager
def bent(model: nn.Module, site: Activation, slope: Slope) -> Iterator[None]:
    """Within, the activation gives the values it gave, call by call, with another derivative."""
    values, pending, last = iter(site.values), [], ""

    def answered(name: str) -> None:
        nonlocal last
        last = name

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        pending.append(inputs[0])
        return (inputs[0].clone(), *inputs[1:])  # an activation in place would overwrite what it is a function of

    def after(_: nn.Module, inputs: object, output: Tensor) -> Tensor:
        a = pending.pop()
        if site.only_after not in (None, last):
            return output
        output = output + slope(a, output)
        held = next(values, output.detach())
        return held + (output - output.detach()) if held.shape == output.shape else output

    module = model.get_submodule(site.name)
    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    for name, layer in weight_layers(model).items():
        handles.append(layer.register_forward_hook(lambda m, i, o, name=name: answered(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _any_slope(a: Tensor, output: Tensor) -> Tensor:
    return _positive(a) * (a - a.detach())


def _same_gate(a: Tensor, output: Tensor) -> Tensor:
    return _positive(output) * (output - output.detach())


def _first_half(slope: Slope, dim: int) -> Slope:
    def halved(a: Tensor, output: Tensor) -> Tensor:
        first = torch.arange(a.shape[dim], device=a.device) < a.shape[dim] // 2
        return slope(a, output) * first.reshape([-1 if d == dim % a.dim() else 1 for d in range(a.dim())])

    return halved


def _second_half(updates: Updates, names: Set[str]) -> Updates:
    return {name: value[value.shape[0] // 2 :] for name, value in updates.items() if name in names}


def _positive(like: Tensor) -> Tensor:
    """Between ½ and 1½, for each number another, so that no derivative is in proportion; the same at each call."""
    generator = torch.Generator().manual_seed(0)
    return (0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float64)).to(like)
