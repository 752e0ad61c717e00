"""Shards read by position: images are taken one by one from where the index says that they lie, numbers read whole."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autodidact.data.cores import cores
from autodidact.data.frame import choose_frame
from autodidact.data.ids import row_ids
from autodidact.data.images import UnreadableImage, image_ending
from autodidact.data.packed import PixelStore, megabytes, pixels_of
from autodidact.data.pictures import ImageSource
from autodidact.data.recent import Recent
from autodidact.data.rows import HeldCells, class_names, column_labels, named_classes, origin_of
from autodidact.data.shard_files import CutOff, Shard, Span, list_shards, tar_files
from autodidact.data.shard_index import Index, SampleNames, index_of
from autodidact.data.shards import Look, breaks_off, look, once, patiently
from autodidact.data.source import Source
from autodidact.data.table import table_source

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from autodidact.data.images import Origin
    from autodidact.data.labels import Labels
    from autodidact.data.request import Request

PIECE = 4 << 20
"""Bytes that are fetched at once of a tar file far away: one request for many small images."""
LARGEST_GROUP = 4 << 30
"""Bytes of images up to which a row group is taken: it is held whole."""
GROUPS_HELD = 2 << 30
"""Bytes that the row groups which several threads decode may have in all."""


def placed_source(place: str, split: str | None, request: Request) -> Source:
    """Shards as a source that is read by position: the samples of `shards.shard_stream` with the same ids and names.

    Of images only the index is read at first; they are then taken one by one from where they lie. Numbers are read
    whole.

    Parameters
    ----------
    place, split : see `shard_files.list_shards`.
    request : see `shards.shard_stream`.

    Raises
    ------
    ValueError
        A shard is compressed, or lacks a column that others have; row groups are too large; nothing can be read.
    OSError
        The connection to shards far away breaks for good.
    """
    shards = list_shards(place, split)
    for shard in shards:
        if not shard.parquet and not shard.path.lower().endswith(".tar"):
            raise ValueError(
                f"'{shard.name}' is compressed as a whole, so its samples cannot be read by position; unpack it to .tar"
            )
    seen = look(shards, place, request)
    return _table(shards, seen, request) if seen.image is None else _images(shards, seen, seen.image, request)


class TarPictures:
    """The images of tar shards, undecoded."""

    def __init__(self, shards: Sequence[Shard], index: Index) -> None:
        self.shards, self.digest, self.shard = shards, index.digest, index.shard
        self.offset, self.size = index.column("offset"), index.column("size")
        self.whole = index.column("whole_offset"), index.column("whole_size")
        self.pieces = Recent(self._piece, 2 * cores() + 2)

    def __len__(self) -> int:
        return len(self.shard)

    def origin(self, index: int) -> Origin:
        span = Span(int(self.offset[index]), int(self.size[index]))
        if span.size < 0:
            raise UnreadableImage("the cell is empty")
        number = int(self.shard[index])
        try:
            if self.shards[number].near:
                return self.shards[number].read(span)
            first, last = span.offset // PIECE, (span.offset + span.size - 1) // PIECE
            content = b"".join(self.pieces((number, piece)) for piece in range(first, last + 1))
        except CutOff as error:
            raise UnreadableImage(str(error)) from error
        return content[span.offset - first * PIECE :][: span.size]

    def files(self, index: int) -> dict[str, bytes]:
        """All files of a sample by their endings."""
        shard = self.shards[int(self.shard[index])]
        span = Span(*(int(column[index]) for column in self.whole))
        return tar_files(once(shard, lambda: shard.read(span)))

    def _piece(self, which: tuple[int, int]) -> bytes:
        number, piece = which
        shard = self.shards[number]
        return once(shard, lambda: shard.read(Span(piece * PIECE, PIECE)))


class ParquetPictures:
    """The images of one column of Parquet shards, undecoded. A row group is read whole, and the last ones are held."""

    def __init__(self, shards: Sequence[Shard], index: Index, seen: Look, column: str, threads: int) -> None:
        self.shards, self.digest, self.shard, self.column = shards, index.digest, index.shard, column
        self.classes = seen.classes
        self.group, self.row = index.column("group"), index.column("row")
        self.cells, self.rows = Recent(self._cells, threads + 2), Recent(self._rows, 2)

    def __len__(self) -> int:
        return len(self.shard)

    def origin(self, index: int) -> Origin:
        cells = self.cells(self._which(index))
        if isinstance(cells, str):
            raise UnreadableImage(cells)
        return origin_of(cells[int(self.row[index])].as_py())

    def files(self, index: int) -> dict[str, bytes]:
        """The image of a sample, and as "json" what its row tells besides."""
        origin = self.origin(index)
        content = origin if isinstance(origin, bytes) else Path(origin).read_bytes()
        rows = self.rows(self._which(index))
        row = {name: rows.column(name)[int(self.row[index])].as_py() for name in rows.column_names}
        told = {
            name: class_names([value], self.classes[name])[0] if name in self.classes else value
            for name, value in row.items()
            if not isinstance(value, list | dict | bytes)
        }
        beside = {"json": json.dumps(told, default=str).encode()} if told else {}
        return {image_ending(content): content, **beside}

    def _which(self, index: int) -> tuple[int, int]:
        return int(self.shard[index]), int(self.group[index])

    def _cells(self, which: tuple[int, int]) -> pa.ChunkedArray | str:
        """The images of a row group, or why they cannot be read."""
        shard = self.shards[which[0]]
        try:
            return once(shard, lambda: shard.group(which[1], [self.column])).column(self.column)
        except CutOff as error:
            return str(error)

    def _rows(self, which: tuple[int, int]) -> pa.Table:
        """The other columns of a row group."""
        shard = self.shards[which[0]]
        return once(shard, lambda: shard.group(which[1], without=self.column))


class PlacedImages(ImageSource):
    """Images of shards."""

    def __init__(
        self,
        seen: Look,
        shards: Sequence[Shard],
        index: Index,
        pixels: PixelStore,
        placed: TarPictures | ParquetPictures,
        labels: Labels | None,
    ) -> None:
        self.placed = placed
        super().__init__(
            seen.name,
            pixels,
            SampleNames(shards, index.lengths.tolist(), index.paths()),
            labels,
            skipped=index.skipped,
            notes=[f"{len(index):,} samples in {len(shards):,} shards, read by position"],
            ids=index.ids(seen.name, shards),
        )

    def undecoded(self, position: int) -> dict[str, bytes]:
        try:
            return self.placed.files(int(self.places[position]))
        except (CutOff, UnreadableImage, tarfile.TarError) as error:
            raise OSError(
                f"{self.names[position]} could be read when the data was opened, now it cannot: {error}"
            ) from error


def _images(shards: Sequence[Shard], seen: Look, image: str, request: Request) -> Source:
    index = index_of(shards, image, request)
    if not len(index):
        raise ValueError(f"no sample of the {len(shards)} shards of '{seen.name}' can be read by position")
    if index.largest > LARGEST_GROUP:
        raise ValueError(
            f"a row group of '{seen.name}' holds {megabytes(index.largest)} of images and is read whole; write row "
            f"groups of up to {megabytes(LARGEST_GROUP)}, better of some megabytes"
        )
    labels = None if seen.label is None else _labels(shards, seen, seen.label, index, request)
    frame = choose_frame(
        HeldCells([row.get(image) for row in seen.first]), request.image_size, request.canvas, request.channels
    )
    storage: dict[str, Any] = request.storage
    pictures: TarPictures | ParquetPictures
    if shards[0].parquet:
        threads = max(1, min(cores(), GROUPS_HELD // max(1, index.largest)))
        storage["workers"] = min(request.workers or threads, threads)
        pictures = ParquetPictures(shards, index, seen, image, threads)
    else:
        pictures = TarPictures(shards, index)
    pixels = pixels_of(pictures, frame, title=seen.name, **storage)
    return PlacedImages(seen, shards, index, pixels, pictures, labels)


def _labels(shards: Sequence[Shard], seen: Look, label: str, index: Index, request: Request) -> Labels:
    values: list[Any]
    if not shards[0].parquet:
        values = index.told(label)
    else:
        values = []
        for shard, length in zip(shards, index.lengths.tolist(), strict=True):
            values += _cells_of(shard, label, length)
    return column_labels(values, seen.classes.get(label, ()), label, request)


def _cells_of(shard: Shard, column: str, length: int) -> list[Any]:
    """The cells of a column of a Parquet shard; None from where it breaks off."""
    cells: list[Any] = []
    with suppress(CutOff):
        for row in patiently(shard, lambda: shard.rows([column])) if length else ():
            if column not in row:
                raise ValueError(f"{shard.name} has no column '{column}', which holds the labels")
            cells.append(row[column])
    return [*cells, *[None] * length][:length]


def _table(shards: Sequence[Shard], seen: Look, request: Request) -> Source:
    import pandas as pd

    frames: list[pd.DataFrame] = []
    skipped: list[dict[str, str]] = []
    for shard in shards:
        frame, broken = _frame(shard)
        skipped += broken
        if shard.parquet and len(frame) and (first := next((f for f in frames if len(f)), None)) is not None:
            _agree(shard, frame, first)
        frames.append(frame)
    lengths = [len(frame) for frame in frames]
    whole = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    labels = None
    if seen.label is not None:
        labels = column_labels(whole[seen.label].tolist(), seen.classes.get(seen.label, ()), seen.label, request)
    parts = zip(shards, lengths, strict=True)
    source = table_source(
        named_classes(whole, seen.classes, seen.label),
        seen.name,
        ids=np.concatenate([row_ids(seen.name, shard.name, length) for shard, length in parts]),
        names=SampleNames(shards, lengths),
        labels=labels,
        columns=request.columns,
        like=request.like,
        notes=[f"{len(whole):,} samples in {len(shards):,} shards, read by position"],
    )
    source.skipped = skipped
    return source


def _frame(shard: Shard) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The rows of a shard as far as they can be read, and what is skipped."""
    import pandas as pd

    rows: list[Mapping[str, Any]] = []
    try:
        if shard.parquet:
            return once(shard, shard.frame), []
        rows.extend(patiently(shard, shard.rows))
    except CutOff as error:
        return pd.DataFrame(rows), [breaks_off(shard, len(rows), error)]
    return pd.DataFrame(rows), []


def _agree(shard: Shard, frame: pd.DataFrame, first: pd.DataFrame) -> None:
    """Refuse a table whose columns are not those of the first one."""
    differing = sorted({str(name) for name in {*frame.columns} ^ {*first.columns}})
    if differing:
        raise ValueError(
            f"{shard.name} has other columns than the first shard ({', '.join(differing)}); they must agree"
        )
