"""The loop against a loop written by hand; probes; what happens when training or the disk fails."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from plausible import data, models
from plausible.core import Learner
from plausible.core.errors import CheckpointError, ConfigurationError, CoverageError, Diverged
from plausible.data import Loader
from plausible.train import Home, Progress, Result, Row, Run, StorageError, load_learner, train
from plausible.train import loop as loop_module
from plausible.train import start as start_module
from plausible.train.interruption import Interrupted
from plausible.train.session import assemble

QUICK = Run(epochs=2, model_options={"width": 16}, lr=0.01)


@pytest.fixture(autouse=True)
def find_noisy(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def rows(directory: Path, kind: str) -> list[dict]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state = torch.load(directory / "checkpoint.pt", weights_only=True)["state"]["learner"]
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def by_hand(run: Run, clip: float | None) -> tuple[dict[str, torch.Tensor], list[list[float]], list[float]]:
    """Plain PyTorch, no learner: the final weights, per epoch the losses and accuracies, and those of the test."""
    dataset = data.load(run.data)
    common = {"mean": dataset.mean, "std": dataset.std}
    batches = Loader(dataset.train, run.batch_size, seed=run.seed, shuffle=True, drop_last=True, **common)
    torch.manual_seed(run.seed)
    model = models.build(run.model, shape=dataset.shape, classes=dataset.classes, **run.model_options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.lr, weight_decay=run.weight_decay)

    def evaluate(split: data.Split) -> list[float]:
        model.eval()
        with torch.no_grad():
            ((x, y),) = Loader(split, len(split), **common).epoch()
            output = model(x)
        model.train()
        return [F.cross_entropy(output, y).item(), (output.argmax(1) == y).double().mean().item()]

    history = []
    for epoch in range(run.epochs):
        losses, hits = [], []
        for x, y in batches.epoch(epoch):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            losses.append(loss.item())
            hits.append((output.argmax(1) == y).double().mean().item())
        history.append([sum(losses) / len(losses), sum(hits) / len(hits), *evaluate(dataset.validation)])
    return model.state_dict(), history, evaluate(dataset.test)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("model_options", [{"width": 32}, {"width": 16, "batch_norm": True}])
def test_with_backprop_it_is_the_loop_everybody_writes(tmp_path, model_options, clip):
    run = Run(model_options=model_options, schedule="constant", epochs=2, lr=0.01, seed=5, clip=clip)
    result = train(run, tmp_path)
    expected, history, test = by_hand(run, clip)
    found = weights(tmp_path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)  # to the last bit
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    for row, values in zip(rows(tmp_path, "epoch"), history, strict=True):
        assert [row[name] for name in names] == pytest.approx(values, rel=1e-6)
    assert [result.test_loss, result.test_accuracy] == pytest.approx(test, rel=1e-6)
    assert result.validation_accuracy == pytest.approx(history[-1][-1])
    assert result.parameters == sum(p.numel() for name, p in expected.items() if p.is_floating_point()) - sum(
        p.numel() for name, p in expected.items() if "running" in name
    )


def test_the_learning_rate_follows_the_schedule(tmp_path, monkeypatch):
    used = []
    learn = loop_module.Loop._learn

    def spy(self, x, y):
        learn(self, x, y)
        used.append(self.session.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(loop_module.Loop, "_learn", spy)
    train(QUICK.replace(warmup_epochs=0.5), tmp_path)
    # 20 steps per epoch: ten of warm-up, thirty along a cosine.
    closed = [t / 10 for t in range(1, 11)]
    closed += [(1 + torch.cos(torch.tensor(torch.pi * t / 30, dtype=torch.float64)).item()) / 2 for t in range(30)]
    assert used == pytest.approx([0.01 * factor for factor in closed], abs=1e-14)
    assert [row["lr"] for row in rows(tmp_path, "epoch")] == [used[19], used[39]]


def test_the_files_say_what_happened(tmp_path):
    events = []
    run = QUICK.replace(rule="fa")
    result = train(run, tmp_path, on_event=events.append)
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["epoch"], row["step"]) for row in written] == [
        ("probe", 0, 0),
        ("epoch", 1, 20),
        ("probe", 1, 20),
        ("epoch", 2, 40),
        ("probe", 2, 40),
        ("test", 2, 40),
    ]
    assert [event.row for event in events if isinstance(event, Row)] == written
    assert all(1 <= e.epoch <= 2 and e.step <= e.steps == 40 for e in events if isinstance(e, Progress))
    assert [json.loads(line)["epoch"] for line in (tmp_path / "timing.jsonl").read_text().splitlines()] == [1, 2]
    assert Run.read(tmp_path / "run.json") == run
    assert json.loads((tmp_path / "environment.json").read_text())["torch"] == torch.__version__
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["id"] == run.id and document["status"] == "finished" and document["steps"] == 40
    assert document["alignment"] == rows(tmp_path, "probe")[-1]["layers"]
    assert document["report"]["covered"] == ["linear1", "linear2", "readout"]
    assert Result.from_json((tmp_path / "result.json").read_text()) == result


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    result = train(QUICK, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(start_module, "assemble", None)
        assert train(QUICK, tmp_path) == result
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    content = (tmp_path / "metrics.jsonl").read_bytes()
    assert train(QUICK, tmp_path, resume=False) == result
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns > before[tmp_path / "checkpoint.pt"]
    assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_a_directory_belongs_to_one_run(tmp_path):
    Home(tmp_path).claim(QUICK)
    with pytest.raises(ConfigurationError, match=rf"another run \({QUICK.id}: epochs 2, not 3\)"):
        train(QUICK.replace(epochs=3), tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigurationError, match=r"metrics\.jsonl is there, but no run\.json"):
        train(QUICK, tmp_path)


def test_a_damaged_checkpoint_or_result_is_no_silent_restart(tmp_path):
    train(QUICK, tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"result\.json: .*Remove it"):
        train(QUICK, tmp_path)
    (tmp_path / "result.json").unlink()
    (tmp_path / "checkpoint.pt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        train(QUICK, tmp_path)


def test_a_model_that_changed_since_is_noticed(tmp_path, monkeypatch):
    train(QUICK, tmp_path)
    (tmp_path / "result.json").unlink()
    other = models.build("mlp", shape=(1, 8, 8), classes=10, width=17)
    monkeypatch.setattr(models, "build", lambda *_, **__: other)
    with pytest.raises(CheckpointError, match=r"does not fit model 'mlp'.*resume=False"):
        train(QUICK, tmp_path)


def test_probing_does_not_change_training(tmp_path):
    noisy = {"model": "noisy:model", "epochs": 2, "rule": "brsf", "lr": 0.01}
    settings = {"often": {"probe_every": 3, "probe_size": 32}, "per epoch": {}, "never": {"probe_size": 0}}
    for name, setting in settings.items():
        train(Run(**noisy, **setting), tmp_path / name)
    assert len(rows(tmp_path / "often", "probe")) == 15  # step 0, thirteen times every third, the end
    assert len(rows(tmp_path / "per epoch", "probe")) == 3
    assert rows(tmp_path / "never", "probe") == []
    found = {name: weights(tmp_path / name) for name in settings}
    for name in ("often", "per epoch"):
        assert all(torch.equal(found[name][key], value) for key, value in found["never"].items())
        assert rows(tmp_path / name, "epoch") == rows(tmp_path / "never", "epoch")


def test_when_checkpoints_are_written_does_not_change_training(tmp_path):
    run = Run(model="noisy:model", epochs=2, lr=0.01)
    for seconds in (0.0, 1000.0):
        train(run, tmp_path / str(seconds), checkpoint_seconds=seconds)
    contents = {(tmp_path / str(s) / "metrics.jsonl").read_bytes() for s in (0.0, 1000.0)}
    assert len(contents) == 1


def test_looking_rarely_as_on_a_gpu_does_not_change_training(tmp_path, monkeypatch):
    run = Run(model="noisy:model", epochs=2, lr=0.01, probe_every=3)
    train(run, tmp_path / "each")
    monkeypatch.setattr(loop_module, "LOOK_EVERY", {"cpu": 7})
    saved = []
    monkeypatch.setattr(loop_module.Loop, "_save", lambda self: saved.append(self.step))
    train(run, tmp_path / "seventh", checkpoint_seconds=0.0)
    assert saved == [7, 14, 20, 21, 28, 35, 40]
    for name in ("metrics.jsonl", "result.json"):
        assert (tmp_path / "each" / name).read_bytes() == (tmp_path / "seventh" / name).read_bytes()


def test_another_seed_is_another_run(tmp_path):
    one, two = (train(QUICK.replace(seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    assert one.test_loss != two.test_loss
    assert not torch.equal(weights(tmp_path / "0")["linear1.weight"], weights(tmp_path / "1")["linear1.weight"])


def test_the_feedback_seed_is_the_runs_unless_given():
    def feedback(run: Run) -> torch.Tensor:
        state = assemble(run, torch.device("cpu")).learner.state_dict()
        own = [
            value.flatten() for name, value in state.items() if isinstance(value, torch.Tensor) and name[:6] != "model."
        ]
        return torch.cat(own)

    fa = Run(rule="fa", model_options={"width": 16}, seed=1)
    assert not torch.equal(feedback(fa), feedback(fa.replace(seed=2)))
    given = [feedback(fa.replace(seed=seed, rule_options={"seed": 7})) for seed in (1, 2)]
    assert torch.equal(*given)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was(tmp_path):
    run = Run(optimizer="SGD", lr=1e18, weight_decay=0.0, schedule="constant", epochs=3)
    with pytest.raises(
        Diverged, match=rf"Run {run.id} .*loss is (nan|inf) at step \d+ of 60.*lower lr than 1e\+18"
    ) as e:
        train(run, tmp_path)
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["status"] == "diverged" and document["reason"] == str(e.value)
    assert document["test_accuracy"] is document["test_loss"] is document["validation_accuracy"] is None
    assert [row["step"] for row in rows(tmp_path, "probe")] == [0]
    before = (tmp_path / "result.json").stat().st_mtime_ns
    with pytest.raises(Diverged) as again:
        train(run, tmp_path)
    assert str(again.value) == str(e.value)
    assert (tmp_path / "result.json").stat().st_mtime_ns == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_later(tmp_path, monkeypatch):
    train(QUICK, tmp_path / "whole")
    learn = loop_module.Loop._learn

    def filling_up(self, x, y):
        learn(self, x, y)
        if self.step == 27:
            (tmp_path / "run" / ".checkpoint.pt.tmp").symlink_to("/dev/full")

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.Loop, "_learn", filling_up)
        with pytest.raises(StorageError, match=r"checkpoint\.pt could not be written: the disk is full.*Make room"):
            train(QUICK, tmp_path / "run", checkpoint_seconds=0.0)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["step"] == 26
    train(QUICK, tmp_path / "run")
    for name in ("metrics.jsonl", "result.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_torch_is_left_as_it_was(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    train(QUICK.replace(threads=2 if threads == 1 else 1, epochs=1), tmp_path)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_trained_learner_can_be_had_back(tmp_path):
    result = train(QUICK, tmp_path)
    learner = load_learner(tmp_path)
    dataset = data.load("digits")
    ((x, y),) = Loader(dataset.test, len(dataset.test), mean=dataset.mean, std=dataset.std).epoch()
    assert not learner.training
    assert (learner(x).argmax(1) == y).double().mean().item() == pytest.approx(result.test_accuracy)
    with pytest.raises(ConfigurationError, match=r"run\.json cannot be read"):
        load_learner(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 5000}, "batch_size"),
        ({"optimizer": "SGD", "optimizer_options": {"nesterov": True}}, "optimizer_options"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"model": "mpl"}, "mlp"),
        ({"data": "digit"}, "digits"),
    ],
)
def test_what_cannot_be_built_is_named(tmp_path, changes, words):
    with pytest.raises(Exception, match=words) as error:
        train(QUICK.replace(**changes), tmp_path)
    assert type(error.value).__module__ == "plausible.core.errors"


def test_a_run_compiles_its_learner_if_it_is_to(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setenv("CXX", sys.executable)  # it is asked for, and not used
    monkeypatch.setattr(Learner, "compile", lambda learner: compiled.append(learner))
    train(Run(epochs=1), tmp_path / "eager")
    assert not compiled
    train(Run(epochs=1, compile=True), tmp_path / "compiled")
    assert [learner.rule.name for learner in compiled] == ["backprop"]


def test_without_a_compiler_a_run_that_is_to_be_compiled_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigurationError, match="no 'no-such-compiler' here"):
        train(Run(epochs=1, compile=True), tmp_path / "run")


def test_bfloat16_trains_under_autocast(tmp_path):
    result = train(Run(precision="bfloat16", epochs=5, rule="fa"), tmp_path)
    assert result.test_accuracy is not None and result.test_accuracy > 0.7
    assert all(value.dtype == torch.float32 for value in weights(tmp_path).values())
    single = train(Run(epochs=5, rule="fa"), tmp_path / "single")
    assert single.test_loss != result.test_loss  # it did compute something else


SPIKING = Run(
    rule="nef-dfa", model="lif-mlp", model_options={"width": 8, "depth": 1, "cells": 2}, epochs=1, batch_size=128,
    probe_size=0,
)  # fmt: skip


def test_streams_go_on_where_a_stopped_run_left_them(tmp_path, monkeypatch):
    """What is stopped in the middle of an epoch ends with the weights, and the look inside, of what was not."""
    train(SPIKING, tmp_path / "whole")

    def stop(event):
        if isinstance(event, Progress) and event.step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop_module, "PROGRESS_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        train(SPIKING, tmp_path / "parts", on_event=stop, checkpoint_seconds=0)
    kept = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["state"]
    assert kept["step"] == 3 and len(kept["learner"]["_extra_state"]["state"])
    assert not Home(tmp_path / "parts").activity.exists()
    train(SPIKING, tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    for name in ("metrics.jsonl", "activity.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_only_a_net_that_spikes_is_looked_into_and_forgetting_forgets_it(tmp_path):
    train(QUICK.replace(epochs=1), tmp_path / "plain")
    assert not Home(tmp_path / "plain").activity.exists()
    home = Home(tmp_path)
    for path in (home.checkpoint, home.result, home.activity):
        path.write_text("")
    home.forget()
    assert list(tmp_path.glob("*.*")) == []


def test_a_rule_says_which_model_it_is_made_for(tmp_path):
    with pytest.raises(CoverageError, match=r"made for 'lif-mlp': --model lif-mlp\."):
        train(Run(rule="nef-dfa"), tmp_path)
