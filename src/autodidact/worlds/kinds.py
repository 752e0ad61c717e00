"""A stream of data sets that have nothing in common but their size: garments, surfaces, digits, letters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from autodidact.data import ArraySource, Field, Schema, Source, open_source
from autodidact.data.ids import row_ids
from autodidact.worlds.textures import textures

PICTURES = ("brick", "grass", "gravel", "coins", "page", "moon", "camera", "text")
"""Of scikit-image, from which patches are cut; which one is the label."""
LETTERS = "ABDEGHKMNPRSTXYZ"
Drawn = tuple[UInt8[Tensor, "n 1 side side"], Int[np.ndarray, " n"], tuple[str, ...]]


def kinds(garments: Source, rows: int, *, seed: int) -> dict[str, Source]:
    """Four data sets of grey images of one size, one kind of thing in each, with labels.

    "garments" are the given ones, "textures" patches of photographs, told by the photograph, "digits" handwritten ones,
    enlarged, and "letters" printed capitals of random place, size and brightness. Low-level statistics differ most
    between textures and the others, and what there is to tell apart differs between all: what is learned on one is of
    little use on the next. How hard it is not to forget: the order, and how long each is trained on.

    Parameters
    ----------
    garments : grey square images with labels; the first `rows` of an order drawn by the seed are taken.
    rows : images of each kind; of the digits there are 1,797.
    seed : of every draw.

    Raises
    ------
    ValueError : there are fewer garments than rows.
    """
    if rows > len(garments):
        raise ValueError(f"there are {len(garments)} garments, and {rows} are asked for")
    rng = np.random.default_rng(seed)
    side = garments.schema["image"].shape[1]
    chosen = garments.at(np.sort(rng.permutation(len(garments))[:rows]))
    makers: dict[str, Callable[[int, int, np.random.Generator], Drawn]] = {
        "textures": _textures,
        "digits": _digits,
        "letters": _letters,
    }
    return {"garments": chosen, **{name: _source(name, make(rows, side, rng)) for name, make in makers.items()}}


def _source(name: str, drawn: Drawn) -> Source:
    images, labels, classes = drawn
    schema = Schema(image=Field("image", tuple(images.shape[1:])), label=Field("label", classes=classes))
    return ArraySource(name, {"image": images, "label": labels}, schema, row_ids(name, "", len(labels)))


def _textures(rows: int, side: int, rng: np.random.Generator) -> Drawn:
    each = [len(part) for part in np.array_split(np.arange(rows), len(PICTURES))]
    images = [textures(count, side, rng, (picture,)) for count, picture in zip(each, PICTURES, strict=True)]
    return torch.cat(images), np.repeat(np.arange(len(PICTURES)), each), PICTURES


def _digits(rows: int, side: int, rng: np.random.Generator) -> Drawn:
    source = open_source("digits", progress=False)
    chosen = np.sort(rng.permutation(len(source))[:rows])
    labels = np.asarray(source.column("label"), dtype=np.int64)[chosen]
    return enlarged(source.batch(chosen)["image"], side), labels, tuple(source.schema["label"].classes)


def _letters(rows: int, side: int, rng: np.random.Generator) -> Drawn:
    from PIL import Image, ImageDraw, ImageFont

    labels = rng.integers(0, len(LETTERS), rows)
    images = []
    for label in labels:
        size = int(rng.integers(side // 2, side))
        place = (int(rng.integers(0, side // 2)), int(rng.integers(-side // 8, side // 4)))
        image = Image.new("L", (side, side))
        ink = int(rng.integers(120, 256))
        ImageDraw.Draw(image).text(place, LETTERS[label], font=ImageFont.load_default(size=size), fill=ink)
        images.append(np.asarray(image))
    return torch.from_numpy(np.stack(images))[:, None], labels, tuple(LETTERS)


def enlarged(images: UInt8[Tensor, "n 1 h w"], side: int) -> UInt8[Tensor, "n 1 side side"]:
    """Small images, bilinearly, in so many pixels a side."""
    larger = torch.nn.functional.interpolate(images.float() / 255, (side, side), mode="bilinear")
    return (255 * larger.clamp(0, 1)).round().to(torch.uint8)
