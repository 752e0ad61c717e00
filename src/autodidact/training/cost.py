"""What a training will cost on this device, foreseen from a few updates with small batches."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autodidact.data.batch import Batch, Ragged
from autodidact.data.cores import cores
from autodidact.data.source import Source
from autodidact.methods.method import Method, Progress
from autodidact.model.memory import memory_limit
from autodidact.objectives.shards import from_first
from autodidact.training.learner import Learner
from autodidact.training.pretended import PretendedGroup, PretendedStrategy, pretended
from autodidact.training.run import fit, world_of
from autodidact.training.settings import Settings
from autodidact.training.sharded import spreadable

FIRST = 16
"""Samples in the smallest batch that is tried."""
PATIENCE = 2.0
"""Seconds of an update beyond which no larger batch is tried. The further a line is drawn beyond what was tried, the
more of what a machine was slower by at one of its ends comes out there."""
WARM, TIMED = 2, 5
"""Updates before the clock runs, and the fewest on the clock: of the latter the median counts."""
CLOCKED, MOST_TIMED = 0.5, 25
"""Seconds for which the clock runs where updates are short, and the most updates of that: what else a machine has to do
comes in bursts, which a median over a shorter time takes for the update's own."""
LINK = 12.5e9
"""Bytes that a device sends in a second, where nothing else is said: those of a network of 100 Gbit/s."""
DELAY = 50e-6
"""Seconds that a message takes however short it is, where nothing else is said."""


@dataclass(frozen=True)
class Forecast:
    """What a training costs.

    Attributes
    ----------
    samples : of the data, 0 where a stream does not say.
    epoch_steps : updates in an epoch; 0 where that is unknown.
    steps : updates of the whole training, of a budget in tokens about; 0 where that is unknown.
    devices : over all machines.
    parts : into which a batch is cut on every device.
    share : samples in each part, on each device.
    sizes : batches that were tried.
    seconds : that an update took with each of them, data included.
    peaks : bytes that it held at its peak, beside what stays between updates.
    sweep, sweep_every : seconds in which the method looks at all of the data, as some do before their first update, and
        updates until it does so again; 0 for none.
    weights, state : bytes of parameters and buffers; of the optimiser and averaged weights.
    gradients : bytes of the gradients, which devices average once an update.
    sent : bytes that a device sends beside them in a part of an update, with each of the sizes: embeddings, statistics.
    messages : exchanges in a part of an update for which a device waits, one after the other.
    sample : bytes of a sample as it comes from the data.
    memory : bytes that this device has.
    gpu : whether it is one.
    spread : share of the weights that devices hold in parts (``sharding``).
    together : whether all devices were tried side by side: `seconds` then holds all that they exchange, too.
    """

    samples: int
    epoch_steps: int
    steps: int
    devices: int
    parts: int
    share: int
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    peaks: tuple[int, ...]
    sweep: float
    sweep_every: int
    weights: int
    state: int
    gradients: int
    sent: tuple[float, ...]
    messages: int
    sample: int
    memory: int
    gpu: bool
    spread: float = 0.0
    together: bool = False

    @property
    def measured(self) -> bool:
        """Whether a device's own share was tried; else it is on the line through the two largest batches that were."""
        return self.sizes[-1] == self.share

    def update(self, link: float = LINK, delay: float = DELAY) -> float:
        """Seconds of an update, over links of so many bytes a second that take so many seconds for a message."""
        return self.parts * _on_line(self.share, self.sizes, self.seconds) + self.exchange(link, delay)

    def exchange(self, link: float = LINK, delay: float = DELAY) -> float:
        """Seconds in which the devices wait for messages; 0 where that is in the time of an update that devices made
        together. Nothing is computed meanwhile."""
        if self.together or self.devices == 1:
            return 0.0
        return self.exchanged / link + self.parts * self.messages * delay

    @property
    def exchanged(self) -> float:
        """Bytes that a device sends in an update. Gradients are averaged around a ring, in which each sends
        2 (n - 1) / n times their bytes. Weights that are held in parts are gathered twice, half as many bytes each, and
        their gradients only reduced."""
        averaging = (2 + self.spread) * (self.devices - 1) / self.devices * self.gradients
        return averaging + self.parts * _on_line(self.share, self.sizes, self.sent)

    def seconds_of(self, updates: int, link: float = LINK, delay: float = DELAY) -> float:
        """Seconds of so many updates from the start of a training."""
        sweeps = 1 + (updates - 1) // self.sweep_every if self.sweep_every else 1
        return updates * self.update(link, delay) + sweeps * self.sweep

    def memory_of(self, share: int) -> float:
        """Bytes that tensors take at most on a device that has so many samples at once."""
        elsewhere = self.spread * (1 - 1 / self.devices)
        whole = share * self.sample + _on_line(share, self.sizes, self.peaks)
        return (1 - elsewhere) * (self.weights + self.state) + max(0.0, whole - elsewhere * self.gradients)

    def most(self, memory: float | None = None) -> int:
        """Samples at once, a power of two, for which a device's memory suffices, or so many bytes; 0 where it suffices
        for none. A tenth of the memory is left free, and of the rest half on a CPU, where a process was seen to grow by
        up to twice as much as its tensors take."""
        room, count = (0.9 if self.gpu else 0.45) * (self.memory if memory is None else memory), 1
        if self.memory_of(1) > room:
            return 0
        while count < 1 << 30 and self.memory_of(2 * count) <= room:
            count *= 2
        return count


def _on_line(at: int, sizes: Sequence[int], values: Sequence[float]) -> float:
    """The value at a size that was tried, else that on the line through the two largest; never negative."""
    if at in sizes:
        return float(values[sizes.index(at)])
    if len(sizes) == 1:
        return values[0] * at / sizes[0]
    (a, b), (first, second) = sizes[-2:], values[-2:]
    return max(0.0, second + (at - b) * (second - first) / (b - a))


def foresee(
    method: Method, source: Source, settings: Settings, *, largest: int | None = None, together: bool = False
) -> Forecast:
    """What a training will cost, from a few updates of a copy with batches that double until one is a device's share of
    the batch, or an update takes two seconds.

    This device alone is tried, or all `together`. Alone it computes what it would among the others, of as many
    embeddings and statistics, and what it would send is counted (`pretended`). Others are taken to be like it, and
    larger batches to cost in proportion: a method whose cost grows faster than its batch costs more than this says,
    unless the whole share was tried.

    Parameters
    ----------
    method, source, settings : of the training. They stay as they are.
    largest : samples in the largest batch that is tried on a device, whatever an update takes.
    together : start the training's processes, as `train` would, and let them make the updates together, where
        this machine has all devices that are asked for (as many cores as processes on a CPU), each takes its share in
        one part, and weights are not spread. What the program does before this call, the processes do again.

    Raises
    ------
    ValueError : where `train` would raise it.
    RuntimeError : several devices are asked for, not together, and this process has met others already.
    """
    gpu, world = world_of(settings)
    share = settings.batch_size // (world * settings.accumulate)
    together = together and world > 1 and _all_here(settings, gpu)
    copy = deepcopy(method)
    whole = Learner(copy, source, settings)
    tried = dict[int, _Watch]()
    size, timed = min(share, FIRST), TIMED
    while True:
        few = replace(settings, epochs=None, tokens=None, steps=WARM + timed + 1, batch_size=size * world, accumulate=1)
        few = replace(few, devices=world if together else 1, nodes=1, loggers=(), sharding="none")
        rehearsal = _Rehearsal(copy, source, few)
        rehearsal.swept = bool(tried)
        with nullcontext() if together or world == 1 else pretended(world) as group:
            tried[size] = watch = _Watch(timed, group)
            fit(rehearsal, few, [watch], [], None if group is None else PretendedStrategy(world, gpu=gpu))
        if len(tried) == 1:
            sweep = rehearsal.sweep_seconds
        slow = watch.seconds > PATIENCE if largest is None else 2 * size > largest
        if size == share or (slow and len(tried) > 1):
            break
        # Twice the batch takes at most about twice the time.
        size, timed = min(share, 2 * size), min(MOST_TIMED, max(TIMED, round(CLOCKED / (2 * watch.seconds))))
    each = rehearsal.meter["tokens"] / rehearsal.meter["samples"] * settings.batch_size
    return Forecast(
        samples=len(source),
        epoch_steps=whole.epoch_steps,
        steps=int(settings.tokens / each) if settings.tokens and each else whole.total,
        devices=world,
        parts=settings.accumulate,
        share=share,
        sizes=tuple(tried),
        seconds=tuple(watch.seconds for watch in tried.values()),
        peaks=tuple(watch.peak for watch in tried.values()),
        sweep=sweep,
        sweep_every=method.refresh_every or 0,
        weights=watch.weights,
        state=watch.state,
        gradients=watch.gradients,
        sent=tuple(watch.sent for watch in tried.values()),
        messages=watch.messages,
        sample=watch.sample,
        memory=_memory(gpu),
        gpu=gpu,
        spread=_share_spread(method) if settings.sharding == "full" and world > 1 else 0.0,
        together=together,
    )


def _all_here(settings: Settings, gpu: bool) -> bool:
    """Whether a few updates on this machine are like those of the training, whose devices it all has."""
    devices = torch.cuda.device_count() if gpu else cores()
    alike = settings.nodes == 1 and settings.accumulate == 1 and settings.sharding != "full"
    return alike and settings.devices <= devices


def _share_spread(method: Method) -> float:
    inside = {parameter for network in spreadable(method) for parameter in network.parameters()}
    return _bytes(inside) / _bytes(method.parameters())


def _memory(gpu: bool) -> int:
    if gpu:
        return int(torch.cuda.get_device_properties(0).total_memory)
    return memory_limit()


class _Rehearsal(Learner):
    """Sweeps over the data at most once, however often a method is rehearsed."""

    swept = False
    sweep_seconds = 0.0

    def _refresh(self, progress: Progress) -> None:
        if not self.swept:
            started = time.perf_counter()
            super()._refresh(progress)
            self.swept, self.sweep_seconds = True, time.perf_counter() - started


class Held(TorchDispatchMode):
    """Bytes of the tensors that are made inside the block, now and at most: what torch's allocator gives out, as its
    profiler sees it, in a fraction of the profiler's time and memory.

    Attributes
    ----------
    now, peak : bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_storage(tensor)[0] for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                key, storage = _storage(tensor)
                if key not in given and key not in self._known:
                    self._known.add(key)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._freed, key, storage.nbytes())
        return made

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storage(tensor: Tensor) -> tuple[int, torch.UntypedStorage]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage


class _Watch(Callback):
    """Times so many updates, then looks at the memory of one more.

    Attributes
    ----------
    seconds : the median, of all processes that of the first: all go by it.
    sent, messages : what goes to others in one update beside gradients, of a pretended group.
    """

    def __init__(self, timed: int, group: PretendedGroup | None = None) -> None:
        self.timed, self.group = timed, group
        self.sent, self.messages = 0.0, 0
        self.times: list[float] = []
        self.peak = self.weights = self.state = self.gradients = self.sample = 0
        self.seconds = 0.0
        self._last = 0.0
        self._held: Held | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        learner: Learner = pl_module
        if learner.updates < WARM + self.timed:
            return
        self.weights = _bytes([*learner.method.parameters(), *learner.method.buffers()])
        kept = [value for state in learner.optimiser.state.values() for value in state.values()]
        self.state = _bytes([*kept, *learner.average.values()])
        self.gradients = _bytes([p for group in learner.optimiser.param_groups for p in group["params"]])
        fields = [field.values if isinstance(field, Ragged) else field for field in batch.fields.values()]
        self.sample = _bytes(fields) // len(batch)
        if self.group is not None:
            self.group.sent, self.group.messages = 0.0, 0
        if learner.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(learner.device)
            self.peak = -torch.cuda.memory_allocated(learner.device)
        else:
            self._held = Held()
            self._held.__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        learner: Learner = pl_module
        if learner.device.type == "cuda":
            torch.cuda.synchronize(learner.device)
        now = time.perf_counter()
        if WARM < learner.updates <= WARM + self.timed:
            self.times.append(now - self._last)
        self._last = now
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self.peak, self._held = self._held.peak, None
        elif learner.updates > WARM + self.timed:
            self.peak += torch.cuda.max_memory_allocated(learner.device)
        if self.group is not None:
            averaging = 2 * (1 - 1 / self.group.size()) * self.gradients
            self.sent, self.messages = max(0.0, self.group.sent - averaging), self.group.messages

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        took = torch.tensor(statistics.median(self.times), dtype=torch.float64, device=pl_module.device)
        self.seconds = float(from_first(took))


def _bytes(values: Iterable[Any]) -> int:
    """Of all tensors among the values, each storage once."""
    found = dict(_storage(value) for value in values if isinstance(value, Tensor))
    return sum(storage.nbytes() for storage in found.values())
