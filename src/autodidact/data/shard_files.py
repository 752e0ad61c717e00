"""Shards: tar files in the layout of WebDataset, and Parquet files, on a disk or at any address that fsspec reads."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from autodidact.data.images import SUFFIXES, UnreadableImage, read_header
from autodidact.data.splits import SPLIT_FOLDERS
from autodidact.data.stream import Raw

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TAR = (".tar", ".tar.gz", ".tgz")
PARQUET = (".parquet", ".pq")
ENDINGS = (*TAR, *PARQUET)
IMAGE = "image"
ROWS = 256
"""Rows of a Parquet file that are read at once."""
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


TOLD = ("json", "cls", "txt")
"""Endings of what is told of a sample."""
BLOCK = 512
"""Files in a tar file fill whole blocks of so many bytes."""


class CutOff(Exception):
    """A shard that cannot be read, or not to its end; the message is the reason."""


class LostTouch(Exception):
    """A shard far away that cannot be read just now."""


class Span(NamedTuple):
    """A part of a file, in bytes."""

    offset: int
    size: int


class TarSample(NamedTuple):
    """Where a sample lies in a tar file: all its files with their headers, its image, and what its other files tell.

    `image` and the image's `path` are None where it has none.
    """

    whole: Span
    image: Span | None
    path: str | None
    told: Raw


class Group(NamedTuple):
    """A row group of a Parquet file: bytes of one of its columns, and for every row the path in the column's cell."""

    size: int
    paths: Sequence[str | None]


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
        keys = 0
        try:
            with _reasons(self.near), tarfile.open(self.path, "r:") as archive:
                for _ in groupby(_files(archive), _key_of):
                    keys += 1
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

    def places(self) -> Iterator[TarSample]:
        """Where the samples of an uncompressed tar file lie, in the order of `rows`; images are not read. CutOff and
        LostTouch as `rows`, ValueError where its address gives no parts of files."""
        with _reasons(self.near), self._opened() as file:
            if getattr(file, "size", 0) is None:
                raise ValueError(f"'{self.path}' is not given in parts; copy the shards to a disk to read by position")
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for key, group in groupby(_files(archive), _key_of):
                    parts: dict[str, bytes | Span] = {}
                    spans = []
                    for member in group:
                        ending = _key(member.name)[1]
                        spans += [member.offset, member.offset_data + -(-member.size // BLOCK) * BLOCK]
                        if _is_image(ending):
                            parts[ending] = Span(member.offset_data, member.size)
                        elif ending in TOLD:
                            file.seek(member.offset_data)
                            parts[ending] = content = file.read(member.size)
                            if len(content) < member.size:
                                raise tarfile.ReadError("unexpected end of data")
                    row = dict(_row(key, parts))
                    image = row.pop(IMAGE, None) or {"bytes": None, "path": None}
                    yield TarSample(Span(min(spans), max(spans) - min(spans)), image["bytes"], image["path"], row)

    def read(self, span: Span) -> bytes:
        """Bytes of it; fewer where it ends before. CutOff where they cannot be read, LostTouch where they may later."""
        with _reasons(self.near):
            if not self.near:
                return bytes(self.files.cat_file(self.path, span.offset, span.offset + span.size))
            with open(self.path, "rb") as file:  # noqa: PTH123 (cheaper than Path, and once an image)
                file.seek(span.offset)
                return file.read(span.size)

    def groups(self, column: str) -> Iterator[Group]:
        """The row groups of a Parquet file. CutOff and LostTouch as `rows`, ValueError where it lacks the column."""
        import pyarrow.compute as compute
        import pyarrow.parquet as parquet

        with _reasons(self.near), self._opened() as opened:
            file = parquet.ParquetFile(opened)
            schema = file.schema_arrow
            if column not in schema.names:
                raise ValueError(f"{self.name} has no column '{column}'; it has {', '.join(schema.names)}")
            kind = schema.field(column).type
            pathed = str(kind).startswith("struct") and kind.get_field_index("path") >= 0
            for number in range(file.num_row_groups):
                about = file.metadata.row_group(number)
                chunks = [about.column(k) for k in range(about.num_columns)]
                size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column)
                paths = [None] * about.num_rows
                if pathed:
                    cells = file.read_row_group(number, columns=[f"{column}.path"]).column(column)
                    paths = compute.struct_field(cells, "path").to_pylist()
                yield Group(size, paths)

    def group(self, number: int, columns: Sequence[str] = (), *, without: str | None = None) -> pa.Table:
        """Some columns of a row group of a Parquet file, or all `without` one. CutOff and LostTouch as `rows`."""
        import pyarrow.parquet as parquet

        with _reasons(self.near), self._opened() as opened:
            file = parquet.ParquetFile(opened)
            wanted = columns if without is None else [name for name in file.schema_arrow.names if name != without]
            return file.read_row_group(number, [*wanted])

    def frame(self) -> pd.DataFrame:
        """A Parquet file as a data frame. CutOff and LostTouch as `rows`."""
        import pyarrow.parquet as parquet

        with _reasons(self.near), self._opened() as opened:
            return parquet.read_table(opened).to_pandas(ignore_metadata=True)

    def _opened(self) -> Any:
        """It, to be read by one thread."""
        if self.near:
            return Path(self.path).open("rb")
        file = self.files.open(self.path, "rb")
        # Files in memory are one object, with one position, for all who open them.
        return io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else file

    def _tar_rows(self) -> Iterator[Raw]:
        with (
            _reasons(self.near),
            self.files.open(self.path, "rb") as file,
            tarfile.open(fileobj=file, mode="r|*") as archive,
        ):
            for key, group in groupby(_files(archive), _key_of):
                yield _row(key, {_key(member.name)[1]: _content(archive, member) for member in group})

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


def _files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files in an archive. It keeps no list of them, which would grow with its length."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        if member.isfile():
            yield member


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


def tar_files(content: bytes) -> dict[str, bytes]:
    """The files of one sample by their endings, from the bytes of its place in a tar file."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        return {_key(member.name)[1]: _content(archive, member) for member in _files(archive)}


def _key_of(member: tarfile.TarInfo) -> str:
    return _key(member.name)[0]


def _is_image(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in SUFFIXES


def _key(path: str) -> tuple[str, str]:
    """What the files of one sample share, and the ending after the first dot of the name."""
    folder, _, base = path.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}/{stem}", ending.lower()


def _row(key: str, parts: Mapping[str, Any]) -> Raw:
    """The files of one key: an image, and what the others say. ``cls`` is a number or a name, ``json`` has columns."""
    row: dict[str, Any] = {}
    for ending, content in parts.items():
        if _is_image(ending):
            row.setdefault(IMAGE, {"bytes": content, "path": f"{key}.{ending}"})
        elif ending == "json":
            try:
                told = json.loads(content)
            except ValueError:
                continue
            if not isinstance(told, Mapping):
                continue
            row |= {name: value for name, value in told.items() if name != IMAGE and not isinstance(value, list | dict)}
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
