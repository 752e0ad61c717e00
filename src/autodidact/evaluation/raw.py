"""The raw input as an embedding: what a model has to beat to be worth its training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data.batch import Batch, Ragged
from autodidact.data.schema import Schema
from autodidact.data.source import Positions, Source
from autodidact.evaluation.embeddings import Featurise
from autodidact.views import eval_view

SIDE = 32
ROWS = 20_000


def raw_features(source: Source, positions: Positions) -> Featurise:
    """From a batch to its raw values, one row a sample.

    An image gives its pixels in [0, 1], reduced to at most 32 x 32. A table gives its numeric columns, standardised,
    with 0 where a value is missing and an indicator column beside each that ever misses one; and its categorical
    columns one-hot, all zeros where missing. A vector is taken as it is.

    Parameters
    ----------
    source : the samples.
    positions : training samples; means, spreads and which columns miss values come from (up to 20,000 of) them alone.

    Raises
    ------
    ValueError : the source has no image, table or vector.
    """
    schema = source.schema
    image, vector = schema.first("image"), schema.first("vector")
    if image is not None:
        return lambda batch: _pixels(batch, image)
    if schema.first("numeric") or schema.first("categorical"):
        return _table(source, positions[:: max(1, len(positions) // ROWS)])
    if vector is not None:
        return lambda batch: batch[vector].float().flatten(1)
    has = ", ".join(f"{name} ({field.kind})" for name, field in schema.items()) or "nothing"
    raise ValueError(f"there is no raw baseline for this data; it has {has}, not an image, a table or a vector")


def has_raw(schema: Schema) -> bool:
    """Whether `raw_features` can be taken."""
    return any(schema.first(kind) for kind in ("image", "numeric", "categorical", "vector"))


def _pixels(batch: Batch, field: str) -> Float[Tensor, "n d"]:
    images, box = batch[field], batch.fields.get("box")
    assert not isinstance(box, list | Ragged)
    height, width = images.shape[-2:]
    shrink = max(1.0, max(height, width) / SIDE)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    return eval_view(images, size, box=box).flatten(1)


def _table(source: Source, positions: Positions) -> Featurise:
    numeric, categorical = source.schema.first("numeric"), source.schema.first("categorical")
    cardinalities = source.schema[categorical].cardinalities if categorical else ()
    mean = scale = gaps = torch.empty(0)
    if numeric:
        seen = source.batch(positions)[numeric].double()
        present = seen.isfinite()
        count = present.sum(0).clamp(min=1)
        mean = seen.nan_to_num(0, 0, 0).sum(0) / count
        spread = (((seen - mean) ** 2 * present).nan_to_num(0, 0, 0).sum(0) / count).sqrt()
        scale = torch.where(spread > 1e-12 * mean.abs(), 1 / spread.clamp(min=1e-300), 0)
        gaps = (~present).any(0)

    def featurise(batch: Batch) -> Float[Tensor, "n d"]:
        parts: list[Tensor] = []
        if numeric:
            values = batch[numeric].double()
            present = values.isfinite()
            parts += [((values - mean) * scale).where(present, 0), (~present[:, gaps]).double()]
        if categorical:
            index = batch[categorical]
            parts += [
                (index[:, column, None] == torch.arange(size)).double() for column, size in enumerate(cardinalities)
            ]
        return torch.cat(parts, dim=1).float()

    return featurise
