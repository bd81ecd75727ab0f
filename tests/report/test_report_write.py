"""The report as files: what they say, that the page needs nothing else, and that gaps are named, not hidden."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic

from plausible import report
from plausible.core.errors import PlausibleError


class _Page(HTMLParser):
    """Tags with their attributes, rows per table, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[int] = []
        self.words: list[str] = []
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("style", "script")
        if tag == "table":
            self.rows.append(0)
        if tag == "tr":
            self.rows[-1] += 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return (finished / "report.html").read_text(encoding="utf-8")


def _small(tmp_path: Path, **options: object) -> Path:
    settings = {"rules": ("backprop", "fa"), "seeds": (0, 1), "epochs": 2, "layers": ("net.1", "net.3"), **options}
    return synthetic.write(tmp_path / "comparison", **settings)  # pyright: ignore[reportArgumentType]


def _page(directory: Path) -> _Page:
    return _Page(report.write(directory).read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    for tag, attributes in _Page(html).tags:
        for name in ("src", "srcset", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert "@import" not in html
    assert "fetch(" not in html and "XMLHttpRequest" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    # Addresses of name spaces are names: nothing is loaded from there.
    assert set(re.findall(r'"(https?://[^"]*)"', html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_identifiers_are_unique(html: str) -> None:
    ids = [attributes["id"] for _, attributes in _Page(html).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]*)"', html)) | set(re.findall(r"url\(#([^)]*)\)", html))
    assert used <= set(ids)


def test_tables_and_figures(html: str) -> None:
    page = _Page(html)
    rules = len(synthetic.RULES)
    layers = rules * (1 + len(synthetic.LAYERS))
    # problems, accuracy, alignment, cost, hardware (two rows), claims, overrides (fa and dfa), each with a row of heads
    assert page.rows == [rules + 1, rules + 1, layers + 1, rules + 1, rules + 2, rules + 1, 3]
    pictures = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert [p["class"] for p in pictures] == ["wide", "narrow"] * 6
    assert all(p["aria-label"] for p in pictures)


def test_what_stands_on_the_page(html: str) -> None:
    text = _Page(html).text
    for expected in (
        "Synthetic comparison (no network was trained)",
        "back-propagation reaches 97.4% on the test set",
        "control",
        "not used",
        "plausible compare --data digits --model mlp --seeds 5",
        "SYNTHETIC processor",
        "24 trials",
        "Normalisation, exact gradient: net.2.",
        "Nobody et al. (2000)",
        "lr 0.002",
        "151 k 8 steps",
        "96.5 k 75% AC",
        "24.6 k + 320",
        "5.3 MiB 2.8 MiB state",
        "@article",
    ):
        assert expected in text, expected
    assert "Not in these numbers" not in text
    assert "One seed only" not in text


def test_every_run_in_csv(finished: Path) -> None:
    with (finished / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 35
    assert {(r["label"], int(r["seed"]), float(r["test_accuracy"])) for r in rows} == {
        (rule, seed, synthetic.accuracy_of(rule, seed)) for rule in synthetic.RULES for seed in range(5)
    }
    assert {r["status"] for r in rows} == {"finished"}


def test_every_rule_in_summary(finished: Path) -> None:
    with (finished / "summary.csv").open(newline="") as file:
        rows = {r["label"]: r for r in csv.DictReader(file)}
    assert list(rows) == list(synthetic.RULES)
    bp = np.array([synthetic.accuracy_of("backprop", seed) for seed in range(5)])
    for rule, row in rows.items():
        own = np.array([synthetic.accuracy_of(rule, seed) for seed in range(5)])
        assert float(row["test_accuracy_mean"]) == pytest.approx(own.mean())
        assert float(row["test_accuracy_sd"]) == pytest.approx(own.std(ddof=1))
        if rule != "backprop":
            assert float(row["difference_mean"]) == pytest.approx((own - bp).mean())
    assert rows["backprop"]["difference_mean"] == ""
    assert float(rows["dfa"]["time_ratio"]) == 0.86


def test_every_count_in_hardware(finished: Path) -> None:
    costs = json.loads((finished / "cost.json").read_text())
    with (finished / "hardware.csv").open(newline="") as file:
        rows = {r.pop("label"): r for r in csv.DictReader(file)}
    assert list(rows) == list(synthetic.RULES)
    for rule, row in rows.items():
        assert row.pop("rule") == rule
        bytes_ = {"resting_bytes": costs[rule]["resting_bytes"], "peak_bytes": costs[rule]["memory_bytes"]}
        assert {name: float(value) for name, value in row.items()} == costs[rule]["hardware"] | bytes_


@pytest.mark.parametrize("hardware", [None, {"examples": 64, "counted_otherwise": 1}])
def test_a_comparison_of_another_version_did_not_count_for_hardware(tmp_path: Path, hardware: object) -> None:
    directory = _small(tmp_path)
    costs = json.loads((directory / "cost.json").read_text())
    for cost in costs.values():
        del cost["resting_bytes"]
        cost["hardware"] = hardware
        if hardware is None:
            del cost["hardware"]
    (directory / "cost.json").write_text(json.dumps(costs))
    page = _page(directory)
    assert "Time and memory of one training step" in page.text
    assert "What hardware would count" not in page.text
    with (directory / "hardware.csv").open(newline="") as file:
        assert [r["learning_macs"] for r in csv.DictReader(file)] == ["", ""]


def test_one_rule_that_was_not_counted_has_dashes(tmp_path: Path) -> None:
    directory = _small(tmp_path)
    costs = json.loads((directory / "cost.json").read_text())
    synthetic.edit(directory / "cost.json", fa={**costs["fa"], "hardware": None})
    assert "What hardware would count" in _page(directory).text


def test_markdown(finished: Path) -> None:
    text = (finished / "results.md").read_text(encoding="utf-8")
    table, matrix = ([line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n## "))
    for rows in (table, matrix):
        assert len(rows) == 2 + len(synthetic.RULES)
        assert len({line.count("|") for line in rows}) == 1
    own = [synthetic.accuracy_of("fa", seed) for seed in range(5)]
    assert f"| Feedback alignment (FA) | {100 * np.mean(own):.2f}% | {100 * np.std(own, ddof=1):.2f} |" in text
    assert "plausible compare --data digits --model mlp --seeds 5" in text


def test_written_again_it_is_the_same(tmp_path: Path) -> None:
    directory = _small(tmp_path)
    one, two = (
        report.write(directory, out=tmp_path / "one").parent,
        report.write(directory, out=tmp_path / "two").parent,
    )
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
    assert len(files) == 6 + 2 * 6
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    assert not (directory / "report.html").exists()


def test_text_of_others_is_escaped(tmp_path: Path) -> None:
    directory = _small(tmp_path, cost=False)
    evil = "<script>alert('x')</script> & | pipe"
    synthetic.edit(directory / "comparison.json", title=evil, command=evil)
    page = _page(directory)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "<script>alert('x')</script> & | pipe" in page.text


def test_without_cost_and_probes(tmp_path: Path) -> None:
    page = _page(_small(tmp_path, cost=False, probes=False))
    assert "There is no alignment to show: these runs were not probed" in page.text
    assert "The cost of a step was not measured" in page.text
    assert sum(a.get("role") == "img" for _, a in page.tags) == 3 * 2


def test_with_one_seed_there_is_no_interval(tmp_path: Path) -> None:
    directory = _small(tmp_path, seeds=(3,))
    page = _page(directory)
    assert "One seed only" in page.text
    assert not re.search(r"\d to −?\d", page.text)
    with (directory / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["test_accuracy_ci95_low"] for r in rows} == {""}
    assert {r["p"] for r in rows} == {""}


def test_runs_that_are_missing_are_named(tmp_path: Path) -> None:
    directory = _small(tmp_path, seeds=(0, 1, 2))
    synthetic.edit(synthetic.run_home(directory, "fa", 1) / "result.json", status="diverged", test_accuracy=None)
    (synthetic.run_home(directory, "fa", 2) / "result.json").unlink()
    page = _page(directory)
    assert "Not in these numbers: Feedback alignment: seed 1 diverged, seed 2 unfinished." in page.text
    assert "1 of 3" in page.text
    assert "seed 1 diverged, seed 2 unfinished" in (directory / "results.md").read_text(encoding="utf-8")


def test_before_any_run_has_finished(tmp_path: Path) -> None:
    directory = _small(tmp_path)
    for path in directory.glob("runs/*/result.json"):
        path.unlink()
    page = _page(directory)
    assert "No run of this comparison has finished yet" in page.text
    assert "seed 0 unfinished" in page.text


def test_without_back_propagation(tmp_path: Path) -> None:
    page = _page(_small(tmp_path, rules=("fa", "dfa")))
    assert "no finished run of back-propagation" in page.text


def test_a_rule_that_is_not_installed_here(tmp_path: Path) -> None:
    directory = _small(tmp_path)
    text = (directory / "comparison.json").read_text().replace('"rule": "fa"', '"rule": "somebody-elses"')
    (directory / "comparison.json").write_text(text)
    assert "Rumelhart" in _page(directory).text  # the others are cited


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlausibleError, match="file"):
        report.write(_small(tmp_path), out=tmp_path / "file")
