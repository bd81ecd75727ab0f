"""A spiking net that learns while somebody watches: one image after the other, and nothing is ever reset."""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from plausible.core.errors import ConfigurationError
from plausible.probes.activity import Moment, Spiking, watched
from plausible.train import runtime
from plausible.train.run import Run
from plausible.train.session import assemble, correct

STREAMS = 16
"""So many streams share the weights, each with images of its own; the first is watched."""

RECENT = 25
"""Images of each stream over which the accuracy is taken."""


@dataclass(frozen=True)
class Shown:
    """What came of one image.

    Attributes:
        image: (H, W), from 0, its darkest point, to 1.
        label: what it shows.
        answer: what the output took it for.
        output: (classes,), the output.
        moments: every step of the stream that is watched.
        dt: length of a step, in seconds.
        seconds: of simulated time since the beginning, this image included.
        accuracy: of all streams' answers of late, 0 to 1; each is given before that image is learned.
    """

    image: Tensor
    label: int
    answer: int
    output: Tensor
    moments: list[Moment]
    dt: float
    seconds: float
    accuracy: float


def settings(rule: str, seed: int) -> Run:
    """The run of which the first passes are watched: ``rule`` on digits."""
    return Run(
        rule=rule, seed=seed, data="digits", model="lif-mlp", batch_size=STREAMS, optimizer="Adam", lr=2e-3,
        weight_decay=0.0, probe_size=0,
    )  # fmt: skip


def learning(run: Run) -> Generator[Shown, None, None]:
    """Learn without end, an image after the other; what follows depends on the run alone.

    Raises:
        ConfigurationError: the run's net has no cells to watch; or what :func:`assemble` raises.
    """
    device = runtime.device_of(run)
    with runtime.prepared(run, device):
        session = assemble(run, device)
        learner, optimizer, net = session.learner, session.optimizer, session.learner.model
        if not isinstance(net, Spiking):
            raise ConfigurationError(f"model {run.model!r} has no spikes to watch. Take 'lif-mlp' or 'rsnn'.")
        steps, recent = 0, deque[float](maxlen=RECENT)
        batches = (batch for epoch in count() for batch in session.train.epoch(epoch))
        for x, y in batches:
            optimizer.zero_grad(set_to_none=True)
            if not learner.rule.continuous:
                learner.reset()
            with watched(learner) as moments:
                outcome = learner.learn(x, learner.rule.teacher(y))
            optimizer.step()
            steps += len(moments)
            recent.append(float(correct(outcome.output, y)) / len(y))
            yield Shown(
                image=_picture(x[0]),
                label=int(y[0]),
                answer=int(outcome.output[0].argmax()),
                output=outcome.output[0],
                moments=moments,
                dt=net.dt,
                seconds=steps * net.dt,
                accuracy=sum(recent) / len(recent),
            )


def _picture(x: Tensor) -> Tensor:
    grey = x.reshape(-1, *x.shape[-2:]).mean(0)
    return (grey - grey.min()) / (grey.max() - grey.min()).clamp(min=torch.finfo(grey.dtype).tiny)
