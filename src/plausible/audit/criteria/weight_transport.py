"""The backward pass reads the forward weights, which no synapse elsewhere can know.

Each layer in turn gets a matrix added to its weight that answers nothing to any presynaptic vector the layer meets
during the whole call (all examples, positions, phases, relaxation and time steps): the forward activity then repeats
itself, and updates upstream can change only if something else has read the weight. Once as large as the weight itself;
and once so small that no sign flips, which tells a transport of signs from one of magnitudes.
"""

import torch
from torch import Tensor, nn

from plausible.audit.criterion import Batch, Unmeasurable, criterion, rounding, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.recording import Recording, recorded, weight_layers
from plausible.audit.subject import Subject, change
from plausible.core.attach import EXACT

NAME = "weight transport"
EXAMPLES = (8, 4, 2, 1)
TURNS = 50


@criterion(NAME, order=1, core=True)
def weight_transport(subject: Subject, batch: Batch) -> Finding:
    """Change downstream weights in the null space of what they meet; do upstream updates change?"""
    limits, unchanged = thresholds(NAME), rounding(subject.dtype)
    reference, probe = _observe(subject, batch)
    if probe.unknown:
        raise Unmeasurable(
            f"What is taught in {', '.join(sorted(probe.unknown))} belongs to no linear or convolutional layer that "
            "torch calls, so nobody can see which presynaptic vectors it meets."
        )
    if not probe.upstream:
        why = "no layer is taught upstream of another" if probe.order else "there is no weight layer"
        return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")
    if not probe.null:
        return Finding(
            criterion=NAME,
            verdict="could not be measured",
            sentence="Even for one example, the presynaptic vectors of every layer span its whole input space, so no "
            "change of a weight leaves the forward activity as it is. Audit the rule on a wider net.",
        )
    large, small = {}, {}
    for name, (free, held) in probe.null.items():
        upstream = {k: v for k, v in reference.items() if k in probe.upstream[name]}
        for matrix, found in ((free, large), (held, small)):
            specimen = subject.copy()
            weight = specimen.model.get_submodule(name).get_parameter("weight")
            if not matrix.any():
                continue  # a weight that is exactly zero: its sign cannot be held
            with torch.no_grad():
                relative = float(matrix.norm() / weight.norm())
                weight += matrix.to(weight)
            with recorded(specimen.model) as record:
                again = specimen.update(*probe.batch)
            if not probe.silent(record, name, unchanged):
                raise Unmeasurable(
                    f"Layer {name} answers to a change of its weight to which no linear or convolutional layer would, "
                    "so its weight cannot be changed without a change of the forward activity."
                )
            moved = change(upstream, {k: v for k, v in again.items() if k in upstream})
            found[name] = moved if matrix is free else moved / relative if moved >= unchanged else 0.0
    worst, slope = max(large.values()), max(small.values(), default=0.0)
    verdict: Verdict = "solved"
    if worst >= max(limits["transported"], unchanged):
        verdict = "violated" if slope >= limits["magnitudes"] else "partly"
    layers = f"{len(large)} layer{'s' * (len(large) > 1)}"
    seen = {
        "solved": "no update upstream changed: nothing of a forward weight travels",
        "partly": f"upstream updates changed by up to {worst:.2g} of themselves, but only where signs flipped: the "
        "signs of the forward weights travel",
        "violated": f"upstream updates changed by up to {worst:.2g} of themselves: forward weights travel",
    }
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"The weights of {layers} were changed such that the forward activity stayed the same; "
        f"{seen[verdict]}." + (f" No null space: {', '.join(probe.full)}." if probe.full else ""),
        value=worst,
        unit="relative change",
        layers=large,
        samples=len(large),
        thresholds=limits,
        also={"change per change, no sign flipping": slope},
    )


class _Probe:
    """What may be changed without a change of the forward activity.

    Attributes:
        batch: (x, y) on which that holds.
        order: weight layers, upstream first.
        upstream: by layer, the names of the taught parameters upstream of it; layers with none are left out.
        null: by layer, a change of its weight, as large as the weight, and one that flips no sign.
        full: layers without a null space.
        unknown: modules whose weights are taught although they are no weight layer that was called.
    """

    def __init__(self, subject: Subject, batch: Batch) -> None:
        self.batch = (batch.x, batch.y)
        specimen = subject.copy()
        with recorded(specimen.model) as record:
            self.reference = specimen.update(*self.batch)
        self.record, self.order = record, record.order
        layers = weight_layers(specimen.model)
        taught = [_owner(name) for name in self.reference]
        self.unknown = {
            owner or "the model itself"
            for owner, update in zip(taught, self.reference.values(), strict=True)
            if update.dim() > 1 and owner not in self.order
            if not isinstance(specimen.model.get_submodule(owner), EXACT)
        }
        self.upstream: dict[str, set[str]] = {}
        self.null: dict[str, tuple[Tensor, Tensor]] = {}
        self.full: list[str] = []
        generator = torch.Generator().manual_seed(0)
        for place, name in enumerate(self.order):
            before = {*self.order[:place], *([name] if self._drives_itself(subject, name) else [])}
            mine = {key for key, owner in zip(self.reference, taught, strict=True) if owner in before}
            if not mine:
                continue
            self.upstream[name] = mine
            changes = _silent(layers[name], record.inputs[name], generator)
            if changes is None:
                self.full.append(name)
            else:
                self.null[name] = changes

    def silent(self, record: Recording, name: str, unchanged: float) -> bool:
        """Whether the layer's first answer, to which no feedback has contributed, is what it was."""
        before, after = self.record.outputs[name][0], record.outputs[name][0]
        return bool((after - before).norm() <= max(unchanged, 1e-6) * before.norm())

    def _drives_itself(self, subject: Subject, name: str) -> bool:
        """Whether the layer is recurrent, so that it lies downstream of itself: another weight lets it meet others."""
        if self.record.events.count(name) < 2:
            return False
        specimen = subject.copy()
        with torch.no_grad():
            specimen.model.get_submodule(name).get_parameter("weight").neg_()
        with recorded(specimen.model) as record:
            specimen.update(*self.batch)
        met, meets = self.record.inputs[name], record.inputs.get(name, [])
        return len(met) != len(meets) or not all(map(torch.equal, met, meets))


def _observe(subject: Subject, batch: Batch) -> tuple[dict[str, Tensor], _Probe]:
    """The largest batch of which every layer leaves a null space; else the smallest, with what there is."""
    probe = None
    for n in EXAMPLES:
        if n > len(batch.x):
            continue
        try:
            attempt = _Probe(subject, batch.first(n))
        except ValueError:  # batch normalisation wants more than one value per channel
            if probe is None:
                raise
            break
        if probe is None or len(attempt.full) < len(probe.full):
            probe = attempt
        if not probe.full:
            break
    assert probe is not None
    return probe.reference, probe


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _silent(layer: nn.Module, inputs: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """Two random changes of the weight to which no recorded input answers, one of the weight's norm and one that flips
    no sign; None if there are none."""
    weight = layer.get_parameter("weight").detach()
    rows = weight.reshape(getattr(layer, "groups", 1), -1, weight[0].numel()).double()
    answering: list[tuple[Tensor, Tensor]] = []
    for vectors in presynaptic(layer, inputs):
        _, size, basis = torch.linalg.svd(vectors, full_matrices=False)
        basis = basis[size > 1e-12 * size[:1].clamp(min=1e-300)]
        # What a cell that is silent throughout is sent back would be lost on it.
        active = vectors.abs().amax(0) > 0
        if len(basis) == int(active.sum()):
            return None
        answering.append((basis, active))

    def unheard(change: Tensor) -> Tensor:
        parts = []
        for part, (basis, active) in zip(change, answering, strict=True):
            part = part * active
            for _ in range(2):  # twice, so that what is left is orthogonal to rounding
                part = part - part @ basis.T @ basis
            parts.append(part)
        return torch.stack(parts)

    free = unheard(torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(rows.device))
    free *= rows.norm() / free.norm()
    # Projected in turns onto the changes that are not heard and onto those that flip no sign, it comes to be both.
    held, room = free, 0.5 * rows.abs()
    for _ in range(TURNS):
        held = unheard(held.clamp(-room, room))
    held = held * (room / held.abs().clamp(min=1e-300)).min().clamp(max=1.0)
    return free.reshape(weight.shape).to(weight), held.reshape(weight.shape).to(weight)


def presynaptic(layer: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """Every vector that a weight row of ``layer`` was multiplied with: by group, (vectors, weights in a row)."""
    weight = layer.get_parameter("weight")
    width = weight[0].numel()
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return [torch.cat([x.reshape(-1, width) for x in inputs]).double().unique(dim=0)]
    # A convolution whose kernels are the unit vectors answers with the patches themselves.
    unit = torch.eye(width, dtype=weight.dtype, device=weight.device).reshape(width, *weight.shape[1:])
    unit = unit.repeat(layer.groups, *[1] * (weight.dim() - 1))
    found: list[list[Tensor]] = [[] for _ in range(layer.groups)]
    for x in inputs:
        x = x if x.dim() == weight.dim() else x.unsqueeze(0)
        answer = layer._conv_forward(x, unit, None)
        for group, patches in enumerate(answer.unflatten(1, (layer.groups, width)).unbind(1)):
            found[group].append(patches.movedim(1, -1).reshape(-1, width))
    return [torch.cat(patches).double().unique(dim=0) for patches in found]
