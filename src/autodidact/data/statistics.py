"""Figures of a source that encoders and people need: channel and column statistics, a description, a fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch

from autodidact.data.batch import Ragged, Value
from autodidact.data.folder import evenly
from autodidact.data.source import Source
from autodidact.data.stream import StreamSource

_SCALARS = ("label", "target", "group")


def channel_statistics(source: Source, limit: int = 2048) -> dict[str, list[float]]:
    """Mean and standard deviation of every channel, pixels in [0, 1].

    Only the part of a canvas that holds the image counts; every pixel counts the same. From `limit` images evenly
    spread.

    Returns
    -------
    dict
        "mean" and "std", one number a channel.
    """
    if "image" not in source.schema:
        raise ValueError(f"'{source.name}' has no images; it has {', '.join(source.schema)}")
    source = _held(source, limit)
    sums: Any = 0
    squares: Any = 0
    count = 0
    positions = np.asarray(evenly(len(source), limit), dtype=np.int64)
    for start in range(0, len(positions), 64):
        fields = source.read(positions[start : start + 64])
        images = fields["image"]
        assert isinstance(images, torch.Tensor)
        pixels = images.double() / 255 if images.dtype == torch.uint8 else images.double()
        valid = _inside(fields.get("box"), pixels)
        sums = sums + (pixels * valid).sum(dim=(0, 2, 3))
        squares = squares + (pixels.square() * valid).sum(dim=(0, 2, 3))
        count += int(valid.sum())
    mean = sums / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return {"mean": mean.tolist(), "std": std.tolist()}


def _inside(box: Value | None, pixels: torch.Tensor) -> torch.Tensor:
    n, _, height, width = pixels.shape
    if not isinstance(box, torch.Tensor):
        return torch.ones(n, 1, height, width, dtype=torch.float64)
    top, left, high, wide = (side[:, None] for side in box.unbind(1))
    y, x = torch.arange(height)[None], torch.arange(width)[None]
    rows, columns = (y >= top) & (y < top + high), (x >= left) & (x < left + wide)
    return (rows[:, None, :, None] & columns[:, None, None, :]).double()


def table_statistics(source: Source) -> dict[str, list[float]]:
    """Minimum, maximum, mean and standard deviation of every numeric column, missing values left out.

    Of a stream only its first 8,192 samples count.

    Returns
    -------
    dict
        "minimum", "maximum", "mean", "std", one number a column in the order of the schema; a column without any value
        has 0, 0, 0 and 0. Empty lists where the table has no numeric column.
    """
    keys = ("minimum", "maximum", "mean", "std")
    if "numeric" not in source.schema:
        return {key: [] for key in keys}
    source = _held(source, 8192)
    values = np.concatenate([np.asarray(batch["numeric"], dtype=np.float64) for batch in source.in_order(8192)])
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    some = known.any(axis=0)
    filled = np.where(known, values, 0)
    mean = filled.sum(axis=0) / count
    variance = np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    figures = (np.where(some, low, 0), np.where(some, high, 0), mean, np.sqrt(variance))
    return {key: figure.tolist() for key, figure in zip(keys, figures, strict=True)}


def _held(source: Source, limit: int) -> Source:
    """What can be read by position of a source: itself, or the first samples of a stream."""
    return source.take(limit) if isinstance(source, StreamSource) else source


def describe(source: Source) -> str:
    """What a source holds, in a few plain lines."""
    if source.streaming:
        lines = [f"{source.name}: a stream" + (f" of {len(source):,} samples" if len(source) else "")]
    else:
        lines = [f"{source.name}: {len(source):,} samples"]
    for name, field in source.schema.items():
        text = f"  {name}: {field.kind}"
        if field.kind == "image":
            text += " " + " x ".join(str(side) for side in field.shape)
        elif field.classes:
            text += f", {len(field.classes)} classes ({_some(field.classes)})"
            if not source.streaming and (lost := int((source.column(name) < 0).sum())):
                text += f", {lost:,} unknown"
        elif field.columns:
            text += f", {len(field.columns)} columns ({_some(field.columns)})"
        lines.append(text)
    if source.skipped:
        lines.append(
            f"  skipped: {len(source.skipped):,}, the first '{source.skipped[0]['name']}': "
            f"{source.skipped[0]['reason']}"
        )
    return "\n".join([*lines, *(f"  {note}" for note in source.notes)])


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def fingerprint(source: Source, limit: int = 1024) -> str:
    """A digest of ids, schema, scalar fields, and the whole content of up to `limit` samples evenly spread.

    Data that differs only in samples not looked at, and keeps every id and label, has the same fingerprint. Of a stream
    the first 64 samples speak for the rest.
    """
    source = _held(source, 64)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(source.ids.tobytes())
    digest.update(json.dumps(source.schema.plain(), sort_keys=True).encode())
    for name, field in sorted(source.schema.items()):
        if field.kind in _SCALARS:
            digest.update(np.ascontiguousarray(source.column(name)).tobytes())
    positions = np.asarray(evenly(len(source), limit), dtype=np.int64)
    for start in range(0, len(positions), 64):
        for name, value in sorted(source.read(positions[start : start + 64]).items()):
            digest.update(name.encode())
            digest.update(_content(value))
    return digest.hexdigest()


def _content(value: Value) -> bytes:
    if isinstance(value, Ragged):
        return _content(value.values) + _content(value.lengths)
    if isinstance(value, list):
        return "\0".join(map(str, value)).encode("utf-8", "surrogateescape")
    return value.contiguous().view(-1).numpy().tobytes()
