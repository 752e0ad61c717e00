"""Small data and settings for runs to report on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autodidact.data import ArraySource, Field, Schema, Source
from autodidact.training import Settings

CLASSES = ("top", "left", "cross")
SETTINGS = Settings(epochs=3, batch_size=32, monitor_steps=2, accelerator="cpu")
NARROW = "small:convnet?width=4"


def images(count: int = 96, side: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Grey images of three patterns with noise, and which pattern each has."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    plain = np.zeros((3, side, side))
    plain[0, : side // 2] = plain[1, :, : side // 2] = 200
    plain[2, side // 2] = plain[2, :, side // 2] = 200
    noisy = plain[labels] + rng.normal(0, 20, (count, side, side))
    return noisy.clip(0, 255).astype(np.uint8)[:, None], labels


def image_source(
    labelled: bool = True, names: Sequence[str] | None = None, name: str = "patterns", side: int = 8
) -> Source:
    pixels, labels = images(side=side)
    schema = Schema(image=Field("image", (1, side, side)))
    fields = {"image": pixels}
    if labelled:
        schema["label"] = Field("label", classes=CLASSES)
        fields["label"] = labels
    return ArraySource(name, fields, schema, np.arange(len(pixels)) + 1_000, names)


def table_source() -> Source:
    rng = np.random.default_rng(0)
    numeric = rng.normal(size=(64, 5)).astype(np.float32)
    numeric[3, 1] = np.nan
    categorical = rng.integers(0, 3, (64, 2))
    categorical[4, 0] = -1
    schema = Schema(
        numeric=Field("numeric", (5,), columns=("height", "weight", "born", "speed", "<b>mass</b>"), units=(None,) * 5),
        categorical=Field(
            "categorical",
            (2,),
            columns=("colour", "shape"),
            cardinalities=(3, 3),
            categories=(("red", "green", "blue"), ("round", "square", "flat")),
        ),
    )
    return ArraySource("things", {"numeric": numeric, "categorical": categorical}, schema, np.arange(64) + 5_000)
