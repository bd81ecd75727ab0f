"""Positions share one weight, which synapses at different places cannot keep equal.

Before and after one update, the effective weights of every taught layer are read off its own response at several
positions: the derivative of the response there with respect to its receptive field. Where all positions have changed by
the same, one weight serves them all; synapses of their own change by what each of them has met.
"""

from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations, product

import torch
from torch import Tensor, nn

from plausible.audit.criterion import Batch, Unmeasurable, criterion, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.subject import Specimen, Subject
from plausible.audit.synapses import neurons_axis
from plausible.audit.timeline import owner
from plausible.core.attach import LAYERS, detach

NAME = "weight sharing"
EXAMPLES = 64
RATE = 0.1
POSITIONS = 9  # as many of them, and of the channels there, are looked at
CHANNELS = 8


@criterion(NAME, order=7)
def weight_sharing(subject: Subject, batch: Batch) -> Finding:
    """Make one update, and compare how the weights of different positions have changed."""
    limits = thresholds(NAME)
    before, after = subject.copy(), subject.copy()
    maps = _maps(subject, after, batch.first(EXAMPLES))
    if not maps:
        why = "no taught layer answers at more than one position"
        return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")
    optimizer = after.optimizer(RATE)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0  # weights of their own that differ would decay by different amounts
    optimizer.step()
    layers = {
        name: difference for name, each in maps.items() if (difference := _apart(each, before, after)) is not None
    }
    if not layers:
        raise Unmeasurable(
            "No layer has two positions with a whole receptive field each whose weights changed: audit the rule on "
            "larger images, or on inputs that teach it something."
        )
    shared = [name for name, difference in layers.items() if difference < limits["untied"]]
    verdict: Verdict = "violated" if len(shared) == len(layers) else "partly" if shared else "solved"
    seen = {
        "solved": "each position's weights changed by amounts of their own",
        "partly": f"in {', '.join(shared)}, all positions changed by the same; elsewhere each by amounts of its own",
        "violated": "all positions changed by the same: one weight serves them all",
    }
    closest = min(layers.values())
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"After one update, the weights of {len(layers)} layer{'s' * (len(layers) != 1)} were compared "
        f"between positions; {seen[verdict]} (changes differ by {closest:.2g} of themselves"
        f"{' at least' if len(layers) > 1 else ''}).",
        value=closest,
        unit="relative difference between positions",
        layers=layers,
        samples=len(layers),
        thresholds=limits,
    )


@dataclass(frozen=True)
class _Map:
    """A layer whose response has positions.

    Attributes:
        name: of the layer.
        example: what entered it, of one example: (1, …).
        channels: the dimension of the response along which its channels lie.
        spots: some positions, the most central first.
        whole: how many weights a channel has at a position inside; None if unknown.
    """

    name: str
    example: Tensor
    channels: int
    spots: list[tuple[int, ...]]
    whole: int | None

    def weights(self, model: nn.Module) -> Tensor:
        """The derivatives of the response at each spot: (spots, channels, numbers in the example)."""
        plain = deepcopy(model)
        detach(plain)  # a rule may put another weight into the layer's backward
        layer = plain.get_submodule(self.name)
        with torch.no_grad():
            count = min(layer(self.example).shape[self.channels], CHANNELS)
        picks = list(product(self.spots, range(count)))
        with torch.enable_grad():
            x = self.example.repeat(len(picks), *[1] * (self.example.dim() - 1)).requires_grad_()
            response = layer(x).movedim(self.channels, 1)
            chosen = [response[(i, channel, *spot)] for i, (spot, channel) in enumerate(picks)]
            (jacobian,) = torch.autograd.grad(torch.stack(chosen).sum(), x)
        return jacobian.reshape(len(self.spots), count, -1)


def _maps(subject: Subject, specimen: Specimen, batch: Batch) -> dict[str, _Map]:
    """The taught layers whose response has positions; ``specimen`` learns from ``batch``."""
    met: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, module in specimen.model.named_modules():

        def hook(_: nn.Module, inputs: tuple[object, ...], output: object, name: str = name) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                met.setdefault(name, (inputs[0].detach().clone(), output.detach()))

        if any(p.dim() > 1 and p.is_floating_point() for p in module.parameters(recurse=False)):
            handles.append(module.register_forward_hook(hook))
    updates = specimen.update(batch.x, batch.y)
    for handle in handles:
        handle.remove()
    taught = {owner(key) for key, update in updates.items() if update.dim() > 1 and update.any()}
    found = {}
    for name, (x, response) in met.items():
        layer = specimen.model.get_submodule(name)
        # A layer of somebody's own is taken to put its channels where a convolution does.
        channels = response.dim() + neurons_axis(layer) if isinstance(layer, LAYERS) else 1
        if name not in taught or not x.is_floating_point() or channels <= 0 or response.dim() < 3:
            continue
        # The same synapse at another time is no other position.
        times = {subject.time_axis} if subject.time_axis and x.dim() > 2 else set()
        sizes = [1 if axis in times else size for axis, size in enumerate(response.shape) if axis not in (0, channels)]
        spots = sorted(
            product(*map(range, sizes)),
            key=lambda spot: sum((2 * i - n + 1) ** 2 for i, n in zip(spot, sizes, strict=True)),
        )
        if len(spots) > 1:
            whole = layer.get_parameter("weight")[0].numel() if isinstance(layer, LAYERS) else None
            found[name] = _Map(name, x[:1], channels, spots[:POSITIONS], whole)
    return found


def _apart(each: _Map, before: Specimen, after: Specimen) -> float | None:
    """The greatest difference between the changes at two positions, relative to the changes; None if not comparable."""
    start, end = each.weights(before.model), each.weights(after.model)
    met = start != 0
    counts = met.sum(2)
    whole = each.whole or int(counts.max())
    # Beyond the edge, part of the receptive field is missing, or begins again at the other edge: positions are compared
    # where one field is the other one shifted.
    shapes: dict[tuple[int, ...], list[int]] = {}
    for spot in range(len(met)):
        if bool((counts[spot] == whole).all()):
            places = met[spot].nonzero()[:, 1]
            shapes.setdefault(tuple((places - places.min()).tolist()), []).append(spot)
    inside = max(shapes.values(), key=len, default=[])
    if len(inside) < 2:
        return None
    changes = torch.stack([(end - start)[spot][met[spot]] for spot in inside])
    size = float(changes.norm(dim=1).max())
    return max(float((a - b).norm()) for a, b in combinations(changes, 2)) / size if size else None
