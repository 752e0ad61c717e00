"""Which group each sample belongs to: a field, a column of a table, or a column of a file that names the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autodidact.catalog.nearest import unknown
from autodidact.data.labels import from_file, labels_file
from autodidact.data.source import Source


def groups_of(source: Source, where: str, beside: Path | None = None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes of the samples' groups, -1 where unknown, and the names of the groups.

    Parameters
    ----------
    source : the samples.
    where : a field of kind label or group; a categorical column of a table; or ``FILE[:FILE_COLUMN][:COLUMN]``, a CSV
        or Parquet file with a row for each sample, as labels are read from one.
    beside : folder in which that file is looked for, after the working directory.

    Raises
    ------
    ValueError : there is no such field, column or file, or no sample has a group.
    FileNotFoundError : it is named as a file that is not there.
    """
    schema = source.schema
    tables = {
        column: (name, index)
        for name, field in schema.items()
        if field.kind == "categorical"
        for index, column in enumerate(field.columns)
    }
    if where in schema and schema[where].kind in ("label", "group"):
        values = np.asarray(source.column(where), dtype=np.int64)
        codes, names = _coded(values, schema[where].classes)
    elif where in tables:
        name, index = tables[where]
        known = schema[name].categories
        codes, names = _coded(np.asarray(source.column(name))[:, index].astype(np.int64), known[index] if known else ())
    elif (found := labels_file(where, beside or Path())) is not None:
        labels = from_file(found[0], found[1], source.names, "classes")
        codes, names = np.asarray(labels.values, dtype=np.int64), labels.about.classes
    else:
        fields = [name for name, field in schema.items() if field.kind in ("label", "group")]
        raise unknown("group", where, [*fields, *tables, "FILE:COLUMN"])
    if not (codes >= 0).any():
        raise ValueError(f"no sample of '{source.name}' has a group in '{where}'")
    return codes, names


def _coded(values: NDArray[np.int64], names: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Values as indices of names; without names, each value that is not negative is its own."""
    if names:
        return values, names
    present = np.unique(values[values >= 0])
    codes = np.where(values >= 0, np.searchsorted(present, values), -1)
    return codes, tuple(str(value) for value in present.tolist())
