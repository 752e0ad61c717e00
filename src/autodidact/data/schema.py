"""What a source says about its fields: kind, unit, classes, time axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "image",  # (C, H, W) uint8 or float in [0, 1]
    "numeric",  # (columns,) float32, NaN where missing
    "categorical",  # (columns,) int64, -1 where missing
    "label",  # scalar int64 class, -1 where unknown
    "target",  # scalar float32 of a regression, NaN where unknown
    "group",  # scalar int64: subject, recording, cluster, domain
    "sequence",  # Ragged of tokens or samples along time
    "vector",  # (d,) float32: an embedding, a feature vector
    "text",  # str
    "options",  # list of str: a closed set of answers
    "box",  # (4,) float32: top, left, height, width in pixels of the part of a canvas that holds the image
    "index",  # scalar or (k,) int64 position in a context (node, user, item)
    "mask",  # bool
]


@dataclass(frozen=True)
class Field:
    """One named column of a source.

    Attributes
    ----------
    kind : what the values are, see `Kind`.
    shape : shape of one sample, empty for a scalar or where it varies.
    unit : physical unit, where there is one ("Hz", "mm", "USD").
    classes : names of the classes of a label, in the order of its integers.
    columns : names of the columns of a table field.
    units : unit of each column of a numeric field, None where unknown; "days" marks a date (days since 1970-01-01 UTC).
    cardinalities : number of categories of each column of a categorical field.
    categories : names of the categories of each column of a categorical field, in the order of its integers.
    time_axis : axis along which a cut of the sample also cuts this field; None where there is none.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    unit: str | None = None
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    units: tuple[str | None, ...] = ()
    cardinalities: tuple[int, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    time_axis: int | None = None


class Schema(dict[str, Field]):
    """Field names to fields."""

    def first(self, kind: Kind) -> str | None:
        """Name of the first field of a kind, None where there is none."""
        return next((name for name, field in self.items() if field.kind == kind), None)

    def require(self, needs: Mapping[str, Kind], who: str, *, one_suffices: bool = False) -> None:
        """Raise ValueError naming the first field that `who` needs and this schema lacks.

        With `one_suffices`, one of the fields is enough (a table with numeric columns, categorical ones, or both).
        """
        missing = {name: kind for name, kind in needs.items() if name not in self or self[name].kind != kind}
        if one_suffices and len(missing) < len(needs):
            return
        if missing:
            wanted = [f"a field '{name}' of kind {kind}" for name, kind in missing.items()]
            has = ", ".join(f"{n} ({f.kind})" for n, f in self.items()) or "no field"
            raise ValueError(f"{who} needs {' or '.join(wanted) if one_suffices else wanted[0]}; this data has {has}")

    def plain(self) -> dict[str, dict[str, Any]]:
        """The schema as JSON-ready dictionaries."""
        return {
            name: {key: _listed(value) for key, value in vars(field).items() if value not in ((), None)}
            for name, field in self.items()
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Mapping[str, Any]]) -> Schema:
        """Read back what `plain` wrote."""
        return cls({name: Field(**{k: _frozen(v) for k, v in entry.items()}) for name, entry in plain.items()})


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
