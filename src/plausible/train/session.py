"""Everything a run names, built: data on the device, model, optimiser, learner."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import torch
import torch.nn.functional as F
from torch import Tensor

from plausible import data, models
from plausible.core import Learner, bind, distribute, registry
from plausible.core.errors import CheckpointError, ConfigurationError, CoverageError
from plausible.data import Batches
from plausible.probes import Activity, activity
from plausible.train import checkpoint, runtime
from plausible.train.home import Home
from plausible.train.run import Run, optimizers
from plausible.train.team import Team

EVALUATION_BATCH = 512
TOP = 5
"""Where there are more classes than this, it is counted too how often the label is among so many largest outputs."""
LOOKED_AT = 6
"""Test images that a look inside a spiking net takes; the first is not in the record."""


@dataclass(frozen=True)
class Score:
    """What an evaluation found.

    loss: mean cross-entropy.
    accuracy: 0 to 1: how often the label's output is the largest.
    top5: how often it is among the :data:`TOP` largest; None where there are no more classes than that.
    """

    loss: float
    accuracy: float
    top5: float | None

    def row(self, which: str) -> dict[str, float]:
        """As columns of a row, such as ``test_loss``; ``top5`` only where it is one."""
        top5 = {} if self.top5 is None else {f"{which}_top5": self.top5}
        return {f"{which}_loss": self.loss, f"{which}_accuracy": self.accuracy, **top5}


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
        skipped: path -> why, of the files that were left out until now; grows while batches are read.
        fingerprint: of the list of training files, if that is what the data are; otherwise empty.
        team: the processes that share each batch.
    """

    run: Run
    device: torch.device
    learner: Learner
    optimizer: torch.optim.Optimizer
    train: Batches
    validation: Batches
    test: Batches
    probe: tuple[Tensor, Tensor] | None
    skipped: Mapping[str, str]
    fingerprint: str
    team: Team

    def evaluate(self, batches: Batches) -> "Score":
        """How the net does on the batches; changes nothing."""
        totals, classes = torch.zeros(3, dtype=torch.float64, device=self.device), 0
        count = torch.zeros((), dtype=torch.int64, device=self.device)
        self.learner.eval()
        with torch.no_grad(), runtime.autocast(self.run, self.device), self.learner.aside():
            for x, y in batches.epoch():
                self.learner.reset()
                output = self.learner(x)
                loss = F.cross_entropy(output, y, reduction="sum")
                totals += torch.stack([loss.double(), correct(output, y), among_first(output, y)])
                count += len(y)
                classes = output.shape[1]
        self.learner.train()
        loss, accuracy, top5 = (self.team.total(totals) / self.team.total(count)).tolist()
        (classes,) = self.team.largest(classes)
        return Score(loss, accuracy, top5 if classes > TOP else None)

    def close(self) -> None:
        """End whatever makes batches ready."""
        for batches in (self.train, self.validation, self.test):
            batches.close()

    def look(self) -> Activity | None:
        """What the cells do while the net learns from some test images, if it is a spiking net; changes nothing."""
        x, y = self.test.first()
        with runtime.autocast(self.run, self.device):
            return activity(self.learner, x[:LOOKED_AT], y[:LOOKED_AT])

    def state(self) -> dict[str, dict]:
        """The learner's and the optimiser's state, of the streams of all processes."""
        learner = self.learner.state_dict()
        clock = learner["_extra_state"]
        if clock.get("state"):
            clock["state"] = self.team.gathered(clock["state"])
        return {"learner": learner, "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, dict]) -> None:
        """Put back the learner's and the optimiser's state.

        Raises:
            CheckpointError: the model is not the one that was saved.
        """
        try:
            clock = state["learner"]["_extra_state"]
            if clock.get("state"):
                clock["state"] = self.team.own(clock["state"])
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


def among_first(output: Tensor, y: Tensor) -> Tensor:
    """How many of (B, C) outputs at their label y (B,) are among the :data:`TOP` largest: scalar, float64."""
    return (output.topk(min(TOP, output.shape[1]), 1).indices == y.unsqueeze(1)).sum().double()


def assemble(
    run: Run,
    device: torch.device,
    *,
    dataset: data.AnyDataset | None = None,
    root: str | Path | None = None,
    download: bool = False,
    workers: int | None = None,
    team: Team | None = None,
) -> Session:
    """Build what the run names, from its seed, and leave torch's generators seeded for training.

    Args:
        run: what to build.
        device: where it shall compute.
        dataset: the run's data, if they are loaded already.
        root, download, workers: see :func:`plausible.data.load`.
        team: the processes that share each batch; this one alone unless said.

    Raises:
        PlausibleError: the data, the model, the rule or the optimiser cannot be had as the run says.
    """
    team = team or Team()
    if run.batch_size % team.count:
        raise ConfigurationError(
            f"batch_size = {run.batch_size}: {team.count} processes share each batch, each with as many of its rows. "
            f"Give a multiple of {team.count}."
        )
    for turn in (True, False):  # who fetches or unpacks data does so once, before the others look
        if turn == team.leads:
            dataset = dataset or data.load(run.data, root=root, download=download, workers=workers, **run.data_options)
        team.told(None)
    assert dataset is not None
    train = dataset.batches(
        "train", run.batch_size, device=device, augment=run.augment, seed=run.seed, shuffle=True, drop_last=True
    )
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
    example, _ = train.first()
    try:
        learner = bind(model, rule, F.cross_entropy, example=example, optimizer=optimizer, constraints=constraints)
    except CoverageError as error:
        way_out = "" if rule.model == run.model else f" {rule.name} is made for {rule.model!r}: --model {rule.model}."
        raise CoverageError(f"{error}{way_out}") from error
    learner.train()
    if team.count > 1:
        distribute(learner, team.group)
    if run.compile:
        runtime.require_compiler(device)
        learner.compile()
    # Anew, so that what is random in training is the same for every rule, whatever binding it drew.
    torch.manual_seed((run.seed + 0x9E3779B9 + team.rank) % 2**32)
    validation, test = (dataset.batches(which, EVALUATION_BATCH, device=device) for which in ("validation", "test"))
    for batches in (train, validation, test):
        batches.share = (team.rank, team.count)
    return Session(
        run,
        device,
        learner,
        optimizer,
        train,
        validation,
        test,
        dataset.batches("validation", run.probe_size, device=device).first() if run.probe_size else None,
        dataset.skipped,
        dataset.fingerprint,
        team,
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
