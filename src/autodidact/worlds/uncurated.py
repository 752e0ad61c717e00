"""Garments under conditions that a curated set hardly has, and an uncurated pool has in plenty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.data import ArraySource, Field, Source, open_source
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema
from autodidact.worlds.textures import textures

SIDE = 32


@dataclass(frozen=True)
class Condition:
    """How a group shows its garments."""

    surface: str = ""
    """Picture that the background is cut from; empty for an even one."""
    contrast: float = 1.0
    """Of the garment against the background."""
    turn: float = 0.0
    """Degrees by which garments lie turned, give or take 10."""
    cover: float = 0.0
    """Share of the rows that a bar in front hides."""


CONDITIONS = {
    "studio": Condition(),
    "wall": Condition("brick", 0.9, 15.0, 0.0),
    "lawn": Condition("grass", 0.9, -25.0, 0.1),
    "path": Condition("gravel", 0.9, 35.0, 0.1),
}
GROUPS = tuple(CONDITIONS)
MAJORITY = GROUPS[0]


def curated(source: Source, *, share: float = 0.9, seed: int = 0) -> Source:
    """Garments as somebody has selected them: a great share in the studio, and what is not there tied to its class.

    Class c is found outside the studio in one group only, the one of number 1 + c modulo 3: the curated set knows six
    classes or more of every other group not at all, and where it knows one, the surface tells the class as well as the
    garment does. This is the direction that is built in: who learns what tells these labels apart may take the surface
    for it. Difficulty: `share`. Nuisance: cut of the surface, angle, place of the bar.

    Parameters
    ----------
    source : grey garments of 28 pixels with labels.
    share : of the garments in the studio, in [0, 1].
    seed : of everything that is drawn.

    Returns
    -------
    Source
        "image" (1, 32, 32), "label", and "truth_group", a place in `GROUPS`.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the majority lies in [0, 1], got {share}")
    rng = np.random.default_rng(seed)
    labels = np.asarray(source.column("label"), dtype=np.int64)
    groups = np.where(rng.random(len(labels)) < share, 0, 1 + labels % (len(GROUPS) - 1))
    return shown(source, groups, seed, f"curated {source.name}")


def balanced(source: Source, *, seed: int = 0) -> Source:
    """The same garments with every group equally likely for every class: what a fair test asks."""
    groups = np.random.default_rng(seed).integers(0, len(GROUPS), len(source))
    return shown(source, groups, seed, f"balanced {source.name}")


def pool(source: Source, *, exponent: float = 0.5, irrelevant: float = 0.2, seed: int = 0) -> Source:
    """Images as they come: no labels, the groups in unequal proportions whatever the class, and images of other things.

    Group k of `GROUPS`, from 1, has a share proportional to k^-exponent. The irrelevant images, half surfaces without
    anything in front and half enlarged handwritten digits, have the group -1.

    Parameters
    ----------
    source : grey garments of 28 pixels.
    exponent : >= 0; 0 makes all groups alike.
    irrelevant : share of the images that stand in place of garments, in [0, 1).
    seed : of everything that is drawn.

    Returns
    -------
    Source
        "image" and "truth_group".
    """
    if exponent < 0 or not 0 <= irrelevant < 1:
        raise ValueError(f"an exponent >= 0 and a share in [0, 1) are needed, got {exponent} and {irrelevant}")
    rng = np.random.default_rng(seed)
    shares = np.arange(1, len(GROUPS) + 1) ** -float(exponent)
    groups = rng.choice(len(GROUPS), len(source), p=shares / shares.sum())
    made = shown(source, groups, seed, f"pool of {source.name}")
    images = made.batch(np.arange(len(made)))["image"].clone()
    others = np.flatnonzero(rng.random(len(source)) < irrelevant)
    surfaces, digits = np.array_split(others, 2)
    images[torch.from_numpy(surfaces)] = textures(len(surfaces), SIDE, rng)
    known = open_source("digits", progress=False)
    small = known.batch(rng.integers(0, len(known), len(digits)))["image"].float()
    large = F.interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=False)
    images[torch.from_numpy(digits)] = large.round().to(torch.uint8)
    groups[others] = -1
    schema = Schema(image=made.schema["image"], truth_group=made.schema["truth_group"])
    ids = row_ids("pool", str(seed), len(source))
    return ArraySource(made.name, {"image": images, "truth_group": groups}, schema, ids)


def shown(source: Source, groups: Int[np.ndarray, " n"], seed: int, name: str) -> Source:
    """Garments, each under the conditions of its group."""
    shape = source.schema["image"].shape
    if shape[0] != 1:
        raise ValueError(f"conditions are rendered around grey images, '{source.name}' has {shape[0]} channels")
    rng = np.random.default_rng([seed, 1])
    garments = source.batch(np.arange(len(source)))["image"].float()[:, 0] / 255
    made = torch.empty(len(source), SIDE, SIDE)
    for code, group in enumerate(GROUPS):
        rows = torch.from_numpy(np.flatnonzero(groups == code))
        made[rows] = _rendered(garments[rows], CONDITIONS[group], rng)
    fields: dict[str, Any] = {
        "image": (255 * made.clamp(0, 1)).round().to(torch.uint8)[:, None],
        "label": np.asarray(source.column("label"), dtype=np.int64),
        "truth_group": groups.astype(np.int64),
    }
    schema = Schema(
        image=Field("image", (1, SIDE, SIDE)), label=source.schema["label"], truth_group=Field("group", classes=GROUPS)
    )
    return ArraySource(name, fields, schema, source.ids)


def _rendered(garments: Float[Tensor, "n h w"], how: Condition, rng: np.random.Generator) -> Float[Tensor, "n s s"]:
    n = len(garments)
    angle = torch.deg2rad(how.turn + torch.from_numpy(rng.uniform(-10, 10, n)).float())
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = angle.cos()
    affine[:, 0, 1], affine[:, 1, 0] = -angle.sin(), angle.sin()
    # The garment keeps its scale of 28 pixels in the middle of the picture.
    margin = (SIDE - garments.shape[1]) // 2
    wide = F.pad(
        garments[:, None], (margin, SIDE - garments.shape[2] - margin, margin, SIDE - garments.shape[1] - margin)
    )
    garment = F.grid_sample(wide, F.affine_grid(affine, [n, 1, SIDE, SIDE], align_corners=False), align_corners=False)
    garment = garment[:, 0]
    # A pixel is the garment's as far as it is bright: soft edges, and holes where it is black.
    solid = (4 * garment).clamp(0, 1)
    surface = textures(n, SIDE, rng, (how.surface,)).float()[:, 0] / 255 if how.surface else torch.zeros(n, SIDE, SIDE)
    behind = 0.1 + 0.35 * surface
    picture = behind * (1 - solid) + (0.1 + how.contrast * 0.9 * garment) * solid
    bar = round(how.cover * SIDE)
    if bar:
        top = torch.from_numpy(rng.integers(4, SIDE - bar - 4, n))
        rows = torch.arange(SIDE)
        hidden = (rows >= top[:, None]) & (rows < top[:, None] + bar)
        picture = picture.where(~hidden[:, :, None], torch.full_like(picture, 0.05))
    return picture
