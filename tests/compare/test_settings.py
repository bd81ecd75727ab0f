from importlib import resources

import pytest

from plausible.compare.settings import Setting, Tuned, stem, tuned
from plausible.core import registry
from plausible.core.errors import ConfigurationError
from plausible.train import Run

FOUND = Tuned(
    study="digits-mlp-1",
    command="plausible tune",
    trials=3,
    epochs=2,
    seed=0,
    base={k: v for k, v in Run(epochs=4).to_dict().items() if k not in ("rule", "rule_options", "lr", "seed", "clip")},
    rules={
        "fa": Setting(lr=0.0123456789, weight_decay=0.2, rule_options={"scale": 0.5}, validation_accuracy=0.9),
        "backprop": Setting(lr=0.1, weight_decay=0.0, rule_options={}, validation_accuracy=0.95),
    },
)


def test_round_trip_through_toml():
    assert Tuned.from_toml(FOUND.to_toml()) == FOUND


def test_settings_as_fields_of_a_run():
    assert FOUND.rules["fa"].overrides == {"lr": 0.0123456789, "weight_decay": 0.2, "rule_options": {"scale": 0.5}}
    assert FOUND.rules["backprop"].overrides == {"lr": 0.1, "weight_decay": 0.0}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"epochs": 50, "seed": 3, "device": "cpu", "rule": "fa"}, True),
        ({"batch_size": 7}, False),
        ({"optimizer": "SGD"}, False),
        ({"model_options": {"width": 7}}, False),
        ({"data": "mnist"}, False),
    ],
)
def test_they_apply_to_runs_of_the_same_kind(change, same):
    assert FOUND.applies(Run(**change)) is same


@pytest.mark.parametrize("document", ["", "x = ", "study = 1", FOUND.to_toml().replace("trials", "tirals")])
def test_another_document_is_refused(document):
    with pytest.raises(ConfigurationError, match="not tuned settings"):
        Tuned.from_toml(document)


def test_a_pair_that_is_not_shipped_has_none():
    assert tuned("folder:/some/where", "my.package:net") is None
    assert stem("folder:/some/where", "my.package:net") == "folder_some_where-my.package_net"


SHIPPED = sorted(
    file.name for file in (resources.files("plausible.compare") / "tuned").iterdir() if file.name.endswith(".toml")
)


def test_the_pair_of_the_bare_command_is_shipped():
    assert "digits-mlp.toml" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_settings_make_valid_runs_and_bring_their_trials(name):
    folder = resources.files("plausible.compare") / "tuned"
    found = Tuned.from_toml((folder / name).read_text(encoding="utf-8"))
    base = Run.from_dict(found.base)
    assert name == f"{stem(base.data, base.model)}.toml" and tuned(base.data, base.model) == found
    assert found.applies(base)
    table = folder / name.replace(".toml", ".csv")
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]
    for rule, setting in found.rules.items():
        run = base.replace(rule=rule, **setting.overrides)
        assert registry.make(rule, **run.rule_options)
        trials = [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row[0] == rule]
        assert len(trials) == found.trials
        assert max(float(t["validation_accuracy"] or 0) for t in trials) == setting.validation_accuracy


def test_a_control_runs_with_the_settings_of_what_it_controls():
    for pair in (("digits", "mlp"), ("fashion-mnist", "small-conv"), ("fashion-mnist", "mlp")):
        found = tuned(*pair)
        assert found is not None
        assert found.overrides("sham") == found.rules["backprop"].overrides
        assert found.overrides("fa") == found.rules["fa"].overrides
