"""Runs: identity, round trips, and refusals that name the field, the value and the way out."""

import dataclasses
import hashlib
import json
import pickle
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plausible.core.errors import ConfigurationError, UnknownName
from plausible.train import Run

NAMES = st.text(min_size=1, max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.booleans() | st.integers(-(2**62), 2**62) | FINITE | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
OPTIONS = st.dictionaries(NAMES, VALUES, max_size=4)
RATES = st.floats(1e-12, 1e6)
OPTIMIZERS = st.sampled_from(
    [
        {"optimizer": "AdamW", "optimizer_options": {"betas": [0.8, 0.99]}},
        {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9, "nesterov": True}},
        {"optimizer": "Rprop", "weight_decay": 0.0},
    ]
)
RULES = st.sampled_from([{"rule": "backprop"}, {"rule": "fa", "rule_options": {"seed": 3}}, {"rule": "usf"}])
CONSTRAINTS = st.sampled_from(
    [{}, {"constraints": [{"quantised": {"bits": 4, "range": 2.5}}, {"noisy": {}}, {"noisy": {"on": "feedback"}}]}]
)
SCHEDULES = st.sampled_from(
    [
        {"schedule": "constant"},
        {"schedule": "cosine", "schedule_options": {"floor": 0.1}},
        {"schedule": "step", "schedule_options": {"milestones": [1, 2.5], "gamma": 0.5}},
    ]
)
PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "data": NAMES,
        "data_options": OPTIONS,
        "model": NAMES,
        "model_options": OPTIONS,
        "lr": RATES,
        "epochs": st.integers(1, 10**6),
        "batch_size": st.integers(1, 10**6),
        "augment": NAMES,
        "clip": st.none() | RATES,
        "seed": st.integers(0, 2**32 - 1),
        "device": st.sampled_from(["cpu", "cuda", "cuda:3"]),
        "threads": st.integers(1, 512),
        "precision": st.sampled_from(["float32", "tf32", "bfloat16"]),
        "compile": st.booleans(),
        "probe_every": st.integers(0, 10**6),
        "probe_size": st.integers(0, 10**6),
    },
)
RUNS = st.builds(
    lambda *parts: Run(**{k: v for part in parts for k, v in part.items()}),
    PLAIN,
    OPTIMIZERS,
    RULES,
    CONSTRAINTS,
    SCHEDULES,
)

# A value other than the default for every field.
OTHER = {
    "data": "mnist",
    "data_options": {"validation": 0.2},
    "model": "lenet",
    "model_options": {"width": 3},
    "rule": "fa",
    "rule_options": {"seed": 1},
    "constraints": [{"quantised": {"bits": 4}}],
    "optimizer": "SGD",
    "lr": 0.5,
    "weight_decay": 0.0,
    "optimizer_options": {"eps": 1e-7},
    "schedule": "constant",
    "schedule_options": {"floor": 0.5},
    "warmup_epochs": 0.5,
    "epochs": 11,
    "batch_size": 65,
    "augment": "flip",
    "clip": 1.0,
    "seed": 1,
    "device": "cuda",
    "threads": 2,
    "precision": "bfloat16",
    "compile": True,
    "probe_every": 1,
    "probe_size": 1,
}

LATEST = {"constraints", "compile"}


def same_types(a: object, b: object) -> bool:
    """Equal in value and type all the way down: 1, 1.0 and True are three things."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_types(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_types, a, b))
    return type(a) is type(b) and a == b


@settings(deadline=None, max_examples=60)
@given(RUNS)
def test_written_and_read_again_it_is_the_same_run(run):
    for other in (Run.from_json(run.to_json()), Run.from_toml(run.to_toml()), pickle.loads(pickle.dumps(run))):
        assert same_types(other.to_dict(), run.to_dict())
        assert other == run and hash(other) == hash(run) and other.id == run.id


def test_the_written_forms_are_json_and_toml():
    run = Run(clip=None, rule="fa", rule_options={"seed": 4})
    document = json.loads(run.to_json())
    assert document.pop("format") == 1
    assert document == run.to_dict()
    table = tomllib.loads(run.to_toml())
    assert table.pop("format") == 1
    assert table == {name: value for name, value in run.to_dict().items() if name != "clip"}


def test_id_is_the_hash_of_the_sorted_fields():
    run = Run(rule="fa", model_options={"b": 1, "a": [1.5, "é"]})
    canonical = json.dumps(run.to_dict(), sort_keys=True, separators=(",", ":"))
    assert run.id == hashlib.sha256(canonical.encode("ascii")).hexdigest()[:12]


def test_id_does_not_depend_on_the_order_of_keys():
    values = {"model_options": {"a": 1, "b": {"c": 2, "d": 3}}, "lr": 0.1}
    shuffled = {"lr": 0.1, "model_options": {"b": {"d": 3, "c": 2}, "a": 1}}
    assert Run.from_dict(values).id == Run.from_dict(shuffled).id


def test_every_field_has_a_say_in_the_id():
    base = Run()
    assert base.to_dict().keys() | LATEST == OTHER.keys()
    ids = {name: base.replace(**{name: value}).id for name, value in OTHER.items()}
    assert len({base.id, *ids.values()}) == len(OTHER) + 1


def test_the_latest_fields_have_no_part_in_the_id_of_a_run_that_leaves_them_alone():
    """It is that of a release without them: the hash of all other fields."""
    values = {f.name: getattr(Run(), f.name) for f in dataclasses.fields(Run) if f.name not in LATEST}
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    for run in (Run(), Run(constraints=[]), Run(constraints=[{"noisy": {}}]).replace(constraints=[])):
        assert run.id == hashlib.sha256(canonical.encode("ascii")).hexdigest()[:12]


def test_whole_numbers_and_floats_are_one_where_the_field_is_a_float():
    assert Run(lr=1) == Run(lr=1.0)
    assert Run(model_options={"a": 1}) != Run(model_options={"a": 1.0})  # a callable may care


def test_options_are_copied():
    options = {"sizes": [1, 2]}
    run = Run(model_options=options)
    options["sizes"].append(3)
    assert run.model_options == {"sizes": [1, 2]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", True),
        ("lr", "0.1"),
        ("lr", 10**400),
        ("weight_decay", -0.1),
        ("epochs", 0),
        ("epochs", 1.0),
        ("epochs", True),
        ("batch_size", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("threads", 0),
        ("clip", 0.0),
        ("probe_every", -1),
        ("warmup_epochs", 10),
        ("data", ""),
        ("model", None),
        ("model_options", [1]),
        ("model_options", {"a": float("nan")}),
        ("model_options", {"a": object}),
        ("model_options", {1: 2}),
        ("device", "tpu"),
        ("device", "mps"),
        ("precision", "float16"),
        ("compile", 1),
        ("schedule", "cosinus"),
        ("optimizer", "adamw"),
        ("optimizer", "LBFGS"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(field, value):
    with pytest.raises(ConfigurationError) as error:
        Run(**{field: value})
    shown = repr(next(iter(value.values()), None)) if isinstance(value, dict) and 1 not in value else repr(value)
    if isinstance(value, dict) and 1 in value:
        shown = "1"
    assert field in str(error.value)
    assert shown in str(error.value)
    assert "must be" in str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 1.0}, ["learning_rate", "lr"]),
        ({"epoch": 1}, ["'epoch'", "Did you mean 'epochs'?"]),
        ({"optimizer": "Adamw"}, ["'Adamw'", "Did you mean 'AdamW'?"]),
        ({"optimizer_options": {"momentum": 0.9}}, ["AdamW", "momentum", "betas"]),
        ({"optimizer_options": {"lr": 0.9}}, ["AdamW", "'lr'"]),
        ({"schedule_options": {"milestones": [1]}}, ["cosine", "milestones", "floor"]),
        ({"schedule": "step"}, ["schedule_options.milestones", "None", "list of epochs"]),
        ({"schedule": "step", "schedule_options": {"milestones": []}}, ["schedule_options.milestones", "[]"]),
        ({"schedule": "step", "schedule_options": {"milestones": [-1]}}, ["milestones", "-1", "at least 0"]),
        ({"rule_options": {"sede": 1}}, ["backprop", "sede", "seed"]),
        ({"optimizer": "Rprop"}, ["weight_decay", "0.01", "Rprop"]),
        ({"data_options": {"root": "here"}}, ["data_options", "'root'", "set elsewhere"]),
        ({"model_options": {"classes": 3}}, ["model_options", "'classes'", "set elsewhere"]),
        ({"rule_options": {"name": "fa"}}, ["rule_options", "'name'", "set elsewhere"]),
        ({"constraints": [{"quantized": {}}]}, ["no constraint named 'quantized'", "Did you mean 'quantised'?"]),
        ({"constraints": [{"quantised": {"bit": 4}}]}, ["quantised has no option 'bit'", "Did you mean 'bits'?"]),
        ({"constraints": [{"quantised": {"bits": 1}}]}, ["bits = 1", "2 to 24"]),
        ({"constraints": [{"quantised": {"name": "noisy"}}]}, ["quantised has no option 'name'"]),
        ({"constraints": {"quantised": {}}}, ["constraints", "must be a list"]),
        ({"constraints": ["quantised"]}, ["constraints[0]", "mapping"]),
        ({"constraints": [{"quantised": 4}]}, ["constraints[0]", "one name with its options"]),
        ({"constraints": [{"quantised": {}, "noisy": {}}]}, ["constraints[0]", "one name with its options"]),
        ({"format": 2}, ["format 2", "newer", "Upgrade"]),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(values, words):
    with pytest.raises((ConfigurationError, UnknownName)) as error:
        Run.from_dict(values)
    for word in words:
        assert word in str(error.value)


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'backprop'"):
        Run(rule="back-prop")


def test_none_in_an_option_can_be_written_as_json_only():
    run = Run(model_options={"norm": None})
    assert Run.from_json(run.to_json()) == run
    with pytest.raises(ConfigurationError, match="JSON"):
        run.to_toml()


def test_replace_checks_too():
    assert Run().replace(lr=0.5).lr == 0.5
    with pytest.raises(ConfigurationError, match="Did you mean 'epochs'"):
        Run().replace(epoch=3)


def test_files(tmp_path):
    run = Run(rule="usf", epochs=3)
    (tmp_path / "run.toml").write_text(run.to_toml())
    (tmp_path / "run.json").write_text(run.to_json())
    assert Run.read(tmp_path / "run.toml") == run == Run.read(str(tmp_path / "run.json"))
    (tmp_path / "short.toml").write_text('rule = "fa"\n')
    assert Run.read(tmp_path / "short.toml") == Run(rule="fa")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.toml", b"rule = ", "not valid TOML"),
        ("a.json", b'{"rule": ', "not valid JSON"),
        ("a.json", b"[1]", "JSON object"),
        ("a.json", b"\xff\xfe\x00", "cannot be read"),
        ("a.toml", b"day = 2020-01-01", "'day'"),
        ("a.toml", b"model_options = {day = 2020-01-01}", "plain value"),
        ("a.json", b'{"lr": NaN}', "finite"),
        ("a.toml", b"lr = -1", "lr = -1"),
        ("a.yaml", b"lr: 1", ".json or .toml"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        Run.read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert why in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        Run.read(tmp_path / "none.toml")
