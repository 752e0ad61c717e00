"""Store: values by sample id, append-only, with the reason for every row that was dropped; resumes by row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from autodidact.data.batch import Batch, Ragged
from autodidact.data.ids import Ids
from autodidact.data.schema import Field, Schema
from autodidact.data.source import Source


class Store:
    """Columns of values by sample id.

    Rows are added in parts; each part is written aside and renamed, so a crash loses at most the part being written.
    Without a folder the store lives in memory.

    Parameters
    ----------
    folder : where the parts lie; an existing store there is opened and continued.
    name : used in messages; default the folder's name.
    schema : kinds of the columns, kept with the store (a time axis, classes).
    """

    def __init__(
        self, folder: str | Path | None = None, *, name: str | None = None, schema: Mapping[str, Field] | None = None
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.name = name or (self.folder.name if self.folder else "store")
        self.schema = Schema(schema or {})
        self._parts: list[pa.Table] = []
        self.dropped: dict[int, str] = {}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open()

    def _open(self) -> None:
        assert self.folder is not None
        self._parts = [pq.read_table(part) for part in sorted(self.folder.glob("part-*.parquet"))]
        described = self.folder / "schema.json"
        if described.exists():
            self.schema = Schema({**Schema.from_plain(json.loads(described.read_text())), **self.schema})
        elif self.schema:
            _write_aside(described, json.dumps(self.schema.plain(), indent=1).encode())
        journal = self.folder / "dropped.jsonl"
        if journal.exists():
            for line in journal.read_text().splitlines():
                # A crash can leave half a line at the end: that row is simply judged again.
                if line.endswith("}"):
                    entry = json.loads(line)
                    self.dropped[entry["id"]] = entry["reason"]

    @property
    def ids(self) -> Ids:
        """(n,) ids of the rows, in the order in which they were added."""
        parts = [part.column("id").to_numpy() for part in self._parts]
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)

    @property
    def columns(self) -> list[str]:
        return [name for name in self._parts[0].column_names if name != "id"] if self._parts else []

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def has(self, ids: Sequence[int] | Ids) -> np.ndarray:
        """(n,) bool: which ids are already decided, kept or dropped."""
        ids = np.asarray(ids, dtype=np.int64)
        return np.isin(ids, self.ids) | np.isin(ids, np.fromiter(self.dropped, dtype=np.int64))

    def append(self, ids: Sequence[int] | Ids | torch.Tensor, **columns: Any) -> None:
        """Add rows.

        Parameters
        ----------
        ids : (n,) ids, none of them in the store yet.
        columns : name -> (n, ...) tensor or array, `Ragged`, or list of n strings, numbers or dictionaries.

        Raises
        ------
        ValueError
            An id is already there, lengths differ, or the columns are not those of the earlier rows.
        """
        keys = np.asarray(ids, dtype=np.int64)
        if self._parts and set(columns) != set(self.columns):
            raise ValueError(f"store '{self.name}' has columns {self.columns}, got {sorted(columns)}")
        if len(np.unique(keys)) < len(keys) or np.isin(keys, self.ids).any():
            raise ValueError(f"store '{self.name}' already has some of these ids; rows are never overwritten")
        arrays = {name: _to_arrow(value) for name, value in columns.items()}
        for name, array in arrays.items():
            if len(array) != len(keys):
                raise ValueError(f"column '{name}' has {len(array)} rows for {len(keys)} ids")
        part = pa.table({"id": keys, **arrays})
        for name, value in columns.items():
            if isinstance(value, torch.Tensor | np.ndarray) and value.ndim > 2:
                self.schema.setdefault(name, Field("vector", shape=tuple(value.shape[1:])))
        if self.folder is not None:
            if self.schema and not (self.folder / "schema.json").exists():
                _write_aside(self.folder / "schema.json", json.dumps(self.schema.plain(), indent=1).encode())
            sink = pa.BufferOutputStream()
            pq.write_table(part, sink)
            _write_aside(self.folder / f"part-{len(self._parts):06d}.parquet", sink.getvalue())
        self._parts.append(part)

    def drop(self, reasons: Mapping[int, str]) -> None:
        """Record samples that were looked at and not kept, each with its reason."""
        if self.folder is not None and reasons:
            with (self.folder / "dropped.jsonl").open("a") as journal:
                journal.writelines(
                    json.dumps({"id": int(id_), "reason": reason}) + "\n" for id_, reason in reasons.items()
                )
                journal.flush()
                os.fsync(journal.fileno())
        self.dropped.update({int(id_): reason for id_, reason in reasons.items()})

    def column(self, name: str) -> np.ndarray | Ragged | list[Any]:
        """Values of one column: an array where the rows have one shape, `Ragged` numbers, or a list."""
        if name not in self.columns:
            raise ValueError(f"store '{self.name}' has no column '{name}'; it has {', '.join(self.columns) or 'none'}")
        column = pa.concat_tables([part.select([name]) for part in self._parts]).column(name).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            flat = column.flatten().to_numpy()
            shape = self.schema[name].shape if name in self.schema and self.schema[name].shape else (-1,)
            return flat.reshape(len(column), *shape)
        if pa.types.is_large_list(column.type) or pa.types.is_list(column.type):
            if pa.types.is_primitive(column.type.value_type):
                lengths = column.value_lengths().to_numpy()
                return Ragged(torch.from_numpy(column.flatten().to_numpy().copy()), torch.from_numpy(lengths).long())
            return column.to_pylist()
        if pa.types.is_primitive(column.type) and column.null_count == 0:
            return column.to_numpy(zero_copy_only=False)
        return column.to_pylist()

    def table(self) -> pa.Table:
        """All rows as one Arrow table with the column ``id`` first."""
        return pa.concat_tables(self._parts) if self._parts else pa.table({"id": pa.array([], pa.int64())})


def _to_arrow(value: Any) -> pa.Array:
    if isinstance(value, Ragged):
        offsets = np.concatenate([[0], np.cumsum(value.lengths.numpy())])
        return pa.LargeListArray.from_arrays(offsets, value.values.detach().cpu().numpy())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray) and value.ndim > 1:
        width = int(np.prod(value.shape[1:]))
        return pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), width)
    return pa.array(value)


def _write_aside(path: Path, content: Any) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


Rows = Mapping[str, Any]
Derivation = Callable[[Batch], Rows]


def derive(function: Derivation, source: Source, store: Store, *, batch_size: int = 256) -> Store:
    """Visit every sample that the store has not decided yet, and keep what `function` says of it.

    Parameters
    ----------
    function : called with a `Batch`; returns columns of the batch's length. Rows may be refused with the reserved key
        ``dropped``: a list of reasons, None where the row is kept.
    source : samples to visit, in order.
    store : where the rows go. Each batch is durable once it returns, so a paid call is never made twice.
    batch_size : samples in a call.
    """
    todo = np.flatnonzero(~store.has(source.ids))
    for start in range(0, len(todo), batch_size):
        batch = source.batch(todo[start : start + batch_size])
        rows = dict(function(batch))
        reasons: Iterable[str | None] | None = rows.pop("dropped", None)
        keep = np.arange(len(batch))
        if reasons is not None:
            listed = list(reasons)
            store.drop({int(batch.ids[i]): reason for i, reason in enumerate(listed) if reason is not None})
            keep = np.array([i for i, reason in enumerate(listed) if reason is None], dtype=np.int64)
        if len(keep):
            kept = {name: _pick(value, keep, len(batch)) for name, value in rows.items()}
            store.append(batch.ids.numpy()[keep], **kept)
    return store


def _pick(value: Any, keep: np.ndarray, size: int) -> Any:
    if len(value) != size:
        raise ValueError(f"a derivation returned {len(value)} values for {size} samples")
    if len(keep) == size:
        return value
    if isinstance(value, Ragged):
        return value.select(torch.from_numpy(keep))
    return [value[i] for i in keep] if isinstance(value, list) else value[keep]
