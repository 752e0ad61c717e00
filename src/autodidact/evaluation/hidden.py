"""A source without its answers, so that what must not be read cannot be read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from numpy.typing import NDArray

from autodidact.data.batch import Value
from autodidact.data.schema import Schema
from autodidact.data.source import Positions, Source

ANSWERS = ("label", "target", "group")


class Hidden(Source):
    """Another source without some of its fields.

    Parameters
    ----------
    base : the source.
    kinds : kinds of fields that are left out: by default labels, targets and groups.
    """

    def __init__(self, base: Source, kinds: Collection[str] = ANSWERS) -> None:
        self.base = base
        self.name, self.ids, self.names, self.context = base.name, base.ids, base.names, base.context
        self.skipped, self.notes = base.skipped, base.notes
        self.schema = Schema({name: field for name, field in base.schema.items() if field.kind not in kinds})

    def read(self, positions: Positions) -> dict[str, Value]:
        return {name: value for name, value in self.base.read(positions).items() if name in self.schema}

    def column(self, field: str) -> NDArray[Any]:
        if field not in self.schema:
            raise ValueError(f"'{field}' is hidden here; '{self.name}' shows {', '.join(self.schema) or 'nothing'}")
        return self.base.column(field)
