"""The numbers of a report as rows: for the page, for CSV (full precision, fractions of 1) and for Markdown."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from plausible.compare.hardware import Counts
from plausible.compare.statistics import Estimate, estimate
from plausible.report import names, problems
from plausible.report.results import Results, RunRecord
from plausible.report.summary import Standing, layers_of

_MEASURES = ("update_angle", "feedback_angle", "norm_ratio", "sign_concordance")

HARDWARE = (
    ("MACs", "Multiply–accumulates of an answer, zeros and padding included"),
    ("Synaptic ops", "Those of which neither factor is zero"),
    ("Spikes", "Events sent; one that several layers hear is sent once"),
    ("Bits", "Sent from layer to layer; a number the bits of its precision, a spike its neuron's address"),
    ("MACs", "Multiply–accumulates of an update: all passes, feedback, change of weights"),
    ("Synaptic ops", "Those of which neither factor is zero"),
    ("Entries", "Entries of results computed entry by entry: traces, activation functions, derivatives"),
    ("Bits forward", "Sent forward from layer to layer, in all phases"),
    ("Bits back", "Teaching messages between layers, + those that come from the teacher"),
    ("Synapses", "For which one update was left, those of feedback weights too"),
    ("Memory", "Bytes between steps: parameters, feedback, the optimiser's state, membranes and traces"),
)
"""What the columns of the table of hardware's counts are called, and what they say."""


def runs_csv(results: Results) -> str:
    """One row per run, finished or not."""
    rows = [
        {
            "label": c.label,
            "rule": c.rule,
            "seed": run.seed,
            "id": run.id,
            "status": run.status,
            "test_accuracy": run.test_accuracy,
            "test_loss": run.test_loss,
            "validation_accuracy": run.epochs[-1].validation_accuracy if run.epochs else None,
            "train_accuracy": run.epochs[-1].train_accuracy if run.epochs else None,
            "epochs": run.epochs[-1].epoch if run.epochs else 0,
            "parameters": run.parameters,
            "train_seconds": run.train_seconds,
        }
        for c in results.contenders
        for run in c.runs
    ]
    return _csv(rows)


def summary_csv(table: Sequence[Standing]) -> str:
    """One row per contender: accuracy, paired difference against back-propagation, cost."""
    rows = []
    for s in table:
        a, d, c = s.accuracy, s.difference, s.contender.cost
        rows.append(
            {
                "label": s.contender.label,
                "rule": s.contender.rule,
                "seeds": a.n if a else 0,
                "test_accuracy_mean": a.mean if a else None,
                "test_accuracy_sd": a.sd if a else None,
                "test_accuracy_ci95_low": a.low if a else None,
                "test_accuracy_ci95_high": a.high if a else None,
                "pairs": d.n if d else None,
                "difference_mean": d.mean if d else None,
                "difference_ci95_low": d.low if d else None,
                "difference_ci95_high": d.high if d else None,
                "p": d.p if d else None,
                "p_holm": s.p,
                "time_ratio": c.time_ratio if c else None,
                "memory_ratio": c.memory_ratio if c else None,
                "feedback_bytes": c.feedback_bytes if c else None,
            }
        )
    return _csv(rows)


def hardware_csv(table: Sequence[Standing]) -> str:
    """One row per contender: the fields of :class:`plausible.compare.hardware.Counts`, and bytes between steps and at
    the peak of a step; empty where nothing was counted."""
    rows = []
    for s in table:
        cost = s.contender.cost
        counts = cost.hardware if cost else None
        rows.append(
            {
                "label": s.contender.label,
                "rule": s.contender.rule,
                **{f.name: getattr(counts, f.name) if counts else None for f in fields(Counts)},
                "resting_bytes": cost.resting_bytes if cost else None,
                "peak_bytes": cost.memory_bytes if cost else None,
            }
        )
    return _csv(rows)


def problems_csv(table: Sequence[Standing]) -> str:
    """One row per contender and problem of back-propagation that it was audited for."""
    return _csv(problems.rows(table))


def markdown(results: Results, table: Sequence[Standing], sentence: str) -> str:
    """The finding, the table of final accuracies and the matrix of problems as GitHub-flavoured Markdown."""
    head = ("Rule", "Test accuracy", "SD", "95% CI", "Difference (points)", "95% CI", "p (Holm)", "Seeds")
    lines = [f"# {_cell(results.title)}", "", sentence, "", f"| {' | '.join(head)} |", "|:--|" + "--:|" * 7]
    lines += [
        f"| {_cell(name_of(s))} | {' | '.join(row)} |"
        for s in table
        for row in [[cell.replace("reference", "–") for cell in accuracy_cells(s)]]
    ]
    missing = [f"{s.title}: {', '.join(s.problems)}" for s in table if s.problems]
    if missing:
        lines += ["", f"Not in these numbers: {_cell('; '.join(missing))}."]
    lines += ["", "Paired by seed; intervals and p from Student’s t. Accuracies in % of the test set."]
    if matrix := problems.markdown(results, table):
        lines += ["", "## Which problems each rule solves", "", *matrix]
    if results.command:
        lines += ["", "```", results.command, "```"]
    return "\n".join(lines) + "\n"


def name_of(s: Standing) -> str:
    """Full name, with the abbreviation the figures use and whether it is a control."""
    abbreviation = f" ({s.short})" if s.short != s.title else ""
    return f"{s.title}{abbreviation}{', control' if s.control else ''}"


def accuracy_cells(s: Standing) -> list[str]:
    """Mean, SD, interval, difference, its interval, p and seeds of one contender; a dash where there is none."""
    a, d = s.accuracy, s.difference
    if a is None:
        return [*["–"] * 6, f"0 of {len(s.contender.runs)}"]
    return [
        names.percent(a.mean, 2),
        f"{100 * a.sd:.2f}" if a.sd is not None else "–",
        _span(a),
        "reference" if s.reference else names.points(d.mean, 2) if d else "–",
        (names.interval(d, 2) or "–") if d else "–",
        "–" if s.p is None else "< 0.001" if s.p < 0.001 else f"{s.p:.3f}",
        f"{a.n}" if a.n == len(s.contender.runs) else f"{a.n} of {len(s.contender.runs)}",
    ]


def alignment_rows(s: Standing) -> list[tuple[str, list[str]]]:
    """Layer → update angle, feedback angle, norm ratio, concordant signs at the last probe (mean ± SD over seeds)."""
    layers = layers_of([s])
    last = [run.probes[-1].layers for run in s.contender.finished if run.probes]
    rows = []
    for layer in layers:
        cells = []
        for measure in _MEASURES:
            values = [v for probe in last if (v := probe.get(layer, {}).get(measure)) is not None]
            cells.append(_measured(measure, estimate(values)) if values else "–")
        rows.append((layer, cells))
    # A rule with a feedback weight for every layer does not use the first layer's: nothing lies before it to teach.
    if rows and rows[0][1][1] == "–" and any(cells[1] != "–" for _, cells in rows):
        rows[0][1][1] = rows[0][1][3] = "not used"
    return rows


def cost_cells(s: Standing) -> list[str]:
    """Time ratio, its range, time of a step, memory ratio, memory, feedback weights."""
    c = s.contender.cost
    if c is None:
        return ["–"] * 6
    return [
        "–" if c.time_ratio is None else f"{c.time_ratio:.2f}×",
        "–" if c.time_low is None or c.time_high is None else f"{c.time_low:.2f}–{c.time_high:.2f}",
        "–" if c.seconds_per_step is None else names.duration(c.seconds_per_step),
        "–" if c.memory_ratio is None else f"{c.memory_ratio:.2f}×",
        "–" if c.memory_bytes is None else names.size(c.memory_bytes),
        "–" if c.feedback_bytes is None else "none" if c.feedback_bytes == 0 else names.size(c.feedback_bytes),
    ]


def hardware_cells(s: Standing) -> list[tuple[str, str]]:
    """What hardware would count, in the columns of :data:`HARDWARE`, and a word to stand below it."""
    c = s.contender.cost.hardware if s.contender.cost else None
    if c is None or s.contender.cost is None:
        return [("–", "")] * len(HARDWARE)
    held = (s.contender.cost.resting_bytes or 0) + c.state_bytes
    return [
        (names.amount(c.inference_macs), _steps(c.inference_steps)),
        (
            names.amount(c.inference_synaptic_operations),
            _share(c.inference_accumulates, c.inference_synaptic_operations),
        ),
        (names.amount(c.inference_spikes) if c.inference_spikes else "–", ""),
        (names.amount(c.inference_bits), ""),
        (names.amount(c.learning_macs), _steps(c.learning_steps)),
        (names.amount(c.learning_synaptic_operations), _share(c.learning_accumulates, c.learning_synaptic_operations)),
        (names.amount(c.learning_elementwise), ""),
        (names.amount(c.learning_bits), ""),
        (names.amount(c.feedback_bits), f"+ {names.amount(c.teacher_bits)}" if c.teacher_bits else ""),
        (names.amount(c.synapses_changed), ""),
        (names.size(held), f"{names.size(c.state_bytes)} state" if c.state_bytes else ""),
    ]


def _steps(n: int) -> str:
    return f"{n} steps" if n > 1 else ""


def _share(part: float, whole: float) -> str:
    return f"{names.percent(part / whole, 0)} AC" if part else ""


def claim_cells(s: Standing) -> list[str]:
    """What the rule claims to read and to need."""
    claims = s.contender.claims
    keys = ("reads", "forward_weights", "derivatives_travel", "phases", "online", "additive")
    return [plain(claims[key]) if key in claims else "–" for key in keys]


def coverage(s: Standing) -> list[str]:
    """What a run's own report says about who was taught how, as sentences."""
    report = next((run.report for run in s.contender.runs if run.report), None)
    if report is None or s.reference:
        return []
    said = []
    for key, text in (
        ("covered", "Follow the rule"),
        ("exact", "Normalisation, exact gradient"),
        ("backprop", "Left to back-propagation"),
    ):
        layers = list(report.get(key) or ())
        if len(layers) > 6:
            said.append(f"{text}: {len(layers)} layers, {layers[0]} to {layers[-1]}.")
        elif layers:
            said.append(f"{text}: {', '.join(layers)}.")
    if report.get("note"):
        said.append(str(report["note"]))
    return said


def settings(base: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each setting; what is empty is left out, and so are rule and seed, which vary."""
    return [
        (key.replace("_", " "), plain(value))
        for key, value in base.items()
        if key not in ("rule", "seed") and value not in (None, {}, [], "")
    ]


def environment(results: Results) -> list[tuple[str, str]]:
    """Versions and hardware; where the runs were made on different ones, all of them."""
    seen: dict[str, dict[str, None]] = {}
    machines: Iterable[Mapping[str, Any]] = [r.environment for c in results.contenders for r in _having(c.runs)]
    for machine in list(machines) or [results.environment]:
        for key, value in machine.items():
            if value is not None:
                seen.setdefault(key, {})[plain(value)] = None
    return [(key.replace("_", " "), " · ".join(values)) for key, values in seen.items()]


def plain(value: Any) -> str:
    """A setting as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item) if item != {} else ''}".rstrip() for key, item in value.items())
    if isinstance(value, list | tuple):
        apart = "; " if any(isinstance(item, Mapping) for item in value) else " × "
        return apart.join(plain(item) for item in value) if value else "none"
    return "none" if value is None else str(value)


def _having(runs: Iterable[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.environment]


def _span(e: Estimate) -> str:
    return "–" if e.low is None or e.high is None else f"{100 * e.low:.2f} to {100 * e.high:.2f}"


def _measured(measure: str, e: Estimate) -> str:
    form, unit = ("{:.1f}", "°") if measure.endswith("angle") else ("{:.2f}", "")
    spread = "" if e.sd is None else f" ± {form.format(e.sd)}{unit}"
    return f"{form.format(e.mean)}{unit}{spread}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys() if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
