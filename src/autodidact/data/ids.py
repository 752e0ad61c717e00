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
    origin = _digest(source, name)
    return origin >> 1 if index is None else int(scrambled(np.array([index], dtype=np.int64), origin)[0])


def sample_ids(source: str, names: Iterable[str]) -> Ids:
    """Ids of named samples, shape (n,): ``sample_id(source, name)`` for every name."""
    before, hashed = f"{source}\0", hashlib.blake2b
    digests = [hashed(_bytes(before + name), digest_size=8).digest() for name in names]
    return (np.frombuffer(b"".join(digests), dtype=">u8") >> np.uint64(1)).astype(np.int64)


def row_ids(source: str, name: str, rows: int) -> Ids:
    """Ids of the rows of one array or table, shape (rows,): ``sample_id(source, name, row)`` for every row."""
    return scrambled(np.arange(rows, dtype=np.int64), _digest(source, name))


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b(_bytes("\0".join(parts)), digest_size=8).digest())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def scrambled(values: NDArray[np.int64], key: int) -> Ids:
    """63-bit pseudo-random numbers, shape of `values`: a keyed hash of each integer.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014) on ``values * golden + key``, one to one in 64 bits.
    """
    x = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


def positions_of(ids: Ids, wanted: Sequence[int] | Ids) -> NDArray[np.int64]:
    """Positions in `ids` of the ids `wanted`, -1 where one is absent; shape (len(wanted),)."""
    wanted = np.asarray(wanted, dtype=np.int64)
    if len(ids) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    slot = np.searchsorted(ids, wanted, sorter=order)
    found = order[np.minimum(slot, len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)
