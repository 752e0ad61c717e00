"""Source: samples with stable ids and named fields, and the ways to combine sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from autodidact.data.batch import Batch, Ragged, Value
from autodidact.data.ids import Ids, positions_of, sample_id, scrambled
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
        return {name: _take(value, positions) for name, value in self._fields.items()}

    def column(self, field: str) -> NDArray[Any]:
        return np.asarray(named(self._fields, field, self.name))


def _take(value: Any, positions: Positions) -> Value:
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
        own: dict[str, Value] = {name: _take(value, positions) for name, value in self._columns.items()}
        return {**self.base.read(positions), **own}

    def column(self, field: str) -> NDArray[Any]:
        return np.asarray(self._columns[field]) if field in self._columns else self.base.column(field)


def _rows(values: Any, rows: Positions) -> Any:
    if isinstance(values, Ragged):
        return values.select(torch.from_numpy(rows))
    return [values[i] for i in rows] if isinstance(values, list) else values[rows]


class United(Source):
    """The samples of several sources as those of one, in their order.

    It has the fields that all of the sources have. Where only some say which part of a canvas holds the image ("box"),
    the others' images fill their canvas. Ids are those of the sources, but for a source of which an earlier one has
    some: its ids are derived anew from its key.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)
        first = next(iter(self.sources.values()))
        self.name = "+".join(source.name for source in self.sources.values())
        self.context = {k: v for source in self.sources.values() for k, v in source.context.items()}
        self.skipped = [entry for source in self.sources.values() for entry in source.skipped]
        self.notes = [f"{k}: {note}" for k, source in self.sources.items() for note in source.notes]
        shared = [field for field in first.schema if all(field in s.schema for s in self.sources.values())]
        self.boxed = any("box" in source.schema for source in self.sources.values())
        self.schema = Schema({field: first.schema[field] for field in shared})
        if self.boxed:
            self.schema["box"] = next(s.schema["box"] for s in self.sources.values() if "box" in s.schema)
        for key, source in self.sources.items():
            for field, entry in self.schema.items():
                other = source.schema.get(field, entry)
                if other != entry:
                    raise ValueError(f"field '{field}' of '{key}' is {other}, in an earlier source it is {entry}")
        self._starts = np.cumsum([0, *(len(source) for source in self.sources.values())])
        self.ids = np.empty(0, dtype=np.int64)
        for key, source in self.sources.items():
            known = bool((positions_of(self.ids, source.ids) >= 0).any())
            ids = scrambled(source.ids, sample_id(self.name, key)) if known else source.ids
            self.ids = np.concatenate([self.ids, ids])

    @property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        return [f"{key}/{name}" for key, source in self.sources.items() for name in source.names]

    def read(self, positions: Positions) -> dict[str, Value]:
        return _read_in_turn(list(self.sources.values()), self._starts, positions, self._fields)

    def column(self, field: str) -> NDArray[Any]:
        named(self.schema, field, self.name)
        return np.concatenate([source.column(field) for source in self.sources.values()])

    def _fields(self, given: Mapping[str, Value]) -> dict[str, Value]:
        found = {field: given[field] for field in self.schema if field in given}
        if self.boxed and "box" not in found:
            image = found[str(self.schema.first("image"))]
            assert isinstance(image, torch.Tensor)
            whole = torch.tensor([0.0, 0.0, *map(float, image.shape[2:])])
            found["box"] = whole.expand(len(image), 4)
        return found


class Together(Source):
    """Several sources, one batch of each in every step (labelled beside unlabelled, catalogue beside clicks).

    Attributes
    ----------
    sources : streams by name.
    shares : positive weight of each stream.
    """

    def __init__(self, sources: Mapping[str, Source], shares: Mapping[str, float]) -> None:
        self.sources, self.shares = dict(sources), dict(shares)
        self.name = "+".join(source.name for source in sources.values())
        self.schema = Schema({f"{k}.{f}": field for k, s in sources.items() for f, field in s.schema.items()})
        self.ids = np.concatenate([source.ids for source in sources.values()])
        self.context = {k: v for source in sources.values() for k, v in source.context.items()}
        self.skipped = [entry for source in sources.values() for entry in source.skipped]
        self.notes = [f"{k}: {note}" for k, source in sources.items() for note in source.notes]

    @property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        return [f"{k}/{name}" for k, source in self.sources.items() for name in source.names]

    def read(self, positions: Positions) -> dict[str, Value]:
        raise TypeError("a source of several streams is read stream by stream from .sources; its batches have .streams")

    def column(self, field: str) -> NDArray[Any]:
        stream, _, name = field.partition(".")
        return named(self.sources, stream, self.name).column(name)


class Mixed(Together):
    """Several sources that share the steps: each batch comes from one of them, chosen at the given rates."""


class Chained(Together):
    """Several sources in sequence: an epoch passes over the first, then the second, and so on.

    A batch is the own batch of the source whose turn it is. Read by position, the sources lie one after another, as far
    as they have the same fields.
    """

    def __init__(self, sources: Mapping[str, Source], shares: Mapping[str, float]) -> None:
        super().__init__(sources, shares)
        self._starts = np.cumsum([0, *(len(source) for source in sources.values())])
        self.schema = Schema()
        for name, source in sources.items():
            for field, entry in source.schema.items():
                known = self.schema.setdefault(field, entry)
                if known.kind != entry.kind or known.classes != entry.classes:
                    raise ValueError(f"field '{field}' of '{name}' is {entry}, in an earlier source it is {known}")
                if known.shape != entry.shape:
                    self.schema[field] = replace(known, shape=())

    def read(self, positions: Positions) -> dict[str, Value]:
        try:
            return _read_in_turn(list(self.sources.values()), self._starts, positions)
        except KeyError as error:
            message = f"the sources of '{self.name}' have different fields; read them one by one from .sources"
            raise TypeError(message) from error

    def column(self, field: str) -> NDArray[Any]:
        return np.concatenate([source.column(field) for source in self.sources.values()])


def _read_in_turn(
    sources: Sequence[Source],
    starts: Positions,
    positions: Positions,
    fields: Callable[[Mapping[str, Value]], Mapping[str, Value]] = dict,
) -> dict[str, Value]:
    """Samples of sources that lie one after another; KeyError where they differ in what `fields` makes of theirs."""
    owner = np.searchsorted(starts, positions, side="right") - 1
    parts = [
        fields(source.read(positions[owner == k] - starts[k])) for k, source in enumerate(sources) if (owner == k).any()
    ]
    if different := {name for part in parts for name in part.keys() ^ parts[0].keys()}:
        raise KeyError(*sorted(different))
    back = np.argsort(np.argsort(owner, kind="stable"), kind="stable")
    return {name: _take(_concatenated([part[name] for part in parts]), back) for name in parts[0]}


def _concatenated(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Ragged):
        return Ragged(torch.cat([v.values for v in values]), torch.cat([v.lengths for v in values]))
    return [item for value in values for item in value] if isinstance(values[0], list) else torch.cat(list(values))


def together(shares: Mapping[str, float] | None = None, **sources: Source) -> Together:
    """One batch of every source in each step.

    Parameters
    ----------
    shares : size of each stream's batch relative to the batch size; default 1 for each.
    sources : streams by name. The first sets the length of an epoch; the others start over when they run out.
    """
    return Together(_some(sources), _weights(sources, shares))


def mixed(rates: Mapping[str, float] | None = None, **sources: Source) -> Mixed:
    """Each batch from one source, in an order drawn at `rates` (default: as many as each source holds)."""
    rates = rates if rates is not None else {name: len(source) for name, source in sources.items()}
    if absent := set(sources) - set(rates):
        raise ValueError(f"no rate for {', '.join(sorted(absent))}; give one for each source, or none")
    return Mixed(_some(sources), _weights(sources, rates))


def chained(**sources: Source) -> Chained:
    """The sources one after another within an epoch."""
    return Chained(_some(sources), dict.fromkeys(sources, 1.0))


def united(**sources: Source) -> United:
    """The samples of all sources as those of one source, mixed in every batch."""
    return United(_some(sources))


def _some(sources: Mapping[str, Source]) -> Mapping[str, Source]:
    if not sources:
        raise ValueError("at least one source is needed")
    if streams := [name for name, source in sources.items() if source.streaming]:
        raise ValueError(f"'{streams[0]}' is a stream; only sources that are read by position can be combined")
    return sources


def _weights(sources: Mapping[str, Source], given: Mapping[str, float] | None) -> dict[str, float]:
    given = given or {}
    if unknown := set(given) - set(sources):
        raise ValueError(f"no source named {', '.join(sorted(unknown))}; there is {', '.join(sources)}")
    weights = {name: float(given.get(name, 1.0)) for name in sources}
    if any(weight <= 0 for weight in weights.values()):
        raise ValueError(f"shares and rates must be positive, got {weights}")
    return weights
