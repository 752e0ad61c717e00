"""Garments (or digits) in random colours: what a picture shows is known, and its two colours say nothing of it."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from autodidact.data import ArraySource, Field, Source
from autodidact.data.schema import Schema
from autodidact.views import eval_view

LOW, HIGH = 0.15, 0.9
"""Range of the pixels: whatever is added or taken away up to this much is not cut off."""


def tinted(source: Source, *, side: int = 32, saturation: tuple[float, float] = (0.2, 0.8), seed: int = 7) -> Source:
    """Grey pictures, each painted with a background and a foreground colour of its own.

    A picture is enlarged to `side` pixels, and its grey level mixes a dark and a light colour, whose hues and
    saturations are drawn for each sample and have nothing to do with the label: the nuisance that makes colour jitter
    mean something. All pixels lie in [0.15, 0.9], so that small patterns can be added without being cut. Samples keep
    their ids, names and labels; the two colours (RGB) are in the field "truth_colours".

    Parameters
    ----------
    source : one-channel images with labels.
    side : of the square pictures in pixels.
    saturation : range of the colours' saturations, in [0, 1]; the more there is, the better an image is known again by
        its colours alone.
    seed : of the colours; a sample's colours follow from it and the sample's id.

    Raises
    ------
    ValueError : the images have several channels, or no labels; a range of saturations that makes no sense.
    """
    source.schema.require({"image": "image", "label": "label"}, "the tinted world")
    if not 0 <= saturation[0] <= saturation[1] <= 1:
        raise ValueError(f"saturation must be (low, high) with 0 <= low <= high <= 1, got {saturation}")
    if source.schema["image"].shape[0] != 1:
        raise ValueError(f"tinting needs images of one channel, '{source.name}' has {source.schema['image'].shape[0]}")
    batch = source.batch(np.arange(len(source)))
    grey = eval_view(batch["image"], side).numpy()[:, 0]
    colours = np.stack([_two_colours(int(id_), seed, saturation) for id_ in source.ids])
    dark, light = colours[:, 0, :, None, None], colours[:, 1, :, None, None]
    painted = LOW + (HIGH - LOW) * (dark + (light - dark) * grey[:, None])
    schema = Schema(
        image=Field("image", (3, side, side)),
        label=source.schema["label"],
        truth_colours=Field("vector", (2, 3)),
    )
    fields: dict[str, Any] = {
        "image": torch.from_numpy(np.rint(255 * painted).astype(np.uint8)),
        "label": np.asarray(source.column("label")),
        "truth_colours": colours,
    }
    return ArraySource(f"tinted {source.name}", fields, schema, source.ids, source.names)


def _two_colours(id_: int, seed: int, saturation: tuple[float, float]) -> Float32[np.ndarray, "2 3"]:
    rng = np.random.default_rng([id_, seed])
    hues, saturations = rng.random(2), rng.uniform(*saturation, 2)
    values = rng.uniform(0.0, 0.4), rng.uniform(0.7, 1.0)
    return np.array([colorsys.hsv_to_rgb(*c) for c in zip(hues, saturations, values, strict=True)], dtype=np.float32)
