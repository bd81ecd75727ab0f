"""How many images one core decodes and augments, beside torchvision's own loader, and beside what one core learns from.

    python benchmarks/loader.py --json results/loader.json

JPEGs of 500 × 375, ImageNet's usual size, in random crops of 224 × 224 and flips, in batches of 32, in this process:
one core, as one worker has. torchvision's ``ImageFolder`` under a ``DataLoader`` is what its own recipes use. They take
turns (see ``turns.py``).
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from contenders import Contender
from lif import Still
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from turns import Duel, alone, keep, take_turn, warm_up

import plausible
from plausible import data
from plausible.data.streamed import MEAN, STD

BATCH, CLASSES, EACH = 32, 4, 40


def images(home: Path) -> None:
    """``train`` and ``val`` in folders: noise of several scales, which compresses about as photographs do."""
    draw = np.random.default_rng(0)
    for part, label, number in np.ndindex(2, CLASSES, EACH):
        pixels = np.zeros((375, 500, 3))
        for scale in (1, 5, 25, 125):
            small = draw.normal(size=(375 // scale, 500 // scale, 3))
            pixels += scale**0.5 * small.repeat(scale, 0).repeat(scale, 1)
        folder = home / ("train", "val")[part] / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        shown = np.clip(128 + 12 * pixels, 0, 255).astype(np.uint8)
        Image.fromarray(shown).save(folder / f"{number}.jpg", quality=90)


def ours(home: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end."""
    found = data.load("imagenet", root=home, workers=0)
    batches = found.batches("train", BATCH, augment="resized-crop-flip", shuffle=True, drop_last=True)
    for epoch in range(1_000_000):
        yield from batches.epoch(epoch)


def theirs(home: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """The same by torchvision."""
    steps = [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    files = ImageFolder(str(home / "train"), transforms.Compose(steps))
    while True:
        yield from DataLoader(files, BATCH, shuffle=True, drop_last=True)


def contender(batches: Iterator[tuple[Tensor, Tensor]]) -> Contender:
    """A step takes a batch."""
    return Contender(lambda: next(batches), Still(), [])  # type: ignore[arg-type]


def learner(x: Tensor, y: Tensor) -> Contender:
    """A step of sign symmetry on ResNet-18."""
    model = resnet18(num_classes=1000)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    bound = plausible.bind(model, "usf", cross_entropy, optimizer=optimizer)

    def run() -> None:
        optimizer.zero_grad()
        bound.learn(x, y)

    return Contender(run, optimizer, [])


def main() -> None:
    """Measure, print, save."""
    repeats, out = alone(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        images(home)
        size = sum(path.stat().st_size for path in home.rglob("*.jpg")) / (2 * CLASSES * EACH)
        duel = Duel(contender(ours(home)), contender(theirs(home)))
        warm_up(duel.theirs)
        count = warm_up(duel.mine)
        for _ in range(repeats):
            duel.meet(count)
        result = duel.result()
        step = learner(*next(ours(home)))
        warm_up(step)
        seconds = take_turn(step, 3).wall
    wall = result["wall"]
    assert isinstance(wall, dict) and isinstance(result["seconds"], float)
    found = {
        "torch": torch.__version__,
        "bytes of a file": round(size),
        "time to torchvision's": wall,
        "images a second and core": BATCH / result["seconds"],
        "images a second that one core learns from": BATCH / seconds,
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    keep(found, out)


if __name__ == "__main__":
    main()
