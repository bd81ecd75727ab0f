"""Feedback is carried by signed numbers without bound, where cells send rates or spikes.

All messages on the wires are recorded while the teacher is driven harder, from nothing to absurdity: multiplied, where
it enters, by up to 2^40. What is never negative, and does not grow for ever, a cell could send. Credit must survive it:
hidden updates still depend on the label, and do so through the messages that were recorded. One number for all cells is
a global modulator, and has no feedback path that could be linear.
"""

from dataclasses import dataclass
from functools import partial
from math import isfinite, log, prod

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, Unmeasurable, criterion, rounding, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.messages import TEACHER, Hearing, listen, relabelled
from plausible.audit.subject import Subject, change

NAME = "linear feedback"
EXAMPLES = 6
GAINS = (4.0, 64.0, 4096.0, 2.0**30, 2.0**40)
"""What the teacher is multiplied by; growth is taken between the last two, where a small error saturates as well."""


@dataclass(frozen=True)
class Carrier:
    """What one wire carries.

    Attributes:
        growth: the power of the teacher's gain with which its messages grow in the end: 1 if linear, 0 if bounded.
        least: its lowest number, as a fraction of its largest: negative if it is signed.
    """

    growth: float
    least: float


@criterion(NAME, order=3, core=True)
def linear_feedback(subject: Subject, batch: Batch) -> Finding:
    """Drive the teacher harder; what do the feedback messages do?"""
    if not subject.wired:
        raise Unmeasurable("Its messages pass through no wires, so nobody can see what carries its feedback.")
    limits, batch = thresholds(NAME), batch.first(EXAMPLES)
    unchanged = rounding(subject.dtype)
    plain = listen(subject, batch)
    for by in range(1, batch.classes):  # where the teacher says right or wrong, both labels may be wrong
        relabelling = relabelled(batch, by)
        other = listen(subject, relabelling)
        if (credit := change(_hidden(plain), _hidden(other))) >= unchanged:
            break
    else:
        why = "their updates do not depend on the label" if _hidden(plain) else "they are not taught"
        return Finding(
            criterion=NAME,
            verdict="does not apply",
            sentence=f"Nothing to measure: no teaching message goes beyond the output layer to hidden ones; {why}.",
        )
    driven = {gain: listen(subject, batch, drive=partial(torch.mul, other=gain)) for gain in (0.0, -1.0, *GAINS)}
    teaching = [wire for wire in plain.messages if any(_differ(plain, run, wire) for run in (other, *driven.values()))]
    inner = [wire for wire in teaching if not _enters(plain, wire)]
    numbers = {wire: _resolution(plain, wire, subject, batch) for wire in inner or teaching}
    carriers = {wire: _carrier(driven, wire) for wire, n in numbers.items() if n > 1}
    signed = {wire for wire, seen in carriers.items() if seen.least < -limits["negative"]}
    unbounded = {wire for wire, seen in carriers.items() if not seen.growth < limits["growth"]}
    verdict: Verdict = "violated" if signed & unbounded else "partly" if signed | unbounded else "solved"
    if verdict != "violated":
        _check_complete(subject, (batch, relabelling), plain, inner, unchanged)
    if not carriers:
        return _modulated(subject, batch, max(numbers.values(), default=0.0), credit)
    low, growth = min(seen.least for seen in carriers.values()), max(seen.growth for seen in carriers.values())
    sign = f"as low as {low:.2g} of the largest" if signed else "never negative"
    bound = f"grow as its power {growth:.2g}" if unbounded else "stay bounded"
    where = "the wires between populations" if inner else "the wires it enters by, as there are no others,"
    own = {} if not inner else _linearity(subject, batch, plain, driven, list(carriers))
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"The teacher was driven up to 2^40 times harder: messages on {where} {bound}, and are {sign}. With "
        f"another label, hidden updates change by {credit:.2g} of themselves.",
        value=growth,
        unit="power of the gain",
        layers={wire: seen.growth for wire, seen in carriers.items()},
        samples=len(carriers),
        thresholds=limits,
        also={"lowest message of largest": low, "change with the label": credit, **own},
    )


def _modulated(subject: Subject, batch: Batch, numbers: float, credit: float) -> Finding:
    if subject.copy().respond(batch.x).numel() == len(batch.x):
        raise Unmeasurable("The net has one output, so an error for it and one number for all cells look the same.")
    return Finding(
        criterion=NAME,
        verdict="solved",
        sentence="A scalar is all that is fed back, one number for all cells: a global modulator, and no feedback path "
        f"that could be linear. With another label, hidden updates change by {credit:.2g} of themselves.",
        value=numbers,
        unit="numbers for an example",
        thresholds=thresholds(NAME),
        also={"change with the label": credit},
    )


def _hidden(heard: Hearing) -> dict[str, Tensor]:
    """The updates of all but the output layer, which is called last."""
    return {name: value for name, value in heard.updates.items() if name.rpartition(".")[0] not in heard.order[-1:]}


def _enters(heard: Hearing, wire: str) -> bool:
    """Whether the wire only lets the teacher in, at the output; straight to hidden layers, it is a feedback path."""
    source, target = heard.ends[wire]
    return source == TEACHER and target not in heard.order[:-1]


def _resolution(heard: Hearing, wire: str, subject: Subject, batch: Batch) -> float:
    """How many numbers a message has for an example (and a time step of a sequence)."""
    moments = 1 if subject.time_axis is None else batch.x.shape[subject.time_axis]
    most = max(message.numel() for message in heard.messages[wire]) / len(batch.x)
    return most / moments if most == moments else most  # one number for each moment of a sequence, or for cells


def _differ(one: Hearing, two: Hearing, wire: str) -> bool:
    a, b = one.flat(wire), two.flat(wire)
    return not (a.shape == b.shape and torch.equal(a, b))


def _carrier(driven: dict[float, Hearing], wire: str) -> Carrier:
    """How a wire's messages grow from what they are without a teacher, and how low they get."""
    rest, (lower, upper) = driven[0.0].flat(wire).nan_to_num(), GAINS[-2:]
    sizes = []
    for gain in (lower, upper):
        here = driven[gain].flat(wire)
        n = min(len(here), len(rest))  # a relaxation may take more steps
        sizes.append(float((here[:n] - rest[:n]).norm()))
    small, large = sizes
    if not isfinite(small + large) or large > small == 0:
        growth = float("inf")
    else:
        growth = log(large / small) / log(upper / lower) if large > 0 else 0.0
    least = 0.0
    for run in driven.values():
        here = run.flat(wire)
        here = here[here.isfinite()]
        if here.any():
            least = min(least, float(here.min() / here.abs().max()))
    return Carrier(growth, least)


def _check_complete(
    subject: Subject, labellings: tuple[Batch, Batch], plain: Hearing, inner: list[str], unchanged: float
) -> None:
    """Raise Unmeasurable if credit reaches hidden layers around the wires, which then show nothing."""
    entries = [wire for wire, (source, _) in plain.ends.items() if source == TEACHER]
    for what, clamp in (("where the teacher enters", entries), ("between populations", inner or entries)):
        first, second = (_hidden(listen(subject, each, clamp=clamp)) for each in labellings)
        if change(first, second) >= unchanged:
            raise Unmeasurable(
                f"With all wires {what} clamped to zero, hidden updates still depend on the label: a message bypasses "
                "them, so what they carry does not show what the feedback is."
            )


def _linearity(
    subject: Subject, batch: Batch, plain: Hearing, driven: dict[float, Hearing], wires: list[str]
) -> dict[str, float]:
    """How far messages are from homogeneous, odd and additive functions of the teacher's, on the worst wire of each."""

    def part(message: Tensor, whole: float) -> Tensor:
        generator = torch.Generator().manual_seed(prod(message.shape))
        share = torch.rand(message.shape, generator=generator, dtype=torch.float64).to(message)
        return message * (whole - share).abs()

    halves = [listen(subject, batch, drive=partial(part, whole=whole)) for whole in (0.0, 1.0)]

    def error(wire: str, *terms: tuple[float, Hearing]) -> float:
        size = plain.flat(wire)
        flats = [factor * heard.flat(wire) for factor, heard in terms]
        n = min(len(size), *map(len, flats))
        total = torch.stack([flat[:n] for flat in flats]).sum(0)
        return float(total.norm() / size.norm()) if size.any() else 0.0

    terms = {
        "homogeneity error": [(0.25, driven[4.0]), (-1.0, plain)],
        "oddness error": [(1.0, driven[-1.0]), (1.0, plain)],
        "additivity error": [(1.0, halves[0]), (1.0, halves[1]), (-1.0, plain)],
    }
    return {name: max(error(wire, *parts) for wire in wires) for name, parts in terms.items()}
