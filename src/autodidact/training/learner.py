"""The Lightning side of training: runs a method's updates, and knows nothing of any particular method."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from threading import Lock
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autodidact.data.batch import Batch, Ragged
from autodidact.data.source import Source
from autodidact.methods.method import Loss, Method, Progress
from autodidact.model import Encoder, Model
from autodidact.objectives.embeddings import NotFinite
from autodidact.objectives.shards import is_spread, summed
from autodidact.schedules import Course, cosine_ramp
from autodidact.training import checkpoint as checkpoints
from autodidact.training.batch_norms import batch_norms_fed
from autodidact.training.checkpoint import Checkpoint
from autodidact.training.descent import Descent
from autodidact.training.feed import Feed, epoch_length, seeded
from autodidact.training.finite import Lookout, NonFinite
from autodidact.training.groups import optimiser as build_optimiser
from autodidact.training.recompute import recompute, restore
from autodidact.training.settings import PLACES, Settings
from autodidact.training.sharded import Spread, casts_not_kept, gathered
from autodidact.training.tokens import Rehearsal, counted_tokens, outer_encoders

REHEARSED, AT_MOST = 4, 64
"""Updates whose tokens are counted before a training that is given a budget of them: where they are all alike, and
where they are not."""
REHEARSED_SHARE = 0.1
"""Of the training's updates, that many are enough: short trainings are not made much longer by it."""


class Learner(L.LightningModule):
    """Trains one method on one source.

    Attributes
    ----------
    method, source, settings : what is trained, on what, and how.
    data : digest of the source's samples.
    updates : updates done, those of a training that it goes on from among them.
    total : updates at the end of the training; 0 while that is not known.
    first, begun : updates done when this training began, and when it began with this source.
    until : share of this training after which to pause.
    last_loss, last_batch : of the newest update, for the monitors.
    lookout : stops the training at a loss that is not finite; to be asked before anything is kept or told.
    meter : honest units spent: samples, updates, backward passes, seconds, and tokens that encoders encoded in updates
        (without `compile`, whose networks call no hooks).
    """

    def __init__(
        self,
        method: Method,
        source: Source,
        settings: Settings,
        carried: Checkpoint | None = None,
        course: Course | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method = method
        self.source, self.settings = source, settings
        self.epoch_steps = epoch_length(source, method.batching, settings.batch_size)
        own = settings.steps or (settings.epochs or 0) * self.epoch_steps
        if own == 0 and (settings.tokens is None or (self.epoch_steps == 0 and not source.streaming)):
            raise ValueError(_nothing_to_do(source, settings))
        self.data = _samples_digest(source)
        self.first, self.begun = self._after(carried)
        self._given_course = course
        self._plan(own)
        self.until = 1.0
        self.updates = self.first
        self.draws = 0
        self.meter: dict[str, float] = {"samples": 0, "updates": 0, "backwards": 0, "seconds": 0.0, "tokens": 0}
        self.last_loss: Loss | None = None
        self.last_batch: Batch | None = None
        self.lookout = Lookout()
        self._reading = Lock()
        self._gradient_norm: Tensor | None = None
        self.wants_gradient_norm = False
        self.optimiser: Optimizer
        self.average: dict[str, Tensor] = {}
        self._context: Mapping[str, Any] | None = None
        self._restored = carried
        self._micro = 0
        self._refreshed = -1
        self._encoders: list[Encoder] = []
        self._recomputed: list[nn.Module] = []
        self.spread: Spread | None = None

    def _plan(self, own: int) -> None:
        """Take note of how many updates this training has of its own; 0 while that is not known."""
        self.total = self.first + own if own else 0
        if own:
            self._course = self._given_course or self.settings.plan().course(self.total)

    @property
    def stop(self) -> int:
        """Updates after which to stop or to pause."""
        return self.first + max(1, round(self.until * (self.total - self.first)))

    @property
    def finished(self) -> bool:
        """Whether these are done; a training by tokens knows how many only when it has begun."""
        return self.total > 0 and self.updates >= self.stop

    # What Lightning calls.

    def configure_optimizers(self) -> Optimizer:
        if self.trainer.world_size > 1:
            from autodidact.heads import synchronised

            synchronised(self.method)
        if self.total == 0:
            self._plan(self._updates_for(self.settings.tokens or 0))
        if self.settings.sharding == "full" and self.trainer.world_size > 1:
            self.spread = Spread(self.method)
        self.optimiser = build_optimiser(self.method, self.settings)
        return self.optimiser

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        moved = batch.to(device, non_blocking=True)
        if self._context is None:
            self._context = {name: on_device(value, device) for name, value in batch.context.items()}
        moved.context = self._context
        return moved

    def train_dataloader(self) -> Any:
        start, stop = self.updates - self.begun, self.stop - self.begun
        return self.feed().loader(start, stop, self.settings.workers, self.device)

    def on_train_start(self) -> None:
        if self._restored is not None:
            self._load(self._restored)
            self._restored = None
        if self.settings.average and not self.average:
            self.average = {name: value.clone() for name, value in self.method.state_dict().items()}
        networks = [self.method.get_submodule(slot) for slot in self.method.slots]
        if self.settings.recompute:
            self._recomputed = [part for network in networks for part in recompute(network)]
        if self.settings.compile:
            for network in networks:
                network.compile()
        else:
            self._encoders = outer_encoders(self.method)
        self.method.train()

    def on_train_end(self) -> None:
        self.lookout.settle()
        restore(self._recomputed)
        if self.spread is not None:
            self.average = gathered(self.average)
            self.spread.gather()
            self.spread = None

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        started = time.perf_counter()
        progress = self.progress()
        if self._micro == 0:
            self._refresh(progress)
        self._seed(seeded(self.settings.seed, "global", self.updates, self._micro, self.global_rank))
        last = self._micro == self.settings.accumulate - 1
        step = Descent(self, progress, last=last)
        try:
            casts = nullcontext() if self.spread is None else casts_not_kept(self.device.type)
            with counted_tokens(self._encoders) as count, self._batch_norms_fed(self.method, batch), casts:
                loss = self.method.update(batch, step)
        except NotFinite as diverged:
            self.lookout.settle()
            raise NonFinite(f"{diverged}; lower the learning rate or look at the data") from diverged
        except Exception:
            # What fails may do so because an earlier loss was not finite: then that is to be said.
            self.lookout.settle()
            raise
        self.last_loss, self.last_batch = loss, batch
        self._gradient_norm = step.gradient_norm
        self._micro = 0 if last else self._micro + 1
        self.meter["samples"] += len(batch) * self.trainer.world_size
        self.meter["tokens"] += count.tokens * self.trainer.world_size
        if last:
            self.method.after_update(progress)
            self.updates += 1
            self.meter["updates"] += 1
            self._follow()
        self.meter["seconds"] += time.perf_counter() - started

    def _batch_norms_fed(self, method: Method, batch: Batch) -> AbstractContextManager[None]:
        # Of several processes they share what they get, so that each may have a single sample.
        return nullcontext() if self.trainer.world_size > 1 else batch_norms_fed(method, batch, self.settings)

    def _seed(self, seed: int) -> None:
        # `torch.manual_seed` seeds every kind of device, which takes milliseconds: too long for every update.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type != "cpu":
            torch.manual_seed(seed)

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.meter["backwards"] += 1
        super().manual_backward(loss, *args, **kwargs)

    # What the step and the callbacks use.

    def feed(self) -> Feed:
        return Feed(
            self.source,
            self.method.batching,
            self.settings.batch_size,
            self.settings.seed,
            self.settings.accumulate,
            self.trainer.global_rank,
            self.trainer.world_size,
            self._reading,
        )

    @property
    def last_gradient_norm(self) -> float | None:
        """Of the newest update, None where it was not asked for. An accelerator is waited for here."""
        return None if self._gradient_norm is None else float(self._gradient_norm)

    def progress(self) -> Progress:
        return self._progress(self.updates, self._micro, self.total)

    def _progress(self, updates: int, micro: int, total: int) -> Progress:
        generator = torch.Generator()
        generator.manual_seed(seeded(self.settings.seed, "views", updates, micro, self.global_rank))
        return Progress(updates, total, (updates - self.begun) // max(1, self.epoch_steps), generator)

    def set_rates(self) -> None:
        """Learning rate and weight decay of every parameter group for the coming update."""
        rate = self.settings.lr * self._course(self.updates)
        decay, end = self.settings.weight_decay, self.settings.weight_decay_end
        if end is not None:
            decay = cosine_ramp(self.updates, self.total, decay, end)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
            if group["decays"]:
                group["weight_decay"] = decay

    def draw(self) -> Batch:
        self.draws += 1
        return self._extra(self.draws - 1)

    def _extra(self, number: int) -> Batch:
        return self.transfer_batch_to_device(self.feed().extra(number), self.device, 0)

    def sweep(self, function: Callable[[Batch], Mapping[str, Any]]) -> dict[str, Any]:
        """Visit the whole source in order, in eval mode without gradient; see `autodidact.methods.Sweep`."""
        parts: list[Mapping[str, Any]] = []
        with self._eval(), torch.no_grad():
            batches = self.source.in_order(self.settings.batch_size)
            while (batch := self._read(batches)) is not None:
                moved = self.transfer_batch_to_device(batch, self.device, 0)
                parts.append({"ids": batch.ids, **function(moved)})
        return {name: _join([part[name] for part in parts]) for name in parts[0]}

    def _read(self, batches: Iterator[Batch]) -> Batch | None:
        # A thread may be reading the coming batches of the training from the same source.
        with self._reading:
            return next(batches, None)

    @contextmanager
    def _eval(self) -> Iterator[None]:
        modes = {module: module.training for module in self.method.modules()}
        self.method.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training

    def _refresh(self, progress: Progress) -> None:
        """Let the method refresh itself where that is due before the coming update and was not done."""
        every = self.method.refresh_every
        refreshes = type(self.method).refresh is not Method.refresh
        if ((every and self.updates % every == 0) or (self.updates == self.first and refreshes)) and (
            self._refreshed != self.updates
        ):
            self.method.refresh(self.sweep, progress)
            self._refreshed = self.updates

    def _updates_for(self, tokens: int) -> int:
        """How many updates a budget of tokens pays for, from what the first ones would cost a copy of the method."""
        total = self.first + max(REHEARSED, self.epoch_steps)
        self.method.train()
        self._refresh(self._progress(self.first, 0, total))
        copy = deepcopy(self.method)
        parts = self.settings.accumulate
        spent = list[float]()
        with counted_tokens(outer_encoders(copy)) as count, self.trainer.precision_plugin.train_step_context():
            seen = self.first - self.begun
            for number, batch in enumerate(self.feed().loader(seen, seen + AT_MOST, 0, torch.device("cpu"))):
                update, micro = divmod(number, parts)
                self._seed(seeded(self.settings.seed, "global", self.first + update, micro, self.global_rank))
                step = Rehearsal(self._progress(self.first + update, micro, total), self._extra)
                with self._batch_norms_fed(copy, batch):
                    copy.update(self.transfer_batch_to_device(batch, self.device, 0), step)
                if micro == parts - 1:
                    # Of all processes, which so stop at the same update.
                    counted = torch.full((), count.tokens, dtype=torch.float64, device=self.device)
                    spent.append(float(summed(counted)) - sum(spent))
                    alike, whole = len(set(spent)) == 1, tokens / max(float(np.mean(spent)), 1.0)
                    if len(spent) >= REHEARSED and (alike or len(spent) >= whole * REHEARSED_SHARE):
                        break
        if count.tokenless or not count.tokens:
            which = f": {', '.join(sorted(count.tokenless))} has none" if count.tokenless else ""
            raise ValueError(f"a budget in tokens needs encoders that have tokens{which}; use --steps or --epochs")
        each = float(np.mean(spent))
        if tokens < each:
            raise ValueError(f"an update takes about {each:,.0f} tokens, the budget is {tokens:,}")
        return int(tokens // each)

    def _follow(self) -> None:
        decay = self.settings.average
        if not decay:
            return
        with torch.no_grad():
            for name, value in self.method.state_dict().items():
                kept = self.average[name]
                if kept.is_floating_point():
                    kept.lerp_(value, 1 - decay)
                else:
                    kept.copy_(value)

    def kept(self) -> Model:
        """The method's result, from the averaged weights where an average is kept."""
        if not self.average:
            return self.method.kept()
        method = deepcopy(self.method)
        method.load_state_dict(self.average)
        return method.kept()

    # Checkpoints.

    def _after(self, carried: Checkpoint | None) -> tuple[int, int]:
        """Updates done before this training, and before this source: it goes on in data that the other one saw last."""
        if carried is None:
            return 0, 0
        before = carried.progress["settings"]["optimizer"]
        if before != self.settings.optimizer:
            raise ValueError(
                f"a training with {self.settings.optimizer} cannot go on from one with {before}: their states differ"
            )
        theirs = checkpoints.by_prefix(carried.tensors, "method")
        for name, value in self.method.state_dict().items():
            if name not in theirs or theirs[name].shape != value.shape:
                had = f"is {tuple(theirs[name].shape)}" if name in theirs else "is absent"
                raise ValueError(
                    f"a training cannot go on from one of another method: {name} is {tuple(value.shape)} here, and "
                    f"{had} there (does the method keep something for each sample?)"
                )
        done = int(carried.progress["updates"])
        return done, int(carried.progress["begun"]) if carried.progress.get("data") == self.data else done

    def snapshot(self) -> Checkpoint:
        """Everything from which training goes on exactly. Where networks are spread over devices all processes must ask
        for it, and the first alone gets the tensors. NonFinite where the newest loss was not finite."""
        self.lookout.settle()
        tensors, scalars = checkpoints.optimiser_tensors(self.optimiser)
        tensors |= {f"method.{name}": value for name, value in self.method.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        if self.spread is not None:
            tensors = gathered(tensors, kept=self.trainer.is_global_zero)
        progress = {
            "updates": self.updates,
            "total": self.total,
            "first": self.first,
            "begun": self.begun,
            "data": self.data,
            "draws": self.draws,
            "meter": self.meter,
            "optimiser": scalars,
            "settings": self.settings.identity(),
            "samples": len(self.source),
            "memory": self.method.memory(),
        }
        return Checkpoint(tensors, progress)

    def resume(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint when training starts; settings that change the result must be the same."""
        mine, theirs = self.settings.identity(), saved.progress["settings"]
        different = [
            f"{name} was {theirs.get(name)}, is {value}"
            for name, value in mine.items()
            if name not in PLACES and theirs.get(name) != value
        ]
        if len(self.source) != saved.progress["samples"]:
            different.append(f"the data had {saved.progress['samples']} samples, has {len(self.source)}")
        if self.first != saved.progress.get("first", 0):
            different.append(f"it began after {saved.progress.get('first', 0)} updates, now after {self.first}")
        if different:
            raise ValueError("this run was started differently: " + "; ".join(different) + " (use --fresh --force)")
        self.updates = int(saved.progress["updates"])
        self.method.remember(saved.progress.get("memory", {}))
        self._plan(int(saved.progress["total"]) - self.first)
        self._restored = saved

    def _load(self, saved: Checkpoint) -> None:
        own = self.method.state_dict()

        def laid_out(part: str) -> dict[str, Tensor]:
            whole = checkpoints.by_prefix(saved.tensors, part)
            spread = {name for name in whole if name in own and is_spread(own[name])}
            return {k: checkpoints.laid_out_like(own[k], v) if k in spread else v for k, v in whole.items()}

        self.method.load_state_dict(laid_out("method"))
        optimiser = {name: tensor for name, tensor in saved.tensors.items() if name.startswith("optimiser.")}
        checkpoints.restore_optimiser(self.optimiser, optimiser, saved.progress["optimiser"])
        self.average = {name: tensor.to(self.device) for name, tensor in laid_out("average").items()}
        self.draws = int(saved.progress["draws"])
        self.meter |= saved.progress["meter"]


def _samples_digest(source: Source) -> str:
    told = source.name.encode() if source.streaming else source.ids.tobytes()
    return hashlib.blake2b(told, digest_size=8).hexdigest()


def _nothing_to_do(source: Source, settings: Settings) -> str:
    if source.streaming and not len(source):
        return f"'{source.name}' is a stream of unknown length: say how long to train with --steps"
    return (
        f"batch size {settings.batch_size} is larger than the data: '{source.name}' has {len(source)} samples; "
        f"use --batch-size {len(source)} or less"
    )


def on_device(value: Any, device: torch.device) -> Any:
    """A context value on the device, whatever it is."""
    return value.to(device) if hasattr(value, "to") else value


def _join(values: list[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(values)
    if isinstance(values[0], Ragged):
        return Ragged(torch.cat([v.values for v in values]), torch.cat([v.lengths for v in values]))
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return [item for value in values for item in value]
