"""A stream of samples that lie in shards: of any size, from a disk or an object store, each process its own."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, TypeVar

from autodidact.catalog.nearest import unknown
from autodidact.data.folder import evenly
from autodidact.data.ids import sample_id
from autodidact.data.packed import cache_folder
from autodidact.data.rows import LOOKED_AT, Classes, RowStream
from autodidact.data.shard_files import CutOff, LostTouch, Shard, image_column, list_shards
from autodidact.data.stream import Drawn, Place, Raw, shuffled

if TYPE_CHECKING:
    from autodidact.data.request import Request

OPEN = 8
"""Shards that are read side by side, so that what comes after one another in a shard is not seen so."""
LOOKED_INTO = 16
"""Shards whose first rows tell the classes and the canvas."""
READERS = 16
"""Threads that ask for the lengths of shards."""
ASKED = 4_096
"""Shards of an unknown length up to which all are asked for it when they are opened."""
PAUSES = (1.0, 5.0, 25.0)
"""Seconds before a shard far away is asked for again."""
CLASSES = "cls"
T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """What the first rows of shards, and their form, tell of all of them.

    Attributes
    ----------
    name : of the source.
    first : rows at the beginning of some of the shards, `LOOKED_AT` in all.
    image, label : columns, where there are any.
    classes : of columns that hold numbers of classes.
    """

    name: str
    first: Sequence[Raw]
    image: str | None
    label: str | None
    classes: Classes


def shard_stream(place: str, split: str | None, request: Request) -> ShardStream:
    """Shards as a stream. What their form does not tell is taken from the first of their rows.

    Parameters
    ----------
    place, split : see `shard_files.list_shards`.
    request : with `labels`, the column of the labels: of tar files "cls" or an entry of the ".json" of a sample, by
        default "cls"; of Parquet files by default the first column of class labels in the way of Hugging Face datasets.
    """
    shards = list_shards(place, split)
    return ShardStream(look(shards, place, request), shards, request)


def look(shards: Sequence[Shard], place: str, request: Request) -> Look:
    """Look into some of the shards at a place."""
    first = _first_rows(shards)
    if not first:
        raise ValueError(f"none of the {len(shards)} shards at '{place}' has a sample that can be read")
    classes = next((told for shard in shards if (told := _told(shard)) is not None), {})
    columns = {name: None for row in first for name in row}
    label = None if request.labels == "none" else request.labels
    if label is not None and label not in columns:
        raise unknown(f"column of '{place}'", label, columns)
    if request.labels is None:
        label = CLASSES if CLASSES in columns else next(iter(classes), None)
    image = next((found for row in first if (found := image_column(row))), None)
    return Look(_folder(shards[0]), first, image, label, classes)


def _folder(shard: Shard) -> str:
    """The name of the folder that shards lie in: the same for all of them and for some, and where it was moved."""
    return shard.path.removesuffix(shard.name).rstrip("/").rpartition("/")[2] or "shards"


class ShardStream(RowStream):
    """Samples of shards, in an order drawn from seed and epoch, of which one process reads a part.

    An epoch goes through the shards in random order, `OPEN` of them at a time: their samples in turn, shuffled by the
    buffer, which is empty when the next ones begin. So a training that goes on after a stop needs the lengths of what
    it has passed, and reads at most `OPEN` shards again. Several processes take different shards (different samples of
    each, where there are fewer shards than processes). Lengths are read from Parquet files and from uncompressed tar
    files on a disk at once, of others when they have been read to the end, and are kept in the cache folder. A shard
    that breaks off is read as far as it goes and listed in `skipped`. One far away that cannot be read just now is
    asked for again; where that is in vain OSError ends the training, which can be gone on with.
    """

    divided: ClassVar[bool] = True

    def __init__(self, seen: Look, shards: Sequence[Shard], request: Request) -> None:
        self.shards = list(shards)
        self.columns = None if seen.image is None else [seen.image, *([seen.label] if seen.label else [])]
        self.lengths = _Lengths(self.shards, cache_folder(request.cache_dir) if request.cache else None)
        known = self.lengths.all()
        super().__init__(seen.name, seen.first, seen.image, seen.label, seen.classes, known, request)
        much = "an unknown number of samples" if known is None else f"{known:,} samples"
        self.notes.append(f"{much} in {len(shards):,} shards, read in sequence")

    def samples(self) -> Iterator[Raw]:
        return (raw for _, raw in self._numbered())

    def identity(self) -> bytes:
        return super().identity() + listed(self.shards).encode()

    def _numbered(self, start: int = 0) -> Iterator[tuple[Place, Raw]]:
        first = 0
        # What lies in shards of a known length is passed over unread.
        while first < len(self.shards) and (length := self.lengths.of(first)) is not None and length <= start:
            first, start = first + 1, start - length
        rest = chain.from_iterable(self._read(number) for number in range(first, len(self.shards)))
        return islice(rest, start, None)

    def draws(self, size: int, seed: int, skip: int = 0, part: int = 0, parts: int = 1) -> Iterator[Drawn]:
        apart = len(self.shards) >= parts
        first, step = (0, 1) if apart else (part, parts)
        epoch = 0
        while True:
            chapters = self._chapters(seed, epoch, *((part, parts) if apart else (0, 1)))
            # Where in the epoch the first sample lies that was not passed yet, then where in its chapter.
            start, begin = first + skip * size * step, 0
            while skip and begin < len(chapters):
                length = sum(self._length(shard) for shard in chapters[begin])
                if length > start:
                    break
                start, begin = start - length, begin + 1
            if skip and begin == len(chapters):
                there = len(range(first, first + skip * size * step - start, step))
                if there < size:
                    raise self._too_short(size, there)
                # The incomplete batch at the end of an epoch is left out.
                skip, epoch = skip - there // size, epoch + 1
                continue
            samples = islice(self._from(chapters, begin, seed, epoch), start, None, step)
            full, skip = skip, 0
            while len(drawn := list(islice(samples, size))) == size:
                full += 1
                yield drawn
            if full == 0:
                raise self._too_short(size, len(drawn))
            epoch += 1

    def _epoch(self, seed: int, number: int) -> Iterator[tuple[Place, Raw]]:
        return self._from(self._chapters(seed, number, 0, 1), 0, seed, number)

    def _chapters(self, seed: int, epoch: int, part: int, parts: int) -> list[list[int]]:
        """The shards of an epoch in its order, those together that are read side by side; of one of several parts."""
        order = self._rng("shards", seed, epoch).permutation(len(self.shards)).tolist()[part::parts]
        return [order[start : start + OPEN] for start in range(0, len(order), OPEN)]

    def _from(
        self, chapters: Sequence[Sequence[int]], begin: int, seed: int, epoch: int
    ) -> Iterator[tuple[Place, Raw]]:
        for number, shards in enumerate(chapters[begin:], start=begin):
            readers = [self._read(shard) for shard in shards]
            yield from shuffled(_in_turn(readers), self.buffer, self._rng(f"order/{epoch}", seed, number))

    def _read(self, number: int) -> Iterator[tuple[Place, Raw]]:
        shard, index = self.shards[number], 0
        try:
            for row in patiently(shard, lambda: shard.rows(self.columns)):
                yield (number, index), row
                index += 1
        except CutOff as error:
            if (number, -1) not in self._reported:
                self._reported.add((number, -1))
                self.skipped.append(breaks_off(shard, index, error))
        self.lengths.learn(number, index)

    def _length(self, number: int) -> int:
        """Of a shard; if need be by reading it."""
        if (known := self.lengths.of(number)) is not None:
            return known
        return sum(1 for _ in self._read(number))

    def _id(self, place: Place) -> int:
        assert isinstance(place, tuple)
        return sample_id(self.name, self.shards[place[0]].name, place[1])

    def _called(self, place: Place, raw: Raw) -> str:
        assert isinstance(place, tuple)
        cell = raw.get(self.image)
        return sample_name(self.shards[place[0]], place[1], cell.get("path") if isinstance(cell, Mapping) else None)


def sample_name(shard: Shard, number: int, path: str | None) -> str:
    """The name of a sample: its shard, and the path of its image there or else its number."""
    return f"{shard.name}/{PurePosixPath(path.lstrip('/'))}" if path else f"{shard.name}:{number}"


def patiently(shard: Shard, read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What is read of a shard, in order. Where the connection breaks it is asked for again, from where it broke.

    Raises
    ------
    CutOff : it cannot be read on.
    OSError : it is far away, and asking again was in vain.
    """
    index, tries = 0, 0
    while True:
        try:
            for row in islice(read(), index, None):
                yield row
                index, tries = index + 1, 0
        except LostTouch as error:
            if tries == len(PAUSES):
                raise OSError(f"{shard.path} cannot be read after {tries + 1} tries: {error}") from error
            time.sleep(PAUSES[tries])
            tries += 1
            continue
        return


def once(shard: Shard, read: Callable[[], T]) -> T:
    """What is read of a shard in one go, with the patience of `patiently`."""
    return next(patiently(shard, lambda: iter([read()])))


def breaks_off(shard: Shard, samples: int, error: CutOff) -> dict[str, str]:
    """Of a shard that cannot be read on, what is listed among the skipped."""
    return {"name": shard.name, "reason": f"breaks off after {samples} samples: {error}"}


class _Lengths:
    """Samples in each shard, as far as known; kept in a file."""

    def __init__(self, shards: Sequence[Shard], folder: Path | None) -> None:
        digest = hashlib.blake2b(listed(shards).encode(), digest_size=8).hexdigest()
        self.file = None if folder is None else folder / "shards" / f"{digest}.jsonl"
        self.known: dict[int, int] = {}
        if self.file is not None and self.file.is_file():
            for line in self.file.read_text().splitlines():
                # The last line may be half a line, of a run that was killed.
                if line.endswith("]"):
                    number, length = json.loads(line)
                    self.known[number] = length
        missing = [number for number in range(len(shards)) if number not in self.known]
        if len(missing) <= ASKED:
            with ThreadPoolExecutor(READERS) as threads:
                for number, length in zip(missing, threads.map(_asked, [shards[n] for n in missing]), strict=True):
                    if length is not None:
                        self.learn(number, length)
        self.count = len(shards)

    def of(self, number: int) -> int | None:
        return self.known.get(number)

    def all(self) -> int | None:
        """Samples in all shards, where that is known."""
        return sum(self.known.values()) if len(self.known) == self.count else None

    def learn(self, number: int, length: int) -> None:
        if self.known.get(number) == length:
            return
        self.known[number] = length
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a") as file:
                file.write(f"{json.dumps([number, length])}\n")
        except OSError:
            # Without the file lengths are asked for anew the next time.
            self.file = None


def listed(shards: Sequence[Shard]) -> str:
    """Shards by path and size, to tell them from others."""
    return "\0".join(f"{shard.path}\0{shard.size}" for shard in shards)


def _asked(shard: Shard) -> int | None:
    try:
        return shard.count()
    except CutOff:
        return 0
    except LostTouch:
        return None


def _told(shard: Shard) -> dict[str, tuple[str, ...]] | None:
    try:
        return shard.classes()
    except CutOff:
        return None


def _in_turn(readers: Sequence[Iterator[tuple[Place, Raw]]]) -> Iterator[tuple[Place, Raw]]:
    """One sample of each reader, again and again, until all are at their ends."""
    waiting = list(readers)
    while waiting:
        left = []
        for reader in waiting:
            sample = next(reader, None)
            if sample is not None:
                yield sample
                left.append(reader)
        waiting = left


def _first_rows(shards: Sequence[Shard]) -> list[Raw]:
    """The first rows of shards spread over all, `LOOKED_AT` in all."""
    chosen = [shards[number] for number in evenly(len(shards), LOOKED_INTO)]
    rows: list[Raw] = []
    for shard in chosen:
        try:
            rows += islice(shard.rows(), -(-LOOKED_AT // len(chosen)))
        except CutOff:
            # It is listed among what is skipped when its turn comes.
            continue
        except LostTouch as error:
            raise OSError(f"{shard.path} cannot be read: {error}") from error
    return rows
