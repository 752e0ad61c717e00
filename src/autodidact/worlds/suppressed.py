"""Images in which one feature is much easier to learn than the others that two views share: what suppresses those."""

from __future__ import annotations

import colorsys
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from autodidact.data import ArraySource, Field, Source, open_source
from autodidact.data.schema import Schema

SIDE, COLOURS = 32, 10
TRAINING_DIGITS = 1_200


def random_bits(images: Source, bits: int, *, seed: int) -> Source:
    """Images with further channels, each all black or all white by a fair coin tossed for every image.

    Both views of an image have its bits, so that a contrastive loss can be lowered by bits alone; among 2^bits images
    drawn at random it needs little else. After the study of Chen, Luo and Li (2011.02803) on what such losses learn.
    The image itself is as it was, its label too. Hardness: `bits`; 0 leaves the images alone. Nothing else varies.

    Parameters
    ----------
    images : with the fields "image" and "label".
    bits : channels to add.
    seed : of the coins.

    Returns
    -------
    Source
        "image", "label", and "truth_bits", a number whose binary digits are the bits, the first channel's first.
    """
    if bits < 0:
        raise ValueError(f"the number of bits must not be negative, got {bits}")
    before = images.batch(np.arange(len(images)))["image"]
    coins = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (len(images), bits), dtype=np.uint8))
    planes = (255 * coins)[:, :, None, None].expand(-1, -1, *before.shape[2:])
    made = torch.cat([before, planes], dim=1)
    code = (coins.long() * 2 ** torch.arange(bits - 1, -1, -1)).sum(1)
    schema = Schema(
        image=Field("image", tuple(made.shape[1:])), label=images.schema["label"], truth_bits=Field("group")
    )
    fields: dict[str, Any] = {"image": made, "label": np.asarray(images.column("label")), "truth_bits": code.numpy()}
    return ArraySource(f"{images.name} with {bits} bits", fields, schema, images.ids)


def composite(garments: Source, *, part: Literal["train", "held"] = "train", stripes: int = 2, seed: int) -> Source:
    """Pictures of 32 x 32 colour pixels put together of three things that have nothing to do with each other.

    The left half shows stripes, one above the other, each in one of 10 colours; the right half shows a garment above
    and a handwritten digit below. The colours fill half of the picture and are the same in all crops of it: they are
    the easiest to learn, and 10^stripes combinations of them tell many pictures apart. Then comes the garment, then the
    digit, which is 8 pixels small. Hardness: `stripes`. Nuisance: the places of garment and digit, the brightness of
    each part, slight blotches on the stripes, and noise of each pixel.

    Parameters
    ----------
    garments : with the fields "image" (one channel) and "label"; one picture is made of each.
    part : the digits of "train" are other ones than those of "held".
    stripes : of colour, 1 or more.
    seed : of everything that is drawn.

    Returns
    -------
    Source
        "image", "label" (the garment's), "truth_colours", a number whose decimal digits are the colours from above, and
        "truth_digit".
    """
    if stripes < 1:
        raise ValueError(f"at least 1 stripe is needed, got {stripes}")
    rng = np.random.default_rng(seed)
    rows = len(garments)
    digits = open_source("digits", progress=False)
    written = np.arange(TRAINING_DIGITS) if part == "train" else np.arange(TRAINING_DIGITS, len(digits))
    chosen = rng.choice(written, rows)
    digit = digits.batch(chosen)["image"][:, 0].float().numpy() / 255
    images = garments.batch(np.arange(rows))["image"].float() / 255
    garment = torch.nn.functional.interpolate(images, (16, 16), mode="area")[:, 0].numpy()
    colours = rng.integers(0, COLOURS, (rows, stripes))
    made = np.zeros((rows, 3, SIDE, SIDE), dtype=np.float32)
    stripe = np.arange(SIDE) * stripes // SIDE
    tint = _palette()[colours[:, stripe]].transpose(0, 2, 1)
    made[:, :, :, : SIDE // 2] = tint[:, :, :, None] * _blotches(rows, rng)[:, None]
    for shown, place in ((garment, (0, 5, 16, 17)), (digit, (21, 25, 17, 25))):
        _paste(made, shown * rng.uniform(0.6, 1.0, (rows, 1, 1)), place, rng)
    made += rng.normal(0, 0.03, made.shape)
    schema = Schema(
        image=Field("image", (3, SIDE, SIDE)),
        label=garments.schema["label"],
        truth_colours=Field("group"),
        truth_digit=Field("group"),
    )
    pixels: UInt8[np.ndarray, "n 3 h w"] = np.rint(255 * made.clip(0, 1)).astype(np.uint8)
    fields: dict[str, Any] = {
        "image": pixels,
        "label": np.asarray(garments.column("label")),
        "truth_colours": colours @ COLOURS ** np.arange(stripes)[::-1],
        "truth_digit": np.asarray(digits.column("label"))[chosen],
    }
    return ArraySource(f"{garments.name} composite", fields, schema, garments.ids)


def _palette() -> Float[np.ndarray, "colours 3"]:
    return np.array([colorsys.hsv_to_rgb(k / COLOURS, 0.8, 1.0) for k in range(COLOURS)])


def _blotches(rows: int, rng: np.random.Generator) -> Float[np.ndarray, "n h w"]:
    """Smooth random patterns, nearly even, for the left halves."""
    coarse = torch.from_numpy(rng.uniform(0.85, 1.0, (rows, 1, 8, 4)))
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE // 2), mode="bilinear")[:, 0].numpy()
    return smooth * rng.uniform(0.7, 1.0, (rows, 1, 1))


def _paste(
    made: Float[np.ndarray, "n 3 h w"],
    shown: Float[np.ndarray, "n a b"],
    place: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> None:
    """Put each picture where the draw says: its corner in rows and columns ``first, beyond, first, beyond``."""
    tops, lefts = rng.integers(*place[:2], len(made)), rng.integers(*place[2:], len(made))
    height, width = shown.shape[1:]
    r = tops[:, None, None] + np.arange(height)[None, :, None]
    c = lefts[:, None, None] + np.arange(width)[None, None, :]
    made[np.arange(len(made))[:, None, None], :, r, c] = shown[..., None]
