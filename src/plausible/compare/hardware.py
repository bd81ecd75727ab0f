"""What people who build hardware would count of a learner: operations, spikes, bits, changed synapses, kept state.

All of it is observed on copies that answer and learn from one batch; nothing is derived from what a rule says of
itself. What the optimiser computes is the same for every rule, and is left out.
"""

from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from plausible.audit.memory import kept_bytes
from plausible.compare.traffic import traffic
from plausible.core.attach import device_of
from plausible.core.learner import Learner
from plausible.functional.random import random_state, replayed
from plausible.probes.operations import operations


@dataclass(frozen=True)
class Counts:
    """Counts per example, unless it says otherwise: those of a batch, divided by its examples.

    Times ``examples`` they are those of an update; divided by steps, those of a time step. Learning is a whole update:
    the forward pass (or passes, or relaxation), the feedback, the change of weights, and what the rule does around the
    optimiser's step. See :mod:`plausible.probes.operations` and :mod:`plausible.compare.traffic` for what is counted.

    Attributes:
        examples: in an update.
        inference_steps: calls of the weight layer that is called most often, for the whole batch: 1 in a static net,
            the time steps of a net in time, the steps of a relaxation.
        inference_macs: multiply–accumulates of an answer, on conventional hardware.
        inference_synaptic_operations: of these, products of two nonzero factors: all that event-driven hardware does.
        inference_accumulates: of these, those for which adding or subtracting is enough.
        inference_spikes: events sent; 0 where layers send numbers.
        inference_bits: sent from layer to layer.
        learning_steps: as above, and so are the next five.
        learning_macs: see above.
        learning_synaptic_operations: see above.
        learning_accumulates: see above.
        learning_spikes: see above.
        learning_bits: sent forward from layer to layer, in all phases.
        learning_elementwise: entries of results computed entry by entry, such as traces and derivatives.
        feedback_bits: teaching messages within the network.
        teacher_bits: teaching messages that come from outside.
        synapses_changed: per update, entries of weights, feedback weights too, for which an update was left.
        state_bytes: what the learner keeps from call to call besides parameters and feedback, for the whole batch:
            membranes, traces, relaxed activity.
    """

    examples: int
    inference_steps: int
    inference_macs: float
    inference_synaptic_operations: float
    inference_accumulates: float
    inference_spikes: float
    inference_bits: float
    learning_steps: int
    learning_macs: float
    learning_synaptic_operations: float
    learning_accumulates: float
    learning_spikes: float
    learning_bits: float
    learning_elementwise: float
    feedback_bits: float
    teacher_bits: float
    synapses_changed: int
    state_bytes: int


def count(learner: Learner, x: Tensor, y: Tensor) -> Counts:
    """Count what copies of ``learner`` do with one batch. The learner and the random state stay as they are.

    Args:
        learner: any learner of one tensor.
        x: (N, …), the examples of an update.
        y: (N,), their labels.
    """
    n, teacher = len(x), learner.rule.teacher(y)
    device = device_of(learner.model)

    def fresh() -> Learner:
        copy = deepcopy(learner)
        copy.reset()
        copy.zero_grad()
        return copy

    with replayed(device, random_state(device)):
        answering, learning, kept = fresh().eval(), fresh(), fresh()
        with torch.no_grad():
            answer = operations(lambda: answering(x))
        before = {name: buffer.clone() for name, buffer in learning.named_buffers()}

        def update() -> None:
            learning.learn(x, teacher)
            learning.before_step()
            learning.after_step()

        learned = operations(update)
        changed = _changed(learning, before)
        state = kept_bytes(lambda: (kept.learn(x, teacher), kept.zero_grad()))
        sent, taught = traffic(learner, x, y)
    return Counts(
        examples=n,
        inference_steps=sent.steps,
        inference_macs=answer.macs / n,
        inference_synaptic_operations=answer.synaptic / n,
        inference_accumulates=answer.accumulates / n,
        inference_spikes=sent.spikes / n,
        inference_bits=sent.forward / n,
        learning_steps=taught.steps,
        learning_macs=learned.macs / n,
        learning_synaptic_operations=learned.synaptic / n,
        learning_accumulates=learned.accumulates / n,
        learning_spikes=taught.spikes / n,
        learning_bits=taught.forward / n,
        learning_elementwise=learned.elementwise / n,
        feedback_bits=taught.feedback / n,
        teacher_bits=taught.teacher / n,
        synapses_changed=changed,
        state_bytes=state,
    )


def _changed(learner: Learner, before: dict[str, Tensor]) -> int:
    """Synapses that an update leaves changed, or to be changed: those of weights by their gradient, those that the rule
    keeps to itself by their value."""
    grads = [p.grad != 0 for p in learner.parameters() if p.grad is not None and p.dim() > 1]
    own = [b != before[name] for name, b in learner.named_buffers() if name in before and b.dim() > 1]
    return sum(int(entries.sum()) for entries in chain(grads, own))
