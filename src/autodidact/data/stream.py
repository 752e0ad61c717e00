"""A source that is read in sequence only: too large to keep, or still arriving.

Order within an epoch is that of a shuffle buffer: local disorder, not a full permutation. Everything is a function of
the stream and the seed, so a resumed run skips what was seen; skipping decodes nothing.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from autodidact.data.batch import Batch, Ragged, Value
from autodidact.data.ids import Ids, sample_id
from autodidact.data.schema import Schema
from autodidact.data.source import ArraySource, Positions, Source, Stretch

if TYPE_CHECKING:
    from autodidact.data.store import Store

Raw = Mapping[str, Any]
Place = int | tuple[int, int]
"""Of a sample in its stream: its number, or the numbers of its shard and in it."""
Drawn = list[tuple[Place, Raw]]


class StreamSource(Source):
    """Samples in sequence, numbered from 0; a sample's id is made of the stream's name and its number.

    A sample that cannot be read is left out of its batch, which is then smaller, and listed in `skipped`.

    Parameters
    ----------
    name : name of the stream.
    schema : fields of a sample.
    length : number of samples where it is known, else None; ``len`` is 0 then.
    buffer : samples among which the next one is drawn at random; they are held undecoded.
    """

    streaming: ClassVar[bool] = True
    divided: ClassVar[bool] = False
    """Whether each of several processes reads samples of its own, instead of its share of what all of them read."""

    def __init__(self, name: str, schema: Schema, length: int | None = None, buffer: int = 1000) -> None:
        if buffer < 1:
            raise ValueError(f"a shuffle buffer holds at least 1 sample, got {buffer}")
        self.name, self.schema, self.length, self.buffer = name, schema, length, buffer
        self.ids = np.empty(0, dtype=np.int64)
        self.names: Sequence[str] = ()
        self.context = {}
        self.skipped: list[Mapping[str, str]] = []
        self.notes: list[str] = []
        self._reported: set[Place] = set()

    @abstractmethod
    def samples(self) -> Iterator[Raw]:
        """All samples undecoded, in the order of the stream; the same at every call."""

    @abstractmethod
    def decode(self, raws: Sequence[Raw]) -> tuple[dict[str, Value], dict[int, str]]:
        """Fields of the readable ones among some samples, and position -> reason of the others."""

    def __len__(self) -> int:
        return self.length or 0

    def batches(self, size: int, seed: int, skip: int = 0) -> Iterator[Batch]:
        """Batches without end, epoch after epoch in ever new order; the first `skip` are passed over.

        The incomplete batch at the end of an epoch is left out.

        Raises
        ------
        ValueError
            An epoch has fewer than `size` samples.
        """
        return (self.batch_of(drawn) for drawn in self.draws(size, seed, skip))

    def draws(self, size: int, seed: int, skip: int = 0, part: int = 0, parts: int = 1) -> Iterator[Drawn]:
        """The same undecoded. Where the stream is `divided`, those of one of several parts."""
        epoch = 0
        while True:
            order = self._epoch(seed, epoch)
            full = 0
            while len(drawn := list(islice(order, size))) == size:
                full += 1
                if skip > 0:
                    skip -= 1
                else:
                    yield drawn
            if full == 0:
                raise self._too_short(size, len(drawn))
            epoch += 1

    def _rng(self, what: str, seed: int, number: int) -> np.random.Generator:
        return np.random.default_rng(sample_id(self.name, f"{what}/{seed}", number))

    def _too_short(self, size: int, count: int) -> ValueError:
        return ValueError(f"batch size {size} is larger than the data: stream '{self.name}' has {count} samples")

    def _epoch(self, seed: int, number: int) -> Iterator[tuple[Place, Raw]]:
        """All samples in the order of an epoch."""
        return shuffled(self._numbered(), self.buffer, self._rng("order", seed, number))

    def _numbered(self, start: int = 0) -> Iterator[tuple[Place, Raw]]:
        """All samples from number `start` on."""
        return islice(enumerate(self.samples()), start, None)

    def in_order(self, size: int) -> Iterator[Batch]:
        """All samples once, in the order of the stream, in batches of at most `size`."""
        stream = self._numbered()
        while drawn := list(islice(stream, size)):
            yield self.batch_of(drawn)

    def stretches(self, size: int, start: int = 0) -> Iterator[Stretch]:
        return self._stretched(self._numbered(start), size)

    def shuffled_stretches(self, size: int, seed: int) -> Iterator[Stretch]:
        """All samples once, in the order of the first epoch of a seed, at most `size` at a time."""
        return self._stretched(self._epoch(seed, 0), size)

    def _stretched(self, stream: Iterator[tuple[Place, Raw]], size: int) -> Iterator[Stretch]:
        while drawn := list(islice(stream, size)):
            batch, bad = self._readable(drawn)
            names = [self._called(*sample) for at, sample in enumerate(drawn) if at not in bad]
            yield Stretch(len(drawn), names, batch)

    def identity(self) -> bytes:
        return json.dumps([self.name, self.schema.plain()]).encode()

    def batch_of(self, drawn: Sequence[tuple[Place, Raw]], *, whole: bool = False) -> Batch:
        """Samples decoded; with `whole`, readable ones stand twice in the place of those that are not."""
        batch, bad = self._readable(drawn)
        if batch is None:
            raise ValueError(f"none of {len(drawn)} samples in a row of '{self.name}' can be read: {bad[0]}")
        return batch.select(torch.arange(len(drawn)) % len(batch)) if whole and bad else batch

    def _readable(self, drawn: Sequence[tuple[Place, Raw]]) -> tuple[Batch | None, dict[int, str]]:
        """Those of some samples that can be read, decoded, and position -> reason of the others, which are listed."""
        fields, bad = self.decode([raw for _, raw in drawn])
        for at, reason in bad.items():
            place = drawn[at][0]
            if place not in self._reported:
                self._reported.add(place)
                self.skipped.append({"name": self._called(*drawn[at]), "reason": reason})
        ids = [self._id(place) for at, (place, _) in enumerate(drawn) if at not in bad]
        return Batch(torch.tensor(ids), fields, self.context) if ids else None, bad

    def _id(self, place: Place) -> int:
        assert isinstance(place, int)
        return sample_id(self.name, "", place)

    def _called(self, place: Place, raw: Raw) -> str:
        """The name of a sample."""
        return f"{self.name}:{place}"

    def take(self, count: int) -> ArraySource:
        """The first `count` samples (or as many as there are), held in memory: to look at, or to measure on."""
        batches = []
        left = count
        for batch in self.in_order(min(count, 256)):
            batches.append(batch)
            left -= len(batch)
            if left <= 0:
                break
        if not batches:
            raise ValueError(f"stream '{self.name}' has no sample")
        ids = torch.cat([batch.ids for batch in batches])[:count]
        fields = {name: _first([batch[name] for batch in batches], count) for name in batches[0].fields}
        return ArraySource(self.name, fields, self.schema, ids.numpy())

    def at(self, positions: Sequence[int] | Positions) -> Source:
        raise ValueError(self._in_sequence)

    def only(self, ids: Sequence[int] | Ids) -> Source:
        raise ValueError(self._in_sequence)

    def joined(self, store: Store, columns: Sequence[str] | None = None) -> Source:
        raise ValueError(self._in_sequence)

    @property
    def _in_sequence(self) -> str:
        return f"'{self.name}' is a stream and is read in sequence only; take(n) holds its first samples in memory"

    def read(self, positions: Positions) -> dict[str, Value]:
        raise ValueError(self._in_sequence)

    def column(self, field: str) -> NDArray[Any]:
        raise ValueError(self._in_sequence)


def _first(values: Sequence[Any], count: int) -> Any:
    if isinstance(values[0], list):
        return [item for value in values for item in value][:count]
    if isinstance(values[0], Ragged):
        return Ragged.of([item for value in values for item in value][:count])
    return torch.cat(list(values))[:count]


def shuffled(
    samples: Iterator[tuple[Place, Raw]], buffer: int, rng: np.random.Generator
) -> Iterator[tuple[Place, Raw]]:
    """The samples, each drawn at random from among the next `buffer`."""
    waiting: Drawn = []
    for sample in samples:
        if len(waiting) < buffer:
            waiting.append(sample)
            continue
        place = int(rng.integers(buffer))
        yield waiting[place]
        waiting[place] = sample
    for place in rng.permutation(len(waiting)).tolist():
        yield waiting[place]
