"""The dry run: what it counts against what can be counted by hand, and that it leaves nothing behind."""

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from plausible.cli import app
from plausible.compare import rehearsal
from plausible.compare.rehearsal import rehearse
from plausible.core.errors import DataError
from plausible.data import Loader
from plausible.train import Run


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(rehearsal, "SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for label in "ab":
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / label / f"{i}.jpg")
    return tmp_path / "images"


def streamed(folder, **options):
    own = {"size": 8, "validation": 4, **options}
    return Run(data=f"stream:{folder}", data_options=own, batch_size=4, epochs=2, model_options={"width": 8})


def test_memory_is_that_of_the_tensors():
    run = Run(rule="fa", model_options={"width": 32, "depth": 1}, epochs=3)
    found = rehearse(run)
    net = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 10))
    weights = 4 * sum(p.numel() for p in net.parameters())
    assert found.model_bytes == weights
    assert found.feedback_bytes == 4 * (64 * 32 + 32 * 10), "a B for each W"
    assert found.optimizer_bytes == 2 * weights + 4 * 4, "Adam's two moments, and a step count for each parameter"
    assert found.step_bytes >= weights, "gradients, at least"
    assert found.steps == 3 * (1294 // 64) and dict(found.examples) == {"train": 1294, "validation": 144, "test": 359}


def test_time_is_the_time_that_steps_take(monkeypatch):
    whole = Loader.epoch

    def slow(self, epoch=0, start=0):
        for batch in whole(self, epoch, start):
            time.sleep(0.02)
            yield batch

    monkeypatch.setattr(Loader, "epoch", slow)
    run = Run(epochs=2, model_options={"width": 8, "depth": 1})
    found = rehearse(run)
    assert found.limit == "loader"
    assert 0.02 <= found.load_seconds <= found.step_seconds
    assert found.seconds == pytest.approx(40 * found.step_seconds + found.evaluate_seconds)
    assert found.evaluate_seconds >= 0.02 * 3, "two of the validation, one of the test"


def test_nothing_is_written_and_torch_is_as_it_was(tmp_path, folder):
    before = sorted(tmp_path.rglob("*"))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    found = rehearse(streamed(folder), workers=1)
    assert torch.rand(2).equal(expected)
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.looked_at, found.classes, found.shape) == (22, 2, (3, 8, 8))
    assert rehearse(streamed(folder), workers=0, decode=11).looked_at == 11


def test_damaged_images_are_all_named_or_left_out(folder):
    broken = [folder / "train" / "a" / "1.jpg", folder / "val" / "b" / "2.jpg"]
    for path in broken:
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2 of 22 images.*no known format.*on_bad=skip") as error:
        rehearse(streamed(folder), workers=0, decode=0)
    assert all(str(path) in str(error.value) for path in broken)
    assert set(rehearse(streamed(folder, on_bad="skip"), workers=0).skipped) == set(map(str, broken))


def test_at_the_command_line_it_is_a_table_or_an_object(tmp_path):
    words = ["train", "--dry-run", "--rule", "fa", "--epochs", "2"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    for part in ("1,294 train", "feedback", "the learner limits", "40 steps in two epochs", "Nothing was written"):
        assert part in told.stdout
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["steps"] == 40 and found["limit"] == "learner" and found["seconds"] > 0
    assert list(tmp_path.iterdir()) == []
