"""Stable sample ids: a digest of where a sample comes from, never its position."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def sample_id(source: str, name: str, index: int | None = None) -> int:
    """Return the 63-bit id of one sample.

    Parameters
    ----------
    source : name of the source (the base name of its folder or file, so that a moved folder keeps its ids).
    name : name of the sample inside the source, with ``/`` between folders.
    index : inner index where one name holds many samples (a row of an array, a frame, a slice).
    """
    text = "\0".join((source, name) if index is None else (source, name, str(index)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()) >> 1


def sample_ids(source: str, names: Iterable[str]) -> Ids:
    """Ids of named samples, shape (n,)."""
    return np.fromiter((sample_id(source, name) for name in names), dtype=np.int64)


def row_ids(source: str, name: str, rows: int) -> Ids:
    """Ids of the rows of one array or table, shape (rows,)."""
    return np.fromiter((sample_id(source, name, row) for row in range(rows)), dtype=np.int64, count=rows)


def positions_of(ids: Ids, wanted: Sequence[int] | Ids) -> NDArray[np.int64]:
    """Positions in `ids` of the ids `wanted`, -1 where one is absent; shape (len(wanted),)."""
    wanted = np.asarray(wanted, dtype=np.int64)
    if len(ids) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    slot = np.searchsorted(ids, wanted, sorter=order)
    found = order[np.minimum(slot, len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)
