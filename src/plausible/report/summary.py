"""From runs to statements: how each contender stands, and what came out, in one sentence.

Only finished runs are averaged, and what is missing is named: a mean over the seeds that survived flatters a rule that
diverges. Nothing here calls a difference significant; it gives the interval.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from plausible.audit import Scorecard
from plausible.audit.measured import measured
from plausible.compare.statistics import Difference, Estimate, estimate, holm, paired_difference
from plausible.core import registry
from plausible.core.errors import UnknownName
from plausible.report import names
from plausible.report.results import Contender, Results, RunRecord

#: With more rules than this the sentence names only the closest and the furthest.
FEW = 5


@dataclass(frozen=True)
class Audited:
    """What the audit found of a contender.

    Attributes:
        card: the findings.
        own: they are of this very contender; else of its rule with default options, from the table that is shipped.
    """

    card: Scorecard
    own: bool


@dataclass(frozen=True)
class Standing:
    """One contender's final test accuracy (a fraction of 1), alone and against back-propagation, seed by seed.

    ``accuracy`` is None where no run finished; ``difference`` also where there is no back-propagation to pair with,
    and for back-propagation itself. ``p`` is Holm's adjusted p of the paired t test, over all contenders but sham.
    ``problems`` names the runs that are not in the numbers. ``audited`` is None where nobody has audited it.
    """

    contender: Contender
    title: str
    short: str
    control: str
    accuracy: Estimate | None
    difference: Difference | None
    p: float | None
    problems: tuple[str, ...]
    audited: Audited | None = None

    @property
    def reference(self) -> bool:
        """It is back-propagation, against which the others are held."""
        return self.contender.rule == "backprop"


def final_accuracies(contender: Contender) -> dict[int, float]:
    """Seed → test accuracy of the finished runs."""
    return {run.seed: run.test_accuracy for run in contender.runs if run.finished and run.test_accuracy is not None}


def baseline(results: Results) -> Contender | None:
    """The contender that the others are compared with: the first whose rule is back-propagation."""
    return next((c for c in results.contenders if c.rule == "backprop"), None)


def standings(results: Results) -> tuple[Standing, ...]:
    """How each contender stands, in the order in which they were entered."""
    base = baseline(results)
    differences = {
        c.label: paired_difference(final_accuracies(c), final_accuracies(base))
        for c in results.contenders
        if base is not None and c is not base
    }
    # Sham is no hypothesis (it must be equal): it takes no share of the correction.
    tested = {
        c.label: d.p
        for c in results.contenders
        if c.rule != "sham" and (d := differences.get(c.label)) is not None and d.p is not None
    }
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(
        Standing(
            contender=c,
            title=names.entry(c.label, c.rule, c.full),
            short=names.entry(c.label, c.rule, c.short),
            control=c.control,
            accuracy=estimate(list(values.values())) if (values := final_accuracies(c)) else None,
            difference=differences.get(c.label),
            p=adjusted.get(c.label),
            problems=tuple(f"seed {run.seed} {run.status}" for run in c.runs if not run.finished),
            audited=_audited(c, results.base),
        )
        for c in results.contenders
    )


def _audited(contender: Contender, base: Mapping[str, Any]) -> Audited | None:
    """Its own scorecard; else its rule's in the shipped table, unless it has options that may change how it learns, or
    weights under constraints."""
    if contender.card is not None:
        return Audited(contender.card, own=True)
    try:
        numbers = registry.get(contender.rule).tunables()
    except UnknownName:
        return None
    options = contender.overrides.get("rule_options", base.get("rule_options", {}))
    plain = set(options) <= set(numbers) and not contender.overrides.get("constraints", base.get("constraints"))
    card = measured().get(contender.rule) if plain else None
    return card and Audited(card, own=False)


def finding(results: Results, table: Iterable[Standing]) -> str:
    """What came out, in one sentence composed from the numbers."""
    table = [s for s in table if s.accuracy is not None]
    if not table:
        return "No run of this comparison has finished yet, so there is nothing to report but its configuration."
    seeds = max(s.accuracy.n for s in table if s.accuracy is not None)
    medium = ", ".join(name for each in results.base.get("constraints", []) for name in each)
    setting = (
        f"On {names.data(str(results.base.get('data', 'unknown data')))}, with "
        f"{names.model(str(results.base.get('model', 'an unknown model')))}{medium and f' ({medium} weights)'} and "
        f"{names.count(seeds, 'seed')}"
        f"{' (too few for any interval)' if seeds == 1 else ''}"
    )
    reference = next((s for s in table if s.reference), None)
    frozen = next((s for s in table if s.contender.rule == "frozen"), None)
    tail = f"; a network whose hidden layers never learn reaches {names.percent(_mean(frozen))}" if frozen else ""
    if reference is None:
        best = max(table, key=_mean)
        return (
            f"{setting}, the best is {_inline(best.title)} with {names.percent(_mean(best))} on the test set{tail}; "
            "there is no finished run of back-propagation to compare with."
        )
    rivals = sorted((s for s in table if not s.control and s.difference is not None), key=_mean, reverse=True)
    head = f"{setting}, back-propagation reaches {names.percent(_mean(reference))} on the test set"
    if not rivals:
        return f"{head}{tail}."
    first, *others = rivals
    if len(rivals) > FEW:
        return (
            f"{head}; of {names.count(len(rivals), 'other rule')}, {_inline(first.title)} comes closest, at "
            f"{_gap(first, 'points', '95% CI ')}, and {_inline(others[-1].title)} stays furthest away, at "
            f"{_gap(others[-1])}{tail}."
        )
    told = [f"{_gap(first, 'points', '95% CI ', f' for {_inline(first.title)}')}"]
    told += [_gap(s, named=f" for {_inline(s.title)}") for s in others]
    return f"{head}; the difference from it is {names.listed(told)}{tail}."


def _mean(standing: Standing) -> float:
    assert standing.accuracy is not None  # the callers have left the others out
    return standing.accuracy.mean


def _gap(standing: Standing, unit: str = "", what: str = "", named: str = "") -> str:
    """``−0.3 points for sign symmetry (95% CI −0.6 to 0.1)``; the interval is left out where there is none."""
    d = standing.difference
    assert d is not None  # the callers have left the others out
    ci = names.interval(d).replace(" ", "\u00a0")  # not to be broken over lines
    return f"{names.points(d.mean)}{' ' if unit else ''}{unit}{named}{f' ({what}{ci})' if ci else ''}"


def _inline(title: str) -> str:
    """A title inside a sentence: lower case, unless it begins with a name."""
    return title if title.startswith("Kolen") or title[:2].isupper() else title[:1].lower() + title[1:]


def mean_curve(
    contender: Contender, points: Callable[[RunRecord], Iterable[tuple[float, float | None]]]
) -> tuple[list[float], list[float], list[float | None]]:
    """Epochs, mean and standard deviation over the finished runs of what ``points(run)`` yields as (epoch, value).

    An epoch at which a run has no value is left out, so that every mean is over the same seeds.
    """
    series = [{e: v for e, v in points(run) if v is not None} for run in contender.finished]
    if not series:
        return [], [], []
    shared = sorted(set.intersection(*(set(s) for s in series)))
    estimates = [estimate([s[e] for s in series]) for e in shared]
    return shared, [e.mean for e in estimates], [e.sd for e in estimates]


def layers_of(table: Iterable[Standing]) -> list[str]:
    """Names of the probed layers, from the input to the output."""
    seen: dict[str, None] = {}
    for standing in table:
        for run in standing.contender.finished:
            for probe in run.probes[:1]:
                seen |= dict.fromkeys(probe.layers)
    return list(seen)


def angle_curves(standing: Standing, measure: str) -> dict[str, tuple[list[float], list[float], list[float | None]]]:
    """Layer → (epochs, mean, SD) of a probe's ``measure``; a layer to which it does not apply is left out."""
    curves = {}
    for layer in layers_of([standing]):

        def points(run: RunRecord, layer: str = layer) -> Iterable[tuple[float, float | None]]:
            return ((p.epoch, p.layers.get(layer, {}).get(measure)) for p in run.probes)

        curve = mean_curve(standing.contender, points)
        if curve[0]:
            curves[layer] = curve
    return curves
