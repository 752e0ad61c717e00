"""What a model that finds parts makes of a few images: what stands out, and on which patch each patch depends."""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from autodidact.data.source import Source
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.model import Model
from autodidact.report.looks import SIDE, enlarged, strips, thumbnail
from autodidact.report.markup import section
from autodidact.report.samples import few, first_stream

COUNT = 8
LEAD = (
    "The brighter a patch in the second picture, the more the others depend on it. In the third a line leads from "
    "every patch to the one that it depends on; patches of one colour hang below the same child of the root, which is "
    "white. In a trained model bright patches lie on what the image is about, and lines stay within one thing."
)


def parts(model: Model, source: Source) -> str:
    """The section of parts; nothing where the model finds none, or the data has no order to take samples from."""
    source = first_stream(source)
    if "parse" not in model.abilities or source.streaming or not isinstance(model, EncoderModel | PredictorModel):
        return ""
    encoder = model.encoder
    batch, names = few(source, COUNT)
    with torch.inference_mode():
        images = encoder.prepare(batch.fields)
        found = encoder.eval().parse(images)
    grid = encoder.grid
    assert grid is not None
    rows = [
        {
            "image": thumbnail(image),
            "saliency": enlarged(found.saliency[row].view(1, *grid)),
            "parts": tree_picture(image, grid, found.parent[row], found.part[row]),
        }
        for row, image in enumerate(images)
    ]
    return section("parts", "What depends on what", strips(names, rows), lead=LEAD)


def tree_picture(
    image: Float[Tensor, "c h w"], grid: tuple[int, int], parent: Int[Tensor, " t"], part: Int[Tensor, " t"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The image in grey, each patch tinted by its part, and a line from the middle of every patch to its parent's."""
    scale = max(1, SIDE // max(image.shape[1:]))
    height, width = scale * image.shape[1], scale * image.shape[2]
    grey = Image.fromarray((255 * image.detach().float().mean(0).clamp(0, 1)).byte().cpu().numpy())
    base = np.asarray(grey.resize((width, height), Image.Resampling.NEAREST), dtype=np.float32)[..., None] / 255
    tints = np.array([_tint(int(p), bool(up < 0)) for p, up in zip(part, parent, strict=True)], dtype=np.float32)
    down, across = (np.arange(side) * count // side for side, count in zip((height, width), grid, strict=True))
    tint = tints.reshape(*grid, 3)[down[:, None], across[None]]
    canvas = Image.fromarray((255 * (0.35 * base + 0.65 * (0.4 + 0.6 * base) * tint)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    middle = [
        ((c + 0.5) * width / grid[1], (r + 0.5) * height / grid[0]) for r in range(grid[0]) for c in range(grid[1])
    ]
    for child, above in enumerate(parent.tolist()):
        if above >= 0:
            draw.line((*middle[child], *middle[above]), fill=(20, 20, 20))
    return np.asarray(canvas)


def _tint(part: int, root: bool) -> tuple[float, float, float]:
    # Steps of the golden section keep neighbours in the numbering apart in hue.
    return (1.0, 1.0, 1.0) if root else colorsys.hsv_to_rgb(part * 0.618034 % 1, 0.65, 1.0)
