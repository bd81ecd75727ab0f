"""Neurons send spikes, and back-propagation sends numbers: graded activities forward, graded errors back.

Every message is recorded, call by call and so time step by time step: forward, what enters each weight layer, in
learning and in testing; feedback, what passes the wires. A channel (a layer or a wire) carries events if each of its
units only ever sends 0 or one amplitude of its own, the same at all times and for all examples.

* The stimulus is no message between neurons. A layer is fed by it if its inputs stay the same when all weights change.
* A channel that sent nothing is silent and not judged; so is one of which no unit spoke twice, for one value shows no
  amplitude. What never changes, such as a constant, is not an event: it has to be absent at times.
* The teacher's own wires come from outside, as the stimulus does. They are reported, and judged only where nothing
  else carries feedback: the teacher then speaks to the neurons directly, and its word is the only one to be had.
"""

from torch import Tensor

from plausible.audit.channels import Kind, by_unit, carried, presynaptic, stimulated
from plausible.audit.criterion import Batch, Unmeasurable, criterion, rounding, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.messages import TEACHER
from plausible.audit.recording import recorded, weight_layers
from plausible.audit.subject import Subject

NAME = "spiking"
EXAMPLES = 8
CALLS = 3  # of learning and of testing, each with other examples: what is shown twice may well be answered alike

LEARNING, TESTING, FEEDBACK = "forward in learning", "forward in testing", "feedback"


@criterion(NAME, order=4, core=True)
def spiking(subject: Subject, batch: Batch) -> Finding:
    """Record all messages; is each of them nothing but events?"""
    limits = thresholds(NAME)
    amplitude, batch = max(limits["amplitude"], rounding(subject.dtype)), batch.first(CALLS * EXAMPLES)
    messages = _Messages(subject, batch)
    if not messages.forward[LEARNING] and not messages.forward[TESTING]:
        return Finding(
            criterion=NAME,
            verdict="does not apply",
            sentence="No weight layer hears another one: there are no messages between neurons.",
        )
    entering: dict[str, Kind] = {name: carried(said, amplitude) for name, said in messages.teacher.items()}
    kinds: dict[str, dict[str, Kind]] = {
        phase: {name: carried(said, amplitude) for name, said in each.items()}
        for phase, each in messages.forward.items()
    }
    kinds[FEEDBACK] = {name: carried(said, amplitude) for name, said in messages.feedback.items()} or entering
    heard = {
        f"{name}, {phase}": kind for phase, each in kinds.items() for name, kind in each.items() if kind != "silent"
    }
    forward = [kind for phase in (LEARNING, TESTING) for kind in kinds[phase].values() if kind != "silent"]
    mute = [phase for phase, each in kinds.items() if each and not set(each.values()) - {"silent"}]
    verdict: Verdict = "solved"
    if "graded" in forward:
        verdict = "violated"
    elif mute:
        raise Unmeasurable(f"nothing was sent {' and '.join(mute)}, and silence is no event")
    elif not subject.wired:
        raise Unmeasurable("all that goes forward is events, but its feedback passes no wires and cannot be seen")
    elif "graded" in heard.values():
        verdict = "partly"
    graded = [name for name, kind in heard.items() if kind == "graded"]
    silent = [f"{name}, {phase}" for phase, each in kinds.items() for name, kind in each.items() if kind == "silent"]
    value = 1 - len(graded) / len(heard)
    seen = (
        "all of them carried events only"
        if not graded
        else f"{len(graded)} carried graded or constant values (as {graded[0]})"
    )
    unseen = "" if subject.wired else " The feedback could not be seen."
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"Messages of {len(heard)} channels were recorded, forward in learning and in testing, and feedback; "
        f"{seen}.{unseen}" + (f" Silent, not judged: {'; '.join(silent)}." if silent else ""),
        value=value,
        unit="fraction of channels",
        layers={name: float(kind == "events") for name, kind in heard.items()},
        samples=len(heard),
        thresholds=limits,
        also={
            **{
                f"fraction of channels, {phase}": part
                for phase, each in kinds.items()
                if (part := _part(each)) is not None
            },
            **{f"{name}, from the teacher": float(kind == "events") for name, kind in entering.items()},
        },
    )


def _part(kinds: dict[str, Kind]) -> float | None:
    heard = [kind for kind in kinds.values() if kind != "silent"]
    return heard.count("events") / len(heard) if heard else None


class _Messages:
    """What was sent: by channel, a tensor (times and examples, units) for each call.

    Attributes:
        forward: by phase, by layer, what entered it.
        feedback: by wire, what passed it, the teacher's wires left out.
        teacher: by wire, what passed the teacher's.
    """

    def __init__(self, subject: Subject, batch: Batch) -> None:
        self.feedback: dict[str, list[Tensor]] = {}
        self.teacher: dict[str, list[Tensor]] = {}

        def listen(name: str, message: Tensor, source: str, target: str) -> Tensor:
            found = self.teacher if source == TEACHER else self.feedback
            found.setdefault(name, []).append(by_unit(message.detach().clone(), batch.x, subject.time_axis))
            return message

        learner, tester = subject.copy(), subject.copy()
        if subject.wired:
            learner.tap(listen)
        # Parts of one size: a mean over examples would give events of several amplitudes otherwise.
        rows = len(batch.x) // CALLS or len(batch.x)
        parts = [(batch.x[i : i + rows], batch.y[i : i + rows]) for i in range(0, len(batch.x) - rows + 1, rows)]
        with recorded(learner.model) as learning:
            for x, y in parts:
                learner.learn(x, y)
        tester.model.eval()
        with recorded(tester.model) as testing:
            for x, _ in parts:
                tester.respond(x)
        outside = stimulated(subject, learning, *parts[0])
        self.forward = {
            phase: {
                name: [presynaptic(weight_layers(learner.model)[name], x) for x in inputs]
                for name, inputs in recording.inputs.items()
                if name not in outside
            }
            for phase, recording in ((LEARNING, learning), (TESTING, testing))
        }
