"""The steps of one run, which can be stopped anywhere and gone on with to the same bits."""

import math
import time
from collections.abc import Iterator
from signal import Signals
from typing import Any, Literal

import torch

from plausible.core.errors import CheckpointError, DataError, Diverged
from plausible.functional.random import random_state
from plausible.probes import alignment
from plausible.train import checkpoint, records, runtime, schedules
from plausible.train.events import Progress, Row, Watcher
from plausible.train.home import Home
from plausible.train.interruption import Interrupted, Interruption
from plausible.train.records import Records
from plausible.train.result import Result
from plausible.train.session import Score, Session, correct

# To look at the loss makes the host wait for the device, so on a GPU that is done once in so many steps. Only
# then is anything decided (diverged? interrupted? time for a checkpoint?), so that what a run comes to is a
# function of the step and not of the time.
LOOK_EVERY = {"cpu": 1, "cuda": 20}
PROGRESS_SECONDS = 0.1  # the least time between two events of progress
EPOCH_SECONDS = 1.0  # after an epoch, a checkpoint younger than this will do: epochs may last milliseconds


class Loop:
    """The steps of one run. Whatever changes from step to step is in :meth:`_state`."""

    def __init__(
        self,
        session: Session,
        home: Home,
        metrics: Records,
        timing: Records,
        tell: Watcher,
        checkpoint_seconds: float,
    ) -> None:
        self.session, self.home, self.metrics, self.timing, self.tell = session, home, metrics, timing, tell
        run = session.run
        self.per_epoch = len(session.train)
        self.steps = run.epochs * self.per_epoch
        warmup = round(run.warmup_epochs * self.per_epoch)
        self.factor = schedules.make(
            run.schedule, run.schedule_options, warmup=warmup, total=self.steps, per_epoch=self.per_epoch
        )
        for group in session.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.look_every = LOOK_EVERY[session.device.type]
        self.checkpoint_seconds = checkpoint_seconds
        self.saved_at = self.told_at = time.monotonic()
        self.clock = time.perf_counter()
        self.step = 0
        self.totals = self._zeros()  # loss and hits, summed over the examples of this epoch
        self.seconds = 0.0  # spent on this epoch in sessions before this one
        self.noted: set[str] = set()  # files that were left out and have a row
        self.looked_at = 0  # how many had been left out when that was last looked at

    def _zeros(self) -> torch.Tensor:
        return torch.zeros(2, dtype=torch.float64, device=self.session.device)

    # ------------------------------------------------------------------------------------------- state

    def _state(self) -> dict[str, Any]:
        return {
            **self.session.state(),
            "random": random_state(self.session.device),
            "step": self.step,
            "totals": self.session.team.total(self.totals),
            "seconds": self.seconds,
            "data": self.session.fingerprint,
            "metrics": self.metrics.sync(),
            "timing": self.timing.sync(),
        }

    def _save(self) -> None:
        state = self._state()
        if self.session.team.leads:
            checkpoint.save(self.home.checkpoint, self.session.run.id, state)
        self.saved_at = time.monotonic()

    def restore(self) -> None:
        """Go to the last checkpoint, or to the beginning if there is none."""
        run, team = self.session.run, self.session.team
        state = checkpoint.load(self.home.checkpoint, run.id) if self.home.checkpoint.exists() else None
        state = team.told(state)
        if state is None:
            self.metrics.rewind(0)
            self.timing.rewind(0)
            self._note_skipped()
            self._probe()
            return
        if state.get("data", "") != self.session.fingerprint:
            raise CheckpointError(
                f"{self.home.checkpoint} was written with another list of training files than {run.data} has now: the "
                "batches that follow would be others. Put back what was added, removed or renamed (a file may be "
                "replaced), or start the run afresh with resume=False (--no-resume)."
            )
        self.session.restore(state)
        try:
            self.step, self.seconds = state["step"], state["seconds"]
            if not team.leads:  # what torch draws in layers is another sequence on each
                torch.manual_seed((run.seed + 0x9E3779B9 + team.rank + team.count * self.step) % 2**32)
                return
            runtime.set_random_state(state["random"], self.session.device)
            self.totals = state["totals"].to(self.session.device)
            rows = state["metrics"], state["timing"]
        except (RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.home.checkpoint} lacks what training goes on with ({error!r}). Remove it (or use resume=False) "
                "to start this run afresh."
            ) from error
        for file, length in zip((self.metrics, self.timing), rows, strict=True):
            file.rewind(length)
        self.noted = {row["file"] for row in records.read(self.home.metrics) if row["kind"] == "skipped"}

    # ------------------------------------------------------------------------------------------- steps

    def run(self, interruption: Interruption) -> None:
        """All epochs that are left."""
        while self.step < self.steps:
            epoch, start = divmod(self.step, self.per_epoch)
            self.clock = time.perf_counter()
            for x, y in self._batches(epoch, start):
                self._note_skipped()
                self._learn(x, y)
                looking = self.step % self.look_every == 0
                if self.step % self.per_epoch == 0:
                    break
                if looking:
                    self._look()
                if self._probe_due():
                    self.seconds += self._lap()
                    self._probe()
                    self._lap()
                if looking:
                    signal, due = self._asked(interruption, self.checkpoint_seconds)
                    if signal or due:
                        self.seconds += self._lap()
                        self._save()
                        self._stop_if(signal)
                        self._lap()
            self._end_epoch()
            signal, due = self._asked(interruption, min(EPOCH_SECONDS, self.checkpoint_seconds))
            if signal or due or self.step == self.steps:
                self._save()
                self._stop_if(signal)

    def _asked(self, interruption: Interruption, seconds: float) -> list[int]:
        """(the number of the signal that any process got, whether any has a checkpoint older than ``seconds``)."""
        return self.session.team.largest(interruption.received or 0, int(self._age() >= seconds))

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        try:
            yield from self.session.train.epoch(epoch, start)
        except DataError as error:
            # A file that cannot be read may come after hours. Once it is repaired, the run goes on from here.
            if self.session.team.count > 1:  # the others wait for the gradients of this one
                raise
            self.seconds += self._lap()
            self._save()
            again = f"All is kept in {self.home.directory}: put that right, and the same command goes on from there."
            raise DataError(f"{error} {again}") from error

    def _learn(self, x: torch.Tensor, y: torch.Tensor) -> None:
        run, learner, optimizer = self.session.run, self.session.learner, self.session.optimizer
        factor = self.factor(self.step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.zero_grad(set_to_none=True)
        with runtime.autocast(run, self.session.device):
            if not learner.rule.continuous:
                learner.reset()  # the examples of a batch do not follow those of the last
            outcome = learner.learn(x, learner.rule.teacher(y))
        if run.clip is not None:
            # All that is trained, so that feedback which mirrors the forward weights is scaled with them.
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, run.clip)
        optimizer.step()
        self.totals += torch.stack([outcome.loss.double() * len(y), correct(outcome.output, y)])
        self.step += 1

    def _look(self) -> tuple[float, float]:
        """Mean loss and accuracy of this epoch so far; raises if the loss is no number any more."""
        done = (self.step - 1) % self.per_epoch + 1
        loss, accuracy = (self.session.team.total(self.totals) / (done * self.session.run.batch_size)).tolist()
        self._require_finite(loss, "training")
        if (now := time.monotonic()) - self.told_at >= PROGRESS_SECONDS:
            self.told_at = now
            epoch = (self.step - 1) // self.per_epoch + 1
            self.tell(Progress(epoch, self.session.run.epochs, self.step, self.steps, loss, accuracy))
        return loss, accuracy

    def _end_epoch(self) -> None:
        run, epoch = self.session.run, self.step // self.per_epoch
        train_loss, train_accuracy = self._look()
        train_seconds = self.seconds + self._lap()
        score = self.session.evaluate(self.session.validation)
        self._note_skipped(together=True)
        self._require_finite(score.loss, "validation")
        self._write(
            "epoch",
            epoch,
            lr=run.lr * self.factor(self.step - 1),
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            **score.row("validation"),
        )
        evaluate_seconds = self._lap()
        if self._probe_due():
            self._probe()
        self.timing.write(
            {
                "epoch": epoch,
                "train_seconds": train_seconds,
                "evaluate_seconds": evaluate_seconds,
                "steps": self.per_epoch,
            }
        )
        self.totals, self.seconds = self._zeros(), 0.0

    def test(self) -> Score:
        """What comes out on the test split; called once, at the end."""
        score = self.session.evaluate(self.session.test)
        self._note_skipped(together=True)
        self._require_finite(score.loss, "test")
        self._write("test", self.session.run.epochs, **score.row("test"))
        return score

    # ------------------------------------------------------------------------------------------- rows

    def _write(self, kind: str, epoch: float, **values: Any) -> None:
        row = {"kind": kind, "epoch": epoch, "step": self.step, **values}
        self.metrics.write(row)
        self.tell(Row(row))

    def _note_skipped(self, *, together: bool = False) -> None:
        """A row for every file that has been left out since the last time, by this process or by any."""
        skipped = dict(self.session.skipped)
        if together:
            skipped = self.session.team.known(skipped)
        if len(skipped) != self.looked_at:
            self.looked_at = len(skipped)
            for path, why in skipped.items():
                if path not in self.noted:
                    self._write("skipped", self.step / self.per_epoch, file=path, why=why)
                    self.noted.add(path)

    def _probe_due(self) -> bool:
        return self.step % (self.session.run.probe_every or self.per_epoch) == 0 or self.step == self.steps

    def _probe(self) -> None:
        if self.session.probe is not None:
            layers = alignment(self.session.learner, *self.session.probe)
            self._write("probe", self.step / self.per_epoch, layers=layers)

    def result(
        self,
        status: Literal["finished", "diverged"],
        *,
        reason: str | None = None,
        test: Score | None = None,
    ) -> Result:
        """What the run came to, with the last rows it wrote."""
        rows = list(records.read(self.home.metrics))
        last = {row["kind"]: row for row in rows}
        model = self.session.learner.model
        return Result(
            run=self.session.run,
            status=status,
            reason=reason,
            test_accuracy=test and test.accuracy,
            test_top5=test and test.top5,
            test_loss=test and test.loss,
            validation_accuracy=last["epoch"]["validation_accuracy"] if "epoch" in last else None,
            validation_top5=last["epoch"].get("validation_top5") if "epoch" in last else None,
            epochs=last["epoch"]["epoch"] if "epoch" in last else 0,
            steps=self.step,
            parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            report=self.session.learner.report(),
            alignment=last["probe"]["layers"] if "probe" in last else {},
            skipped={row["file"]: row["why"] for row in rows if row["kind"] == "skipped"},
        )

    # ------------------------------------------------------------------------------------------- stopping

    def _lap(self) -> float:
        """Seconds since the last lap."""
        before, self.clock = self.clock, time.perf_counter()
        return self.clock - before

    def _age(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self.saved_at

    def _stop_if(self, number: int) -> None:
        """Called right after a checkpoint, with the number of the signal that came, or 0."""
        if number and self.step < self.steps:
            raise Interrupted(
                f"Stopped by {Signals(number).name} after step {self.step} of {self.steps}. All is "
                f"kept in {self.home.directory}: run the same command again to go on from there.",
                exit_status=128 + number,
            )

    def _require_finite(self, loss: float, which: str) -> None:
        if not math.isfinite(loss):
            run = self.session.run
            raise Diverged(
                f"Run {run.id} ({run.rule} on {run.data}) diverged: its {which} loss is {loss} at step "
                f"{self.step} of {self.steps}. What was written before is kept in its directory. Try a lower "
                f"lr than {run.lr:g}, clip=1.0, or a warm-up."
            )
