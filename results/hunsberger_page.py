"""Turns hunsberger-rates.csv into a page with tables, what the thesis found beside it, and two figures."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from plausible.compare.statistics import paired_difference

Row = dict[str, Any]
TEXT = {"part", "rule", "derivative", "split"}

HEAD = """# Hunsberger's experiments with rates

`python results/hunsberger_rates.py` (its header has the settings; every row is in `hunsberger-rates.csv`)

Errors are in per cent, of 10,000 test images ("test") or of the last 5,400 images learned from, each before it was
learned from ("train"); ± is the standard deviation over seeds of weights, feedback and order. Differences are paired
by seed, with a 95 % interval (Student's t). Where the interval holds 0, nothing is shown: neither a difference nor that
there is none. Angles are to back-propagation with the same derivative; "axes falling" is the share of positive
eigenvalues of the symmetric part of B Wᵀ at the readout (with 100 %, its feedback lowers every error). "None" is his: a
slope of a / τ_rc whatever the current. The learning rate and the norms were chosen with one seed, from the table at the
end, whose grid ends at the norm chosen for GFA and DFA.

"""

LINEAR = """Error relative to that of answering 0, on the last 500 of 1,500 examples; over seeds that do better than it.

"""

# (what the thesis found, part, contender, reference, measure, sign that the difference has by it; 0: about none)
Claim = tuple[str, str, tuple[str, str], tuple[str, str], str, int]
STEP, LINE = "step", "linearised"
CLAIMS: list[Claim] = [
    ("BP is significantly better than GFA", "variants", ("GFA", STEP), ("BP", STEP), "held_out", 1),
    ("… than LFA", "variants", ("LFA", STEP), ("BP", STEP), "held_out", 1),
    ("… than DFA", "variants", ("DFA", STEP), ("BP", STEP), "held_out", 1),
    ("LFA learns as fast as DFA", "variants", ("LFA", STEP), ("DFA", STEP), "train", 0),
    ("GFA learns slower than DFA", "variants", ("GFA", STEP), ("DFA", STEP), "train", 1),
    ("(control) DFA teaches hidden layers", "variants", ("DFA", STEP), ("frozen", STEP), "held_out", -1),
    ("no derivative is detrimental to BP", "derivatives", ("BP", "none"), ("BP", LINE), "train", 1),
    ("… and to DFA", "derivatives", ("DFA", "none"), ("DFA", LINE), "train", 1),
    ("step is as good as the others with BP", "derivatives", ("BP", STEP), ("BP", LINE), "train", 0),
    ("step is slightly worse with DFA", "derivatives", ("DFA", STEP), ("DFA", LINE), "train", 1),
    ("clipped is as good as linearised with DFA", "derivatives", ("DFA", "clipped"), ("DFA", LINE), "train", 0),
    ("soft LIF's is as good with DFA", "derivatives", ("DFA", "soft"), ("DFA", LINE), "train", 0),
    ("symmetric ADFA is better than DFA", "adaptive", ("symmetric ADFA", LINE), ("DFA", LINE), "train", -1),
    ("… and near BP", "adaptive", ("symmetric ADFA", LINE), ("BP", LINE), "train", 0),
    ("… with smaller angles to BP", "adaptive", ("symmetric ADFA", LINE), ("DFA", LINE), "angle1", -1),
    ("Oja ADFA is slightly worse than DFA", "adaptive", ("Oja ADFA", LINE), ("DFA", LINE), "train", 1),
    ("… with larger angles", "adaptive", ("Oja ADFA", LINE), ("DFA", LINE), "angle1", 1),
    ("Hebbian ADFA is unstable", "adaptive", ("Hebbian ADFA", LINE), ("DFA", LINE), "train", 1),
]


def numbers(rows: Iterable[Row]) -> list[Row]:
    """The rows, numbers as numbers; an empty field is None."""
    return [{k: v if k in TEXT else float(v) if v not in ("", None) else None for k, v in row.items()} for row in rows]


def read(path: Path) -> list[Row]:
    """What the file has."""
    with path.open() as file:
        return numbers(csv.DictReader(file))


def ends(rows: Iterable[Row], part: str) -> list[Row]:
    """The last row of each finished run of a part."""
    runs: dict[tuple, Row] = {}
    for row in rows:
        if row["part"] == part:
            runs[tuple(row[k] for k in ("rule", "derivative", "eta", "norm", "seed"))] = row
    return [row for row in runs.values() if row["held_out"] is not None]


def by_seed(rows: Iterable[Row], rule: str, derivative: str, measure: str) -> dict[int, float]:
    """Seed → value, of one contender."""
    mine = [row for row in rows if (row["rule"], row["derivative"]) == (rule, derivative)]
    return {int(row["seed"]): row[measure] for row in mine if row[measure] is not None}


def spread(values: Iterable[float], factor: float = 1.0, digits: int = 1) -> str:
    """Mean ± standard deviation."""
    found = [factor * v for v in values]
    if not found:
        return "–"
    sd = f" ± {stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{fmean(found):.{digits}f}{sd}"


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple, list[Row]]:
    """Rows by the values of some keys, in order of appearance."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def table(head: str, lines: Iterable[Iterable[str]]) -> str:
    """A table in Markdown, its first column left-aligned."""
    columns = head.count("|") + 1
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"| {head} |\n|:--{'|--:' * (columns - 1)}|\n{body}\n\n"


def values(rows: Iterable[Row], key: str) -> list[float]:
    """What is known of one measure."""
    return [row[key] for row in rows if row[key] is not None]


def outcomes(rows: list[Row], part: str) -> str:
    """Errors and alignment of every contender of a part."""
    lines = []
    for (rule, derivative), mine in grouped(ends(rows, part), "rule", "derivative").items():
        angles = [spread(values(mine, key), digits=0) for key in ("angle1", "angle2")]
        lines.append(
            [
                f"{rule}, {derivative}",
                str(len(mine)),
                spread(values(mine, "train"), 100),
                spread(values(mine, "held_out"), 100),
                " / ".join(angles),
                spread(values(mine, "downhill"), 100, 0),
                spread(values(mine, "norm_b"), digits=2),
            ]
        )
    return table(
        "rule, derivative | seeds | train | test | angle to BP, hidden 1 / 2 | axes falling, % | ‖B‖ at the end", lines
    )


def compared(rows: list[Row]) -> str:
    """The thesis' findings beside ours."""
    lines = []
    for said, part, one, other, measure, sign in CLAIMS:
        mine = ends(rows, part)
        found = paired_difference(by_seed(mine, *one, measure), by_seed(mine, *other, measure))
        if found is None or found.low is None or found.high is None:
            continue
        unit, factor = ("°", 1) if measure.startswith("angle") else (" points", 100)
        low, mean, high = (factor * each for each in (found.low, found.mean, found.high))
        seen = 0 if low <= 0 <= high else 1 if mean > 0 else -1
        if sign == 0:
            verdict = "none shown either" if seen == 0 else "differs"
        else:
            verdict = "agrees" if seen == sign else "nothing shown" if seen == 0 else "disagrees"
        contrast = f"{one[0]} {one[1]} − {other[0]} {other[1]}, {'test' if measure == 'held_out' else measure}"
        lines.append([said, contrast, f"{mean:+.1f} ({low:+.1f} to {high:+.1f}){unit}", str(found.n), verdict])
    return table("the thesis | contrast | difference | seeds | verdict", lines)


def stability(rows: list[Row]) -> str:
    """Relative error on the linear problem by learning rate, and how many seeds end no better than an answer of 0."""
    mine = ends(rows, "linear")
    etas = sorted({row["eta"] for row in mine})
    lines = []
    for (rule, derivative), group in grouped(mine, "rule", "derivative").items():
        cells = [f"{rule}, {derivative}"]
        for eta in etas:
            errors = [row["train"] for row in group if row["eta"] == eta]
            good = [e for e in errors if isfinite(e) and e < 1]
            cells.append(
                f"{spread(good, digits=2)}"
                + (f" ({len(errors) - len(good)} of {len(errors)} fail)" if len(good) < len(errors) else "")
            )
        lines.append(cells)
    return table("rule, derivative | " + " | ".join(f"η = {eta:g}" for eta in etas), lines)


def chosen(rows: list[Row]) -> str:
    """What the validation split said."""
    lines = [
        [row["part"], row["rule"], f"{row['eta']:g}", f"{row['norm']:g}", f"{100 * row['held_out']:.1f}"]
        for part in ("choose η", "choose ‖B‖")
        for row in ends(rows, part)
    ]
    return table("chosen | rule | η | norm of B's columns | validation error", lines)


def curves(axes: Any, rows: list[Row], part: str, label: Callable[[Row], str], title: str) -> None:
    """Training error against examples: the mean over seeds, and every seed faintly."""
    for colour, (name, mine) in enumerate(
        grouped([{**r, "label": label(r)} for r in rows if r["part"] == part], "label").items()
    ):
        at = grouped(mine, "examples")
        x = sorted(each[0] for each in at)
        axes.plot(x, [fmean(values(at[(e,)], "train")) for e in x], color=f"C{colour}", label=name[0])
        for group in grouped(mine, "seed").values():
            axes.plot([r["examples"] for r in group], values(group, "train"), color=f"C{colour}", alpha=0.25, lw=0.7)
    axes.set(title=title, xlabel="examples", ylabel="train error", yscale="log")
    axes.legend(fontsize=7, frameon=False)


def draw(rows: list[Row], folder: Path) -> None:
    """The two figures."""
    plt.rcParams.update({"svg.hashsalt": "plausible", "axes.spines.top": False, "axes.spines.right": False})
    undated = {"Date": None, "Creator": "plausible"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    curves(left, rows, "variants", lambda r: r["rule"], "Variants of feedback alignment")
    curves(right, rows, "adaptive", lambda r: r["rule"], "Feedback that learns")
    figure.savefig(folder / "hunsberger-variants.svg", metadata=undated)
    figure, panels = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for rule, (top, bottom) in zip(("BP", "DFA"), panels.T, strict=True):
        own = [row for row in rows if row["rule"] == rule]
        curves(top, own, "derivatives", lambda r: r["derivative"], f"MNIST, {rule}, η = 0.02")
        for (name,), mine in grouped(ends(own, "linear"), "derivative").items():
            at = grouped(mine, "eta")
            x = sorted(each[0] for each in at)
            # A run that overflowed is drawn at the top.
            errors = [fmean(min(r["train"], 2.0) if isfinite(r["train"]) else 2.0 for r in at[(e,)]) for e in x]
            bottom.plot(x, errors, marker="o", ms=3, label=name)
        bottom.set(title=f"Linear problem, {rule}", xlabel="η", ylabel="relative error at the end", yscale="log")
        bottom.legend(fontsize=7, frameon=False)
    figure.savefig(folder / "hunsberger-derivatives.svg", metadata=undated)


def write(path: Path) -> None:
    """The page and its figures, beside the rows at ``path``."""
    rows = read(path)
    sections = (
        ("What the thesis found, and what was found here", compared(rows), "hunsberger-variants.svg"),
        ("Variants, at the rate and norms chosen", outcomes(rows, "variants"), ""),
        ("Feedback that learns", outcomes(rows, "adaptive"), ""),
        ("Derivatives, MNIST", outcomes(rows, "derivatives"), "hunsberger-derivatives.svg"),
        ("Derivatives, linear problem", LINEAR + stability(rows), ""),
        ("What was chosen on the validation split", chosen(rows), ""),
    )
    text = HEAD
    for title, body, figure in sections:
        text += f"## {title}\n\n" + (f"![{title}]({figure})\n\n" if figure else "") + body
    path.with_suffix(".md").write_text(text.rstrip() + "\n", encoding="utf-8")
    draw(rows, path.parent)
