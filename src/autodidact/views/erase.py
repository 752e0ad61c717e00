"""Erased rectangles (random erasing, Zhong et al., arXiv 1708.04896)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_rectangles(
    n: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Int[Tensor, "n 4"]:
    """Rectangles (top, left, height, width) as torchvision's RandomErasing draws them.

    Ten tries of area U(scale) * H * W and aspect ratio height / width exp(U(log ratio)), of which the first smaller
    than the image in both directions counts; if none is, the rectangle is empty.
    """
    height, width = size
    u = torch.rand(n, 22, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :10])
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(log_low + (log_high - log_low) * u[:, 10:20])
    tried_height, tried_width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tried_height < height) & (tried_width < width)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    h = torch.where(found, tried_height.gather(1, first)[:, 0], 0.0)
    w = torch.where(found, tried_width.gather(1, first)[:, 0], 0.0)
    top, left = (u[:, 20] * (height - h + 1)).floor(), (u[:, 21] * (width - w + 1)).floor()
    return torch.stack([top, left, h, w], dim=1).long()


def erase(x: Float[Tensor, "n c h w"], rectangles: Int[Tensor, "n 4"], value: float = 0.0) -> Float[Tensor, "n c h w"]:
    """Each sample's rectangle (top, left, height, width; empty = none) filled with `value`."""
    return erase_(x.clone(), rectangles, value)


def erase_(x: Float[Tensor, "n c h w"], rectangles: Int[Tensor, "n 4"], value: float = 0.0) -> Float[Tensor, "n c h w"]:
    """`erase` in place."""
    if x.device.type != "cpu":
        return erase_at_once_(x, rectangles, value)
    for image, (top, left, height, width) in zip(x, rectangles.tolist(), strict=True):
        if height and width:
            image[:, top : top + height, left : left + width] = value
    return x


def erase_at_once_(
    x: Float[Tensor, "n c h w"], rectangles: Int[Tensor, "n 4"], value: float = 0.0
) -> Float[Tensor, "n c h w"]:
    """`erase_` of all samples in one operation, for devices on which many small ones wait for each other."""
    top, left, height, width = rectangles.to(x.device)[:, :, None].unbind(1)
    down, right = (torch.arange(side, device=x.device) for side in x.shape[2:])
    rows, columns = (down >= top) & (down < top + height), (right >= left) & (right < left + width)
    return x.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], value)
