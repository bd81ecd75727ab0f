"""A neuron excites some of its targets and inhibits others, which Dale's law forbids.

The learner takes some steps of its own, and after each one the signs of all weights are noted. A neuron keeps the law
if all weights with which it reaches others had one sign, and the same one, all the time; a weight of zero has none.
What feeds the net from outside is no neuron of it, and is reported apart, as is the feedback, which should keep it too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, criterion, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.recording import Recording, recorded, weight_layers
from plausible.audit.subject import Specimen, Subject
from plausible.audit.synapses import outgoing

NAME = "Dale's law"
EXAMPLES = 64
STEPS = 10
STEP = 0.1  # of the weights' norm: large enough that what can flip will


@criterion(NAME, order=9)
def dales_law(subject: Subject, batch: Batch) -> Finding:
    """Train for some steps, and follow the signs of the weights with which each neuron reaches others."""
    limits = thresholds(NAME)
    batch = batch.first(EXAMPLES)
    specimen = subject.copy()
    record, rate = _observe(subject, batch)
    outside = _outside(subject, batch, record)
    populations = _populations(record)
    hidden = {names[0]: names for names in populations if names[0] not in outside}
    if not hidden:
        why = "no neuron of the net reaches another one through weights; all are fed from outside"
        return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")
    optimizer = specimen.optimizer(rate)
    signs = _Signs()
    signs.note(specimen, populations)
    for _ in range(STEPS):
        specimen.reset()
        specimen.update(batch.x, batch.y)
        optimizer.step()
        signs.note(specimen, populations)
    layers = {" + ".join(names): signs.kept(first) for first, names in hidden.items()}
    kept, count = signs.kept(*hidden), signs.count(*hidden)
    feedback = [key for key in signs.seen if key.startswith("feedback of ")]
    also = {f"weights that changed their sign, {name}": signs.flips[name] for name in hidden}
    also |= {f"one-signed, fed from outside: {name}": signs.kept(name) for name in signs.seen if name in outside}
    also |= {f"one-signed, {name}": signs.kept(name) for name in feedback}
    verdict: Verdict = "violated"
    if kept >= limits["most"]:
        verdict = "solved" if kept == 1 and all(signs.kept(name) == 1 for name in feedback) else "partly"
    seen = f"{kept:.0%} of {count} hidden neurons reached others with weights of one sign all the time"
    if verdict == "partly" and kept == 1:
        seen += ", but feedback neurons did not"
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"In {STEPS} steps of learning, {seen}.",
        value=kept,
        unit="fraction of hidden neurons",
        layers=layers,
        samples=count,
        thresholds=limits,
        also=also,
    )


class _Signs:
    """Which signs the weights of each neuron have had so far.

    Attributes:
        seen: by population, whether each neuron's weights have ever been positive, and ever negative: (neurons, 2).
        last: by population, the last sign of each weight that was not zero.
        flips: by population, the fraction of weights that have ever changed their sign.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}
        self.flips: dict[str, float] = {}
        self._flipped: dict[str, Tensor] = {}

    def note(self, specimen: Specimen, populations: list[list[str]]) -> None:
        """Look at all weights as they are now."""
        layers = weight_layers(specimen.model)
        for names in populations:
            mine = [outgoing(layers[n], layers[n].get_parameter("weight").detach()) for n in names]
            self._note(names[0], torch.cat(mine, 1))
        for name, (_, B) in specimen.feedback_weights().items():
            # What answers to the layer sends the feedback: a row of B, in the weight's own shape.
            self._note(f"feedback of {name}", B.detach().flatten(1))

    def _note(self, name: str, weights: Tensor) -> None:
        signs = weights.sign()
        has = torch.stack([(signs > 0).any(1), (signs < 0).any(1)], 1)
        self.seen[name] = self.seen.get(name, has) | has
        last = self.last.get(name, signs)
        self._flipped[name] = self._flipped.get(name, torch.zeros_like(signs, dtype=torch.bool)) | (signs * last < 0)
        self.last[name] = torch.where(signs == 0, last, signs)
        self.flips[name] = float(self._flipped[name].double().mean())

    def kept(self, *names: str) -> float:
        """The fraction of the neurons that ever had a weight whose weights have had one sign; 1 if there are none."""
        seen = torch.cat([self.seen[name] for name in names])
        alive = seen.any(1)
        return float(1 - seen[alive].all(1).double().mean()) if alive.any() else 1.0

    def count(self, *names: str) -> int:
        """How many neurons ever had a weight other than zero."""
        return sum(int(self.seen[name].any(1).sum()) for name in names)


def _observe(subject: Subject, batch: Batch) -> tuple[Recording, float]:
    """What the layers meet, and the learning rate with which the first step is as large as it should be."""
    specimen = subject.copy()
    with recorded(specimen.model) as record:
        updates = specimen.update(batch.x, batch.y)
    weights = {key: p for key, p in specimen.model.named_parameters() if key in updates and p.dim() > 1}
    size, step = _norm(weights), _norm({key: updates[key] for key in weights})
    return record, STEP * size / step if step else STEP


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return sum(float(each.detach().square().sum()) for each in tensors.values()) ** 0.5


def _outside(subject: Subject, batch: Batch, record: Recording) -> set[str]:
    """The layers whose input does not depend on any weight."""
    specimen = subject.copy()
    with torch.no_grad():
        for layer in weight_layers(specimen.model).values():
            layer.get_parameter("weight").mul_(1.1)
    with recorded(specimen.model) as again:
        specimen.update(batch.x, batch.y)
    return {name for name, inputs in record.inputs.items() if _same(inputs, again.inputs[name])}


def _populations(record: Recording) -> list[list[str]]:
    """The layers, together where the same neurons enter them."""
    found: list[list[str]] = []
    for name in record.order:
        mine = record.inputs[name]
        home = next((names for names in found if _same(mine, record.inputs[names[0]])), None)
        if home is None:
            found.append([name])
        else:
            home.append(name)
    return found


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))
