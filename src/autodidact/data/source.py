"""Source: samples with stable ids and named fields; parts of one, and one with other or further fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from autodidact.data.batch import Batch, Ragged, Value
from autodidact.data.ids import Ids, positions_of
from autodidact.data.schema import Schema

if TYPE_CHECKING:
    from autodidact.data.store import Store

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Stretch:
    """Samples of a source that follow one another.

    Attributes
    ----------
    samples : how many they are, with those that cannot be read.
    names : of those that can be read.
    batch : of them; None where there is none.
    """

    samples: int
    names: Sequence[str]
    batch: Batch | None


class Source(ABC):
    """Samples that can be read by position, many at a time.

    Attributes
    ----------
    name : short name, part of every sample id.
    schema : fields of a sample.
    ids : (n,) stable ids.
    names : n human-readable names (file name, row number), unique inside the source.
    context : values that stand behind every batch.
    streaming : whether samples come in sequence only (`StreamSource`), so that nothing can be read by position.
    skipped : what could not be read, one ``{"name": ..., "reason": ...}`` each.
    notes : plain sentences on how the data was taken, for a person to read.
    """

    name: str
    schema: Schema
    ids: Ids
    names: Sequence[str]
    context: Mapping[str, Any]
    streaming: ClassVar[bool] = False
    skipped: Sequence[Mapping[str, str]] = ()
    notes: Sequence[str] = ()

    @abstractmethod
    def read(self, positions: Positions) -> dict[str, Value]:
        """Fields of the samples at `positions`; the first axis of each is ``len(positions)``."""

    @abstractmethod
    def column(self, field: str) -> NDArray[Any]:
        """All values of a scalar field (label, target, group), shape (n,), without reading the heavy fields."""

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: Positions) -> Batch:
        """The samples at `positions` as a batch on the CPU."""
        return Batch(torch.from_numpy(self.ids[positions]), self.read(positions), self.context)

    def in_order(self, size: int) -> Iterator[Batch]:
        """All samples once, in order, in batches of at most `size`."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def stretches(self, size: int, start: int = 0) -> Iterator[Stretch]:
        """All samples from number `start` on, once, in order and with their names, at most `size` at a time."""
        for first in range(start, len(self), size):
            positions = np.arange(first, min(first + size, len(self)))
            names = [self.names[position] for position in positions.tolist()]
            yield Stretch(len(positions), names, self.batch(positions))

    def undecoded(self, position: int) -> dict[str, bytes]:
        """The files that a sample was read from, by their endings ("jpg", "json"), as they are.

        Raises
        ------
        ValueError : it was read from no files of its own.
        """
        raise ValueError(f"the samples of '{self.name}' are no files of images that can be copied")

    def identity(self) -> bytes:
        """What tells this source from another."""
        return self.ids.tobytes()

    def only(self, ids: Sequence[int] | Ids) -> Source:
        """The samples with these ids, in this order. Unknown ids raise ValueError."""
        positions = positions_of(self.ids, ids)
        if (positions < 0).any():
            raise ValueError(f"{int((positions < 0).sum())} of {len(positions)} ids are not in source '{self.name}'")
        return Subset(self, positions)

    def at(self, positions: Sequence[int] | Positions) -> Source:
        """The samples at these positions, in this order."""
        return Subset(self, np.asarray(positions, dtype=np.int64))

    def without(self, field: str) -> Source:
        """This source without one of its fields."""
        return Without(self, field)

    def joined(self, store: Store, columns: Sequence[str] | None = None) -> Source:
        """This source with columns of a store as further fields; samples that the store lacks are left out."""
        return Joined(self, store, columns)


class ArraySource(Source):
    """A source whose fields lie in memory: arrays, tensors, `Ragged` or lists of text with n rows each."""

    def __init__(
        self,
        name: str,
        fields: Mapping[str, NDArray[Any] | torch.Tensor | Ragged | list[str]],
        schema: Schema,
        ids: Ids,
        names: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        for field, value in fields.items():
            if len(value) != len(ids):
                raise ValueError(f"field '{field}' has {len(value)} rows, the source has {len(ids)}")
        self.name, self.schema, self.ids = name, schema, np.asarray(ids, dtype=np.int64)
        self.names = names if names is not None else RowNames(len(ids))
        self.context = context or {}
        self._fields = fields

    def read(self, positions: Positions) -> dict[str, Value]:
        return {name: taken(value, positions) for name, value in self._fields.items()}

    def column(self, field: str) -> NDArray[Any]:
        return np.asarray(named(self._fields, field, self.name))


def taken(value: Any, positions: Positions) -> Value:
    """The rows of a column at these positions, as a batch has them."""
    if isinstance(value, Ragged):
        return value.select(torch.from_numpy(positions))
    if isinstance(value, list):
        return [value[i] for i in positions]
    if isinstance(value, torch.Tensor):
        return value[torch.from_numpy(positions)]
    return torch.from_numpy(np.ascontiguousarray(value[positions]))


class RowNames(Sequence[str]):
    """Names of numbered rows, made when asked for: ``prefix`` and the row number."""

    def __init__(self, rows: int, prefix: str = "") -> None:
        self.rows, self.prefix = range(rows), prefix

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [f"{self.prefix}{row}" for row in self.rows[index]]
        return f"{self.prefix}{self.rows[index]}"


class PickedNames(Sequence[str]):
    """Some of a longer sequence of names, in a given order."""

    def __init__(self, names: Sequence[str], positions: Positions) -> None:
        self.base, self.positions = names, positions

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self.base[i] for i in self.positions[index].tolist()]
        return self.base[int(self.positions[index])]


def named(fields: Mapping[str, Any], field: str, source: str) -> Any:
    """A field of a source by name; ValueError that names those it has."""
    if field not in fields:
        raise ValueError(f"source '{source}' has no field '{field}'; it has {', '.join(fields) or 'none'}")
    return fields[field]


class Subset(Source):
    """Some samples of another source, in a given order."""

    def __init__(self, base: Source, positions: Positions) -> None:
        self.base: Source = base.base if isinstance(base, Subset) else base
        self.positions: Positions = base.positions[positions] if isinstance(base, Subset) else positions
        self.name, self.schema, self.context = base.name, base.schema, base.context
        self.skipped, self.notes = base.skipped, base.notes
        self.ids, self.names = base.ids[positions], PickedNames(base.names, positions)

    def read(self, positions: Positions) -> dict[str, Value]:
        return self.base.read(self.positions[positions])

    def undecoded(self, position: int) -> dict[str, bytes]:
        return self.base.undecoded(int(self.positions[position]))

    def column(self, field: str) -> NDArray[Any]:
        return self.base.column(field)[self.positions]


class Without(Source):
    """A source without one of its fields."""

    def __init__(self, base: Source, field: str) -> None:
        self.base, self.field = base, field
        self.name, self.context, self.ids, self.names = base.name, base.context, base.ids, base.names
        self.skipped, self.notes = base.skipped, base.notes
        self.schema = Schema({name: entry for name, entry in base.schema.items() if name != field})

    def read(self, positions: Positions) -> dict[str, Value]:
        return {name: value for name, value in self.base.read(positions).items() if name != self.field}

    def column(self, field: str) -> NDArray[Any]:
        named(self.schema, field, self.name)
        return self.base.column(field)


class Edited(Source):
    """A source in which a function has changed one field of some samples.

    Samples are changed as they are read; the base, its files and the ids stay as they are.

    Parameters
    ----------
    base : the source.
    field : name of a field that is read as a tensor.
    function : from the field's rows to what stands in their place, of the same shape and type.
    positions : of the samples to change; default all.
    """

    def __init__(
        self,
        base: Source,
        field: str,
        function: Callable[[torch.Tensor], torch.Tensor],
        positions: Positions | None = None,
    ) -> None:
        named(base.schema, field, base.name)
        self.base, self.field, self.function = base, field, function
        self.name, self.schema, self.context, self.ids, self.names = (
            base.name, base.schema, base.context, base.ids, base.names
        )  # fmt: skip
        self.skipped, self.notes = base.skipped, base.notes
        self.edited = np.zeros(len(base), dtype=bool)
        self.edited[slice(None) if positions is None else positions] = True

    def read(self, positions: Positions) -> dict[str, Value]:
        fields = dict(self.base.read(positions))
        rows = torch.from_numpy(np.flatnonzero(self.edited[positions]))
        if len(rows):
            changed = fields[self.field].clone()  # type: ignore[union-attr]
            changed[rows] = self.function(changed[rows])
            fields[self.field] = changed
        return fields

    def column(self, field: str) -> NDArray[Any]:
        return self.base.column(field)


class Joined(Source):
    """A source with columns of a store beside its own fields.

    A column named as a field of the base replaces it. Samples absent from the store are left out and counted
    in `missing`.
    """

    def __init__(self, base: Source, store: Store, columns: Sequence[str] | None = None) -> None:
        rows = positions_of(store.ids, base.ids)
        keep = np.flatnonzero(rows >= 0)
        if len(keep) == 0:
            raise ValueError(f"no sample of '{base.name}' is in the store '{store.name}'")
        self.missing = len(base) - len(keep)
        self.base = base if self.missing == 0 else Subset(base, keep)
        rows = rows[keep]
        self.name, self.context = base.name, base.context
        self.skipped, self.notes = base.skipped, base.notes
        self.ids, self.names = self.base.ids, self.base.names
        wanted = store.columns if columns is None else columns
        self._columns = {name: _rows(store.column(name), rows) for name in wanted}
        self.schema = Schema({**base.schema, **{name: store.schema[name] for name in wanted}})

    def read(self, positions: Positions) -> dict[str, Value]:
        own: dict[str, Value] = {name: taken(value, positions) for name, value in self._columns.items()}
        return {**self.base.read(positions), **own}

    def column(self, field: str) -> NDArray[Any]:
        return np.asarray(self._columns[field]) if field in self._columns else self.base.column(field)


def _rows(values: Any, rows: Positions) -> Any:
    if isinstance(values, Ragged):
        return values.select(torch.from_numpy(rows))
    return [values[i] for i in rows] if isinstance(values, list) else values[rows]
