"""What happens around the updates: checkpoints, monitors, the progress line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from autodidact.objectives.shards import from_first
from autodidact.training import checkpoint as checkpoints
from autodidact.training.journal import Journal
from autodidact.training.learner import Learner
from autodidact.training.monitors import Window, look


class Checkpoints(Callback):
    """Writes a checkpoint by time, by updates when asked, and at the end; never one with NaN weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        learner: Learner = pl_module
        if learner._micro or not self._takes_part(learner):
            return
        every = learner.settings.checkpoint_steps
        due = time.monotonic() - self._written >= learner.settings.checkpoint_seconds
        if learner.spread is not None:
            # What is spread is gathered by all, so all go by the clock of the first.
            due = bool(from_first(torch.tensor(due, device=learner.device)))
        if due or (every and learner.updates % every == 0):
            self.save(learner)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self._takes_part(pl_module):
            self.save(pl_module)

    @staticmethod
    def _takes_part(learner: Learner) -> bool:
        return learner.trainer.is_global_zero or learner.spread is not None

    def save(self, learner: Learner) -> None:
        snapshot = learner.snapshot()
        if learner.trainer.is_global_zero and checkpoints.finite(snapshot.tensors):
            checkpoints.write(snapshot, self.folder)
        self._written = time.monotonic()


class KeepsMemory(Callback):
    """Lets an update have the memory that the one before it has left, from the second on."""

    def __init__(self, keep: Callable[[], None]) -> None:
        self.keep = keep

    def on_train_batch_end(self, *_: Any) -> None:
        self.keep()


LOOKS, FEWEST = 50, 10
"""In a training at most so many looks at the embeddings; not fewer for the sake of speed alone."""
APART = 16_384
"""Samples of a process between two looks where that leaves `FEWEST`: a look costs the same whatever the batch, so a
small network on small batches would spend its time looking."""


def log_every(own: int, epoch_steps: int) -> int:
    """Updates between two entries of the losses, in a training of so many."""
    return max(1, min(50, epoch_steps, own // 20))


def look_every(own: int, epoch_steps: int, share: int) -> int:
    """Updates between two looks at the embeddings, where nothing is asked for.

    Parameters
    ----------
    own : updates of the training.
    epoch_steps : of them in an epoch.
    share : samples of a process in an update.
    """
    apart = min(APART // share, own // FEWEST)
    return max(log_every(own, epoch_steps), epoch_steps // 4, own // LOOKS, apart, 10)


class Monitors(Callback):
    """Logs losses and, now and then, figures of the embeddings; warns in plain words on collapse."""

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal
        self.window = Window()
        self.figures: dict[str, float] = {}
        self.warned = False
        self._sums: dict[str, Any] = {}
        self._count = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        learner: Learner = pl_module
        own = learner.total - learner.first
        self.log_every = log_every(own, learner.epoch_steps)
        settings, share = learner.settings, max(1, learner.settings.batch_size // trainer.world_size)
        self.look_every = settings.monitor_steps or look_every(own, learner.epoch_steps, share)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        following = pl_module.updates + 1
        pl_module.wants_gradient_norm = following % self.look_every == 0 or following == pl_module.total

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        learner: Learner = pl_module
        loss, batch = learner.last_loss, learner.last_batch
        done, whole = learner.updates, not learner._micro
        logs = whole and (done % self.log_every == 0 or done == learner.total)
        looks = whole and (done % self.look_every == 0 or done == learner.total)
        if logs or looks:
            # In all processes, so that all of them stop: nothing is told of a loss that was not finite.
            learner.lookout.settle()
        if loss is None or batch is None or not trainer.is_global_zero:
            return
        self._sums["loss"] = self._sums.get("loss", 0.0) + loss.total.detach()
        for name, term in loss.terms.items():
            self._sums[f"loss/{name}"] = self._sums.get(f"loss/{name}", 0.0) + term.detach()
        self._count += 1
        self.window.add(loss, batch)
        if logs:
            means = {name: float(value) / self._count for name, value in self._sums.items()}
            self._sums, self._count = {}, 0
            rate = learner.optimiser.param_groups[0]["lr"]
            self._publish(trainer, learner.updates, {**means, "lr": rate})
        if looks:
            figures, said = look(self.window)
            if learner.last_gradient_norm is not None:
                figures["gradient_norm"] = learner.last_gradient_norm
            self._publish(trainer, learner.updates, figures)
            if said and not self.warned:
                self.warned = True
                tqdm.write(f"warning: {said}", file=sys.stderr)

    def _publish(self, trainer: L.Trainer, step: int, figures: dict[str, float]) -> None:
        self.figures.update(figures)
        if self.journal is not None:
            self.journal.write(step, figures)
        for logger in trainer.loggers:
            logger.log_metrics(figures, step)


class ProgressLine(Callback):
    """A progress bar on a terminal, a line every ten seconds elsewhere: epoch, loss, samples/s, time left, rank."""

    def __init__(self, monitors: Monitors, title: str) -> None:
        self.monitors, self.title = monitors, title
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self._bar = tqdm(
                total=pl_module.total,
                initial=pl_module.updates,
                desc=self.title,
                unit="step",
                mininterval=0.2 if sys.stderr.isatty() else 10.0,
                dynamic_ncols=True,
            )
        self._started, self._samples = time.monotonic(), pl_module.meter["samples"]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        learner: Learner = pl_module
        if self._bar is None or learner._micro:
            return
        elapsed = max(time.monotonic() - self._started, 1e-9)
        figures = self.monitors.figures
        shown = {
            "epoch": f"{(learner.updates - learner.begun) / max(1, learner.epoch_steps):.1f}",
            "samples/s": f"{(learner.meter['samples'] - self._samples) / elapsed:,.0f}",
        }
        for label, name in (("loss", "loss"), ("rank", "rankme/embedding"), ("knn", "knn")):
            if name in figures:
                shown[label] = f"{figures[name]:.3g}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(1)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
