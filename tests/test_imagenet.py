"""End to end at the command line: a thousand classes of small JPEGs, damaged ones and stray files among them."""

import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

import plausible.train
from plausible.cli import app, options
from plausible.core import bind, registry
from plausible.data import load
from plausible.data.stream import StreamLoader
from plausible.models import build
from plausible.train import Run

CLASSES = 1000


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """3 training images in each of the thousand classes and one in val; three of them damaged, two strays beside."""
    root, draw = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    pool = []
    for _ in range(20):
        buffer = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(buffer, "JPEG")
        pool.append(buffer.getvalue())
    for label in range(CLASSES):
        for part, count in (("train", 3), ("val", 1)):
            folder = root / part / f"n{label:08d}"
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.JPEG").write_bytes(pool[(label + i) % len(pool)])
    for name, content in (("train/n00000007/0.JPEG", pool[0][:200]), ("val/n00000500/0.JPEG", b"")):
        (root / name).write_bytes(content)
    (root / "train/n00000009/Thumbs.db").touch()
    (root / "val/LICENSE.txt").touch()
    return root


BAD = {
    "train/n00000007/0.JPEG": "cannot be decoded",
    "val/n00000500/0.JPEG": "cannot be decoded",
    "train/n00000009/Thumbs.db": "not an image",
    "val/LICENSE.txt": "a stray file",
}


def command(images, *more):
    """A tiny net at low resolution, one epoch."""
    small = ["data_options.size=16", "data_options.validation=1000", "model_options.width=8", "probe_size=8"]
    words = ["train", "--data", "imagenet", "--data-dir", str(images), "--rule", "usf", "--epochs", "1",
             "--batch-size", "100", "--workers", "2", "--set", "augment=resized-crop-flip"]  # fmt: skip
    return [*words, *(word for each in small for word in ("--set", each)), *more]


SKIP = ("--set", "data_options.on_bad=skip")


@pytest.fixture
def call(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_a_thousand_classes_from_files_to_top_5(images, call, tmp_path):
    told = call(*command(images, *SKIP, "--out", "whole"))
    assert told.exit_code == 0, told.output
    assert "top-5" in told.stdout and "left out, see result.json" in told.stdout
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert result["steps"] == 20 and result["status"] == "finished"
    assert 0 <= result["test_accuracy"] <= result["test_top5"] <= 1
    assert result["test_accuracy"] * 999 == pytest.approx(round(result["test_accuracy"] * 999)), (
        "of 999: one is damaged"
    )
    found = {path.removeprefix(f"{images}/"): why for path, why in result["skipped"].items()}
    assert found.keys() == BAD.keys()
    assert all(found[path].startswith(why) for path, why in BAD.items())
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows if row["kind"] == "skipped"] == list(result["skipped"])
    (epoch,) = (row for row in rows if row["kind"] == "epoch")
    assert epoch["validation_accuracy"] <= epoch["validation_top5"]


def test_interrupted_in_the_middle_of_an_epoch_it_comes_to_the_same_bits(images, call, tmp_path, monkeypatch):
    words = command(images, *SKIP)
    assert call(*words, "--out", "whole").exit_code == 0
    epoch, stops = StreamLoader.epoch, iter([7, 13, None])

    def interrupted(self, number=0, start=0):
        stop = next(stops) if self.drop_last else None
        for i, batch in enumerate(epoch(self, number, start), start=start):
            if i == stop:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(StreamLoader, "epoch", interrupted)
    for done in (8, 14):
        told = call(*words, "--out", "parts")
        assert told.exit_code == 128 + signal.SIGTERM and f"after step {done} of 20" in told.stderr
    assert call(*words, "--out", "parts").exit_code == 0
    for name in ("metrics.jsonl", "result.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_strays_are_refused_before_anything(images, call, tmp_path):
    told = call(*command(images))
    assert told.exit_code == 1 and told.stderr.count("\n") == 1
    assert "train/n00000009/Thumbs.db: not an image" in told.stderr


def test_a_damaged_image_stops_a_run_which_goes_on_once_it_is_repaired(call, tmp_path):
    draw = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 2)):
        for label in "ab":
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / label / f"{i}.png")
    words = ["train", "--data", f"stream:{tmp_path / 'images'}", "--batch-size", "4", "--epochs", "1", "--workers", "0"]
    words += ["--set", "data_options.size=8", "--set", "data_options.validation=4", "--set", "probe_size=0"]
    assert call(*words, "--out", "whole").exit_code == 0
    data = load(f"stream:{tmp_path / 'images'}", size=8, validation=4, workers=0)
    batches = data.batches("train", 4, shuffle=True, drop_last=True)
    (_, _, _, batch, *_) = batches._ask(0, 0, len(batches))
    broken = Path(data.train.path(batch[0][0]))  # in the fourth batch
    good = broken.read_bytes()

    broken.write_bytes(good[:30])
    told = call(*words, "--out", "parts")
    assert told.exit_code == 1 and told.stderr.count("\n") == 1
    assert f"{broken}: cannot be decoded" in told.stderr and "the same command goes on" in told.stderr
    broken.unlink()
    told = call(*words, "--out", "parts")
    assert told.exit_code == 1 and "another list of training files" in told.stderr
    broken.write_bytes(good)
    assert call(*words, "--out", "parts").exit_code == 0
    for name in ("metrics.jsonl", "result.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("name", ["biotorch-resnet18", "biotorch-resnet18-dfa", "xiao-alexnet", "xiao-resnet18"])
def test_a_recipe_is_a_run_of_one_line(name, call, monkeypatch):
    """Its own model and rule are bound and take a step; --rule and other options win."""
    run = Run.read(options.recipe(name))
    assert run.data == "imagenet" and run.augment == "resized-crop-flip" and run.schedule == "step"
    model = build(run.model, shape=(3, 65, 65), classes=1000, **run.model_options)
    x, y = torch.randn(2, 3, 65, 65), torch.tensor([3, 999])
    bind(model, registry.make(run.rule, **run.rule_options), F.cross_entropy, example=x).learn(x, y)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    asked = []
    monkeypatch.setattr(plausible.train, "train", lambda run, *_, **__: asked.append(run))
    call("train", "--recipe", name, "--rule", "fa", "--seed", "3")
    assert asked == [run.replace(rule="fa", rule_options={}, seed=3)]


def test_recipes_are_found_by_name_and_not_mixed_with_files(call):
    told = call("train", "--recipe", "xiao-resnet")
    assert told.exit_code == 1 and "Did you mean 'xiao-resnet18'?" in told.stderr
    told = call("train", "--recipe", "xiao-resnet18", "--config", "mine.toml")
    assert told.exit_code == 1 and "one of them" in told.stderr
