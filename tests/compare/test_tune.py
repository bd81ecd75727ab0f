import csv
import multiprocessing
import os
from functools import partial

import optuna
import pytest
from optuna.trial import TrialState

from plausible.compare import tune as tuner
from plausible.compare.settings import Tuned
from plausible.compare.tune import Tuning, tune
from plausible.core.errors import ConfigurationError, UnknownName
from plausible.train import Run, train

BASE = Run(batch_size=256, model_options={"width": 8}, epochs=4, lr=0.01)


@pytest.fixture
def tuning(tmp_path):
    return Tuning(base=BASE, rules=("fa", "backprop"), trials=3, epochs=1, storage=str(tmp_path / "study.journal"))


def one_trial(tuning, rule, folder):
    return tuner._work(tuner._Task(tuning, rule, folder / "scratch", None), lambda _: None)


def test_the_first_trial_is_the_default_setting(tuning, tmp_path):
    assert tuner._prepare(tuning, "fa") == 3
    end = one_trial(tuning, "fa", tmp_path)
    trial = tuning.study("fa").trials[0]
    assert trial.params == {"lr": 0.01, "weight_decay": 0.01, "scale": 1.0}
    by_hand = train(BASE.replace(rule="fa", epochs=1, rule_options={"scale": 1.0}, probe_size=0), tmp_path / "run")
    assert end.value == trial.value == by_hand.validation_accuracy
    assert end.number == 0 and end.best == end.value


def test_the_budget_is_exact_and_the_ranges_are_kept(tuning, tmp_path):
    tuner._prepare(tuning, "fa")
    ends = [one_trial(tuning, "fa", tmp_path) for _ in range(5)]
    assert [end and end.number for end in ends] == [0, 1, 2, None, None]
    trials = tuning.study("fa").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    for trial in trials:
        assert 0.01 / 30 <= trial.params["lr"] <= 0.3
        assert 0.01 / 30 <= trial.params["weight_decay"] <= 0.3
        assert 0.1 <= trial.params["scale"] <= 10
    assert len({trial.params["lr"] for trial in trials}) == 3
    assert tuner._prepare(tuning, "fa") == 0


def test_a_study_can_be_repeated(tuning, tmp_path):
    other = Tuning(base=BASE, rules=("fa",), trials=3, epochs=1, storage=str(tmp_path / "other.journal"))
    found = []
    for each in (tuning, other):
        tuner._prepare(each, "fa")
        for _ in range(2):
            one_trial(each, "fa", tmp_path)
        found.append([trial.params for trial in each.study("fa").trials])
    assert found[0] == found[1]


def test_the_trial_of_a_dead_process_is_done_again(tuning, tmp_path):
    tuner._prepare(tuning, "fa")
    study = tuning.study("fa")
    dead = multiprocessing.get_context("spawn").Process(target=int)
    dead.start()
    dead.join()
    trial = study.ask()
    trial.suggest_float("lr", 0.01 / 30, 0.3, log=True)
    trial.suggest_float("weight_decay", 0.01 / 30, 0.3, log=True)
    trial.suggest_float("scale", 0.1, 10, log=True)
    trial.set_user_attr("process", f"{os.uname().nodename}:{dead.pid}")
    alive = study.ask()
    alive.set_user_attr("process", f"{os.uname().nodename}:{os.getpid()}")
    assert tuner._prepare(tuning, "fa") == 2  # of three, the living process has one
    assert one_trial(tuning, "fa", tmp_path).number == 2
    trials = tuning.study("fa").trials
    assert trials[2].params == trial.params
    assert [t.state for t in trials] == [TrialState.FAIL, TrialState.RUNNING, TrialState.COMPLETE]


def test_divergence_is_a_bad_value_and_not_an_error(tmp_path):
    wild = BASE.replace(optimizer="SGD", lr=1e30, weight_decay=0.0)
    tuning = Tuning(base=wild, rules=("backprop",), trials=1, epochs=1, storage=str(tmp_path / "s.journal"))
    tuner._prepare(tuning, "backprop")
    assert one_trial(tuning, "backprop", tmp_path).value == 0.0
    with pytest.raises(ConfigurationError, match="smaller learning rate"):
        tuner._write(tuning, tmp_path, "")


def test_a_decay_of_zero_stays_zero(tmp_path):
    still = BASE.replace(weight_decay=0.0)
    tuning = Tuning(base=still, rules=("backprop",), trials=1, epochs=1, storage=str(tmp_path / "s.journal"))
    found = Tuned.from_toml(tune(tuning, tmp_path, jobs=1).read_text())
    assert found.rules["backprop"].overrides == {"lr": 0.01, "weight_decay": 0.0}


def test_pruning_stops_a_trial_below_the_median(tmp_path):
    tuning = Tuning(base=BASE, rules=("backprop",), trials=9, epochs=1, storage=str(tmp_path / "s.journal"), prune=True)
    study = tuning.study("backprop")
    lr = optuna.distributions.FloatDistribution(BASE.lr / 30, BASE.lr * 30, log=True)
    for _ in range(5):  # before it, five that were perfect at the first epoch
        study.add_trial(
            optuna.create_trial(params={"lr": 0.01}, distributions={"lr": lr}, value=1.0, intermediate_values={1: 1.0})
        )
    end = one_trial(tuning, "backprop", tmp_path)
    assert end.value is None and end.best == 1.0
    assert tuning.study("backprop").trials[5].state == TrialState.PRUNED


def test_two_processes_share_one_study(tuning, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=partial(tune, tuning, tmp_path / name, jobs=1, command=name)) for name in ("a", "b")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    # Who finishes first may write before the other's last trial is told; the same call again writes what there is.
    path = tune(tuning, tmp_path / "a", command="again")
    found = Tuned.from_toml(path.read_text())
    rows = list(csv.DictReader(path.with_suffix(".csv").open()))
    for rule in ("fa", "backprop"):
        mine = [row for row in rows if row["rule"] == rule]
        assert len(mine) == tuning.trials
        best = max(mine, key=lambda row: float(row["validation_accuracy"]))
        setting = found.rules[rule]
        assert setting.lr == float(best["lr"]) and setting.weight_decay == float(best["weight_decay"])
        assert setting.validation_accuracy == float(best["validation_accuracy"])
        assert dict(setting.rule_options) == ({"scale": float(best["scale"])} if rule == "fa" else {})
    assert found.command == "again" and found.trials == 3 and found.epochs == 1
    assert Run.from_dict(found.base) == BASE.replace(lr=Run().lr)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"digits-mlp.toml", "digits-mlp.csv"}


def test_what_an_entry_sets_itself_is_not_searched(tmp_path):
    entry = "kolen-pollack:scale=2.0:weight_decay=0.5"
    tuning = Tuning(base=BASE, rules=(entry,), trials=2, epochs=1, storage=str(tmp_path / "study.journal"))
    path = tune(tuning, tmp_path / "out", jobs=1)
    assert all(set(trial.params) == {"lr"} for trial in tuning.study(entry).trials)
    found = Tuned.from_toml(path.read_text())
    setting = found.rules[entry]
    assert setting.weight_decay == 0.5 and dict(setting.rule_options) == {"scale": 2.0}
    assert found.overrides("kolen-pollack", entry) == setting.overrides
    assert found.overrides("kolen-pollack") is None  # it was tuned as this entry alone


def test_a_database_serves_as_well(tmp_path):
    tuning = Tuning(base=BASE, rules=("backprop",), trials=1, epochs=1, storage=f"sqlite:///{tmp_path}/study.db")
    assert tuner._prepare(tuning, "backprop") == 1
    assert one_trial(tuning, "backprop", tmp_path).number == 0
    assert (tmp_path / "study.db").stat().st_size > 0


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"rules": ()}, ConfigurationError, "at least one rule"),
        ({"trials": 0}, ConfigurationError, "at least one trial"),
        ({"rules": ("fab",)}, UnknownName, "Did you mean 'fa'"),
    ],
)
def test_an_impossible_tuning_is_refused(change, error, match):
    with pytest.raises(error, match=match):
        Tuning(**{"base": BASE, "rules": ("fa",), "trials": 1, "epochs": 1, "storage": "x", **change})


def test_a_storage_that_cannot_be_opened_is_named():
    tuning = Tuning(base=BASE, rules=("fa",), trials=1, epochs=1, storage="nosuch://place")
    with pytest.raises(ConfigurationError, match="nosuch://place"):
        tuning.study("fa")
