"""Handwritten digits on real surfaces, with the masks of the digits known."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data import ArraySource, Field, Source, open_source
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema
from autodidact.worlds.textures import textures

TRAINING_DIGITS = 1_200
INK = 0.3
"""How dark a pixel of a digit must be to belong to it."""


def digit_scenes(
    rows: int,
    *,
    digits: Literal[1, 2] = 1,
    side: int = 32,
    size: tuple[int, int] = (14, 20),
    contrast: tuple[float, float] = (0.25, 0.45),
    roughness: float = 0.1,
    part: Literal["train", "held"] = "train",
    seed: int = 0,
) -> Source:
    """Grey pictures: one or two digits of one class, written on brick, grass or gravel, in black or in white.

    Structure: the digits, whose class is the label. Nuisance: the surface and where it is cut, its brightness, the
    digits' sizes, places, and whether their ink is brighter or darker than the surface and by how much: brightness
    does not tell where a digit is. Difficulty: `contrast` against `roughness` (where they are equal digits drown in the
    surface), `size`. Ink is smoother than any surface, and far from the picture's mean; what that alone says of the
    masks an untrained network shows.

    Parameters
    ----------
    rows : pictures.
    digits : how many in each; two stand in the two halves, and are different writings of one digit.
    side : of the pictures in pixels; at least the greatest size, twice that for two digits.
    size : range of the digits' sides in pixels.
    contrast : range of how much brighter or darker than the mean of the surface the ink is.
    roughness : standard deviation of the surfaces, >= 0.
    part : the digits of "train" are other ones than those of "held".
    seed : of everything that is drawn.

    Returns
    -------
    Source
        "image", "label", and "truth_masks": for each digit where its ink is, (digits, side, side).
    """
    low, high = size
    if not 1 <= low <= high or high * digits > side:
        raise ValueError(f"{digits} digits of {low} to {high} pixels do not fit into {side} pixels side by side")
    if roughness < 0:
        raise ValueError(f"roughness must not be negative, got {roughness}")
    rng = np.random.default_rng(seed)
    source = open_source("digits", progress=False)
    written = np.arange(TRAINING_DIGITS) if part == "train" else np.arange(TRAINING_DIGITS, len(source))
    classes = np.asarray(source.column("label"))[written]
    label = rng.integers(0, 10, rows)
    surface = textures(rows, side, rng).float()[:, 0] / 255
    # All surfaces alike in brightness and roughness, so that neither gives a digit away.
    surface = (surface - surface.mean((1, 2), keepdim=True)) / surface.std((1, 2), keepdim=True).clamp(min=1e-3)
    picture = 0.5 + torch.from_numpy(rng.uniform(-0.1, 0.1, (rows, 1, 1))).float() + roughness * surface
    masks = torch.zeros(rows, digits, side, side, dtype=torch.bool)
    images = source.batch(written)["image"].float() / 255
    width = side // digits
    for row in range(rows):
        for number in range(digits):
            own = rng.choice(np.flatnonzero(classes == label[row]))
            length = int(rng.integers(low, high + 1))
            top, left = rng.integers(0, side - length + 1), number * width + rng.integers(0, width - length + 1)
            ink = _enlarged(images[own], length)
            shade = 0.5 + rng.choice((-1, 1)) * rng.uniform(*contrast)
            place = (slice(top, top + length), slice(left, left + length))
            picture[row][place] = picture[row][place] * (1 - ink) + shade * ink
            masks[row, number][place] = ink > INK
    schema = Schema(
        image=Field("image", (1, side, side)),
        label=Field("label", classes=source.schema["label"].classes),
        truth_masks=Field("mask", (digits, side, side)),
    )
    fields: dict[str, Any] = {
        "image": (255 * picture.clamp(0, 1)).round().to(torch.uint8)[:, None],
        "label": label.astype(np.int64),
        "truth_masks": masks.numpy(),
    }
    name = f"{digits}-digit scenes, {part}"
    return ArraySource(name, fields, schema, row_ids(name, str(seed), rows))


def _enlarged(image: Float[Tensor, "1 h w"], length: int) -> Float[Tensor, "l l"]:
    return torch.nn.functional.interpolate(image[None], (length, length), mode="bilinear", align_corners=False)[0, 0]
