"""From a source to a stream of batches whose position is one number, so that a resumed run goes on exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from autodidact.data.ahead import ahead
from autodidact.data.batch import Batch
from autodidact.data.batching import Batching, RandomBatching
from autodidact.data.combined import Chained, Mixed, Together
from autodidact.data.courier import Courier
from autodidact.data.source import Positions, Source
from autodidact.data.stream import StreamSource

Draw = Positions | dict[str, Positions]
Rule = Batching | Mapping[str, Batching]
AHEAD = 4
"""Batches of a stream that are read and decoded while a step runs."""
SENT_AHEAD = 2
"""Batches of other sources that wait on a GPU for their step."""


def seeded(*parts: object) -> int:
    """A seed in [0, 2^63) that depends on all parts and on nothing else."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def epoch_plan(source: Source, rule: Rule, size: int, seed: int, epoch: int) -> list[Draw]:
    """All draws of one epoch: positions in a source, or positions in each stream."""
    if isinstance(source, Mixed):
        return _mixed_plan(source, rule, size, seed, epoch)
    if isinstance(source, Chained):
        parts = [
            (name, draw)
            for name, part in source.sources.items()
            for draw in _rule(rule, name).plan(part, size, seeded(seed, epoch, name))
        ]
        return [{name: draw} for name, draw in parts]
    if isinstance(source, Together):
        return _together_plan(source, rule, size, seed, epoch)
    return list(_rule(rule, "").plan(source, size, seeded(seed, epoch)))


def epoch_length(source: Source, rule: Rule, size: int) -> int:
    """Updates in one epoch; 0 for a stream of unknown length."""
    if source.streaming:
        if rule != RandomBatching():
            raise ValueError(
                f"'{source.name}' is a stream, read in sequence: this method's batches need all of the data"
            )
        return len(source) // size
    if isinstance(source, Together) and not isinstance(source, Mixed | Chained):
        name, part = next(iter(source.sources.items()))
        return _rule(rule, name).steps(part, _stream_size(source, name, size))
    if isinstance(source, Together):
        return sum(_rule(rule, name).steps(part, size) for name, part in source.sources.items())
    return _rule(rule, "").steps(source, size)


def _rule(rule: Rule, stream: str) -> Batching:
    return rule if isinstance(rule, Batching) else rule[stream]


def _stream_size(source: Together, name: str, size: int) -> int:
    return max(1, round(size * source.shares[name]))


def _together_plan(source: Together, rule: Rule, size: int, seed: int, epoch: int) -> list[Draw]:
    plans: dict[str, list[Positions]] = {}
    length = 0
    for name, part in source.sources.items():
        own, small = _rule(rule, name), _stream_size(source, name, size)
        plan = own.plan(part, small, seeded(seed, epoch, name))
        length = length or len(plan)
        lap = 0
        while len(plan) < length:
            lap += 1
            plan = plan + own.plan(part, small, seeded(seed, epoch, name, lap))
        plans[name] = plan[:length]
    return [{name: plan[i] for name, plan in plans.items()} for i in range(length)]


def _mixed_plan(source: Mixed, rule: Rule, size: int, seed: int, epoch: int) -> list[Draw]:
    names = list(source.sources)
    rates = np.array([source.shares[name] for name in names])
    length = epoch_length(source, rule, size)
    order = np.random.default_rng(seeded(seed, epoch, "mixed")).choice(len(names), length, p=rates / rates.sum())
    draws: list[Draw] = []
    waiting: dict[str, list[Positions]] = {name: [] for name in names}
    laps = dict.fromkeys(names, 0)
    for chosen in order:
        name = names[chosen]
        if not waiting[name]:
            plan = _rule(rule, name).plan(source.sources[name], size, seeded(seed, epoch, name, laps[name]))
            laps[name] += 1
            waiting[name] = plan[::-1]
        draws.append({name: waiting[name].pop()})
    return draws


def read(source: Source, draw: Draw) -> Batch:
    """The samples of one draw as a batch on the CPU."""
    if not isinstance(draw, dict):
        return source.batch(draw)
    assert isinstance(source, Together)
    streams = {name: source.sources[name].batch(positions) for name, positions in draw.items()}
    if isinstance(source, Chained):
        return next(iter(streams.values()))
    return Batch(torch.cat([batch.ids for batch in streams.values()]), context=source.context, streams=streams)


def share(draw: Draw, part: int, parts: int) -> Draw:
    """Part `part` of a draw that is cut into `parts` equal, disjoint pieces; a remainder is left out."""
    if isinstance(draw, dict):
        return {name: _slice(positions, part, parts) for name, positions in draw.items()}
    return _slice(draw, part, parts)


def _slice(positions: Positions, part: int, parts: int) -> Positions:
    size = len(positions) // parts
    return positions[part * size : (part + 1) * size]


@dataclass
class Feed:
    """The endless sequence of micro-batches of one training.

    Attributes
    ----------
    source, rule, size, seed : what is drawn, how, how many samples an update, and from which seed.
    accumulate : micro-batches in an update.
    rank, world : this process, and the number of processes.
    reading : held by the thread that reads from the source.
    """

    source: Source
    rule: Rule
    size: int
    seed: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1
    reading: Lock = field(default_factory=Lock)

    def draws(self, start: int, stop: int) -> Iterator[Draw]:
        """This process's micro-batches of the updates from `start` up to `stop`."""
        length = epoch_length(self.source, self.rule, self.size)
        if length == 0:
            raise ValueError(f"'{self.source.name}' ({len(self.source)} samples) gives no batch of {self.size}")
        epoch, skip = divmod(start, length)
        update = start
        while update < stop:
            plan = epoch_plan(self.source, self.rule, self.size, self.seed, epoch)
            for draw in plan[skip : skip + stop - update]:
                yield from self._mine(draw)
                update += 1
            # A plan may be a batch shorter or longer than the one that `steps` counted; the next epoch begins then.
            epoch, skip = epoch + 1, 0

    def _mine(self, draw: Draw) -> Iterator[Draw]:
        for micro in range(self.accumulate):
            piece = share(draw, micro, self.accumulate) if self.accumulate > 1 else draw
            yield share(piece, self.rank, self.world) if self.world > 1 and self._sharded else piece

    @property
    def _sharded(self) -> bool:
        return getattr(self.rule, "sharded", True)

    def streamed(self, start: int, seed: int) -> Iterator[Batch]:
        """This process's micro-batches of a stream from update `start` on, without end; only they are decoded."""
        source = self.source
        assert isinstance(source, StreamSource)
        apart = self.world > 1 and source.divided
        rank, world = (0, 1) if apart else (self.rank, self.world)
        cut = replace(self, size=max(1, self.size // self.world) if apart else self.size, rank=rank, world=world)
        for drawn in source.draws(cut.size, seed, start, *((self.rank, self.world) if apart else ())):
            for piece in cut._mine(np.arange(len(drawn))):
                assert not isinstance(piece, dict)
                # Processes exchange embeddings, so each has as many.
                yield source.batch_of([drawn[place] for place in piece], whole=self.world > 1)

    def extra(self, number: int) -> Batch:
        """The `number`-th batch outside the sequence, for `Step.draw`."""
        if self.source.streaming:
            return next(self.streamed(number, seeded(self.seed, "extra")))
        length = epoch_length(self.source, self.rule, self.size)
        epoch, place = divmod(number, length)
        plan = epoch_plan(self.source, self.rule, self.size, seeded(self.seed, "extra"), epoch)
        draw = next(self._mine(plan[place % len(plan)]))
        return self.read(draw)

    def loader(self, start: int, stop: int, workers: int, device: torch.device) -> Any:
        """An iterable of batches for the updates from `start` up to `stop`.

        A GPU has the coming ones sent to it by a thread that reads them, or has workers read them, while it computes.
        Where batches are read says nothing of where training is: its position is the count of updates done.
        """
        length = (stop - start) * self.accumulate
        courier = Courier(device) if device.type == "cuda" else None
        if self.source.streaming:
            return Early(lambda: islice(self.streamed(start, self.seed), length), length, AHEAD, courier)
        if courier is not None and workers == 0:
            return Early(lambda: map(self.read, self.draws(start, stop)), length, SENT_AHEAD, courier)
        loader: DataLoader[Batch] = DataLoader(
            _Reader(self.source),
            sampler=_Order(self, start, stop),
            batch_size=None,
            collate_fn=_same,
            num_workers=workers,
            pin_memory=courier is not None,
            persistent_workers=workers > 0,
        )
        return loader if courier is None else Early(lambda: iter(loader), length, SENT_AHEAD, courier)

    def read(self, draw: Draw) -> Batch:
        """The samples of one draw as a batch on the CPU, read by one thread at a time."""
        with self.reading:
            return read(self.source, draw)


def _same(batch: Any) -> Any:
    return batch


class _Reader(Dataset[Batch]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, draw: Any) -> Batch:
        return read(self.source, draw)


class _Order(Sampler[Any]):
    def __init__(self, feed: Feed, start: int, stop: int) -> None:
        self.feed, self.start, self.stop = feed, start, stop

    def __iter__(self) -> Iterator[Draw]:
        return self.feed.draws(self.start, self.stop)

    def __len__(self) -> int:
        return (self.stop - self.start) * self.feed.accumulate


class Early:
    """Batches that a thread has ready before they are asked for; what goes wrong with one is raised at its turn.

    Parameters
    ----------
    batches : begins to give them.
    length : how many they are.
    depth : how many are held ready.
    courier : brings them to a GPU; without one they stay where they are.
    """

    def __init__(
        self, batches: Callable[[], Iterator[Batch]], length: int, depth: int, courier: Courier | None
    ) -> None:
        self.batches, self.length, self.depth, self.courier = batches, length, depth, courier

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        # Begun here, since workers are forked, and not from the thread that waits for them.
        batches = self.batches()
        if self.courier is None:
            with ahead(batches, self.depth) as waiting:
                yield from waiting
        else:
            with ahead(map(self.courier.send, batches), self.depth) as underway:
                yield from map(self.courier.receive, underway)
