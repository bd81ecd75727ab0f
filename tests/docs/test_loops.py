"""The files of examples/ run, and what their loops did is what a loop written out here does with the same batches."""

import copy
import json
import math
import os
import runpy
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from blocks import ROOT
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import plausible
from plausible.core import Learner
from plausible.data import load

EXAMPLES = ROOT / "examples"


class Seen:
    """What the first learner that learns was given, and the plain model as it was before."""

    def __init__(self) -> None:
        self.learner: Learner | None = None
        self.start = nn.Module()
        self.batches: list[tuple[Any, Tensor]] = []
        self.losses: list[float] = []

    @property
    def examples(self) -> int:
        return sum(len(y) for _, y in self.batches)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen, learn = Seen(), Learner.learn

    def watched(self: Learner, x: Any, y: Any = None) -> plausible.Outcome:
        if seen.learner is None:
            seen.learner, seen.start = self, copy.deepcopy(self).release()
        outcome = learn(self, x, y)
        if self is seen.learner:  # and no copy of it, in which a probe looks
            seen.batches.append((x, y))
            seen.losses.append(float(outcome.loss))
        return outcome

    monkeypatch.setattr(Learner, "learn", watched)
    return seen


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, without a network, and nothing is left in the process."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"an example wanted to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_SILENT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true" if name == "WANDB_SILENT" else "1")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def by_hand(
    seen: Seen,
    rule: str,
    optimise: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy,
    accumulate: int = 1,
    ends: Callable[[int], bool] = lambda i: False,
    clip: float | None = None,
    rate: Callable[[int], float] | None = None,
    after: Callable[[nn.Module], None] = lambda model: None,
) -> dict[str, Tensor]:
    """The model's state after the batches that were seen, with the rule under a loop of its own.

    ends: whether an accumulation ends early with that batch. rate: the learning rate of each step.
    """
    model = copy.deepcopy(seen.start).train()
    optimizer = optimise(model)
    learner = plausible.bind(model, rule, loss, example=seen.batches[0][0], optimizer=optimizer)
    steps, waiting = 0, 0
    for i, (x, y) in enumerate(seen.batches, 1):
        learner.learn(x, y)
        waiting += 1
        if waiting == accumulate or ends(i):
            if clip is not None:
                grads = [p.grad for p in model.parameters() if p.grad is not None]
                norm = torch.stack([g.norm() for g in grads]).norm()
                for g in grads:
                    g.mul_((clip / (norm + 1e-6)).clamp(max=1))
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate(steps)
            optimizer.step()
            optimizer.zero_grad()
            after(model)
            steps, waiting = steps + 1, 0
    return learner.release().state_dict()


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of a parameter."""
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def same_as_by_hand(found: nn.Module, seen: Seen, rule: str, *options: Any, **named: Any) -> None:
    state = found.state_dict()
    assert distance(state, by_hand(seen, rule, *options, **named)) < 1e-5
    assert distance(state, by_hand(seen, "backprop", *options, **named)) > 1e-2, "back-propagation is told apart"


def cosine(start: float, total: int) -> Callable[[int], float]:
    return lambda t: start * (1 + math.cos(math.pi * t / total)) / 2


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=2e-3)


def test_every_example_is_tested_and_has_its_section() -> None:
    here, page = Path(__file__).read_text(encoding="utf-8"), (ROOT / "docs/loops.md").read_text(encoding="utf-8")
    for path in sorted(EXAMPLES.glob("*.py")):
        assert f'run("{path.name}"' in here
        assert page.count(f"<!-- examples/{path.name} -->") == 1
        assert f"python examples/{path.name}" in path.read_text(encoding="utf-8").split('"""')[1]
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= (100 if path.stem == "representations" else 70)


def test_plain(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("plain_loop.py", monkeypatch)
    assert len(seen.batches) == 3 * (len(load("digits").train) // 32) and found["accuracy"] > 0.8
    # Forty batches an epoch, twenty steps: an accumulation never reaches over its end.
    steps = len(seen.batches) // 6
    same_as_by_hand(
        found["model"], seen, "kolen-pollack",
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4),
        accumulate=2, clip=1.0, rate=lambda t: cosine(0.1, 3)(t // steps),
    )  # fmt: skip


def test_lightning(seen: Seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    found = run("lightning_loop.py", monkeypatch)
    assert seen.examples == 3 * len(load("digits").train)
    module = found["module"]
    same_as_by_hand(module.learner.model, seen, "kolen-pollack", adamw, clip=1.0)
    # The checkpoint holds what a run needs to go on: the weights, the feedback that was learned, the clock.
    again = found["Digits"].load_from_checkpoint(tmp_path / "digits.ckpt", weights_only=True)
    mine, theirs = module.learner.state_dict(), again.learner.state_dict()
    assert mine.pop("_extra_state") == theirs.pop("_extra_state") == {"iteration": 63, "step": 63}
    assert distance(mine, theirs) == 0 and any(name.startswith("feedback.") for name in mine)


def test_hugging_face_trainer(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    found = run("trainer_loop.py", monkeypatch)
    # An epoch has 81 batches, and its last is a step of its own: 41 steps. Of the third there are 8.
    assert len(seen.batches) == 81 + 81 + 2 * 8
    assert all(x.keys() == {"pixel_values"} for x, _ in seen.batches)
    same_as_by_hand(
        found["model"], seen, "usf", lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3),
        loss=lambda output, labels: cross_entropy(output.logits, labels) / 2,
        accumulate=2, ends=lambda i: i % 81 == 0, clip=1.0, rate=lambda t: 3e-3 * (1 - t / 90),
    )  # fmt: skip
    assert distance(found["again"].state_dict(), found["model"].state_dict()) == 0
    assert type(found["again"]) is transformers.ViTForImageClassification


def test_accelerate(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerate = pytest.importorskip("accelerate")
    from safetensors.torch import load_file

    try:
        found = run("accelerate_loop.py", monkeypatch)
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert seen.examples == 3 * len(load("digits").train)
    each = len(seen.batches) // 3
    same_as_by_hand(
        found["model"], seen, "kolen-pollack", adamw, loss=lambda output, y: cross_entropy(output, y) / 2,
        accumulate=2, ends=lambda i: i % each == 0, clip=1.0,
    )  # fmt: skip
    assert distance(found["model"].state_dict(), load_file("model.safetensors")) == 0


def test_timm(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    found = run("timm_loop.py", monkeypatch)
    epochs, steps = 4, len(load("digits").train) // 64
    assert len(seen.batches) == epochs * steps and float(found["top1"]) > 80
    average: dict[str, Tensor] = {}

    def follow(model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            follows = name in average and value.is_floating_point()  # a counter is copied
            average[name] = 0.9 * average[name] + 0.1 * value if follows else value.clone()

    def rate(t: int) -> float:  # an epoch of warm-up from timm's 1e-5, then the cosine as if there had been none
        (theirs,) = set(found["scheduler"]._get_lr(t))
        expected = 1e-5 + (5e-3 - 1e-5) * t / steps if t < steps else cosine(5e-3, epochs * steps)(t)
        assert theirs == pytest.approx(expected)
        return theirs  # to the last digit: in bfloat16 what is rounded otherwise soon is another net

    def grouped(model: nn.Module) -> torch.optim.Optimizer:
        # timm leaves biases and gains without decay
        flat = [p for p in model.parameters() if p.dim() <= 1]
        rest = [p for p in model.parameters() if p.dim() > 1]
        return torch.optim.AdamW(
            [{"params": flat, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.02}], lr=5e-3
        )

    with torch.autocast("cpu", torch.bfloat16):
        expected = by_hand(seen, "usf", grouped, clip=1.0, rate=rate, after=follow)
    assert distance(found["model"].state_dict(), expected) < 1e-4
    assert distance(found["ema"].module.state_dict(), average) < 1e-4


def angles(seen: Seen) -> dict[str, float]:
    """The probe's answer after the last step, by the name under which the examples log it."""
    held_out = load("digits").validation
    assert seen.learner is not None
    found = plausible.alignment(seen.learner, held_out.x[:64], held_out.y[:64])
    return {f"{measure}/{layer}": value for layer, row in found.items() for measure, value in row.items()}


def logged(seen: Seen, losses: list[float], last: dict[str, float]) -> None:
    assert losses == pytest.approx(seen.losses) and len(losses) == 63
    expected = angles(seen)
    assert {"update_angle/1", "feedback_angle/3"} <= set(expected)
    assert last == pytest.approx(expected)


def test_tensorboard(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("log_tensorboard.py", monkeypatch)
    events = EventAccumulator("logs").Reload()
    assert [e.step for e in events.Scalars("loss")] == list(range(63))
    last = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if "/" in tag}
    logged(seen, [e.value for e in events.Scalars("loss")], last)


def records(log: bytes) -> Iterator[bytes]:
    """Of a file in LevelDB's log format, as W&B writes it: seven bytes, then blocks of 32 KiB; parts may continue."""
    place, whole = 7, b""
    while len(log) - place > 7:
        if 32768 - place % 32768 < 7:  # no header fits in the rest of the block
            place += 32768 - place % 32768
        size, kind = struct.unpack("<HB", log[place + 4 : place + 7])
        if place + 7 + size > len(log):  # not yet written
            return
        whole += log[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            yield whole
            whole = b""


def test_wandb(seen: Seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    run("log_wandb.py", monkeypatch)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found: list[Record] = []
    for _ in range(150):  # another process writes it, and may be a moment late
        found = [Record.FromString(data) for data in records(file.read_bytes())]
        if any(record.HasField("exit") for record in found):
            break
        time.sleep(0.2)
    assert any(record.HasField("exit") for record in found), "the file was never finished"
    history = [record.history.item for record in found if record.HasField("history")]
    rows = [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items} for items in history]
    last = {name: value for name, value in rows[-1].items() if "/" in name}
    logged(seen, [row["loss"] for row in rows if "loss" in row], last)


def test_mlflow(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    run("log_mlflow.py", monkeypatch)
    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    (only,) = client.search_runs([experiment.experiment_id])
    assert only.data.params["scale"] == "1.0" and only.info.run_name == "fa" and only.info.status == "FINISHED"
    history = sorted(client.get_metric_history(only.info.run_id, "loss"), key=lambda m: m.step)
    logged(seen, [m.value for m in history], {n: v for n, v in only.data.metrics.items() if "/" in n})


def test_export(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = run("export_model.py", monkeypatch)
    plain, x = found["plain"], load("digits").test.x
    expected = plain(x).detach()
    assert (expected.argmax(1) == load("digits").test.y).float().mean() > 0.5
    program = torch.export.load("digits.pt2").module()
    session = onnxruntime.InferenceSession("digits.onnx", providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    for n in (1, 2, len(x)):
        torch.testing.assert_close(program(x[:n]), expected[:n], rtol=1e-4, atol=1e-4)
        (answer,) = session.run(None, {name: x[:n].numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), expected[:n], rtol=1e-4, atol=1e-4)


def test_hub_folder(seen: Seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    found = run("hub_folder.py", monkeypatch)
    digits = load("digits")
    folder = tmp_path / "digits-kolen-pollack"
    assert {p.name for p in folder.iterdir()} >= {"config.json", "model.safetensors", "feedback.safetensors"}
    x, y = digits.test.x, digits.test.y
    assert torch.equal(found["model"](x), found["Net"].from_pretrained(folder)(x))
    # What learns on does so as the first would have; with the feedback drawn anew it would not.
    fresh = found["bind"](found["Net"].from_pretrained(folder))[0]
    for learner in (found["learner"], found["learning_on"], fresh):
        learner.zero_grad()
        learner.learn(x, y)
    one, other, anew = (lr.model.layers[1].weight.grad for lr in (found["learner"], found["learning_on"], fresh))
    assert torch.equal(one, other) and not torch.allclose(one, anew, rtol=1e-3, atol=0)
    assert found["learning_on"].get_extra_state() == found["learner"].get_extra_state()


def test_representations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    found = run("representations.py", monkeypatch, "--seeds", "3", "--epochs", "1")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[:2] for row in table[2:6]] == [["cka", title] for title in found["LAYERS"].values()]
    assert all(0 <= float(cell) <= 1 for row in table[2:6] for cell in row[2:6])
    stored = {
        (r, seed): load_file(tmp_path / f"{rule}-{seed}.safetensors")
        for r, rule in enumerate(found["RULES"])
        for seed in range(3)
    }
    # "hidden 1" of back-propagation, by Kornblith's equation 5 in its other form
    pairs = [(stored[0, i]["2"], stored[0, j]["2"]) for i in range(3) for j in range(i)]
    centred = [[h - h.mean(0) for h in pair] for pair in pairs]
    values = [(b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm()) for a, b in centred]
    assert float(table[3][2]) == pytest.approx(float(torch.stack(values).mean()), abs=1e-3)
    # of two kinds that differ as much as can be, no other way to swap makes as much, but that of all
    kinds = {(a, b): float(a[0] == b[0]) for a in stored for b in stored}
    assert found["p_value"](kinds, range(3)) == (1.0, 2 / 8)
    assert found["p_value"](dict.fromkeys(kinds, 0.5), range(3)) == (0.0, 1.0)
