"""Several views of each image, large and small (multi-crop; SwAV, arXiv 2006.09882, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Shaped
from torch import Tensor

from autodidact.views.augment import Augment


def multicrop(
    images: Shaped[Tensor, "n c h w"],
    augments: Iterable[Augment],
    generator: torch.Generator,
    box: Shaped[Tensor, "n 4"] | None = None,
) -> list[Tensor]:
    """One view of each image by each of `augments`, which may differ in size (see `multicrop_augments`)."""
    return [augment(images, generator, box) for augment in augments]


def multicrop_augments(
    base: Augment,
    *,
    local_size: int | tuple[int, int] = 96,
    global_count: int = 2,
    local_count: int = 6,
    global_scale: tuple[float, float] = (0.14, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.14),
) -> list[Augment]:
    """Large crops of the size of `base`, then small ones of `local_size`.

    Parameters
    ----------
    base : Augment
        Everything but the crop scale, and the size of the small views.
    local_size : int or (int, int)
        Side of the small views in pixels.
    global_count, local_count : int
        How many of each.
    global_scale, local_scale : (low, high)
        Share of the image's area in each.
    """
    if global_count < 0 or local_count < 0 or global_count + local_count == 0:
        raise ValueError(f"multi-crop needs at least one view, got {global_count} global and {local_count} local")
    large = replace(base, crop_scale=global_scale)
    small = replace(base, crop_scale=local_scale, size=local_size)
    return [large] * global_count + [small] * local_count
