"""Store: values by sample id, append-only, with the reason for every row that was dropped; resumes by row."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autodidact.data.batch import Batch, Ragged
from autodidact.data.durable import write_aside
from autodidact.data.ids import Ids
from autodidact.data.schema import Field, Schema
from autodidact.data.source import Source

if TYPE_CHECKING:
    import pyarrow as pa


class Store:
    """Columns of values by sample id.

    Rows are added in parts; each part is written aside and renamed, so a crash loses at most the part being written.
    A part that is found damaged is set aside with a warning, and its samples count as not decided. One process writes
    to a store; without a folder it lives in memory.

    Parameters
    ----------
    folder : where the parts lie; an existing store there is opened and continued.
    name : used in messages; default the folder's name.
    schema : kinds of the columns, kept with the store (a time axis, classes); those not given follow the first rows:
        whole numbers are a "group", other numbers a "target", rows of numbers a "vector", truth values a "mask",
        `Ragged` a "sequence", anything else "text".
    """

    def __init__(
        self, folder: str | Path | None = None, *, name: str | None = None, schema: Mapping[str, Field] | None = None
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.name = name or (self.folder.name if self.folder else "store")
        self.schema = Schema(schema or {})
        self._parts: list[pa.Table] = []
        self._known: set[int] = set()
        self._next = 0
        self.dropped: dict[int, str] = {}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open(self.folder)

    def _open(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for part in sorted(folder.glob("part-*.parquet")):
            self._next = int(part.stem.removeprefix("part-")) + 1
            try:
                table = pq.read_table(part)
            except (OSError, pa.ArrowException) as error:
                part.rename(part.with_suffix(".damaged"))
                warnings.warn(f"{part} is damaged and set aside; its rows are due again ({error})", stacklevel=3)
                continue
            self._parts.append(table)
            self._known.update(table.column("id").to_pylist())
        described = folder / "schema.json"
        if described.exists():
            self.schema = Schema({**Schema.from_plain(json.loads(described.read_text())), **self.schema})
        journal = folder / "dropped.jsonl"
        if journal.exists():
            whole = 0
            for line in journal.read_bytes().splitlines(keepends=True):
                # A crash can leave half a line at the end: it is cut off, and that sample is judged again.
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                entry = json.loads(line)
                self.dropped[entry["id"]] = entry["reason"]
            os.truncate(journal, whole)

    @property
    def ids(self) -> Ids:
        """(n,) ids of the rows, in the order in which they were added."""
        parts = [part.column("id").to_numpy() for part in self._parts]
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)

    @property
    def columns(self) -> list[str]:
        return [name for name in self._parts[0].column_names if name != "id"] if self._parts else []

    def __len__(self) -> int:
        return len(self._known)

    def has(self, ids: Sequence[int] | Ids) -> np.ndarray:
        """(n,) bool: which ids are already decided, kept or dropped."""
        return np.array([int(id_) in self._known or int(id_) in self.dropped for id_ in ids], dtype=bool)

    def append(self, ids: Sequence[int] | Ids | torch.Tensor, **columns: Any) -> None:
        """Add rows.

        Parameters
        ----------
        ids : (n,) ids, none of them in the store yet.
        columns : name -> (n, ...) tensor or array, `Ragged`, or list of n strings, numbers or dictionaries.

        Raises
        ------
        ValueError
            An id is already there, lengths differ, or the columns or the shapes of their rows are not those of the
            earlier rows.
        FileExistsError
            Another process has written to the same store.
        """
        import pyarrow as pa

        keys = np.asarray(ids, dtype=np.int64)
        if "id" in columns or not columns:
            raise ValueError(f"rows of store '{self.name}' need at least one column, and none called 'id'")
        if self._parts and set(columns) != set(self.columns):
            raise ValueError(f"store '{self.name}' has columns {self.columns}, got {sorted(columns)}")
        if len(np.unique(keys)) < len(keys) or not self._known.isdisjoint(keys.tolist()):
            raise ValueError(f"store '{self.name}' already has some of these ids; rows are never overwritten")
        for name, value in columns.items():
            if len(value) != len(keys):
                raise ValueError(f"column '{name}' has {len(value)} rows for {len(keys)} ids")
        if len(keys) == 0:
            return
        arrays = {name: to_arrow(value) for name, value in columns.items()}
        for name, value in columns.items():
            self._describe(name, value)
        part = pa.table({"id": keys, **arrays})
        if self.folder is not None:
            self._write(self.folder, part)
        self._parts.append(part)
        self._known.update(keys.tolist())

    def _describe(self, name: str, value: Any) -> None:
        """Put the kind and the row shape of a column into the schema, or hold them against it."""
        shape = tuple(value.shape[1:]) if isinstance(value, torch.Tensor | np.ndarray) else ()
        known = self.schema.get(name)
        if known is None:
            self.schema[name] = Field(_kind(value), shape=shape)
        elif name not in self.columns and known.shape != shape:
            self.schema[name] = replace(known, shape=shape)
        elif known.shape != shape:
            raise ValueError(f"rows of column '{name}' of store '{self.name}' have shape {known.shape}, got {shape}")

    def _write(self, folder: Path, part: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._parts:
            write_aside(folder / "schema.json", json.dumps(self.schema.plain(), indent=1).encode())
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink)
        path = folder / f"part-{self._next:06d}.parquet"
        if path.exists():
            raise FileExistsError(f"{path} was written by another process; a store has one writer at a time")
        write_aside(path, sink.getvalue())
        self._next += 1

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
        import pyarrow as pa

        if name not in self.columns:
            raise ValueError(f"store '{self.name}' has no column '{name}'; it has {', '.join(self.columns) or 'none'}")
        parts = [part.select([name]) for part in self._parts]
        column = pa.concat_tables(parts, promote_options="permissive").column(name).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            return _numbers(column.flatten()).reshape(len(column), *self.schema[name].shape)
        if pa.types.is_large_list(column.type) and column.null_count == 0 and self.schema[name].kind == "sequence":
            values = column.flatten()
            lengths = torch.from_numpy(column.value_lengths().to_numpy().copy()).long()
            if pa.types.is_fixed_size_list(values.type):
                flat = _numbers(values.flatten()).reshape(len(values), values.type.list_size)
            else:
                flat = _numbers(values)
            return Ragged(torch.from_numpy(flat.copy()), lengths)
        if pa.types.is_primitive(column.type) and column.null_count == 0:
            return _numbers(column)
        return column.to_pylist()

    def table(self) -> pa.Table:
        """All rows as one Arrow table with the column ``id`` first."""
        import pyarrow as pa

        if not self._parts:
            return pa.table({"id": pa.array([], pa.int64())})
        return pa.concat_tables(self._parts, promote_options="permissive")


def _numbers(array: Any) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def _kind(value: Any) -> Any:
    if isinstance(value, Ragged):
        return "sequence"
    if isinstance(value, torch.Tensor | np.ndarray):
        array = value.detach().cpu().float().numpy() if isinstance(value, torch.Tensor) else value
        truth = value.dtype in (torch.bool, np.bool_)
        whole = not value.is_floating_point() if isinstance(value, torch.Tensor) else array.dtype.kind in "iu"
        if truth:
            return "mask"
        return "vector" if array.ndim > 1 else "group" if whole else "target"
    kinds = {type(item) for item in value if item is not None}
    if kinds == {bool}:
        return "mask"
    if kinds == {int}:
        return "group"
    return "target" if kinds and kinds <= {int, float} else "text"


def to_arrow(value: Any) -> Any:
    """A column of values as an Arrow array: `Ragged`, a tensor or array with a row a sample, or a list."""
    import pyarrow as pa

    if isinstance(value, Ragged):
        offsets = np.concatenate([[0], np.cumsum(value.lengths.cpu().numpy())])
        return pa.LargeListArray.from_arrays(offsets, to_arrow(value.values))
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray) and value.ndim > 1:
        width = int(np.prod(value.shape[1:]))
        return pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), width)
    return pa.array(value)


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
        listed: list[str | None] = list(_reasons(rows.pop("dropped", None), len(batch)))
        keep = np.array([i for i, reason in enumerate(listed) if reason is None], dtype=np.int64)
        kept = {name: _pick(value, keep, len(batch)) for name, value in rows.items()}
        if len(keep):
            store.append(batch.ids.numpy()[keep], **kept)
        store.drop({int(batch.ids[i]): reason for i, reason in enumerate(listed) if reason is not None})
    return store


def _reasons(given: Iterable[str | None] | None, size: int) -> list[str | None]:
    reasons: list[str | None] = [None] * size if given is None else list(given)
    if len(reasons) != size:
        raise ValueError(f"a derivation gave {len(reasons)} reasons in 'dropped' for {size} samples")
    return reasons


def _pick(value: Any, keep: np.ndarray, size: int) -> Any:
    if len(value) != size:
        raise ValueError(f"a derivation returned {len(value)} values for {size} samples")
    if len(keep) == size:
        return value
    if isinstance(value, Ragged):
        return value.select(torch.from_numpy(keep))
    return [value[i] for i in keep] if isinstance(value, list) else value[keep]
