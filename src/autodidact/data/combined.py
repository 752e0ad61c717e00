"""Several sources as one: side by side, in turn, one after another, or as one set of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autodidact.data.batch import Ragged, Value
from autodidact.data.ids import positions_of, sample_id, scrambled
from autodidact.data.schema import Schema
from autodidact.data.source import Positions, Source, named, taken


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
    return {name: taken(_concatenated([part[name] for part in parts]), back) for name in parts[0]}


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
