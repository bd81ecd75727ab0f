"""What is said about the numbers, against numpy, scipy and sentences written by hand."""

from pathlib import Path

import numpy as np
import pytest
import synthetic
from scipy import stats

from plausible.report import load, names
from plausible.report.summary import angle_curves, finding, mean_curve, standings
from plausible.report.tables import alignment_rows, coverage, environment, plain


def test_standings_against_scipy(finished: Path) -> None:
    table = {s.contender.label: s for s in standings(load(finished))}
    bp = np.array([synthetic.accuracy_of("backprop", seed) for seed in range(5)])
    tested = ["usf", "kolen-pollack", "fa", "dfa", "frozen"]
    raw = {}
    for rule in tested:
        own = np.array([synthetic.accuracy_of(rule, seed) for seed in range(5)])
        oracle = stats.ttest_rel(own, bp)
        s = table[rule]
        assert s.accuracy is not None and s.difference is not None
        assert s.accuracy.mean == pytest.approx(own.mean())
        assert s.accuracy.sd == pytest.approx(own.std(ddof=1))
        interval = oracle.confidence_interval(0.95)
        assert (s.difference.low, s.difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
        raw[rule] = oracle.pvalue
    # Holm by its definition: the smallest p times 5, the next times 4, …, never falling; sham takes no share.
    running = 0.0
    for rank, rule in enumerate(sorted(tested, key=lambda rule: raw[rule])):
        running = max(running, min(1.0, (5 - rank) * raw[rule]))
        assert table[rule].p == pytest.approx(running)
    assert table["sham"].p is None
    assert table["backprop"].difference is None
    assert table["sham"].difference is not None
    assert table["sham"].difference.mean == 0


def test_controls_are_marked(finished: Path) -> None:
    marked = {s.contender.label for s in standings(load(finished)) if s.control}
    assert marked == {"sham", "frozen"}


def _sentence(directory: Path) -> str:
    results = load(directory)
    return finding(results, standings(results)).replace("\u00a0", " ")


def _accuracies(directory: Path, values: dict[str, list[float]]) -> None:
    for rule, accuracies in values.items():
        for seed, accuracy in enumerate(accuracies):
            synthetic.edit(synthetic.run_home(directory, rule, seed) / "result.json", test_accuracy=accuracy)


def test_the_sentence(small: Path) -> None:
    # differences −.03 and −.01: mean −2.0; t(.975, 1) = 12.706, s/√2 = 1 point
    _accuracies(small, {"backprop": [0.97, 0.98], "fa": [0.94, 0.97], "frozen": [0.9, 0.92]})
    assert _sentence(small) == (
        "On scikit-learn’s digits, with a multi-layer perceptron and two seeds, back-propagation reaches 97.5% on the "
        "test set; the difference from it is −2.0 points for feedback alignment (95% CI −14.7 to 10.7); a network "
        "whose hidden layers never learn reaches 91.0%."
    )


def test_the_sentence_with_one_seed_has_no_interval(tmp_path: Path) -> None:
    directory = synthetic.write(tmp_path, rules=("backprop", "usf", "fa"), seeds=(0,), epochs=2, layers=("net.1",))
    _accuracies(directory, {"backprop": [0.97], "usf": [0.975], "fa": [0.95]})
    assert _sentence(directory) == (
        "On scikit-learn’s digits, with a multi-layer perceptron and one seed (too few for any interval), "
        "back-propagation reaches 97.0% on the test set; the difference from it is +0.5 points for sign symmetry and "
        "−2.0 for feedback alignment."
    )


def test_the_sentence_names_the_ends_of_a_long_list(tmp_path: Path) -> None:
    directory = synthetic.write(tmp_path, rules=synthetic.ALL, seeds=(0, 1), epochs=1, layers=("net.1",))
    sentence = _sentence(directory)
    means = {r: np.mean([synthetic.accuracy_of(r, s) for s in (0, 1)]) for r in synthetic.ALL}
    rivals = [r for r in synthetic.ALL if r not in ("backprop", "sham", "frozen")]
    best, worst = max(rivals, key=lambda r: means[r]), min(rivals, key=lambda r: means[r])
    assert (best, worst) == ("kolen-pollack", "drtp")
    assert "of nine other rules, Kolen–Pollack comes closest, at " in sentence
    assert "and direct random target projection stays furthest away, at " in sentence


def test_the_sentence_without_back_propagation(tmp_path: Path) -> None:
    directory = synthetic.write(tmp_path, rules=("fa", "dfa"), seeds=(0, 1), epochs=1, layers=("net.1",))
    _accuracies(directory, {"fa": [0.9, 0.9], "dfa": [0.95, 0.95]})
    assert _sentence(directory) == (
        "On scikit-learn’s digits, with a multi-layer perceptron and two seeds, the best is direct feedback alignment "
        "with 95.0% on the test set; there is no finished run of back-propagation to compare with."
    )


def test_the_sentence_before_anything_finished(small: Path) -> None:
    for rule in ("backprop", "fa", "frozen"):
        for seed in (0, 1):
            (synthetic.run_home(small, rule, seed) / "result.json").unlink()
    assert _sentence(small).startswith("No run of this comparison has finished yet")


def test_a_diverged_seed_is_named_and_left_out_of_the_pairs(finished: Path, tmp_path: Path) -> None:
    rules = ("backprop", "fa")
    directory = synthetic.write(tmp_path, rules=rules, seeds=(0, 1, 2), epochs=1, layers=("net.1",))
    synthetic.edit(synthetic.run_home(directory, "fa", 1) / "result.json", status="diverged", test_accuracy=None)
    fa = standings(load(directory))[1]
    assert fa.problems == ("seed 1 diverged",)
    assert fa.difference is not None
    assert fa.difference.pairs == (0, 2)


def test_a_mean_over_training_is_over_the_same_seeds_everywhere(small: Path) -> None:
    # Seed 1 stops a row early: the last epoch has no mean.
    path = synthetic.run_home(small, "fa", 1) / "metrics.jsonl"
    rows = [row for row in _rows(path) if not (row["kind"] == "epoch" and row["epoch"] == 3)]
    synthetic.lines(path, rows)
    fa = load(small).contenders[1]
    epochs, mean, sd = mean_curve(fa, lambda run: ((e.epoch, e.validation_accuracy) for e in run.epochs))
    both = [[e.validation_accuracy for e in run.epochs][:2] for run in fa.runs]
    assert epochs == [1, 2]
    assert mean == pytest.approx(np.mean(both, axis=0))
    assert sd == pytest.approx(np.std(both, axis=0, ddof=1))


def _rows(path: Path) -> list[dict]:
    import json

    return [json.loads(line) for line in path.open()]


def test_layers_without_a_measure(finished: Path) -> None:
    table = {s.contender.label: s for s in standings(load(finished))}
    assert list(angle_curves(table["fa"], "update_angle")) == list(synthetic.LAYERS)
    assert list(angle_curves(table["fa"], "feedback_angle")) == list(synthetic.LAYERS[1:])
    assert angle_curves(table["dfa"], "feedback_angle") == {}
    rows = dict(alignment_rows(table["fa"]))
    assert rows["net.1"][1] == rows["net.1"][3] == "not used"
    assert dict(alignment_rows(table["dfa"]))["net.1"][1] == "–"


def test_what_a_run_reports_is_told(finished: Path) -> None:
    fa = {s.contender.label: s for s in standings(load(finished))}["fa"]
    assert coverage(fa) == [
        "Follow the rule: net.1, net.3, net.5, net.7.",
        "Normalisation, exact gradient: net.2.",
        "All four linear layers follow the rule.",
    ]


def test_runs_on_different_machines_show_both(small: Path) -> None:
    synthetic.edit(synthetic.run_home(small, "fa", 1) / "environment.json", cpu="another processor")
    assert dict(environment(load(small)))["cpu"] == "SYNTHETIC processor · another processor"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (0.001, "0.001"),
            (True, "yes"),
            (None, "none"),
            ([256, 64], "256 × 64"),
            ({"lr": 0.1, "a": [1]}, "lr 0.1, a 1"),
        ),
        ([{"quantised": {"bits": 4}}, {"noisy": {}}], "quantised bits 4; noisy"),
    ],
)
def test_settings_in_plain_words(value: object, text: str) -> None:
    assert plain(value) == text


def test_numbers_in_print() -> None:
    assert names.percent(0.97125) == "97.1%"
    assert [names.points(v) for v in (-0.0034, 0.0031, -0.0004, 0.0)] == ["−0.3", "+0.3", "0.0", "0.0"]
    assert [names.size(v) for v in (12, 599_040, 5 * 2**20, 3 * 2**30)] == ["12 B", "585 KiB", "5.0 MiB", "3.0 GiB"]
    assert [names.duration(v) for v in (2e-5, 0.0011, 75, 5400, 36000)] == ["20 µs", "1.1 ms", "75 s", "90 min", "10 h"]
    counts = [names.amount(v) for v in (0, 0.25, 294.125, 999.7, 84_480, 150_528, 28_961_280, 2.5e12)]
    assert [text.replace("\u00a0", " ") for text in counts] == [
        "0", "0.25", "294", "1.00 k", "84.5 k", "151 k", "29.0 M", "2.50 T",
    ]  # fmt: skip
    assert [names.count(n, "seed") for n in (1, 5, 12)] == ["one seed", "five seeds", "12 seeds"]
    assert names.listed(["a"]) == "a"
    assert names.listed(["a", "b", "c"]) == "a, b and c"


def test_names_of_contenders() -> None:
    full = "Feedback alignment"
    assert names.entry("fa", "fa", full) == full
    assert (
        names.entry("fa:last_layer=backprop", "fa", full).replace("\u00a0", " ") == f"{full} with last layer = backprop"
    )
    assert names.entry("mine", "fa", full) == "mine"
