import dataclasses
import json

import pytest

from plausible.compare.comparison import Comparison, Contender, literal, reference
from plausible.core.errors import ConfigurationError, UnknownName
from plausible.train import Run


def contenders(*entries):
    return tuple(Contender.parse(entry) for entry in entries)


@pytest.fixture
def comparison():
    return Comparison(
        base=Run(epochs=3, weight_decay=0.0), contenders=contenders("backprop", "fa:scale=2:lr=0.5"), seeds=(4, 1)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("1e-3", 1e-3), ("true", True), ("[1, 2]", [1, 2]), ('"2"', "2"), ("backprop", "backprop"), ("", "")],
)
def test_literal(text, value):
    assert literal(text) == value and type(literal(text)) is type(value)


def test_an_entry_brings_options_of_the_rule_and_fields_of_the_run():
    entry = Contender.parse("fa:last_layer=backprop:lr=0.01:seed=7")
    assert entry == Contender(
        label="fa:last_layer=backprop:lr=0.01:seed=7",
        rule="fa",
        overrides={"rule_options": {"last_layer": "backprop", "seed": 7}, "lr": 0.01},
    )
    run = entry.applied(Run(lr=1.0, epochs=3, seed=5))
    assert (run.rule, run.lr, run.epochs, run.seed, run.rule_options["seed"]) == ("fa", 0.01, 3, 5, 7)


@pytest.mark.parametrize("entry", ["fa:scale", "fa:=2", "fa:scale=", "fa:"])
def test_a_malformed_entry_is_refused(entry):
    with pytest.raises(ConfigurationError, match="name=value"):
        Contender.parse(entry)


def test_what_a_contender_sets_itself_wins_option_by_option():
    tuned = {"lr": 0.1, "rule_options": {"scale": 3.0, "per_layer": False}}
    assert Contender.parse("fa:scale=2").under(tuned).overrides == {
        "lr": 0.1,
        "rule_options": {"scale": 2, "per_layer": False},
    }
    assert Contender.parse("fa:lr=0.5").under({"lr": 0.1}).overrides == {"lr": 0.5}


def test_runs_are_paired_and_ordered_by_seed(comparison):
    runs = comparison.runs()
    assert list(runs) == [("backprop", 4), ("fa:scale=2:lr=0.5", 4), ("backprop", 1), ("fa:scale=2:lr=0.5", 1)]
    expected = Run(epochs=3, weight_decay=0.0, rule="fa", rule_options={"scale": 2}, lr=0.5, seed=1)
    assert runs["fa:scale=2:lr=0.5", 1] == expected


def test_round_trip_through_json(comparison):
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
    assert Comparison.from_dict(json.loads(json.dumps(comparison.describe()))) == comparison


def test_the_id_knows_settings_but_not_seeds_or_title(comparison):
    def having(**changes):
        return dataclasses.replace(comparison, **changes).id

    assert having(seeds=(9,)) == having(title="Other") == comparison.id
    assert having(base=Run(epochs=4)) != comparison.id
    assert having(contenders=contenders("backprop")) != comparison.id


def test_the_document_holds_what_a_reader_wants(comparison):
    document = comparison.describe()
    fa = document["contenders"][1]
    assert fa["claims"]["forward_weights"] == "none" and fa["claims"]["paper"] == "lillicrap2016"
    assert fa["reference"] == "Lillicrap et al. (2016)"
    assert fa["summary"].startswith("Feedback alignment")
    run = Run(epochs=3, weight_decay=0.0, rule="fa", rule_options={"scale": 2}, lr=0.5, seed=4)
    assert document["runs"]["fa:scale=2:lr=0.5"]["4"] == run.id


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"seeds": ()}, ConfigurationError, "at least one seed"),
        ({"contenders": ()}, ConfigurationError, "at least one rule"),
        ({"seeds": (1, 1)}, ConfigurationError, "seed 1 is given twice"),
        ({"contenders": contenders("fa", "fa")}, ConfigurationError, "'fa' is given twice"),
        ({"contenders": contenders("fa", "fa:lr=0.001")}, ConfigurationError, "same run under two names"),
        ({"contenders": contenders("usff")}, UnknownName, "Did you mean 'usf'"),
        ({"contenders": contenders("fa:scalr=1")}, ConfigurationError, "Did you mean 'scale'"),
    ],
)
def test_an_impossible_comparison_is_refused_at_once(comparison, change, error, match):
    with pytest.raises(error, match=match):
        dataclasses.replace(comparison, **change)


def test_a_document_of_something_else_is_refused():
    with pytest.raises(ConfigurationError, match="not a comparison"):
        Comparison.from_dict({"title": "x", "base": {}})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("author = {Xiao, Will and Chen, Honglin and Liao, Qianli},\n year={2019}", "Xiao et al. (2019)"),
        ("author={N{\\o}kland, Arild},\n  year = 2016,", "N{\\o}kland (2016)"),
        ('author = "John Kolen and Jordan Pollack",\n year = "1994"', "Kolen & Pollack (1994)"),
        ("title = {None}", "key2000"),
    ],
)
def test_reference(fields, expected):
    assert reference(f"@article{{key2000,\n  {fields}\n}}") == expected
