"""Runs the dendritic microcircuit, and lets its synapses learn from what meets at them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plausible.core.attach import attach
from plausible.core.chain import Block, chain
from plausible.core.errors import ConfigurationError
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Loss, Outcome, Teacher
from plausible.functional.dendrites import follow, rest, step
from plausible.rules.dendritic.circuit import Interneurons, Microcircuit, Moment, State
from plausible.rules.dendritic.plasticity import plasticity

if TYPE_CHECKING:
    from plausible.rules.dendritic.microcircuit import DendriticMicrocircuit

Chain = Sequence[Block]


class MicrocircuitLearner(Learner):
    """The user's layers as basal dendrites; what else the circuit has is kept here.

    The output is φ(u_L) of the circuit at rest without a teacher: with one sweep, a forward pass in which every layer
    is attenuated; with more, with what the interneurons leave of the messages from above.

    Attributes:
        feedback: the interneurons and apical dendrites, one module for each hidden layer.
        state: where the last call left the cells; None after a reset, and where the dynamics keeps none.
    """

    rule: "DendriticMicrocircuit"

    def __init__(self, model: nn.Module, rule: "DendriticMicrocircuit", loss: Loss) -> None:
        super().__init__(model, rule, loss)
        self.g = rule.conductances
        self.state: State | None = None
        self.feedback = nn.ModuleDict()
        blocks = chain(model, rule)
        for block, above in pairwise(blocks):
            output = above is blocks[-1]
            circuit = Microcircuit(self.g, block.name, above, output=output, scale=rule.scale, seed=rule.seed)
            self.feedback[block.name.replace(".", "/")] = circuit
            attach(block.layer, circuit)

    def circuits(self) -> list[Microcircuit]:
        """What each hidden layer has besides its pyramidal cells, first to last."""
        return [circuit for circuit in self.feedback.values() if isinstance(circuit, Microcircuit)]

    def forward(self, x: Inputs) -> Tensor:
        """φ(u_L) (N, n_L) at rest without a teacher; the state of the streams is left as it is."""
        return self._settle(chain(self.model, self.rule), self._tensor(x), None).fired[-1]

    @torch.no_grad()
    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        blocks, x, y = chain(self.model, self.rule), self._tensor(x), self._told(y)
        if self.rule.dynamics == "equations":
            free = self._settle(blocks, x, None)
            output = free.fired[-1]
            state = self._resume(free)
            for _ in range(self.rule.steps):
                state = self._tick(blocks, state, free.pre[0], y)
            self.state = state
        else:
            moment = self._settle(blocks, x, y, learning=True)
            plasticity(self.rule, blocks, self.circuits(), moment, self.rule.dt * self.rule.steps)
            if self.rule.sweeps > 1:
                output = self(x)
            else:  # nothing of the teacher has come up again
                output = blocks[-1].activate(rest(self.g.leak, *self._output(moment.basal[-1].detach(), None)))
        return Outcome(output.new_zeros(()) if y is None else self.loss(output, y).detach(), output.detach())

    def _output(self, basal: Tensor, teacher: Tensor | None) -> tuple[tuple[float, Tensor], ...]:
        return self.g.output(basal, teacher, current=self.rule.nudge == "error")

    def _teacher(self, output: Block, basal: Tensor, y: Tensor) -> Tensor:
        """What the teacher says (N, n_L): the target potential, or the loss's error at what the cells do alone."""
        if self.rule.nudge == "error":
            with torch.enable_grad():
                alone = rest(self.g.leak, *self._output(basal, None)).requires_grad_()
                (message,) = torch.autograd.grad(self.loss(output.activate(alone), y), alone)
            message = message * len(message)  # of each example, where the loss is the mean over them
        elif y.is_floating_point():
            message = y
        else:
            message = torch.full_like(basal, self.rule.low).scatter_(1, y.unsqueeze(1), self.rule.high)
        return self.wire(self.rule.nudge, message, "teacher", output.name)

    def _from_above(self, circuit: Microcircuit, rate: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells above send to the apical dendrites, and to the interneurons."""
        return (
            self.wire(f"{circuit.name}.topdown", rate, circuit.above, circuit.name),
            self.wire(f"{circuit.name}.nudge", u, circuit.above, circuit.name),
        )

    def _inhibit(self, circuit: Microcircuit, rate: Tensor) -> Tensor:
        """What the interneurons send to the apical dendrites."""
        return self.wire(f"{circuit.name}.inhibition", rate, circuit.name, circuit.name)

    def _settle(self, blocks: Chain, x: Tensor, y: Tensor | None, *, learning: bool = False) -> Moment:
        """The circuit at rest, approached by sweeps up and down; the last goes down only to teach."""
        apical = None
        for _ in range(self.rule.sweeps - 1):
            moment = self._ascend(blocks, x, y, apical)
            self._descend(blocks, moment)
            apical = [meet.apical.detach() for meet in moment.inter]
        moment = self._ascend(blocks, x, y, apical, learning=learning)
        if learning:
            self._descend(blocks, moment)
        return moment

    def _ascend(
        self, blocks: Chain, x: Tensor, y: Tensor | None, apical: list[Tensor] | None, *, learning: bool = False
    ) -> Moment:
        """A sweep up, with the apical potentials as they are, or none.

        Args:
            blocks: the model.
            x: the stimulus.
            y: what is taught, or None.
            apical: v_A of each hidden layer, or None.
            learning: whether the layers' answers are to carry a graph, through which their synapses learn.
        """
        moment = Moment([_front(blocks, x)], [], [], [], [])
        for k, block in enumerate(blocks):
            with torch.set_grad_enabled(learning or torch.is_grad_enabled()):
                moment.basal.append(block.layer(moment.pre[k]))
            v_B = moment.basal[k].detach() if learning else moment.basal[k]
            if block is blocks[-1]:
                inputs = self._output(v_B, None if y is None else self._teacher(block, v_B, y))
            else:
                inputs = self.g.pyramidal(v_B, None if apical is None else apical[k])
            moment.pyramidal.append(rest(self.g.leak, *inputs))
            moment.fired.append(block.activate(moment.pyramidal[k]))
            moment.pre.append(moment.fired[k])
        moment.pre.pop()
        return moment

    def _descend(self, blocks: Chain, moment: Moment) -> None:
        """A sweep down: what interneurons leave of the messages from above moves the cells below."""
        g, circuits = self.g, self.circuits()
        for k in reversed(range(len(circuits))):
            top, soma = self._from_above(circuits[k], moment.fired[k + 1], moment.pyramidal[k + 1])
            v_I = circuits[k].predict(moment.pre[k + 1])
            r_I = blocks[k + 1].activate(rest(g.leak, *g.interneuron(v_I, soma)))
            heard = self._inhibit(circuits[k], r_I)
            v_A = circuits[k].apical(top, heard)
            moment.inter.insert(0, Interneurons(v_I, r_I, heard, v_A))
            moment.pyramidal[k] = rest(g.leak, *g.pyramidal(moment.basal[k].detach(), v_A))
            moment.fired[k] = blocks[k].activate(moment.pyramidal[k])

    def reset(self, streams: Tensor | None = None) -> None:
        """See :meth:`Learner.reset`."""
        if streams is None:
            self.state = None
        elif self.state is not None:
            self.state = self.state._replace(forgotten=self.state.forgotten | streams)

    def _resume(self, free: Moment) -> State:
        """The state to go on from; streams without a past start at rest, their interneurons as the cells above."""
        x, u = free.pre[0], free.pyramidal
        top = u[-1]
        teacher = torch.zeros_like(top) if self.rule.nudge == "error" else top
        known = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        start = State(x, tuple(u), tuple(u[1:]), teacher, known)
        old = self.state
        if old is None:
            return start
        if len(old.input) != len(x):
            raise ConfigurationError(
                f"{self.rule.name}: the state is that of {len(old.input)} streams, and the input has {len(x)}, which "
                "would go on from it. If they are others, forget the state first: learner.reset()."
            )
        return start.after(old)

    def _tick(self, blocks: Chain, state: State, x: Tensor, y: Tensor | None) -> State:
        """One step of all equations; every synapse changes by what meets at it at its beginning."""
        g, dt, u = self.g, self.rule.dt, state.pyramidal
        fired = [block.activate(v) for block, v in zip(blocks, u, strict=True)]
        pre = [state.input, *fired[:-1]]
        basal = [block.layer(r) for block, r in zip(blocks, pre, strict=True)]
        moment, pyramidal, inter = Moment(pre, basal, [*u], fired, []), [], []
        for k, circuit in enumerate(self.circuits()):
            top, soma = self._from_above(circuit, fired[k + 1], u[k + 1])
            v_I, r_I = circuit.predict(fired[k]), blocks[k + 1].activate(state.inter[k])
            heard = self._inhibit(circuit, r_I)
            v_A = circuit.apical(top, heard)
            moment.inter.append(Interneurons(v_I, r_I, heard, v_A))
            pyramidal.append(step(u[k], dt, g.leak, *g.pyramidal(basal[k], v_A)))
            inter.append(step(state.inter[k], dt, g.leak, *g.interneuron(v_I, soma)))
        plasticity(self.rule, blocks, self.circuits(), moment, dt)
        pyramidal.append(step(u[-1], dt, g.leak, *self._output(basal[-1], None if y is None else state.teacher)))
        if y is None:
            teacher = state.teacher if self.rule.nudge == "error" else pyramidal[-1]
        else:
            teacher = follow(state.teacher, self._teacher(blocks[-1], basal[-1], y), dt, self.rule.tau)
        slow = follow(state.input, x, dt, self.rule.tau)
        return State(slow, tuple(pyramidal), tuple(inter), teacher, state.forgotten)

    def param_groups(self) -> list[dict[str, Any]]:
        """The interneurons' synapses: W^IP as the model's weights are; W^PI without decay, as W^down has none."""
        groups = []
        if self.rule.interneuron_rate:
            groups.append({"params": [p for c in self.circuits() for p in (c.IP, c.IP_bias) if p is not None]})
        if self.rule.inhibition_rate:
            groups.append({"params": [c.PI for c in self.circuits()], "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        blocks = chain(self.model, self.rule)
        taught = [b.name for b in blocks if any(p.requires_grad for p in b.layer.parameters())]
        return {**super().report(), "covered": taught, "note": "Evaluation attenuates every layer, as dendrites do."}

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W^up_{k+1}, (W^down_k)ᵀ) by the name of layer k + 1."""
        layers = {block.name: block.layer for block in chain(self.model, self.rule)}
        return {c.above: (layers[c.above].get_parameter("weight").detach(), c.down.t()) for c in self.circuits()}

    def _tensor(self, x: Inputs) -> Tensor:
        if not isinstance(x, Tensor):
            raise ConfigurationError(
                f"{self.rule.name}: a chain of layers takes one tensor, and the input is a {type(x).__name__}. "
                "Pass the tensor alone."
            )
        return x

    def _told(self, y: Teacher) -> Tensor | None:
        if y is not None and not isinstance(y, Tensor):
            raise ConfigurationError(
                f"{self.rule.name} is taught by labels or target potentials, as a tensor, and got a {type(y).__name__}."
            )
        return y


def _front(blocks: Chain, x: Tensor) -> Tensor:
    """r_0: the stimulus as it reaches the first layer."""
    for module in blocks[0].before:
        x = module(x)
    return x
