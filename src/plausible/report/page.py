"""Writes a report: the page, the figures for a paper, and the numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError, UnknownName
from plausible.probes import Activity
from plausible.report import curves, figures, names, problems, raster, svg, tables
from plausible.report.field import field, shown
from plausible.report.results import Results, load
from plausible.report.style import NARROW, PALETTE, PRINT, WIDE, Medium, drawing, marks
from plausible.report.summary import Standing, finding, layers_of, standings
from plausible.train.files import make_directory, write_atomically


@dataclass(frozen=True)
class _Plan:
    """A figure: how it is drawn, its file's name, its caption, and what a screen reader says."""

    name: str
    draw: Callable[[Sequence[Standing], Medium], Figure | None]
    caption: str


_UPDATE = "Angle between update and back-propagation’s"
_FEEDBACK = "Angle between feedback and forward weights"
_PLANS = (
    _Plan(
        "problems",
        field,
        "Accuracy on the test set, on an axis that is logarithmic in the error, against the number of "
        "back-propagation’s six problems that the rule solves, both measured. Upright bar: 95% confidence interval of "
        "the mean; paler bar: a column further for each problem that is solved in part; dashed: back-propagation. "
        "All in one column solve the same number, and stand apart only so that each can be seen.",
    ),
    _Plan(
        "final",
        figures.final,
        "Final accuracy on the test set. Small dots: seeds; large mark and bar: their mean and its 95% confidence "
        "interval; shaded: back-propagation’s interval. Differences are paired by seed, in percentage points.",
    ),
    _Plan(
        "learning",
        curves.learning,
        "Validation accuracy over training, on an axis that is logarithmic in the error. Bold: mean over seeds, "
        "with one standard deviation shaded; thin: single seeds; dashed: back-propagation’s mean.",
    ),
    _Plan(
        "update-angle",
        lambda table, medium: curves.angles(table, "update_angle", _UPDATE, medium),
        "Angle between the rule’s update and back-propagation’s, from the same state, over training: mean over seeds, "
        "with one standard deviation shaded. Dotted at 90°: no better than a random direction; 0°: the gradient.",
    ),
    _Plan(
        "feedback-angle",
        lambda table, medium: curves.angles(table, "feedback_angle", _FEEDBACK, medium),
        "Angle between the weights that carry the error back and the forward weights, as actually used, over training: "
        "mean over seeds, with one standard deviation shaded. Dotted at 90°: unrelated.",
    ),
    _Plan(
        "cost",
        figures.cost,
        "Cost of one training step as a ratio to back-propagation’s, measured in turns in one process. "
        "Bars: quartiles.",
    ),
)


def write(directory: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the report of the comparison in ``directory`` and return the path of its page.

    Into ``out`` (by default ``directory`` itself) go report.html, results.csv (a row per run), summary.csv and
    hardware.csv (a row per contender), problems.csv (a row per contender and problem), results.md, and report/figures/
    with every figure as SVG and PDF. Each file is replaced whole.

    Raises:
        ReportError: ``directory`` is not a comparison, or a file in it is damaged.
        StorageError: a file cannot be read, or ``out`` cannot be written to.
    """
    results = load(directory)
    target = Path(out) if out is not None else Path(directory)
    table = standings(results)
    sentence = finding(results, table)
    make_directory(target)
    inside = _inside(table)
    drawn = {plan.name: _draw(plan, table, target / "report" / "figures") for plan in (*_PLANS, *inside)}
    captions = {plan.name: f"{plan.caption} {_left_out(table, plan.name)}" for plan in (*_PLANS, *inside)}
    page = _render(results, table, sentence, drawn, captions, [plan.name for plan in inside])
    for name, text in (
        ("results.csv", tables.runs_csv(results)),
        ("summary.csv", tables.summary_csv(table)),
        ("hardware.csv", tables.hardware_csv(table)),
        ("problems.csv", tables.problems_csv(table)),
        ("results.md", tables.markdown(results, table, sentence)),
        ("report.html", page),
    ):
        write_atomically(target / name, text.encode())
    return target / "report.html"


def _inside(table: Sequence[Standing]) -> list[_Plan]:
    """A figure for each contender whose net spikes."""
    return [
        _Plan(f"activity-{k}", partial(_raster, seen), raster.caption(seen, s.title))
        for k, s in enumerate(table, start=1)
        if (seen := s.contender.activity)
    ]


def _raster(seen: Activity, _table: Sequence[Standing], medium: Medium) -> Figure:
    return raster.raster(seen, medium)


def _draw(plan: _Plan, table: Sequence[Standing], folder: Path) -> Markup:
    """Save one figure for a paper and return it for the page, once for wide and once for narrow screens."""
    with drawing(PRINT):
        figure = plan.draw(table, PRINT)
        if figure is None:
            return Markup("")
        svg.save(figure, folder / plan.name, plan.caption)
    markup = Markup("")
    for medium in (WIDE, NARROW):
        with drawing(medium):
            figure = plan.draw(table, medium)
            assert figure is not None  # what there is to draw does not depend on the medium
            markup += Markup(svg.inline(figure, f"{plan.name}-{medium.name}", plan.caption))
    return markup


def _render(
    results: Results,
    table: Sequence[Standing],
    sentence: str,
    drawn: dict[str, Markup],
    captions: dict[str, str],
    inside: list[str],
) -> str:
    environment = Environment(
        loader=PackageLoader("plausible.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        results=results,
        standings=table,
        sentence=sentence,
        facts=_facts(results),
        missing="; ".join(f"{s.title}: {', '.join(s.problems)}" for s in table if s.problems),
        single=max((s.accuracy.n for s in table if s.accuracy), default=0) == 1,
        probed=bool(layers_of(table)),
        counted=any(s.contender.cost and s.contender.cost.hardware for s in table),
        overridden=[s for s in table if s.contender.overrides],
        tuning=_tuning(results),
        environment=tables.environment(results),
        figures=drawn,
        captions=captions,
        inside=inside,
        over=problems.columns(table),
        problems=problems,
        source=problems.source(results, table),
        verdicts={name: Markup(svg.verdict(name)) for name in names.SIGNS},
        glyphs={label: Markup(svg.glyph(mark)) for label, mark in marks(results.contenders).items()},
        palette=PALETTE,
        tables=tables,
        citations=_citations(results),
        version=plausible.__version__,
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    """What was compared, for the line under the finding."""
    finished = [run for c in results.contenders for run in c.finished]
    parameters = next((run.parameters for run in finished if run.parameters), None)
    facts = [
        ("Data", names.data(str(results.base.get("data", "unknown")))),
        ("Model", names.model(str(results.base.get("model", "unknown"))).removeprefix("a ")),
        ("Parameters", f"{parameters:,}" if parameters else "unknown"),
        ("Seeds", f"{len(results.seeds)}"),
        ("Epochs", tables.plain(results.base.get("epochs"))),
        ("Runs", f"{len(finished)} of {len(results.contenders) * len(results.seeds)}"),
    ]
    return [*facts, ("Date", results.created[:10])] if results.created else facts


def _left_out(table: Sequence[Standing], figure: str) -> str:
    """Who is left out of a figure, and why; nothing for figures that show all."""
    finished = [s for s in table if s.contender.finished]
    if figure == "problems":
        titles, why = [s.title for s in finished if s not in [each for each, *_ in shown(table)]], "Not audited"
    elif figure.endswith("-angle"):
        measure = figure.replace("-", "_")
        titles = [s.title for s in finished if curves.is_flat(s, measure)]
        why = "Without a panel, because the angle is zero or does not apply"
    else:
        return ""
    return f"{why}: {names.listed(titles)}." if titles else ""


def _tuning(results: Results) -> str:
    """Where the settings come from."""
    if not results.tuning:
        return "Nothing was tuned for this comparison: all rules ran with these settings, except as listed."
    told = dict(results.tuning)
    trials, study = told.pop("trials", None), told.pop("study", None)
    budget = f"with the same budget of {trials} trials for every rule" if trials else "with one budget for all rules"
    source = f" (study {study})" if study else ""
    more = f" {tables.plain(told)}." if told else ""
    return f"Settings were tuned on the validation split, {budget}{source}; never on the test split.{more}"


def _citations(results: Results) -> str:
    """BibTeX of the contenders' papers, each once; a rule that is not installed here has none to give."""
    entries: dict[str, None] = {}
    for contender in results.contenders:
        try:
            entries[registry.citation(contender.rule).strip()] = None
        except (UnknownName, ConfigurationError):
            continue
    return "\n\n".join(entry for entry in entries if entry)
