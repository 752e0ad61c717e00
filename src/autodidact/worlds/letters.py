"""Printed characters in many typefaces: real shapes of many classes, each with many ways to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodidact.data import ArraySource, Field, Schema
from autodidact.data.ids import row_ids

CHARACTERS = "ABCDEFGHIJKLMNPQRSTUVWXYZabdefghijkmnqrty23456789&@"
"""Those that do not look like another one when they are stretched, or like it in another case."""
STEMS = ("DejaVu", "STIXGeneral", "cmr", "cmss", "cmtt", "cmb")
"""Beginnings of the names of matplotlib's typefaces that have all of them."""
DRAWN = 128
"""Pixels a side at which a character is drawn, before it is reduced."""


@cache
def typefaces() -> tuple[str, ...]:
    """Files of the typefaces that come with matplotlib and have letters, in the order of their names."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = [
        path for path in sorted(folder.glob("*.ttf")) if path.name.startswith(STEMS) and "Display" not in path.name
    ]
    return tuple(str(path) for path in found)


def letters(
    rows: int,
    *,
    side: int = 28,
    faces: Sequence[str] | None = None,
    stretch: float = 0.25,
    shear: float = 0.2,
    seed: int = 0,
) -> ArraySource:
    """Single characters, white on black, each filling its image.

    The structure: one of 51 characters, which is the label. The nuisance: the typeface (upright, slanted, bold, with
    serifs or without), and how a character is stretched and sheared. Hardness: `stretch`, `shear`, and whether the
    typefaces that are asked about were seen (`faces`). With so many classes two characters by chance are seldom of one.

    Parameters
    ----------
    rows : images.
    side : in pixels.
    faces : files of typefaces to draw from; default `typefaces`.
    stretch : largest relative change of height and width, in [0, 1).
    shear : largest shear either way.
    seed : of every draw.

    Returns
    -------
    ArraySource
        "image" (1, side, side) uint8, "label", and "truth_face", the place in `faces`.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not 0 <= stretch < 1:
        raise ValueError(f"stretch is a relative change in [0, 1), got {stretch}")
    faces = typefaces() if faces is None else tuple(faces)
    rng = np.random.default_rng(seed)
    label, face = rng.integers(0, len(CHARACTERS), rows), rng.integers(0, len(faces), rows)
    fonts = [ImageFont.truetype(name, DRAWN // 2) for name in faces]
    middle = DRAWN / 2
    images = np.zeros((rows, 1, side, side), dtype=np.uint8)
    for row in range(rows):
        image = Image.new("L", (DRAWN, DRAWN))
        pen, character = ImageDraw.Draw(image), CHARACTERS[label[row]]
        left, top, right, bottom = pen.textbbox((0, 0), character, font=fonts[face[row]])
        pen.text((middle - (left + right) / 2, middle - (top + bottom) / 2), character, font=fonts[face[row]], fill=255)
        x, y = rng.uniform(1 - stretch, 1 + stretch, 2)
        lean = rng.uniform(-shear, shear)
        moved = (1 / x, lean, middle * (1 - 1 / x - lean), 0, 1 / y, middle * (1 - 1 / y))
        image = image.transform((DRAWN, DRAWN), Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR)
        images[row, 0] = np.asarray(_filling(image, side))
    schema = Schema(
        image=Field("image", (1, side, side)),
        label=Field("label", classes=tuple(CHARACTERS)),
        truth_face=Field("group"),
    )
    fields: dict[str, Any] = {"image": torch.from_numpy(images), "label": label, "truth_face": face}
    return ArraySource("letters", fields, schema, row_ids("letters", str(seed), rows))


def _filling(image: Any, side: int) -> Any:
    """What is drawn, in the middle of a square that is a little larger."""
    from PIL import Image

    left, top, right, bottom = image.getbbox()
    reach = 1.15 * max(right - left, bottom - top) / 2
    across, down = (left + right) / 2, (top + bottom) / 2
    window = image.crop((int(across - reach), int(down - reach), int(across + reach), int(down + reach)))
    return window.resize((side, side), Image.Resampling.BILINEAR)
