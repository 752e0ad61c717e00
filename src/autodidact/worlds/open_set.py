"""A pool in which a few images are of a narrow target's kind, and most are of quite other kinds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data import ArraySource, Field, Source, open_source
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema
from autodidact.worlds.textures import textures

KINDS = ("relevant", "garments", "digits", "textures", "shapes")
PICTURES = ("brick", "grass", "gravel", "moon", "coins", "camera", "text", "page")
"""Pictures of scikit-image from which textures are cut."""


def open_set(relevant: Source, garments: Source, rows: int, *, share: float, seed: int) -> Source:
    """Grey images of one size in random order: a share of relevant ones, and four other kinds in equal parts.

    "garments" are the nearest to what is relevant, "digits" are enlarged handwritten ones, "textures" are patches of
    photographs, "shapes" are bright discs and bars on noise. Hardness: `share`; the kinds themselves are far apart, so
    a good embedding can tell them. Nuisance: the patch's place, each shape's place, size and brightness.

    Parameters
    ----------
    relevant : images (1, h, w) of the target's kind; the first ones are taken, without repetition.
    garments : other images of that size, drawn with repetition.
    rows : images of the pool.
    share : of relevant images, in [0, 1]; ``round(share * rows)`` of them are needed.
    seed : of every draw.

    Returns
    -------
    Source
        "image", and "truth_kind", the place in `KINDS`.
    """
    count = round(share * rows)
    if not 0 <= share <= 1 or count > len(relevant):
        raise ValueError(f"a share in [0, 1] and at most {len(relevant)} relevant images, got {share} of {rows}")
    rng = np.random.default_rng(seed)
    left = np.array_split(np.arange(rows - count), len(KINDS) - 1)
    side = relevant.schema["image"].shape[1]
    parts = [
        relevant.batch(np.arange(count))["image"],
        garments.batch(rng.integers(0, len(garments), len(left[0])))["image"],
        _digits(len(left[1]), side, rng),
        textures(len(left[2]), side, rng, PICTURES),
        _shapes(len(left[3]), side, rng),
    ]
    order = rng.permutation(rows)
    images = torch.cat(parts)[torch.from_numpy(order)]
    kind = np.repeat(np.arange(len(KINDS)), [len(part) for part in parts])[order]
    schema = Schema(image=Field("image", tuple(images.shape[1:])), truth_kind=Field("group"))
    # Ids of its own: the pool is another place than the one that the images were taken from.
    ids = row_ids("open set", str(seed), rows)
    return ArraySource("open set", {"image": images, "truth_kind": kind}, schema, ids)


def _pixels(images: Float[Tensor, "n h w"]) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)[:, None]


def _digits(rows: int, side: int, rng: np.random.Generator) -> Tensor:
    digits = open_source("digits", progress=False)
    small = digits.batch(rng.integers(0, len(digits), rows))["image"].float() / 255
    return _pixels(torch.nn.functional.interpolate(small, (side, side), mode="bilinear")[:, 0])


def _shapes(rows: int, side: int, rng: np.random.Generator) -> Tensor:
    """Three discs or bars of random place, size and brightness over noise."""
    y, x = np.mgrid[:side, :side]
    images = rng.uniform(0, 0.3, (rows, side, side))
    for _ in range(3):
        cy, cx = rng.uniform(0, side, (2, rows, 1, 1))
        size, bright = rng.uniform(2, side / 3, (rows, 1, 1)), rng.uniform(0.3, 1.0, (rows, 1, 1))
        disc = np.hypot(y - cy, x - cx) < size
        bar = (abs(y - cy) < 2) & (abs(x - cx) < 2 * size)
        images = np.where(np.where(rng.random((rows, 1, 1)) < 0.5, disc, bar), bright, images)
    return _pixels(torch.from_numpy(images))
