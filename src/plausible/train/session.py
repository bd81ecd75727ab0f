"""Everything a run names, built: data on the device, model, optimiser, learner."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import torch
import torch.nn.functional as F
from torch import Tensor

from plausible import data, models
from plausible.core import Learner, bind, registry
from plausible.core.errors import CheckpointError, ConfigurationError, CoverageError
from plausible.data import Loader
from plausible.probes import Activity, activity
from plausible.train import checkpoint, runtime
from plausible.train.home import Home
from plausible.train.run import Run, optimizers

EVALUATION_BATCH = 512
LOOKED_AT = 6
"""Test images that a look inside a spiking net takes; the first is not in the record."""


@dataclass(frozen=True)
class Session:
    """A run come to life on a device.

    Attributes:
        run: the run.
        device: where it computes.
        learner: the rule bound to the model.
        optimizer: the optimiser, hooked to the learner.
        train: training batches: shuffled, augmented, all of the same size.
        validation: validation batches.
        test: test batches.
        probe: (x, y), the first validation examples; ``None`` if the run is not to be probed.
    """

    run: Run
    device: torch.device
    learner: Learner
    optimizer: torch.optim.Optimizer
    train: Loader
    validation: Loader
    test: Loader
    probe: tuple[Tensor, Tensor] | None

    def evaluate(self, batches: Loader) -> tuple[float, float]:
        """Mean cross-entropy and accuracy (0 to 1) over the batches; changes nothing."""
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        count = 0
        self.learner.eval()
        with torch.no_grad(), runtime.autocast(self.run, self.device), self.learner.aside():
            for x, y in batches.epoch():
                self.learner.reset()
                output = self.learner(x)
                loss = F.cross_entropy(output, y, reduction="sum")
                totals += torch.stack([loss.double(), correct(output, y)])
                count += len(y)
        self.learner.train()
        loss, accuracy = (totals / count).tolist()
        return loss, accuracy

    def look(self) -> Activity | None:
        """What the cells do while the net learns from some test images, if it is a spiking net; changes nothing."""
        x, y = next(self.test.epoch())
        with runtime.autocast(self.run, self.device):
            return activity(self.learner, x[:LOOKED_AT], y[:LOOKED_AT])

    def restore(self, state: dict[str, dict]) -> None:
        """Put back the learner's and the optimiser's state.

        Raises:
            CheckpointError: the model is not the one that was saved.
        """
        try:
            self.learner.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit model {self.run.model!r} with rule {self.run.rule!r} as they "
                f"are now: {shorten(str(error), 300)} Did their code change since? Start the run afresh with "
                "resume=False."
            ) from error


def correct(output: Tensor, y: Tensor) -> Tensor:
    """How many of (B, C) outputs are largest at their label y (B,): scalar, float64."""
    return (output.argmax(1) == y).sum().double()


def assemble(
    run: Run,
    device: torch.device,
    *,
    dataset: data.Dataset | None = None,
    root: str | Path | None = None,
    download: bool = False,
) -> Session:
    """Build what the run names, from its seed, and leave torch's generators seeded for training.

    Args:
        run: what to build.
        device: where it shall compute.
        dataset: the run's data, if they are loaded already.
        root, download: see :func:`plausible.data.load`.

    Raises:
        PlausibleError: the data, the model, the rule or the optimiser cannot be had as the run says.
    """
    dataset = dataset or data.load(run.data, root=root, download=download, **run.data_options)

    def loader(split: data.Split, batch_size: int, *, training: bool = False) -> Loader:
        augment = run.augment if training else "none"
        return Loader(
            split,
            batch_size,
            mean=dataset.mean,
            std=dataset.std,
            device=device,
            augment=augment,
            seed=run.seed,
            shuffle=training,
            drop_last=training,
        )

    train = loader(dataset.train, run.batch_size, training=True)
    torch.manual_seed(run.seed)
    model = models.build(run.model, shape=dataset.shape, classes=dataset.classes, **run.model_options)
    model = model.to(device)
    decay = {"weight_decay": run.weight_decay} if run.decays else {}
    try:
        optimizer = optimizers()[run.optimizer](model.parameters(), **{"lr": run.lr, **decay, **run.optimizer_options})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"optimizer {run.optimizer!r} does not take optimizer_options = {run.optimizer_options} for this "
            f"model: {error}."
        ) from error
    rule = registry.make(run.rule, **{"seed": run.seed, **run.rule_options})
    constraints = [
        registry.constraints.make(name, **{"seed": run.seed, **own})
        for each in run.constraints
        for name, own in each.items()
    ]
    example, _ = next(train.epoch())
    try:
        learner = bind(model, rule, F.cross_entropy, example=example, optimizer=optimizer, constraints=constraints)
    except CoverageError as error:
        way_out = "" if rule.model == run.model else f" {rule.name} is made for {rule.model!r}: --model {rule.model}."
        raise CoverageError(f"{error}{way_out}") from error
    learner.train()
    if run.compile:
        runtime.require_compiler(device)
        learner.compile()
    # Anew, so that what is random in training is the same for every rule, whatever binding it drew.
    torch.manual_seed((run.seed + 0x9E3779B9) % 2**32)
    return Session(
        run,
        device,
        learner,
        optimizer,
        train,
        loader(dataset.validation, EVALUATION_BATCH),
        loader(dataset.test, EVALUATION_BATCH),
        next(loader(dataset.validation, run.probe_size).epoch()) if run.probe_size else None,
    )


def load_learner(directory: str | Path, *, root: str | Path | None = None) -> Learner:
    """The learner of the run in ``directory`` with its weights at the last checkpoint, on the run's device.

    ``plausible.release`` of it gives the plain model.

    Args:
        directory: what was given to :func:`plausible.train.train`.
        root: folder of the image sets; see :func:`plausible.data.load`.

    Raises:
        PlausibleError: there is no run with a checkpoint, or it cannot be read.
    """
    home = Home(Path(directory))
    run = Run.read(home.run)
    state = checkpoint.load(home.checkpoint, run.id)
    device = runtime.device_of(run)
    with runtime.prepared(run, device):
        session = assemble(run, device, root=root)
    session.restore(state)
    session.learner.reset()  # whoever uses it has streams of their own
    return session.learner.eval()
