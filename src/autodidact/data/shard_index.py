"""An index of shards: where each sample lies, so that it can be read by position. Made once, kept in the cache folder.

It is a Parquet file under ``shards/`` (called .index, so that nobody takes it for a shard) with a row a sample: of tar
files the bytes of the image, those of all files of the sample, and what its other files tell; of Parquet files the row
group and the row in it. Its name holds a digest of the shards and of the times at which they were written.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from autodidact.data.durable import aside, write_aside
from autodidact.data.ids import Ids, row_ids
from autodidact.data.packed import cache_folder
from autodidact.data.shard_files import CutOff, Shard
from autodidact.data.shards import READERS, breaks_off, listed, patiently, sample_name

if TYPE_CHECKING:
    import pyarrow as pa

    from autodidact.data.request import Request

VERSION = 1
INDEX_ROWS = 65_536
"""Rows of an index that are held as objects, before they become columns."""
STAMPS = ("mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "created")
"""What file systems call the time (or the state) of a file."""


@dataclass
class Index:
    """Where the samples of shards lie.

    Attributes
    ----------
    file : Parquet file of the index.
    digest : of the shards.
    shard : (n,) numbers of the shards.
    lengths : samples in each shard.
    skipped : shards that break off.
    largest : bytes of images in the largest row group; 0 for tar files.
    """

    file: Path
    digest: str
    shard: NDArray[np.int32]
    lengths: NDArray[np.int64]
    skipped: list[dict[str, str]]
    largest: int

    def __len__(self) -> int:
        return len(self.shard)

    def column(self, name: str) -> NDArray[Any]:
        """(n,) numbers of a column."""
        import pyarrow.parquet as parquet

        return parquet.read_table(self.file, columns=[name]).column(name).to_numpy()

    def paths(self) -> pa.ChunkedArray:
        """Paths of the images in their shards, as bytes; null where there is none."""
        import pyarrow.parquet as parquet

        return parquet.read_table(self.file, columns=["path"]).column("path")

    def told(self, column: str) -> list[Any]:
        """What is told of every sample in one column of the files beside its image; None where nothing is."""
        import pyarrow.parquet as parquet

        values: list[Any] = []
        for batch in parquet.ParquetFile(self.file).iter_batches(INDEX_ROWS, columns=["told"]):
            values += [None if text is None else json.loads(text).get(column) for text in batch["told"].to_pylist()]
        return values

    def ids(self, name: str, shards: Sequence[Shard]) -> Ids:
        """(n,) ids, those of the stream."""
        parts = zip(shards, self.lengths.tolist(), strict=True)
        return np.concatenate([row_ids(name, shard.name, length) for shard, length in parts])


def index_of(shards: Sequence[Shard], image: str, request: Request) -> Index:
    """The index of shards, from the cache folder or made now."""
    import pyarrow as pa

    folder = cache_folder(request.cache_dir) / "shards"
    said = f"{VERSION}\0{image}\0{listed(shards)}\0{_stamps(shards)}"
    digest = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    file, about = folder / f"{digest}.index", folder / f"{digest}.json"
    with suppress(OSError, ValueError, KeyError, pa.ArrowException):
        return _kept(file, about, digest, len(shards))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the cache {folder} cannot be written ({error.strerror}); name another folder with --cache-dir or "
            "$AUTODIDACT_CACHE"
        ) from error
    _write(file, about, shards, image, request.progress)
    return _kept(file, about, digest, len(shards))


def _kept(file: Path, about: Path, digest: str, shards: int) -> Index:
    import pyarrow.parquet as parquet

    told = json.loads(about.read_text())
    shard = parquet.read_table(file, columns=["shard"]).column("shard").to_numpy()
    return Index(file, digest, shard, np.bincount(shard, minlength=shards), told["skipped"], told["largest"])


def _stamps(shards: Sequence[Shard]) -> str:
    """When the shards were written, as far as their file system tells."""
    with ThreadPoolExecutor(READERS) as threads:
        return "\0".join(threads.map(_stamp, shards))


def _stamp(shard: Shard) -> str:
    try:
        about = shard.files.info(shard.path)
    except OSError:
        # It is listed among what is skipped, or told, when it is read.
        return ""
    return f"{about.get('size')} {next((about[name] for name in STAMPS if about.get(name)), '')}"


def _write(file: Path, about: Path, shards: Sequence[Shard], image: str, progress: bool) -> None:
    import pyarrow.parquet as parquet
    from tqdm import tqdm

    skipped: list[dict[str, str]] = []
    largest = 0
    index = _parquet_index if shards[0].parquet else _tar_index
    # Reading the headers of files on a disk is work for one core; far away most of it is waiting.
    with (
        ThreadPoolExecutor(1 if shards[0].near else READERS) as threads,
        aside(file) as beside,
        parquet.ParquetWriter(beside, _columns(shards[0].parquet), compression="zstd") as writer,
        tqdm(total=len(shards), desc="index", unit=" shards", disable=not progress, file=sys.stderr, delay=2) as bar,
    ):
        found = threads.map(lambda number: index(number, shards[number], image), range(len(shards)))
        for parts, broken, size in found:
            for part in parts:
                writer.write_table(part)
            skipped += broken
            largest = max(largest, size)
            bar.update()
        write_aside(about, json.dumps({"skipped": skipped, "largest": largest}).encode())


def _columns(parquet: bool) -> pa.Schema:
    import pyarrow as pa

    shared = {"shard": pa.int32(), "path": pa.large_binary()}
    if parquet:
        return pa.schema({**shared, "group": pa.int32(), "row": pa.int32()})
    places = dict.fromkeys(("offset", "size", "whole_offset", "whole_size"), pa.int64())
    return pa.schema({**shared, **places, "told": pa.large_string()})


_Part = tuple[list["pa.Table"], list[dict[str, str]], int]
"""Rows of an index, what is skipped, and the bytes of the largest row group."""


def _tar_index(number: int, shard: Shard, image: str) -> _Part:
    import pyarrow as pa

    columns, tables, rows, count = _columns(parquet=False), list[pa.Table](), list[tuple[Any, ...]](), 0
    broken = []

    def flush() -> None:
        if rows:
            values = zip(*rows, strict=True)
            arrays = [pa.array(list(v), kind.type) for v, kind in zip(values, columns, strict=True)]
            tables.append(pa.Table.from_arrays(arrays, schema=columns))
            rows.clear()

    try:
        for sample in patiently(shard, shard.places):
            path = None if sample.path is None else sample.path.encode("utf-8", "surrogateescape")
            told = json.dumps(sample.told) if sample.told else None
            rows.append((number, path, *(sample.image or (0, -1)), *sample.whole, told))
            count += 1
            if len(rows) == INDEX_ROWS:
                flush()
    except CutOff as error:
        broken.append(breaks_off(shard, count, error))
    flush()
    return tables, broken, 0


def _parquet_index(number: int, shard: Shard, image: str) -> _Part:
    import pyarrow as pa

    columns, tables, largest, count = _columns(parquet=True), list[pa.Table](), 0, 0
    broken = []
    try:
        for place, group in enumerate(patiently(shard, lambda: shard.groups(image))):
            rows = len(group.paths)
            paths = [None if path is None else path.encode("utf-8", "surrogateescape") for path in group.paths]
            arrays = [np.full(rows, number), paths, np.full(rows, place), np.arange(rows)]
            filled = [pa.array(values, kind.type) for values, kind in zip(arrays, columns, strict=True)]
            tables.append(pa.Table.from_arrays(filled, schema=columns))
            largest, count = max(largest, group.size), count + rows
    except CutOff as error:
        broken.append(breaks_off(shard, count, error))
    return tables, broken, largest


class SampleNames(Sequence[str]):
    """Names of the samples of shards, made when asked for, as those of the stream.

    Parameters
    ----------
    lengths : samples in each shard.
    paths : of images in their shards, as bytes; default none.
    """

    def __init__(self, shards: Sequence[Shard], lengths: Sequence[int], paths: pa.ChunkedArray | None = None) -> None:
        self.shards, self.paths = shards, paths
        self.starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        index = range(len(self))[index]
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        path = None if self.paths is None else self.paths[index].as_py()
        number = index - int(self.starts[shard])
        return sample_name(self.shards[shard], number, path and path.decode("utf-8", "surrogateescape"))
