"""How a single sample is shown: a picture, the cells of a row, or a line of text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.data.schema import Field, Schema
from autodidact.report.markup import number, text

SIDE = 88
TINY = 32
LONGEST_TEXT = 160


@dataclass(frozen=True)
class Look:
    """One sample for the eye; exactly one attribute is set, or none where there is nothing to see.

    Attributes
    ----------
    pixels : (h, w) or (h, w, 3), no side longer than `SIDE`.
    cells : the values of a row, as text, in the order of `columns`.
    words : the beginning of a text.
    """

    pixels: UInt8[np.ndarray, "h w *rgb"] | None = None
    cells: tuple[str, ...] | None = None
    words: str | None = None


def looks(batch: Batch, schema: Schema) -> list[Look]:
    """A look at each sample of a batch, by the first kind of field that can be looked at."""
    if (name := schema.first("image")) is not None:
        boxes = batch["box"] if "box" in batch else [None] * len(batch)
        return [Look(pixels=thumbnail(image, box)) for image, box in zip(batch[name], boxes, strict=True)]
    tabular = [name for name in schema if schema[name].kind in ("numeric", "categorical")]
    if tabular:
        parts = [_cells(batch[name], schema[name]) for name in tabular]
        return [Look(cells=tuple(cell for part in row for cell in part)) for row in zip(*parts, strict=True)]
    if (name := schema.first("text")) is not None:
        return [Look(words=str(words)[:LONGEST_TEXT]) for words in batch[name]]
    return [Look()] * len(batch)


def columns(schema: Schema) -> list[str]:
    """Names of the cells that `looks` gives for a table."""
    named: list[str] = []
    for name, field in schema.items():
        if field.kind in ("numeric", "categorical"):
            width = math.prod(field.shape) if field.shape else len(field.columns)
            named += field.columns or tuple(f"{name} {i}" for i in range(width))
    return named


def _cells(values: Tensor, field: Field) -> list[tuple[str, ...]]:
    rows = values.flatten(1).tolist() if values.ndim > 1 else [[value] for value in values.tolist()]
    return [tuple(_cell(value, i, field) for i, value in enumerate(row)) for row in rows]


def _cell(value: float, column: int, field: Field) -> str:
    if field.kind == "categorical":
        names = field.categories[column] if column < len(field.categories) else ()
        return "–" if value < 0 else names[int(value)] if int(value) < len(names) else str(int(value))
    if not math.isfinite(value):
        return "–"
    unit = field.units[column] if column < len(field.units) else None
    if unit == "days":
        return str(np.datetime64("1970-01-01", "D") + round(value))
    return number(value)


def thumbnail(image: Shaped[Tensor, "c h w"], box: Tensor | None = None) -> UInt8[np.ndarray, "h w *rgb"]:
    """An image for the page: the part in the box, three channels at most, reduced to `SIDE` pixels.

    Parameters
    ----------
    image : uint8, or float in [0, 1]; what lies outside is cut off.
    box : top, left, height, width in pixels of the part of the canvas that holds the image.
    """
    if box is not None:
        top, left, height, width = (round(float(value)) for value in box)
        image = image[:, top : top + height, left : left + width]
    image = image[:3] if image.shape[0] >= 3 else image[:1]
    if image.dtype != torch.uint8:
        image = (image.detach().float().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
    array = image.cpu().permute(1, 2, 0).numpy()
    array = array[..., 0] if array.shape[2] == 1 else array
    scale = SIDE / max(array.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(array)
    size = (max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale)))
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.LANCZOS))


def picture(pixels: UInt8[np.ndarray, "h w *rgb"], alt: str) -> str:
    """An image element that holds its own pixels; tiny pictures are enlarged with sharp edges."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG", optimize=True)
    data = base64.b64encode(sink.getvalue()).decode()
    height, width = pixels.shape[:2]
    kind = ' class="tiny"' if max(height, width) <= TINY else ""
    return f'<img{kind} src="data:image/png;base64,{data}" alt="{text(alt, 120)}" width="{width}" height="{height}">'


def mosaic(pictures: Sequence[str], captions: Sequence[str]) -> str:
    """Pictures side by side, each with a caption in HTML."""
    pairs = zip(pictures, captions, strict=True)
    return "".join(f"<figure>{image}<figcaption>{caption}</figcaption></figure>" for image, caption in pairs)


def strips(names: Sequence[str], rows: Sequence[Mapping[str, UInt8[np.ndarray, "h w *rgb"]]]) -> str:
    """A strip of captioned pictures for every sample, caption -> pixels."""
    lines = []
    for name, shown in zip(names, rows, strict=True):
        pictures = [picture(pixels, f"{name}: {called}") for called, pixels in shown.items()]
        lines.append(f'<div class="strip">{mosaic(pictures, [text(called, 20) for called in shown])}</div>')
    return f'<div class="strips" style="--n:{max(map(len, rows), default=0)}">{"".join(lines)}</div>'


def enlarged(values: Float[Tensor, "1 r c"]) -> UInt8[np.ndarray, "h w"]:
    """A value for every patch in [0, 1] as grey squares."""
    scale = max(1, SIDE // max(values.shape[1:]))
    return thumbnail(values.repeat_interleave(scale, 1).repeat_interleave(scale, 2))
