"""Pairs of samples as samples: what is trained on two things that belong together reads both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodidact.data.batch import Value
from autodidact.data.ids import Ids, positions_of, sample_id, scrambled
from autodidact.data.schema import Schema
from autodidact.data.source import Positions, Source
from autodidact.data.store import Store

OTHER = "other_"
"""Stands before the names of the second sample's fields."""


def pair_ids(first: Ids, second: Ids) -> Ids:
    """The id of each pair of two ids, in this order."""
    return scrambled(scrambled(first, sample_id("pair", "first")) ^ second, sample_id("pair", "second"))


class Pairs(Source):
    """Pairs of samples of another source.

    The fields of the first sample have their own names, those of the second stand behind ``other_``.

    Parameters
    ----------
    base : the samples.
    pairs : (n, 2) positions in it.
    """

    def __init__(self, base: Source, pairs: NDArray[np.int64]) -> None:
        if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
            raise ValueError(f"pairs of '{base.name}' are two positions each, and at least one; got {pairs.shape}")
        self.base, self.pairs = base, pairs
        self.name, self.context = f"{base.name} pairs", base.context
        self.ids = pair_ids(base.ids[pairs[:, 0]], base.ids[pairs[:, 1]])
        self.schema = Schema({**base.schema, **{OTHER + name: field for name, field in base.schema.items()}})
        self.skipped, self.notes = base.skipped, base.notes

    @property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        return [f"{self.base.names[a]} + {self.base.names[b]}" for a, b in self.pairs]

    def read(self, positions: Positions) -> dict[str, Value]:
        first, second = (self.base.read(ends) for ends in self.pairs[positions].T)
        return {**first, **{OTHER + name: value for name, value in second.items()}}

    def column(self, field: str) -> NDArray[Any]:
        end = int(field.startswith(OTHER) and field not in self.base.schema)
        return self.base.column(field.removeprefix(OTHER) if end else field)[self.pairs[:, end]]


def stored_pairs(base: Source, store: Store, kind: str) -> Pairs:
    """The pairs of one kind that a store holds as columns ``first`` and ``second`` (sample ids) and ``kind``.

    Raises
    ------
    ValueError
        There is no pair of that kind.
    """
    chosen = np.flatnonzero(np.asarray(store.column("kind")) == kind)
    ends = [positions_of(base.ids, np.asarray(store.column(name))[chosen]) for name in ("first", "second")]
    if len(chosen) == 0:
        raise ValueError(f"store '{store.name}' holds no pair of kind '{kind}'")
    return Pairs(base, np.stack(ends, axis=1))
