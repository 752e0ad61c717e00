"""Rows that are written as they are made, in parts, until all of them are there and become one file."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from autodidact.data.durable import aside, write_aside
from autodidact.data.store import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 64 << 20
"""Of the rows that are held in memory before they are written together."""
SHAPE = b"shape"


def table_of(ids: Int64[np.ndarray, " n"], names: Sequence[str], columns: Mapping[str, Any]) -> pa.Table:
    """Rows as an Arrow table: ``id``, ``name``, then the columns; the shape of a row stands beside its column.

    Names are text that any reader takes: bytes of a file name that are no UTF-8 are written as \\xNN.
    """
    import pyarrow as pa

    plain = pa.array([os.fsencode(name).decode("utf-8", "backslashreplace") for name in names])
    fields, arrays = [pa.field("id", pa.int64()), pa.field("name", pa.string())], [pa.array(ids), plain]
    for column, values in columns.items():
        array = to_arrow(values)
        shape = list(getattr(values, "shape", (0,))[1:])
        fields.append(pa.field(column, array.type, metadata={SHAPE: json.dumps(shape).encode()}))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


class Parts:
    """Rows of one table in files beside its own, each of a stretch of the data.

    A part is whole or not there. Parts that do not follow on one another from the first sample are removed.

    Parameters
    ----------
    target : the file that the rows become; the parts lie in ``.NAME.parts`` beside it.
    key : what the rows are made by and of; parts of another are removed.

    Attributes
    ----------
    samples : of the data that the parts cover.
    """

    def __init__(self, target: Path, key: str) -> None:
        self.target, self.samples = target, 0
        self.folder = target.with_name(f".{target.name}.parts")
        if self.folder.exists() and not (self.folder / key).exists():
            shutil.rmtree(self.folder)
        self._own = self.folder / key
        self._own.mkdir(parents=True, exist_ok=True)
        self._files: list[Path] = []
        for file in sorted(self._own.glob("*.parquet")):
            start, _, end = file.stem.partition("-")
            if int(start) == self.samples and _readable(file):
                self._files.append(file)
                self.samples = int(end)
            else:
                file.unlink()

    def add(self, rows: pa.Table, samples: int) -> None:
        """Rows that follow, with which the parts cover so many samples."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, **_packing(rows.schema))
        file = self._own / f"{self.samples:018d}-{samples:018d}.parquet"
        write_aside(file, sink.getvalue())
        self._files.append(file)
        self.samples = samples

    def finish(self, main: Callable[[Sequence[str]], str]) -> Path:
        """Make the file of the parts, and remove them.

        Parameters
        ----------
        main : which of the columns a ``.npy`` holds.

        Raises
        ------
        ValueError : there are no rows.
        """
        import pyarrow.parquet as pq

        if not self._files:
            raise ValueError(f"there is no row to write to {self.target.name}: none of the samples could be read")
        if self.target.suffix.lower() == ".parquet":
            self._write_parquet()
        elif self.target.suffix.lower() == ".jsonl":
            self._write_jsonl()
        else:
            self._write_npy(main(pq.read_schema(self._files[0]).names[2:]))
        shutil.rmtree(self.folder)
        return self.target

    def _write_parquet(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if len(self._files) == 1:
            self._files[0].replace(self.target)
            return
        schemas = [pq.read_schema(file) for file in self._files]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        with aside(self.target) as beside, pq.ParquetWriter(beside, schema, **_packing(schema)) as writer:
            for rows in _together(self._tables(schema)):
                writer.write_table(rows)

    def _write_jsonl(self) -> None:
        with aside(self.target) as beside, beside.open("w", encoding="utf-8") as file:
            for rows in self._tables(None):
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.to_pylist())

    def _write_npy(self, main: str) -> None:
        import pyarrow.parquet as pq

        count = sum(pq.read_metadata(file).num_rows for file in self._files)
        field = pq.read_schema(self._files[0]).field(main)
        shape = json.loads(field.metadata[SHAPE])
        kind = getattr(field.type, "value_type", field.type).to_pandas_dtype()
        listed = self.target.with_suffix(".names.csv")
        with aside(self.target) as beside, aside(listed) as names:
            values = np.lib.format.open_memmap(beside, mode="w+", dtype=kind, shape=(count, *shape))
            done = 0
            with names.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["row", "id", "name"])
                for rows in self._tables(None):
                    places = range(done, done + len(rows))
                    writer.writerows(zip(places, rows["id"].to_pylist(), rows["name"].to_pylist(), strict=True))
                    column = rows[main].combine_chunks()
                    flat = column.flatten() if shape else column
                    values[done : done + len(rows)] = flat.to_numpy(zero_copy_only=False).reshape(len(rows), *shape)
                    done += len(rows)
            values.flush()
            del values

    def _tables(self, schema: pa.Schema | None) -> Iterator[pa.Table]:
        import pyarrow.parquet as pq

        for file in self._files:
            rows = pq.read_table(file)
            yield rows if schema is None else rows.cast(schema)


def _packing(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: text small. Numbers of embeddings are hardly ever equal, and to look for those that are
    takes longer than to write them."""
    import pyarrow as pa

    text = [field.name for field in schema if pa.types.is_string(field.type)]
    return {"use_dictionary": text, "compression": dict.fromkeys(text, "snappy")}


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns as one."""
    import pyarrow as pa

    return pa.concat_tables(tables, promote_options="permissive")


def _together(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Small tables as fewer larger ones."""
    waiting: list[pa.Table] = []
    for rows in tables:
        waiting.append(rows)
        if sum(table.nbytes for table in waiting) >= GROUP_BYTES:
            yield concatenated(waiting)
            waiting = []
    if waiting:
        yield concatenated(waiting)


def _readable(file: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_metadata(file)
    except (OSError, pa.ArrowException):
        return False
    return True
