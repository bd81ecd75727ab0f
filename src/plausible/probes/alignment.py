"""How the rule's update of each layer lies to back-propagation's, and its feedback to its forward weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from plausible.core.attach import device_of, layer_type, trainable_layers
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Teacher
from plausible.functional.alignment import angle, angles, norm_ratio, sign_concordance
from plausible.functional.random import random_state, replayed


def alignment(learner: Learner, x: Inputs, y: Teacher) -> dict[str, dict[str, float]]:
    """Probe a learner on one batch: a held-out one, and the same each time.

    The learner is copied, and the copy learns; then a plain copy of the model back-propagates from the same
    weights, mode and random state. The learner itself, its buffers and the random state stay as they are.

    Args:
        learner: any learner whose layers' errors autograd carries.
        x: inputs, as ``learner.learn`` takes them.
        y: what the loss is taken of; the rule is told of it what it is told in training (:meth:`Rule.teacher`).

    Returns:
        By layer name, in order of registration, whichever of these apply:

        - ``update_angle``: angle between the rule's update of the weight and back-propagation's, in degrees;
          taken for each example, then averaged over the examples for which both exist.
        - ``feedback_angle``: angle between W and B as used, in degrees.
        - ``norm_ratio``: ‖B‖ / ‖W‖.
        - ``sign_concordance``: fraction of weights with the same sign in B as in W.
    """
    device = device_of(learner.model)
    state = random_state(device)
    taught, plain = deepcopy(learner), deepcopy(learner)
    plain.release()
    for copy in (taught, plain):
        copy.zero_grad()
        copy.reset()  # the examples of the probe do not follow those of training
    with replayed(device, state), _recorded(taught.model) as by_rule:
        taught.learn(x, y if y is None or callable(y) else taught.rule.teacher(y))
    with replayed(device, state), _recorded(plain.model) as by_gradient, plain.reading():
        loss = plain.loss(plain(x), y)
        if loss.requires_grad:  # an equilibrium that is settled step by step has no gradient to compare with
            loss.backward()
    # What a rule draws anew in each call must be what it drew in this one.
    taught.context.iteration = learner.context.iteration
    feedback = taught.feedback_weights()
    found: dict[str, dict[str, float]] = {}
    for name, layer in trainable_layers(plain.model):
        if layer_type(layer):
            row = found[name] = {}
            if by_rule[name].errors and by_gradient[name].errors:
                row["update_angle"] = float(_update_angles(layer, by_rule[name], by_gradient[name]).nanmean())
            if name in feedback:
                W, B = feedback[name]
                row["feedback_angle"] = float(angle(W, B))
                row["norm_ratio"] = float(norm_ratio(B, W))
                row["sign_concordance"] = float(sign_concordance(W, B))
    return {name: {key: value for key, value in row.items() if value == value} for name, row in found.items()}


@dataclass
class _Record:
    """What one layer met: its inputs, call by call, and the errors that arrived at its responses, by call.

    In a net in time none arrives at the last calls, whose response comes too late for the output.
    """

    inputs: list[Tensor] = field(default_factory=list)
    errors: dict[int, Tensor] = field(default_factory=dict)

    @property
    def heard(self) -> list[Tensor]:
        """The errors in the order of the calls."""
        return [self.errors[call] for call in sorted(self.errors)]


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[str, _Record]]:
    records: dict[str, _Record] = {}

    def watch(record: _Record) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], response: Tensor) -> None:
            if response.requires_grad:
                call = len(record.inputs)
                record.inputs.append(inputs[0].detach())
                response.register_hook(lambda error: record.errors.update({call: error.detach()}))

        return hook

    handles = []
    for name, layer in trainable_layers(model):
        if layer_type(layer):
            records[name] = _Record()
            handles.append(layer.register_forward_hook(watch(records[name])))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _update_angles(layer: nn.Module, rule: _Record, gradient: _Record) -> Tensor:
    mine, theirs = rule.heard, gradient.heard
    if isinstance(layer, nn.Linear) and len(mine) == 1 and mine[0].dim() == 2:
        # One outer product per example, δ h^T, with the same h on both sides: the angle is that of the δ.
        return angles(mine[0], theirs[0])
    weight = layer.get_parameter("weight")
    inputs = [gradient.inputs[call] for call in sorted(gradient.errors)]
    found = []
    for n in range(len(mine[0])):
        with torch.enable_grad():
            responses = [layer(x[n : n + 1]) for x in inputs]
        both = [
            torch.autograd.grad(responses, weight, [e[n : n + 1] for e in errors], retain_graph=True)[0]
            for errors in (mine, theirs)
        ]
        found.append(angle(*both))
    return torch.stack(found)
