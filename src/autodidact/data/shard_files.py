"""Shards: tar files in the layout of WebDataset, and Parquet files, on a disk or at any address that fsspec reads."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from os.path import commonpath
from typing import Any

from autodidact.data.images import SUFFIXES, UnreadableImage, read_header
from autodidact.data.splits import SPLIT_FOLDERS
from autodidact.data.stream import Raw

TAR = (".tar", ".tar.gz", ".tgz")
PARQUET = (".parquet", ".pq")
ENDINGS = (*TAR, *PARQUET)
IMAGE = "image"
ROWS = 256
"""Rows of a Parquet file that are read at once."""
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class CutOff(Exception):
    """A shard that cannot be read, or not to its end; the message is the reason."""


class LostTouch(Exception):
    """A shard far away that cannot be read just now."""


@dataclass(frozen=True)
class Shard:
    """One file of samples.

    Attributes
    ----------
    path : in its file system.
    name : path below what was asked for; ids of samples are made of it.
    size : in bytes, 0 where it is not known.
    """

    files: Any = field(repr=False, compare=False)
    path: str
    name: str
    size: int = 0

    @property
    def near(self) -> bool:
        """Whether it lies on a disk of this machine."""
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self.files, LocalFileSystem)

    @property
    def parquet(self) -> bool:
        """Whether it is a Parquet file; else it is a tar file."""
        return self.path.lower().endswith(PARQUET)

    def count(self) -> int | None:
        """Samples in it, where that is known without reading it all: of Parquet files, and of tar files on a disk that
        are not compressed. CutOff where it cannot be opened."""
        if self.parquet:
            import pyarrow.parquet as parquet

            with _reasons(self.near), self.files.open(self.path, "rb") as file:
                return int(parquet.ParquetFile(file).metadata.num_rows)
        if not self.near or not self.path.lower().endswith(TAR[0]):
            return None
        keys, last = 0, ""
        try:
            with _reasons(self.near), tarfile.open(self.path, "r:") as archive:
                for member in archive:
                    if member.isfile() and (key := _key(member.name)[0]) != last:
                        keys, last = keys + 1, key
        except CutOff:
            # What is there is read, and told, when its turn comes.
            if not keys:
                raise
        return keys

    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of classes that a Parquet file brings in the way of Hugging Face datasets."""
        if not self.parquet:
            return {}
        import pyarrow.parquet as parquet

        with _reasons(self.near), self.files.open(self.path, "rb") as file:
            kept = parquet.ParquetFile(file).schema_arrow.metadata or {}
        features = json.loads(kept.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {
            name: tuple(about["names"])
            for name, about in features.items()
            if isinstance(about, Mapping) and about.get("_type") == "ClassLabel"
        }

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Raw]:
        """Its samples in order, images undecoded under ``image``; of a Parquet file only some columns, if they are
        named. CutOff where it cannot be read on, LostTouch where it may be later."""
        return self._parquet_rows(columns) if self.parquet else self._tar_rows()

    def _tar_rows(self) -> Iterator[Raw]:
        key, parts = "", dict[str, bytes]()
        with (
            _reasons(self.near),
            self.files.open(self.path, "rb") as file,
            tarfile.open(fileobj=file, mode="r|*") as archive,
        ):
            for member in archive:
                if not member.isfile():
                    continue
                found, ending = _key(member.name)
                if found != key:
                    if parts:
                        yield _row(key, parts)
                    key, parts = found, {}
                content = archive.extractfile(member)
                assert content is not None
                parts[ending] = content.read()
        if parts:
            yield _row(key, parts)

    def _parquet_rows(self, columns: Sequence[str] | None) -> Iterator[Raw]:
        import pyarrow.parquet as parquet

        with _reasons(self.near), self.files.open(self.path, "rb") as file:
            for batch in parquet.ParquetFile(file).iter_batches(ROWS, columns=None if columns is None else [*columns]):
                yield from batch.to_pylist()


@contextmanager
def _reasons(near: bool) -> Iterator[None]:
    """What readers raise at broken files as `CutOff`, at broken lines as `LostTouch`."""
    import pyarrow

    try:
        yield
    except (OSError, EOFError, tarfile.TarError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        passing = not near and isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)
        raise (LostTouch if passing else CutOff)(reason) from error


def _key(path: str) -> tuple[str, str]:
    """What the files of one sample share, and the ending after the first dot of the name."""
    folder, _, base = path.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}/{stem}", ending.lower()


def _row(key: str, parts: Mapping[str, bytes]) -> Raw:
    """The files of one key: an image, and what the others say. ``cls`` is a number or a name, ``json`` has columns."""
    row: dict[str, Any] = {}
    for ending, content in parts.items():
        if f".{ending.rpartition('.')[2]}" in SUFFIXES:
            row.setdefault(IMAGE, {"bytes": content, "path": f"{key}.{ending}"})
        elif ending == "json":
            try:
                told = json.loads(content)
            except ValueError:
                continue
            row |= {name: value for name, value in told.items() if not isinstance(value, list | dict)}
        elif ending in ("cls", "txt"):
            row[ending] = content.decode("utf-8", "replace").strip()
    return row


def image_column(row: Raw) -> str | None:
    """The column whose cell is an image, undecoded; as bytes alone or as bytes and path."""
    for name, cell in row.items():
        inside = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(cell, Mapping) and cell.keys() == {"bytes", "path"}:
            return name
        if isinstance(inside, bytes):
            try:
                read_header(inside)
            except UnreadableImage:
                continue
            return name
    return None


def list_shards(place: str, split: str | None = None) -> list[Shard]:
    """The shards at a place, in the order of their names.

    Parameters
    ----------
    place : a folder, a file, or a pattern with ``*`` or ``{000..127}``; a path, or an address such as
        ``s3://bucket/photos/train-*.tar``. Addresses without listings (http) need names or braces.
    split : the shards whose names begin with it, or that lie in a folder called so, where shards are named in this way;
        without it the training part.

    Raises
    ------
    FileNotFoundError, ValueError
        Nothing there; tar and Parquet files side by side; no such split.
    """
    import fsspec

    found: list[Shard] = []
    spelled = _braces(place)
    try:
        for each in spelled:
            files, path = fsspec.core.url_to_fs(each)
            found += _listed(files, path, len(spelled) > 1 or each.startswith(("http://", "https://")))
    except ImportError as error:
        raise ValueError(f"'{place}' needs a package that is not installed: {error}") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileNotFoundError(f"'{place}' cannot be listed: {error}") from error
    if not found:
        raise FileNotFoundError(f"there is no shard at '{place}'; a shard ends in {', '.join(ENDINGS)}")
    if len({shard.parquet for shard in found}) > 1:
        raise ValueError(f"'{place}' holds tar and Parquet files; name one kind with a pattern, such as *.tar")
    if len(spelled) > 1:
        # Named alike in several folders, they are told apart by these.
        below = len(commonpath([shard.path for shard in found]))
        found = [replace(shard, name=shard.path[below:].lstrip("/")) for shard in found]
    return _of_split(found, split, place)


def _braces(text: str) -> list[str]:
    """Every spelling of ``{000..127}``; numbers keep their zeros."""
    pieces = RANGE.split(text)
    ranges = []
    for first, last in zip(pieces[1::3], pieces[2::3], strict=True):
        if int(first) > int(last):
            raise ValueError(f"{{{first}..{last}}} counts down; write {{{last}..{first}}}")
        ranges.append([str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)])
    fixed = pieces[::3]
    return ["".join(a + b for a, b in zip(fixed, [*chosen, ""], strict=True)) for chosen in product(*ranges)]


def _listed(files: Any, path: str, named: bool) -> list[Shard]:
    if named:
        shard = Shard(files, path, path.rpartition("/")[2])
        if shard.near and not files.exists(path):
            raise FileNotFoundError(f"there is no file {path}")
        return [shard]
    if any(mark in path for mark in "*?["):
        details = files.glob(path, detail=True)
        below = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
    elif files.isdir(path):
        details, below = files.find(path, detail=True), path.rstrip("/")
    elif files.exists(path):
        details, below = {path: files.info(path)}, path.rpartition("/")[0]
    else:
        return []
    return [
        Shard(files, name, name.removeprefix(below).lstrip("/"), int(about.get("size") or 0))
        for name, about in sorted(details.items())
        if name.lower().endswith(ENDINGS)
    ]


def _of_split(shards: list[Shard], split: str | None, place: str) -> list[Shard]:
    """The shards of a split, where all are called after splits."""
    named = [SPLIT_FOLDERS.get(re.split(r"[^a-z]", shard.name.lower())[0], "") for shard in shards]
    there = sorted({*named})
    if "" in there or len(there) < 2:
        if split not in (None, "all", *there):
            raise ValueError(f"the shards at '{place}' are not named after splits, so there is no part '{split}'")
        return shards
    wanted = split or ("train" if "train" in there else there[0])
    if wanted == "all":
        return shards
    if wanted not in there:
        raise ValueError(f"no shard at '{place}' is of the split '{wanted}'; there are {', '.join(there)}")
    return [shard for shard, its in zip(shards, named, strict=True) if its == wanted]
